#!/usr/bin/env python3
"""Writes functions.txt.gz: functions of one and two elements, products, and elements that are moved
or repeated, by PyTorch; cases.py says how."""
import torch
import torch.nn.functional as F

import cases
from cases import numbers, write

SHAPES = {"vector": (7,), "matrix": (3, 4), "scalar": ()}
PAIRS = {"same": ((3, 4), (3, 4)), "row": ((3, 4), (4,)), "column": ((3, 1), (2, 3, 4))}
# Of each function: where its arguments are, as a scale and a shift of numbers in (-1, 1).
UNARY = {"rsqrt": (1.9, 2), "tan": (1.4, 0), "asin": (0.99, 0), "acos": (0.99, 0), "atan": (50, 0),
         "sinh": (5, 0), "cosh": (5, 0)}
EDGES = {"rsqrt": [0, -1, torch.inf], "tan": [0, -0.0, torch.inf], "asin": [1, -1, 1.5],
         "acos": [1, -1, -1.5], "atan": [torch.inf, -torch.inf, torch.nan],
         "sinh": [0, 1000, -torch.inf], "cosh": [0, 1000, -torch.inf]}


def case_of(op, name, dtype, options, arguments, f, constant=()):
    """The same as in cases.py, for arguments that several cases share."""
    own = {key: x.clone() for key, x in arguments.items()}
    return cases.case_of(op, name, dtype, options, own, f, constant)


def unary(dtype):
    for op, (scale, shift) in UNARY.items():
        for name, shape in SHAPES.items():
            x = (torch.tanh(numbers(shape, 1)) * scale + shift).float().double()
            yield case_of(op, name, dtype, {}, dict(input=x), getattr(torch, op))
        yield case_of(op, "edges", dtype, {}, dict(input=torch.tensor(EDGES[op]).double()),
                      getattr(torch, op))
    edges = torch.tensor([0, torch.inf, -torch.inf, torch.nan, 1e30]).double()
    yield case_of("isinf", "edges", dtype, {}, dict(input=edges), torch.isinf, constant=("input",))


def binary(dtype):
    for name, (a, b) in PAIRS.items():
        pair = dict(input=numbers(a, 2) * 4, other=numbers(b, 3))
        yield case_of("atan2", name, dtype, {}, pair, torch.atan2)
        yield case_of("remainder", name, dtype, {}, pair, torch.remainder)
        yield case_of("floor_divide", name, dtype, {}, pair,
                      lambda input, other: torch.div(input, other, rounding_mode="floor"))
        yield case_of("lerp", name, dtype, {}, pair | dict(weight=numbers(b, 4)),
                      lambda input, other, weight: torch.lerp(input, other, weight))
        for weight in (0.25, 0.75, -1.5):
            yield case_of("lerp", f"{name}_{weight}", dtype, dict(weight=weight), pair,
                          lambda input, other: torch.lerp(input, other, weight))
    for by in (2, -0.75):
        x = dict(input=numbers((9,), 5) * 4)
        yield case_of("remainder", f"by_{by}", dtype, dict(by=by), x,
                      lambda input: torch.remainder(input, by))
        yield case_of("floor_divide", f"by_{by}", dtype, dict(by=by), x,
                      lambda input: torch.div(input, by, rounding_mode="floor"))
    edges = [(5, 3), (-5, 3), (5, -3), (-5, -3), (6, 3), (-6, 3), (torch.inf, 2), (3, torch.inf),
             (-3, torch.inf), (1, torch.nan)]
    a, b = (torch.tensor(side).double() for side in zip(*edges))
    divided = dict(input=a, other=b)
    yield case_of("remainder", "edges", dtype, {}, divided, torch.remainder)
    yield case_of("floor_divide", "edges", dtype, {}, divided,
                  lambda input, other: torch.div(input, other, rounding_mode="floor"))
    corners = torch.tensor([0.0, 1.0, -1.0])
    ys, xs = (x.flatten().double() for x in torch.meshgrid(corners, corners, indexing="ij"))
    yield case_of("atan2", "corners", dtype, {}, dict(input=ys, other=xs), torch.atan2)
    whole = torch.tensor([7, -7, 7, -7, 2**62, -(2**63)]), torch.tensor([2, 2, -2, -2, 3, -1])
    for op in ("remainder", "floor_divide"):
        yield case_of(op, "whole", dtype, {}, dict(input=whole[0], other=whole[1]),
                      getattr(torch, op))
    flags = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    yield case_of("logical_xor", "all", dtype, {}, dict(input=flags[0], other=flags[1]),
                  torch.logical_xor)


