#!/usr/bin/env python3
"""Writes optim.txt.gz: 100 steps of every update rule, by PyTorch or replayed in NumPy.

    case RULE/NAME DTYPE p0:3 p0/m:3 p1:4 ...

starts a series; behind the dtype stands what a line holds: parameters, and in float32 their state,
each with its number of elements. 101 lines follow, before the first step and after each: numbers in
hexadecimal, without loss. The options are those of CASES here and in test_rules.cpp.
Needs torch, numpy, and, as a second witness of replays, optax.
"""
import gzip
import math
import pathlib
import unittest.mock

import jax
import numpy as np
import optax
import torch

jax.config.update("jax_enable_x64", True)

STEPS = 100
SHAPES = {"Adafactor": [(3,), (2, 3), (4, 2)], "Muon": [(2, 3), (3, 2), (4, 4)]}
CASES = {
    "SGD": {
        "no_momentum": dict(lr=0.1, dampening=0.5),
        "momentum": dict(lr=0.1, momentum=0.9),
        "dampening": dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
        "nesterov": dict(lr=0.05, momentum=0.8, weight_decay=0.02, nesterov=True),
        "maximize": dict(lr=0.002, momentum=0.5, weight_decay=0.1, maximize=True),
    },
    "Adagrad": {
        "plain": dict(lr=0.1),
        "lr_decay": dict(lr=0.5, lr_decay=0.1),
        "decay": dict(lr=0.1, weight_decay=0.1, eps=1e-3),
        "initial": dict(lr=0.1, initial_accumulator_value=0.5),
        "maximize": dict(lr=0.02, lr_decay=0.01, maximize=True),
    },
    "RMSprop": {
        "plain": dict(lr=0.02),
        "momentum": dict(lr=0.01, alpha=0.9, momentum=0.8),
        "centered": dict(lr=0.02, eps=1e-3, centered=True),
        "all": dict(lr=0.01, alpha=0.95, eps=1e-2, weight_decay=0.1, momentum=0.5, centered=True),
        "maximize": dict(lr=0.002, weight_decay=0.01, maximize=True),
    },
    "Adadelta": {
        "plain": dict(),
        "rho": dict(lr=0.5, rho=0.8, eps=1e-3),
        "decay": dict(lr=2, weight_decay=0.1),
        "maximize": dict(lr=0.1, eps=1e-4, maximize=True),
    },
    "Adam": {
        "plain": dict(lr=0.05),
        "amsgrad": dict(lr=0.05, beta2=0.9, amsgrad=True),
        "decay": dict(lr=0.05, beta1=0.8, beta2=0.99, eps=1e-3, weight_decay=0.1),
        "no_beta1": dict(lr=0.02, beta1=0.0, beta2=0.95),
        "maximize": dict(lr=0.01, weight_decay=0.05, amsgrad=True, maximize=True),
    },
    "AdamW": {
        "plain": dict(lr=0.05),
        "amsgrad": dict(lr=0.05, beta2=0.9, weight_decay=0.1, amsgrad=True),
        "no_decay": dict(lr=0.05, beta1=0.8, beta2=0.99, eps=1e-3, weight_decay=0),
        "maximize": dict(lr=0.01, weight_decay=0.2, maximize=True),
    },
    "Adamax": {
        "plain": dict(lr=0.05),
        "betas": dict(lr=0.05, beta1=0.8, beta2=0.9),
        "decay": dict(lr=0.05, eps=1e-1, weight_decay=0.1),
        "maximize": dict(lr=0.01, weight_decay=0.01, maximize=True),
    },
    "NAdam": {
        "plain": dict(lr=0.05),
        "momentum_decay": dict(lr=0.05, beta1=0.8, beta2=0.99, eps=1e-3, momentum_decay=0.1),
        "decay": dict(lr=0.05, weight_decay=0.1),
        "decoupled": dict(lr=0.05, weight_decay=0.1, decoupled_weight_decay=True),
        "maximize": dict(lr=0.01, momentum_decay=0, maximize=True),
    },
    "RAdam": {
        "plain": dict(lr=0.05),
        "unrectified": dict(lr=0.05, beta1=0.8, beta2=0.6),  # rho stays below 5
        "decay": dict(lr=0.05, beta2=0.9, eps=1e-3, weight_decay=0.1),
        "decoupled": dict(lr=0.05, weight_decay=0.1, decoupled_weight_decay=True),
        "maximize": dict(lr=0.01, maximize=True),
    },
    "Rprop": {
        "plain": dict(),
        "etas": dict(lr=0.05, eta_minus=0.3, eta_plus=1.5),
        "bounds": dict(lr=0.01, step_min=0.005, step_max=0.02),
        "maximize": dict(lr=0.001, step_max=0.01, maximize=True),
    },
    "ASGD": {
        "plain": dict(lr=0.05),
        "average": dict(lr=0.05, t0=10),
        "alpha": dict(lr=0.2, lambd=0.1, alpha=0.5, t0=0),
        "decay": dict(lr=0.05, lambd=0, t0=50, weight_decay=0.1),
        "maximize": dict(lr=0.002, lambd=0.01, alpha=1, t0=5, maximize=True),
    },
    "Adafactor": {
        "plain": dict(),
        "decay": dict(lr=0.1, weight_decay=0.1),
        "beta2": dict(lr=0.2, beta2_decay=-0.5, eps1=0.3, eps2=0.5),
        "clipping": dict(lr=0.1, beta2_decay=-0.3, d=1.5),
        "still": dict(lr=0.05),
        "maximize": dict(lr=0.01, weight_decay=0.01, maximize=True),
    },
    "Lion": {
        "plain": dict(lr=0.01),
        "decay": dict(lr=0.01, weight_decay=0.1),
        "betas": dict(lr=0.02, beta1=0.5, beta2=0.8),
        "maximize": dict(lr=0.01, weight_decay=0.01, maximize=True),
    },
    "LAMB": {
        "plain": dict(lr=0.02),
        "decay": dict(lr=0.02, weight_decay=0.1),
        "betas": dict(lr=0.05, beta1=0.8, beta2=0.9, eps=1e-2),
        "origin": dict(lr=0.02, weight_decay=0.01),
        "still": dict(lr=0.02),
        "maximize": dict(lr=0.005, weight_decay=0.1, maximize=True),
    },
    "LARS": {
        "plain": dict(lr=0.5, trust_coefficient=0.1),
        "decay": dict(lr=0.5, momentum=0.5, weight_decay=0.1, trust_coefficient=0.1),
        "nesterov": dict(lr=0.3, trust_coefficient=0.1, nesterov=True),
        "origin": dict(lr=0.01, momentum=0, trust_coefficient=1),
        "still": dict(lr=0.1, weight_decay=0.01, trust_coefficient=0.1),
        "maximize": dict(lr=0.05, momentum=0.5, trust_coefficient=0.1, maximize=True),
    },
    "Muon": {
        "plain": dict(lr=0.02),
        "ema": dict(lr=0.02, weight_decay=0, momentum=0.9, nesterov=False),
        "match_rms": dict(lr=0.02, momentum=0.5, adjust_lr="match_rms_adamw"),
        "spectral": dict(lr=0.01, a=3, b=-3.2, c=1.2, ns_steps=3, adjust_lr="spectral_unclamped"),
        "eps": dict(lr=0.02, eps=20, ns_steps=2),  # above the norm: divides in its place
        "still": dict(lr=0.02),
        "maximize": dict(lr=0.005, maximize=True),
    },
    "Polyak": {
        "plain": dict(),
        "capped": dict(lr=0.05),
        "f_star": dict(f_star=0.9),
        "still": dict(lr=0.3, f_star=0.5),
        "maximize": dict(lr=0.01, f_star=100, maximize=True),
    },
}

