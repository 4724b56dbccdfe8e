#pragma once
/// @file
/// Functions of one element: a new tensor of x's shape. Floating dtypes only, but where said.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// e^x.
[[nodiscard]] Tensor exp(const In& x);
/// e^x - 1, precise near 0.
[[nodiscard]] Tensor expm1(const In& x);
/// Natural logarithm; -inf at 0, NaN below.
[[nodiscard]] Tensor log(const In& x);
/// log(1 + x), precise near 0; -inf at -1, NaN below.
[[nodiscard]] Tensor log1p(const In& x);
/// The square root; NaN below 0. The gradient at 0 is inf.
[[nodiscard]] Tensor sqrt(const In& x);
/// x x; numeric dtypes, int64 as for `mul`.
[[nodiscard]] Tensor square(const In& x);
/// 1 / x.
[[nodiscard]] Tensor reciprocal(const In& x);
/// |x|; numeric dtypes; of -2^63 it is -2^63. The gradient at 0 is 0.
[[nodiscard]] Tensor abs(const In& x);
/// -1, 0 or 1; numeric dtypes. The gradient is 0, whatever comes back to it.
[[nodiscard]] Tensor sign(const In& x);
/// The sine and the cosine of x, in radians.
[[nodiscard]] Tensor sin(const In& x);
[[nodiscard]] Tensor cos(const In& x);
/// (e^x - e^-x) / (e^x + e^-x).
[[nodiscard]] Tensor tanh(const In& x);
/// 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.
[[nodiscard]] Tensor erf(const In& x);
/// 1 / (1 + exp(-x)).
[[nodiscard]] Tensor sigmoid(const In& x);
/// max(x, 0); NaN stays. The gradient at 0 is 0; at NaN it passes, as in PyTorch.
[[nodiscard]] Tensor relu(const In& x);
/// To a whole number: down, up, to the nearest (ties to even). The gradient is 0, as for `sign`.
[[nodiscard]] Tensor floor(const In& x);
[[nodiscard]] Tensor ceil(const In& x);
[[nodiscard]] Tensor round(const In& x);
/// Whether x is NaN, or neither NaN nor infinite: a bool tensor, no gradient.
[[nodiscard]] Tensor isnan(const In& x);
[[nodiscard]] Tensor isfinite(const In& x);

}  // namespace descent
