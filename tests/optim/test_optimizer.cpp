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

void walk(optim::OptimizerBase& opt, int from, int to, double sign = 1) {
  for (int t = from; t <= to; ++t) {
    set_gradients(opt.parameters(), t, sign);
    opt.step(tensor(sign * (1 + t % 3), float64));
  }
}
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

TEST_CASE("every rule goes on from its state dict with the same bits") {
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    const Tensor p = matrix(3, 4, -0.5), q = matrix(4, 2, 0.25);
    Opt opt({{"p", p}, {"q", q}}, options);
    opt.group("q").lr = 0.02;
    walk(opt, 1, 5);
    const NamedTensors state = opt.state_dict();
    const Tensor p2 = p.detach().clone().requires_grad_(), q2 = q.detach().clone().requires_grad_();
    Opt other({{"q", q2}, {"p", p2}});
    other.load_state_dict(state);
    CHECK(other.steps() == 5);
    walk(opt, 6, 9);
    walk(other, 6, 9);
    CHECK(values(p) == values(p2));
    CHECK(values(q) == values(q2));
  });
}

TEST_CASE("two parameters move as each would in an optimizer of its own") {
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    if constexpr (std::is_same_v<Opt, optim::Polyak>) return;  // its norm is the group's
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
    auto velocity = [&] {
      for (const auto& [key, t] : opt.state_dict())
        if (key == "SGD/p/b") return values(t);
      return Values();
    };
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

TEST_CASE("a state dict says what it holds") {
  const Tensor p = matrix(2, 2, 0);
  optim::NAdam opt({{"fc.weight", p}}, {.lr = 0.5});
  opt.group("fc.*").weight_decay = 0.25;
  opt.set_lr_multiplier("*", 2);
  walk(opt, 1, 3);
  std::string keys;
  for (const auto& [key, t] : opt.state_dict()) keys += key + " ";
  CHECK(keys ==
        "NAdam/steps NAdam/lr_factor NAdam/[*]/lr NAdam/[*]/beta1 NAdam/[*]/beta2 NAdam/[*]/eps "
        "NAdam/[*]/weight_decay NAdam/[*]/momentum_decay NAdam/[*]/decoupled_weight_decay "
        "NAdam/[*]/maximize NAdam/[1 fc.*]/lr NAdam/[1 fc.*]/beta1 NAdam/[1 fc.*]/beta2 "
        "NAdam/[1 fc.*]/eps NAdam/[1 fc.*]/weight_decay NAdam/[1 fc.*]/momentum_decay "
        "NAdam/[1 fc.*]/decoupled_weight_decay NAdam/[1 fc.*]/maximize NAdam/fc.weight/step "
        "NAdam/fc.weight/lr_multiplier NAdam/fc.weight/shape NAdam/fc.weight/m NAdam/fc.weight/v "
        "NAdam/fc.weight/mu_product ");
  optim::NAdam other({{"fc.weight", matrix(2, 2, 0)}});
  other.load_state_dict(opt.state_dict());
  CHECK(other.options().lr == 0.5);
  CHECK(other.group("fc.*").weight_decay == 0.25);
  for (const auto& [key, t] : other.state_dict())
    if (key == "NAdam/fc.weight/step") CHECK(t.item<int64_t>() == 3);
}

TEST_CASE("a ledger follows an optimizer that is set to another step") {
  const Tensor p = matrix(1, 2, 1);
  optim::SGD opt({{"p", p}}, {.lr = 0.5});
  optim::Ledger ledger;
  opt.trace(ledger);
  auto step = [&](double loss) {
    set_gradient(p, {1, 1});
    opt.step(tensor(loss, float64));
  };
  const NamedTensors start = opt.state_dict();
  const int64_t far = int64_t{1} << 40;
  step(8);
  step(5);
  opt.load_state_dict(with(start, "SGD/steps", tensor(far)));
  step(3);
  step(2);
  CHECK(ledger.real_decrease(1) == 3);
  CHECK(std::isnan(ledger.real_decrease(2)));
  CHECK(ledger.real_decrease(far + 1) == 1);
  opt.load_state_dict(start);  // what follows is done anew
  step(7);
  step(1);
  CHECK(ledger.real_decrease(1) == 6);
  CHECK(std::isnan(ledger.real_decrease(far + 1)));
}

TEST_CASE("a state dict of something else is refused, and nothing changes") {
  const Tensor p = matrix(2, 3, 0.5);
  optim::Adam opt({{"p", p}}, {.lr = 0.25});
  walk(opt, 1, 2);
  const NamedTensors state = opt.state_dict();
  auto refused = [&](const NamedTensors& wrong, const char* why) {
    CHECK_THROWS_WITH_AS(opt.load_state_dict(wrong), doctest::Contains(why), ValueError);
    const NamedTensors now = opt.state_dict();
    REQUIRE(now.size() == state.size());
    for (std::size_t i = 0; i < now.size(); ++i)
      CHECK(values(now[i].second) == values(state[i].second));
  };
  optim::AdamW adamw({{"p", matrix(2, 3, 0.5)}});
  walk(adamw, 1, 2);
  refused(adamw.state_dict(),
          "load_state_dict: this is the state of AdamW, and the optimizer is Adam (");
  optim::Adam named({{"q", matrix(2, 3, 0.5)}});
  walk(named, 1, 2);
  refused(named.state_dict(), "p/step is missing");
  refused(named.state_dict(), "q/m is unexpected");
  optim::Adam shaped({{"p", matrix(3, 2, 0.5)}});
  refused(shaped.state_dict(), "p/m is float64 [2, 3] here and float64 [3, 2] there");
  refused(with(state, "Adam/p/shape", tensor(std::vector<int64_t>{3, 2})),
          "p is [2, 3] here, not there");
  refused(without(state, "Adam/p/shape"), "p/shape is missing");
  optim::Adam single({{"p", matrix(2, 3, 0.5, float32)}});
  walk(single, 1, 2);
  refused(single.state_dict(), "p/m is float64 [2, 3] here and float32 [2, 3] there");
  refused(without(state, "Adam/p/v"), "p/v is missing");
  refused(without(state, "Adam/[*]/eps"), "[*]/eps is missing");
  refused(with(state, "Adam/p/step", tensor(int64_t{-1})), "p/step is -1");
  refused(with(state, "Adam/p/step", tensor(2.0, float64)),
          "p/step is int64 [] here and float64 [] there");
  refused(with(state, "Adam/p/m", Tensor()), "p/m is undefined there");
  refused({}, "steps is missing");
  NamedTensors grouped = state;
  const std::string all = "Adam/[*]";
  for (const auto& [key, t] : state)
    if (key.starts_with(all)) grouped.emplace_back("Adam/[1 q*]" + key.substr(all.size()), t);
  refused(grouped, "no parameter matches \"q*\"");
  for (double bad : {double(NAN), double(INFINITY), -1.0}) {
    const Tensor number = tensor(bad, float64);
    refused(with(state, "Adam/p/lr_multiplier", number), "lr_multiplier of p is");
    refused(with(state, "Adam/lr_factor", number), "the learning rate's factor is");
    refused(with(state, "Adam/[*]/lr", number), "Adam: lr is");
  }
  refused(with(state, "Adam/[*]/beta1", tensor(1.0, float64)), "Adam: beta1 is 1: need [0, 1)");
  refused(with(state, "Adam/p/step", tensor(INT64_MAX)), "need a count up to 2^53");
  refused(with(state, "Adam/steps", tensor(INT64_MAX)), "need a count up to 2^53");
}

TEST_CASE("a gradient that is not finite meets the policy before anything is touched") {
  const Tensor p = matrix(2, 2, 0.5), q = matrix(2, 2, 1);
  optim::LAMB opt({{"layer.p", p}, {"layer.q", q}});
  walk(opt, 1, 2);
  auto momentum = [&] {
    for (const auto& [key, t] : opt.state_dict())
      if (key == "LAMB/layer.p/m") return values(t);
    return Values();
  };
  const Values before = values(p), m = momentum();
  for (double bad : {NAN, INFINITY, -INFINITY}) {
    set_gradients(opt.parameters(), 3);
    Values g = values(q.grad());
    g[3] = bad;
    q.set_grad(tensor(g, {2, 2}, float64));
    opt.set_nonfinite(optim::NonFinite::error);
    CHECK_THROWS_WITH_AS(opt.step(), doctest::Contains("the gradient of layer.q is"), NumericError);
    CHECK_THROWS_WITH_AS(opt.step(), doctest::Contains("at element 3"), NumericError);
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
  CHECK_THROWS_WITH_AS(sgd.step(), doctest::Contains("at element 99999"), NumericError);
}

TEST_CASE("steps that look like a mistake are reported once, in words") {
  std::vector<std::string> said;
  auto make = [&](auto& opt) {
    said.clear();
    opt.on_report([&](const std::string& text) { said.push_back(text); });
  };
  const Tensor w = matrix(2, 2, 1), unused = matrix(1, 1, 0);
  auto backward = [&] { (w * w).sum().backward(); };
  {
    optim::SGD opt({{"w", w}}, {.lr = 0.01});
    make(opt);
    for (int t = 0; t < 3; ++t) {
      opt.zero_grad();
      backward();
      backward();  // added up on purpose
      opt.step();
    }
    CHECK(said.empty());
    opt.step();
    opt.step();
    CHECK(said.size() == 1);
    CHECK(said.at(0).find("no gradient is new since the last step") != std::string::npos);
  }
  {
    optim::SGD opt({{"w", w}}, {.lr = 0.01});
    make(opt);
    w.zero_grad();
    for (int t = 0; t < 3; ++t) {
      backward();
      opt.step();
    }
    CHECK(said.size() == 1);
    CHECK(said.at(0).find("the gradient of w still holds what the last step used") !=
          std::string::npos);
    said.clear();
    opt.zero_grad(false);
    backward();
    opt.step();
    CHECK(said.empty());
  }
  {
    optim::SGD opt({{"w", w}, {"head.unused", unused}}, {.lr = 0.01});
    make(opt);
    for (int t = 0; t < 3; ++t) {
      opt.zero_grad();
      backward();
      opt.step();
    }
    CHECK(said.size() == 1);
    CHECK(said.at(0).find("no gradient has reached head.unused") != std::string::npos);
  }
}

TEST_CASE("closures, losses, multipliers, late parameters and momentum") {
  const Tensor w = tensor({4.0}, float64).requires_grad_();
  optim::Polyak polyak({{"w", w}});
  CHECK_THROWS_WITH_AS(polyak.step(), doctest::Contains("Polyak: a step needs the loss"),
                       ValueError);
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
  CHECK_THROWS_AS(opt.add({{"a", late.detach().clone().requires_grad_()}}), ValueError);
  CHECK_THROWS_AS(opt.add({{"again", late}}), ValueError);
  CHECK(opt.parameters().size() == 3);
  for (int t = 0; t < 2; ++t) {
    for (const auto& [name, p] : opt.parameters()) p.set_grad(ones({1}, float64));
    opt.step();
  }
  CHECK(a.item() == -1);
  CHECK(b.item() == -2 - 3);
  CHECK(late.item() == -0.5 - 0.75);  // in the group, but without the multiplier
  CHECK_THROWS_AS(opt.set_lr_multiplier("*.weight", 2), ValueError);
  CHECK_THROWS_AS(opt.set_lr_multiplier("a", -1), ValueError);
  opt.set_momentum(0.75);
  CHECK(opt.options().momentum == 0.75);
  CHECK(opt.group("*.bias").momentum == 0.75);
  CHECK_THROWS_AS(opt.set_momentum(-1), ValueError);
  optim::Adam adam({{"a", a}});
  adam.set_momentum(0.5);
  CHECK(adam.options().beta1 == 0.5);
  CHECK_THROWS_AS(adam.set_momentum(1), ValueError);
  optim::Adagrad adagrad({{"a", a}});
  CHECK_THROWS_WITH_AS(adagrad.set_momentum(0.5), doctest::Contains("has neither momentum nor"),
                       ValueError);
}

TEST_CASE("a flag may be a variable, and each rule refuses what it cannot mean") {
  const NamedTensors p{{"p", matrix(2, 2, 0)}};
  bool nesterov = p.size() == 1;
  optim::SGD opt(p, {.momentum = 0.9, .nesterov = nesterov});
  CHECK(opt.options().nesterov);
  using namespace optim;
  CHECK_THROWS_AS(Adagrad(p, {.lr_decay = -1}), ValueError);
  CHECK_THROWS_AS(Adagrad(p, {.initial_accumulator_value = -1}), ValueError);
  CHECK_THROWS_AS(RMSprop(p, {.alpha = -0.5}), ValueError);
  CHECK_THROWS_AS(Adadelta(p, {.rho = 1.5}), ValueError);
  CHECK_THROWS_AS(Rprop(p, {.eta_minus = 1}), ValueError);
  CHECK_THROWS_AS(Rprop(p, {.eta_plus = 1}), ValueError);
  CHECK_THROWS_AS(Rprop(p, {.step_min = 2, .step_max = 1}), ValueError);
  CHECK_THROWS_AS(ASGD(p, {.lambd = -1}), ValueError);
  CHECK_THROWS_AS(ASGD(p, {.alpha = -1}), ValueError);
  CHECK_THROWS_AS(Lion(p, {.beta2 = 1}), ValueError);
  CHECK_THROWS_AS(NAdam(p, {.momentum_decay = -1}), ValueError);
  CHECK_THROWS_AS(LARS(p, {.trust_coefficient = -1}), ValueError);
  CHECK_THROWS_AS(Adafactor(p, {.beta2_decay = 0.5}), ValueError);
  CHECK_THROWS_AS(Adafactor(p, {.eps2 = -1}), ValueError);
  CHECK_THROWS_AS(Adafactor(p, {.d = 0.5}), ValueError);
  CHECK_THROWS_AS(Muon(p, {.ns_steps = 100}), ValueError);
  CHECK_THROWS_AS(Muon(p, {.eps = NAN}), ValueError);
  CHECK_THROWS_WITH_AS(Muon({{"fc.bias", zeros({3}).requires_grad_()}}),
                       doctest::Contains("parameter fc.bias is not a matrix"), ValueError);
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

TEST_CASE("groups follow the defaults until they set an option, and the later pattern wins") {
  const Tensor w = leaf({1}), b = leaf({1}), c = leaf({1});
  optim::SGD opt({{"fc.weight", w}, {"fc.bias", b}, {"out.bias", c}}, {.lr = 0.5});
  auto step = [&] {
    Values moved;
    for (const Tensor& p : {w, b, c}) {
      NoGradGuard no_grad;
      p.fill_(1);
      p.set_grad(ones({1}, float64));
    }
    opt.step();
    for (const Tensor& p : {w, b, c}) moved.push_back(1 - p.item());
    return moved;
  };
  opt.options().lr = 0.25;
  CHECK(opt.group("*.bias").lr == 0.25);
  opt.group("*.bias").lr = 0.125;
  CHECK(step() == Values{0.25, 0.125, 0.125});
  opt.group("out.*").lr = 0.0625;
  CHECK(step() == Values{0.25, 0.125, 0.0625});
  opt.options().lr = 1;  // groups keep what they have set
  opt.group("*.bias").lr = 2;
  CHECK(step() == Values{1, 2, 0.0625});
  CHECK_THROWS_WITH_AS(opt.group("head.*"), doctest::Contains("no parameter matches \"head.*\""),
                       ValueError);
  CHECK(step() == Values{1, 2, 0.0625});
}

TEST_CASE("a schedule multiplies every group's own rate") {
  const Tensor a = leaf({0}), b = leaf({0});
  optim::SGD opt({{"a", a}, {"b", b}}, {.lr = 0.5});
  opt.group("b").lr = 2;
  optim::Scheduler sched(opt, [](int64_t step) { return step == 0 ? 0.25 : 1.0 / double(step); });
  CHECK(opt.lr() == 0.125);
  set_gradient(a, {1});
  set_gradient(b, {1});
  opt.step();
  CHECK(a.item() == -0.125);
  CHECK(b.item() == -0.5);
  for (int i = 0; i < 4; ++i) sched.step();
  CHECK(sched.current_step() == 4);
  CHECK(opt.lr_factor() == 0.25);
  CHECK(opt.options().lr == 0.5);

  optim::SGD resumed({{"a", a}}, {.lr = 0.5});
  optim::Scheduler again(resumed, [](int64_t step) { return 1.0 / double(step + 1); });
  again.set_step(7);
  CHECK(again.current_step() == 7);
  CHECK(resumed.lr() == 0.5 / 8);
  CHECK_THROWS_AS(resumed.set_lr_factor(NAN), ValueError);
  CHECK(resumed.lr() == 0.5 / 8);
}

TEST_CASE("options out of range are refused, and nothing moves") {
  const Tensor a = leaf({1}), b = leaf({2});
  const NamedTensors both{{"a", a}, {"b", b}};
  using optim::Adam, optim::SGD;
  CHECK_THROWS_AS(SGD(both, {.lr = -1}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.lr = NAN}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.momentum = -0.1}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.weight_decay = -1}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.nesterov = true}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.momentum = 0.9, .dampening = 0.1, .nesterov = 1}), ValueError);
  CHECK_THROWS_AS(Adam(both, {.beta1 = 1}), ValueError);
  CHECK_THROWS_AS(Adam(both, {.beta2 = -0.1}), ValueError);
  CHECK_THROWS_AS(Adam(both, {.eps = -1}), ValueError);

  SGD opt(both, {.lr = 0.1});
  opt.group("b").lr = -1;
  for (const auto& [name, p] : both) set_gradient(p, {1});
  CHECK_THROWS_WITH_AS(opt.step(), doctest::Contains("SGD: lr is -1: need at least 0"), ValueError);
  CHECK(a.item() == 1);
  CHECK(b.item() == 2);
}