# ---- The walk: where it starts, and its gradients.


def shapes_of(rule):
    return SHAPES.get(rule, [(3,), (2, 2), ()])


def slope(rule, shape, t, p):
    """The gradient where theta is 0. A diagonal keeps Muon's matrices away from singular ones,
    whose orthogonal factor jumps."""
    i = np.arange(math.prod(shape))
    on_diagonal = i % (shape[1] + 1) == 0 if rule == "Muon" else 0 * i
    return ((7 * t + 3 * i + 5 * p) % 11 - 5) / 8 + 4.0 * on_diagonal


def gradient(rule, theta, t, p):
    """Computed in float64, in an order that fused multiply-adds would not change."""
    i = np.arange(theta.size)
    g = theta.astype(np.float64).ravel() * (i % 4 + 1) / 4 + slope(rule, theta.shape, t, p)
    return g.reshape(theta.shape).astype(theta.dtype)


def start(rule, name, shape, p):
    """Eighths; "origin" begins at 0, "still" where the first gradient is 0."""
    i = np.arange(math.prod(shape))
    theta = ((10 * i + 6 * p) % 14 - 5) / 8
    if name == "origin":
        theta *= 0
    if name == "still":
        theta = -slope(rule, shape, 1, p) * 4 / (i % 4 + 1)
    return theta.reshape(shape)


