#pragma once
/// @file
/// Functions that pick elements of a tensor x by a tensor of indices or by a mask.
///
/// Indices are int64, masks are bool (DtypeError); x may have any dtype, but not bool in
/// `scatter_add`. Indices count from the front, and all are checked before anything is computed: an
/// index out of range is an IndexError that names its position, its value and the range. All
/// results are copies.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The entries index[0], index[1], ... of x along `dim`. `index` is a vector [m]; the result has
/// x's shape, but size m along `dim`.
[[nodiscard]] Tensor index_select(const In& x, int64_t dim, const In& index);
/// out[i, j, ...] = x[index[i, j, ...], j, ...] for dim = 0, and likewise for other axes. The
/// result has the shape of `index`, which has x's rank and is no larger than x along every axis
/// except `dim` (ShapeError).
[[nodiscard]] Tensor gather(const In& x, int64_t dim, const In& index);
/// A copy of x with out[index[i, j, ...], j, ...] += src[i, j, ...] for dim = 0, and likewise for
/// other axes. src has the shape of `index`, which must fit x as it does for `gather`. Elements
/// that are added in the same place are added in the order in which they stand in src. Not for
/// bool.
[[nodiscard]] Tensor scatter_add(const In& x, int64_t dim, const In& index, const In& src);

/// The entries of x along its leading axes that `index` picks.
///
/// An int64 `index` of any shape picks rows, which are entries along axis 0: the result has the
/// shape index.shape + x.shape[1:]. A bool `index` is a mask for the leading axes and has their
/// shape: the result has the shape [number of true elements] + the remaining axes of x.
[[nodiscard]] Tensor index(const In& x, const In& index);

/// `value` where `mask` (bool) is true, x elsewhere; both broadcast.
[[nodiscard]] Tensor masked_fill(const In& x, const In& mask, Number value);
/// The indices of the elements that are not zero, in row-major order: int64 [count, rank].
[[nodiscard]] Tensor nonzero(const In& x);

}  // namespace descent
