#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>
#include <functional>

#include "inject.hpp"
#include "optim.hpp"

// L-BFGS where the loss is not a number, where a step makes no progress, and where it is cut short.

using namespace descent;
using optim::LBFGS, optim::LBFGSOptions;

namespace {

/// A loss, where its search begins, and where it is least.
struct Barrier {
  const char* name;
  std::function<Tensor(const Tensor& w)> loss;
  Values start, minimum;
  bool single = true;  // whether float32 is precise enough for the minimum
};

/// Poisson regression on a feature of 0 to 1000: mean(exp(x w) - y x w) where y = exp(x wished).
Barrier poisson(const Values& wished) {
  const auto columns = static_cast<int64_t>(wished.size());
  Values x, y;
  for (int i = 0; i <= 20; ++i) {
    double eta = 0;
    for (std::size_t c = 0; c < wished.size(); ++c) {
      x.push_back(c == 0 ? 50 * i : c == 1 ? 1 : (7 * i + static_cast<int>(c)) % 5 / 4.0);
      eta += x.back() * wished[c];
    }
    y.push_back(std::exp(eta));
  }
  return {"Poisson",
          [u = tensor(x, {21, columns}, float64), v = tensor(y, float64)](const Tensor& w) {
            const Tensor eta = matmul(u.to(w.dtype()), w);
            return mean(exp(eta) - v.to(w.dtype()) * eta);
          },
          Values(wished.size(), 0), wished, wished.size() < 3};
}
/// The same loss, but `value` where any w is not above 0; the gradient stays what it was there.
auto beyond(double value, std::function<Tensor(const Tensor&)> loss) {
  return [=](const Tensor& w) {
    const bool inside = all(w.detach() > 0.0).item<bool>();
    return inside ? loss(w) : loss(w) * 0.0 + sum(w) + value;
  };
}

const Barrier barriers[] = {
    {"logarithm", [](const Tensor& w) { return sum(w - log(w)); }, {3}, {1}},
    {"logarithms", [](const Tensor& w) { return sum(w - log(w)); }, {3, 0.1, 40}, {1, 1, 1}},
    {"simplex",
     [](const Tensor& w) { return sum(w * w) - sum(log(w)) * 1e-3 - log(1 - sum(w)) * 1e-3; },
     {0.3, 0.6},
     {0.0221006, 0.0221006}},
    {"NaN, its slope a number",
     beyond(NAN, [](const Tensor& w) { return sum(w + 1 / (w * 100)); }),
     {5},
     {0.1}},
    {"infinity, its slope a number",
     beyond(INFINITY, [](const Tensor& w) { return sum(w + 1 / (w * 100)); }),
     {5, 9},
     {0.1, 0.1}},
    {"minus infinity",
     beyond(-INFINITY, [](const Tensor& w) { return sum(w + 1 / (w * 100)); }),
     {5, 9},
     {0.1, 0.1}},
    {"root", [](const Tensor& w) { return sum(w - sqrt(w)); }, {9}, {0.25}},
    {"overflow", [](const Tensor& w) { return sum(exp(w * 1000) - w * 5000); }, {0}, {0.0016094}},
    poisson({0.002}),
    poisson({0.003, -1}),
    poisson({0.003, -1, 0.5}),
};

struct Problem {
  Tensor w;
  std::function<Tensor(const Tensor&)> loss;
  int calls = 0;
  optim::Closure closure() {
    return [this] {
      ++calls;
      w.zero_grad();
      Tensor value = loss(w);
      value.backward();
      return value;
    };
  }
};

}  // namespace

TEST_CASE("L-BFGS converges where a step too far is no number") {
  int64_t runs = 0;
  for (const Barrier& b : barriers) {
    for (DType dtype : {float64, float32}) {
      if (dtype == float32 && !b.single) continue;
      for (double max_iter : {20.0, 5.0, 1.0}) {
        CAPTURE(std::string(b.name));
        CAPTURE(str(dtype));
        CAPTURE(max_iter);
        Problem problem{leaf(b.start, dtype), b.loss};
        LBFGS opt({{"w", problem.w}}, {.max_iter = max_iter, .max_eval = 25, .strong_wolfe = true});
        Reports reports(opt);
        for (int step = 0; step < (max_iter == 1 ? 100 : 30); ++step) opt.step(problem.closure());
        const Values found = values(problem.w);
        for (std::size_t i = 0; i < found.size(); ++i)
          CHECK(found[i] == doctest::Approx(b.minimum[i]).epsilon(dtype == float32 ? 2e-2 : 1e-3));
        CHECK(opt.skipped_steps() == 0);
        ++runs;
      }
    }
  }
  std::printf("L-BFGS: %ld runs into barriers, all converged\n", runs);
}