# ---- PyTorch's rules.

STATES = {  # theirs, and what we call them
    "momentum_buffer": "b", "sum": "s", "square_avg": "v", "grad_avg": "g_avg", "acc_delta": "u",
    "exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "v_max", "exp_inf": "u",
    "mu_product": "mu_product", "prev": "g_prev", "step_size": "eta", "ax": "ax", "row_var": "r",
    "col_var": "c", "variance": "v",
}
PAIRS = {  # (option, default, option, default)
    "betas": ("beta1", 0.9, "beta2", 0.999), "etas": ("eta_minus", 0.5, "eta_plus", 1.2),
    "step_sizes": ("step_min", 1e-6, "step_max", 50), "eps": ("eps1", None, "eps2", 1e-3),
}


def torch_options(options):
    theirs = dict(options)
    for pair, (a, a_default, b, b_default) in PAIRS.items():
        if a in options or b in options:
            theirs[pair] = (theirs.pop(a, a_default), theirs.pop(b, b_default))
    return theirs


def snapshot(opt, theta):
    """Of each parameter's theta (no name) and state."""
    tensors = {}
    for p, x in enumerate(theta):
        tensors[p, ""] = x.detach().clone()
        for state in STATES:
            if torch.is_tensor(value := opt.state[x].get(state)):
                tensors[p, state] = value.clone()
    return tensors


def torch_walk(rule, name, dtype):
    """A snapshot before the first step and after each."""
    options = CASES[rule][name]
    torch.set_default_dtype(dtype)  # that of ASGD's and NAdam's scalars
    theta = [torch.tensor(start(rule, name, shape, p), dtype=dtype, requires_grad=True)
             for p, shape in enumerate(shapes_of(rule))]
    opt = getattr(torch.optim, rule)(theta, foreach=False, **torch_options(options))
    walk = [snapshot(opt, theta)]
    for t in range(1, STEPS + 1):
        for p, x in enumerate(theta):
            x.grad = torch.tensor(gradient(rule, x.detach().numpy(), t, p))
        opt.step()
        walk.append(snapshot(opt, theta))
    first = {"mu_product": 1, "step_size": options.get("lr", 1e-2)}  # state made by step()
    for (p, state), value in walk[1].items():
        walk[0].setdefault((p, state), torch.full_like(value, first.get(state, 0)))
    return walk


def torch_series(rule, name, dtype):
    walk = torch_walk(rule, name, dtype)
    columns = [key for key in walk[1] if key[1] == "" or dtype == torch.float32]
    yield " ".join(f"p{p}{state and '/' + STATES[state]}:{walk[1][p, state].numel()}"
                   for p, state in columns)
    for tensors in walk:
        yield [float(v) for key in columns for v in tensors[key].flatten()]


