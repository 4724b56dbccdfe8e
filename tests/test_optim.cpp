#include <cmath>
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "descent/descent.hpp"

using namespace descent;

namespace {

using Values = std::vector<double>;

Tensor leaf(const Values& values, DType dtype = float64) {
  return tensor(values).to(dtype).requires_grad_();
}
Values values(const Tensor& x) { return x.to_vector<double>(); }
void set_gradient(const Tensor& p, const Values& g) {
  p.set_grad(tensor(g, p.shape()).to(p.dtype()));
}

/// Whether all elements are within `rtol` times max(1, |expected|); tells the worst if not.
bool close(const Values& found, const Values& expected, double rtol) {
  if (found.size() != expected.size()) return false;
  for (std::size_t i = 0; i < found.size(); ++i)
    if (!(std::abs(found[i] - expected[i]) <= rtol * std::max(1.0, std::abs(expected[i])))) {
      MESSAGE("element " << i << " is " << found[i] << ", expected " << expected[i]);
      return false;
    }
  return true;
}

/// The gradients of the golden series: see golden/optim_torch.py.
Values golden_gradient(const Values& theta, int t) {
  Values g;
  for (int i = 0; i < 3; ++i)
    g.push_back(theta[static_cast<std::size_t>(i)] * (i + 1) / 4 +
                ((7 * t + 3 * i) % 11 - 5) / 8.0);
  return g;
}
const Values kStart{0.7, -1.3, 2.1};

/// The parameter after each of 25 steps along the golden gradients.
template <class Opt>
std::vector<Values> run(const typename Opt::Rule& options, DType dtype = float64) {
  const Tensor p = leaf(kStart, dtype);
  Opt opt({{"p", p}}, options);
  std::vector<Values> path;
  for (int t = 1; t <= 25; ++t) {
    set_gradient(p, golden_gradient(values(p), t));
    opt.step();
    path.push_back(values(p));
  }
  return path;
}

/// SGD and Adam again, written as the reference states them, one element at a time.
std::vector<Values> replay(const optim::SGDRule<double>& o) {
  Values theta = kStart, b(3);
  std::vector<Values> path;
  for (int t = 1; t <= 25; ++t) {
    const Values raw = golden_gradient(theta, t);
    for (std::size_t i = 0; i < 3; ++i) {
      double g = (o.maximize != 0 ? -raw[i] : raw[i]) + o.weight_decay * theta[i];
      if (o.momentum != 0) {
        b[i] = t == 1 ? g : o.momentum * b[i] + (1 - o.dampening) * g;
        g = o.nesterov != 0 ? g + o.momentum * b[i] : b[i];
      }
      theta[i] -= o.lr * g;
    }
    path.push_back(theta);
  }
  return path;
}
std::vector<Values> replay(const optim::AdamRule<double>& o) {
  Values theta = kStart, m(3), v(3);
  std::vector<Values> path;
  for (int t = 1; t <= 25; ++t) {
    const Values raw = golden_gradient(theta, t);
    for (std::size_t i = 0; i < 3; ++i) {
      const double g = (o.maximize != 0 ? -raw[i] : raw[i]) + o.weight_decay * theta[i];
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
      const double m_hat = m[i] / (1 - std::pow(o.beta1, t));
      const double v_hat = v[i] / (1 - std::pow(o.beta2, t));
      theta[i] -= o.lr * m_hat / (std::sqrt(v_hat) + o.eps);
    }
    path.push_back(theta);
  }
  return path;
}

/// Steps `opt` along gradients that differ by step and element.
void wander(optim::OptimizerBase& opt, int steps) {
  for (int t = 1; t <= steps; ++t) {
    for (const auto& [name, p] : opt.parameters()) {
      Values g;
      for (int64_t i = 0; i < p.numel(); ++i)
        g.push_back(static_cast<double>((17 * i + 5 * t) % 23 - 11) / 8);
      set_gradient(p, g);
    }
    opt.step();
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

TEST_CASE("every combination of options equals the formulas written out") {
  for (double momentum : {0.0, 0.7})
    for (double dampening : {0.0, 0.4})
      for (double weight_decay : {0.0, 0.05})
        for (bool maximize : {false, true})
          for (bool nesterov : {false, true}) {
            if (nesterov && (momentum == 0 || dampening != 0)) continue;
            const optim::SGDRule<> o{.lr = 0.03,
                                     .momentum = momentum,
                                     .dampening = dampening,
                                     .weight_decay = weight_decay,
                                     .nesterov = nesterov,
                                     .maximize = maximize};
            const auto ours = run<optim::SGD>(o), plain = replay(o);
            for (std::size_t t = 0; t < 25; ++t) CHECK(close(ours[t], plain[t], 1e-12));
          }
  for (double beta1 : {0.0, 0.9})
    for (double weight_decay : {0.0, 0.05})
      for (bool maximize : {false, true}) {
        const optim::AdamRule<> o{.lr = 0.02,
                                  .beta1 = beta1,
                                  .beta2 = 0.95,
                                  .eps = 1e-3,
                                  .weight_decay = weight_decay,
                                  .maximize = maximize};
        const auto ours = run<optim::Adam>(o), plain = replay(o);
        for (std::size_t t = 0; t < 25; ++t) CHECK(close(ours[t], plain[t], 1e-12));
      }
}

TEST_CASE("float32 follows float64 to its own precision") {
  const optim::SGDRule<> sgd{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.01};
  CHECK(close(run<optim::SGD>(sgd, float32).back(), run<optim::SGD>(sgd).back(), 5e-6));
  CHECK(close(run<optim::Adam>({.lr = 0.05}, float32).back(), run<optim::Adam>({.lr = 0.05}).back(),
              5e-6));
  CHECK(run<optim::SGD>(sgd, float32).back() != run<optim::SGD>(sgd).back());
}

TEST_CASE("parameters in one optimizer move as each would in its own") {
  auto make = [](int64_t n, double from) { return linspace(from, 2, n, float64).requires_grad_(); };
  const Tensor a = make(5, -1), b = make(70, 0), alone_a = make(5, -1), alone_b = make(70, 0);
  optim::Adam both({{"a", a}, {"b", b}}, {.lr = 0.1});
  optim::Adam first({{"a", alone_a}}, {.lr = 0.1}), second({{"b", alone_b}}, {.lr = 0.1});
  for (optim::OptimizerBase* opt : {&both, &first, &second}) wander(*opt, 7);
  CHECK(values(a) == values(alone_a));
  CHECK(values(b) == values(alone_b));
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

TEST_CASE("zero gradients leave SGD without decay where it is, and gradients are never written") {
  const Tensor p = leaf(kStart);
  optim::SGD opt({{"p", p}}, {.lr = 0.5, .momentum = 0.9, .nesterov = 1});
  set_gradient(p, {0, 0, 0});
  for (int t = 0; t < 3; ++t) opt.step();
  CHECK(values(p) == kStart);

  optim::Adam adam({{"p", p}}, {.weight_decay = 0.1, .maximize = 1});
  set_gradient(p, {1, -2, 3});
  adam.step();
  CHECK(values(p.grad()) == Values{1, -2, 3});
  CHECK(values(p) != kStart);
  adam.zero_grad();
  CHECK(!p.grad().defined());
}

TEST_CASE("a gradient of any strides is applied element by element") {
  const Tensor p = zeros({2, 3}, float64).requires_grad_();
  optim::SGD opt({{"p", p}}, {.lr = 1});
  p.set_grad(tensor(Values{1, 2, 3, 4, 5, 6}, {3, 2}).t());
  opt.step();
  CHECK(values(p) == Values{-1, -3, -5, -2, -4, -6});
}

TEST_CASE("groups copy the defaults, the later pattern wins, and changes take effect") {
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
  opt.options().lr = 1;  // groups keep their copies
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

TEST_CASE("the exponential schedule equals its closed form") {
  const auto smooth = optim::exponential(0.8, {.period = 4, .floor = 0.3});
  const auto stairs = optim::exponential(0.8, {.period = 4, .staircase = true, .floor = 0.3});
  for (int64_t step = 0; step < 40; ++step) {
    CHECK(smooth(step) == doctest::Approx(std::max(0.3, std::pow(0.8, double(step) / 4))));
    CHECK(stairs(step) == doctest::Approx(std::max(0.3, std::pow(0.8, double(step / 4)))));
  }
  CHECK(stairs(3) == 1);
  CHECK(smooth(39) == 0.3);
  CHECK(optim::exponential(0.95)(2) == doctest::Approx(0.9025).epsilon(1e-14));
  CHECK_THROWS_AS(optim::exponential(0), ValueError);
  CHECK_THROWS_AS(optim::exponential(0.5, {.period = 0}), ValueError);
  CHECK_THROWS_AS(optim::exponential(0.5, {.floor = 1.5}), ValueError);
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
  CHECK_THROWS_WITH_AS(SGD({{"x", p}, {"y", p}}), doctest::Contains("x and y are the same tensor"),
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
