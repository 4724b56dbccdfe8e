#pragma once
/// @file
/// Arithmetic, comparisons and choice between two tensors, or a tensor and a C++ number.
///
/// Two tensors broadcast by NumPy's rule (ShapeError if they do not) and have the same dtype
/// (DtypeError if not). A C++ number takes the dtype of the tensor. It is a DtypeError if the
/// tensor is int64 and the number is not a whole number in the range of int64, or if the tensor is
/// bool and the number is neither 0 nor 1; a ValueError if the tensor is float32 and the number is
/// finite, but would be infinite in float32.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The sum a + b, the difference a - b and the product a b, element by element. float32, float64
/// or int64, which wraps around at the ends of its range, here and in every other sum, difference
/// and product.
[[nodiscard]] Tensor add(const In& a, const In& b);
[[nodiscard]] Tensor sub(const In& a, const In& b);
[[nodiscard]] Tensor mul(const In& a, const In& b);
[[nodiscard]] Tensor add(const In& a, Number b);
[[nodiscard]] Tensor sub(const In& a, Number b);
[[nodiscard]] Tensor sub(Number a, const In& b);
[[nodiscard]] Tensor mul(const In& a, Number b);
/// -x; float32, float64 or int64.
[[nodiscard]] Tensor neg(const In& x);
/// The quotient a / b, element by element; floating dtypes only.
[[nodiscard]] Tensor div(const In& a, const In& b);
[[nodiscard]] Tensor div(const In& a, Number b);
[[nodiscard]] Tensor div(Number a, const In& b);
/// x^p, element by element; floating dtypes only. The gradient with respect to p is 0 where x = 0
/// and p >= 0; the gradient with respect to x is 0 where p = 0. If p is the number 0.5 or -0.5, the
/// result is `sqrt(x)` or its reciprocal, as in PyTorch: NaN at -inf, and the sign of -0 is kept.
[[nodiscard]] Tensor pow(const In& x, double p);
[[nodiscard]] Tensor pow(const In& x, const In& p);
[[nodiscard]] Tensor pow(Number x, const In& p);
/// a / b rounded down (`floor_divide`), and what is left of a, a - b floor(a / b) (`remainder`),
/// which has b's sign, as % in Python; float32, float64 or int64. A floating b of 0 gives the
/// quotient a / b and the remainder NaN; an int64 one is a ValueError. The gradient of the quotient
/// is 0; that of the remainder is 1 for a and -floor(a / b) for b, at its jumps too.
[[nodiscard]] Tensor floor_divide(const In& a, const In& b);
[[nodiscard]] Tensor floor_divide(const In& a, Number b);
[[nodiscard]] Tensor remainder(const In& a, const In& b);
[[nodiscard]] Tensor remainder(const In& a, Number b);
/// a + weight (b - a), element by element: a if the weight is 0, b if it is 1. Floating dtypes; all
/// broadcast.
[[nodiscard]] Tensor lerp(const In& a, const In& b, double weight);
[[nodiscard]] Tensor lerp(const In& a, const In& b, const In& weight);
/// The angle in (-pi, pi] between the x axis and the point (x, y), in radians; 0 or +-pi if both
/// are 0, by their signs. Floating dtypes. Both gradients are 0 where x^2 + y^2 is 0.
[[nodiscard]] Tensor atan2(const In& y, const In& x);
/// The larger (`maximum`) or smaller (`minimum`) of a and b, element by element; NaN if one of them
/// is NaN. At a tie each gets half of the gradient; where one is NaN, both get all of it.
[[nodiscard]] Tensor maximum(const In& a, const In& b);
[[nodiscard]] Tensor minimum(const In& a, const In& b);
[[nodiscard]] Tensor maximum(const In& a, Number b);
[[nodiscard]] Tensor minimum(const In& a, Number b);
/// x limited to [low, high]; floating dtypes only. An infinite end is no limit, and a NaN stays
/// NaN. The gradient is 0 outside the limits, exactly at a limit, and at NaN, as in PyTorch 2.15.
/// ValueError unless low <= high.
[[nodiscard]] Tensor clamp(const In& x, Number low, Number high);
/// a where `condition` (bool) is true, b elsewhere; all three broadcast.
[[nodiscard]] Tensor where(const In& condition, const In& a, const In& b);
[[nodiscard]] Tensor where(const In& condition, const In& a, Number b);
[[nodiscard]] Tensor where(const In& condition, Number a, const In& b);
/// The same with two numbers: int64 if both are integers, float32 otherwise.
[[nodiscard]] Tensor where(const In& condition, Number a, Number b);

