#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>
#include <future>
#include <string>
#include <thread>

#include "descent/core/autograd/backward.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/arithmetic.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/pointwise.hpp"
#include "descent/core/ops/reduction.hpp"
#include "descent/core/ops/view.hpp"

#include "inject.hpp"

using namespace descent;

// Walks that meet: in another thread, in a hook, in a result.

namespace {

using Doubles = std::vector<double>;
Doubles doubles(const Tensor& x) { return x.to_vector<double>(); }

Tensor leaf(std::initializer_list<double> values) { return tensor(values).requires_grad_(); }

bool close(const Doubles& a, const Doubles& b) {
  bool all = a.size() == b.size();
  for (std::size_t i = 0; all && i < a.size(); ++i) all = std::abs(a[i] - b[i]) < 1e-5;
  return all;
}

/// The text of the E that f throws.
template <class E, class F> std::string refusal(F f) {
  try {
    f();
  } catch (const E& e) { return e.what(); }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("two threads may walk one graph at once: each gradient counts whole, or is refused") {
  const Tensor x = leaf({1, 1, 1, 1});
  Tensor y = x;
  for (int i = 0; i < 100; ++i) y = y * 0.5 + y * 0.5;
  const Tensor loss = y.sum();
  std::atomic<int> ready = 0, done = 0, refused = 0, wrong = 0;
  const auto walk = [&] {
    ++ready;
    while (ready < 2) std::this_thread::yield();
    for (int i = 0; i < 300; ++i) try {
        const Tensor g = grad({loss}, {x}, {.retain_graph = true})[0];
        ++done;
        wrong += doubles(g) != Doubles{1, 1, 1, 1};
      } catch (const GraphError& e) {
        ++refused;
        const std::string text = e.what();
        wrong += text.find("another thread") == std::string::npos &&
                 text.find("another backward") == std::string::npos;
      }
  };
  std::thread other(walk);
  walk();
  other.join();
  CHECK(done + refused == 600);
  CHECK(done > 0);
  CHECK(wrong == 0);
  loss.backward();  // nothing is left of them
  CHECK(doubles(x.grad()) == Doubles{1, 1, 1, 1});
}

TEST_CASE("a walk finds in order what another thread's walk left, whose owner has gone") {
  for (int round = 0; round < 20; ++round) {
    const Tensor x = leaf({1, 2});
    Tensor trunk = exp(x * 1.0), mine = (trunk * 2.0).sum(), other = (trunk * 3.0).sum();
    trunk = Tensor();
    std::atomic<bool> gone = false;
    std::thread walker([&] {
      grad({other}, {x}, {.retain_graph = true});
      other = Tensor();
      gone.store(true, std::memory_order_relaxed);  // which orders nothing
    });
    while (!gone.load(std::memory_order_relaxed)) {}
    const Tensor g = grad({mine}, {x})[0];
    walker.join();
    CHECK(close(doubles(g), {2 * std::exp(1.), 2 * std::exp(2.)}));
  }
}

TEST_CASE("a walk that another thread begins in a hook is refused where the two meet") {
  const Tensor x = leaf({1}), a = x * 2.0, b = a * 3.0, c = a * 5.0, loss = sum(b + c);
  const Tensor apart = sum(leaf({1}) * 7.0), other = sum(a * 100.0);
  int hooks = 0;
  std::string refused, allowed;
  const auto hook = [&](const Tensor&) -> Tensor {
    if (++hooks < 2) return {};  // now a has the half of its gradient
    const auto elsewhere = [](auto f) {
      return std::async(std::launch::async, [f] { return refusal<GraphError>(f); }).get();
    };
    refused = elsewhere([&] { grad({other}, {a}, {.retain_graph = true}); });
    allowed = elsewhere([&] { apart.backward(); });
    return {};
  };
  b.register_hook(hook);
  c.register_hook(hook);
  loss.backward({}, true);
  CHECK(doubles(x.grad()) == Doubles{16});
  CHECK(
      refused.starts_with("grad: another thread's backward is passing through mul now: run them "
                          "one after the other (test_backward.cpp:"));
  CHECK(allowed == "nothing was thrown");
  CHECK(doubles(grad({other}, {x})[0]) == Doubles{200});
}

TEST_CASE("a walk in a hook of the same thread passes where the outer one waits") {
  const Tensor x = leaf({1}), a = x * 2.0, b = a * 3.0, c = a * 5.0, loss = sum(b + c);
  const Tensor other = sum(a * 100.0);
  Doubles inside;
  std::string elsewhere;
  int hooks = 0;
  const auto hook = [&](const Tensor&) -> Tensor {
    if (++hooks > 1) return {};  // of the inner one
    inside = doubles(grad({other}, {x}, {.retain_graph = true})[0]);
    // The outer one still waits there, and other threads still keep away.
    elsewhere = std::async(std::launch::async, [&] {
                  return refusal<GraphError>([&] { grad({other}, {a}, {.retain_graph = true}); });
                }).get();
    return {};
  };
  (b + c).sum().backward({}, true);
  x.zero_grad();
  a.register_hook(hook);
  loss.backward({}, true);
  CHECK(inside == Doubles{200});
  CHECK(elsewhere.starts_with("grad: another thread's backward is passing through mul now"));
  CHECK(doubles(x.grad()) == Doubles{16});
}

TEST_CASE("a hook that changes its gradient in place changes nobody else's, in either mode") {
  for (const bool create_graph : {false, true}) {
    CAPTURE(create_graph);
    const Tensor a = leaf({1, 1}), b = leaf({1, 1}), outer = tensor({1., 2.});
    a.register_hook([](const Tensor& g) -> Tensor {
      g *= 10;
      return {};
    });
    const auto g = grad({a + b}, {a, b}, {.create_graph = create_graph}, {outer});
    CHECK(doubles(g[0]) == Doubles{10, 20});
    CHECK(doubles(g[1]) == Doubles{1, 2});
    CHECK(doubles(outer) == Doubles{1, 2});
  }
}

TEST_CASE("what grad returns shares elements with nothing else that it returned or was given") {
  for (const bool create_graph : {false, true}) {
    CAPTURE(create_graph);
    const Tensor a = leaf({1, 1}), b = leaf({1, 1}), outer = tensor({1., 2.}), middle = a + b;
    const auto g = grad({middle + 1.0}, {a, b, a, middle}, {.create_graph = create_graph}, {outer});
    for (std::size_t i = 0; i < g.size(); ++i) {
      NoGradGuard no_grad;
      g[i] *= 10;
      for (std::size_t j = 0; j < g.size(); ++j)
        CHECK(doubles(g[j]) == (j <= i ? Doubles{10, 20} : Doubles{1, 2}));
    }
    CHECK(doubles(outer) == Doubles{1, 2});
    const Tensor all = leaf({1, 2, 3});
    const Tensor ones_again = grad({all.sum()}, {all}, {.create_graph = create_graph})[0];
    NoGradGuard no_grad;
    ones_again += 1;  // not one element that is expanded
    CHECK(doubles(ones_again) == Doubles{2, 2, 2});
  }
  const Tensor x = leaf({3});
  const Tensor first = grad({(x * x * x).sum()}, {x}, {.create_graph = true})[0];
  CHECK(doubles(grad({first}, {x})[0]) == Doubles{18});
}

TEST_CASE("a gradient that is set comes without its graph") {
  const int64_t before = memory_stats().live_nodes;
  {
    const Tensor x = leaf({1, 2});
    x.set_grad(x * 3.0);
    CHECK_FALSE(x.grad().requires_grad());
    CHECK(doubles(x.grad()) == Doubles{3, 6});
  }
  CHECK(memory_stats().live_nodes == before);
}

TEST_CASE("a leaf whose dtype changes while its gradient is on the way refuses it") {
  const Tensor x = leaf({1, 2});
  x.register_hook([&](const Tensor&) -> Tensor {
    x.set_data(x.detach().to(float64));
    return {};
  });
  CHECK(
      refusal<GraphError>([&] { (x * 2.0).sum().backward(); })
          .starts_with("backward: a gradient float32 [2] arrives at a leaf that has become float64 "
                       "[2] meanwhile: convert it before the forward pass (test_backward.cpp:"));
  CHECK_FALSE(x.grad().defined());
  const Tensor y = leaf({1, 2}), product = (y * 2.0).sum();
  y.set_data(y.detach().to(float64));  // before the walk has begun
  CHECK(refusal<GraphError>([&] { product.backward(); })
            .starts_with("backward: a gradient float32 [2] arrives at a leaf that has become "
                         "float64 [2] meanwhile"));
}

TEST_CASE("set_data takes over a value, which stays as it was") {
  const int64_t before = memory_stats().live_storages;
  {
    const Tensor x = leaf({1, 2}), value = tensor({3.0, 4.0, 5.0}, float64), handle = x;
    x.set_data(value);
    CHECK(doubles(value) == Doubles{3, 4, 5});
    CHECK(doubles(handle) == Doubles{3, 4, 5});
    CHECK(x.dtype() == float64);
    value.fill_(7);  // shared
    CHECK(doubles(x) == Doubles{7, 7, 7});
    (x * 2.0).sum().backward();
    CHECK(doubles(x.grad()) == Doubles{2, 2, 2});
    x.set_data(x);
    CHECK(doubles(x) == Doubles{7, 7, 7});
    CHECK(refusal<DtypeError>([&] {
            x.set_data(tensor({1, 2}));
          }).starts_with("set_data: a parameter gets int64: need a floating dtype"));
    CHECK(refusal<ValueError>([&] { x.set_data(Tensor()); }).starts_with("set_data: this tensor"));
    CHECK(doubles(x) == Doubles{7, 7, 7});
  }
  CHECK(memory_stats().live_storages == before);
}

TEST_CASE("what has no gradient says why") {
  const Tensor x = leaf({1, 2});
  Tensor w = x - 0.1;
  CHECK(refusal<GraphError>([&] { w.grad(); })
            .starts_with("grad: this tensor [2] is the result of sub, and only leaves keep a "
                         "gradient: change a parameter in place, under NoGradGuard (w -= ...), or "
                         "detach() it (test_backward.cpp:"));
  CHECK(refusal<ValueError>([&] {
          x.grad().item();
        }).starts_with("item: this tensor is undefined (as a gradient is before backward())"));
  CHECK(refusal<ValueError>([&] { 0.1 * x.grad(); })
            .starts_with("mul: an input is an undefined tensor (as a gradient is before "
                         "backward())"));
  {
    NoGradGuard no_grad;
    CHECK(refusal<GraphError>([&] {
            (x * x).sum().backward();
          }).starts_with("backward: tensor [] has no graph: recording is off here (NoGradGuard)"));
  }
  Tensor hidden = tensor({0., 0.});
  CHECK(
      refusal<GraphError>([&] {
        for (int step = 0; step < 2; ++step) {
          hidden = tanh(hidden * x);
          hidden.sum().backward();
        }
      })
          .starts_with("backward: a second time through tanh, whose saved tensors are gone: pass "
                       "retain_graph the first time, or detach() what one step hands to the next"));
}

TEST_CASE("a walk that finds no memory leaves nothing that the next one stumbles over") {
  constexpr std::size_t kLeaves = 40;  // more than a walk makes room for at first
  std::vector<Tensor> w;
  for (std::size_t i = 0; i < kLeaves; ++i) w.push_back(leaf({1, 2}));
  const Tensor inner = leaf({1});
  const auto loss = [&] {
    Tensor all = w[0] * 1.0;
    for (std::size_t i = 1; i < kLeaves; ++i) all = all + w[i] * 1.0;
    all.register_hook([&](const Tensor& g) -> Tensor {  // while others wait in the outer walk
      EnableGradGuard enable;
      return g * grad({inner * 2.0}, {inner})[0];
    });
    return (all * all.detach()).sum();
  };
  const auto gradients = [&] {
    std::vector<Doubles> all;
    for (const Tensor& x : w) all.push_back(doubles(x.grad()));
    return all;
  };
  const auto forget = [&] {
    for (const Tensor& x : w) x.zero_grad();
  };
  loss().backward();
  const std::vector<Doubles> expected = gradients();
  const auto fails_everywhere = [&](auto walk) {
    const inject::Watch watch;
    int64_t failed = 0;
    for (int64_t k = 1;; ++k) {
      CAPTURE(k);
      const int64_t before = memory_stats().live_nodes;
      {
        const Tensor now = loss();
        const int outcome = inject::fails(k, [&] { walk(now); });
        if (outcome == 0) break;
        failed += outcome == 1;
      }
      forget();
      CHECK(memory_stats().live_nodes == before);
      loss().backward();
      CHECK(gradients() == expected);
      forget();
    }
    return failed;
  };
  forget();
  int64_t failed = fails_everywhere([](const Tensor& now) { now.backward(); });
  CHECK(failed > 100);
  forget();
  failed = fails_everywhere([&](const Tensor& now) { grad({now}, w, {.create_graph = true}); });
  CHECK(failed > 200);
  std::printf("injected: %ld failures in backward and grad\n", static_cast<long>(inject::failures));
}
