#include "descent/core/ops/pointwise.hpp"

#include <cmath>
#include <numbers>

#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/slope.hpp"

namespace [[gnu::visibility("default")]] descent {

Tensor exp(const In& x) {
  return record("exp", map("exp", x, [](auto v) { return vmath::exp(v); }),
                wrt(x, [](const Tensor& g, const Tensor& y) { return g * y; }));
}
Tensor expm1(const In& x) {
  return record("expm1", map("expm1", x, [](auto v) { return vmath::expm1(v); }),
                wrt(x, [](const Tensor& g, const Tensor& y) { return g * (y + 1); }));
}
Tensor log(const In& x) {
  return record("log", map("log", x, [](auto v) { return vmath::log(v); }),
                wrt(x, [x = saved(x)](const Tensor& g) { return g / x; }));
}
Tensor log1p(const In& x) {
  return record("log1p", map("log1p", x, [](auto v) { return vmath::log1p(v); }),
                wrt(x, [x = saved(x)](const Tensor& g) { return g / (x + 1); }));
}
Tensor sqrt(const In& x) {
  return record("sqrt", map("sqrt", x, [](auto v) { return vmath::sqrt(v); }),
                wrt(x, [](const Tensor& g, const Tensor& y) { return g / (y * 2); }));
}
Tensor rsqrt(const In& x) {
  return record("rsqrt", map("rsqrt", x, [](auto v) { return 1 / vmath::sqrt(v); }),
                wrt(x, [](const Tensor& g, const Tensor& y) { return g * (y * y * y) * -0.5; }));
}
Tensor square(const In& x) {
  const detail::Slope slope{"square_backward", [](auto g, auto v) { return g * (v * 2); },
                            [](const Tensor& gh, const Tensor&) { return gh * 2; }};
  return record("square",
                map<Kinds::numeric>("square", x, [](auto v) { return detail::ring::mul(v, v); }),
                wrt(x, [x = saved(x), slope](const Tensor& g) { return slope(g, x); }));
}
Tensor reciprocal(const In& x) {
  return record("reciprocal", map("reciprocal", x, [](auto v) { return 1 / v; }),
                wrt(x, [](const Tensor& g, const Tensor& y) { return -g * y * y; }));
}
Tensor abs(const In& x) {
  return record(
      "abs",
      map<Kinds::numeric>("abs", x,
                          [](auto v) { return v <= 0 ? detail::ring::sub<decltype(v)>(0, v) : v; }),
      wrt(x, [x = saved(x)](const Tensor& g) { return g * sign(x); }));
}
/// A function of the C library, which is called for each element, and its derivative slope(g, x).
static Tensor call(const char* op, const In& x, float (*f)(float), double (*d)(double),
                   Tensor (*slope)(const Tensor& g, const Tensor& x)) {
  auto either = [f, d]<class T>(T v) {
    if constexpr (sizeof(T) == sizeof(float)) return f(v);
    else return d(v);
  };
  return record(op, map(op, x, either),
                wrt(x, [x = saved(x), slope](const Tensor& g) { return slope(g, *x); }));
}
Tensor sin(const In& x) {
  return call("sin", x, std::sin, std::sin, [](auto& g, auto& v) { return g * cos(v); });
}
Tensor cos(const In& x) {
  return call("cos", x, std::cos, std::cos, [](auto& g, auto& v) { return -g * sin(v); });
}
Tensor tan(const In& x) {
  return call("tan", x, std::tan, std::tan, [](auto& g, auto& v) { return g / square(cos(v)); });
}
Tensor asin(const In& x) {
  auto slope = [](auto& g, auto& v) { return g * rsqrt((1 - v) * (v + 1)); };
  return call("asin", x, std::asin, std::asin, slope);
}
Tensor acos(const In& x) {
  auto slope = [](auto& g, auto& v) { return -g * rsqrt((1 - v) * (v + 1)); };
  return call("acos", x, std::acos, std::acos, slope);
}
Tensor atan(const In& x) {
  return call("atan", x, std::atan, std::atan, [](auto& g, auto& v) { return g / (v * v + 1); });
}
Tensor sinh(const In& x) {
  return call("sinh", x, std::sinh, std::sinh, [](auto& g, auto& v) { return g * cosh(v); });
}
Tensor cosh(const In& x) {
  return call("cosh", x, std::cosh, std::cosh, [](auto& g, auto& v) { return g * sinh(v); });
}
Tensor tanh(const In& x) {
  return record(
      "tanh", map("tanh", x, [](auto v) { return vmath::tanh(v); }),
      wrt(x, detail::Slope{"tanh_backward", [](auto g, auto y) { return g * (1 - y * y); },
                           [](const Tensor& gh, const Tensor& y) { return gh * (y * -2); }}));
}
Tensor erf(const In& x) {
  return record("erf", map("erf", x, [](auto v) { return vmath::erf(v); }),
                wrt(x, [x = saved(x)](const Tensor& g) {
                  return g * exp(-square(x)) * (2 * std::numbers::inv_sqrtpi);
                }));
}
/// Records y, the result of a step function: its derivative is 0, whatever the gradient of y is. If
/// y were not recorded, x would get no gradient at all.
static Tensor record_step(const char* op, const In& x, Tensor y) {
  return record(op, std::move(y), wrt(x, [](const Tensor& g) { return zeros_like(g); }));
}
Tensor sign(const In& x) {
  return record_step("sign", x, map<Kinds::numeric>("sign", x, [](auto v) {
                       return static_cast<decltype(v)>((v > 0) - (v < 0));
                     }));
}
Tensor floor(const In& x) {
  return record_step("floor", x, map("floor", x, [](auto v) { return std::floor(v); }));
}
Tensor ceil(const In& x) {
  return record_step("ceil", x, map("ceil", x, [](auto v) { return std::ceil(v); }));
}
Tensor round(const In& x) {
  return record_step("round", x, map("round", x, [](auto v) { return std::nearbyint(v); }));
}

Tensor isnan(const In& x) {
  return map("isnan", x, [](auto v) { return v != v; });
}
Tensor isinf(const In& x) {
  return map("isinf", x, [](auto v) { return std::isinf(v); });
}
Tensor isfinite(const In& x) {
  return map("isfinite", x, [](auto v) { return std::isfinite(v); });
}

// ---- the same functions as methods

Tensor Tensor::exp(At at) const { return descent::exp({*this, at}); }
Tensor Tensor::log(At at) const { return descent::log({*this, at}); }
Tensor Tensor::sqrt(At at) const { return descent::sqrt({*this, at}); }
Tensor Tensor::square(At at) const { return descent::square({*this, at}); }
Tensor Tensor::abs(At at) const { return descent::abs({*this, at}); }
Tensor Tensor::sin(At at) const { return descent::sin({*this, at}); }
Tensor Tensor::cos(At at) const { return descent::cos({*this, at}); }
Tensor Tensor::tanh(At at) const { return descent::tanh({*this, at}); }

}  // namespace descent