# ---- The other rules, in float64: x the parameter, s its state, o the options.


def norm(x):
    return math.sqrt(sum(v * v for v in x.ravel()))


def lion(x, g, s, t, o):
    m = s.get("m", 0)
    s["m"] = o["beta2"] * m + (1 - o["beta2"]) * g
    u = o["beta1"] * m + (1 - o["beta1"]) * g
    assert (abs(u) > 1e-9).all()  # rounding decides no sign
    return x - o["lr"] * (np.sign(u) + o["weight_decay"] * x)


def lamb(x, g, s, t, o):
    s["m"] = o["beta1"] * s.get("m", 0) + (1 - o["beta1"]) * g
    s["v"] = o["beta2"] * s.get("v", 0) + (1 - o["beta2"]) * g * g
    m_hat, v_hat = s["m"] / (1 - o["beta1"] ** t), s["v"] / (1 - o["beta2"] ** t)
    u = m_hat / (np.sqrt(v_hat) + o["eps"]) + o["weight_decay"] * x
    trust = norm(x) / norm(u) if norm(x) > 0 and norm(u) > 0 else 1
    return x - o["lr"] * trust * u


def lars(x, g, s, t, o):
    trust = 1
    if norm(x) > 0 and norm(g) > 0:
        trust = o["trust_coefficient"] * norm(x) / (norm(g) + o["weight_decay"] * norm(x))
    step = o["lr"] * trust * (g + o["weight_decay"] * x)
    s["b"] = o["momentum"] * s.get("b", 0) + step
    return x - (step + o["momentum"] * s["b"] if o["nesterov"] else s["b"])


def muon(x, g, s, t, o):
    """torch.optim.Muon, whose iteration runs in bfloat16, in float64."""
    s["b"] = s.get("b", 0) + (1 - o["momentum"]) * (g - s.get("b", 0))
    u = g + o["momentum"] * (s["b"] - g) if o["nesterov"] else s["b"]
    n, m = x.shape
    u = u.T if n > m else u
    u = u / max(norm(u), o["eps"])
    for _ in range(o["ns_steps"]):
        gram = u @ u.T
        u = o["a"] * u + (o["b"] * gram + o["c"] * gram @ gram) @ u
    u = u.T if n > m else u
    scale = torch.optim._muon._adjust_lr(1, o["adjust_lr"], x.shape)
    return x * (1 - o["lr"] * o["weight_decay"]) - o["lr"] * scale * u


def polyak(x, g, s, t, o):
    """Maximizing is minimizing -f, which is -f_star at best; g is that gradient already."""
    gap = (o["loss"] - o["f_star"]) * (-1 if o["maximize"] else 1)
    assert gap > 0
    return x - min(o["lr"], gap / o["norm2_g"]) * g if o["norm2_g"] > 0 else x


REPLAYS = {  # and their defaults
    "Lion": (lion, dict(lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0)),
    "LAMB": (lamb, dict(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0)),
    "LARS": (lars, dict(lr=1e-3, momentum=0.9, weight_decay=0, trust_coefficient=1e-3,
                        nesterov=False)),
    "Muon": (muon, dict(lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, a=3.4445,
                        b=-4.7750, c=2.0315, eps=1e-7, ns_steps=5, adjust_lr="original")),
    "Polyak": (polyak, dict(lr=1, f_star=0)),
}


class TorchMuon:
    """PyTorch's Muon, with float64 where it says bfloat16, in optax's manner."""

    def __init__(self, o):
        self.options = dict(lr=o["lr"], weight_decay=o["weight_decay"], momentum=o["momentum"],
                            nesterov=o["nesterov"], ns_coefficients=(o["a"], o["b"], o["c"]),
                            eps=o["eps"], ns_steps=o["ns_steps"], adjust_lr_fn=o["adjust_lr"])

    def init(self, theta):
        self.theta = [torch.tensor(x, requires_grad=True) for x in theta]
        return torch.optim.Muon(self.theta, **self.options)

    def update(self, g, opt, theta, value):
        for x, now, d in zip(self.theta, theta, g):
            x.data, x.grad = torch.tensor(now), torch.tensor(d)
        with unittest.mock.patch.object(torch, "bfloat16", torch.float64):
            opt.step()
        return [x.detach().numpy() - now for x, now in zip(self.theta, theta)], opt