TEST_CASE("parameters that cannot be optimized are refused by name") {
  const Tensor p = leaf({1, 2});
  using optim::SGD;
  CHECK_THROWS_WITH_AS(SGD({{"x", p}, {"y", p}}), doctest::Contains("x and y share elements"),
                       ValueError);
  CHECK_THROWS_WITH_AS(SGD({{"x", p}, {"x", leaf({1})}}),
                       doctest::Contains("two parameters are called x"), ValueError);
  CHECK_THROWS_AS(SGD(NamedTensors{}), ValueError);
  CHECK_THROWS_AS(SGD({{"x", Tensor()}}), ValueError);
  CHECK_THROWS_AS(SGD({{"x", p * 2.0}}), GraphError);
  CHECK_THROWS_AS(SGD({{"x", arange(3)}}), DtypeError);
  CHECK_THROWS_AS(SGD({{"x", zeros({2, 3}).t()}}), ValueError);
}

TEST_CASE("a parameter that changed its dtype after the optimizer was made is refused") {
  nn::Linear fc(40, 40);
  optim::Adam opt(fc.named_parameters());
  fc(ones({1, 40})).sum().backward();
  opt.step();
  fc.to(float64);
  const Values before = values(fc.weight);
  fc(ones({1, 40}, float64)).sum().backward();
  CHECK_THROWS_WITH_AS(opt.step(), doctest::Contains("weight"), DtypeError);
  CHECK(values(fc.weight) == before);
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
  CHECK_THROWS_WITH_AS(loss.backward(), doctest::Contains("was changed in place by step"),
                       GraphError);
  opt.zero_grad();
  (w * w).sum().backward();
  CHECK(w.grad().item() == 2 * w.item());
}

