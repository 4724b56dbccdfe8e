#!/usr/bin/env python3
"""Writes selection.txt.gz: totals, orders and choices of elements by PyTorch; cases.py says how."""
import torch
import torch.nn.functional as F

import cases
from cases import numbers, write

SHAPES = {"vector": (7,), "matrix": (4, 5), "cube": (2, 3, 4), "one": (3, 1)}


def case_of(op, name, dtype, options, arguments, f, constant=()):
    """The same as in cases.py, for arguments that several cases share."""
    own = {key: x.clone() for key, x in arguments.items()}
    return cases.case_of(op, name, dtype, options, own, f, constant)


def with_ties(name, shape, seed):
    """With equal numbers, zeros, and in `nan` also NaN and infinities."""
    x = (2 * numbers(shape, seed)).round()
    if name == "nan":
        flat = x.view(-1)
        flat[2::5], flat[4::7], flat[5::9] = torch.nan, torch.inf, -torch.inf
    return x


def pair(result):
    return result[0], result[1]


def totals(dtype):
    for name, shape in SHAPES.items():
        x = dict(input=numbers(shape, 1))
        for dim in (0, -1):
            for keepdim in (False, True):
                options = dict(dim=dim, keepdim=keepdim)
                tag = f"{name}_{dim}_{keepdim}"
                for correction in (0, 1):
                    if shape[dim] - correction > 0:
                        yield case_of("std", f"{tag}_{correction}", dtype,
                                      options | dict(correction=correction), x,
                                      lambda input: torch.std(input, dim, correction=correction,
                                                              keepdim=keepdim))
                yield case_of("prod", tag, dtype, options, x,
                              lambda input: torch.prod(input, dim, keepdim))
                yield case_of("prod", tag + "_zeros", dtype, options,
                              dict(input=with_ties(name, shape, 2)),
                              lambda input: torch.prod(input, dim, keepdim))
                yield case_of("count_nonzero", tag, dtype, dict(dim=dim),
                              dict(input=with_ties(name, shape, 3)),
                              lambda input: torch.count_nonzero(input, dim), constant=("input",))
            yield case_of("cumsum", f"{name}_{dim}", dtype, dict(dim=dim), x,
                          lambda input: torch.cumsum(input, dim))
    yield case_of("std", "equal", dtype, dict(dim=0, keepdim=False, correction=1),
                  dict(input=torch.full((4,), 1.5, dtype=torch.float64)),
                  lambda input: torch.std(input, 0))
    yield case_of("prod", "empty", dtype, dict(dim=1, keepdim=False),
                  dict(input=torch.zeros(2, 0, dtype=torch.float64)),
                  lambda input: torch.prod(input, 1))
    yield case_of("cumsum", "nan", dtype, dict(dim=-1), dict(input=with_ties("nan", (3, 7), 4)),
                  lambda input: torch.cumsum(input, -1))


def orders(dtype):
    for name, shape in (SHAPES | {"nan": (4, 6)}).items():
        ties = dict(input=with_ties(name, shape, 5))
        apart = ties if name == "nan" else dict(input=numbers(shape, 6))
        for dim in (0, -1):
            tag = f"{name}_{dim}"
            for flag in (False, True):
                options = dict(dim=dim, descending=flag)
                yield case_of("sort", f"{tag}_{flag}", dtype, options, ties,
                              lambda input: pair(torch.sort(input, dim=dim, descending=flag,
                                                            stable=True)))
                k = max(shape[dim] - 1, 1)
                if name != "nan":  # PyTorch does not say in which order equal elements come
                    yield case_of("topk", f"{tag}_{flag}", dtype, dict(dim=dim, largest=flag, k=k),
                                  apart, lambda input: pair(torch.topk(input, k, dim, flag)))
                options = dict(dim=dim, keepdim=flag)
                for op in ("max", "min"):
                    yield case_of(op + "_with_indices", f"{tag}_{flag}", dtype, options, ties,
                                  lambda input: pair(getattr(torch, op)(input, dim, flag)))
                yield case_of("median", f"{tag}_{flag}", dtype, options, apart,
                              lambda input: pair(torch.median(input, dim, flag)))
                for q in (0.0, 0.25, 0.5, 0.8, 1.0):
                    if name != "nan":
                        yield case_of("quantile", f"{tag}_{flag}_{q}", dtype, options | dict(q=q),
                                      apart, lambda input: torch.quantile(input, q, dim, flag))
        if name == "nan":  # one of them, because PyTorch does not say which of several comes first
            ties = dict(input=torch.tensor([[2.0, torch.nan], [torch.inf, 2.0]]).double())
        yield case_of("unique", name, dtype, {}, ties,
                      lambda input: torch.unique(input, return_inverse=True, return_counts=True),
                      constant=("input",))
    for q in (0.0, 0.5):
        yield case_of("quantile", f"nan_{q}", dtype, dict(dim=0, keepdim=False, q=q),
                      dict(input=torch.tensor([1.0, torch.nan, 2.0, 3.0]).double()),
                      lambda input: torch.quantile(input, q, 0))