/// Whether a is equal to b (`eq`), not equal (`ne`), less (`lt`), less or equal (`le`), greater
/// (`gt`), or greater or equal (`ge`), element by element: a bool tensor without a gradient. NaN is
/// not equal to anything, NaN included.
[[nodiscard]] Tensor eq(const In& a, const In& b);
[[nodiscard]] Tensor ne(const In& a, const In& b);
[[nodiscard]] Tensor lt(const In& a, const In& b);
[[nodiscard]] Tensor le(const In& a, const In& b);
[[nodiscard]] Tensor gt(const In& a, const In& b);
[[nodiscard]] Tensor ge(const In& a, const In& b);
[[nodiscard]] Tensor eq(const In& a, Number b);
[[nodiscard]] Tensor ne(const In& a, Number b);
[[nodiscard]] Tensor lt(const In& a, Number b);
[[nodiscard]] Tensor le(const In& a, Number b);
[[nodiscard]] Tensor gt(const In& a, Number b);
[[nodiscard]] Tensor ge(const In& a, Number b);
/// Whether both elements are true (`logical_and`), at least one is (`logical_or`), exactly one is
/// (`logical_xor`), or x is false (`logical_not`): bool tensors only (DtypeError), without a
/// gradient.
[[nodiscard]] Tensor logical_and(const In& a, const In& b);
[[nodiscard]] Tensor logical_or(const In& a, const In& b);
[[nodiscard]] Tensor logical_xor(const In& a, const In& b);
[[nodiscard]] Tensor logical_not(const In& x);

/// The functions above as C++ operators.
[[nodiscard]] inline Tensor operator+(const In& a, const In& b) { return add(a, b); }
[[nodiscard]] inline Tensor operator-(const In& a, const In& b) { return sub(a, b); }
[[nodiscard]] inline Tensor operator*(const In& a, const In& b) { return mul(a, b); }
[[nodiscard]] inline Tensor operator/(const In& a, const In& b) { return div(a, b); }
[[nodiscard]] inline Tensor operator-(const In& x) { return neg(x); }
[[nodiscard]] inline Tensor operator+(const In& a, Number b) { return add(a, b); }
[[nodiscard]] inline Tensor operator+(Number a, const In& b) { return add(b, a); }
[[nodiscard]] inline Tensor operator-(const In& a, Number b) { return sub(a, b); }
[[nodiscard]] inline Tensor operator-(Number a, const In& b) { return sub(a, b); }
[[nodiscard]] inline Tensor operator*(const In& a, Number b) { return mul(a, b); }
[[nodiscard]] inline Tensor operator*(Number a, const In& b) { return mul(b, a); }
[[nodiscard]] inline Tensor operator/(const In& a, Number b) { return div(a, b); }
[[nodiscard]] inline Tensor operator/(Number a, const In& b) { return div(a, b); }
[[nodiscard]] inline Tensor operator==(const In& a, const In& b) { return eq(a, b); }
[[nodiscard]] inline Tensor operator!=(const In& a, const In& b) { return ne(a, b); }
[[nodiscard]] inline Tensor operator<(const In& a, const In& b) { return lt(a, b); }
[[nodiscard]] inline Tensor operator<=(const In& a, const In& b) { return le(a, b); }
[[nodiscard]] inline Tensor operator>(const In& a, const In& b) { return gt(a, b); }
[[nodiscard]] inline Tensor operator>=(const In& a, const In& b) { return ge(a, b); }
[[nodiscard]] inline Tensor operator==(const In& a, Number b) { return eq(a, b); }
[[nodiscard]] inline Tensor operator!=(const In& a, Number b) { return ne(a, b); }
[[nodiscard]] inline Tensor operator<(const In& a, Number b) { return lt(a, b); }
[[nodiscard]] inline Tensor operator<=(const In& a, Number b) { return le(a, b); }
[[nodiscard]] inline Tensor operator>(const In& a, Number b) { return gt(a, b); }
[[nodiscard]] inline Tensor operator>=(const In& a, Number b) { return ge(a, b); }

namespace detail {
/// `clamp`, as the op `op`, whose gradient at NaN is 0 or passes.
Tensor limit(const char* op, const In& x, Number low, Number high, bool nan_passes = true);
/// sum += g for gradients, which have the same floating dtype and shape. No other tensor may see
/// the elements of `sum`, because this change of them is not noted.
void accumulate(const Tensor& sum, const Tensor& g);
}  // namespace detail

}  // namespace descent
