#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <future>
#include <thread>

#include "graph.hpp"
#include "inject.hpp"

using namespace descent;

// Walks that meet: in another thread, in a hook, in a result.

namespace {

bool close(const Values& a, const Values& b) {
  bool all = a.size() == b.size();
  for (std::size_t i = 0; all && i < a.size(); ++i) all = std::abs(a[i] - b[i]) < 1e-5;
  return all;
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
        wrong += values(g) != Values{1, 1, 1, 1};
      } catch (const GraphError& e) {
        ++refused;
        const std::string text = e.what();
        wrong += text.find("another thread") == std::string::npos;
      }
  };
  std::thread other(walk);
  walk();
  other.join();
  CHECK(done + refused == 600);
  CHECK(done > 0);
  CHECK(wrong == 0);
  loss.backward();  // nothing is left of them
  CHECK(values(x.grad()) == Values{1, 1, 1, 1});
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
    CHECK(close(values(g), {2 * std::exp(1.), 2 * std::exp(2.)}));
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
  CHECK(values(x.grad()) == Values{16});
  CHECK(refused ==
        "grad: another thread's backward is passing through mul [1] now: run them one after the "
        "other");
  CHECK(allowed == "nothing was thrown");
  CHECK(values(grad({other}, {x})[0]) == Values{200});
}

TEST_CASE("a walk in a hook of the same thread passes where the outer one waits") {
  const Tensor x = leaf({1}), a = x * 2.0, b = a * 3.0, c = a * 5.0, loss = sum(b + c);
  const Tensor other = sum(a * 100.0);
  Values inside;
  std::string elsewhere;
  int hooks = 0;
  const auto hook = [&](const Tensor&) -> Tensor {
    if (++hooks > 1) return {};  // of the inner one
    inside = values(grad({other}, {x}, {.retain_graph = true})[0]);
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
  CHECK(inside == Values{200});
  CHECK(elsewhere ==
        "grad: another thread's backward is passing through mul [1] now: run them one after the "
        "other");
  CHECK(values(x.grad()) == Values{16});
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
    CHECK(values(g[0]) == Values{10, 20});
    CHECK(values(g[1]) == Values{1, 2});
    CHECK(values(outer) == Values{1, 2});
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
        CHECK(values(g[j]) == (j <= i ? Values{10, 20} : Values{1, 2}));
    }
    CHECK(values(outer) == Values{1, 2});
    const Tensor all = leaf({1, 2, 3});
    const Tensor ones_again = grad({all.sum()}, {all}, {.create_graph = create_graph})[0];
    NoGradGuard no_grad;
    ones_again += 1;  // not one element that is expanded
    CHECK(values(ones_again) == Values{2, 2, 2});
  }
  const Tensor x = leaf({3});
  const Tensor first = grad({(x * x * x).sum()}, {x}, {.create_graph = true})[0];
  CHECK(values(grad({first}, {x})[0]) == Values{18});
}

TEST_CASE("a gradient that is set comes without its graph") {
  const int64_t before = memory_stats().live_nodes;
  {
    const Tensor x = leaf({1, 2});
    x.set_grad(x * 3.0);
    CHECK_FALSE(x.grad().requires_grad());
    CHECK(values(x.grad()) == Values{3, 6});
  }
  CHECK(memory_stats().live_nodes == before);
}

TEST_CASE("a leaf whose dtype changes while its gradient is on the way refuses it") {
  const Tensor x = leaf({1, 2});
  x.register_hook([&](const Tensor&) -> Tensor {
    x.set_data(x.detach().to(float64));
    return {};
  });
  CHECK(refusal<GraphError>([&] { (x * 2.0).sum().backward(); }) ==
        "backward: a gradient float32 [2] arrives at a leaf that has become float64 [2] meanwhile: "
        "convert it before the forward pass");
  CHECK_FALSE(x.grad().defined());
  const Tensor y = leaf({1, 2}), product = (y * 2.0).sum();
  y.set_data(y.detach().to(float64));  // before the walk has begun
  CHECK(refusal<GraphError>([&] { product.backward(); }) ==
        "backward: a gradient float32 [2] arrives at a leaf that has become float64 [2] meanwhile: "
        "convert it before the forward pass");
}

TEST_CASE("set_data copies a value, or takes over a temporary, and leaves all else as it was") {
  const int64_t before = memory_stats().live_storages;
  {
    const Tensor x = leaf({1, 2}), value = tensor({3.0, 4.0, 5.0}, float64), handle = x;
    const Tensor v = value.clone().requires_grad_(), y = (v * v).sum();
    x.set_data(value);
    x.set_data(v);
    CHECK(values(handle) == Values{3, 4, 5});
    CHECK(x.dtype() == float64);
    x.detach().fill_(7);
    CHECK(values(value) == Values{3, 4, 5});
    y.backward();  // which has saved v
    CHECK(values(v.grad()) == Values{6, 8, 10});
    (x * 2.0).sum().backward();
    CHECK(values(x.grad()) == Values{2, 2, 2});
    x.set_data(x);
    CHECK(values(x) == Values{7, 7, 7});

    const int64_t storages = memory_stats().live_storages;
    x.set_data(tensor({1.0, 2.0}));
    CHECK(memory_stats().live_storages == storages);
    CHECK(refusal<DtypeError>([&] {
            x.set_data(tensor({1, 2}));
          }) == "set_data: a parameter gets int64: need a floating dtype");
    CHECK(refusal<ValueError>([&] { x.set_data(Tensor()); }) ==
          "set_data: this tensor is undefined (as a gradient is before backward())");
    const Tensor result = x * 2.0;
    CHECK(refusal<GraphError>([&] { result.set_data(value); }) ==
          "set_data: the result of an op is not a leaf: detach() it");
    CHECK(values(x) == Values{1, 2});
  }
  CHECK(memory_stats().live_storages == before);
}

TEST_CASE("what has no gradient says why") {
  const Tensor x = leaf({1, 2});
  Tensor w = x - 0.1;
  CHECK(refusal<GraphError>([&] { w.grad(); }) ==
        "grad: this tensor [2] is the result of sub, and only leaves keep a gradient: change a "
        "parameter in place, under NoGradGuard (w -= ...), or detach() it");
  CHECK(refusal<ValueError>([&] { x.grad().item(); }) ==
        "item: this tensor is undefined (as a gradient is before backward())");
  CHECK(refusal<ValueError>([&] { 0.1 * x.grad(); }) ==
        "mul: an input is an undefined tensor (as a gradient is before backward())");
  {
    NoGradGuard no_grad;
    CHECK(refusal<GraphError>([&] { (x * x).sum().backward(); }) ==
          "backward: tensor [] has no graph: recording is off here (NoGradGuard)");
  }
  Tensor hidden = tensor({0., 0.});
  CHECK(refusal<GraphError>([&] {
          for (int step = 0; step < 2; ++step) {
            hidden = tanh(hidden * x);
            hidden.sum().backward();
          }
        }) ==
        "backward: a second time through tanh, whose saved tensors are gone: pass retain_graph the "
        "first time, or detach() what one step hands to the next");
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
    std::vector<Values> all;
    for (const Tensor& x : w) all.push_back(values(x.grad()));
    return all;
  };
  const auto forget = [&] {
    for (const Tensor& x : w) x.zero_grad();
  };
  loss().backward();
  const std::vector<Values> expected = gradients();
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