TEST_CASE("a parameter that is frozen and trained again is not taken for stale") {
  const Tensor p = leaf({1, 2}), q = leaf({1});
  optim::SGD opt({{"p", p}, {"q", q}}, {.lr = 0.1});
  std::vector<std::string> said;
  opt.on_report([&](const std::string& text) { said.push_back(text); });
  for (int life = 0; life < 3; ++life) {
    for (const Tensor& x : {p, q}) {
      x.requires_grad_(false);
      x.requires_grad_();
    }
    (p.sum() * q.sum()).backward();
    opt.step();
  }
  CHECK(said.empty());
  opt.step();
  CHECK(said.size() == 1);  // that one is
}

TEST_CASE("parameters that share elements are refused by name") {
  const Tensor base = ones({10}), a = base.narrow(0, 0, 6).detach().requires_grad_(),
               b = base.narrow(0, 4, 6).detach().requires_grad_(),
               c = base.narrow(0, 6, 4).detach().requires_grad_(),
               again = a.detach().requires_grad_();
  using optim::SGD;
  CHECK_THROWS_WITH_AS(SGD({{"a", a}, {"b", b}}), doctest::Contains("a and b share elements"),
                       ValueError);
  CHECK_THROWS_WITH_AS(SGD({{"a", a}, {"again", again}}), doctest::Contains("share elements"),
                       ValueError);
  SGD opt({{"a", a}, {"c", c}});  // side by side
  CHECK_THROWS_AS(opt.add({{"b", b}}), ValueError);
  CHECK(opt.parameters().size() == 2);
}

