#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <doctest/doctest.h>
#include <new>

#include "optim.hpp"

// What an optimizer does besides its formula, for every rule.

using namespace descent;

namespace {
int64_t allocations = 0;
}
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace {

template <class S = double> struct SignumRule {
  S lr = 1e-3, beta = 0.9;
  static constexpr auto name = "Signum";
  static constexpr optim::Names hyper{"lr", "beta"}, state{"m"};
  template <class T> void update(T& theta, T g, T& m, S) const {
    m = beta * m + (1 - beta) * g;
    theta -= lr * sign(m);
  }
};
using Signum = optim::Optimizer<SignumRule>;

}  // namespace

TEST_CASE("two parameters move as each would in an optimizer of its own") {
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    if constexpr (std::is_same_v<Opt, optim::Polyak>)
      return;  // its step depends on all parameters of a group
    const Tensor p = matrix(3, 4, -0.5), q = matrix(4, 2, 0.25);
    const Tensor p2 = matrix(3, 4, -0.5), q2 = matrix(4, 2, 0.25);
    Opt both({{"p", p}, {"q", q}}, options), first({{"p", p2}}, options),
        second({{"q", q2}}, options);
    for (optim::OptimizerBase* opt :
         {static_cast<optim::OptimizerBase*>(&both), static_cast<optim::OptimizerBase*>(&first),
          static_cast<optim::OptimizerBase*>(&second)})
      walk(*opt, 1, 4);
    CHECK(values(p) == values(p2));
    CHECK(values(q) == values(q2));
  });
}

TEST_CASE("to maximize is to minimize the negative") {
  for_every_rule([]<class Opt>(typename Opt::Rule options) {
    const Tensor p = matrix(3, 4, -0.5), q = matrix(3, 4, -0.5);
    Opt down({{"p", p}}, options);
    options.maximize = true;
    Opt up({{"p", q}}, options);
    walk(down, 1, 6);
    walk(up, 1, 6, -1);
    CHECK(values(p) == values(q));
  });
}

TEST_CASE("a zero gradient moves nothing, and no gradient is written") {
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    const Tensor p = matrix(3, 4, 0.5);
    const Values start = values(p);
    typename Opt::Rule fixed = options;
    if constexpr (requires { fixed.lambd; }) fixed.lambd = 0;
    Opt opt({{"p", p}}, fixed);
    const Tensor g = zeros({3, 4}, float64);
    for (int t = 0; t < 3; ++t) {
      p.set_grad(g.clone());
      opt.step(tensor(0.5, float64));
    }
    CHECK(values(p) == start);
    set_gradients(opt.parameters(), 1);
    const Values before = values(p.grad());
    opt.step(tensor(1.0, float64));
    CHECK(values(p.grad()) == before);
    CHECK(values(p) != start);
  });
}

#if defined(__x86_64__)
TEST_CASE("a moment whose gradient has stopped ends at 0, not in denormal numbers") {
  for (DType dtype : {float32, float64}) {
    const Tensor p = matrix(2, 2, 0.5, dtype);
    optim::SGD opt({{"p", p}}, {.lr = 0.1, .momentum = 0.5});
    optim::Ledger ledger;
    opt.trace(ledger);
    auto velocity = [&] { return values(entry(opt.state_dict(), "SGD/p/b")); };
    const double smallest = dtype == float32 ? 0x1p-126 : 0x1p-1022;
    for (int step = 1; step <= 1100; ++step) {
      set_gradient(p, Values(4, step == 1));
      opt.step();
      for (double b : velocity()) REQUIRE((b == 0 || b >= smallest));
    }
    CHECK(velocity() == Values(4, 0));
    const int64_t last = dtype == float32 ? 128 : 1024;  // about when it is flushed
    for (int64_t step = last - 2; step <= last + 2; ++step)
      CHECK(ledger.explain("p[0, 0]", step).ends_with("These are the stored bits.\n"));
  }
}
#endif

TEST_CASE("a warm step of an elementwise rule takes nothing from the heap") {
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    if constexpr (requires { Opt::Rule::quantities; }) return;
    const Tensor p = matrix(300, 300, -0.5, float32), q = matrix(4, 2, 0.25, float32);
    Opt opt({{"p", p}, {"q", q}}, options);
    opt.on_report([](const std::string&) {});
    walk(opt, 1, 3);
    opt.step();  // says that its gradients are old
    const int64_t before = allocations;
    for (int t = 0; t < 5; ++t) opt.step();
    CHECK(allocations == before);
  });
}

