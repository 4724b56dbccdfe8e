#!/usr/bin/env python3
"""Writes images.txt.gz: padding, resizing, pooling and convolution of images and sequences, and
their layers, by PyTorch; cases.py says how."""
import torch
import torch.nn.functional as F

from cases import case_of, numbers, write

PAD = {  # name: (input, sizes, options)
    "one": ((2, 3), (1, 2), {}),
    "two": ((2, 3, 4), (1, 0, 2, 1), dict(value=1.5)),
    "all": ((2, 3), (0, 1, 2, 0), dict(value=-2.0)),
    "crop": ((3, 5), (-1, 2, 1, -2), dict(value=0.5)),
    "reflect": ((2, 3, 4), (3, 1), dict(mode="reflect")),
    "reflect_two": ((1, 2, 4, 5), (1, 4, 3, 0), dict(mode="reflect")),
    "replicate": ((2, 3, 2), (4, 1), dict(mode="replicate")),
    "replicate_two": ((1, 2, 3, 2), (2, 3, 0, 5), dict(mode="replicate")),
    "circular": ((2, 3, 4), (4, 1), dict(mode="circular")),
    "circular_two": ((1, 2, 3, 4), (1, 2, 3, 0), dict(mode="circular")),
}
INTERPOLATE = {  # name: (input, options)
    "twice": ((1, 2, 3, 4), dict(scale_factor=2.0)),
    "less": ((2, 1, 6, 5), dict(scale_factor=0.5)),
    "size": ((1, 2, 4, 6), dict(size=(7, 3))),
    "same": ((1, 1, 3, 3), dict(size=(3, 3))),
    "bilinear": ((1, 2, 3, 4), dict(scale_factor=2.0, mode="bilinear")),
    "bilinear_factor": ((1, 1, 5, 7), dict(scale_factor=1.25, mode="bilinear")),
    "bilinear_size": ((2, 1, 4, 6), dict(size=(7, 3), mode="bilinear")),
    "bilinear_less": ((1, 1, 7, 6), dict(scale_factor=0.4, mode="bilinear")),
    "aligned": ((1, 2, 3, 4), dict(size=(6, 5), mode="bilinear", align_corners=True)),
    "aligned_one": ((1, 1, 3, 4), dict(size=(1, 7), mode="bilinear", align_corners=True)),
    "aligned_factor": ((1, 1, 3, 4), dict(scale_factor=2.5, mode="bilinear", align_corners=True)),
}
ADAPTIVE = {  # name: (input, size)
    "one": ((2, 3, 4, 5), (1, 1)),
    "even": ((1, 2, 6, 8), (3, 2)),
    "uneven": ((1, 2, 7, 5), (3, 4)),
    "more": ((1, 1, 2, 3), (5, 7)),
    "unbatched": ((2, 5, 4), (2, 3)),
}
ADAPTIVE_1D = {"one": ((2, 3, 4), 1), "uneven": ((1, 2, 7), 3), "unbatched": ((2, 5), 2)}
CONV1D = {  # name: (input, weight, options)
    "plain": ((2, 3, 7), (4, 3, 3), {}),
    "unbatched": ((3, 6), (2, 3, 2), dict(bias=False)),
    "all": ((2, 4, 9), (6, 2, 3), dict(stride=2, padding=2, dilation=2, groups=2)),
}
TRANSPOSED = {  # name: (input, weight, options)
    "plain": ((2, 3, 4, 5), (3, 2, 3, 2), {}),
    "unbatched": ((2, 3, 4), (2, 3, 2, 2), dict(bias=False)),
    "stride": ((1, 2, 3, 4), (2, 3, 3, 3), dict(stride=2)),
    "stride_over": ((1, 2, 3, 2), (2, 1, 2, 1), dict(stride=(3, 4))),
    "padding": ((1, 2, 4, 5), (2, 2, 3, 4), dict(padding=(1, 2))),
    "output_padding": ((2, 2, 3, 3), (2, 3, 3, 3), dict(stride=(2, 3), padding=1,
                                                       output_padding=(1, 2))),
    "dilation": ((1, 2, 3, 4), (2, 2, 2, 3), dict(dilation=(3, 2))),
    "groups": ((2, 4, 3, 3), (4, 3, 2, 2), dict(groups=2)),
    "all": ((2, 4, 3, 4), (4, 2, 3, 2), dict(stride=(2, 3), padding=(1, 0), output_padding=(1, 1),
                                             dilation=(1, 2), groups=2)),
    "pixel": ((1, 3, 1, 1), (3, 2, 4, 4), dict(stride=2, padding=1)),
}
TRANSPOSED_1D = {
    "plain": ((2, 3, 5), (3, 2, 3), {}),
    "unbatched": ((2, 4), (2, 3, 2), dict(bias=False)),
    "all": ((2, 4, 5), (4, 2, 3), dict(stride=3, padding=1, output_padding=2, groups=2)),
}
POOL1D = {  # name: (input, kernel, options)
    "plain": ((2, 3, 7), 2, {}),
    "unbatched": ((2, 6), 3, dict(stride=1)),
    "padding": ((1, 2, 8), 3, dict(stride=2, padding=1)),
    "ceil": ((1, 2, 8), 3, dict(stride=2, ceil_mode=True)),
}
MORE_MAX = {"dilation": ((1, 2, 9), 3, dict(dilation=2))}
MORE_AVG = {"apart": ((1, 2, 7), 3, dict(padding=1, count_include_pad=False))}


