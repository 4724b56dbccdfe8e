#!/usr/bin/env python3
"""Writes optim.txt.gz: 100 steps of every update rule, from PyTorch or replayed in NumPy.

A line "case RULE/NAME DTYPE" starts a series. float64: a line per step, theta of all parameters.
float32: a line per step with theta and the state tensors of all parameters, so that each step can
start from PyTorch's own. Numbers are hexadecimal, without loss. Needs torch, numpy, jax and optax.
"""
import gzip
import math
import pathlib

import jax
import numpy as np
import optax
import torch

jax.config.update("jax_enable_x64", True)
STEPS = 100
SHAPES = {"Muon": [(2, 3), (3, 2), (4, 4)], "Adafactor": [(3,), (2, 3), (4, 2)]}
STATES = {
    "SGD": ["momentum_buffer"], "Adagrad": ["sum"],
    "RMSprop": ["square_avg", "grad_avg", "momentum_buffer"],
    "Adadelta": ["square_avg", "acc_delta"], "Adam": ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
    "AdamW": ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"], "Adamax": ["exp_avg", "exp_inf"],
    "NAdam": ["exp_avg", "exp_avg_sq", "mu_product"], "RAdam": ["exp_avg", "exp_avg_sq"],
    "Rprop": ["prev", "step_size"], "ASGD": ["ax"],
    "Adafactor": ["row_var", "col_var", "variance"],
}
TORCH = {
    "SGD": {
        "plain": dict(lr=0.1), "momentum": dict(lr=0.1, momentum=0.9),
        "dampening": dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
        "nesterov": dict(lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.02),
        "maximize": dict(lr=0.001, momentum=0.5, maximize=True)},
    "Adagrad": {
        "plain": dict(lr=0.1), "lr_decay": dict(lr=0.1, lr_decay=0.05),
        "initial": dict(lr=0.1, initial_accumulator_value=0.5, eps=1e-4),
        "decay": dict(lr=0.1, weight_decay=0.1), "maximize": dict(lr=0.01, maximize=True)},
    "RMSprop": {
        "plain": dict(lr=0.01), "momentum": dict(lr=0.01, momentum=0.8, alpha=0.9),
        "centered": dict(lr=0.01, centered=True, eps=1e-3),
        "both": dict(lr=0.01, centered=True, momentum=0.5, weight_decay=0.1, eps=1e-2),
        "maximize": dict(lr=0.001, maximize=True)},
    "Adadelta": {
        "plain": dict(), "rho": dict(lr=0.5, rho=0.8), "eps": dict(eps=1e-3),
        "decay": dict(weight_decay=0.1), "maximize": dict(lr=0.1, maximize=True)},
    "Adam": {
        "plain": dict(lr=0.05), "amsgrad": dict(lr=0.05, amsgrad=True),
        "decay": dict(lr=0.05, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1),
        "maximize": dict(lr=0.01, amsgrad=True, weight_decay=0.05, maximize=True)},
    "AdamW": {
        "plain": dict(lr=0.05), "amsgrad": dict(lr=0.05, amsgrad=True, weight_decay=0.1),
        "betas": dict(lr=0.05, betas=(0.8, 0.99), eps=1e-6, weight_decay=0),
        "maximize": dict(lr=0.01, maximize=True)},
    "Adamax": {
        "plain": dict(lr=0.05), "betas": dict(lr=0.05, betas=(0.8, 0.9)),
        "decay": dict(lr=0.05, weight_decay=0.1, eps=1e-3), "maximize": dict(maximize=True)},
    "NAdam": {
        "plain": dict(lr=0.05), "momentum_decay": dict(lr=0.05, momentum_decay=0.1),
        "decay": dict(lr=0.05, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1),
        "decoupled": dict(lr=0.05, weight_decay=0.1, decoupled_weight_decay=True),
        "maximize": dict(maximize=True)},
    "RAdam": {
        "plain": dict(lr=0.05), "betas": dict(lr=0.05, betas=(0.8, 0.9), eps=1e-4),
        "decay": dict(lr=0.05, weight_decay=0.1),
        "decoupled": dict(lr=0.05, weight_decay=0.1, decoupled_weight_decay=True),
        "maximize": dict(maximize=True)},
    "Rprop": {
        "plain": dict(), "etas": dict(lr=0.05, etas=(0.3, 1.5)),
        "sizes": dict(lr=0.01, step_sizes=(0.005, 0.02)), "maximize": dict(lr=0.001, maximize=True)},
    "ASGD": {
        "plain": dict(), "average": dict(lr=0.05, t0=10),
        "decay": dict(lr=0.05, lambd=0.01, alpha=0.5, weight_decay=0.1),
        "maximize": dict(lr=0.001, t0=0, maximize=True)},
    "Adafactor": {
        "plain": dict(), "decay": dict(lr=0.1, weight_decay=0.1),
        "beta2": dict(lr=0.1, beta2_decay=-0.5, eps=(1e-3, 1e-2)), "d": dict(lr=0.1, d=2.0),
        "maximize": dict(maximize=True)},
}


