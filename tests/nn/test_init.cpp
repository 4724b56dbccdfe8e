#include <cmath>

#include "support.hpp"

using namespace descent;
namespace init = nn::init;

namespace {

/// The mean and the standard deviation of all elements.
std::pair<double, double> moments(const Tensor& x) {
  const Tensor wide = x.detach().to(float64);
  return {mean(wide).item(), std::sqrt(var(wide).item())};
}

/// Of n = 240,000 numbers: mean 0 and this deviation, within 5 standard errors.
void check_deviation(const Tensor& x, double std) {
  REQUIRE(x.numel() == 240'000);
  const auto [mean, deviation] = moments(x);
  CHECK(std::abs(mean) < 5 * std / std::sqrt(240e3));
  CHECK(std::abs(deviation / std - 1) < 5 / std::sqrt(2 * 240e3));
}

}  // namespace

TEST_CASE("the fans of a weight count what meets in one output and what one input meets") {
  CHECK(init::fan_in(zeros({4, 3})) == 3);
  CHECK(init::fan_out(zeros({4, 3})) == 4);
  CHECK(init::fan_in(zeros({4, 3, 5, 2})) == 30);
  CHECK(init::fan_out(zeros({4, 3, 5, 2})) == 40);
  CHECK(init::fan_out(zeros({4, 0})) == 0);
  CHECK(refusal<ShapeError>([] { (void)init::fan_out(zeros({4})); }) ==
        "init: weight [4] has no fan: need rank 2 or more");
}

TEST_CASE("gains are PyTorch's") {
  using enum init::Nonlinearity;
  CHECK(init::gain(linear) == 1);
  CHECK(init::gain(sigmoid) == 1);
  CHECK(init::gain(tanh) == 5.0 / 3);
  CHECK(init::gain(relu) == std::sqrt(2.0));
  CHECK(init::gain(leaky_relu) == doctest::Approx(1.4141428569978354).epsilon(1e-15));
  CHECK(init::gain(leaky_relu, 0.5) == doctest::Approx(1.2649110640673518).epsilon(1e-15));
  CHECK(init::gain(selu) == 0.75);
}

TEST_CASE("initialisers have the deviation that their papers give, and stay in their bounds") {
  manual_seed(1);
  for (const DType dtype : {float32, float64}) {
    const Tensor w = zeros({200, 300, 2, 2}, dtype).requires_grad_();  // fans 1,200 and 800
    init::normal_(w, 0, 0.5);
    check_deviation(w, 0.5);
    init::uniform_(w, -3, 3);
    check_deviation(w, std::sqrt(3.0));
    CHECK(max(abs(w)).item() <= 3);
    init::xavier_uniform_(w, 2);
    check_deviation(w, 2 * std::sqrt(2.0 / 2000));
    CHECK(max(abs(w)).item() <= 2 * std::sqrt(6.0 / 2000) * (1 + 1e-6));
    init::xavier_normal_(w);
    check_deviation(w, std::sqrt(2.0 / 2000));
    init::kaiming_uniform_(w);
    check_deviation(w, std::sqrt(2.0 / 1200));
    CHECK(max(abs(w)).item() <= std::sqrt(6.0 / 1200) * (1 + 1e-6));
    init::kaiming_uniform_(w, {.a = std::sqrt(5.0)});
    check_deviation(w, std::sqrt(1.0 / 3 / 1200));
    init::kaiming_normal_(w, {.fan_out = true, .nonlinearity = init::Nonlinearity::tanh});
    check_deviation(w, 5.0 / 3 / std::sqrt(800.0));
    CHECK(w.is_leaf());
    CHECK_FALSE(w.grad().defined());
  }
}

TEST_CASE("truncated normal numbers lie within their limits, and are normal there") {
  manual_seed(2);
  const Tensor x = zeros({240'000}, float64);
  init::trunc_normal_(x);  // in 2 deviations: variance 1 - 2 * 2 phi(2) / (2 Phi(2) - 1)
  CHECK(max(abs(x)).item() <= 2);
  check_deviation(x, 0.879625661034);
  init::trunc_normal_(x, 1, 0.5, 1.25, 9);
  CHECK(min(x).item() >= 1.25);
  const double h = 0.5, density = std::exp(-h * h / 2) / std::sqrt(2 * M_PI),
               above = std::erfc(h / std::sqrt(2.0)) / 2;
  CHECK(std::abs(moments(x).first - (1 + 0.5 * density / above)) < 5 * 0.3 / std::sqrt(240e3));
  CHECK(refusal<ValueError>([&] { init::trunc_normal_(x, 0, 1, 9, 10); }) ==
        "trunc_normal_: mean 0 and std 1 in [9, 10]: need std above 0, and 1 % of the numbers "
        "there");
  for (const double std : {0.0, -1.0, kNan})
    CHECK(refusal<ValueError>([&] { init::trunc_normal_(x, 0, std); }) != "");
}

TEST_CASE("an orthogonal weight has orthonormal rows or columns") {
  manual_seed(3);
  for (const Shape& shape : {Shape{5, 5}, Shape{3, 7}, Shape{7, 3}, Shape{4, 3, 2, 2}, Shape{1, 6},
                             Shape{40, 90}, Shape{90, 40}}) {
    const Tensor w = zeros(shape, float64).requires_grad_();
    init::orthogonal_(w, 3);
    const Tensor m = w.detach().reshape({shape[0], -1}) / 3.0;
    const Tensor square = m.size(0) <= m.size(1) ? matmul(m, m.t()) : matmul(m.t(), m);
    CHECK(max(abs(square - eye(square.size(0), float64))).item() < 1e-13);
  }
  Tensor sum = zeros({3, 3}, float64);  // of many: no direction is preferred
  for (int i = 0; i < 2000; ++i) {
    const Tensor w = zeros({3, 3}, float64);
    init::orthogonal_(w);
    sum += w;
  }
  CHECK(max(abs(sum / 2000.0)).item() < 5 * std::sqrt(1.0 / 3 / 2000));
  init::orthogonal_(zeros({0, 3}));
}

TEST_CASE("eye_ and sparse_ fill matrices") {
  const Tensor x = full({2, 3}, 7).requires_grad_();
  init::eye_(x);
  CHECK(values(x) == Values{1, 0, 0, 0, 1, 0});
  manual_seed(4);
  const Tensor w = zeros({10, 24'000}, float64);
  init::sparse_(w, 0.25, 0.5);
  CHECK(values(sum((w == 0).to(float64), 0)) == Values(24'000, 3));
  check_deviation(w, 0.5 * std::sqrt(0.7));
  CHECK(refusal<ShapeError>([] { init::eye_(zeros({3})); }) == "eye_: x [3]: need a matrix [n, m]");
  CHECK(refusal<ShapeError>([] {
          init::sparse_(zeros({3, 1, 2}), 0.5);
        }) == "sparse_: x [3, 1, 2]: need a matrix [n, m]");
  CHECK(refusal<ValueError>([&] { init::sparse_(w, 1.5); }) ==
        "sparse_: sparsity is 1.5: need [0, 1]");
}

TEST_CASE("the same seed gives the same weights with any number of threads") {
  const auto fill = [](int threads) {
    const NumThreads number(threads);
    Generator generator(5);
    const Tensor w = zeros({30, 40});
    init::trunc_normal_(w, 0, 1, -1, 1, generator);
    const Tensor v = zeros({30, 40});
    init::orthogonal_(v, 1, generator);
    return cat({w, v});
  };
  CHECK(same_bits(fill(1), fill(3)));
}
