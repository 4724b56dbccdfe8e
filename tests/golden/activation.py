#!/usr/bin/env python3
"""Writes activation.txt.gz: functions of one element, and the layers of some, by PyTorch; cases.py
says how."""
import torch
import torch.nn.functional as F

from cases import case_of, numbers, write

SHAPES = [(7,), (3, 4), (2, 3, 2)]
FUNCTIONS = {  # name: options
    "relu": [{}], "sigmoid": [{}], "tanh": [{}], "silu": [{}], "mish": [{}], "selu": [{}],
    "relu6": [{}], "logsigmoid": [{}], "hardsigmoid": [{}], "hardswish": [{}], "softsign": [{}],
    "gelu": [{}, dict(approximate="tanh")],
    "elu": [{}, dict(alpha=0.3), dict(alpha=-1.5)],
    "celu": [{}, dict(alpha=0.3), dict(alpha=-1.5)],
    "leaky_relu": [{}, dict(negative_slope=0.2), dict(negative_slope=-0.5)],
    "softplus": [{}, dict(beta=2.5), dict(beta=0.5, threshold=1.0), dict(beta=-1.5)],
    "hardtanh": [{}, dict(min_val=-0.5, max_val=0.25), dict(max_val=0.5)],
    "glu": [{}, dict(dim=0), dict(dim=1)],
}
# Where functions bend or end.
SPECIAL = [0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 20.0, 20.5, -20.0, 40.0, -40.0, 100.0, -100.0, 5.5,
           -5.5]

PRECISE = {  # In PyTorch's gradients of these, a constant is rounded to float32.
    "hardsigmoid": lambda x: F.relu6(x + 3) / 6,
    "celu": lambda x, alpha=1.0: torch.where(
        x > 0, x, alpha * torch.expm1(torch.where(x > 0, 0.0, x) * (1 / alpha))),
}


def all_cases(dtype):
    for op, variants in FUNCTIONS.items():
        f = PRECISE.get(op, getattr(F, op))
        shapes = [(2, 4), (4, 6), (2, 2, 4)] if op == "glu" else SHAPES
        for number, options in enumerate(variants):
            for i, shape in enumerate(shapes):
                yield case_of(op, f"{number}_{i}", dtype, options, dict(input=3 * numbers(shape, i)),
                              lambda input: f(input, **options))
            special = torch.tensor(SPECIAL, dtype=torch.float64)
            special = special.reshape(4, 4) if op == "glu" else special
            yield case_of(op, f"{number}_special", dtype, options, dict(input=special),
                          lambda input: f(input, **options))
    for name, x, weight in (("one", (3, 4), (1,)), ("channels", (3, 4), (4,)), ("none", (5,), (1,)),
                            ("scalar", (2, 3), ()), ("planes", (2, 3, 4), (3,)),
                            ("images", (2, 3, 2, 2), (3,))):
        yield case_of("prelu", name, dtype, {}, dict(input=numbers(x, 1), weight=numbers(weight, 2)),
                      lambda input, weight: F.prelu(input, weight))
    for name, slopes in (("channels", 3), ("one", 1)):
        torch.manual_seed(slopes)
        net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.PReLU(slopes), torch.nn.GELU(),
                                  torch.nn.Linear(3, 2), torch.nn.PReLU())
        state = {key: x.double() for key, x in net.state_dict().items()}
        yield case_of("PReLU", name, dtype, {}, dict(input=numbers((5, 4), 4)) | state,
                      lambda input, **state: torch.func.functional_call(net, state, input))
    for dim in (0, 1, -1):
        for op in ("softmax", "log_softmax"):
            yield case_of(op, dim, dtype, dict(dim=dim), dict(input=numbers((2, 3, 4), 3)),
                          lambda input: getattr(F, op)(input, dim))


if __name__ == "__main__":
    write(__file__, all_cases)