TEST_CASE("a gradient of another dtype than its parameter is refused") {
  nn::Linear fc(64, 64);
  optim::SGD opt(fc.named_parameters(), {.lr = 1});
  bool once = false;
  fc.weight.register_hook([&](const Tensor&) -> Tensor {
    if (!std::exchange(once, true)) fc.to(float64);
    return {};
  });
  try {  // backward may refuse it first
    fc(ones({1, 64})).sum().backward();
  } catch (const Error&) { return; }
  const Values before = values(fc.weight);
  CHECK_THROWS_AS(opt.step(), Error);
  CHECK(values(fc.weight) == before);
}

TEST_CASE("a ledger that is full says what to choose, and the run goes on") {
  const Tensor p = zeros({1000}).requires_grad_();
  optim::SGD opt({{"p", p}}, {.lr = 0.5});
  std::vector<std::string> said;
  opt.on_report([&](const std::string& text) { said.push_back(text); });
  optim::Ledger ledger({.max_bytes = 1 << 20}), narrow({.elements = {3}, .max_bytes = 1 << 20});
  opt.trace(ledger);
  for (int i = 0; i < 8; ++i) {
    p.set_grad(ones({1000}));
    opt.step();
  }
  CHECK(opt.steps() == 8);
  REQUIRE(said.size() == 1);
  CHECK(said[0].find("choose parameters by a pattern, elements, or every n-th step") !=
        std::string::npos);
  const auto recorded = static_cast<int64_t>(ledger.entries().size());
  CHECK(recorded >= 2);
  CHECK(recorded < 8);
  CHECK(ledger.explain("p[3]", recorded).starts_with("SGD"));
  CHECK_THROWS_WITH_AS(ledger.explain("p[3]", 8), doctest::Contains("the ledger was full"),
                       ValueError);
  opt.trace(narrow);
  for (int i = 0; i < 100; ++i) {
    p.set_grad(ones({1000}));
    opt.step();
  }
  CHECK(narrow.entries().size() == 100);
}

