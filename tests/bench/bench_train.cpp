// The workloads that train: a network for digits, a wide and a tiny one, and what they are made of,
// recorded operations and optimizer steps.
#include "bench.hpp"

namespace bench {

void train_on_digits(Run& run, optim::OptimizerBase& opt, int steps, double flops_per_image,
                     const data::TensorDataset& digits,
                     const std::function<Tensor(const data::Batch&)>& loss) {
  data::DataLoader loader(digits, {.batch_size = 64, .shuffle = true});
  Tensor last;
  auto step = [&](const data::Batch& batch) {
    opt.zero_grad();
    last = loss(batch);
    last.backward();
    opt.step();
  };
  step(*loader.begin());
  run.first_step_done();

  double shortest = 1e9, loading = 0;
  run.best([&] {
    const double start = now();
    auto batches = loader.begin();
    double loaded = now() - start;
    for (int i = 0; i < steps; ++i, ++batches) {
      const double before = now();
      const data::Batch batch = *batches;
      loaded += now() - before;
      step(batch);
    }
    const double time = now() - start;
    if (time < shortest) shortest = time, loading = loaded / time;
    return time;
  });
  const double epoch = shortest * static_cast<double>(loader.size()) / steps;
  run.report("s/epoch", epoch);
  run.report("loading_share", loading);
  run.report("loss", last.item());
  run.finish(epoch, {.flops = flops_per_image * static_cast<double>(digits.size())});
}

/// Seconds per step of training on one batch, timed `steps` at a time.
double step_time(Run& run, optim::OptimizerBase& opt, int steps,
                 const std::function<Tensor()>& loss) {
  Tensor last;
  auto step = [&] {
    opt.zero_grad();
    last = loss();
    last.backward();
    opt.step();
  };
  step();
  run.first_step_done();
  const double time = run.best([&] {
    const double start = now();
    for (int i = 0; i < steps; ++i) step();
    return (now() - start) / steps;
  });
  run.report("loss", last.item());
  return time;
}

void predict(Run& run, nn::Module& net, const Shape& shape) {
  net.eval();
  const NoGradGuard no_grad;
  const Tensor x = randn(shape);
  (void)net(x);
  run.first_step_done();
  const double time = run.best([&] { return per_call([&] { (void)net(x); }); });
  run.report("us/call", time * 1e6);
  run.finish(time, {});
}

namespace {

/// Floating-point operations of a step for each example: forward, and backward to the weights and,
/// but for the first layer, to the inputs.
double mlp_flops(const std::vector<double>& widths) {
  double flops = 0;
  for (std::size_t i = 0; i + 1 < widths.size(); ++i)
    flops += (i == 0 ? 4 : 6) * widths[i] * widths[i + 1];
  return flops;
}

void mlp(Run& run) {
  const data::TensorDataset digits = run.digits();
  const nn::Sequential net{nn::Flatten(), nn::Linear(784, 128), relu, nn::Linear(128, 10)};
  optim::Adam opt(net.named_parameters(), {.lr = 1e-3});
  train_on_digits(run, opt, 938, mlp_flops({784, 128, 10}), digits,
                  [&](const data::Batch& b) { return nn::cross_entropy(net(b.x), b.y); });
}

void wide(Run& run) {
  constexpr int64_t n = 256;
  const nn::Sequential net{nn::Linear(1024, 4096), relu, nn::Linear(4096, 4096), relu,
                           nn::Linear(4096, 1024)};
  const Tensor x = randn({n, 1024}), y = randn({n, 1024});
  optim::Adam opt(net.named_parameters(), {.lr = 1e-4});
  const double time = step_time(run, opt, 5, [&] { return nn::mse_loss(net(x), y); });
  double parameters = 0;
  for (const Tensor& p : net.parameters()) parameters += static_cast<double>(p.numel());
  run.report("ms/step", time * 1e3);
  run.finish(time, {n * mlp_flops({1024, 4096, 4096, 1024}), 28 * parameters});
}

void tiny(Run& run) {
  constexpr int64_t n = 32;
  const nn::Sequential net{nn::Linear(1, 16), tanh, nn::Linear(16, 16), tanh, nn::Linear(16, 1)};
  const Tensor x = randn({n, 1}), y = sin(x);
  optim::SGD opt(net.named_parameters(), {.lr = 0.01});
  const double time = step_time(run, opt, 5000, [&] { return nn::mse_loss(net(x), y); });
  run.report("steps/s", 1 / time);
  run.finish(time, {.flops = n * mlp_flops({1, 16, 16, 1})});
}

void predict_mlp(Run& run) {
  nn::Sequential net{nn::Linear(784, 256), relu, nn::Linear(256, 128), relu, nn::Linear(128, 10)};
  predict(run, net, {1, 784});
}

/// Ten products and sums, and one sum of all: 21 operations, each with hardly any arithmetic.
void scalar(Run& run) {
  const Tensor a = randn({4}).requires_grad_();
  auto pass = [&] {
    Tensor b = a;
    for (int i = 0; i < 10; ++i) b = b * a + a;
    b.sum().backward();
    a.zero_grad();
  };
  pass();
  run.first_step_done();
  constexpr int passes = 20'000;
  const double time = run.best([&] {
    const double start = now();
    for (int i = 0; i < passes; ++i) pass();
    return (now() - start) / passes;
  });
  run.report("ns/op", time / 21 * 1e9);
  run.finish(time, {});
}

void adam(Run& run) {
  constexpr int64_t n = 50'000'000;
  const Tensor p = randn({n}).requires_grad_();
  p.set_grad(randn({n}));
  optim::Adam opt({{"p", p}}, {.lr = 1e-4});
  opt.set_nonfinite(optim::NonFinite::ignore);
  opt.on_report([](const std::string&) {});  // that the gradient is an old one
  opt.step();
  run.first_step_done();
  const double time = run.best([&] {
    const double start = now();
    for (int i = 0; i < 3; ++i) opt.step();
    return (now() - start) / 3;
  });
  constexpr double bytes = 28. * n;  // theta, m and v read and written, g read
  run.report("ms", time * 1e3);
  run.report("GB/s", bytes / time / 1e9);
  run.finish(time, {.bytes = bytes});
}

const Register entries[] = {{"mlp", mlp},       {"wide", wide}, {"tiny", tiny},
                            {"scalar", scalar}, {"adam", adam}, {"predict_mlp", predict_mlp}};

}  // namespace
}  // namespace bench
