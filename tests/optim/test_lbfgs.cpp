#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <doctest/doctest.h>
#include <fstream>
#include <map>
#include <sstream>

#include "optim.hpp"

using namespace descent;
using optim::LBFGS, optim::LBFGSOptions;

namespace {

/// A function of parameters, and the closure for their optimizer.
struct Problem {
  NamedTensors parameters;
  std::function<Tensor()> loss;
  int calls = 0;
  optim::Closure closure() {
    return [this] {
      ++calls;
      for (const auto& [name, p] : parameters) p.zero_grad();
      Tensor value = loss();
      value.backward();
      return value;
    };
  }
};

/// (1 - x)^2 + 100 (y - x^2)^2.
Problem rosenbrock(double x0, double y0, DType dtype = float64) {
  const Tensor x = full({}, x0, dtype).requires_grad_(), y = full({}, y0, dtype).requires_grad_();
  return {{{"x", x}, {"y", y}}, [x, y] {
            const Tensor a = 1 - x, b = y - x * x;
            return a * a + 100 * b * b;
          }};
}

Tensor sines(int64_t first, const Shape& shape) {
  return sin(arange(first, first + zeros(shape).numel()).to(float64))
      .reshape(shape)
      .clone()
      .requires_grad_();
}
/// mean((tanh(x A^T + a) B^T + b - y)^2): 2 inputs, 5 hidden, 8 examples.
Problem net() {
  const Tensor A = sines(1, {5, 2}), a = sines(11, {5}), B = sines(16, {1, 5}), b = sines(21, {1});
  Values x, y;
  for (int i = 0; i < 8; ++i) {
    x.insert(x.end(), {(i - 3.5) / 2, (3 * i % 8 - 3.5) / 2});
    y.push_back((5 * i % 8 - 3.5) / 2);
  }
  const Tensor u = tensor(x, {8, 2}, float64), v = tensor(y, {8, 1}, float64);
  return {{{"A", A}, {"a", a}, {"B", B}, {"b", b}},
          [=] { return nn::mse_loss(linear(tanh(linear(u, A, a)), B, b), v); }};
}
Problem make(const std::string& name) {
  if (name == "net") return net();
  return name == "corner" ? rosenbrock(-1, -1) : rosenbrock(-1.5, 2);
}

LBFGSOptions read_options(std::istringstream& words) {
  LBFGSOptions o;
  for (std::string word; words >> word;) {
    const auto equals = word.find('=');
    const std::string key = word.substr(0, equals), value = word.substr(equals + 1);
    if (key == "lr") o.lr = std::stod(value);
    else if (key == "max_iter") o.max_iter = std::stod(value);
    else if (key == "max_eval") o.max_eval = std::stod(value);
    else if (key == "history_size") o.history_size = std::stod(value);
    else if (key == "tolerance_grad") o.tolerance_grad = std::stod(value);
    else if (key == "tolerance_change") o.tolerance_change = std::stod(value);
    else if (key == "line_search_fn") o.strong_wolfe = value == "strong_wolfe";
    else FAIL("an option that is not known: " << key);
  }
  return o;
}

}  // namespace

TEST_CASE("L-BFGS walks as PyTorch's does") {
  std::ifstream file(DESCENT_ROOT "/tests/golden/lbfgs.txt");
  int cases = 0, losses = 0;
  double worst = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, 5, "case ") != 0) continue;
    std::istringstream words(line.substr(5));
    std::string name, losses_line, counts_line;
    words >> name;
    CAPTURE(name);
    Problem problem = make(name.substr(0, name.find('/')));
    LBFGS opt(problem.parameters, read_options(words));
    std::getline(file, losses_line);
    std::getline(file, counts_line);
    std::istringstream counts(counts_line);
    const char* p = losses_line.c_str();
    for (int step = 0; step < 30; ++step, ++losses) {
      char* end = nullptr;
      const double wanted = std::strtod(p, &end);
      p = end;
      problem.calls = 0;
      const double found = opt.step(problem.closure());
      const double off = std::abs(found - wanted) / std::abs(wanted);
      CHECK(off <= 1e-9);
      worst = std::max(worst, off);
      int count = 0;
      counts >> count;
      CHECK(problem.calls == count);
    }
    ++cases;
  }
  std::printf("golden: %d losses of L-BFGS in %d configurations, worst %.1e\n", losses, cases,
              worst);
  CHECK(cases == 12);
  CHECK(losses == 360);
}

