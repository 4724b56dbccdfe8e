#include <cmath>
#include <doctest/doctest.h>
#include <string>
#include <utility>
#include <vector>

#include "support.hpp"

using namespace descent;

namespace {

constexpr bool kBypassesCache =
#if defined(__SANITIZE_ADDRESS__)
    true;
#elif defined(__has_feature)
    __has_feature(address_sanitizer);
#else
    false;
#endif

struct Mlp : nn::Module {
  nn::Linear hidden = register_module("hidden", nn::Linear(2, 16));
  nn::Linear out = register_module("out", nn::Linear(16, 2));
  nn::Dropout drop{register_module("drop", nn::Dropout(0.1))};
  Tensor forward(const In& x) const override { return out(drop(tanh(hidden(x)))); }
};

/// 64 points around the corners of a square; opposite corners are of one class.
std::pair<Tensor, Tensor> corners() {
  Generator generator(7);
  std::vector<float> x;
  std::vector<int64_t> y;
  for (int i = 0; i < 64; ++i) {
    const int a = i & 1, b = i >> 1 & 1;
    x.push_back(static_cast<float>(2 * a - 1 + 0.3 * (generator.uniform() - 0.5)));
    x.push_back(static_cast<float>(2 * b - 1 + 0.3 * (generator.uniform() - 0.5)));
    y.push_back(a ^ b);
  }
  return {tensor(x, {64, 2}), tensor(y)};
}

template <class Opt>
double train_step(const nn::Module& net, Opt& opt, const Tensor& x, const Tensor& y) {
  opt.zero_grad();
  Tensor loss = nn::cross_entropy(net(x), y);
  loss.backward();
  opt.step();
  return loss.item();
}

/// The parameters after some steps of shuffled mini-batches with dropout.
std::vector<float> trained(uint64_t seed) {
  manual_seed(seed);
  Mlp net;
  optim::Adam opt(net.named_parameters(), {.lr = 0.01});
  const auto [x, y] = corners();
  data::DataLoader loader(data::TensorDataset(x, y),
                          {.batch_size = 10, .shuffle = true, .seed = seed});
  for (int epoch = 0; epoch < 3; ++epoch)
    for (auto [u, v] : loader) train_step(net, opt, u, v);
  std::vector<float> all;
  for (const Tensor& p : net.parameters())
    for (float v : p.to_vector<float>()) all.push_back(v);
  return all;
}

}  // namespace

TEST_CASE("a line cannot tell XOR, a small network learns it") {
  manual_seed(1);
  const auto [x, y] = corners();
  nn::Sequential net{nn::Linear(2, 8), tanh, nn::Linear(8, 2)};
  nn::Linear line(2, 2);
  optim::SGD opt(net.named_parameters(), {.lr = 0.5, .momentum = 0.9});
  optim::SGD line_opt(line.named_parameters(), {.lr = 0.5, .momentum = 0.9});
  double loss = 0, line_loss = 0;
  for (int step = 0; step < 200; ++step) {
    loss = train_step(net, opt, x, y);
    line_loss = train_step(line, line_opt, x, y);
  }
  CHECK(loss < 0.01);
  CHECK(nn::accuracy(net(x), y) == 1);
  CHECK(line_loss > 0.6);
}

TEST_CASE("a hundred training steps leave no node and no byte behind") {
  Mlp net;
  optim::Adam opt(net.named_parameters());
  const auto [x, y] = corners();
  for (int step = 0; step < 5; ++step) train_step(net, opt, x, y);
  const MemoryStats before = memory_stats();
  for (int step = 0; step < 100; ++step) {
    train_step(net, opt, x, y);
    const MemoryStats now = memory_stats();
    REQUIRE(now.live_nodes == before.live_nodes);
    REQUIRE(now.live_storages == before.live_storages);
    REQUIRE(now.live_bytes == before.live_bytes);
  }
  if (!kBypassesCache) CHECK(memory_stats().system_allocations == before.system_allocations);
}

TEST_CASE("the same seed gives the same bits, on any number of threads") {
  const std::vector<float> once = trained(3);
  CHECK(trained(3) == once);
  CHECK(trained(4) != once);
  const NumThreads other(num_threads() == 1 ? 2 : 1);
  CHECK(trained(3) == once);
}

TEST_CASE("a program as short as a README's trains") {
  struct Net : nn::Module {
    nn::Linear fc1 = register_module("fc1", nn::Linear(1, 32));
    nn::Linear fc2 = register_module("fc2", nn::Linear(32, 1));
    Tensor forward(const In& x) const override { return fc2(tanh(fc1(x))); }
  };
  manual_seed(1);
  const Tensor x = linspace(-3, 3, 256).reshape({256, 1}), y = sin(x);
  auto [train, test] = data::split(data::TensorDataset(x, y), {0.75, 0.25}, 1);
  data::DataLoader loader(train, {.batch_size = 32, .shuffle = true, .seed = 1});

  Net net;
  optim::Adam opt(net.named_parameters(), {.lr = 0.01});
  opt.group("*.bias").weight_decay = 0;
  optim::Scheduler schedule(opt, optim::schedule::exponential(0.98));
  for (int epoch = 0; epoch < 60; ++epoch) {
    for (auto [u, v] : loader) {
      opt.zero_grad();
      Tensor loss = nn::mse_loss(net(u), v);
      loss.backward();
      opt.step();
    }
    schedule.step();
  }
  NoGradGuard no_grad;
  const data::Batch held_out = data::batch(test, arange(test.size()));
  CHECK(nn::mse_loss(net(held_out.x), held_out.y).item() < 0.005);  // y's variance is about 0.5
}