def start(shape, p):
    n = math.prod(shape)
    return np.array([((5 * i + 3 * p) % 7 - 3) / 4 + 0.1 for i in range(n)]).reshape(shape)


def gradient(theta, t, p, diagonal=0):
    """Only the last addition rounds. A diagonal keeps Muon's matrices away from singular ones,
    whose orthogonal factor magnifies rounding a million times."""
    flat = theta.astype(np.float64).ravel()
    every = theta.shape[1] + 1 if diagonal else 1
    g = [x * (i + 1) / 4 +
         (((7 * t + 3 * i + 5 * p) % 11 - 5) / 8 + (diagonal if i % every == 0 else 0))
         for i, x in enumerate(flat)]
    return np.array(g).reshape(theta.shape).astype(theta.dtype)


def torch_series(rule, options, dtype):
    shapes = SHAPES.get(rule, [(3,), (2, 2), ()])
    theta = [torch.tensor(start(s, p), dtype=dtype, requires_grad=True)
             for p, s in enumerate(shapes)]
    opt = getattr(torch.optim, rule)(theta, **options)
    single = dtype == torch.float32

    def row():
        values = []
        for x in theta:
            values.append(x.detach())
            state = opt.state[x] if single else {}
            values += [state[k] for k in STATES[rule] if state.get(k) is not None]
        return [float(v) for x in values for v in x.flatten()]

    if single:
        yield [float(v) for x in theta for v in x.detach().flatten()]
    for t in range(1, STEPS + 1):
        for p, x in enumerate(theta):
            x.grad = torch.tensor(gradient(x.detach().numpy(), t, p), dtype=dtype)
        opt.step()
        yield row()


# ---- Replays, float64: state is a dict for each parameter; g has been negated by maximize.
def lion(x, g, s, t, o):
    m = s.get("m", 0 * x)
    u = np.sign(o["beta1"] * m + (1 - o["beta1"]) * g)
    s["m"] = o["beta2"] * m + (1 - o["beta2"]) * g
    return x - o["lr"] * (u + o["weight_decay"] * x)


def lamb(x, g, s, t, o):
    s["m"] = o["beta1"] * s.get("m", 0 * x) + (1 - o["beta1"]) * g
    s["v"] = o["beta2"] * s.get("v", 0 * x) + (1 - o["beta2"]) * g * g
    m_hat, v_hat = s["m"] / (1 - o["beta1"] ** t), s["v"] / (1 - o["beta2"] ** t)
    u = m_hat / (np.sqrt(v_hat) + o["eps"]) + o["weight_decay"] * x
    a, b = np.linalg.norm(x.ravel()), np.linalg.norm(u.ravel())
    return x - o["lr"] * (a / b if a > 0 and b > 0 else 1) * u


def lars(x, g, s, t, o):
    a, b = np.linalg.norm(x.ravel()), np.linalg.norm(g.ravel())
    trust = o["trust_coefficient"] * a / (b + o["weight_decay"] * a) if a > 0 and b > 0 else 1
    step = o["lr"] * trust * (g + o["weight_decay"] * x)
    s["b"] = o["momentum"] * s.get("b", 0 * x) + step
    return x - (step + o["momentum"] * s["b"] if o["nesterov"] else s["b"])


def muon(x, g, s, t, o):
    s["b"] = s.get("b", 0 * x) + (1 - o["momentum"]) * (g - s.get("b", 0 * x))
    u = g + o["momentum"] * (s["b"] - g) if o["nesterov"] else s["b"]
    n, m = x.shape
    u = u.T if n > m else u
    u = u / max(np.linalg.norm(u), o["eps"])
    for _ in range(o["ns_steps"]):
        a = u @ u.T
        u = o["a"] * u + (o["b"] * a + o["c"] * a @ a) @ u
    u = u.T if n > m else u
    scale = [math.sqrt(max(1, n / m)), 0.2 * math.sqrt(max(n, m)), math.sqrt(n / m)][o["adjust_lr"]]
    return x * (1 - o["lr"] * o["weight_decay"]) - o["lr"] * scale * u


def polyak(x, g, s, t, o):
    gap = o["loss"] - o["f_star"]
    return x - min(o["lr"], max(0, gap) / o["norm2"]) * g


LION = dict(lr=0.01, beta1=0.9, beta2=0.99, weight_decay=0, maximize=False)
LAMB = dict(lr=0.02, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0, maximize=False)
LARS = dict(lr=0.5, momentum=0.9, weight_decay=0, trust_coefficient=0.1, nesterov=False,
            maximize=False)
