#!/usr/bin/env python3
"""Writes ctc.txt.gz: ctc_loss behind log_softmax, by PyTorch; cases.py says how."""
import torch
import torch.nn.functional as F

from cases import case_of, numbers, write

# The sizes T, N, K; the targets; the lengths of inputs and of targets; the blank.
CASES = {
    "plain": ((6, 2, 4), [[1, 2, 3], [3, 1, 1]], [6, 6], [3, 3], 0),
    "lengths": ((8, 3, 5), [[1, 2, 1, 4], [3, 3, 0, 0], [2, 0, 0, 0]], [8, 5, 3], [4, 2, 1], 0),
    "last_blank": ((7, 2, 4), [[0, 2, 2], [1, 0, 1]], [7, 6], [3, 2], 3),
    "empty": ((4, 3, 3), [[1, 2], [1, 1], [2, 1]], [4, 2, 4], [0, 1, 2], 0),
    "one_step": ((1, 2, 3), [[2], [1]], [1, 1], [1, 0], 0),
    "infinite": ((3, 2, 3), [[1, 1], [1, 2]], [2, 3], [2, 2], 0),
}


def all_cases(dtype):
    for name, (sizes, targets, steps, lengths, blank) in CASES.items():
        for reduction in ("none", "sum", "mean"):
            for zero in (False, True):
                if name == "infinite" and not zero:  # PyTorch's gradient is NaN there
                    continue
                options = dict(blank=blank, reduction=reduction, zero_infinity=zero)
                arguments = dict(input=numbers(sizes, 1), targets=torch.tensor(targets),
                                 steps=torch.tensor(steps), lengths=torch.tensor(lengths))
                yield case_of("ctc_loss", f"{name}_{reduction}_{zero}", dtype, options, arguments,
                              lambda input, targets, steps, lengths: F.ctc_loss(
                                  F.log_softmax(input, 2), targets, steps, lengths, blank=blank,
                                  reduction=reduction, zero_infinity=zero))


if __name__ == "__main__":
    write(__file__, all_cases)
