#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <random>
#include <string>
#include <vector>

#include "descent/core/kernels/vmath.hpp"
#include "descent/core/runtime/simd.hpp"

using namespace descent;

namespace {

constexpr int kPoints = 1000000;

/// |got - want| in units of the last place of `want`; huge for the wrong infinity, NaN or zero.
template <class T> double ulps(T got, long double want) {
  if (std::isnan(want)) return std::isnan(got) ? 0 : 1e9;
  const T rounded = static_cast<T>(want);
  if (std::isinf(rounded) || std::isinf(got)) return got == rounded ? 0 : 1e9;
  if (rounded == 0 && got == 0) return std::signbit(got) == std::signbit(rounded) ? 0 : 1e9;
  using L = std::numeric_limits<T>;
  const int least = L::min_exponent - L::digits;  // of a subnormal's last place
  const int place = rounded == 0 ? least : std::max(std::ilogb(rounded) + 1 - L::digits, least);
  return static_cast<double>(std::abs(static_cast<long double>(got) - want) /
                             std::ldexp(1.0L, place));
}

/// A dense grid on [low, high], as many random ones there, tiny ones, any bits at all, and edges.
template <class T> std::vector<T> points(double low, double high) {
  std::vector<T> x;
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> inside(low, high), small(-30, 0);
  for (int i = 0; i < kPoints / 4; ++i) {
    x.push_back(static_cast<T>(low + (high - low) * i / (kPoints / 4 - 1)));
    x.push_back(static_cast<T>(inside(random)));
    x.push_back(static_cast<T>(inside(random) * std::exp2(small(random))));
    x.push_back(std::bit_cast<T>(static_cast<vmath::detail::Bits<T>>(random())));
  }
  using L = std::numeric_limits<T>;
  for (T edge :
       {T(0), T(1), L::infinity(), L::max(), L::min(), L::denorm_min(), L::epsilon(),
        T(0x1.c6d03207dedf8p-3), T(88.5), T(88.73), T(103.9), T(709.7), T(709.79), T(745.1)}) {
    x.push_back(edge);
    x.push_back(-edge);
  }
  x.push_back(L::quiet_NaN());
  return x;
}

template <class T, class F, class Exact>
void check(const std::string& name, double low, double high, F f, Exact exact) {
  const std::vector<T> x = points<T>(low, high);
  const simd::Isa best = simd::isa();
  std::vector<T> y[3];
  for (int isa = 0; isa <= static_cast<int>(best); ++isa) {
    y[isa].resize(x.size());
    simd::detail::current_isa = static_cast<simd::Isa>(isa);
    simd::map(f, static_cast<int64_t>(x.size()), y[isa].data(), x.data());
  }
  double worst = 0;
  T where = 0;
  int64_t different = 0;
  const std::vector<T>& result = y[static_cast<int>(best)];
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = ulps(result[i], exact(static_cast<long double>(x[i])));
    if (error > worst) worst = error, where = x[i];
    for (int isa = 0; isa < static_cast<int>(best); ++isa)
      different += !(y[isa][i] == result[i] || (std::isnan(y[isa][i]) && std::isnan(result[i])));
  }
  const std::string type = sizeof(T) == 4 ? "float" : "double";
  MESSAGE(name, "(", type, "): ", worst, " ulp at ", where);
  CHECK(worst <= 2);
  CHECK(different == 0);
}

template <class T> void check_all() {
  const double wide = sizeof(T) == 4 ? 105 : 746;
  auto exp = [](auto x) { return vmath::exp(x); };
  auto log = [](auto x) { return vmath::log(x); };
  auto log1p = [](auto x) { return vmath::log1p(x); };
  auto expm1 = [](auto x) { return vmath::expm1(x); };
  auto tanh = [](auto x) { return vmath::tanh(x); };
  auto erf = [](auto x) { return vmath::erf(x); };
  auto sigmoid = [](auto x) { return vmath::sigmoid(x); };
  using L = long double;
  for (double high : {wide, 3.0}) {
    check<T>("exp", -high, high, exp, [](L x) { return std::exp(x); });
    check<T>("expm1", -high, high, expm1, [](L x) { return std::expm1(x); });
    check<T>("sigmoid", -high, high, sigmoid, [](L x) { return 1 / (1 + std::exp(-x)); });
  }
  for (double high : {wide, 2.0}) {
    check<T>("log", high == wide ? 0 : 0.3, high, log, [](L x) { return std::log(x); });
    check<T>("log1p", -1, high, log1p, [](L x) { return std::log1p(x); });
  }
  for (double high : {22.0, 3.0, 0.65}) {
    check<T>("tanh", -high, high, tanh, [](L x) { return std::tanh(x); });
    check<T>("erf", -high, high, erf, [](L x) { return std::erf(x); });
  }
}

}  // namespace

TEST_CASE("float functions are within 2 ulp, and the same bits on every instruction set") {
  check_all<float>();
}
TEST_CASE("double functions are within 2 ulp, and the same bits on every instruction set") {
  check_all<double>();
}

TEST_CASE("a loop of any length touches each element once") {
  for (int64_t n = 0; n < 200; ++n) {
    std::vector<int64_t> x(static_cast<std::size_t>(n) + 1, 0);
    simd::for_each([](int64_t& v) { ++v; }, n, x.data());
    simd::for_each_exact([](int64_t& v) { ++v; }, n, x.data());
    CHECK(std::count(x.begin(), x.end(), 2) == n);
    CHECK(x.back() == 0);
  }
}

TEST_CASE("an operand that is a Scalar is the same for every element") {
  std::vector<double> x{1, 2, 3}, y(3);
  simd::map([](double a, double b) { return a * b; }, 3, y.data(), x.data(), simd::Scalar{2.0});
  CHECK(y == std::vector<double>{2, 4, 6});
}