namespace {

/// |w|^2 / 2 + k.w - mu log(1 - n.w), where the unit vector n has an angle, and k is `push` along
/// it and `across` beside it.
struct Wall {
  double angle, mu, push, across;
  Values turned(double along, double beside) const {
    const double c = std::cos(angle), s = std::sin(angle);
    return {c * along - s * beside, s * along + c * beside};
  }
  Tensor loss(const Tensor& w) const {
    const Tensor n = tensor(turned(1, 0), w.dtype());
    const Tensor k = tensor(turned(push, across), w.dtype());
    return sum(w * w) / 2 + sum(k * w) - log(1 - sum(n * w)) * mu;
  }
  /// Where 1 - x =: r > 0 solves x + push + mu / r = 0.
  double least() const {
    const double b = 1 + push, root = std::sqrt(b * b + 4 * mu);
    const double r = b < 0 ? 2 * mu / (root - b) : (b + root) / 2, x = 1 - r;
    return (x * x - across * across) / 2 + push * x - mu * std::log(r);
  }
};

}  // namespace

TEST_CASE("L-BFGS leaves a wall behind, whatever it learnt of the curvature there") {
  int64_t runs = 0;
  double worst = 0;
  auto run = [&](DType dtype, const Wall& wall, double gap, double scale, double max_iter) {
    Problem problem{leaf(wall.turned(1 - gap, 0), dtype),
                    [=](const Tensor& w) { return wall.loss(w) * scale; }};
    LBFGS opt({{"w", problem.w}}, {.max_iter = max_iter, .max_eval = 25, .strong_wolfe = true});
    Reports reports(opt);
    auto distance = [&] { return std::abs(wall.loss(problem.w).item() / wall.least() - 1); };
    const double tolerance = dtype == float32 ? 1e-4 : 1e-6;
    double off = distance();
    int stood = 0;
    for (int step = 0; step < (max_iter == 1 ? 400 : 60); ++step) {
      opt.step(problem.closure());
      const double now = distance();
      stood += now > tolerance && now == off;
      off = now;
    }
    CAPTURE(str(dtype));
    CAPTURE(wall.angle);
    CAPTURE(wall.mu);
    CAPTURE(wall.push);
    CAPTURE(wall.across);
    CAPTURE(gap);
    CAPTURE(scale);
    CAPTURE(max_iter);
    CHECK(off < tolerance);
    CHECK(stood == 0);
    worst = std::max(worst, off);
    ++runs;
  };
  for (double mu : {1e-4, 1e-3, 0.1})
    for (double push : {-5.0, -50.0})
      for (double across : {60.0, -9.0})
        for (double gap : {0.3, 1e-3})
          for (double scale : {1.0, 0.01}) {
            for (double angle : {0.0, 0.7, 2.5})
              for (double max_iter : {20.0, 1.0})
                run(float64, {angle, mu, push, across}, gap, scale, max_iter);
            // With a smaller mu, the minimum is too near to 1 for float32.
            if (mu >= 1e-3) run(float32, {0, mu, push, across}, gap, scale, 20);
          }
  std::printf("L-BFGS: %ld runs that begin at a wall, worst %.1e off\n", runs, worst);
}

TEST_CASE("L-BFGS goes on once the loss is a number again") {
  for (double max_eval : {0.0, 2.0, 4.0})
    for (int broken : {1, 2, 3, 4, 5, 6, 9, 12, 20}) {
      Problem problem{leaf({3}), {}};
      int step = 0;
      problem.loss = [&step, broken](const Tensor& w) {
        const bool bad = step < broken && w.detach().item() != 3;
        return bad ? sum(w * w) * NAN : sum(w * w);
      };
      LBFGS opt({{"w", problem.w}}, {.max_eval = max_eval, .strong_wolfe = true});
      Reports reports(opt);
      for (; step < broken; ++step) opt.step(problem.closure());
      CHECK(problem.w.item() == 3);
      CHECK(reports.all.size() == 1);
      for (int i = 0; i < 4; ++i) opt.step(problem.closure());
      CHECK(std::abs(problem.w.item()) < 1e-6);
    }
}

TEST_CASE("L-BFGS comes back over several steps where one has too few evaluations") {
  for (double lr : {10.0, 1e4})
    for (double max_eval : {2.0, 3.0}) {
      Problem problem{leaf({3}), [](const Tensor& w) { return sum(w - log(w)); }};
      LBFGS opt({{"w", problem.w}},
                {.lr = lr, .max_iter = 1, .max_eval = max_eval, .strong_wolfe = true});
      Reports reports(opt);
      for (int i = 0; i < 300; ++i) opt.step(problem.closure());
      CAPTURE(lr);
      CAPTURE(max_eval);
      CHECK(std::abs(problem.w.item() - 1) < 1e-3);
    }
}