def witness_of(rule, o):
    """The rule again, if somebody else has the same."""
    found = None
    if rule == "Muon":
        return TorchMuon(o)
    if rule == "Lion":
        found = optax.lion(o["lr"], o["beta1"], o["beta2"], weight_decay=o["weight_decay"])
    if rule == "LAMB":
        found = optax.lamb(o["lr"], o["beta1"], o["beta2"], o["eps"],
                           weight_decay=o["weight_decay"])
    if rule == "LARS" and o["weight_decay"] == 0:  # optax divides by ||g + weight_decay theta||
        found = optax.lars(o["lr"], 0, trust_coefficient=o["trust_coefficient"],
                           momentum=o["momentum"], nesterov=o["nesterov"])
    if rule == "Polyak" and not o["maximize"]:  # optax has no sign for the loss
        found = optax.polyak_sgd(o["lr"], f_min=o["f_star"])
    return found and optax.with_extra_args_support(found)


def check_by(witness, state, theta, g, loss, after):
    update, state = witness.update(g, state, theta, value=loss)
    for x, u, y in zip(theta, update, after):
        assert (abs(x + np.asarray(u) - y) <= 1e-12 * np.maximum(abs(y), abs(y - x))).all()
    return state


witnessed = 0


def replay_series(rule, name):
    global witnessed
    step, defaults = REPLAYS[rule]
    options = defaults | dict(maximize=False) | CASES[rule][name]
    theta = [start(rule, name, shape, p) for p, shape in enumerate(shapes_of(rule))]
    state = [{} for _ in theta]
    witness = witness_of(rule, options)
    witness_state = witness and witness.init(theta)
    witnessed += witness is not None
    yield " ".join(f"p{p}:{x.size}" for p, x in enumerate(theta))
    yield [float(v) for x in theta for v in x.ravel()]
    for t in range(1, STEPS + 1):
        loss = 1 + t % 5 / 4 + sum(v * v / 2 for x in theta for v in x.ravel())
        sign = -1 if options["maximize"] else 1
        g = [sign * gradient(rule, x, t, p) for p, x in enumerate(theta)]
        assert t > 1 or name != "still" or not any(x.any() for x in g)
        o = options | dict(loss=loss, norm2_g=sum(norm(x) ** 2 for x in g))
        after = [step(x, d, s, t, o) for x, d, s in zip(theta, g, state)]
        if witness:
            witness_state = check_by(witness, witness_state, theta, g, loss, after)
        theta = after
        yield [float(v) for x in theta for v in x.ravel()]


# ---- The file.


def hexadecimal(x):
    """0x1.8p+0, where float.hex() gives 0x1.8000000000000p+0."""
    mantissa, p, exponent = x.hex().partition("p")
    return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + p + exponent


def all_series():
    for rule, cases in CASES.items():
        for name in cases:
            if rule in REPLAYS:
                yield f"{rule}/{name} f64", replay_series(rule, name)
            else:
                yield f"{rule}/{name} f64", torch_series(rule, name, torch.float64)
                yield f"{rule}/{name} f32", torch_series(rule, name, torch.float32)


def main():
    lines = [f"# optim.py: torch {torch.__version__}, optax {optax.__version__}, "
             f"numpy {np.__version__}"]
    count = 0
    for case, series in all_series():
        lines.append(f"case {case} {next(series)}")
        rows = list(series)
        assert np.isfinite(rows).all() and np.abs(rows).max() < 1e3, case
        lines.extend(" ".join(map(hexadecimal, row)) for row in rows)
        count += 1
    path = pathlib.Path(__file__).with_name("optim.txt.gz")
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0))
    print(f"{count} series, {witnessed} replays seconded, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