TEST_CASE("a ledger that was full records again after a way back to where it was not") {
  const Tensor p = zeros({1000}).requires_grad_();
  optim::SGD opt({{"p", p}}, {.lr = 0.5});
  std::vector<std::string> said;
  opt.on_report([&](const std::string& text) { said.push_back(text); });
  optim::Ledger ledger({.max_bytes = 1 << 20});
  opt.trace(ledger);
  const NamedTensors start = opt.state_dict();
  auto steps = [&](int count) {
    for (int i = 0; i < count; ++i) {
      p.set_grad(ones({1000}));
      opt.clip_grad_norm(1);
      opt.step();
    }
    return ledger.entries().size();
  };
  const std::size_t room = steps(8);
  REQUIRE(room < 8);
  opt.load_state_dict(start);
  CHECK(steps(1) == 1);
  CHECK(said.size() == 1);
  CHECK(steps(7) == room);
  CHECK(said.size() == 2);
  for (std::size_t i = 0; i < room; ++i)
    CHECK(ledger.entries()[i].step == static_cast<int64_t>(i) + 1);
}

TEST_CASE("patterns match in a time that does not explode with their stars") {
  CHECK(matches("*", ""));
  CHECK(matches("**", "abc"));
  CHECK(matches("a*c?", "abbccd"));
  CHECK(matches("*.bias", "encoder.0.bias"));
  CHECK(!matches("*.bias", "encoder.0.bias2"));
  CHECK(matches("*ab*ab", "abxababab"));
  CHECK(!matches("a?", "a"));
  CHECK(!matches("", "a"));
  CHECK(matches("", ""));
  CHECK(!matches("?", ""));
  std::string pattern;
  for (int i = 0; i < 40; ++i) pattern += "*a";
  CHECK(!matches(pattern + "*b", std::string(1000, 'a')));  // with recursion, for ever
  CHECK(matches(std::string(2'000'000, 'a'), std::string(2'000'000, 'a')));
}

