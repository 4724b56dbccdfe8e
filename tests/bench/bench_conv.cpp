// The workloads with convolutions, and convolutions one by one.
#include "bench.hpp"

namespace bench { namespace {

/// The network of PyTorch's C++ example for MNIST.
struct LeNet : nn::Module {
  nn::Conv2d conv1 = register_module("conv1", nn::Conv2d(1, 10, 5));
  nn::Conv2d conv2 = register_module("conv2", nn::Conv2d(10, 20, 5));
  nn::Dropout2d drop2d = register_module("drop2d", nn::Dropout2d());
  nn::Linear fc1 = register_module("fc1", nn::Linear(320, 50));
  nn::Dropout drop = register_module("drop", nn::Dropout());
  nn::Linear fc2 = register_module("fc2", nn::Linear(50, 10));
  Tensor forward(const In& x) const override {
    Tensor h = relu(max_pool2d(conv1(x), 2));
    h = relu(max_pool2d(drop2d(conv2(h)), 2));
    return log_softmax(fc2(drop(relu(fc1(flatten(h, 1))))));
  }
};

/// The network of PyTorch's Python example for MNIST.
struct Cnn : nn::Module {
  nn::Conv2d conv1 = register_module("conv1", nn::Conv2d(1, 32, 3));
  nn::Conv2d conv2 = register_module("conv2", nn::Conv2d(32, 64, 3));
  nn::Dropout drop1 = register_module("drop1", nn::Dropout(0.25));
  nn::Linear fc1 = register_module("fc1", nn::Linear(9216, 128));
  nn::Dropout drop2 = register_module("drop2", nn::Dropout(0.5));
  nn::Linear fc2 = register_module("fc2", nn::Linear(128, 10));
  Tensor forward(const In& x) const override {
    const Tensor h = drop1(max_pool2d(relu(conv2(relu(conv1(x)))), 2));
    return fc2(drop2(relu(fc1(flatten(h, 1)))));
  }
};

// Floating-point operations per image: twice the multiplications, forward and backward to the
// weights and, but for the first layer, to the inputs.
constexpr double kLeNetFlops = 4 * 24 * 24 * 10 * 25 + 6 * (8 * 8 * 20 * 250 + 320 * 50 + 50 * 10);
constexpr double kCnnFlops = 4 * 26 * 26 * 32 * 9 + 6 * (24 * 24 * 64 * 288 + 9216 * 128 + 1280);

void lenet(Run& run) {
  const data::TensorDataset digits = run.digits();
  const LeNet net;
  optim::SGD opt(net.named_parameters(), {.lr = 0.01, .momentum = 0.5});
  train_on_digits(run, opt, 938, kLeNetFlops, digits,
                  [&](const data::Batch& b) { return nn::nll_loss(net(b.x), b.y); });
}

void cnn(Run& run) {
  const data::TensorDataset digits = run.digits();
  const Cnn net;
  optim::SGD opt(net.named_parameters(), {.lr = 0.05, .momentum = 0.5});
  train_on_digits(run, opt, 100, kCnnFlops, digits,
                  [&](const data::Batch& b) { return nn::cross_entropy(net(b.x), b.y); });
}

template <class Net> void predict_digit(Run& run) {
  Net net;
  predict(run, net, {1, 1, 28, 28});
}

void conv(Run& run) {
  for (const measure::ConvCase& c : measure::conv_cases) {
    const nn::Conv2d layer(
        c.in, c.out, c.kernel,
        nn::Conv2dOptions{.stride = c.stride, .padding = c.padding, .groups = c.groups});
    const Tensor x = randn({c.batch, c.in, c.size, c.size}).requires_grad_();
    const Tensor g = ones_like(layer(x));
    const double flops =
        2e-9 * static_cast<double>(g.numel() * c.in / c.groups * c.kernel * c.kernel);
    for (const int n : run.threads) {
      set_num_threads(n);
      auto line = [&](const char* metric, double value) {
        report(c.name(), metric + ("@" + std::to_string(n)), value);
      };
      const double forward = per_call([&] {
        NoGradGuard no_grad;
        layer(x);
      });
      const double both = per_call([&] {
        layer(x).backward(g);
        layer.zero_grad();
        x.zero_grad();
      });
      line("forward_ms", forward * 1e3);
      line("both_ms", both * 1e3);
      line("forward_GFLOP/s", flops / forward);
      line("both_GFLOP/s", 3 * flops / both);
    }
  }
}

const Register entries[] = {{"lenet", lenet},
                            {"cnn", cnn},
                            {"conv", conv},
                            {"predict_lenet", predict_digit<LeNet>},
                            {"predict_cnn", predict_digit<Cnn>}};

}  // namespace
}  // namespace bench
