// Single operations, with one thread and with all.
#include "bench.hpp"

namespace bench { namespace {

void elementwise(const Run& run, int64_t n) {
  const Tensor x = randn({n}), y = randn({n}), out = zeros({n});
  const auto elements = static_cast<double>(n);
  auto line = [&](const char* name, double bytes, const std::function<void()>& f) {
    run.each_thread_count(name + ("_" + std::to_string(n)), "GB/s", bytes * elements / 1e9, f);
  };
  line("exp", 8, [&] { exp(x); });
  line("tanh", 8, [&] { tanh(x); });
  line("relu", 8, [&] { relu(x); });
  line("add", 12, [&] { add(x, y); });
  line("copy", 8, [&] { out.copy_(x); });
}

/// Over the last axis, as in attention and in layer normalisation.
void rows(const Run& run, int64_t n, int64_t m) {
  const Tensor x = randn({n, m}), leaf = randn({n, m}).requires_grad_(), g = randn({n, m});
  const double bytes = 8e-9 * static_cast<double>(n * m);
  const std::string size = "_" + std::to_string(n) + "x" + std::to_string(m);
  auto normalise = [](const In& t) {
    return (t - t.mean({-1}, true)) / sqrt(var(t, {-1}, true, {.correction = 0}) + 1e-5);
  };
  auto both = [&](auto f) {
    return [&, f] {
      f(leaf).backward(g);
      leaf.zero_grad();
    };
  };
  auto soft = [](const In& t) { return softmax(t); };
  run.each_thread_count("softmax" + size, "GB/s", bytes, [&] { softmax(x); });
  run.each_thread_count("softmax_both" + size, "GB/s", bytes, both(soft));
  run.each_thread_count("mean" + size, "GB/s", bytes / 2, [&] { x.mean({-1}); });
  run.each_thread_count("var" + size, "GB/s", bytes / 2, [&] { var(x, {-1}); });
  run.each_thread_count("normalise" + size, "GB/s", bytes, [&] { normalise(x); });
  run.each_thread_count("normalise_both" + size, "GB/s", bytes, both(normalise));
  auto layer = [m](const In& t) { return layer_norm(t, {m}); };
  run.each_thread_count("layer_norm" + size, "GB/s", bytes, [&] { layer(x); });
  run.each_thread_count("layer_norm_both" + size, "GB/s", bytes, both(layer));
}

void batches(const Run& run, const Shape& shape) {
  const Tensor x = randn(shape), leaf = randn(shape).requires_grad_(), g = randn(shape);
  const double bytes = 8e-9 * static_cast<double>(x.numel());
  const std::string size = "_" + std::to_string(shape[0]) + "x" + std::to_string(shape[1]);
  auto normalise = [](const In& t) {
    return batch_norm(t, Tensor(), Tensor(), Tensor(), Tensor(), {.training = true});
  };
  run.each_thread_count("batch_norm" + size, "GB/s", bytes, [&] { normalise(x); });
  run.each_thread_count("batch_norm_both" + size, "GB/s", bytes, [&] {
    normalise(leaf).backward(g);
    leaf.zero_grad();
  });
}

void micro(Run& run) {
  for (int64_t n = 16; n <= 2048; n *= 2) {
    const Tensor a = randn({n, n}), b = randn({n, n});
    const auto size = static_cast<double>(n);
    run.each_thread_count("gemm_" + std::to_string(n), "GFLOP/s", 2e-9 * size * size * size,
                          [&] { matmul(a, b); });
  }
  rows(run, 64, 10);
  rows(run, 1024, 1024);
  rows(run, 8192, 128);
  batches(run, {64, 16, 32, 32});
  batches(run, {64, 64, 32, 32});
  batches(run, {256, 256});
  for (const int64_t n : {1'000, 1'000'000, 50'000'000}) elementwise(run, n);
  if (workloads().contains("conv")) workloads()["conv"](run);
}

const Register entry{"micro", micro};

}  // namespace
}  // namespace bench
