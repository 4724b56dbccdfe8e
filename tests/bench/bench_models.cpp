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

const Register entries[] = {{"resnet", resnet}, {"vae", vae}};

}  // namespace
}  // namespace bench
