#include <cmath>
#include <descent/descent.hpp>
#include <doctest/doctest.h>

using namespace descent;

// The README's operation, layer and update rule, as they stand there.
#include "readme2.cpp"
#include "readme3.cpp"
#include "readme4.cpp"

template class descent::optim::Optimizer<SignumRule>;

TEST_CASE("the README's log_cosh is right where cosh overflows, and where it is 1") {
  const std::vector<double> at{-1000, -100, -20, 0, 20, 88, 89, 100, 1000, INFINITY, -INFINITY};
  for (DType dtype : {float32, float64}) {
    const std::vector<double> y = log_cosh(tensor(at, dtype)).to_vector<double>();
    for (std::size_t i = 0; i < at.size(); ++i) {
      const double want =
          std::abs(at[i]) + std::log1p(std::exp(-2 * std::abs(at[i]))) - std::log(2);
      if (std::isinf(want)) CHECK(y[i] == want);
      else CHECK(y[i] == doctest::Approx(want).epsilon(1e-6));
    }
  }
  CHECK(std::isnan(log_cosh(tensor(NAN)).item()));
  const GradcheckResult result =
      gradcheck([](const std::vector<Tensor>& in) { return log_cosh(in[0]); },
                {randn({3, 4}, float64).requires_grad_()}, {.order = 2});
  CHECK_MESSAGE(result, result.message);
}

TEST_CASE("the README's layer and rule train") {
  manual_seed(1);
  Scale scale(3);
  Signum opt(scale.named_parameters(), {.lr = 0.5, .beta = 0});
  nn::mse_loss(scale(ones({1, 3})), tensor({{0., 1.5, 2.}})).backward();
  opt.step();
  CHECK(scale.gain.to_vector<double>() == std::vector<double>{0.5, 1.5, 1.5});
}