namespace {
/// What an optimizer of momentum-free SGD does to ones with gradients of one: its rate there, and
/// its weight decay.
struct Nets {
  std::vector<std::string> names{"0.weight", "0.bias", "1.weight", "1.bias"};
  NamedTensors all = [this] {
    NamedTensors made;
    for (const auto& name : names) made.emplace_back(name, leaf({1}));
    return made;
  }();
  std::vector<std::pair<double, double>> used(optim::SGD& opt) const {
    std::vector<std::pair<double, double>> found;
    Values without_gradient;
    for (double g : {0.0, 1.0}) {
      for (const auto& [name, p] : all) {
        NoGradGuard no_grad;
        p.fill_(1);
        set_gradient(p, {g});
      }
      opt.step();
      for (std::size_t i = 0; i < all.size(); ++i) {
        const double moved = 1 - all[i].second.item();  // lr (g + weight_decay)
        if (g == 0) without_gradient.push_back(moved);
        else {
          const double lr = moved - without_gradient[i];
          found.emplace_back(lr, without_gradient[i] / lr);
        }
      }
    }
    return found;
  }
};
using Used = std::vector<std::pair<double, double>>;
}  // namespace

TEST_CASE("options overlay: each comes from the last pattern that has set it") {
  const Nets nets;
  optim::SGD opt(nets.all, {.lr = 0.5, .weight_decay = 0.25});
  opt.group("1.*").lr = 0.125;
  opt.group("*.bias").weight_decay = 0;
  CHECK(nets.used(opt) == Used{{0.5, 0.25}, {0.5, 0}, {0.125, 0.25}, {0.125, 0}});
  CHECK(opt.group("1.*").weight_decay == 0.25);
  CHECK(opt.group("1.bias").lr == 0.125);
  CHECK(opt.group("1.bias").weight_decay == 0);
  CHECK(opt.group("*.bias").lr == 0.5);  // the first one's
  CHECK(opt.group("*.weight").lr == 0.5);

  opt.options().lr = 0.25;  // which no pattern has set for layer 0
  opt.group("1.*").lr *= 2;
  CHECK(nets.used(opt) == Used{{0.25, 0.25}, {0.25, 0}, {0.25, 0.25}, {0.25, 0}});
  opt.group("*.weight").lr = 0.25;  // the same as it has: set all the same
  opt.options().lr = 1;
  opt.group("1.*").lr = 0.5;
  CHECK(nets.used(opt) == Used{{0.25, 0.25}, {1, 0}, {0.25, 0.25}, {0.5, 0}});
  opt.group("*").weight_decay = 0.125;
  CHECK(nets.used(opt) == Used{{0.25, 0.125}, {1, 0.125}, {0.25, 0.125}, {0.5, 0.125}});

  const Tensor late = leaf({1});
  opt.add({{"1.late.bias", late}});
  set_gradient(late, {1});
  opt.step();
  CHECK(late.item() == 1 - 0.5 * (1 + 0.125));
}

TEST_CASE("flags and choices overlay, and a state is made where an overlay asks for it") {
  const Tensor p = leaf({1}), q = leaf({1});
  optim::SGD opt({{"p", p}, {"q", q}}, {.lr = 0.5, .momentum = 0.5});
  opt.group("q").maximize = true;
  CHECK(bool(opt.group("q").maximize));
  CHECK(!opt.group("p").maximize);
  CHECK(!opt.group("q").nesterov);
  opt.options().nesterov = true;
  CHECK(bool(opt.group("q").nesterov));
  opt.group("q").nesterov = false;
  for (int t = 0; t < 2; ++t) {
    set_gradient(p, {1});
    set_gradient(q, {1});
    opt.step();
  }
  CHECK(p.item() == 1 - 0.5 * 1.5 - 0.5 * 1.75);
  CHECK(q.item() == 1 + 0.5 + 0.5 * 1.5);
  opt.set_momentum(0.25);
  CHECK(opt.group("q").momentum == 0.25);
  optim::Muon muon({{"m", matrix(2, 2, 0)}, {"n", matrix(2, 2, 0)}});
  muon.group("n").adjust_lr = optim::MuonScale::spectral_unclamped;
  CHECK(muon.group("n").adjust_lr == optim::MuonScale::spectral_unclamped);
  CHECK(muon.group("m").adjust_lr == optim::MuonScale::original);
  CHECK(muon.group("n").ns_steps == 5);
  optim::Adam adam({{"p", leaf({1})}, {"q", leaf({1})}});
  adam.group("q").amsgrad = true;
  walk(adam, 1, 1);
  int kept = 0;
  for (const auto& [key, t] : adam.state_dict()) kept += key.ends_with("/v_max");
  CHECK(kept == 1);
}

