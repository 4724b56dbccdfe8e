#pragma once
/// @file
/// Reductions, such as sums, means, extremes and norms, over all elements or over the axes `dims`.
///
/// The reduced axes are removed, or kept with size 1 if `keepdim` is true. An empty list of dims
/// means all axes, as in PyTorch. IndexError for a dim out of range, ShapeError for one named
/// twice.
///
/// Results have the same bits for any number of threads. The error of a sum of n values is less
/// than 8 eps log2(n) sum |x|, with the eps of its dtype.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The sum of the elements; 0 if there are none. Any dtype. int64 wraps around at the ends of its
/// range; bool gives an int64, the number of true elements.
[[nodiscard]] Tensor sum(const In& x, const Dims& dims = {}, KeepDim keepdim = false);
/// The sum of x over the axes along which x is wider than `shape`: a tensor of that shape. It is
/// the opposite of `expand`. ShapeError unless `shape` broadcasts to x's shape.
[[nodiscard]] Tensor sum_to(const In& x, const Shape& shape);

/// The sum divided by the number of elements, correct even if the sum does not fit in the dtype.
/// Floating dtypes; NaN if there are no elements.
[[nodiscard]] Tensor mean(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// The largest (`max`) or smallest (`min`) element; NaN if there is a NaN. float32, float64 or
/// int64; ShapeError if there are no elements. If several elements equal the result, they share the
/// gradient equally, and so do several NaN.
[[nodiscard]] Tensor max(const In& x, const Dims& dims = {}, KeepDim keepdim = false);
[[nodiscard]] Tensor min(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// The int64 index of the largest (`argmax`) or smallest (`argmin`) element, and of the first if
/// there are several. It counts in row-major order along the axes that are reduced, which are all
/// by default. NaN is more extreme than any number. Errors as for `max`.
[[nodiscard]] Tensor argmax(const In& x, const Dims& dims = {}, KeepDim keepdim = false);
[[nodiscard]] Tensor argmin(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// The product of the elements; 1 if there are none. Any dtype; int64 wraps around, and bool gives
/// an int64. The gradient is right to every order where elements are 0: it is made of products of
/// the other elements, without a division.
[[nodiscard]] Tensor prod(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// The sums of x[0], ..., x[i] along `dim`, for each i. Any dtype; int64 wraps around, and bool
/// counts in int64. Each sum is one element longer than the one before it, in float64, and then
/// rounded to the dtype. IndexError if x is a scalar.
[[nodiscard]] Tensor cumsum(const In& x, int64_t dim);
/// How many elements are not zero, in int64; NaN is not. Any dtype.
[[nodiscard]] Tensor count_nonzero(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// Options of `var` and `std`.
struct VarOptions {
  double correction = 1;  ///< 1: unbiased (Bessel's correction); 0: variance of the population
};
/// The variance, sum (x - mean)^2 / max(0, n - correction).
///
/// It takes two passes, and its mean is more precise than the dtype: for equal numbers the result
/// is exactly 0. Floating dtypes; NaN for n = 1 with correction 1.
[[nodiscard]] Tensor var(const In& x, const Dims& dims = {}, KeepDim keepdim = false,
                         const VarOptions& options = {});
[[nodiscard]] inline Tensor var(const In& x, const Dims& dims, const VarOptions& options) {
  return var(x, dims, false, options);
}

/// The standard deviation, which is the square root of the variance; everything else is as for
/// `var`. Its gradient is 0 where it is 0, as in PyTorch. Where `namespace descent` is in use,
/// write `descent::std(x)` or `x.std()`, because the standard library has the same name.
[[nodiscard]] Tensor std(const In& x, const Dims& dims = {}, KeepDim keepdim = false,
                         const VarOptions& options = {});

/// Options of `norm`.
struct NormOptions {
  double p = 2;  ///< the exponent, above 0 (ValueError); infinity gives the largest |x|
};
/// The p-norm of the elements, taken as one vector: (sum |x|^p)^(1/p).
///
/// It is computed in float64, whatever the dtype, and correct even if the powers do not fit in any
/// dtype. Floating dtypes; 0 if there are no elements, but if p is infinity a ShapeError. Where the
/// gradient is not unique, because the norm is 0, or an element is 0 and p is 1, it is 0. If p is
/// infinity, several largest elements share the gradient as for `max`. The second derivative is NaN
/// where the norm is 0 and 1 < p <= 2, as in PyTorch.
[[nodiscard]] Tensor norm(const In& x, const Dims& dims = {}, KeepDim keepdim = false,
                          const NormOptions& options = {});
[[nodiscard]] inline Tensor norm(const In& x, const Dims& dims, const NormOptions& options) {
  return norm(x, dims, false, options);
}

/// log(sum exp(x)), finite for any finite x. Floating dtypes; -inf if there are no elements.
[[nodiscard]] Tensor logsumexp(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

/// Whether at least one (`any`) or every (`all`) element is not zero: a bool tensor. Any dtype. If
/// there are no elements, `any` is false and `all` is true.
[[nodiscard]] Tensor any(const In& x, const Dims& dims = {}, KeepDim keepdim = false);
[[nodiscard]] Tensor all(const In& x, const Dims& dims = {}, KeepDim keepdim = false);

}  // namespace descent
