#include "descent/core/ops/activation.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/core/ops/slope.hpp"

namespace [[gnu::visibility("default")]] descent {

using detail::limit, detail::Slope;

Tensor sigmoid(const In& x) {
  return record("sigmoid", map("sigmoid", x, [](auto v) { return vmath::sigmoid(v); }),
                wrt(x, Slope{"sigmoid_backward", [](auto g, auto y) { return g * y * (1 - y); },
                             [](const Tensor& gh, const Tensor& y) { return gh * (1 - y * 2); }}));
}

/// f of each element, and the derivative slope(g, x).
template <class F, class S> static Tensor curve(const char* op, const In& x, F f, S slope) {
  return record(op, map(op, x, f),
                wrt(x, [x = saved(x), slope](const Tensor& g) { return slope(g, x); }));
}

/// log(1 + e^(beta x)) / beta. With beta = -1 that is log(sigmoid(x)).
static Tensor soften(const char* op, const In& x, double beta, double threshold) {
  auto f = [=]<class T>(T v) {
    const T b = T(beta), z = v * b;
    const T y = (vmath::log1p(vmath::exp(-vmath::abs(z))) + vmath::where(z < 0, T(0), z)) / b;
    return vmath::where(z > T(threshold), v, y);
  };
  auto slope = [=]<class T>(T g, T v) {
    return g * vmath::where(v * T(beta) > T(threshold), T(1), vmath::sigmoid(v * T(beta)));
  };
  auto bend = [=](const Tensor& gh, const Tensor& v) {
    const Tensor z = v * beta;
    return where(z > threshold, 0, gh * sigmoid(z) * sigmoid(-z) * beta);
  };
  return curve(op, x, f, Slope{op, slope, bend});
}
Tensor logsigmoid(const In& x) { return soften("logsigmoid", x, -1, HUGE_VAL); }
Tensor softplus(const In& x, double beta, double threshold) {
  return soften("softplus", x, beta, threshold);
}
Tensor mish(const In& x) {
  const Frame frame(x.at);
  check_floating("mish", x);
  return x * tanh(softplus(x));
}

/// x sigmoid(x (rate + cube x^2)).
static Tensor gate(const char* op, const In& x, double rate, double cube) {
  // Where |x| > 1e4 the sigmoid is 0 or 1, and higher powers would overflow.
  auto f = [=]<class T>(T v) {
    const T u = std::clamp(v, T(-1e4), T(1e4));
    return v * vmath::sigmoid(u * (T(rate) + T(cube) * u * u));
  };
  auto slope = [=]<class T>(T g, T v) {
    const T u = std::clamp(v, T(-1e4), T(1e4));
    const T s = vmath::sigmoid(u * (T(rate) + T(cube) * u * u));
    return g * (s + u * s * (1 - s) * (T(rate) + T(3 * cube) * u * u));
  };
  auto bend = [=](const Tensor& gh, const Tensor& v) {
    const Tensor u = clamp(v, -1e4, 1e4), rise = u * u * (3 * cube) + rate;
    const Tensor s = sigmoid(u * (u * u * cube + rate)), spread = gh * s * (1 - s);
    return spread * (rise * 2 + u * (u * (6 * cube) + rise * rise * (1 - s * 2)));
  };
  return curve(op, x, f, Slope{op, slope, bend});
}
Tensor silu(const In& x) { return gate("silu", x, 1, 0); }
Tensor gelu(const In& x, Approximate approximate) {
  constexpr double rate = 2 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
  if (approximate == Approximate::tanh) return gate("gelu", x, rate, 0.044715 * rate);
  auto below = []<class T>(T v) {  // the normal distribution function
    return T(0.5) + T(0.5) * vmath::erf(v * T(std::numbers::sqrt2 / 2));
  };
  auto slope = [below]<class T>(T g, T v) {
    return g * (below(v) + v * vmath::exp(v * v * T(-0.5)) * T(rate / 4));
  };
  auto bend = [](const Tensor& gh, const Tensor& v) {
    const Tensor z = square(clamp(v, -40, 40));  // beyond, exp gives 0
    return gh * exp(z * -0.5) * (2 - z) * (rate / 4);
  };
  auto f = [below](auto v) { return v * below(v); };
  return curve("gelu", x, f, Slope{"gelu_backward", slope, bend});
}

Tensor relu(const In& x) {
  return record("relu",
                map("relu", x, [](auto v) { return v < 0 ? decltype(v)(0) : v; }),  // NaN stays
                wrt(x, Slope{"relu_backward", []<class T>(T g, T y) { return y <= 0 ? T(0) : g; },
                             [](const Tensor& gh, const Tensor&) { return zeros_like(gh); }}));
}
Tensor hardtanh(const In& x, double low, double high) { return limit("hardtanh", x, low, high); }
Tensor relu6(const In& x) { return limit("relu6", x, 0, 6); }
Tensor hardsigmoid(const In& x) {
  auto f = []<class T>(T v) { return std::clamp(v + 3, T(0), T(6)) / 6; };
  return record("hardsigmoid", map("hardsigmoid", x, f),
                wrt(x, [x = saved(x)](const Tensor& g) { return where(abs(x) < 3, g / 6, 0); }));
}
Tensor hardswish(const In& x) {
  auto f = []<class T>(T v) { return v * (std::clamp(v + 3, T(0), T(6)) / 6); };
  return record("hardswish", map("hardswish", x, f), wrt(x, [x = saved(x)](const Tensor& g) {
                  return where(x <= -3, 0, where(x < 3, g * (x / 3 + 0.5), g));
                }));
}

/// x above 0, weight x elsewhere.
static Tensor leak(const char* op, const In& x, const In& weight) {
  return record(
      op, zip(op, x, weight, [](auto v, auto w) { return v > 0 ? v : v * w; }),
      wrt(x, [x = saved(x), w = saved(weight)](const Tensor& g) { return where(x > 0, g, g * w); }),
      wrt(weight, [x = saved(x)](const Tensor& g) { return where(x > 0, 0, g * x); }));
}
Tensor leaky_relu(const In& x, double negative_slope) {
  check_floating("leaky_relu", x);
  return leak("leaky_relu", x, {full({}, negative_slope, x.dtype(), x.at), x.at});
}
Tensor prelu(const In& x, const In& weight) {
  check_inputs("prelu", x, weight, "x", "weight");
  const int64_t slopes = weight.numel(), channels = x.dim() < 2 ? 1 : x.shape()[1];
  if (weight.dim() > 1 || (slopes != 1 && slopes != channels))
    fail<ShapeError>(x.at, "prelu: x {} with weight {}: need one slope or {}, one for each channel",
                     x.shape(), weight.shape(), channels);
  Shape shape;
  for (int d = 1; d < x.dim(); ++d) shape.push_back(d == 1 ? slopes : 1);
  return leak("prelu", x, {reshape(weight, shape), x.at});
}

/// scale x above 0, a (e^(b x) - 1) elsewhere.
static Tensor raise(const char* op, const In& x, double a, double b, double scale = 1) {
  auto f = [=]<class T>(T v) {
    return vmath::where(v <= 0, vmath::expm1(v * T(b)) * T(a), v * T(scale));
  };
  return record(op, map(op, x, f), wrt(x, [=, x = saved(x)](const Tensor& g) {
                  return g * where(x <= 0, exp(minimum(x, 0) * b) * (a * b), scale);
                }));
}
Tensor elu(const In& x, double alpha) { return raise("elu", x, alpha, 1); }
Tensor selu(const In& x) { return raise("selu", x, 1.7580993408473766, 1, 1.0507009873554805); }
Tensor celu(const In& x, double alpha) {
  if (alpha == 0) fail<ValueError>(x.at, "celu: alpha is 0: need another number");
  return raise("celu", x, alpha, 1 / alpha);
}

Tensor softsign(const In& x) {
  return record("softsign", map("softsign", x, [](auto v) { return v / (1 + vmath::abs(v)); }),
                wrt(x, [x = saved(x)](const Tensor& g) { return g / square(abs(x) + 1); }));
}
Tensor glu(const In& x, int64_t dim) {
  const Frame frame(x.at);
  check_floating("glu", x);
  const int d = detail::wrap_dim("glu", dim, x.dim(), x.at);
  const int64_t size = x.dim() == 0 ? 1 : x.shape()[d];
  if (size % 2 != 0)
    fail<ShapeError>(x.at, "glu: dim {} of x {} has no two halves: need an even size", dim,
                     x.shape());
  return narrow(x, d, 0, size / 2) * sigmoid(narrow(x, d, size / 2, size / 2));
}

// ---- the same functions as methods

Tensor Tensor::sigmoid(At at) const { return descent::sigmoid({*this, at}); }
Tensor Tensor::relu(At at) const { return descent::relu({*this, at}); }

}  // namespace descent
