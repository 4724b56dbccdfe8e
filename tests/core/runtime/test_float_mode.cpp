// A caller may round upward or take denormal numbers for 0: results are the same, on any number of
// threads, and its mode is its own again afterwards.
#include <atomic>

#include "support.hpp"

using namespace descent;

namespace {

#if defined(__x86_64__)

struct Mode {
  const char* name;
  unsigned bits;  // of MXCSR
};
constexpr Mode modes[] = {
    {"downward", 0x2000},        {"upward", 0x4000},
    {"towards zero", 0x6000},    {"denormal results are 0", 0x8000},
    {"denormals are 0", 0x0040}, {"upward, no denormals", 0xc040},
};
constexpr unsigned control = 0xffc0;  // all but the flags of what has happened

/// While it lives, the calling thread computes in another mode; ends with a check that it still
/// did.
struct InMode {
  unsigned before = __builtin_ia32_stmxcsr(), mine;
  explicit InMode(unsigned bits) : mine((before & control & ~0xe040U) | bits) {
    __builtin_ia32_ldmxcsr(mine);
  }
  ~InMode() {
    const unsigned after = __builtin_ia32_stmxcsr() & control;
    __builtin_ia32_ldmxcsr(before);
    CHECK(after == mine);
  }
};

/// An operation, on operands that were made before; `n` is 7 or a hundred thousand.
struct Op {
  const char* name;
  Tensor (*run)(const Tensor& x, const Tensor& rows);
};
const Op ops[] = {
    {"a scaling", [](const Tensor& x, const Tensor&) { return x * 0.1; }},
    {"a product with denormal results", [](const Tensor& x, const Tensor&) { return x * 1e-39; }},
    {"a quotient with denormal operands",
     [](const Tensor& x, const Tensor&) { return x * 1e-39 / 1e-39; }},
    {"a strided product", [](const Tensor&, const Tensor& rows) { return rows.t() * 0.1; }},
    {"a broadcast sum", [](const Tensor&, const Tensor& rows) { return rows + rows.select(0, 0); }},
    {"exp", [](const Tensor& x, const Tensor&) { return exp(x); }},
    {"pow", [](const Tensor& x, const Tensor&) { return pow(x, 3.3); }},
    {"a change in place",
     [](const Tensor& x, const Tensor&) {
       const Tensor y = x.clone();
       y *= 0.1;
       y += x;
       return y;
     }},
    {"a sum", [](const Tensor& x, const Tensor&) { return sum(x); }},
    {"a mean of columns", [](const Tensor&, const Tensor& rows) { return mean(rows, 0); }},
    {"a variance", [](const Tensor&, const Tensor& rows) { return var(rows, 1); }},
    {"softmax", [](const Tensor&, const Tensor& rows) { return softmax(rows, 1); }},
    {"cross_entropy",
     [](const Tensor&, const Tensor& rows) {
       return nn::cross_entropy(rows, zeros({rows.size(0)}, int64), {.label_smoothing = 0.1});
     }},
    {"a matrix product", [](const Tensor&, const Tensor& rows) { return matmul(rows.t(), rows); }},
    {"a product with a vector",
     [](const Tensor&, const Tensor& rows) { return matmul(rows.t(), rows.select(1, 0)); }},
    {"a convolution",
     [](const Tensor&, const Tensor& rows) {
       const Tensor image = rows.reshape({1, 7, -1, 4});
       return conv2d(image,
                     rows.narrow(0, 0, 1).narrow(1, 0, 1).expand({5, 7}).reshape({5, 7, 1, 1}));
     }},
    {"pooling",
     [](const Tensor&, const Tensor& rows) {
       return avg_pool2d(rows.reshape({1, 7, -1, 4}), {1, 3});
     }},
    {"a gather of gradients",
     [](const Tensor&, const Tensor& rows) {
       return scatter_add(rows, 0, zeros(rows.shape(), int64), rows);
     }},
    {"random numbers",
     [](const Tensor& x, const Tensor&) {
       Generator generator(5);
       return randn({x.numel()}, float32, generator);
     }},
    {"numbers from C++",
     [](const Tensor&, const Tensor&) {
       return tensor({0.1, 1e-39, 0.3}).to(float32);
     }},
    {"a range", [](const Tensor& x, const Tensor&) { return linspace(0.1, 0.9, x.numel()); }},
    {"a conversion",
     [](const Tensor& x, const Tensor&) { return (x.to(float64) / 3.0).to(float32); }},
    {"a backward",
     [](const Tensor&, const Tensor& rows) {
       const Tensor w = rows.clone().requires_grad_();
       (tanh(w) * w).mean().backward();
       return w.grad();
     }},
    {"an optimizer's steps",
     [](const Tensor& x, const Tensor&) {
       const Tensor theta = x.clone().requires_grad_();
       theta.set_grad(x * 1e-18);
       optim::Adam optimizer({{"theta", theta}});
       optimizer.step();
       theta.set_grad(x * 1e-22);
       optimizer.step();
       return theta.detach();
     }},
    {"a rule of the whole tensor",
     [](const Tensor& x, const Tensor&) {
       const Tensor theta = x.clone().requires_grad_();
       theta.set_grad(x);
       optim::LAMB optimizer({{"theta", theta}});
       optimizer.step();
       return theta.detach();
     }},
};

TEST_CASE("results do not depend on the caller's rounding or flushing, whatever the size") {
  for (const int64_t n : {7, 14'000}) {
    const Tensor rows = noise({n, 8}, 1).contiguous(), x = noise({n * 8}, 2);
    for (const Op& op : ops) {
      CAPTURE(std::string(op.name));
      CAPTURE(n);
      const Tensor expected = op.run(x, rows);
      for (const Mode& mode : modes) {
        CAPTURE(std::string(mode.name));
        for (const int threads : {1, 2, 4}) {
          CAPTURE(threads);
          NumThreads guard(threads);
          Tensor result;
          {
            const InMode in_mode(mode.bits);
            result = op.run(x, rows);
          }
          CHECK(same_bits(result, expected));
        }
      }
    }
  }
}

TEST_CASE("threads of the pool do not take over the mode of the thread that starts them") {
  NumThreads guard(3);
  const Tensor x = noise({1'000'000}, 3);
  const Tensor expected = x * 0.1;
  for (const Mode& mode : modes) {
    set_num_threads(2);
    sum(x);
    const InMode in_mode(mode.bits);
    set_num_threads(3);  // these threads start now
    for (int i = 0; i < 20; ++i) CHECK(same_bits(x * 0.1, expected));
  }
}

TEST_CASE("a parallel_for of one's own computes in the default mode in every tile") {
  const InMode in_mode(0xc040);
  for (const int threads : {1, 3}) {
    NumThreads guard(threads);
    for (const int64_t tiles : {1, 100}) {
      std::atomic<int> others = 0;
      parallel_for(tiles, [&](int64_t) {
        if ((__builtin_ia32_stmxcsr() & 0xe040) != 0) ++others;
      });
      CHECK(others == 0);
    }
  }
}

#endif

}  // namespace
