"""The workloads of `bench` with JAX at its best: where it can, many steps compiled into one loop,
elsewhere one step. MNIST_DIR names the folder of the raw training files."""
import peer  # first: it notes the time
import os
from functools import partial

args = peer.arguments(["mlp", "cnn", "wide", "tiny", "adam"])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])  # XLA counts the CPUs

import jax
import jax.numpy as jnp
import numpy
import optax
from jax import lax

run = peer.Run("jax", args)
key = jax.random.PRNGKey(1)


def linear(inputs, outputs):
    bound = 1 / inputs**0.5
    uniform = partial(jax.random.uniform, key, minval=-bound, maxval=bound)
    return uniform((inputs, outputs)), uniform((outputs,))


def mlp_forward(params, x, activation):
    for i, (weight, bias) in enumerate(params):
        x = x @ weight + bias
        x = activation(x) if i + 1 < len(params) else x
    return x


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def stepper(loss, opt):
    """A function from the state (parameters, optimizer's state) and loss's other arguments to the
    next state and the loss."""
    def step(state, *inputs):
        params, memory = state
        value, gradient = jax.value_and_grad(loss)(params, *inputs)
        update, memory = opt.update(gradient, memory, params)
        return (optax.apply_updates(params, update), memory), value

    return step


def repeated(step, state, *inputs):
    """A function that goes from state to state, and waits for it."""
    def repeat():
        nonlocal state
        state, value = step(state, *inputs)
        jax.block_until_ready(state)
        return value

    return repeat


def mlp():
    x, y = (jnp.array(a) for a in peer.digits(numpy))
    y = y.astype(jnp.int32)
    params = [linear(784, 128), linear(128, 10)]
    opt = optax.adam(1e-3)
    step = stepper(lambda p, x, y: cross_entropy(mlp_forward(p, x, jax.nn.relu), y), opt)

    @partial(jax.jit, donate_argnums=0)
    def epoch(state):
        inner, key = state
        key, draw = jax.random.split(key)
        order = jax.random.permutation(draw, len(x))[:937 * 64].reshape(-1, 64)
        inner, losses = lax.scan(lambda s, index: step(s, x[index], y[index]), inner, order)
        return (inner, key), losses[-1]

    repeat = repeated(epoch, ((params, opt.init(params)), jnp.array(key)))
    run.report("s/epoch", run.best(repeat) * 938 / 937)
    run.report("loss", repeat())


def cnn():
    images, labels = peer.digits(numpy)
    x, y = jnp.array(images.reshape(-1, 28, 28, 1)), jnp.array(labels.astype(numpy.int32))
    normal = partial(jax.random.normal, key)
    params = [(normal((3, 3, 1, 32)) * 0.3, jnp.zeros(32)),
              (normal((3, 3, 32, 64)) * 0.06, jnp.zeros(64)), linear(9216, 128), linear(128, 10)]

    def drop(key, x, p):
        return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)

    def loss(params, x, y, key):
        keys = jax.random.split(key)
        for weight, bias in params[:2]:
            x = lax.conv_general_dilated(x, weight, (1, 1), "VALID",
                                         dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x + bias)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = drop(keys[0], x, 0.25).reshape(len(x), -1)
        x = jax.nn.relu(x @ params[2][0] + params[2][1])
        return cross_entropy(drop(keys[1], x, 0.5) @ params[3][0] + params[3][1], y)

    opt = optax.sgd(0.05, 0.5)
    # XLA's convolutions are far slower inside a loop than in a step of their own.
    step = jax.jit(stepper(loss, opt), donate_argnums=0)
    state, draw = (params, opt.init(params)), numpy.random.default_rng(1)

    def some():
        nonlocal state
        for i in range(100):
            index = draw.integers(0, len(x), 64)
            state, value = step(state, x[index], y[index], jax.random.fold_in(key, i))
        jax.block_until_ready(state)
        return value

    run.report("s/epoch", run.best(some) * 938 / 100)
    run.report("loss", some())


def wide():
    params = [linear(1024, 4096), linear(4096, 4096), linear(4096, 1024)]
    x, y = jax.random.normal(key, (2, 256, 1024))
    opt = optax.adam(1e-4)
    step = stepper(lambda p, x, y: ((mlp_forward(p, x, jax.nn.relu) - y)**2).mean(), opt)
    repeat = repeated(jax.jit(step, donate_argnums=0), (params, opt.init(params)), x, y)
    run.report("ms/step", run.best(lambda: [repeat() for _ in range(5)]) / 5 * 1e3)
    run.report("loss", repeat())


def tiny():
    params = [linear(1, 16), linear(16, 16), linear(16, 1)]
    x = jax.random.normal(key, (32, 1))
    y = jnp.sin(x)
    opt = optax.sgd(0.01)
    step = stepper(lambda p: ((mlp_forward(p, x, jnp.tanh) - y)**2).mean(), opt)
    many = jax.jit(lambda state: lax.scan(lambda s, _: step(s), state, None, length=5000))
    repeat = repeated(many, (params, opt.init(params)))
    run.report("steps/s", 5000 / run.best(repeat))
    run.report("loss", repeat()[-1])


def adam():
    params = jax.random.normal(key, (50_000_000,))
    gradient = params + 1
    opt = optax.adam(1e-4)

    @partial(jax.jit, donate_argnums=0)
    def step(state, gradient):
        params, memory = state
        update, memory = opt.update(gradient, memory, params)
        return (optax.apply_updates(params, update), memory), 0

    repeat = repeated(step, (params, opt.init(params)), gradient)
    time = run.best(lambda: [repeat() for _ in range(3)]) / 3
    run.report("ms", time * 1e3)
    run.report("GB/s", 28 * len(gradient) / time / 1e9)


globals()[args.workload]()
run.finish()