TEST_CASE("L-BFGS comes back from a barrier to where the loss can only just tell its points") {
  for (DType dtype : {float64, float32})
    for (double above : {0.0, 1e3, 1e5}) {
      Problem problem{leaf({0.0065}, dtype),
                      [above](const Tensor& w) { return sum(w - log(w) * 1e-3) + above; }};
      LBFGS opt({{"w", problem.w}}, {.strong_wolfe = true});
      Reports reports(opt);
      for (int i = 0; i < 20; ++i) opt.step(problem.closure());
      CHECK(std::abs(problem.w.item() - 1e-3) < 3e-4);
    }
}

TEST_CASE("L-BFGS goes down where the square of the gradient is more than float32 holds") {
  for (bool strong_wolfe : {false, true}) {
    Problem problem{leaf({3, -2}, float32), [](const Tensor& w) { return sum(w * w) * 1e20; }};
    LBFGS opt({{"w", problem.w}}, {.strong_wolfe = strong_wolfe});
    Reports reports(opt);
    opt.step(problem.closure());
    for (double w : values(problem.w)) CHECK(std::abs(w) < 1e-3);
    CHECK(reports.all.empty());
  }
}

TEST_CASE("a step of L-BFGS that makes no progress says why, once") {
  auto run = [](std::function<Tensor(const Tensor&)> loss, double start, LBFGSOptions options,
                bool flip = false) {
    Problem problem{leaf({start}), std::move(loss)};
    LBFGS opt({{"w", problem.w}}, options);
    opt.set_nonfinite(optim::NonFinite::skip);
    Reports reports(opt);
    const optim::Closure good = problem.closure();
    for (int i = 0; i < 5; ++i)
      opt.step([&] {
        Tensor value = good();
        if (flip) problem.w.set_grad(-problem.w.grad());
        return value;
      });
    CHECK(reports.all.size() <= 1);
    return reports.all.empty() ? "" : reports.all[0];
  };
  auto square_of = [](const Tensor& w) { return sum(w * w); };
  const LBFGSOptions search{.strong_wolfe = true};
  // The gradient has the wrong sign.
  const std::string uphill = run(square_of, 3, {.max_eval = 200, .strong_wolfe = true}, true);
  CHECK(uphill ==
        "LBFGS: a step made no progress: the loss does not fall along its direction, where its "
        "slope is -36: is the gradient that of the loss, and the loss the same in each call?");
  // The loss is a number only at the start.
  auto alone = [](const Tensor& w) {
    return w.detach().item() == 3 ? sum(w * w) : sum(w * w) * NAN;
  };
  CHECK(run(alone, 3, search)
            .starts_with("LBFGS: a step made no progress: the loss or its slope is not finite "
                         "along its direction, and the loss no lower at "));
  // Too few evaluations to come back.
  auto far = [](const Tensor& w) { return sum(w - log(w)); };
  const std::string few = run(far, 3, {.lr = 1e9, .max_iter = 1, .strong_wolfe = true});
  CHECK(few ==
        "LBFGS: a step made no progress: the loss or its slope is not finite along its direction, "
        "and the loss no lower at 1000000000 times it");
  const std::string used_up = run(square_of, 3, {.lr = 1e6, .max_iter = 1, .strong_wolfe = true});
  CHECK(used_up ==
        "LBFGS: a step made no progress: max_eval was reached before a lower loss was found: raise "
        "it");
  // Gains too small for the loss to tell.
  auto flat = [](const Tensor& w) { return sum(w * w) * 1e-4 + 1e12; };
  CHECK(run(flat, 3, {.max_eval = 2, .strong_wolfe = true}) ==
        "LBFGS: a step made no progress: along the gradient the loss, 1000000000000.0009, does not "
        "fall, until what it promises, 3.6e-07, is lost in the rounding");
  // Without a search.
  const std::string fixed = run(far, 3, {.lr = 100});
  CHECK(fixed ==
        "LBFGS: a step was skipped: the loss, nan, or its gradient is not finite behind a step of "
        "fixed length: strong_wolfe, or a smaller lr, helps");
  // These steps make progress, and nothing is reported.
  CHECK(run(square_of, 3, search) == "");
  CHECK(run(square_of, 0, search) == "");
  CHECK(run(far, 3, search) == "");
  CHECK(run(square_of, 3, {.lr = 0.1}) == "");
}

