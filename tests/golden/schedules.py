#!/usr/bin/env python3
"""Prints schedules.txt: factors at steps 0, ..., 59 of schedules with 30 sets of options each.

PyTorch's own classes compute them, though with numbers of 50 digits instead of floats, and by their
closed form where they have one. What PyTorch lacks is a formula for its LambdaLR. Each line is
"name options | values", and "value*n" stands for n equal ones; plateaus have the metrics between.
"""
import math
import random
import sys
import types
import warnings

import mpmath
import torch
from mpmath import mpf
from torch.optim import lr_scheduler as lrs

warnings.simplefilter("ignore")
mpmath.mp.dps = 50
PRECISE = types.SimpleNamespace(
    pi=mpmath.pi, cos=mpmath.cos, log=mpmath.log, floor=lambda x: int(mpmath.floor(x)))
STEPS, SETS = 60, 30
draw = random.Random(0)


def share(low=0.0, high=1.0):
    return round(draw.uniform(low, high), 3)


def count(low=1, high=70):
    return draw.randint(low, high)


def flag():
    return draw.randint(0, 1)


# ---- schedules that PyTorch has: the options, and the scheduler made of them; N makes a number

def one_cycle(opt, N, steps, pct, linear, div, final, three, low, high):
    s = lrs.OneCycleLR(opt, N(1), total_steps=steps, pct_start=float(pct), div_factor=N(div),
                       anneal_strategy="linear" if linear else "cos", final_div_factor=N(final),
                       three_phase=bool(three), base_momentum=N(low), max_momentum=N(high))
    for k, phase in enumerate(s._schedule_phases[:-1], 1):
        phase["end_step"] = k * N(pct) * steps - k
    return s


def cyclic(opt, N, floor, up, down, mode, gamma, low, high):
    s = lrs.CyclicLR(opt, N(floor), N(1), up, down or up, gamma=N(gamma), base_momentum=N(low),
                     mode=("triangular", "triangular2", "exp_range")[mode], max_momentum=N(high))
    s.total_size = N(up + (down or up))
    s.step_ratio = up / s.total_size
    return s


def warm_restarts(opt, N, period, mult, floor):
    s = lrs.CosineAnnealingWarmRestarts(opt, period, mult)
    s.eta_min = N(floor)
    return s


def chain(*parts):
    return lrs.ChainedScheduler(parts)


def sequence(opt, milestones, *parts):
    return lrs.SequentialLR(opt, list(parts), milestones)


