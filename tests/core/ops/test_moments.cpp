#include <cmath>
#include <limits>

#include "support.hpp"

using namespace descent;

// Means, variances and norms of numbers that are large, small or equal, and their gradients.

TEST_CASE("a norm neither overflows nor underflows") {
  CHECK(norm(tensor({3e30, -4e30})).item() == doctest::Approx(5e30).epsilon(1e-7));
  CHECK(norm(tensor({3e-30, -4e-30})).item() == doctest::Approx(5e-30).epsilon(1e-7));
}

TEST_CASE("a mean is right where the sum is not representable") {
  for (DType dtype : {float32, float64}) {
    const double top = dtype == float32 ? double{std::numeric_limits<float>::max()}
                                        : std::numeric_limits<double>::max();
    const double tiny = dtype == float32 ? double{std::numeric_limits<float>::denorm_min()}
                                         : std::numeric_limits<double>::denorm_min();
    CAPTURE(str(dtype));
    CHECK(mean(full({3}, top, dtype)).item() == doctest::Approx(top).epsilon(1e-6));
    CHECK(mean(full({4}, -top, dtype)).item() == -top);
    CHECK(mean(full({70000}, top / 2, dtype)).item() == doctest::Approx(top / 2).epsilon(1e-5));
    CHECK(mean(full({5}, 3 * tiny, dtype)).item() == 3 * tiny);
    // One group that overflows takes nothing from another.
    const Tensor rows = stack({full({6}, top, dtype), full({6}, tiny, dtype)});
    CHECK(values(mean(rows, 1))[0] == doctest::Approx(top).epsilon(1e-6));
    CHECK(values(mean(rows, 1))[1] == tiny);
    CHECK(mean(stack({full({3}, kInf, dtype), full({3}, top, dtype)})).item() == kInf);
    CHECK(std::isnan(mean(full({3}, kNan, dtype)).item()));
  }
}

TEST_CASE("a variance is right where the mean is not representable, and so is its gradient") {
  for (DType dtype : {float32, float64}) {
    const double big = dtype == float32 ? 0x1p24 : 0x1p53;
    CAPTURE(str(dtype));
    const Tensor x = tensor({big, big + 2}, float64).to(dtype).requires_grad_();
    const Tensor v = var(x), d = grad({v}, {x}, {.create_graph = true})[0];
    CHECK(v.item() == 2);
    CHECK(values(d) == Values{-2, 2});
    CHECK(grad({values(d)[0] * d.select(0, 0)}, {x})[0].to_vector<double>() == Values{-2, 2});

    const Tensor line = (arange(1001, dtype) * 2 + big).requires_grad_();
    CHECK(var(line).item() == doctest::Approx(334334.).epsilon(1e-6));
    const auto slope = grad({var(line)}, {line})[0].to_vector<double>();
    for (std::size_t i = 0; i < slope.size(); ++i)
      CHECK(slope[i] == doctest::Approx((2. * static_cast<double>(i) - 1000) / 500).epsilon(1e-6));

    const double top = dtype == float32 ? 3e38 : 1.7e308;
    CHECK(var(tensor({top, -top}, float64).to(dtype)).item() == kInf);
    CHECK(var(full({3}, top, dtype)).item() == 0);
    CHECK(std::isnan(var(tensor({kInf, 1.}, float64).to(dtype)).item()));
  }
  const double small = 0x1p-532;  // its square is a denormal number, with a few bits left
  CHECK(var(tensor({-3 * small, 0., 3 * small}, float64)).item() == 9 * 0x1p-1064);
}

TEST_CASE("the variance of equal numbers is 0, and so is its gradient") {
  for (DType dtype : {float32, float64})
    for (double value : {0.5133193731307983, 0.1, 1e-3, -7e30})
      for (int64_t n : {3, 15, 49, 1000, 33333}) {
        const Tensor x = full({2, n, 2}, value, float64).to(dtype).requires_grad_();
        for (const Tensor& v : {var(x, 1), var(x, {0, 1}, {.correction = 0}), var(x)}) {
          CHECK(abs(v).max().item() == 0);
          CHECK(abs(grad({sum(v)}, {x})[0]).max().item() == 0);
        }
      }
}