TEST_CASE("without a search L-BFGS says what would help") {
  Problem problem{leaf({3}), [](const Tensor& w) { return sum(w - log(w)); }};
  LBFGS opt({{"w", problem.w}}, {.lr = 100});
  CHECK(refusal<NumericError>([&] { opt.step(problem.closure()); }) ==
        "LBFGS: the loss, nan, or its gradient is not finite behind a step of fixed length: "
        "strong_wolfe, or a smaller lr, helps");
  CHECK(problem.w.item() == 3);
}

namespace {

/// A problem of two parameters after two steps.
struct Run {
  explicit Run(bool strong_wolfe, int steps = 2)
      : opt({{"w", w}, {"v", v}}, {.lr = strong_wolfe ? 1 : 0.1,
                                   .max_iter = 3,
                                   .history_size = 2,
                                   .strong_wolfe = strong_wolfe}) {
    opt.on_report([](const std::string&) {});
    for (int i = 0; i < steps; ++i) step();
  }
  /// Minimizes w - log(w) + v^4 - v. Its gradients are written down, so that what fails is L-BFGS.
  double step() {
    return opt.step([&] {
      NoGradGuard no_grad;
      w.set_grad(1 - 1 / w);
      v.set_grad(4 * v * v * v - 1.0);
      return sum(w - log(w)) + sum(v * v * v * v - v);
    });
  }
  Values state() const {
    Values all = values(w);
    for (double x : values(v)) all.push_back(x);
    for (const auto& [key, t] : opt.state_dict())
      for (double x : values(t)) all.push_back(x);
    return all;
  }
  Tensor w = leaf({3, 0.25}), v = leaf({2, -1});
  LBFGS opt;
};

}  // namespace

TEST_CASE("a step or a load of L-BFGS that finds no memory has changed nothing") {
  const inject::Watch watch;
  const int64_t before = inject::failures;
  for (bool strong_wolfe : {true, false}) {
    Run smooth(strong_wolfe);
    const Values start = smooth.state();
    const NamedTensors saved = Run(strong_wolfe, 4).opt.state_dict();
    smooth.step();
    const Values after = smooth.state();
    smooth.opt.load_state_dict(saved);
    const Values loaded = smooth.state();
    int outcome = 1;
    for (int64_t k = 1; outcome != 0; ++k) {
      Run run(strong_wolfe);
      outcome = inject::fails(k, [&] { run.step(); });
      CHECK(run.state() == (outcome == 1 ? start : after));
      if (outcome == 1) run.step();
      CHECK(run.state() == after);
    }
    outcome = 1;
    for (int64_t k = 1; outcome != 0; ++k) {
      Run run(strong_wolfe, 3);
      outcome = inject::fails(k, [&] { run.opt.load_state_dict(saved); });
      CHECK(run.state() == (outcome == 1 ? after : loaded));
    }
  }
  std::printf("injected: %ld failures in steps and loads of L-BFGS\n", inject::failures - before);
  CHECK(inject::failures - before > 1000);
}

TEST_CASE("a report that throws leaves L-BFGS where it was") {
  Problem problem{leaf({3}), [](const Tensor& w) { return sum(w * w); }};
  LBFGS opt({{"w", problem.w}}, {.strong_wolfe = true});
  opt.on_report([](const std::string&) { throw std::runtime_error("said"); });
  const optim::Closure good = problem.closure();
  const Values before = values(problem.w);
  CHECK_THROWS_AS(opt.step([&] {
    Tensor value = good();
    problem.w.set_grad(-problem.w.grad());
    return value;
  }),
                  std::runtime_error);
  CHECK(values(problem.w) == before);
  CHECK(opt.steps() == 0);
  opt.step(good);
  CHECK(std::abs(problem.w.item()) < 1e-6);
}

TEST_CASE("a rate of 0 moves nothing in L-BFGS, with and without a search") {
  for (bool strong_wolfe : {true, false}) {
    Problem problem{leaf({3, -1}), [](const Tensor& w) { return sum(w * w * w * w); }};
    LBFGS opt({{"w", problem.w}}, {.max_iter = 2, .strong_wolfe = strong_wolfe});
    Reports reports(opt);
    for (double factor : {0.0, 0.01, 0.0}) {
      opt.set_lr_factor(factor);
      const Values before = values(problem.w);
      for (int i = 0; i < 2; ++i) opt.step(problem.closure());
      CHECK((values(problem.w) == before) == (factor == 0));
      for (double w : values(problem.w)) CHECK(std::isfinite(w));
    }
    CHECK(reports.all.empty());
  }
}
