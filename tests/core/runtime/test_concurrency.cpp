#include <atomic>
#include <optional>
#include <thread>

#include "support.hpp"

using namespace descent;

namespace {

template <class F> void in_threads(int count, F f) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([f, i] { f(i); });
  for (std::thread& thread : threads) thread.join();
}

nn::Sequential mlp(int64_t in, int64_t hidden, int64_t out, uint64_t seed) {
  manual_seed(seed);
  return {nn::Linear(in, hidden), relu, nn::Linear(hidden, out)};
}

/// The parameters after `steps` steps on random data.
NamedTensors trained(nn::Sequential model, int64_t in, int64_t out, int steps, uint64_t seed) {
  Generator generator(seed);
  const Tensor x = randn({256, in}, float32, generator);
  const Tensor y = randint(0, out, {256}, generator);
  optim::Adam optimizer(model.named_parameters(), {.lr = 1e-2});
  for (int step = 0; step < steps; ++step) {
    const int64_t start = step % 4 * 64;
    optimizer.zero_grad();
    nn::cross_entropy(model(x.narrow(0, start, 64)), y.narrow(0, start, 64)).backward();
    optimizer.step();
  }
  return model.state_dict();
}

/// An operation whose work makes several tiles.
struct Op {
  const char* name;
  Tensor (*run)();
};
const Op ops[] = {
    {"an elementwise function", [] { return tanh(noise({1'000'000}, 1)); }},
    {"a broadcast product",
     [] {
       return noise({1000, 1000}, 2) * noise({1000, 1}, 3);
     }},
    {"a sum of all", [] { return sum(noise({1'000'000}, 4)); }},
    {"a sum of columns",
     [] {
       return sum(noise({4000, 250}, 5), 0);
     }},
    {"a matrix product",
     [] {
       return matmul(noise({512, 512}, 6), noise({512, 512}, 7));
     }},
    {"log_softmax",
     [] {
       return log_softmax(noise({4096, 100}, 8));
     }},
    {"index_select",
     [] {
       Generator generator(9);
       return index_select(noise({5000, 64}, 10), 0, randint(0, 5000, {20'000}, generator));
     }},
    {"an optimizer's step",
     [] {
       const Tensor theta = noise({1'000'000}, 11).requires_grad_();
       theta.set_grad(noise({1'000'000}, 12));
       optim::Adam optimizer({{"theta", theta}});
       optimizer.step();
       optimizer.step();
       return theta.detach();
     }},
    {"the gradients of a layer",
     [] {
       const Tensor w = noise({256, 512}, 13).requires_grad_();
       const Tensor b = noise({256}, 14).requires_grad_();
       linear(noise({1024, 512}, 15), w, b).backward(noise({1024, 256}, 16));
       return w.grad() + b.grad().unsqueeze(1);
     }},
};

}  // namespace

TEST_CASE("operations of many tiles give the same bits on 1, 2, 3 and 8 threads") {
  for (const Op& op : ops) {
    CAPTURE(op.name);
    same_with_threads([&]() -> std::vector<Tensor> { return {op.run()}; }, {2, 3, 8});
  }
}

TEST_CASE("each of these operations makes tiles of its own") {
  // Their operands are drawn in tiles too: here that is subtracted.
  NumThreads guard(2);
  const Tensor x = noise({1'000'000}, 1), square_ = noise({512, 512}, 2);
  const Tensor rows = noise({4096, 100}, 3), places = zeros({20'000}, int64);
  const Tensor theta = x.clone().requires_grad_();
  theta.set_grad(x);
  optim::Adam optimizer({{"theta", theta}});
  auto tiles = [](auto f) {
    detail::reset_pool_stats();
    f();
    return detail::pool_stats().tiles;
  };
  CHECK(tiles([&] { exp(x); }) >= 8);
  CHECK(tiles([&] { sum(x); }) >= 8);
  CHECK(tiles([&] { matmul(square_, square_); }) >= 8);
  CHECK(tiles([&] { log_softmax(rows); }) >= 8);
  CHECK(tiles([&] { index_select(rows, 0, places); }) >= 8);
  CHECK(tiles([&] { optimizer.step(); }) >= 8);
}

TEST_CASE("in parallel_for ops are recorded, and errors named, as the caller says") {
  struct Net : nn::Module {
    nn::Linear fc = register_module("fc", nn::Linear(2, 2));
    Tensor forward(const In& x) const override {
      Tensor y[2];
      std::string refused[2];
      std::atomic<int> here = 0;
      parallel_for(2, [&](int64_t t) {
        ++here;
        while (here < 2) std::this_thread::yield();  // so that both threads have one
        try {
          y[t] = fc(x);
        } catch (const ShapeError& e) { refused[t] = e.what(); }
      });
      if (!refused[0].empty()) throw std::runtime_error(refused[0] + "\n" + refused[1]);
      CHECK(y[0].requires_grad() == y[1].requires_grad());
      return y[0];
    }
  };
  struct Outer : nn::Module {
    Net net = register_module("net", Net());
    Tensor forward(const In& x) const override { return net(x); }
  };
  NumThreads guard(2);
  const Outer outer;
  const Tensor x = full({1, 2}, 1);
  CHECK(outer(x).requires_grad());
  for (int i = 0; i < 5; ++i) {
    NoGradGuard no_grad;
    CHECK_FALSE(outer(x).requires_grad());
  }
  CHECK(outer(x).requires_grad());
  const int line = __LINE__ + 2;
  try {
    outer(full({1, 3}, 1));
    FAIL("three columns do not fit");
  } catch (const std::runtime_error& e) {
    const std::string both = e.what(), first = both.substr(0, both.find('\n'));
    const std::string place = "(test_concurrency.cpp:" + std::to_string(line) + ", in net.fc)";
    CHECK_MESSAGE(first.ends_with(place), first);
    CHECK(both == first + "\n" + first);
  }
}

TEST_CASE("a hundred training steps give the same bits on 1, 2, 3 and 8 threads") {
  auto train = [](int threads) {
    NumThreads guard(threads);
    return trained(mlp(784, 128, 10, 1), 784, 10, 100, 2);
  };
  const NamedTensors serial = train(1);
  CHECK_FALSE(same_bits(serial, mlp(784, 128, 10, 1).state_dict()));
  for (int threads : {2, 3, 8}) {
    CAPTURE(threads);
    CHECK(same_bits(train(threads), serial));
  }
}

TEST_CASE("several threads may call one model at once") {
  const nn::Sequential model = mlp(64, 300, 10, 3);
  std::vector<Tensor> inputs, serial, parallel(4);
  for (uint64_t i = 0; i < 4; ++i) {
    inputs.push_back(noise({200, 64}, i));
    serial.push_back(model(inputs.back()));
  }
  NumThreads guard(2);
  std::atomic<int> different = 0;
  in_threads(4, [&](int i) {
    const auto k = static_cast<std::size_t>(i);
    for (int round = 0; round < 20; ++round) {
      different += !same_bits(model(inputs[k]), serial[k]);
      NoGradGuard no_grad;
      different += !same_bits(model(inputs[k]), serial[k]);
    }
    parallel[k] = model(inputs[k]);  // a graph that another thread walks
  });
  CHECK(different == 0);
  auto gradients = [&](const std::vector<Tensor>& outputs) {
    NamedTensors all;
    for (const Tensor& y : outputs) y.sum().backward();
    for (const auto& [name, p] : model.named_parameters()) all.emplace_back(name, p.grad());
    model.zero_grad();
    return all;
  };
  CHECK(same_bits(gradients(parallel), gradients(serial)));
}

TEST_CASE("models trained in threads of their own get the bits of a serial run") {
  NumThreads guard(3);
  std::vector<nn::Sequential> models;
  std::vector<NamedTensors> serial, parallel(3);
  for (uint64_t i = 0; i < 3; ++i) serial.push_back(trained(mlp(50, 200, 5, i), 50, 5, 30, i));
  for (uint64_t i = 0; i < 3; ++i) models.push_back(mlp(50, 200, 5, i));
  in_threads(3, [&](int i) {
    const auto k = static_cast<std::size_t>(i);
    parallel[k] = trained(models[k], 50, 5, 30, k);
  });
  for (std::size_t i = 0; i < 3; ++i) CHECK(same_bits(parallel[i], serial[i]));
  CHECK_FALSE(same_bits(serial[0], serial[1]));
}

TEST_CASE("two backwards into one leaf at once both count, or one of them is refused") {
  const Tensor x = full({1000}, 1).requires_grad_();
  std::atomic<int> done = 0, refused = 0, wrong = 0;
  in_threads(4, [&](int) {
    for (int round = 0; round < 200; ++round) {
      const Tensor y = (x * 1.0 + x * 2.0).sum();
      try {
        y.backward();
        ++done;
      } catch (const GraphError& e) {
        ++refused;
        wrong += std::string(e.what()).rfind(
                     "backward: another thread's backward is passing through leaf [1000] now: run "
                     "them one after the other (test_",
                     0) != 0;
      }
    }
  });
  CHECK(done + refused == 800);
  CHECK(done > 0);
  CHECK(wrong == 0);
  CHECK(same_bits(x.grad(), full({1000}, 3.0 * done)));
}

TEST_CASE("a leaf that a backward is using refuses another one, and is free afterwards") {
  const Tensor x = full({3}, 1).requires_grad_();
  const Tensor y = x * 2.0;
  int refused = 0;
  y.register_hook([&](const Tensor&) -> Tensor {
    std::thread([&] {
      try {
        (x * 1.0).sum().backward();
      } catch (const GraphError&) { ++refused; }
    }).join();
    return {};
  });
  (y.sum() * x).sum().backward();  // x has its first gradient when y's hook runs
  CHECK(refused == 1);
  (x * 1.0).sum().backward();
  CHECK(same_bits(x.grad(), full({3}, 13)));
}

/// Each kind of layer that has buffers, draws numbers in training, or keeps what it computed.
struct Mixed : nn::Module {
  nn::Parametrized conv = register_module("conv", spectral_norm(nn::Conv2d(2, 4, 3)));
  nn::BatchNorm2d norm = register_module("norm", nn::BatchNorm2d(4));
  nn::Dropout2d drop = register_module("drop", nn::Dropout2d(0.5));
  nn::Parametrized linear = register_module("linear", weight_norm(nn::Linear(9, 8)));
  nn::MultiheadAttention attention =
      register_module("attention", nn::MultiheadAttention(8, 2, {.dropout = 0.5}));
  nn::TransformerEncoder encoder =
      register_module("encoder", nn::TransformerEncoder(2, 8, 2, {.dim_feedforward = 16}));
  nn::LSTM lstm = register_module(
      "lstm", nn::LSTM(8, 6, {.num_layers = 2, .dropout = 0.5, .bidirectional = true}));
  nn::GRU gru = register_module("gru", nn::GRU(12, 5));
  nn::RNN rnn = register_module("rnn", nn::RNN(5, 5));
  nn::Linear last = register_module("last", nn::Linear(5, 3));
  nn::Dropout drop_last = register_module("drop_last", nn::Dropout(0.5));
  Tensor forward(const In& x) const override {
    const Tensor pages = max_pool2d(relu(norm(drop(conv(x)))), 2);  // [N, 4, 3, 3]
    const Tensor steps = linear(flatten(pages, 2)).transpose(0, 1);
    const Tensor seen = encoder(attention(steps, steps, steps, {.causal = true}), {});
    return drop_last(last(rnn(gru(lstm(seen).output).output).output));
  }
};

TEST_CASE("a model in evaluation mode can be called by several threads at once") {
  manual_seed(1);
  Mixed net;
  (void)net(randn({32, 2, 8, 8}));  // the statistics of one batch
  net.eval();
  const Tensor x = randn({40, 2, 8, 8}), outer = randn({4, 40, 3}), alone = net(x);
  auto slope = [&](const Tensor& y, const Tensor& at) { return grad({y}, {at}, {}, {outer})[0]; };
  const Tensor leaf = x.clone().requires_grad_(), slope_alone = slope(net(leaf), leaf);
  NumThreads guard(2);
  std::atomic<int> wrong = 0;
  in_threads(4, [&](int i) {
    for (int round = 0; round < 10; ++round) {
      if (i == 0) {  // refused where the weight is there already
        wrong += refusal<ShapeError>([&] { net(zeros({1, 3, 8, 8})); }) == kNothingThrown;
      } else if (i == 1) {
        const Tensor at = x.clone().requires_grad_();
        wrong += !same_bits(slope(net(at), at), slope_alone);
      }
      std::optional<NoGradGuard> none;
      if (i % 2 == 0) none.emplace();
      wrong += !same_bits(net(x), alone);
    }
  });
  CHECK(wrong == 0);
}
