"""The Python half of exchange.cpp: exchange.py FOLDER checks what `exchange write` wrote, and
writes files for `exchange read`. Needs torch, safetensors and numpy: exits with 77 if one is missing.
"""
import csv
import os
import sys

try:
    import numpy as np
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file
except ImportError as error:
    print(f"skipped: {error}", file=sys.stderr)
    sys.exit(77)

folder = sys.argv[1]
checked = 0


def path(name):
    return os.path.join(folder, name)


def must(holds, what):
    global checked
    checked += 1
    if not holds:
        sys.exit(f"exchange.py: not so: {what}")


def pattern(shape, dtype):
    """As in exchange.cpp."""
    x = 37 * np.arange(np.prod(shape, dtype=int)).reshape(shape) % 101 - 50
    kind = np.dtype(dtype).kind
    return x > 0 if kind == "b" else (x / 8 if kind == "f" else x).astype(dtype)


DTYPES = [np.float32, np.float64, np.int64, np.bool_]
SHAPES = [(), (5,), (3, 4), (2, 0, 3), (2, 3, 4, 5)]
names = [f"{np.dtype(d).name}.{i * len(SHAPES) + j}"
         for i, d in enumerate(DTYPES) for j in range(len(SHAPES))]
wanted = dict(zip(names, (pattern(s, d) for d in DTYPES for s in SHAPES)))
special = 'größe "損失"'


def same(x, name):
    y = wanted.get(name, pattern((2,), np.float32))
    return x.dtype == y.dtype and x.shape == y.shape and np.array_equal(x, y)


# ---- what descent wrote
for file in ("ours.safetensors", "plain.safetensors"):
    tensors = load_file(path(file))
    must(set(tensors) == set(wanted) | {special}, f"{file}: names {sorted(tensors)}")
    for name, x in tensors.items():
        must(same(x.numpy(), name), f"{file}: {name}")
save_file(load_file(path("plain.safetensors")), path("again.safetensors"))
with open(path("plain.safetensors"), "rb") as ours, open(path("again.safetensors"), "rb") as again:
    must(ours.read() == again.read(), "without checksums, the bytes are those of safetensors")
with np.load(path("ours.npz")) as archive:
    must(set(archive.files) == set(wanted) | {special}, f"ours.npz: names {archive.files}")
    for name in archive.files:
        must(same(archive[name], name), f"ours.npz: {name}")
with np.load(path("empty.npz")) as archive:
    must(archive.files == [], "empty.npz is empty")
for name in wanted:
    must(same(np.load(path(name + ".npy")), name), name + ".npy")
with open(path("ours.csv"), newline="") as file:
    must(list(csv.reader(file)) == [["x", "kind"], ["0.1", "a, b"], ["-2.5", '"c"']], "ours.csv")

linear = torch.nn.Linear(4, 3)
linear.load_state_dict(load_file(path("linear.safetensors")))
x = torch.from_numpy(pattern((5, 4), np.float32))
with torch.no_grad():
    error = (linear(x) - torch.from_numpy(np.load(path("output.npy")))).abs().max()
must(error < 1e-5, "a model of descent gives the same in PyTorch")
with safe_open(path("checkpoint.safetensors"), "pt") as checkpoint:
    must(checkpoint.metadata()["descent.format"] == "1", "the format of a checkpoint")
    kept = {name: checkpoint.get_tensor(name) for name in checkpoint.keys()}
must(any(torch.equal(t, linear.weight) for t in kept.values()), "a checkpoint has the weights")

# ---- what others write
types = [np.float32, np.float64, np.int64, np.bool_, np.float16, np.int32, np.int16, np.int8]
tensors = {np.dtype(d).name: torch.from_numpy(pattern((3, 4), d)) for d in types}
tensors["bfloat16"] = tensors["float32"].to(torch.bfloat16)
save_file(tensors, path("theirs.safetensors"), metadata={"format": "pt"})
arrays = {np.dtype(d).name: pattern((3, 4), d) for d in DTYPES}
arrays |= {f"{name} {i}": pattern(s, arrays[name].dtype)
           for name in list(arrays) for i, s in enumerate(SHAPES)}
np.savez(path("theirs.npz"), **arrays)
np.savez_compressed(path("compressed.npz"), **arrays)
os.mkdir(path("npy"))
for d in types:
    for i, s in enumerate(SHAPES):
        for order in "<>":
            array = pattern(s, d).astype(np.dtype(d).newbyteorder(order))
            np.save(path(f"npy/{np.dtype(d).name}{i}{'le' if order == '<' else 'be'}.npy"), array)
        with open(path(f"npy/{np.dtype(d).name}{i}f.npy"), "wb") as file:
            array = np.asfortranarray(pattern(s, d))
            np.lib.format.write_array(file, array, version=(2 + i % 2, 0))
with open(path("theirs.csv"), "w", newline="") as file:
    csv.writer(file).writerows([["x", "kind"], [0.1, "a, b"], [-2.5, '"c"']])
torch.manual_seed(1)
linear = torch.nn.Linear(4, 3)
save_file(linear.state_dict(), path("torch.safetensors"))
with torch.no_grad():
    np.save(path("torch.npy"), linear(x).numpy())
print(f"torch {torch.__version__}, numpy {np.__version__}: {checked} checks of files of descent")
