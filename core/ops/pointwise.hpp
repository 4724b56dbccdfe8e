#pragma once
/// @file
/// Functions of one element: each makes a new tensor of x's shape. They take floating dtypes only;
/// a function that takes int64 too says so.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// e^x.
[[nodiscard]] Tensor exp(const In& x);
/// e^x - 1, precise near 0.
[[nodiscard]] Tensor expm1(const In& x);
/// The natural logarithm; -inf at 0, NaN below 0.
[[nodiscard]] Tensor log(const In& x);
/// log(1 + x), precise near 0; -inf at -1, NaN below -1.
[[nodiscard]] Tensor log1p(const In& x);
/// The square root; NaN below 0. The gradient at 0 is inf.
[[nodiscard]] Tensor sqrt(const In& x);
/// 1 / sqrt(x): inf at 0, NaN below. The gradient at 0 is -inf.
[[nodiscard]] Tensor rsqrt(const In& x);
/// x x; int64 too, which wraps around as for `mul`.
[[nodiscard]] Tensor square(const In& x);
/// 1 / x.
[[nodiscard]] Tensor reciprocal(const In& x);
/// |x|; int64 too, where -2^63 stays -2^63, because 2^63 does not fit. The gradient at 0 is 0.
[[nodiscard]] Tensor abs(const In& x);
/// -1, 0 or 1; int64 too. The gradient is 0, even if the result's gradient is not finite.
[[nodiscard]] Tensor sign(const In& x);
/// The sine, the cosine and the tangent of x, in radians.
[[nodiscard]] Tensor sin(const In& x);
[[nodiscard]] Tensor cos(const In& x);
[[nodiscard]] Tensor tan(const In& x);
/// The angle in radians whose sine (`asin`), cosine (`acos`) or tangent (`atan`) x is, in
/// [-pi/2, pi/2] or, for `acos`, in [0, pi]. The first two are NaN outside [-1, 1], and have an
/// infinite gradient at its ends.
[[nodiscard]] Tensor asin(const In& x);
[[nodiscard]] Tensor acos(const In& x);
[[nodiscard]] Tensor atan(const In& x);
/// The hyperbolic sine and cosine, (e^x - e^-x) / 2 and (e^x + e^-x) / 2.
[[nodiscard]] Tensor sinh(const In& x);
[[nodiscard]] Tensor cosh(const In& x);
/// The hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x).
[[nodiscard]] Tensor tanh(const In& x);
/// The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.
[[nodiscard]] Tensor erf(const In& x);
/// Rounds to a whole number: down (`floor`), up (`ceil`) or to the nearest, a tie to the even one
/// (`round`). The gradient is 0, as for `sign`.
[[nodiscard]] Tensor floor(const In& x);
[[nodiscard]] Tensor ceil(const In& x);
[[nodiscard]] Tensor round(const In& x);
/// Whether x is NaN (`isnan`), inf or -inf (`isinf`), or neither (`isfinite`): a bool tensor
/// without a gradient.
[[nodiscard]] Tensor isnan(const In& x);
[[nodiscard]] Tensor isinf(const In& x);
[[nodiscard]] Tensor isfinite(const In& x);

}  // namespace descent
