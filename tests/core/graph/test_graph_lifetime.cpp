#include <exception>
#include <functional>
#include <pthread.h>
#include <stdexcept>

#include "graph.hpp"

using namespace descent;

// When what the graph holds goes away, and on how much stack.

namespace {

/// Runs f in a thread with a stack of 256 KiB, and 16 KiB more under a sanitizer.
void on_small_stack(const std::function<void()>& f) {
  struct Call {
    const std::function<void()>& f;
    std::exception_ptr error = nullptr;
  } call{f};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes,
                            (256 + (kAddressSanitizer || kThreadSanitizer ? 16 : 0)) * 1024);
  auto run = [](void* argument) -> void* {
    auto* c = static_cast<Call*>(argument);
    try {
      c->f();
    } catch (...) { c->error = std::current_exception(); }
    return nullptr;
  };
  pthread_t thread;
  REQUIRE(pthread_create(&thread, &attributes, run, &call) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  if (call.error) std::rethrow_exception(call.error);
}

Tensor chain(Tensor y, int64_t length) {
  while (length-- > 0) y = y + 1.0;
  return y;
}
constexpr int64_t kLong = 100'000;  // any recursion overflows: below 3 bytes of stack per op

Tensor tree(const Tensor& x, int levels) {
  return levels == 0 ? x * 1.0 : tree(x, levels - 1) + tree(x, levels - 1);
}

}  // namespace

TEST_CASE("a million ops, one after the other or side by side, need no deep stack") {
  const Live before;
  on_small_stack([] {
    const Tensor x = tensor(1.).requires_grad_();
    chain(x, 1'000'000).backward();
    CHECK(x.grad().item() == 1);
    const Tensor sum = tree(x, 20);
    CHECK(sum.item() == 1 << 20);
    x.zero_grad();
    sum.backward();
    CHECK(x.grad().item() == 1 << 20);
  });
  on_small_stack([] {
    const Tensor x = tensor(1.).requires_grad_();
    Tensor total = x * 1.0;
    for (int i = 1; i < 1'000'000; ++i) total = total + x * 1.0;
    total.backward();
    CHECK(x.grad().item() == 1'000'000);
    x.zero_grad();
    std::vector<Tensor> siblings;
    for (int64_t i = 0; i < kLong; ++i) siblings.push_back(x * 1.0);
    stack(siblings).sum().backward();
    CHECK(x.grad().item() == kLong);
  });
  CHECK(Live() == before);
}

TEST_CASE("a long chain is freed without recursion, whoever held it last") {
  const Live before;
  on_small_stack([] {
    const Tensor x = leaf({1}), w = leaf({1});
    Tensor link = x * 1.0;  // each link is held by the next one's saved tensor alone
    for (int64_t i = 0; i < kLong; ++i)
      link = mine(w, [link](const Tensor& g) { return link.defined() ? g : Tensor(); });
    link = {};
    {
      const Tensor hooked = w * 1.0;
      hooked.register_hook([y = chain(x, kLong)](const Tensor&) { return y * 0; });
    }
    std::vector<Tensor> kept{x * 1.0};
    for (int64_t i = 0; i < kLong; ++i) kept.push_back(kept.back() + 1.0);
    kept.clear();
  });
  CHECK(Live() == before);
}

TEST_CASE("every op gives back its nodes, storages and bytes") {
  using Op = Tensor (*)(const Tensor&);
  const Op ops[] = {
      [](const Tensor& x) { return x + x; },
      [](const Tensor& x) { return x / (x + 1.0); },
      [](const Tensor& x) { return exp(x) * log(x) + tanh(relu(x)); },
      [](const Tensor& x) { return matmul(x, x.t()); },
      [](const Tensor& x) { return linear(x, x); },
      [](const Tensor& x) { return log_softmax(x, 0) + softmax(x.t(), 1).t(); },
      [](const Tensor& x) {
        return cat({x, x.narrow(0, 1, 1)});
      },
      [](const Tensor& x) {
        return stack({x.select(0, 0), mean(x, 0)});
      },
      [](const Tensor& x) {
        return index_select(x, 1, tensor({1, 0, 1}));
      },
      [](const Tensor& x) { return where(x > 2.0, x, x * 2); },
      [](const Tensor& x) {
        return x.expand({5, 2, 3}).permute({1, 0, 2}).reshape({-1});
      },
      [](const Tensor& x) { return var(x, 1) + norm(x, 1) + max(x, 1) + logsumexp(x, 1); },
      [](const Tensor& x) {
        return nn::cross_entropy(x, tensor({0, 2}));
      },
      [](const Tensor& x) { return grad({(x * x * x).sum()}, {x}, {.create_graph = true})[0]; },
  };
  const Tensor x = tensor({{1., 2., 3.}, {4., 5., 6.}}).requires_grad_();
  for (const Op& op : ops) {
    CAPTURE(&op - ops);
    const Live before;
    op(x);
    CHECK(Live() == before);
    op(x).sum().backward();
    x.zero_grad();
    CHECK(Live() == before);
  }
}

TEST_CASE("an exception during forward or backward leaves nothing behind") {
  const Tensor x = leaf({1, 2});
  const Live before;
  CHECK(refusal<ShapeError>([&] { exp(x * x) + log(x).reshape({3}); }) ==
        "reshape: [2] has 2 elements: shape [3] does not hold them: need sizes of at least 0, of "
        "which one may be -1 if the others determine it");
  CHECK(Live() == before);
  auto failing = [](const Tensor& g) -> Tensor {
    if (g.numel() == 2) throw std::runtime_error("in a derivative");
    return g;
  };
  for (bool first : {true, false}) {
    const Tensor side = exp(x) * x, broken = mine(x * x, failing);
    CHECK_THROWS_AS((first ? broken + side : side + broken).sum().backward(), std::runtime_error);
  }
  x.zero_grad();
  CHECK(Live() == before);
  (x * x).sum().backward();  // and the leaf is free again
  CHECK(values(x.grad()) == Values{2, 4});
}
