#pragma once
/// @file
/// Arithmetic, comparisons and choice. Two tensors broadcast by NumPy's rule and have one dtype; a
/// C++ number adopts the tensor's dtype: DtypeError if an int64 tensor meets one that is not whole
/// and in its range, or a bool tensor one that is not 0 or 1; ValueError if a float32 tensor meets
/// a finite one that is infinite in float32. Shapes that do not broadcast are a ShapeError.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// a + b, a - b, a b, elementwise; float32, float64, int64. int64 wraps around at its ends, here
/// and in every other sum, difference and product.
[[nodiscard]] Tensor add(const In& a, const In& b);
[[nodiscard]] Tensor sub(const In& a, const In& b);
[[nodiscard]] Tensor mul(const In& a, const In& b);
[[nodiscard]] Tensor add(const In& a, Number b);
[[nodiscard]] Tensor sub(const In& a, Number b);
[[nodiscard]] Tensor sub(Number a, const In& b);
[[nodiscard]] Tensor mul(const In& a, Number b);
/// -x; float32, float64, int64.
[[nodiscard]] Tensor neg(const In& x);
/// a / b, floating only.
[[nodiscard]] Tensor div(const In& a, const In& b);
[[nodiscard]] Tensor div(const In& a, Number b);
[[nodiscard]] Tensor div(Number a, const In& b);
/// x^p, floating. The gradient with respect to p is 0 where x = 0 and p >= 0; that with respect to
/// x is 0 where p = 0. As in PyTorch, the numbers 0.5 and -0.5 are `sqrt` and its reciprocal, which
/// are NaN at -inf and keep the sign of -0.
[[nodiscard]] Tensor pow(const In& x, double p);
[[nodiscard]] Tensor pow(const In& x, const In& p);
[[nodiscard]] Tensor pow(Number x, const In& p);
/// The larger (smaller) of a and b; NaN if either is. A tie sends half of the gradient each way; a
/// NaN lets all of it through to both.
[[nodiscard]] Tensor maximum(const In& a, const In& b);
[[nodiscard]] Tensor minimum(const In& a, const In& b);
[[nodiscard]] Tensor maximum(const In& a, Number b);
[[nodiscard]] Tensor minimum(const In& a, Number b);
/// x limited to [low, high], floating only; an infinite end is none. NaN stays. The gradient is 0
/// at the ends, outside, and at NaN, as in PyTorch 2.15.
[[nodiscard]] Tensor clamp(const In& x, Number low, Number high);
/// a where `condition` (bool) holds, b elsewhere; all three broadcast.
[[nodiscard]] Tensor where(const In& condition, const In& a, const In& b);
[[nodiscard]] Tensor where(const In& condition, const In& a, Number b);
[[nodiscard]] Tensor where(const In& condition, Number a, const In& b);
/// int64 if both numbers are integers, else float32.
[[nodiscard]] Tensor where(const In& condition, Number a, Number b);

/// Whether a is equal to b, not equal, below, at most, above or at least b, elementwise: a bool
/// tensor, no gradient. NaN compares unequal to everything.
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
/// Whether both hold, at least one, or x does not; of bool tensors, no gradient.
[[nodiscard]] Tensor logical_and(const In& a, const In& b);
[[nodiscard]] Tensor logical_or(const In& a, const In& b);
[[nodiscard]] Tensor logical_not(const In& x);

/// The functions above as C++ writes them.
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
/// sum += g for gradients: of one floating dtype and shape, and nobody else sees sum's elements.
void accumulate(const Tensor& sum, const Tensor& g);
}  // namespace detail

}  // namespace descent
