#include "descent/core/ops/activation.hpp"

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/arithmetic.hpp"
#include "descent/core/ops/factory.hpp"

namespace [[gnu::visibility("default")]] descent {

Tensor sigmoid(const In& x) {
  return record("sigmoid", map("sigmoid", x, [](auto v) { return vmath::sigmoid(v); }),
                wrt(x, [](const Tensor& g, const Tensor& y) { return g * y * (1 - y); }));
}

/// g, with 0 in its place where y <= 0; NaN in y lets g pass. Linear in g, and a step function of
/// y, so that its derivative in y is 0.
static Tensor relu_backward(const In& g, const In& y) {
  return record(
      "relu_backward",
      zip("relu_backward", g, y, [](auto u, auto v) { return v <= 0 ? decltype(u)(0) : u; }),
      wrt(g, [y = saved(y)](const Tensor& h) { return relu_backward(h, y); }),
      wrt(y, [](const Tensor& h) { return zeros_like(h); }));
}
Tensor relu(const In& x) {
  return record("relu",
                map("relu", x, [](auto v) { return v < 0 ? decltype(v)(0) : v; }),  // NaN stays
                wrt(x, [](const Tensor& g, const Tensor& y) { return relu_backward(g, y); }));
}

// ---- the same functions as methods

Tensor Tensor::sigmoid(At at) const { return descent::sigmoid({*this, at}); }
Tensor Tensor::relu(At at) const { return descent::relu({*this, at}); }

}  // namespace descent