CYCLES = {
    "one_cycle": (lambda: (count(2, 60), share(0, 0.5), flag(), share(1, 50), share(1, 1e4), flag(),
                           share(0.5, 0.9), share(0.5, 1)), one_cycle),
    "cyclic": (lambda: (share(), count(1, 20), count(0, 20), count(0, 2), share(0.8), share(),
                        share()), cyclic),
}
TORCH = {
    "constant": (lambda: (share(), count(0)), lambda o, N, f, n: lrs.ConstantLR(o, N(f), n)),
    "step": (lambda: (count(1, 30), share(0.05, 1.2)), lambda o, N, n, g: lrs.StepLR(o, n, N(g))),
    "multi_step": (lambda: (share(0.05, 1.2), *(count(0) for _ in range(count(0, 5)))),
                   lambda o, N, g, *ms: lrs.MultiStepLR(o, ms, N(g))),
    "exponential": (lambda: (share(0.1, 1.05),), lambda o, N, g: lrs.ExponentialLR(o, N(g))),
    "linear": (lambda: (share(0.001), share(), count()),
               lambda o, N, a, b, n: lrs.LinearLR(o, N(a), N(b), n)),
    "polynomial": (lambda: (count(), share(0.1, 4)),
                   lambda o, N, n, p: lrs.PolynomialLR(o, N(n), N(p))),
    "cosine_cyclic": (lambda: (count(), share() * flag()),
                      lambda o, N, n, f: lrs.CosineAnnealingLR(o, n, N(f))),
    "warm_restarts": (lambda: (count(1, 30), count(1, 3), share() * flag()), warm_restarts),
}
SOME = 10  # sets of options for each of three compositions
COMPOSED = {
    "constant_exponential": (
        lambda: (share(), share(0.5), count(0, 59)),
        lambda o, N, f, g, m: sequence(o, [m], lrs.ConstantLR(o, N(f), STEPS + 1),
                                       lrs.ExponentialLR(o, N(g)))),
    "linear_cosine": (
        lambda: (share(0.001), count(1, 30), count(30, 60), share()),
        lambda o, N, a, n, m, f: sequence(o, [n], lrs.LinearLR(o, N(a), 1, n),
                                          lrs.CosineAnnealingLR(o, m, N(f)))),
    "step_polynomial_linear": (
        lambda: (share(), count(1, 20), count(1, 30), share(0.5, 3), share(0.1), count(21, 59)),
        lambda o, N, g, n, k, p, a, m: sequence(
            o, [n, m], lrs.StepLR(o, 3, N(g)), lrs.PolynomialLR(o, N(k), N(p)),
            lrs.LinearLR(o, N(a), 1, 30))),
    "linear_times_exponential": (
        lambda: (share(0.001), count(), share(0.5)),
        lambda o, N, a, n, g: chain(lrs.LinearLR(o, N(a), 1, n), lrs.ExponentialLR(o, N(g)))),
    "constant_times_step": (
        lambda: (share(0.001), count(), count(), share()),
        lambda o, N, f, n, k, g: chain(lrs.ConstantLR(o, N(f), n), lrs.StepLR(o, k, N(g)))),
    "multi_step_times_polynomial": (
        lambda: (share(), count(), count(), count(60, 90), share(0.1, 2)),
        lambda o, N, g, a, b, n, p: chain(lrs.MultiStepLR(o, [a, b], N(g)),
                                          lrs.PolynomialLR(o, N(n), N(p)))),
}


# ---- schedules that it lacks: the options, and the factor at step n

