// Larger models: a small GPT, an LSTM, a residual network and a variational autoencoder, each on
// one batch of noise. peers/torch_fused.py has the same models.
#include "bench.hpp"

namespace bench { namespace {

void report_steps(Run& run, optim::OptimizerBase& opt, int steps,
                  const std::function<Tensor()>& loss, double flops = 0) {
  const double time = step_time(run, opt, steps, loss);
  run.report("ms/step", time * 1e3);
  run.finish(time, {.flops = flops});
}

/// Pre-norm: attention and a wide layer, each beside a shortcut.
struct Block : nn::Module {
  nn::LayerNorm norm1 = register_module("norm1", nn::LayerNorm(128));
  nn::LayerNorm norm2 = register_module("norm2", nn::LayerNorm(128));
  nn::Linear project = register_module("project", nn::Linear(128, 384));
  nn::Linear out = register_module("out", nn::Linear(128, 128));
  nn::Linear wide = register_module("wide", nn::Linear(128, 512));
  nn::Linear narrow = register_module("narrow", nn::Linear(512, 128));
  Tensor forward(const In& x) const override {
    const int64_t n = x.size(0), t = x.size(1);
    const Tensor qkv = project(norm1(x)).reshape({n, t, 3, 4, 32}).permute({2, 0, 3, 1, 4});
    const Tensor h = nn::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], {.causal = true});
    const Tensor y = x + out(h.transpose(1, 2).reshape(x.shape()));
    return y + narrow(gelu(wide(norm2(y))));
  }
};

struct Gpt : nn::Module {
  nn::Embedding words = register_module("words", nn::Embedding(64, 128));
  nn::Embedding places = register_module("places", nn::Embedding(64, 128));
  nn::Sequential blocks =
      register_module("blocks", nn::Sequential{Block(), Block(), Block(), Block()});
  nn::LayerNorm norm = register_module("norm", nn::LayerNorm(128));
  nn::Linear head = register_module("head", nn::Linear(128, 64));
  Tensor forward(const In& x) const override {
    return flatten(head(norm(blocks(words(x) + places.weight))), 0, 1);
  }
};

void gpt(Run& run) {
  const Gpt net;
  const Tensor text = randint(0, 64, {8, 65});
  const Tensor x = text.narrow(1, 0, 64), y = flatten(text.narrow(1, 1, 64));
  optim::AdamW opt(net.named_parameters(), {.lr = 1e-3});
  report_steps(run, opt, 10, [&] { return nn::cross_entropy(net(x), y); });
}

void lstm(Run& run) {
  const nn::LSTM recurrent(128, 128, {.num_layers = 2, .batch_first = true});
  const nn::Linear head(128, 1);
  const Tensor x = randn({32, 64, 128}), y = randn({32, 64, 1});
  optim::Adam opt(join({recurrent.named_parameters("lstm"), head.named_parameters("head")}),
                  {.lr = 1e-3});
  report_steps(run, opt, 5, [&] { return nn::mse_loss(head(recurrent(x).output), y); });
}

/// Two convolutions beside a shortcut, which is one pixel wide where the shape changes.
struct Residual : nn::Module {
  Residual(int64_t in, int64_t out, int64_t stride)
      : conv1(register_module(
            "conv1", nn::Conv2d(in, out, 3, {.stride = stride, .padding = 1, .bias = false}))),
        conv2(register_module("conv2", nn::Conv2d(out, out, 3, {.padding = 1, .bias = false}))),
        norm1(register_module("norm1", nn::BatchNorm2d(out))),
        norm2(register_module("norm2", nn::BatchNorm2d(out))),
        shortcut(register_module("shortcut", nn::Sequential())) {
    if (stride != 1)
      shortcut.push_back(nn::Conv2d(in, out, 1, {.stride = stride, .bias = false}))
          .push_back(nn::BatchNorm2d(out));
  }
  nn::Conv2d conv1, conv2;
  nn::BatchNorm2d norm1, norm2;
  nn::Sequential shortcut;
  Tensor forward(const In& x) const override {
    return relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x));
  }
};

void resnet(Run& run) {
  const nn::Sequential net{nn::Conv2d(3, 16, 3, {.padding = 1, .bias = false}),
                           nn::BatchNorm2d(16),
                           relu,
                           Residual(16, 16, 1),
                           Residual(16, 32, 2),
                           Residual(32, 64, 2),
                           nn::AdaptiveAvgPool2d(1),
                           nn::Flatten(),
                           nn::Linear(64, 10)};
  const Tensor x = randn({64, 3, 32, 32}), y = randint(0, 10, {64});
  optim::SGD opt(net.named_parameters(), {.lr = 0.05, .momentum = 0.5});
  report_steps(run, opt, 5, [&] { return nn::cross_entropy(net(x), y); });
}

/// 784-400-20-400-784.
struct Vae : nn::ModuleOf<std::tuple<Tensor, Tensor, Tensor>(const In&)> {
  nn::Linear fc1 = register_module("fc1", nn::Linear(784, 400));
  nn::Linear mean = register_module("mean", nn::Linear(400, 20));
  nn::Linear log_variance = register_module("log_variance", nn::Linear(400, 20));
  nn::Linear fc3 = register_module("fc3", nn::Linear(20, 400));
  nn::Linear fc4 = register_module("fc4", nn::Linear(400, 784));
  std::tuple<Tensor, Tensor, Tensor> forward(const In& x) const override {
    const Tensor h = relu(fc1(x)), mu = mean(h), s = log_variance(h);
    return {fc4(relu(fc3(mu + exp(0.5 * s) * randn(mu.shape())))), mu, s};
  }
};

void vae(Run& run) {
  const Vae net;
  const Tensor x = rand({128, 784});
  optim::Adam opt(net.named_parameters(), {.lr = 1e-3});
  report_steps(run, opt, 20, [&] {
    const auto [logits, mu, s] = net(x);
    const Tensor cost =
        nn::binary_cross_entropy_with_logits(logits, x, {.reduction = nn::Reduction::sum});
    return (cost - 0.5 * sum(1 + s - square(mu) - exp(s))) / x.size(0);
  });
}

const Register entries[] = {{"gpt", gpt}, {"lstm", lstm}, {"resnet", resnet}, {"vae", vae}};

}  // namespace
}  // namespace bench
