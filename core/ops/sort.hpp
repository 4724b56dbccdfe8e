#pragma once
/// @file
/// Functions that order the elements along an axis `dim`, or choose some of them by their order.
///
/// NaN is larger than every number. Elements that are equal keep their order. Where a function
/// returns values, their gradients flow back to the elements of x from which they come. If nothing
/// else is said, any dtype; IndexError if x is a scalar or `dim` is out of range.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Elements of x, and their int64 indices along the axis: `auto [values, indices] = sort(x);`.
struct ValuesAndIndices {
  Tensor values;   ///< of x's dtype
  Tensor indices;  ///< of the same shape
};

/// Options of `sort` and `argsort`.
struct SortOptions {
  bool descending = false;  ///< whether the largest comes first
};
/// The elements along `dim` in ascending order, NaN last; in descending order, NaN comes first.
[[nodiscard]] ValuesAndIndices sort(const In& x, int64_t dim = -1, const SortOptions& options = {});
/// The indices that `sort` returns.
[[nodiscard]] Tensor argsort(const In& x, int64_t dim = -1, const SortOptions& options = {});

/// Options of `topk`.
struct TopkOptions {
  bool largest = true;  ///< the k largest elements, or the k smallest
};
/// The k largest elements along `dim`, the largest first, or the k smallest, the smallest first: of
/// equal elements, the one with the lowest index first. ValueError unless 0 <= k <= size of `dim`.
[[nodiscard]] ValuesAndIndices topk(const In& x, int64_t k, int64_t dim = -1,
                                    const TopkOptions& options = {});

/// The largest or smallest element along `dim`, and the index of the first one, as `argmax` and
/// `argmin` find it; NaN is more extreme than any number. `max` and `min` return the value alone,
/// and share the gradient between equal elements, where here the one at the index gets all of it.
/// Errors as for `max`.
[[nodiscard]] ValuesAndIndices max_with_indices(const In& x, int64_t dim, KeepDim keepdim = false);
[[nodiscard]] ValuesAndIndices min_with_indices(const In& x, int64_t dim, KeepDim keepdim = false);

/// The element in the middle of the sorted elements along `dim`, of two the lower; if there is a
/// NaN, the first NaN. float32, float64 or int64; ShapeError if there are no elements.
[[nodiscard]] ValuesAndIndices median(const In& x, int64_t dim, KeepDim keepdim = false);

/// The element at place q (n - 1) of the n sorted elements along `dim`, from 0 on; between two
/// elements, it is interpolated linearly. NaN if there is a NaN. Floating dtypes; ValueError unless
/// 0 <= q <= 1, ShapeError if there are no elements.
[[nodiscard]] Tensor quantile(const In& x, double q, int64_t dim, KeepDim keepdim = false);

/// What `unique` returns.
struct Unique {
  Tensor values;   ///< [m], in ascending order
  Tensor inverse;  ///< int64, of x's shape: x = values[inverse]
  Tensor counts;   ///< int64 [m]: how often each value stands in x
};
/// The different elements of x, without a gradient. Each NaN differs from all others. x may be a
/// scalar.
[[nodiscard]] Unique unique(const In& x);

/// How often each of the numbers 0, 1, ... stands in x, an int64 vector: int64 [m], where m is
/// `minlength` or the largest element plus 1, whichever is more. ShapeError for another rank;
/// ValueError for a negative element or minlength.
[[nodiscard]] Tensor bincount(const In& x, int64_t minlength = 0);

}  // namespace descent
