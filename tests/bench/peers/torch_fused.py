"""The workloads of `bench` with PyTorch from Python at its best: fused optimizers, and with
--compile the model and its loss compiled. MNIST_DIR names the folder of the raw training files."""
import peer  # first: it notes the time
import numpy
import torch
from torch import nn

args = peer.arguments(["mlp", "lenet", "cnn", "wide", "tiny", "adam"])
torch.set_num_threads(args.threads)
torch.manual_seed(1)
run = peer.Run("torch-compiled" if args.compile else "torch-fused", args)


def trainer(net, opt, loss):
    """A function that makes one step on a batch."""
    forward = lambda x, y: loss(net(x), y)
    if args.compile:
        forward = torch.compile(forward)

    def step(x, y):
        opt.zero_grad()
        value = forward(x, y)
        value.backward()
        opt.step()
        return value

    return step


def train_on_digits(net, opt, steps, shape, loss=nn.functional.cross_entropy):
    images, labels = peer.digits(numpy)
    x = torch.from_numpy(images).view(-1, *shape)
    y = torch.from_numpy(labels.astype(numpy.int64))
    step = trainer(net, opt, loss)
    last = None

    def epoch():
        nonlocal last
        order = torch.randperm(len(x))
        for i in range(steps):
            index = order[64 * i:64 * (i + 1)]
            last = step(x[index], y[index])

    run.report("s/epoch", run.best(epoch) * 938 / steps)
    run.report("loss", last.item())


def train_on_batch(net, opt, steps, x, y):
    step = trainer(net, opt, nn.functional.mse_loss)

    def some():
        for _ in range(steps):
            step(x, y)

    return run.best(some) / steps


def mlp():
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    train_on_digits(net, torch.optim.Adam(net.parameters(), 1e-3, fused=True), 938, (784,))


def sgd(net, lr):
    return torch.optim.SGD(net.parameters(), lr, momentum=0.5, fused=True)


def lenet():
    net = nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        nn.Linear(320, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, 10), nn.LogSoftmax(1))
    train_on_digits(net, sgd(net, 0.01), 938, (1, 28, 28), nn.functional.nll_loss)


def cnn():
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10))
    train_on_digits(net, sgd(net, 0.05), 100, (1, 28, 28))


def wide():
    net = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(),
                        nn.Linear(4096, 1024))
    opt = torch.optim.Adam(net.parameters(), 1e-4, fused=True)
    time = train_on_batch(net, opt, 5, torch.randn(256, 1024), torch.randn(256, 1024))
    run.report("ms/step", time * 1e3)


def tiny():
    net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(),
                        nn.Linear(16, 1))
    x = torch.randn(32, 1)
    opt = torch.optim.SGD(net.parameters(), 0.01, fused=True)
    run.report("steps/s", 1 / train_on_batch(net, opt, 2000, x, torch.sin(x)))


def adam():
    p = torch.randn(50_000_000, requires_grad=True)
    p.grad = torch.randn(50_000_000)
    opt = torch.optim.Adam([p], 1e-4, fused=True)
    time = run.best(lambda: [opt.step() for _ in range(3)]) / 3
    run.report("ms", time * 1e3)
    run.report("GB/s", 28 * p.numel() / time / 1e9)


globals()[args.workload]()
run.finish()
