#!/usr/bin/env python3
"""Writes lbfgs.txt: 30 calls of step() of PyTorch's L-BFGS, in float64.

    case FUNCTION/NAME lr=1 max_iter=4 ...

has the options that differ from the defaults. Two lines follow: what each call returned, the loss
before it moved, in hexadecimal; and how often it called the closure. The search magnifies rounding:
gradients that differ by 1e-15 of themselves move no loss here by more than 2e-10 of itself, and no
count, so that a test may ask for 1e-9. Needs torch.
"""
import pathlib

import torch

torch.set_default_dtype(torch.float64)

STEPS = 30
WOLFE = dict(line_search_fn="strong_wolfe")
CASES = {
    "rosenbrock/wolfe": dict(max_iter=1, max_eval=10) | WOLFE,
    "rosenbrock/history": dict(lr=0.5, max_iter=1, max_eval=10, history_size=5) | WOLFE,
    "rosenbrock/fixed": dict(lr=0.05, max_iter=4),
    "corner/wolfe": dict(lr=0.5, max_iter=2, max_eval=4) | WOLFE,
    "corner/one_trial": dict(max_iter=1, max_eval=2) | WOLFE,  # which fails
    "corner/short": dict(lr=0.02, max_iter=1, max_eval=12) | WOLFE,  # the search lengthens steps
    "net/wolfe": dict(max_iter=2, max_eval=10) | WOLFE,
    "net/history": dict(max_iter=1, max_eval=10, history_size=3) | WOLFE,
    "net/short": dict(lr=0.002, max_iter=1, max_eval=14) | WOLFE,
    "net/fixed": dict(lr=0.2, max_iter=4),
    "net/tolerance_change": dict(lr=0.2, max_iter=6, max_eval=5, tolerance_change=1e-3),
    "net/tolerance_grad": dict(max_iter=2, max_eval=10, tolerance_grad=1e-2) | WOLFE,
}


def rosenbrock(*start):
    """(1 - x)^2 + 100 (y - x^2)^2."""
    x = torch.tensor(start, requires_grad=True)
    return [x], lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def sines(first, *shape):
    n = torch.Size(shape).numel()
    return torch.sin(torch.arange(first, first + n)).reshape(shape).requires_grad_()


def net():
    """mean((tanh(x A^T + a) B^T + b - y)^2): 2 inputs, 5 hidden, 8 examples."""
    parameters = [sines(1, 5, 2), sines(11, 5), sines(16, 1, 5), sines(21, 1)]
    a, a_bias, b, b_bias = parameters
    i = torch.arange(8)
    x = torch.stack([i - 3.5, (3 * i) % 8 - 3.5], 1) / 2
    y = ((5 * i) % 8 - 3.5)[:, None] / 2
    return parameters, lambda: ((torch.tanh(x @ a.T + a_bias) @ b.T + b_bias - y) ** 2).mean()


FUNCTIONS = {"rosenbrock": lambda: rosenbrock(-1.5, 2.0), "corner": lambda: rosenbrock(-1.0, -1.0),
             "net": net}


def run(function, options, noise=0):
    """Losses, and calls of the closure; gradients off by the relative `noise`."""
    parameters, f = FUNCTIONS[function]()
    opt = torch.optim.LBFGS(parameters, **options)
    random = torch.Generator().manual_seed(1)
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        opt.zero_grad()
        loss = f()
        loss.backward()
        for p in parameters:
            p.grad *= 1 + noise * torch.randn(p.shape, generator=random)
        return loss

    losses, counts = [], []
    for _ in range(STEPS):
        calls = 0
        losses.append(opt.step(closure).item())
        counts.append(calls)
    return torch.tensor(losses), counts


def main():
    lines = [f"# lbfgs.py: torch {torch.__version__}"]
    for case, options in CASES.items():
        function = case.partition("/")[0]
        losses, counts = run(function, options)
        off, off_counts = run(function, options, 1e-15)
        deviation = ((off - losses) / losses).abs().max().item()
        print(f"{case}: {losses[-1]:.1e} at last, deviation {deviation:.1e}")
        assert deviation < 2e-10 and off_counts == counts
        lines.append(" ".join(["case", case] + [f"{k}={v}" for k, v in options.items()]))
        lines.append(" ".join(x.hex() for x in losses.tolist()))
        lines.append(" ".join(map(str, counts)))
    path = pathlib.Path(__file__).with_name("lbfgs.txt")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