TEST_CASE("an explanation shows the options that held") {
  const Nets nets;
  optim::SGD opt(nets.all, {.lr = 0.5, .weight_decay = 0.25});
  optim::Ledger ledger;
  opt.trace(ledger);
  opt.group("1.*").lr = 0.125;
  opt.group("*.bias").weight_decay = 0;
  nets.used(opt);
  CHECK(ledger.explain("1.bias[0]", 1)
            .find("lr = 0.125, momentum = 0, dampening = 0, "
                  "weight_decay = 0,") != std::string::npos);
}

TEST_CASE("a state's groups decide, whatever the optimizer's own were") {
  const Nets nets;
  optim::SGD opt(nets.all, {.lr = 0.5, .weight_decay = 0.25});
  opt.group("1.*").lr = 0.125;
  opt.group("*.bias").lr = 0.25;
  opt.set_lr_factor(0.5);
  const Used expected = nets.used(opt);
  CHECK(expected == Used{{0.25, 0.25}, {0.125, 0.25}, {0.0625, 0.25}, {0.125, 0.25}});
  NamedTensors state = opt.state_dict();
  for (int shuffled = 0; shuffled < 2; ++shuffled) {
    const Nets other;
    optim::SGD none(other.all), reordered(other.all), more(other.all);
    reordered.group("*.bias").lr = 1;
    reordered.group("1.*").lr = 2;
    auto& kept = more.group("0.*");
    kept.lr = 3;
    more.group("*").weight_decay = 1;
    for (optim::SGD* each : {&none, &reordered, &more}) {
      each->load_state_dict(state);
      CHECK(each->lr_factor() == 0.5);
      CHECK(other.used(*each) == expected);
      each->load_state_dict(state);  // the two steps, undone
      const NamedTensors again = each->state_dict();
      if (each != &more) CHECK(again.size() == state.size());
    }
    kept.lr = 1;  // a group that one holds stays one
    CHECK(other.used(more)[0].first == 0.5);
    std::reverse(state.begin(), state.end());  // as a file may sort its entries
  }
}

namespace {
double option(const optim::OptimizerBase& opt, const std::string& key) {
  for (const auto& [name, t] : opt.state_dict())
    if (name == key) return t.item();
  FAIL("no ", key);
  return NAN;
}
}  // namespace

TEST_CASE("a flag or a choice copied out of a group is set, as a number is") {
  const Tensor a = leaf({1}), b = leaf({1});
  const NamedTensors both{{"a", a}, {"b", b}};
  optim::SGD opt(both, {.momentum = 0.9, .nesterov = true});
  auto &of_a = opt.group("a"), &of_b = opt.group("b");
  of_a.momentum = of_b.momentum;
  of_a.nesterov = of_b.nesterov;
  const optim::Flag copy = of_b.nesterov;
  opt.options().nesterov = false;
  opt.options().momentum = 0.5;
  CHECK(opt.group("a").momentum == 0.9);
  CHECK(bool(opt.group("a").nesterov));
  CHECK(option(opt, "SGD/[1 a]/nesterov") == 1);
  CHECK(std::isnan(option(opt, "SGD/[2 b]/nesterov")));
  opt.group("b").nesterov = copy;
  CHECK(option(opt, "SGD/[2 b]/nesterov") == 1);
  for (int i = 0; i < 4; ++i) opt.options().maximize = opt.group("b").maximize;
  CHECK(!opt.options().maximize);
  CHECK(option(opt, "SGD/[*]/maximize") == 0);
  of_b = of_a;  // all of them
  CHECK(option(opt, "SGD/[2 b]/lr") == 1e-3);
  CHECK(option(opt, "SGD/[2 b]/maximize") == 0);
  const optim::SGD from(both, {.lr = 1, .momentum = 0.9, .maximize = opt.group("a").maximize});
  CHECK(option(from, "SGD/[*]/maximize") == 0);

  optim::Muon muon({{"m", matrix(2, 2, 0)}, {"n", matrix(2, 2, 0)}});
  muon.options().adjust_lr = optim::MuonScale::spectral_unclamped;
  muon.group("m").adjust_lr = muon.group("n").adjust_lr;
  muon.options() = {.adjust_lr = muon.group("n").adjust_lr};
  CHECK(option(muon, "Muon/[*]/adjust_lr") == 2);
  muon.options().adjust_lr = optim::MuonScale::original;
  CHECK(muon.group("m").adjust_lr == optim::MuonScale::spectral_unclamped);
  CHECK(muon.group("n").adjust_lr == optim::MuonScale::original);
}