TEST_CASE("L-BFGS goes on from its state dict with the same bits") {
  Problem first = net(), second = net();
  const LBFGSOptions options{.max_iter = 3, .history_size = 4, .strong_wolfe = true};
  LBFGS opt(first.parameters, options), other(second.parameters);
  for (int i = 0; i < 4; ++i) opt.step(first.closure());
  NoGradGuard no_grad;
  for (std::size_t i = 0; i < 4; ++i)
    second.parameters[i].second.copy_(first.parameters[i].second.detach());
  other.load_state_dict(opt.state_dict());
  CHECK(other.options().history_size == 4);
  CHECK(other.steps() == 4);
  for (int i = 0; i < 4; ++i) {
    const double a = opt.step(first.closure()), b = other.step(second.closure());
    CHECK(a == b);
  }
  CHECK(joined(first.parameters) == joined(second.parameters));
  for (const char* key : {"LBFGS/<memory>/0/y", "LBFGS/<memory>/1/s", "LBFGS/<memory>/d"})
    CHECK(refusal<ValueError>([&] { other.load_state_dict(without(opt.state_dict(), key)); }) ==
          "load_state_dict: the state does not fit L-BFGS:\n  " + std::string(key) +
              " is missing\n");
  CHECK(refusal<ValueError>(
            [&] { other.load_state_dict(without(opt.state_dict(), "LBFGS/<memory>/0/rho")); }) ==
        "load_state_dict: the state does not fit L-BFGS:\n  LBFGS/<memory>/0/rho is missing\n"
        "  LBFGS/<memory>/3/rho is unexpected\n  LBFGS/<memory>/3/s is unexpected\n"
        "  LBFGS/<memory>/3/y is unexpected\n");
  Problem elsewhere = rosenbrock(0, 0);
  LBFGS wrong(elsewhere.parameters);
  CHECK(refusal<ValueError>([&] { wrong.load_state_dict(opt.state_dict()); })
            .starts_with("load_state_dict: the state does not fit L-BFGS:\n"
                         "  LBFGS/<memory>/d is float64 [2] here and float64 [21] there\n"));
}

TEST_CASE("L-BFGS saves before it knows a direction, and forgets pairs that its history lacks") {
  optim::LBFGS mixed({{"a", zeros({2}).requires_grad_()}});
  mixed.add({{"b", zeros({1}, float64).requires_grad_()}});
  mixed.load_state_dict(mixed.state_dict());

  Problem problem = net();
  LBFGS opt(problem.parameters, {.max_iter = 4, .history_size = 8});
  for (int i = 0; i < 2; ++i) opt.step(problem.closure());
  const auto pairs = [&] {
    return std::ranges::count_if(opt.state_dict(),
                                 [](const auto& e) { return e.first.ends_with("/rho"); });
  };
  CHECK(pairs() > 3);
  opt.options().history_size = 2;
  opt.step(problem.closure());
  CHECK(pairs() == 2);
}

TEST_CASE("L-BFGS asks for a closure, and refuses what it cannot do") {
  Problem problem = rosenbrock(-1.5, 2);
  LBFGS opt(problem.parameters);
  CHECK(refusal<ValueError>([&] { opt.step(); }) ==
        "LBFGS: a step needs a closure that computes the loss anew: step(closure)");
  CHECK(refusal<ValueError>([&] { opt.step(tensor(1.0)); }) ==
        "LBFGS: a step needs a closure that computes the loss anew: step(closure)");
  CHECK(refusal<ValueError>([&] { LBFGS(problem.parameters, {.lr = -1}); }) ==
        "LBFGS: lr is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { LBFGS(problem.parameters, {.max_iter = 0}); }) ==
        "LBFGS: max_iter is 0: need at least 1");
  CHECK(refusal<ValueError>([&] { LBFGS(problem.parameters, {.tolerance_grad = NAN}); }) ==
        "LBFGS: tolerance_grad is nan: need at least 0");
  CHECK(refusal<ValueError>([&] { LBFGS(problem.parameters, {.history_size = 0}); }) ==
        "LBFGS: history_size is 0: need at least 1");
  CHECK(refusal<DtypeError>([&] {
          LBFGS({{"a", zeros({1}).requires_grad_()}, {"b", zeros({1}, float64).requires_grad_()}});
        }) == "LBFGS: a is float32, b is float64: need one dtype");
  optim::Ledger ledger;
  opt.trace(ledger);
  CHECK(refusal<ValueError>([&] { opt.step(problem.closure()); }) ==
        "LBFGS: a ledger cannot explain its steps, which are not one formula");
}

