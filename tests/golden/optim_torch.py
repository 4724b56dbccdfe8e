#!/usr/bin/env python3
"""Prints optim_torch.hpp: parameters after 1, 5 and 25 steps of PyTorch's optimizers, in float64."""
import torch

START = [0.7, -1.3, 2.1]
STEPS = (1, 5, 25)
CASES = {
    "sgd": (torch.optim.SGD, dict(lr=0.1)),
    "sgd_momentum": (torch.optim.SGD, dict(lr=0.1, momentum=0.9)),
    "sgd_dampening_decay": (
        torch.optim.SGD, dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01)),
    "sgd_nesterov_decay": (
        torch.optim.SGD, dict(lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.02)),
    "sgd_maximize": (torch.optim.SGD, dict(lr=0.02, momentum=0.5, maximize=True)),
    "adam": (torch.optim.Adam, dict(lr=0.05)),
    "adam_decay": (torch.optim.Adam, dict(lr=0.05, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1)),
    "adam_maximize": (torch.optim.Adam, dict(lr=0.01, weight_decay=0.05, maximize=True)),
}


def gradient(theta, t):
    """For element i at step t; only the first product rounds."""
    return [x * (i + 1) / 4 + ((7 * t + 3 * i) % 11 - 5) / 8 for i, x in enumerate(theta)]


def series(optimizer, options):
    theta = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    rule = optimizer([theta], **options)
    for t in range(1, max(STEPS) + 1):
        theta.grad = torch.tensor(gradient(theta.tolist(), t), dtype=torch.float64)
        rule.step()
        if t in STEPS:
            yield theta.tolist()


print(f"""#pragma once
// Made by optim_torch.py, which has the options and the gradients, with torch {torch.__version__}.

struct OptimSeries {{
  const char* name;
  double theta[3][3];  // after 1, 5 and 25 steps
}};

inline constexpr OptimSeries optim_torch[] = {{""")
for name, case in CASES.items():
    rows = ",\n      ".join("{" + ", ".join(map(repr, row)) + "}" for row in series(*case))
    print(f'    {{"{name}",\n     {{{rows}}}}},')
print("};")