def convolution(op, f, cases, dtype):
    for name, (shape, weight, options) in cases.items():
        bias = options.get("bias", True)
        keywords = {k: v for k, v in options.items() if k != "bias"}
        out = weight[0] if op.startswith("conv1") else weight[1] * options.get("groups", 1)
        tensors = {"input": numbers(shape, 1), "weight": numbers(weight, 2)}
        if bias:
            tensors["bias"] = numbers((out,), 3)
        yield case_of(op, name, dtype, options,
                      tensors, lambda input, weight, bias=None: f(input, weight, bias, **keywords))


def layer(op, name, dtype, module, shape, options={}):
    """A case of a layer: its parameters are arguments, by their names with _ for a dot."""
    state = {k: numbers(v.shape, 5 + i) for i, (k, v) in enumerate(module.state_dict().items())}

    def call(input, **parameters):
        return torch.func.functional_call(module, parameters, (input,))

    return case_of(op, name, dtype, options, {"input": numbers(shape, 1), **state}, call)


def cases(dtype):
    for name, (shape, sizes, options) in PAD.items():
        yield case_of("pad", name, dtype, options | dict(sizes=sizes),
                      {"input": numbers(shape, 1)}, lambda input: F.pad(input, sizes, **options))
    for name, (shape, options) in INTERPOLATE.items():
        yield case_of("interpolate", name, dtype, options, {"input": numbers(shape, 1)},
                      lambda input: F.interpolate(input, **options))
    for name, (shape, size) in ADAPTIVE.items():
        yield case_of("adaptive_avg_pool2d", name, dtype, dict(size=size),
                      {"input": numbers(shape, 1)}, lambda input: F.adaptive_avg_pool2d(input, size))
    for name, (shape, size) in ADAPTIVE_1D.items():
        yield case_of("adaptive_avg_pool1d", name, dtype, dict(size=size),
                      {"input": numbers(shape, 1)}, lambda input: F.adaptive_avg_pool1d(input, size))
    yield from convolution("conv1d", F.conv1d, CONV1D, dtype)
    yield from convolution("conv_transpose2d", F.conv_transpose2d, TRANSPOSED, dtype)
    yield from convolution("conv_transpose1d", F.conv_transpose1d, TRANSPOSED_1D, dtype)
    for op, f, more in ("max_pool1d", F.max_pool1d, MORE_MAX), ("avg_pool1d", F.avg_pool1d, MORE_AVG):
        for name, (shape, kernel, options) in (POOL1D | more).items():
            yield case_of(op, name, dtype, options | dict(kernel=kernel),
                          {"input": numbers(shape, 1)}, lambda input: f(input, kernel, **options))
    n = torch.nn
    for mode in "reflect", "replicate", "circular":
        yield layer("Conv2d", mode, dtype, n.Conv2d(2, 3, 3, padding=(1, 2), padding_mode=mode),
                    (2, 2, 4, 5), dict(padding_mode=mode))
        yield layer("Conv1d", mode, dtype, n.Conv1d(2, 3, 3, padding=2, padding_mode=mode),
                    (2, 2, 5), dict(padding_mode=mode))
    yield layer("Conv1d", "plain", dtype, n.Conv1d(2, 3, 3), (2, 2, 5))
    for name, bias in ("plain", True), ("no_bias", False):
        yield layer("ConvTranspose2d", name, dtype,
                    n.ConvTranspose2d(4, 2, (3, 2), 2, (1, 0), 1, 2, bias), (2, 4, 3, 4),
                    dict(bias=bias))
        yield layer("ConvTranspose1d", name, dtype, n.ConvTranspose1d(4, 2, 3, 2, 1, 1, 2, bias),
                    (2, 4, 5), dict(bias=bias))


write(__file__, cases)