TEST_CASE("parameters that come later join L-BFGS, which then starts anew") {
  const Tensor x = full({}, 3, float64).requires_grad_(), y = full({}, 2, float64).requires_grad_();
  LBFGS opt({{"x", x}});
  auto closure = [&] {
    opt.zero_grad();
    Tensor loss = x * x + y * y;
    loss.backward();
    return loss;
  };
  opt.step(closure);
  opt.add({{"y", y}});
  const NamedTensors state = opt.state_dict();  // its memory was of fewer dimensions
  opt.load_state_dict(state);
  opt.step(closure);
  CHECK(std::abs(x.item()) + std::abs(y.item()) < 1e-6);
}

TEST_CASE("a closure that fails, or a loss that is no number, leaves L-BFGS where it was") {
  for (bool strong_wolfe : {false, true}) {
    Problem problem = rosenbrock(-1.5, 2);
    LBFGS opt(problem.parameters, {.lr = 1e-3, .strong_wolfe = strong_wolfe});
    opt.step(problem.closure());
    const Values before = joined(problem.parameters);
    const NamedTensors state = opt.state_dict();
    auto unchanged = [&] {
      CHECK(joined(problem.parameters) == before);
      const NamedTensors now = opt.state_dict();
      for (std::size_t i = 0; i < now.size(); ++i)
        CHECK(values(now[i].second) == values(state[i].second));
    };
    const optim::Closure good = problem.closure();
    int left = 3;
    CHECK_THROWS_AS(opt.step([&] {
      if (--left == 0) throw std::runtime_error("no more");
      return good();
    }),
                    std::runtime_error);
    unchanged();
    const optim::Closure bad = [&] { return good() * NAN; };
    CHECK(refusal<NumericError>([&] { opt.step(bad); }) ==
          "LBFGS: the loss, nan, or its gradient is not finite where the step begins");
    unchanged();
    opt.set_nonfinite(optim::NonFinite::skip);
    CHECK(std::isnan(opt.step(bad)));
    unchanged();
    CHECK(opt.skipped_steps() == 1);
  }
}

TEST_CASE("L-BFGS maximizes the negative, in float32 too, and a schedule scales its rate") {
  Problem down = rosenbrock(-1.5, 2), up = rosenbrock(-1.5, 2),
          single = rosenbrock(-1.5, 2, float32);
  const auto loss = up.loss;
  up.loss = [loss] { return -loss(); };
  LBFGS a(down.parameters, {.max_iter = 5, .strong_wolfe = true});
  LBFGS b(up.parameters, {.max_iter = 5, .strong_wolfe = true, .maximize = true});
  LBFGS c(single.parameters, {.strong_wolfe = true});
  for (int i = 0; i < 3; ++i) {
    const double x = a.step(down.closure()), y = b.step(up.closure());
    CHECK(x == -y);
  }
  CHECK(joined(down.parameters) == joined(up.parameters));
  for (int i = 0; i < 10; ++i) c.step(single.closure());
  CHECK(single.loss().item() < 1e-6);

  Problem half = rosenbrock(-1.5, 2), full = rosenbrock(-1.5, 2);
  LBFGS scheduled(half.parameters, {.lr = 1, .max_iter = 1}),
      plain(full.parameters, {.lr = 0.5, .max_iter = 1});
  optim::Scheduler schedule(scheduled, optim::schedule::constant(0.5));
  for (int i = 0; i < 2; ++i) {
    scheduled.step(half.closure());
    plain.step(full.closure());
  }
  CHECK(joined(half.parameters) == joined(full.parameters));
}