def picks(dtype):
    cells = torch.tensor([[1, 0, 1, 2], [2, 2, 0, 0]])
    for name, dim, x, index in (("rows", 0, (3, 4), cells), ("columns", 1, (4, 3), cells.T),
                                ("cube", -1, (2, 3, 4), torch.tensor([[[0, 3], [1, 2]]]))):
        yield case_of("scatter", name, dtype, dict(dim=dim),
                      dict(input=numbers(x, 7), src=numbers(index.shape, 8), index=index),
                      lambda input, src, index: torch.scatter(input, dim, index, src))
    for name, index, padding in (("vector", [2, 0, 2, 4], None), ("matrix", [[1, 1], [0, 3]], None),
                                 ("scalar", 3, None), ("padding", [[2, 0], [2, 1]], 2),
                                 ("padding_back", [4, 0, 1, 4], -1)):
        yield case_of("embedding", name, dtype, {} if padding is None else dict(padding=padding),
                      dict(weight=numbers((5, 3), 9), index=torch.tensor(index)),
                      lambda weight, index: F.embedding(index, weight, padding))
    for name, x, mask in (("same", (3, 4), (3, 4)), ("mask_wide", (4,), (3, 4)),
                          ("mask_narrow", (3, 4), (3, 1))):
        yield case_of("masked_select", name, dtype, {},
                      dict(input=numbers(x, 10), mask=numbers(mask, 11) > 0),
                      lambda input, mask: torch.masked_select(input, mask))
    for name, shape in (("wide", (3, 5)), ("tall", (4, 2)), ("cube", (2, 3, 3))):
        for diagonal in (-1, 0, 2):
            for op in ("tril", "triu"):
                yield case_of(op, f"{name}_{diagonal}", dtype, dict(diagonal=diagonal),
                              dict(input=numbers(shape, 12)),
                              lambda input: getattr(torch, op)(input, diagonal))
    for dims in ((0,), (0, 2), (2, 1, 0)):
        yield case_of("flip", "x".join(map(str, dims)), dtype, dict(dims=dims),
                      dict(input=numbers((2, 3, 4), 13)), lambda input: torch.flip(input, dims))
    for count in (1, 2, 3, 4, 9):
        yield case_of("chunk", count, dtype, dict(count=count), dict(input=numbers((2, 5), 14)),
                      lambda input: torch.chunk(input, count, 1))
    for classes in (-1, 3, 6):
        yield case_of("one_hot", classes, dtype, dict(classes=classes),
                      dict(input=torch.tensor([[0, 2], [1, 2]])),
                      lambda input: F.one_hot(input, classes))
    for length in (0, 2, 9):
        yield case_of("bincount", length, dtype, dict(minlength=length),
                      dict(input=torch.tensor([1, 3, 3, 0, 5])),
                      lambda input: torch.bincount(input, minlength=length))


def all_cases(dtype):
    yield from totals(dtype)
    yield from orders(dtype)
    yield from picks(dtype)


if __name__ == "__main__":
    write(__file__, all_cases)