TEST_CASE("a gradient that is not finite meets the policy before anything is touched") {
  const Tensor p = matrix(2, 2, 0.5), q = matrix(2, 2, 1);
  optim::LAMB opt({{"layer.p", p}, {"layer.q", q}});
  walk(opt, 1, 2);
  auto momentum = [&] { return values(entry(opt.state_dict(), "LAMB/layer.p/m")); };
  const Values before = values(p), m = momentum();
  for (double bad : {NAN, INFINITY, -INFINITY}) {
    set_gradients(opt.parameters(), 3);
    Values g = values(q.grad());
    g[3] = bad;
    q.set_grad(tensor(g, {2, 2}, float64));
    opt.set_nonfinite(optim::NonFinite::error);
    CHECK(refusal<NumericError>([&] { opt.step(); }) ==
          "step: the gradient of layer.q is " + str(bad) +
              " at element 3: nothing was updated; set_nonfinite() chooses what happens");
    opt.set_nonfinite(optim::NonFinite::skip);
    opt.step();
    CHECK(values(p) == before);
    CHECK(momentum() == m);
    CHECK(opt.steps() == 2);
  }
  CHECK(opt.skipped_steps() == 3);
  opt.set_nonfinite(optim::NonFinite::ignore);
  opt.step();
  CHECK(values(p) != before);
  CHECK(std::isnan(values(q)[0]));  // its norm is not finite
  // The largest numbers are finite; so is a NaN's neighbour in another tile.
  const Tensor big = zeros({100'000}).requires_grad_();
  optim::SGD sgd({{"big", big}}, {.lr = 0});
  Tensor g = full({100'000}, 3.4e38);
  big.set_grad(g);
  sgd.step();
  g = g.clone();
  g.mutable_data<float>()[99'999] = NAN;
  big.set_grad(g);
  CHECK(refusal<NumericError>([&] { sgd.step(); }) ==
        "step: the gradient of big is nan at element 99999: nothing was updated; set_nonfinite() "
        "chooses what happens");
}

TEST_CASE("steps that look like a mistake are reported once, in words") {
  const Tensor w = matrix(2, 2, 1), unused = matrix(1, 1, 0);
  auto backward = [&] { (w * w).sum().backward(); };
  {
    optim::SGD opt({{"w", w}}, {.lr = 0.01});
    Reports reports(opt);
    for (int t = 0; t < 3; ++t) {
      opt.zero_grad();
      backward();
      backward();  // added up on purpose
      opt.step();
    }
    CHECK(reports.all.empty());
    opt.step();
    opt.step();
    CHECK(reports.all.size() == 1);
    CHECK(reports.all.at(0) ==
          "step: no gradient is new since the last step: was backward() called?");
  }
  {
    optim::SGD opt({{"w", w}}, {.lr = 0.01});
    Reports reports(opt);
    w.zero_grad();
    for (int t = 0; t < 3; ++t) {
      backward();
      opt.step();
    }
    CHECK(reports.all.size() == 1);
    CHECK(reports.all.at(0) ==
          "step: the gradient of w still holds what the last step used: call zero_grad() before "
          "backward()");
    reports.all.clear();
    opt.zero_grad(false);
    backward();
    opt.step();
    CHECK(reports.all.empty());
  }
  {
    optim::SGD opt({{"w", w}, {"head.unused", unused}}, {.lr = 0.01});
    Reports reports(opt);
    for (int t = 0; t < 3; ++t) {
      opt.zero_grad();
      backward();
      opt.step();
    }
    CHECK(reports.all.size() == 1);
    CHECK(reports.all.at(0) ==
          "step: no gradient has reached head.unused: not part of the loss, or detached from it?");
  }
}

TEST_CASE("a step takes a closure, and rates, parameters and momentum may change between steps") {
  const Tensor w = tensor({4.0}, float64).requires_grad_();
  optim::Polyak polyak({{"w", w}});
  CHECK(refusal<ValueError>([&] { polyak.step(); }) ==
        "Polyak: a step needs the loss: step(loss) or step(closure)");
  const double loss = polyak.step([&] {
    polyak.zero_grad();
    Tensor value = (w * w).sum();
    value.backward();
    return value;
  });
  CHECK(loss == 16);
  CHECK(w.item() == 2);  // 16 / 8^2 = 1/4 of the gradient, 8

  const Tensor a = tensor({0.0}, float64).requires_grad_(), b = a.detach().clone().requires_grad_();
  const Tensor late = a.detach().clone().requires_grad_();
  optim::SGD opt({{"a", a}, {"fc.bias", b}}, {.lr = 0.5});
  opt.set_lr_multiplier("*.bias", 4);
  opt.group("*.bias").momentum = 0.5;
  opt.add({{"late.bias", late}});
  CHECK(refusal<ValueError>([&] {
          opt.add({{"a", late.detach().clone().requires_grad_()}});
        }) == "SGD: two parameters are called a");
  CHECK(refusal<ValueError>([&] {
          opt.add({{"again", late}});
        }) == "SGD: late.bias and again share elements: need parameters of their own");
  CHECK(opt.parameters().size() == 3);
  for (int t = 0; t < 2; ++t) {
    for (const auto& [name, p] : opt.parameters()) p.set_grad(ones({1}, float64));
    opt.step();
  }
  CHECK(a.item() == -1);
  CHECK(b.item() == -2 - 3);
  CHECK(late.item() == -0.5 - 0.75);  // in the group, but without the multiplier
  CHECK(refusal<ValueError>([&] { opt.set_lr_multiplier("*.weight", 2); }) ==
        "SGD: no parameter matches \"*.weight\"");
  CHECK(refusal<ValueError>([&] { opt.set_lr_multiplier("a", -1); }) ==
        "set_lr_multiplier: multiplier is -1: need a number of at least 0");
  opt.set_momentum(0.75);
  CHECK(opt.options().momentum == 0.75);
  CHECK(opt.group("*.bias").momentum == 0.75);
  CHECK(refusal<ValueError>([&] { opt.set_momentum(-1); }) ==
        "SGD: momentum is -1: need at least 0");
  optim::Adam adam({{"a", a}});
  adam.set_momentum(0.5);
  CHECK(adam.options().beta1 == 0.5);
  CHECK(refusal<ValueError>([&] { adam.set_momentum(1); }) == "Adam: beta1 is 1: need [0, 1)");
  optim::Adagrad adagrad({{"a", a}});
  CHECK(refusal<ValueError>([&] { adagrad.set_momentum(0.5); }) ==
        "set_momentum: Adagrad has neither momentum nor beta1");
}

TEST_CASE("a large parameter moves as its pieces do") {
  const int64_t n = 1'000'000, pieces = 7, piece = n / pieces + 1;
  const Tensor start = linspace(-1, 1, n), gradient = linspace(2, -3, n);
  const Tensor whole = start.clone().requires_grad_();
  NamedTensors parts;
  for (int64_t i = 0; i < n; i += piece)
    parts.emplace_back(std::to_string(i),
                       start.narrow(0, i, std::min(piece, n - i)).clone().requires_grad_());
  optim::Adam one({{"whole", whole}}, {.lr = 0.01}), many(parts, {.lr = 0.01});
  for (int t = 0; t < 3; ++t) {
    whole.set_grad(gradient);
    int64_t at = 0;
    for (const auto& [name, p] : parts) {
      p.set_grad(gradient.narrow(0, at, p.numel()).clone());
      at += p.numel();
    }
    one.step();
    many.step();
  }
  const std::vector<float> all = whole.to_vector<float>();
  std::vector<float> joined;
  for (const auto& [name, p] : parts)
    for (float v : p.to_vector<float>()) joined.push_back(v);
  CHECK(all == joined);
}

TEST_CASE("a parameter without a gradient stays as it is and does not age") {
  const Tensor late = leaf({1, 2}), early = leaf({1, 2}), fresh = leaf({1, 2});
  optim::Adam opt({{"late", late}, {"early", early}}, {.lr = 0.1});
  for (int t = 0; t < 3; ++t) {
    opt.zero_grad();
    set_gradient(early, {1, -1});
    opt.step();
  }
  CHECK(values(late) == Values{1, 2});
  optim::Adam other({{"fresh", fresh}}, {.lr = 0.1});
  for (const Tensor& p : {late, fresh}) set_gradient(p, {0.5, 3});
  opt.step();
  other.step();
  CHECK(values(late) == values(fresh));  // its first step, bias correction and all
}

TEST_CASE("a gradient of any strides is applied element by element") {
  const Tensor p = zeros({2, 3}, float64).requires_grad_();
  optim::SGD opt({{"p", p}}, {.lr = 1});
  p.set_grad(tensor(Values{1, 2, 3, 4, 5, 6}, {3, 2}, float64).t());
  opt.step();
  CHECK(values(p) == Values{-1, -3, -5, -2, -4, -6});
}

TEST_CASE("a user's rule gets groups, schedules and the fused step") {
  const Tensor p = leaf({1, 1, 1}), q = leaf({1});
  Signum opt({{"p", p}, {"q", q}}, {.lr = 0.25});
  opt.group("q").lr = 0.5;
  set_gradient(p, {3, 0, -7});
  set_gradient(q, {1});
  opt.step();
  CHECK(values(p) == Values{0.75, 1, 1.25});
  CHECK(q.item() == 0.5);
  set_gradient(p, {-1, 0, 1});  // the momentum, 0.3, still points the other way
  opt.step();
  CHECK(values(p) == Values{0.5, 1, 1.5});
}

TEST_CASE("a step is a change in place: a backward that saved the parameter says so") {
  const Tensor w = leaf({2});
  optim::SGD opt({{"w", w}}, {.lr = 0.1});
  Tensor loss = (w * w).sum();
  set_gradient(w, {1});
  opt.step();
  CHECK(refusal<GraphError>([&] { loss.backward(); }) ==
        "mul: a saved tensor [1] was changed in place by step (it is at version 1, saved at 0): "
        "clone() it first, or change it after backward");
  opt.zero_grad();
  (w * w).sum().backward();
  CHECK(w.grad().item() == 2 * w.item());
}

TEST_CASE("a parameter that is frozen and trained again is not taken for stale") {
  const Tensor p = leaf({1, 2}), q = leaf({1});
  optim::SGD opt({{"p", p}, {"q", q}}, {.lr = 0.1});
  Reports reports(opt);
  for (int life = 0; life < 3; ++life) {
    for (const Tensor& x : {p, q}) {
      x.requires_grad_(false);
      x.requires_grad_();
    }
    (p.sum() * q.sum()).backward();
    opt.step();
  }
  CHECK(reports.all.empty());
  opt.step();
  CHECK(reports.all.size() == 1);  // that one is
}
