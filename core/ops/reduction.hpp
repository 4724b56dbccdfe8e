#pragma once
/// @file
/// Reductions: sum, mean, extremes, norms over all elements or over the axes `dims`. The reduced
/// axes go away, or stay with size 1 if `keepdim`; an empty list of dims means all of them, as in
/// PyTorch. Errors: IndexError for a dim out of range, ShapeError for one named twice.
///
/// Results are the same bits for any number of threads. A sum of n values is off by less than
/// 8 eps log2(n) sum |x|, with the eps of its dtype.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The sum of the elements. Any dtype; int64 and bool (a count) give int64, which wraps around at
/// its ends. Of no elements it is 0.
[[nodiscard]] Tensor sum(const In& x, const Dims& dims = {}, KeepDim keepdim = false);
/// The sum of x over the axes along which it is wider than `shape`: a tensor of that shape, which
/// must broadcast to x's (ShapeError). The opposite of `expand`.
[[nodiscard]] Tensor sum_to(const In& x, const Shape& shape);

/// The sum over the number of elements, right also where the dtype does not hold the sum. Floating;
/// of no elements it is NaN.
[[nodiscard]] Tensor mean(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// The largest (smallest) element; NaN if there is one. float32, float64, int64; ShapeError if
/// there are no elements. Equal extremes, or all NaN if there is one, share the gradient equally.
[[nodiscard]] Tensor max(const In& x, const Dims& dims = {}, KeepDim keepdim = false);
[[nodiscard]] Tensor min(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// The index of the largest (smallest) element, the first of equal ones; NaN is more extreme than
/// any number. int64: in row-major order over all of x, or along `dim`. Errors as for `max`.
[[nodiscard]] Tensor argmax(const In& x);
[[nodiscard]] Tensor argmax(const In& x, int64_t dim, KeepDim keepdim = false);
[[nodiscard]] Tensor argmin(const In& x);
[[nodiscard]] Tensor argmin(const In& x, int64_t dim, KeepDim keepdim = false);

/// What `var` divides by.
struct VarOptions {
  double correction = 1;  ///< 1: unbiased (Bessel's); 0: of the population
};
/// The variance, sum (x - mean)^2 / max(0, n - correction), in two passes, with a mean that the
/// dtype need not hold: exactly 0 for equal numbers. Floating; NaN for n = 1 and correction 1. The
/// standard deviation is its `sqrt`, whose gradient is not finite where it is 0.
[[nodiscard]] Tensor var(const In& x, const Dims& dims = {}, KeepDim keepdim = false,
                         const VarOptions& options = {});
[[nodiscard]] inline Tensor var(const In& x, const Dims& dims, const VarOptions& options) {
  return var(x, dims, false, options);
}

/// Which norm `norm` is.
struct NormOptions {
  double p = 2;  ///< above 0 (ValueError); infinity is the largest |x|
};
/// The p-norm of the elements as one vector, (sum |x|^p)^(1/p), computed in float64 whatever the
/// dtype, and right also where no dtype holds the powers. Floating; 0 for no elements, but a
/// ShapeError if p is infinity. Its gradient is 0 where it is not unique: where an element (p = 1)
/// or the norm is 0; p = infinity shares it as `max` does. The second derivative is NaN where the
/// norm is 0 and 1 < p <= 2, as in PyTorch.
[[nodiscard]] Tensor norm(const In& x, const Dims& dims = {}, KeepDim keepdim = false,
                          const NormOptions& options = {});
[[nodiscard]] inline Tensor norm(const In& x, const Dims& dims, const NormOptions& options) {
  return norm(x, dims, false, options);
}

/// log(sum exp(x)), finite for any finite x. Floating; of no elements it is -inf.
[[nodiscard]] Tensor logsumexp(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// Whether any (each) element is not zero: a bool tensor. Any dtype; of no elements false (true).
[[nodiscard]] Tensor any(const In& x, const Dims& dims = {}, KeepDim keepdim = false);
[[nodiscard]] Tensor all(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// exp(x) / sum exp(x) along `dim`, by default the last: the result has x's shape, its elements are
/// positive and add up to 1 along `dim`. Computed from x - max x, so that finite elements of any
/// size give finite results; all -inf along `dim`, or one inf, or one NaN, gives NaN. Floating.
/// IndexError for a `dim` out of range.
[[nodiscard]] Tensor softmax(const In& x);
[[nodiscard]] Tensor softmax(const In& x, int64_t dim);

/// log(softmax(x, dim)) = (x - max x) - log sum exp(x - max x), precise where softmax would round
/// to 0 or 1. Everything else is as for `softmax`.
[[nodiscard]] Tensor log_softmax(const In& x);
[[nodiscard]] Tensor log_softmax(const In& x, int64_t dim);

}  // namespace descent
