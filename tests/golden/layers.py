#!/usr/bin/env python3
"""Writes layers.txt.gz: convolution, pooling and losses by PyTorch; cases.py says how."""
import torch
import torch.nn.functional as F

from cases import case_of, numbers, write

CONV2D = {  # name: (input, weight, options)
    "plain": ((2, 3, 5, 6), (4, 3, 3, 3), {}),
    "unbatched": ((3, 5, 4), (2, 3, 3, 2), {}),
    "stride": ((2, 2, 7, 8), (3, 2, 3, 3), dict(stride=2)),
    "stride_pair": ((1, 2, 7, 9), (3, 2, 2, 3), dict(stride=(3, 2))),
    "stride_over": ((1, 1, 8, 8), (2, 1, 2, 2), dict(stride=(3, 4))),  # some pixels never seen
    "padding": ((2, 2, 4, 5), (3, 2, 3, 3), dict(padding=1)),
    "padding_pair": ((1, 2, 3, 4), (2, 2, 1, 3), dict(padding=(0, 2))),
    "padding_wide": ((1, 1, 2, 2), (2, 1, 2, 2), dict(padding=3)),  # windows without a pixel
    "dilation": ((1, 2, 7, 7), (2, 2, 3, 3), dict(dilation=2)),
    "dilation_pair": ((1, 2, 6, 8), (2, 2, 2, 3), dict(dilation=(1, 3), padding=(1, 2))),
    "everything": ((2, 4, 7, 9), (6, 2, 3, 2),
                   dict(stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2)),
    "groups": ((2, 4, 4, 4), (6, 2, 3, 3), dict(groups=2)),
    "depthwise": ((2, 4, 5, 5), (4, 1, 3, 3), dict(groups=4, padding=1)),
    "multiplied": ((1, 3, 4, 5), (6, 1, 2, 2), dict(groups=3)),  # two for each channel
    "pointwise": ((2, 5, 3, 4), (3, 5, 1, 1), {}),
    "pointwise_stride": ((2, 3, 5, 4), (2, 3, 1, 1), dict(stride=2)),
    "row": ((1, 2, 3, 9), (2, 2, 1, 5), {}),
    "column": ((1, 2, 9, 3), (2, 2, 5, 1), {}),
    "pixel": ((2, 3, 1, 1), (4, 3, 1, 1), {}),
    "pixel_padded": ((2, 3, 1, 1), (2, 3, 3, 3), dict(padding=1)),
    "whole": ((2, 2, 4, 3), (3, 2, 4, 3), {}),  # the kernel is the image
}
NO_BIAS = {"unbatched", "padding_pair", "everything", "depthwise", "pointwise", "pixel"}

