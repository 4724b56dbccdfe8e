#!/usr/bin/env python3
"""Make the archives beside this file with NumPy, for tests/data/formats/test_npz.cpp.

stored.npz has the dtypes, ranks and names that write_npz writes.
types.npz, compressed, has every type of elements, in both byte orders and both orders of axes.
"""
import pathlib

import numpy as np

here = pathlib.Path(__file__).parent

np.savez(
    here / "stored.npz",
    float32=np.arange(6, dtype="f4").reshape(2, 3) / 4,
    float64=np.array([-0.0, np.pi, np.inf]),
    int64=np.array([[-(2**63), 2**63 - 1]]),
    bool=np.array([True, False, True]),
    scalar=np.array(2.5),
    empty=np.zeros((0, 3), "f4"),
    rank8=np.arange(4.0).reshape(1, 2, 1, 1, 1, 2, 1, 1),
    **{
        "": np.array(1),
        'a,"b"\n\'c\'': np.array([1]),
        "\u00e9\u4e2d\U0001d11e": np.array([2]),
        "a/b.npy": np.array([3]),
    },
)

# The first number of each type: of integers the lowest, or the highest if they have no sign (uint64
# is read as int64), and of floating numbers the smallest.
types = {}
for code in "b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split():
    for order in "<>":
        numbers = np.array([[0, 1, 2], [3, 4, 100]]).astype(order + code)
        if code == "u8":
            numbers[0, 0] = 2**63 - 1
        elif code[0] == "f":
            numbers[0, 0] = np.finfo(code).smallest_subnormal
        elif code[0] != "b":
            numbers[0, 0] = np.iinfo(code).min or np.iinfo(code).max
        types[f"{order}{code} C"] = numbers
        types[f"{order}{code} F"] = np.asfortranarray(numbers)
np.savez_compressed(here / "types.npz", **types)
