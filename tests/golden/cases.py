"""What scripts beside this one share that write results of PyTorch, with their gradients, for tests:

    case OP/NAME DTYPE OPTION=VALUE ...
    TENSOR SIZES NUMBER ...

A case's tensors follow it, a line each: its arguments, output and grad_output (output2, grad_output2,
... if there are more results), and grad_X for each X that has a gradient. Sizes are as 2x3 (a
scalar's is -), with :int64 or :bool behind them for such tensors; numbers are hexadecimal, without
loss. Needs torch.
"""
import gzip
import pathlib

import torch

SUFFIX = {torch.int64: ":int64", torch.bool: ":bool"}


def numbers(shape, seed):
    """Numbers that float32 holds."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32).double()


def case_of(op, name, dtype, options, arguments, f, constant=()):
    """Of f(arguments): the lines of one case. Floating arguments have a gradient, but for those that
    are named in `constant`."""
    given = {key: x.to(dtype) if x.is_floating_point() else x for key, x in arguments.items()}
    for key, x in given.items():
        x.requires_grad_(x.is_floating_point() and key not in constant)
    outputs = f(**given)
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    tensors = dict(given)
    grads = {}
    for i, output in enumerate(outputs):
        suffix = str(i + 1) if i else ""
        tensors["output" + suffix] = output
        if output.requires_grad:
            grads[suffix] = (output, numbers(output.shape, 7 + i).to(dtype))
            tensors["grad_output" + suffix] = grads[suffix][1]
    if grads:
        torch.autograd.backward(*zip(*grads.values()))
    tensors |= {"grad_" + key: x.grad for key, x in given.items() if x.requires_grad}
    width = {torch.float32: "f32", torch.float64: "f64"}[dtype]
    yield " ".join([f"case {op}/{name} {width}"] + [f"{k}={text(v)}" for k, v in options.items()])
    for key, x in tensors.items():
        sizes = ("x".join(map(str, x.shape)) or "-") + SUFFIX.get(x.dtype, "")
        yield " ".join([key, sizes] + [hexadecimal(v) for v in x.detach().flatten().tolist()])


def text(option):
    return "x".join(map(str, option)) if isinstance(option, tuple) else str(option)


def hexadecimal(x):
    """0x1.8p+0, where float.hex() gives 0x1.8000000000000p+0."""
    mantissa, p, exponent = float(x).hex().partition("p")
    return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + p + exponent


def write(script, all_cases):
    """Writes SCRIPT.txt.gz beside the script: the cases all_cases(dtype) of both floating dtypes."""
    torch.set_num_threads(1)
    script = pathlib.Path(script)
    lines = [f"# {script.name}: torch {torch.__version__}"]
    for dtype in (torch.float64, torch.float32):
        for case in all_cases(dtype):
            lines.extend(case)
    path = script.with_suffix(".txt.gz")
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0))
    print(f"{sum(line.startswith('case') for line in lines)} cases, {path.stat().st_size} bytes")
