"""The workloads of `bench` with PyTorch from Python at its best: fused optimizers, and with
--compile the model and its loss compiled. MNIST_DIR names the folder of the raw training files."""
import peer  # first: it notes the time
import numpy
import torch
from torch import nn

args = peer.arguments([
    "mlp", "lenet", "cnn", "wide", "tiny", "adam", "gpt", "lstm", "resnet", "vae", "predict_mlp",
    "predict_lenet", "predict_cnn"])
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


def train_on_batch(net, opt, steps, x, y, loss=nn.functional.mse_loss):
    step = trainer(net, opt, loss)

    def some():
        for _ in range(steps):
            step(x, y)

    return run.best(some) / steps


def mlp():
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    train_on_digits(net, torch.optim.Adam(net.parameters(), 1e-3, fused=True), 938, (784,))


def sgd(net, lr):
    return torch.optim.SGD(net.parameters(), lr, momentum=0.5, fused=True)


def lenet_layers():
    return nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        nn.Linear(320, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, 10), nn.LogSoftmax(1))


def lenet():
    net = lenet_layers()
    train_on_digits(net, sgd(net, 0.01), 938, (1, 28, 28), nn.functional.nll_loss)


def cnn_layers():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10))


def cnn():
    net = cnn_layers()
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


def predict(net, *shape):
    net.eval()
    forward = torch.compile(net) if args.compile else net
    x = torch.randn(shape)
    with torch.inference_mode():
        run.report("us/call", run.best(lambda: [forward(x) for _ in range(100)]) * 1e4)


def predict_mlp():
    predict(nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
                          nn.Linear(128, 10)), 1, 784)


def predict_lenet():
    predict(lenet_layers(), 1, 1, 28, 28)


def predict_cnn():
    predict(cnn_layers(), 1, 1, 28, 28)


def adam():
    p = torch.randn(50_000_000, requires_grad=True)
    p.grad = torch.randn(50_000_000)
    opt = torch.optim.Adam([p], 1e-4, fused=True)
    time = run.best(lambda: [opt.step() for _ in range(3)]) / 3
    run.report("ms", time * 1e3)
    run.report("GB/s", 28 * p.numel() / time / 1e9)


class Gpt(nn.Module):
    """Blocks with the norms in front, learned positions, and 64 words."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(64, 128), nn.Embedding(64, 128)
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.norm, self.head = nn.LayerNorm(128), nn.Linear(128, 64)

    def forward(self, x):
        h = self.words(x) + self.places.weight
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h)).flatten(0, 1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(128), nn.LayerNorm(128)
        self.project, self.out = nn.Linear(128, 384), nn.Linear(128, 128)
        self.wide, self.narrow = nn.Linear(128, 512), nn.Linear(512, 128)

    def forward(self, x):
        q, k, v = (t.view(*x.shape[:2], 4, 32).transpose(1, 2)
                   for t in self.project(self.norm1(x)).chunk(3, 2))
        h = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(h.transpose(1, 2).reshape(x.shape))
        return x + self.narrow(nn.functional.gelu(self.wide(self.norm2(x))))


def gpt():
    net = Gpt()
    opt = torch.optim.AdamW(net.parameters(), 1e-3, fused=True)
    text = torch.randint(64, (8, 65))
    time = train_on_batch(net, opt, 10, text[:, :-1], text[:, 1:].flatten(),
                          nn.functional.cross_entropy)
    run.report("ms/step", time * 1e3)


class Series(nn.Module):
    """Two layers of LSTM, and the next value."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(128, 128, 2, batch_first=True), nn.Linear(128, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


def lstm():
    net = Series()
    opt = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    time = train_on_batch(net, opt, 5, torch.randn(32, 64, 128), torch.randn(32, 64, 1))
    run.report("ms/step", time * 1e3)


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which is one pixel wide where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential() if stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        h = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(h + self.shortcut(x))


def resnet():
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    time = train_on_batch(net, sgd(net, 0.05), 5, torch.randn(64, 3, 32, 32),
                          torch.randint(10, (64,)), nn.functional.cross_entropy)
    run.report("ms/step", time * 1e3)


class Vae(nn.Module):
    """784-400-20-400-784; the noise is one of the inputs."""

    def __init__(self):
        super().__init__()
        self.fc1, self.mean, self.log_variance = (
            nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20))
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x):
        h = torch.relu(self.fc1(x))
        mu, s = self.mean(h), self.log_variance(h)
        z = mu + torch.exp(0.5 * s) * torch.randn_like(mu)
        return self.fc4(torch.relu(self.fc3(z))), mu, s


def vae():
    def loss(output, x):
        logits, mu, s = output
        cost = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (cost - 0.5 * torch.sum(1 + s - mu.square() - s.exp())) / len(x)

    net = Vae()
    x = torch.rand(128, 784)
    opt = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    run.report("ms/step", train_on_batch(net, opt, 20, x, x, loss) * 1e3)


globals()[args.workload]()
run.finish()
