#pragma once
#include "descent/core/tensor.hpp"

// Arithmetic, comparisons and choice. Two tensors broadcast by NumPy's rule and have one dtype; a
// C++ number adopts the tensor's dtype: DtypeError if an int64 tensor meets one that is not whole
// and in its range, or a bool tensor one that is not 0 or 1; ValueError if a float32 tensor meets a
// finite one that is infinite in float32. Shapes that do not broadcast are a ShapeError.

namespace [[gnu::visibility("default")]] descent {

/// a + b, a - b, a b, elementwise; float32, float64, int64. int64 wraps around at its ends, here
/// and in every other sum, difference and product.
Tensor add(const In& a, const In& b);
Tensor sub(const In& a, const In& b);
Tensor mul(const In& a, const In& b);
/// a / b, floating only.
Tensor div(const In& a, const In& b);
Tensor neg(const In& x);
Tensor add(const In& a, Number b);
Tensor sub(const In& a, Number b);
Tensor sub(Number a, const In& b);
Tensor mul(const In& a, Number b);
Tensor div(const In& a, Number b);
Tensor div(Number a, const In& b);
/// x^p, floating. The gradient with respect to p is 0 where x = 0 and p >= 0; that with respect to
/// x is 0 where p = 0. As in PyTorch, the numbers 0.5 and -0.5 are `sqrt` and its reciprocal, which
/// are NaN at -inf and keep the sign of -0.
Tensor pow(const In& x, double p);
Tensor pow(const In& x, const In& p);
/// The larger (smaller) of a and b; NaN if either is. A tie sends half of the gradient each way; a
/// NaN lets all of it through to both.
Tensor maximum(const In& a, const In& b);
Tensor minimum(const In& a, const In& b);
/// x limited to [low, high], floating only; an infinite end is none. NaN stays. The gradient is 0
/// at the ends, outside, and at NaN, as in PyTorch 2.15.
Tensor clamp(const In& x, Number low, Number high);
/// a where `condition` (bool) holds, b elsewhere; all three broadcast.
Tensor where(const In& condition, const In& a, const In& b);
Tensor where(const In& condition, const In& a, Number b);
Tensor where(const In& condition, Number a, const In& b);

/// Comparisons: bool tensors, no gradient. NaN compares unequal to everything.
Tensor eq(const In& a, const In& b);
Tensor ne(const In& a, const In& b);
Tensor lt(const In& a, const In& b);
Tensor le(const In& a, const In& b);
Tensor gt(const In& a, const In& b);
Tensor ge(const In& a, const In& b);
Tensor eq(const In& a, Number b);
Tensor ne(const In& a, Number b);
Tensor lt(const In& a, Number b);
Tensor le(const In& a, Number b);
Tensor gt(const In& a, Number b);
Tensor ge(const In& a, Number b);
/// Of bool tensors.
Tensor logical_and(const In& a, const In& b);
Tensor logical_or(const In& a, const In& b);
Tensor logical_not(const In& x);

inline Tensor operator+(const In& a, const In& b) { return add(a, b); }
inline Tensor operator-(const In& a, const In& b) { return sub(a, b); }
inline Tensor operator*(const In& a, const In& b) { return mul(a, b); }
inline Tensor operator/(const In& a, const In& b) { return div(a, b); }
inline Tensor operator-(const In& x) { return neg(x); }
inline Tensor operator+(const In& a, Number b) { return add(a, b); }
inline Tensor operator+(Number a, const In& b) { return add(b, a); }
inline Tensor operator-(const In& a, Number b) { return sub(a, b); }
inline Tensor operator-(Number a, const In& b) { return sub(a, b); }
inline Tensor operator*(const In& a, Number b) { return mul(a, b); }
inline Tensor operator*(Number a, const In& b) { return mul(b, a); }
inline Tensor operator/(const In& a, Number b) { return div(a, b); }
inline Tensor operator/(Number a, const In& b) { return div(a, b); }
inline Tensor operator==(const In& a, const In& b) { return eq(a, b); }
inline Tensor operator!=(const In& a, const In& b) { return ne(a, b); }
inline Tensor operator<(const In& a, const In& b) { return lt(a, b); }
inline Tensor operator<=(const In& a, const In& b) { return le(a, b); }
inline Tensor operator>(const In& a, const In& b) { return gt(a, b); }
inline Tensor operator>=(const In& a, const In& b) { return ge(a, b); }
inline Tensor operator==(const In& a, Number b) { return eq(a, b); }
inline Tensor operator!=(const In& a, Number b) { return ne(a, b); }
inline Tensor operator<(const In& a, Number b) { return lt(a, b); }
inline Tensor operator<=(const In& a, Number b) { return le(a, b); }
inline Tensor operator>(const In& a, Number b) { return gt(a, b); }
inline Tensor operator>=(const In& a, Number b) { return ge(a, b); }

namespace detail {
/// sum += g for gradients: of one floating dtype and shape, and nobody else sees sum's elements.
void accumulate(const Tensor& sum, const Tensor& g);
}  // namespace detail

}  // namespace descent