TEST_CASE("a group that one holds reads what holds after a state is loaded, as before") {
  const Tensor a = leaf({1}), b = leaf({1});
  const NamedTensors both{{"a", a}, {"b", b}};
  optim::SGD opt(both, {.lr = 0.5, .momentum = 0.25, .nesterov = true});
  const NamedTensors before = opt.state_dict();
  auto& held = opt.group("a");
  opt.group("*").weight_decay = 0.125;
  for (bool own : {true, false}) {  // its own state has the group, the other one does not
    held.momentum = 0.75;
    opt.load_state_dict(own ? opt.state_dict() : before);
    CHECK(held.lr == 0.5);
    CHECK(held.momentum == (own ? 0.75 : 0.25));
    CHECK(held.weight_decay == (own ? 0.125 : 0));
    CHECK(bool(held.nesterov));
    CHECK(std::isnan(option(opt, "SGD/[1 a]/lr")));
  }
  held.lr *= 0.5;
  opt.options() = {.lr = 0.5};
  for (const Tensor& p : {a, b}) set_gradient(p, {1});
  opt.step();
  CHECK(a.item() == 0.75);
  CHECK(b.item() == 0.5);
}

TEST_CASE("Polyak's step is that of all parameters with the same options, whoever gave them") {
  auto moved = [](auto change) {
    const Tensor a = leaf({1}), b = leaf({1}), c = leaf({1});
    optim::Polyak opt({{"a", a}, {"b", b}, {"c", c}}, {.lr = 10});
    opt.group("c").lr = 0.125;
    change(opt);
    for (const Tensor& p : {a, b, c}) set_gradient(p, {1});
    opt.step(tensor(1.0, float64));
    return Values{1 - a.item(), 1 - b.item(), 1 - c.item()};
  };
  const Values expected{0.5, 0.5, 0.125};
  CHECK(moved([](auto&) {}) == expected);
  CHECK(moved([](auto& opt) { CHECK(opt.group("a").lr == 10); }) == expected);
  CHECK(moved([](auto& opt) { opt.group("b").lr = 10; }) == expected);
  CHECK(moved([](auto& opt) {
          const NamedTensors state = opt.state_dict();
          opt.group("b").lr = 3;
          opt.load_state_dict(state);
        }) == expected);
  CHECK(moved([](auto& opt) { opt.group("b").lr = 0.25; }) == Values{1, 0.25, 0.125});
}

TEST_CASE("a state with a choice that there is not is refused, and nothing changes") {
  optim::Muon opt({{"m", matrix(2, 2, 0)}}, {.adjust_lr = optim::MuonScale::match_rms_adamw});
  opt.group("m").adjust_lr = optim::MuonScale::spectral_unclamped;
  opt.group("*").momentum = 0.5;
  const NamedTensors state = opt.state_dict();
  for (const std::string group : {"*", "1 m", "2 *"})
    for (double bad : {3.0, 7.0, 1e300, double(INFINITY), -1.0, -3.0, 0.5, 0.25, 1.25}) {
      auto refused = [&](const std::string& choice, const std::string& rule) {
        CAPTURE(group);
        CAPTURE(bad);
        const NamedTensors wrong =
            with(state, "Muon/[" + group + "]/" + choice, tensor(bad, float64));
        const std::string why = "Muon: " + choice + " is " + str(bad) + ": need " + rule;
        CHECK_THROWS_WITH_AS(opt.load_state_dict(wrong), doctest::Contains(why.c_str()),
                             ValueError);
      };
      refused("adjust_lr", "a whole number from 0 to 2");
      refused("nesterov", "a whole number from 0 to 1");
    }
  CHECK(opt.options().adjust_lr == optim::MuonScale::match_rms_adamw);
  CHECK(option(opt, "Muon/[1 m]/adjust_lr") == 2);
  opt.load_state_dict(with(state, "Muon/[2 *]/adjust_lr", tensor(1.0, float64)));
  CHECK(option(opt, "Muon/[2 *]/adjust_lr") == 1);
  opt.group("*").adjust_lr = static_cast<optim::MuonScale>(3);
  set_gradients(opt.parameters(), 1);
  CHECK_THROWS_WITH_AS(opt.step(), doctest::Contains("adjust_lr is 3"), ValueError);

  optim::LBFGS lbfgs({{"p", leaf({1})}});
  const NamedTensors kept = lbfgs.state_dict();
  CHECK_THROWS_WITH_AS(
      lbfgs.load_state_dict(with(kept, "LBFGS/[*]/strong_wolfe", tensor(0.5, float64))),
      doctest::Contains("LBFGS: strong_wolfe is 0.5: need a whole number from 0 to 1"), ValueError);
}
