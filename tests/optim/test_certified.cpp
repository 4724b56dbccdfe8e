#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>

#include "descent/descent.hpp"

// Regressions whose coefficients NIST has certified (Statistical Reference Datasets). They start
// from zero and use step() alone, in float64, on columns of mean 0 and deviation 1.

using namespace descent;

namespace {

/// A linear model of standardised columns: v = u beta + b.
struct Fit {
  explicit Fit(const char* file, const std::vector<double>& certified_)
      : certified(certified_),
        table(data::read_csv(DESCENT_ROOT "/examples/data/nist/" + std::string(file))) {
    const data::Standardizer s(table.column("y"));
    y_mean = s.mean.item();
    y_std = s.std.item();
    v = s(table.column("y")).reshape({-1, 1});
    std::vector<Tensor> columns;
    for (const std::string& name : table.columns) {
      if (name == "y") continue;
      const data::Standardizer x(table.column(name));
      mean.push_back(x.mean.item());
      std_.push_back(x.std.item());
      columns.push_back(x(table.column(name)));
    }
    u = stack(columns, 1).clone();
    beta = zeros({u.size(1), 1}, float64).requires_grad_();
    b = zeros({1}, float64).requires_grad_();
  }
  NamedTensors parameters() const { return {{"beta", beta}, {"b", b}}; }
  Tensor loss() const {
    beta.zero_grad();
    b.zero_grad();
    Tensor value = nn::mse_loss(matmul(u, beta) + b, v);
    value.backward();
    return value;
  }
  /// Correct digits of the worst coefficient, the intercept included.
  double digits() const {
    const std::vector<double> slope = beta.to_vector<double>();
    std::vector<double> found{y_mean + y_std * b.item()};
    for (std::size_t i = 0; i < slope.size(); ++i) {
      found.push_back(slope[i] * y_std / std_[i]);
      found[0] -= found.back() * mean[i];
    }
    double worst = 15;
    for (std::size_t i = 0; i < found.size(); ++i)
      worst = std::min(worst, -std::log10(std::abs(found[i] / certified[i] - 1)));
    return worst;
  }

  std::vector<double> certified;
  data::Csv table;
  double y_mean, y_std;
  std::vector<double> mean, std_;
  Tensor u, v, beta, b;
};

template <class Opt> double norris(const char* name, typename Opt::Rule options, int steps) {
  const Fit fit("norris.csv", {-0.262323073774029, 1.00211681802045});
  Opt opt(fit.parameters(), options);
  for (int step = 0; step < steps; ++step) opt.step(fit.loss());
  std::printf("norris, %s: %.1f digits\n", name, fit.digits());
  return fit.digits();
}

}  // namespace

TEST_CASE("seven rules reach NIST's certified Norris coefficients") {
  using namespace optim;
  CHECK(norris<SGD>("SGD", {.lr = 0.1}, 300) >= 11);
  CHECK(norris<SGD>("momentum", {.lr = 0.05, .momentum = 0.7}, 400) >= 11);
  CHECK(norris<SGD>("Nesterov", {.lr = 0.1, .momentum = 0.5, .nesterov = true}, 400) >= 11);
  CHECK(norris<Adagrad>("Adagrad", {.lr = 1}, 2000) >= 11);
  CHECK(norris<Adadelta>("Adadelta", {}, 4000) >= 11);
  CHECK(norris<Rprop>("Rprop", {.lr = 0.1, .step_min = 0}, 400) >= 11);
  CHECK(norris<ASGD>("ASGD", {.lr = 0.1, .lambd = 0}, 400) >= 11);
}

TEST_CASE("Nesterov momentum and L-BFGS reach NIST's certified Longley coefficients") {
  const std::vector<double> certified{-3482258.63459582, 15.0618722713733,  -0.358191792925910e-01,
                                      -2.02022980381683, -1.03322686717359, -0.511041056535807e-01,
                                      1829.15146461355};
  const Fit fit("longley.csv", certified);
  optim::SGD opt(fit.parameters(), {.lr = 0.1, .momentum = 0.985, .nesterov = true});
  for (int step = 0; step < 12'000; ++step) opt.step(fit.loss());
  std::printf("longley, Nesterov: %.1f digits\n", fit.digits());
  CHECK(fit.digits() >= 9);

  const Fit other("longley.csv", certified);
  // Without a search: near the minimum, differences of the loss are lost in its rounding (7
  // digits).
  optim::LBFGS lbfgs(other.parameters(), {.tolerance_grad = 0, .tolerance_change = 0});
  for (int step = 0; step < 40; ++step) lbfgs.step([&] { return other.loss(); });
  std::printf("longley, L-BFGS: %.1f digits\n", other.digits());
  CHECK(other.digits() >= 9);
}