MAX_POOL2D = {  # name: (input, kernel, options)
    "plain": ((2, 2, 4, 6), 2, {}),
    "wide": ((1, 1, 4, 70), 2, {}),
    "odd": ((1, 2, 5, 7), 2, {}),
    "unbatched": ((2, 4, 4), 2, {}),
    "pair": ((1, 2, 6, 6), (2, 3), {}),
    "overlap": ((1, 2, 5, 6), 3, dict(stride=1)),
    "overlap_wide": ((1, 1, 3, 40), (2, 3), dict(stride=1)),
    "stride_pair": ((1, 2, 6, 7), 2, dict(stride=(3, 1))),
    "padding": ((1, 2, 7, 8), 3, dict(stride=2, padding=1)),
    "padding_pair": ((1, 2, 4, 5), (2, 5), dict(stride=(1, 2), padding=(1, 2))),
    "dilation": ((1, 2, 7, 8), 3, dict(stride=1, dilation=2)),
    "dilation_pair": ((1, 2, 6, 8), 2, dict(stride=2, padding=1, dilation=(1, 3))),
    "ceil": ((1, 2, 5, 6), 2, dict(ceil_mode=True)),
    "ceil_over": ((1, 1, 2, 2), 3, dict(stride=2, ceil_mode=True)),
    "ceil_padded": ((1, 2, 6, 5), 3, dict(stride=2, padding=1, ceil_mode=True)),
    "global": ((2, 3, 5, 4), (5, 4), {}),
    "pixel": ((2, 2, 1, 1), 1, {}),
    "nan": ((1, 1, 4, 6), 2, {}),
    "nan_overlap": ((1, 1, 4, 6), 3, dict(stride=1, padding=1)),
    "infinite": ((1, 1, 4, 6), 3, dict(stride=2, padding=1)),
}
AVG_POOL2D = {
    "plain": ((2, 2, 4, 6), 2, {}),
    "wide": ((1, 1, 4, 70), 2, {}),
    "odd": ((1, 2, 5, 7), 2, {}),
    "unbatched": ((2, 4, 4), 2, {}),
    "pair": ((1, 2, 6, 6), (2, 3), {}),
    "overlap": ((1, 2, 5, 6), 3, dict(stride=1)),
    "stride_pair": ((1, 2, 6, 7), 2, dict(stride=(3, 1))),
    "padding": ((1, 2, 7, 8), 3, dict(stride=2, padding=1)),
    "padding_apart": ((1, 2, 7, 8), 3, dict(stride=2, padding=1, count_include_pad=False)),
    "ceil": ((1, 2, 5, 6), 2, dict(ceil_mode=True)),
    "ceil_padded": ((1, 2, 6, 5), 3, dict(stride=2, padding=1, ceil_mode=True)),
    "ceil_apart": ((1, 2, 6, 5), (3, 2), dict(stride=2, padding=1, ceil_mode=True,
                                              count_include_pad=False)),
    "global": ((2, 3, 5, 4), (5, 4), {}),
    "pixel": ((2, 2, 1, 1), 1, {}),
}
LOSSES = {  # name: (scores, target, options); weight: whether classes have one
    "plain": ((5, 4), [0, 3, 1, 1, 2], {}),
    "weight": ((5, 4), [0, 3, 1, 1, 2], dict(weight=True)),
    "ignore": ((5, 4), [-100, 3, 1, -100, 2], {}),
    "ignore_index": ((5, 4), [0, 3, 1, 1, 2], dict(ignore_index=1, weight=True)),
    "sum": ((5, 4), [0, 3, 1, 1, 2], dict(reduction="sum", weight=True)),
    "none": ((5, 4), [0, 3, -100, 1, 2], dict(reduction="none")),
    "none_weight": ((5, 4), [0, 3, 2, 1, 2], dict(reduction="none", weight=True, ignore_index=3)),
    "one_class": ((3, 1), [0, 0, 0], {}),
    "many_classes": ((3, 70), [69, 0, 33], {}),
    "large": ((4, 3), [0, 1, 2, 2], dict(scale=1e3)),
}
SMOOTHED = {
    "smoothing": ((5, 4), [0, 3, 1, 1, 2], dict(label_smoothing=0.1)),
    "smoothing_all": ((5, 4), [0, 3, 1, 1, 2], dict(label_smoothing=1.0, weight=True)),
    "smoothing_weight": ((5, 4), [0, -100, 1, 1, 2], dict(label_smoothing=0.25, weight=True)),
    "smoothing_sum": ((3, 40), [39, 0, 2], dict(label_smoothing=0.1, reduction="sum")),
    "smoothing_none": ((5, 4), [0, 3, 1, -1, 2],
                       dict(label_smoothing=0.1, reduction="none", ignore_index=-1, weight=True)),
}


def image(name, shape, seed):
    """With equal pixels: a few whole numbers."""
    x = numbers(shape, seed)
    if name not in ("plain", "padding", "overlap"):
        x = (2 * x).round()
    if name.startswith("nan"):
        x.view(-1)[3::4] = torch.nan
    if name == "infinite":
        x[..., :3] = -torch.inf
        x[..., -1, -1] = torch.inf
    return x


def all_cases(dtype):
    for name, (x, weight, options) in CONV2D.items():
        arguments = dict(input=numbers(x, 1), weight=numbers(weight, 2))
        if name not in NO_BIAS:
            arguments["bias"] = numbers(weight[:1], 3)
        yield case_of("conv2d", name, dtype, options, arguments,
                      lambda input, weight, bias=None: F.conv2d(input, weight, bias, **options))
    for op, cases in {"max_pool2d": MAX_POOL2D, "avg_pool2d": AVG_POOL2D}.items():
        for name, (shape, kernel, options) in cases.items():
            yield case_of(op, name, dtype, dict(kernel=kernel) | options,
                          dict(input=image(name, shape, 4)),
                          lambda input: getattr(F, op)(input, kernel, **options))
    for op, cases in {"nll_loss": LOSSES, "cross_entropy": LOSSES | SMOOTHED}.items():
        for name, (shape, target, options) in cases.items():
            options = dict(options)
            arguments = dict(input=numbers(shape, 5) * options.pop("scale", 1),
                             target=torch.tensor(target))
            if options.pop("weight", False):
                arguments["class_weight"] = numbers(shape[1:], 6).abs()
            yield case_of(op, name, dtype, options, arguments,
                          lambda input, target, class_weight=None:
                          getattr(F, op)(input, target, class_weight, **options),
                          constant=("class_weight",))


if __name__ == "__main__":
    write(__file__, all_cases)
