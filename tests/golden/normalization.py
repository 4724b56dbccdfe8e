#!/usr/bin/env python3
"""Writes normalization.txt.gz: functions and layers that normalise, by PyTorch; cases.py says how. A
case of a layer has the layer's state dict among its arguments. The results of float32 cases are computed in
float64, because in float32 PyTorch is off by more than the tests allow."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from cases import case_of, numbers, write

LAST = {  # name: (input, normalized_shape, what there is, options)
    "plain": ((3, 5), (5,), "weight bias", {}),
    "alone": ((3, 5), (5,), "", {}),
    "bias": ((2, 3, 4), (4,), "bias", {}),
    "two": ((2, 3, 4), (3, 4), "weight bias", dict(eps=0.25)),
    "all": ((2, 3, 2), (2, 3, 2), "weight", {}),
    "wide": ((2, 70), (70,), "weight bias", {}),
    "long": ((40, 3), (3,), "weight bias", dict(eps=1e-3)),
    "empty": ((0, 3), (3,), "weight bias", {}),
    "far": ((3, 8), (8,), "weight bias", dict(shift=1000)),
}
GROUPS = {  # name: (input, groups, what there is, options)
    "plain": ((2, 4, 3), 2, "weight bias", {}),
    "alone": ((2, 4, 3), 4, "", {}),
    "one": ((2, 3, 2, 2), 1, "weight bias", dict(eps=0.25)),
    "flat": ((3, 8), 2, "weight bias", {}),
    "volume": ((1, 4, 2, 3, 2), 2, "weight", {}),
    "wide": ((2, 2, 6, 7), 1, "bias", {}),
    "empty": ((0, 4, 3), 2, "weight bias", {}),
}
IMAGES = {  # name: (input, what there is, options)
    "plain": ((2, 3, 4), "weight bias", {}),
    "alone": ((2, 3, 2, 3), "", {}),
    "pixels": ((1, 2, 5, 8), "weight bias", dict(eps=0.25)),
    "volume": ((2, 2, 1, 3, 2), "bias", {}),
    "far": ((2, 1, 9), "weight bias", dict(shift=1000)),
}
BATCHES = {  # name: (input, what there is, options)
    "plain": ((4, 3), "weight bias running", dict(training=True)),
    "alone": ((4, 3), "", dict(training=True)),
    "time": ((3, 2, 5), "weight bias running", dict(training=True, momentum=0.5)),
    "image": ((2, 3, 4, 4), "weight bias running", dict(training=True, eps=0.25)),
    "pixels": ((2, 3, 2, 2), "bias running", dict(training=True, momentum=0.0)),
    "single": ((1, 2, 3, 3), "weight running", dict(training=True, momentum=1.0)),
    "many": ((40, 1, 4, 4), "weight bias running", dict(training=True)),
    "far": ((3, 2, 17), "weight bias running", dict(training=True, shift=1000)),
    "eval": ((4, 3), "weight bias running", {}),
    "eval_image": ((2, 3, 4, 5), "weight bias running", dict(eps=0.25)),
    "eval_alone": ((1, 3, 4, 4), "running", {}),
    "eval_one": ((1, 3), "weight bias running", {}),
    "empty": ((0, 3, 4), "weight bias running", dict(training=True)),
}
LAYERS = {  # name: (class, arguments, options, input)
    "BatchNorm1d/plain": (nn.BatchNorm1d, (3,), {}, (4, 3)),
    "BatchNorm1d/time": (nn.BatchNorm1d, (3,), dict(eps=0.25, momentum=0.5), (2, 3, 5)),
    "BatchNorm1d/average": (nn.BatchNorm1d, (2,), dict(momentum=None), (4, 2)),
    "BatchNorm1d/alone": (nn.BatchNorm1d, (2,), dict(affine=False), (4, 2)),
    "BatchNorm1d/untracked": (nn.BatchNorm1d, (2,), dict(track_running_stats=False), (4, 2)),
    "BatchNorm2d/plain": (nn.BatchNorm2d, (3,), {}, (2, 3, 2, 4)),
    "BatchNorm2d/average": (nn.BatchNorm2d, (2,), dict(momentum=None, eps=0.25), (2, 2, 4, 4)),
    "BatchNorm2d/alone": (nn.BatchNorm2d, (2,), dict(affine=False), (3, 2, 2, 2)),
    "BatchNorm2d/untracked": (nn.BatchNorm2d, (2,), dict(track_running_stats=False), (1, 2, 3, 2)),
    "BatchNorm2d/scaled": (nn.BatchNorm2d, (2,), dict(bias=False), (2, 2, 4, 5)),
    "LayerNorm/plain": (nn.LayerNorm, ((5,),), {}, (2, 3, 5)),
    "LayerNorm/two": (nn.LayerNorm, ((3, 2),), dict(eps=0.25), (2, 3, 2)),
    "LayerNorm/scaled": (nn.LayerNorm, ((4,),), dict(bias=False), (3, 4)),
    "LayerNorm/alone": (nn.LayerNorm, ((4,),), dict(elementwise_affine=False), (3, 4)),
    "RMSNorm/plain": (nn.RMSNorm, ((5,),), {}, (2, 3, 5)),
    "RMSNorm/two": (nn.RMSNorm, ((3, 2),), dict(eps=0.25), (2, 3, 2)),
    "RMSNorm/alone": (nn.RMSNorm, ((4,),), dict(elementwise_affine=False), (3, 4)),
    "GroupNorm/plain": (nn.GroupNorm, (2, 4), {}, (2, 4, 3)),
    "GroupNorm/image": (nn.GroupNorm, (1, 3), dict(eps=0.25), (2, 3, 2, 2)),
    "GroupNorm/alone": (nn.GroupNorm, (3, 3), dict(affine=False), (2, 3, 4)),
    "GroupNorm/scaled": (nn.GroupNorm, (3, 3), dict(bias=False), (2, 3, 4)),
    "InstanceNorm2d/plain": (nn.InstanceNorm2d, (3,), {}, (2, 3, 2, 4)),
    "InstanceNorm2d/affine": (nn.InstanceNorm2d, (3,), dict(affine=True), (2, 3, 3, 2)),
    "InstanceNorm2d/scaled": (nn.InstanceNorm2d, (2,), dict(affine=True, bias=False), (2, 2, 3, 3)),
    "InstanceNorm2d/unbatched": (nn.InstanceNorm2d, (2,), dict(affine=True, eps=0.25), (2, 3, 4)),
}


def linear(f, bias=True):
    return lambda **options: f(nn.Linear(3, 2, bias=bias), **options)


def conv2d(f):
    return lambda **options: f(nn.Conv2d(4, 2, (2, 1), stride=2, padding=1, groups=2), **options)


PARAMETRIZED = {
    "weight_norm/linear": (linear(weight_norm), (), {}, (4, 3)),
    "weight_norm/linear_columns": (linear(weight_norm, bias=False), (), dict(dim=1), (2, 2, 3)),
    "weight_norm/linear_whole": (linear(weight_norm), (), dict(dim=None), (4, 3)),
    "weight_norm/conv2d": (conv2d(weight_norm), (), {}, (1, 4, 3, 4)),
    "weight_norm/conv2d_rows": (conv2d(weight_norm), (), dict(dim=-2), (1, 4, 3, 2)),
    "weight_norm/conv2d_whole": (conv2d(weight_norm), (), dict(dim=None), (2, 4, 2, 2)),
    "spectral_norm/linear": (linear(spectral_norm), (), {}, (4, 3)),
    "spectral_norm/linear_more": (linear(spectral_norm, bias=False), (),
                                  dict(n_power_iterations=3), (4, 3)),
    "spectral_norm/linear_eps": (linear(spectral_norm), (), dict(eps=8.0), (4, 3)),
    "spectral_norm/conv2d": (conv2d(spectral_norm), (), {}, (1, 4, 3, 4)),
}


def positive(shape, seed):
    return numbers(shape, seed).abs() + 0.125


def arguments_of(shape, each, names, options):
    """The arguments, and the options that PyTorch takes."""
    options = dict(options)
    x = numbers(shape, 1) + options.pop("shift", 0)
    arguments = dict(input=x.float().double())
    for seed, name in enumerate(["weight", "bias"]):
        if name in names:
            arguments[name] = numbers(each, 2 + seed)
    if "running" in names:
        arguments |= dict(running_mean=numbers(each, 4), running_var=positive(each, 5))
    return arguments, options


def batch_norm(input, options, running_mean=None, running_var=None, **affine):
    if running_mean is None:
        return F.batch_norm(input, None, None, **affine, **options)
    mean, var = running_mean.clone(), running_var.clone()
    return F.batch_norm(input, mean, var, **affine, **options), mean, var


def function_cases(dtype):
    for op in ("layer_norm", "rms_norm"):
        for name, (shape, each, names, options) in LAST.items():
            arguments, options = arguments_of(shape, each, names, options)
            if op == "rms_norm":
                arguments.pop("bias", None)
                options = dict(eps=torch.finfo(dtype).eps) | options
            yield case_of(op, name, torch.float64, dict(shape=each) | options, arguments,
                          lambda input, **affine: getattr(F, op)(input, each, **affine, **options))
    for name, (shape, groups, names, options) in GROUPS.items():
        arguments, options = arguments_of(shape, shape[1:2], names, options)
        yield case_of("group_norm", name, torch.float64, dict(groups=groups) | options, arguments,
                      lambda input, **affine: F.group_norm(input, groups, **affine, **options))
    for name, (shape, names, options) in IMAGES.items():
        arguments, options = arguments_of(shape, shape[1:2], names, options)
        yield case_of("instance_norm", name, torch.float64, options, arguments,
                      lambda input, **affine: F.instance_norm(input, **affine, **options))
    for name, (shape, names, options) in BATCHES.items():
        arguments, options = arguments_of(shape, shape[1:2], names, options)
        yield case_of("batch_norm", name, torch.float64, options, arguments,
                      lambda input, **rest: batch_norm(input, options, **rest),
                      constant=("running_mean", "running_var"))


def layer_cases(dtype, layers):
    """In both modes. The state after the call follows the output."""
    for name, (make, sizes, options, shape) in layers.items():
        layer = make(*sizes, **options).double()
        if make == nn.RMSNorm and layer.eps is None:
            layer.eps = torch.finfo(dtype).eps
        state, buffers = {}, [key for key, _ in layer.named_buffers()]
        for seed, (key, value) in enumerate(layer.state_dict().items()):
            if not value.is_floating_point():
                state[key] = torch.tensor(3)
            else:
                state[key] = (positive if "var" in key else numbers)(value.shape, 10 + seed)
        for mode in ("train", "eval"):
            layer.train(mode == "train")

            def call(input, **given):
                given |= {key: given[key].clone() for key in buffers}
                y = torch.func.functional_call(layer, given, (input,))
                return (y, *(given[key] for key in buffers))

            op, variant = name.split("/")
            yield case_of(op, f"{variant}_{mode}", torch.float64, dict(mode=mode) | options,
                          dict(input=numbers(shape, 1)) | {k: v.clone() for k, v in state.items()},
                          call, constant=buffers)


def all_cases(dtype):
    for cases in (function_cases(dtype), layer_cases(dtype, LAYERS | PARAMETRIZED)):
        for head, *lines in cases:
            yield [head.replace("f64", {torch.float32: "f32", torch.float64: "f64"}[dtype])] + lines


if __name__ == "__main__":
    write(__file__, all_cases)
