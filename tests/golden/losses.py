#!/usr/bin/env python3
"""Writes losses.txt.gz: losses by PyTorch; cases.py says how."""
import torch
import torch.nn.functional as F

from cases import case_of, numbers, write

REDUCTIONS = [{}, dict(reduction="sum"), dict(reduction="none")]
SHAPES = [(3, 4), (5,), (2, 1, 3), ()]


def signs(shape, seed):
    return numbers(shape, seed).sign()


def probabilities(shape, seed):
    """Some of them are 0 or 1."""
    return (numbers(shape, seed) * 0.4 + 0.5).clamp(0, 1).float().double()


def positive(shape, seed):
    return numbers(shape, seed).abs()


PAIRS = {  # name: (input, target, options, whether PyTorch has a gradient of the target)
    "mse_loss": (numbers, numbers, [{}], True),
    "l1_loss": (numbers, numbers, [{}], True),
    "huber_loss": (numbers, numbers, [{}, dict(delta=0.25)], True),
    "smooth_l1_loss": (numbers, numbers, [{}, dict(beta=0.25), dict(beta=0.0)], True),
    "binary_cross_entropy": (lambda s, n: probabilities(s, n).clamp(0.05, 0.95).float().double(),
                             probabilities, [{}, dict(weight=True)], True),
    "binary_cross_entropy_with_logits": (numbers, probabilities,
                                         [{}, dict(weight=True), dict(pos_weight=True)], True),
    "soft_margin_loss": (numbers, signs, [{}], False),
    "hinge_embedding_loss": (numbers, signs, [{}, dict(margin=0.25)], False),
    "kl_div": (numbers, positive, [{}, dict(reduction="batchmean")], True),
    "poisson_nll_loss": (positive, lambda s, n: 3 * positive(s, n) + 0.125,
                         [{}, dict(full=True), dict(log_input=False),
                          dict(log_input=False, full=True, eps=0.25)], True),
}
SCORES = {  # name: (shape, options)
    "rank3": ((3, 4, 5), {}),
    "rank4": ((2, 3, 2, 2), dict(weight=True, ignore_index=1)),
    "rank3_sum": ((3, 4, 5), dict(reduction="sum", weight=True)),
    "rank4_none": ((2, 3, 4, 1), dict(reduction="none", ignore_index=0)),
    "rank5": ((2, 3, 1, 2, 2), {}),
}
SMOOTHED = {
    "rank3_smooth": ((3, 4, 5), dict(label_smoothing=0.1, weight=True)),
    "rank3_smooth_none": ((3, 4, 5), dict(label_smoothing=0.25, ignore_index=2, reduction="none")),
}
PROBABLE = {
    "probable": ((3, 4), {}),
    "probable_weight": ((3, 4), dict(weight=True)),
    "probable_smooth": ((3, 4), dict(label_smoothing=0.1, weight=True)),
    "probable_sum": ((5, 2), dict(reduction="sum")),
    "probable_none": ((3, 4), dict(reduction="none", label_smoothing=0.25)),
    "probable_rank4": ((2, 3, 2, 2), dict(label_smoothing=1.0)),
    "probable_rank3": ((2, 3, 4), dict(reduction="none", weight=True)),
    "probable_large": ((3, 4), dict(scale=1e3)),
}


def pair_cases(dtype):
    for op, (first, second, variants, both) in PAIRS.items():
        number = 0
        for options in variants + REDUCTIONS[1:]:
            for shape in SHAPES:
                if options.get("reduction") == "batchmean" and shape == ():
                    continue
                options = dict(options)
                arguments = dict(input=first(shape, 5), target=second(shape, 6))
                factors = [key for key in ("weight", "pos_weight") if options.get(key)]
                for key in factors:
                    arguments[key] = positive(shape[-1:], 8)
                plain = {k: v for k, v in options.items() if k not in factors}
                yield case_of(op, str(number), dtype, plain, arguments,
                              lambda **x: getattr(F, op)(**x, **plain),
                              constant=factors + ([] if both else ["target"]))
                number += 1
    for number, options in enumerate([dict(log_target=True), dict(log_target=True, reduction="sum")]):
        yield case_of("kl_div", f"log{number}", dtype, options,
                      dict(input=numbers((3, 4), 5), target=numbers((3, 4), 6)),
                      lambda **x: F.kl_div(**x, **options))


def tensor_cases(dtype):
    number = 0
    for options in [{}, dict(full=True), dict(eps=0.5)] + REDUCTIONS[1:]:
        for shape, var in [((3, 4), (3, 4)), ((3, 4), (3, 1)), ((5,), (5,)), ((2, 1, 3), (2, 1, 1))]:
            yield case_of("gaussian_nll_loss", str(number), dtype, options,
                          dict(input=numbers(shape, 5), target=numbers(shape, 6),
                               var=positive(var, 8)),
                          lambda input, target, var: F.gaussian_nll_loss(input, target, var, **options))
            number += 1
    number = 0
    for options in [{}, dict(margin=0.25)] + REDUCTIONS[1:]:
        for shape in SHAPES:
            yield case_of("margin_ranking_loss", str(number), dtype, options,
                          dict(input1=numbers(shape, 5), input2=numbers(shape, 6),
                               target=signs(shape, 8)),
                          lambda **x: F.margin_ranking_loss(**x, **options), constant=("target",))
            number += 1
    number = 0
    for options in [{}, dict(margin=0.25)] + REDUCTIONS[1:]:
        for shape in [(6, 4), (5,), (3, 2)]:
            yield case_of("cosine_embedding_loss", str(number), dtype, options,
                          dict(input1=numbers(shape, 5), input2=numbers(shape, 6),
                               target=signs(shape[:-1], 8)),
                          lambda **x: F.cosine_embedding_loss(**x, **options), constant=("target",))
            number += 1
    number = 0
    for options in [{}, dict(margin=2.5), dict(p=1.0), dict(p=3.0, eps=0.5), dict(swap=True)
                    ] + REDUCTIONS[1:]:
        for shape in [(3, 4), (2, 3, 5)]:
            yield case_of("triplet_margin_loss", str(number), dtype, options,
                          dict(anchor=numbers(shape, 5), positive=numbers(shape, 6),
                               negative=numbers(shape, 8)),
                          lambda **x: F.triplet_margin_loss(**x, **options))
            number += 1


def all_cases(dtype):
    yield from pair_cases(dtype)
    yield from tensor_cases(dtype)
    for op, cases in {"nll_loss": SCORES, "cross_entropy": SCORES | SMOOTHED | PROBABLE}.items():
        for name, (shape, options) in cases.items():
            options = dict(options)
            scores = numbers(shape, 5) * options.pop("scale", 1)
            rows = shape[:1] + shape[2:]
            generator = torch.Generator().manual_seed(9)
            target = torch.randint(0, shape[1], rows, generator=generator)
            if name.startswith("probable"):
                target = numbers(shape, 6).softmax(1).float().double()
            arguments = dict(input=scores, target=target)
            if options.pop("weight", False):
                arguments["class_weight"] = positive(shape[1:2], 8)
            yield case_of(op, name, dtype, options, arguments,
                          lambda input, target, class_weight=None:
                          getattr(F, op)(input, target, class_weight, **options),
                          constant=("class_weight",))


if __name__ == "__main__":
    write(__file__, all_cases)