def products(dtype):
    for equation, a, b in (("ik,kj->ij", (3, 4), (4, 2)), ("nik,njk->nij", (2, 3, 4), (2, 2, 4)),
                           ("i,j->ji", (3,), (4,)), ("i,i->", (5,), (5,)),
                           ("abc,cd->ad", (2, 3, 4), (4, 2)), ("ij,jk->kij", (2, 3), (3, 4)),
                           ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
                           ("iab,a->bi", (2, 3, 4), (3,)), ("n,nk->k", (1,), (1, 3))):
        name = equation.replace(",", "_").replace("->", "_")
        yield case_of("einsum", name, dtype, dict(equation=equation),
                      dict(input=numbers(a, 6), other=numbers(b, 7)),
                      lambda input, other: torch.einsum(equation, input, other))
    for n, m in ((3, 4), (1, 5), (6, 2)):
        yield case_of("outer", f"{n}_{m}", dtype, {},
                      dict(input=numbers((n,), 8), other=numbers((m,), 9)),
                      lambda input, other: torch.outer(input, other))
        yield case_of("bmm", f"{n}_{m}", dtype, {},
                      dict(input=numbers((2, n, 3), 10), other=numbers((2, 3, m), 11)),
                      lambda input, other: torch.bmm(input, other))
    for name, a, b, dim in (("rows", (3, 5), (3, 5), 1), ("columns", (3, 5), (3, 5), 0),
                            ("wide", (4, 1, 5), (3, 5), -1)):
        pair = dict(input=numbers(a, 12), other=numbers(b, 13))
        for eps in (1e-8, 1e-3):
            yield case_of("cosine_similarity", f"{name}_{eps}", dtype, dict(dim=dim, eps=eps), pair,
                          lambda input, other: F.cosine_similarity(input, other, dim, eps))


def moves(dtype):
    cube = dict(input=numbers((2, 3, 4), 14))
    for shifts, dims in (((1,), (0,)), ((-2,), (-1,)), ((1, -5), (2, 1)), ((9, 2, 4), (0, 1, 2))):
        yield case_of("roll", f"{shifts}_{dims}".replace(" ", ""), dtype,
                      dict(shifts=shifts, dims=dims), cube,
                      lambda input: torch.roll(input, shifts, dims))
    yield case_of("roll", "flat", dtype, dict(shift=-7), cube, lambda input: torch.roll(input, -7))
    for counts in ((2, 1, 3), (1, 2, 1, 1), (0, 1, 2)):
        yield case_of("repeat", "x".join(map(str, counts)), dtype, dict(counts=counts), cube,
                      lambda input: input.repeat(counts))
    for counts in ((2,), (3, 2), (2, 1, 1, 2)):
        yield case_of("tile", "x".join(map(str, counts)), dtype, dict(counts=counts), cube,
                      lambda input: torch.tile(input, counts))
    for shape in ((3, 5), (4, 2), (4,)):
        for diagonal in (-1, 0, 2, 7):
            name = "x".join(map(str, shape)) + f"_{diagonal}"
            yield case_of("diag", name, dtype, dict(diagonal=diagonal),
                          dict(input=numbers(shape, 15)), lambda input: torch.diag(input, diagonal))
    for dim, size in ((0, (3, 3, 4)), (1, (2, 3, 4)), (-1, (2, 3, 3))):
        yield case_of("index_add", dim, dtype, dict(dim=dim),
                      cube | dict(source=numbers(size, 16), index=torch.tensor([1, 0, 1])),
                      lambda input, source, index: torch.index_add(input, dim, index, source))


def all_cases(dtype):
    yield from unary(dtype)
    yield from binary(dtype)
    yield from products(dtype)
    yield from moves(dtype)


if __name__ == "__main__":
    write(__file__, all_cases)