def decay(f):
    def factor(n, rate, period, staircase, floor):
        return max(mpf(floor), f(mpf(rate), n // period if staircase else mpf(n) / period))
    return factor


def rate_first(low, high):
    return lambda: (share(low, high), count(1, 20), flag(), share(0, 0.3) * flag())


FORMULAS = {
    "exponential_options": (rate_first(0.1, 1.1), decay(lambda r, t: r ** t)),
    "inverse_time": (rate_first(0, 2), decay(lambda r, t: 1 / (1 + r * t))),
    "warmup": (lambda: (count(),), lambda n, w: min(mpf(1), mpf(n) / w)),
    "inverse_sqrt": (lambda: (count(),), lambda n, w: min(  # Vaswani et al.: rsqrt(0) is infinite
        mpf(n) ** -0.5 if n else mpmath.inf, n * mpf(w) ** -1.5) / mpf(w) ** -0.5),
    "polynomial_end": (lambda: (count(), share(0.1, 4), share()), lambda n, s, p, e:
                       e + (1 - mpf(e)) * (1 - mpf(min(n, s)) / s) ** p),
    "cosine": (lambda: (count(), share() * flag()), lambda n, s, f:
               f + (1 - mpf(f)) * (1 + mpmath.cos(mpmath.pi * min(n, s) / s)) / 2),
}


# ---- running them

def start(build, N, options):
    lrs.math = PRECISE if N is mpf else math
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=N(1), momentum=0.5)
    return opt.param_groups[0], build(opt, N, *options)


def recursive(build, N, options):
    """What the class does step by step."""
    group, s = start(build, N, options)
    values = []
    for _ in range(STEPS):
        values.append(group["lr"])
        s.step()
    return values


def closed(build, N, options):
    _, s = start(build, N, options)
    values = []
    for s.last_epoch in range(STEPS):
        values.append(s._get_closed_form_lr()[0])
    return values


def cycle(build, N, options):
    """The rate and the momentum; they stay after the end of one that ends."""
    group, s = start(build, N, options)
    values = []
    for n in range(STEPS):
        s.last_epoch = min(n, getattr(s, "total_steps", STEPS) - 1)
        s._get_lr_called_within_step = True
        values.append((s.get_lr()[0], group["momentum"]))
    return zip(*values)


def packed(values, digits):
    texts, out = [f"{float(v):.{digits}g}" for v in values], []
    while texts:
        n = next((i for i, t in enumerate(texts) if t != texts[0]), len(texts))
        out.append(texts[0] if n == 1 else f"{texts[0]}*{n}")
        texts = texts[n:]
    return " ".join(out)


def show(name, options, *series, digits=15):
    print(name, *options, "|", " | ".join(packed(values, digits) for values in series))


def difference(found, exact):
    """The largest relative error; of values below 1e-15, the absolute one over 1e-15."""
    return max(float(abs(a - b) / max(abs(b), mpf(1e-15))) for a, b in zip(found, exact))


def torch_series(name, options, build):
    exact = recursive(build, mpf, options) if name in COMPOSED or name == "warm_restarts" else (
        closed(build, mpf, options))
    show(name, options, exact)
    try:
        if difference(recursive(build, mpf, options), exact) < 1e-25:
            return difference(recursive(build, float, options), exact)
        why = "is another function, step by step"
    except ZeroDivisionError:
        why = "divides by zero"
    print("PyTorch's", name, *options, why, file=sys.stderr)
    return math.inf


def plateau():
    options = dict(mode=("min", "max")[flag()], factor=share(0, 0.9), patience=count(0, 5),
                   threshold=draw.choice((0, 1e-4, 0.125, 0.25)),
                   threshold_mode=("rel", "abs")[flag()], cooldown=count(0, 4),
                   min_lr=share(0, 0.2) * flag(), eps=draw.choice((0, 1e-8, 0.05)))
    metrics = [count(-8 * flag(), 32) / 8 + k / draw.choice((8, -8, 64)) for k in range(STEPS)]
    for k in range(STEPS):
        if draw.random() < 0.05:
            metrics[k] = draw.choice((math.nan, math.inf, -math.inf))
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    s = lrs.ReduceLROnPlateau(opt, **options)
    factors = []
    for metric in metrics:
        s.step(metric)
        factors.append(opt.param_groups[0]["lr"])
    options["mode"] = int(options["mode"] == "max")
    options["threshold_mode"] = int(options["threshold_mode"] == "abs")
    show("plateau", options.values(), metrics, factors, digits=17)


def main():
    print("# Made by schedules.py with torch", torch.__version__)
    worst = {}
    for table, sets in ((TORCH, SETS), (COMPOSED, SOME)):
        for name, (options, build) in table.items():
            errors = [torch_series(name, options(), build) for _ in range(sets)]
            finite = [e for e in errors if math.isfinite(e)]
            worst[name] = max(finite), len(errors) - len(finite)
    for name, (options, build) in CYCLES.items():
        for _ in range(SETS):
            chosen = options()
            for part, values in zip(("rate", "momentum"), cycle(build, mpf, chosen)):
                show(f"{name}.{part}", chosen, values)
    for name, (options, factor) in FORMULAS.items():
        for _ in range(SETS):
            chosen = options()
            show(name, chosen, recursive(
                lambda o, N: lrs.LambdaLR(o, lambda n: factor(n, *chosen)), mpf, ()))
    for _ in range(SETS):
        plateau()
    print("# How far PyTorch is off, step by step in float64 (relative; of values below 1e-15, in"
          "\n# units of that), and how often it is not its own closed form at all:")
    for name, (error, stops) in worst.items():
        print(f"# {name}: {error:.1e}, {stops}")


main()
