"""What bench_files does, by safetensors.torch, NumPy and pandas: files.py WHAT FOLDER."""
import os
import sys
import time

what, folder = sys.argv[1], sys.argv[2]


def sync(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())


if what in ("load", "load_plain", "map", "map_plain", "save", "save_plain"):
    import torch
    from safetensors.torch import load_file, save_file

    if what.startswith("save"):
        tensors = {f"w{i}": torch.rand(25_600, 1024) for i in range(10)}
    torch.ones(1 << 20).sum()  # starts the threads
    start = time.perf_counter()
    if what.startswith("save"):
        save_file(tensors, folder + "/out")
        sync(folder + "/out")
    else:
        total = sum(float(t.sum()) for t in load_file(folder + "/plain.safetensors").values())
elif what in ("npy", "write_npy"):
    import numpy

    x = numpy.random.default_rng(1).random((25_600, 1024), dtype=numpy.float32)
    start = time.perf_counter()
    if what == "npy":
        total = numpy.load(folder + "/x.npy").sum()
    else:
        with open(folder + "/out", "wb") as file:
            numpy.save(file, x)
            file.flush()
            os.fsync(file.fileno())
else:
    import pandas

    start = time.perf_counter()
    total = pandas.read_csv(folder + "/x.csv", engine="c", dtype="float64").values.sum()
print(f"{time.perf_counter() - start:.4f}")