TEST_CASE("a norm of any p is right at any size of the numbers, and so is its gradient") {
  const double denormal = std::numeric_limits<double>::denorm_min();
  for (double p : {0.5, 1., 1.5, 2., 2.5, 3., 10., 1000., kInf})
    for (double size : {denormal * 16, 1e-310, 1e-300, 1e-170, 1e-30, 1., 1e30, 1e170, 4e307}) {
      CAPTURE(p);
      CAPTURE(size);
      // (sum of 1, 2^-p and 0)^(1/p), times the size.
      const double want = std::isinf(p) ? 1 : std::pow(1 + std::pow(2, -p), 1 / p);
      const Tensor x = (tensor({1., -0.5, 0.}, float64) * size).requires_grad_();
      const Tensor y = norm(x, {}, {.p = p});
      const double eps = size < 1e-308 ? 1.1 * denormal / size : 1e-14;
      if (want * size < 1.7e308) CHECK(y.item() / size == doctest::Approx(want).epsilon(eps));
      if (want * size >= 1.7e308) continue;
      const auto d = grad({y}, {x})[0].to_vector<double>();
      const double loose = size < 1e-308 ? std::max(p, 1.) * 0.1 : 1e-12;
      if (p < 100) CHECK(d[0] == doctest::Approx(std::pow(want, 1 - p)).epsilon(loose));
      if (p > 1 && p < 100)
        CHECK(d[1] == doctest::Approx(-std::pow(2 * want, 1 - p)).epsilon(loose));
      CHECK(d[2] == 0);
      CHECK(std::isfinite(d[0] + d[1]));
    }
  for (double p : {1., 2., 2.5, 10.}) {  // float32, whose powers leave the range of float64 too
    CAPTURE(p);
    const double root = std::pow(2, 1 / p);
    CHECK(norm(full({2}, 1e-44), {}, {.p = p}).item() ==
          doctest::Approx(1e-44 * root).epsilon(0.2));
    CHECK(norm(full({2}, 1e-38), {}, {.p = p}).item() == doctest::Approx(1e-38 * root));
    CHECK(norm(full({2}, 1.5e38), {}, {.p = p}).item() == doctest::Approx(1.5e38 * root));
  }
  CHECK(norm(tensor({{1e-300, 1e300}, {0., 0.}}, float64), 0).to_vector<double>() ==
        Values{1e-300, 1e300});
  for (double p : {1., 2., 2.5, kInf}) {
    CHECK(norm(tensor({1., -kInf}), {}, {.p = p}).item() == kInf);
    CHECK(std::isnan(norm(tensor({1., kNan}), {}, {.p = p}).item()));
    CHECK(std::isnan(norm(tensor({kInf, kNan}), {}, {.p = p}).item()));
  }
}

TEST_CASE("the second derivative of a norm at 0 is that of PyTorch") {
  auto second = [](double p) {
    const Tensor x = zeros({2}, float64).requires_grad_();
    const Tensor d = grad({norm(x, {}, {.p = p})}, {x}, {.create_graph = true})[0];
    CHECK(values(d) == Values{0, 0});
    return grad({sum(d)}, {x})[0].to_vector<double>();
  };
  for (double p : {1.5, 2.})
    for (double v : second(p)) CHECK(std::isnan(v));
  CHECK(second(1) == Values{0, 0});
  CHECK(second(3) == Values{0, 0});
}

TEST_CASE("gradients at kinks and ties are those that are documented") {
  auto gradient = [](const Tensor& x, auto f) {
    x.requires_grad_();
    return grad({f(x)}, {x})[0].template to_vector<double>();
  };
  auto plain = [](const Tensor& x) { return max(x); };
  CHECK(gradient(tensor({1., 3., 3., 3., 3.}), plain) == Values{0, 0.25, 0.25, 0.25, 0.25});
  CHECK(gradient(tensor({{1., 1.}, {2., 3.}}), [](auto& x) { return sum(min(x, 1)); }) ==
        Values{0.5, 0.5, 1, 0});
  for (double p : {0.5, 1., 1.5, 2., 3., kInf}) {
    CAPTURE(p);
    auto p_norm = [p](const Tensor& x) { return sum(norm(x, 0, {.p = p})); };
    CHECK(gradient(tensor({0., 0.}), p_norm) == Values{0, 0});
    CHECK(gradient(tensor({0., -2.}), p_norm) == Values{0, -1});
  }
}

TEST_CASE("the gradient of a long vector's 2-norm does not vanish on the way") {
  for (const double size : {1e20, 1e25, 1e30}) {
    CAPTURE(size);
    const Tensor x = tensor({3 * size, 4 * size}, float32).requires_grad_();
    (norm(x) * (1 / size)).backward();
    const std::vector<double> g = values(x.grad());
    CHECK(g[0] * size == doctest::Approx(0.6).epsilon(1e-6));
    CHECK(g[1] * size == doctest::Approx(0.8).epsilon(1e-6));
  }
}