MUON = dict(lr=0.01, weight_decay=0.1, momentum=0.95, nesterov=True, a=3.4445, b=-4.775, c=2.0315,
            eps=1e-7, ns_steps=5, adjust_lr=0, maximize=False)
POLYAK = dict(lr=1, f_star=0, maximize=False)
REPLAYS = {
    "Lion": (lion, {
        "plain": LION, "decay": LION | dict(weight_decay=0.1),
        "betas": LION | dict(beta1=0.8, beta2=0.9), "maximize": LION | dict(maximize=True)}),
    "LAMB": (lamb, {
        "plain": LAMB, "decay": LAMB | dict(weight_decay=0.1),
        "betas": LAMB | dict(beta1=0.8, beta2=0.99, eps=1e-3),
        "maximize": LAMB | dict(lr=0.002, maximize=True)}),
    "LARS": (lars, {
        "plain": LARS, "decay": LARS | dict(weight_decay=0.1), "nesterov": LARS | dict(nesterov=True),
        "maximize": LARS | dict(lr=0.05, momentum=0.5, maximize=True)}),
    "Muon": (muon, {
        "plain": MUON, "momentum": MUON | dict(nesterov=False, momentum=0.9),
        "rms": MUON | dict(adjust_lr=1, weight_decay=0),
        "spectral": MUON | dict(adjust_lr=2, ns_steps=3, a=3, b=-3.2, c=1.2),
        "maximize": MUON | dict(maximize=True)}),
    "Polyak": (polyak, {
        "plain": POLYAK, "capped": POLYAK | dict(lr=0.05), "f_star": POLYAK | dict(f_star=0.9),
        "both": POLYAK | dict(lr=0.3, f_star=0.5)}),
}


def optax_rule(rule, o):
    """The same rule in optax, where it defines the same: its LARS puts the rate after the trust
    ratio's weight decay and its momentum, and is not; its LAMB and Lion do not maximize."""
    if rule == "Lion":
        return optax.lion(o["lr"], o["beta1"], o["beta2"], weight_decay=o["weight_decay"])
    if rule == "LAMB":
        return optax.lamb(o["lr"], o["beta1"], o["beta2"], o["eps"], weight_decay=o["weight_decay"])
    if rule == "Polyak":
        return optax.polyak_sgd(max_learning_rate=o["lr"], f_min=o["f_star"])


def replay_series(rule, step, options):
    theta = [start(s, p) for p, s in enumerate(SHAPES.get(rule, [(3,), (2, 2), ()]))]
    state = [{} for _ in theta]
    witness = None if options["maximize"] else optax_rule(rule, options)
    witness_state = witness and witness.init(theta)
    for t in range(1, STEPS + 1):
        g = [gradient(x, t, p, 4 if rule == "Muon" else 0) for p, x in enumerate(theta)]
        loss = sum(v * v / 2 for x in theta for v in x.ravel()) + 1 + t % 5 / 4
        norm2 = sum(v * v for x in g for v in x.ravel())
        g = [-x for x in g] if options["maximize"] else g
        if witness:
            extra = {"value": loss} if rule == "Polyak" else {}
            update, witness_state = witness.update(g, witness_state, theta, **extra)
        before = theta
        theta = [step(x, d, s, t, options | dict(loss=loss, norm2=norm2))
                 for x, d, s in zip(theta, g, state)]
        if witness:
            for x, u, y in zip(before, update, theta):
                assert np.allclose(x + np.asarray(u), y, rtol=1e-12, atol=1e-13), (rule, t)
        yield [float(v) for x in theta for v in x.ravel()]


def hexadecimal(x):
    """0x1.8000p+0 as 0x1.8p+0."""
    mantissa, _, exponent = float(x).hex().partition("p")
    return mantissa.rstrip("0").rstrip(".") + "p" + exponent if "." in mantissa else x.hex()


def main():
    lines = [f"# torch {torch.__version__}, numpy {np.__version__}, optax {optax.__version__}"]

    def add(name, dtype, series):
        lines.append(f"case {name} {dtype}")
        lines.extend(" ".join(map(hexadecimal, row)) for row in series)

    for rule, cases in TORCH.items():
        for name, options in cases.items():
            # NAdam and ASGD keep scalars in the default dtype.
            torch.set_default_dtype(torch.float64)
            add(f"{rule}/{name}", "float64", torch_series(rule, options, torch.float64))
            torch.set_default_dtype(torch.float32)
            add(f"{rule}/{name}", "float32", torch_series(rule, options, torch.float32))
    for rule, (step, cases) in REPLAYS.items():
        for name, options in cases.items():
            add(f"{rule}/{name}", "float64", replay_series(rule, step, options))
    path = pathlib.Path(__file__).with_name("optim.txt.gz")
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", 9, mtime=0))


if __name__ == "__main__":
    main()
