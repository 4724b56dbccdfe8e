// A network solves a differential equation: u'' = f between two fixed ends, without data.
#include <numbers>

#include "options.hpp"

using namespace descent;

/// u(x) on [0, 1] with u(0) = u(1) = 0: the factor x (1 - x) keeps the ends fixed.
struct Solution : nn::Module {
  nn::Linear fc1 = register_module("fc1", nn::Linear(1, 32));
  nn::Linear fc2 = register_module("fc2", nn::Linear(32, 32));
  nn::Linear fc3 = register_module("fc3", nn::Linear(32, 1));
  Tensor forward(const In& x) const override { return x * (1 - x) * fc3(tanh(fc2(tanh(fc1(x))))); }
};

/// The equation that has the solution sin(pi x) + sin(3 pi x) / 3.
static Tensor exact(const Tensor& x) {
  constexpr double pi = std::numbers::pi;
  return sin(pi * x) + sin(3 * pi * x) / 3;
}
static Tensor f(const Tensor& x) {
  constexpr double pi = std::numbers::pi;
  return -pi * pi * (sin(pi * x) + 3 * sin(3 * pi * x));
}

/// u'' at each point: the gradient of the gradient. Each u depends on its own x only, so that the
/// derivative of the sum has them all.
static Tensor second_derivative(const Tensor& u, const Tensor& x) {
  const Tensor slope = grad({u.sum()}, {x}, {.create_graph = true})[0];
  return grad({slope.sum()}, {x}, {.create_graph = true})[0];
}

static void train(const Options& options) {
  Solution net;
  net.to(float64);
  const Tensor points = linspace(0, 1, 101, float64).reshape({101, 1});
  // Adam comes near the solution, L-BFGS sharpens it: the loss is a smooth function of the weights.
  optim::Adam opt(net.named_parameters(), {.lr = options.lr});
  auto residual = [&] {
    const Tensor x = points.detach().requires_grad_();
    return nn::mse_loss(second_derivative(net(x), x), f(points));
  };
  double loss = 0;
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    opt.zero_grad();
    Tensor l = residual();
    l.backward();
    opt.step();
    loss = l.item();
    if (!options.quiet && (epoch + 1) % 200 == 0)
      std::printf("Adam, epoch %4ld: mean of (u'' - f)^2 %.3e\n", epoch + 1, loss);
  }
  optim::LBFGS sharpen(net.named_parameters(), {.max_iter = 50, .strong_wolfe = true});
  for (int step = 1; step <= 10; ++step) {
    loss = sharpen.step([&] {
      sharpen.zero_grad();
      Tensor l = residual();
      l.backward();
      return l;
    });
    if (!options.quiet) std::printf("L-BFGS, step %2d: mean of (u'' - f)^2 %.3e\n", step, loss);
  }

  NoGradGuard no_grad;
  const Tensor u = net(points), solution = exact(points);
  if (!options.quiet) {
    std::printf("\n   x     network     exact\n");
    for (int64_t i = 0; i <= 100; i += 10)
      std::printf("%5.2f  %9.6f %9.6f\n", points[i].item(), u[i].item(), solution[i].item());
  }
  std::printf("pinn: largest_error=%.1e residual=%.1e epochs=%ld\n", max(abs(u - solution)).item(),
              loss, options.epochs);
}

int main(int argc, char** argv) {
  return run_example(argc, argv, "pinn", "Solves u'' = f by a network.",
                     {.epochs = 1000, .batch_size = 0, .lr = 3e-3}, train);
}
