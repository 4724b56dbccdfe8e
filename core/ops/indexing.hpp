#pragma once
/// @file
/// Functions that pick elements of a tensor x by a tensor of indices or by a mask.
///
/// Indices are int64, masks are bool (DtypeError); x may have any dtype, but not bool in
/// `scatter_add`. Indices count from the front, and all are checked before anything is computed: an
/// index out of range is an IndexError that names its position, its value and the range. All
/// results are copies.

#include <optional>

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

/// A copy of x with out[index[i, j, ...], j, ...] = src[i, j, ...] for dim = 0, and likewise for
/// other axes. src has the shape of `index`, which must fit x as it does for `gather`. If several
/// elements have the same place, the last one in row-major order of src stays, and the others get
/// no gradient.
[[nodiscard]] Tensor scatter(const In& x, int64_t dim, const In& index, const In& src);

/// A copy of x with out[index[i]] += source[i] for dim = 0, and likewise for other axes. `index` is
/// a vector [m], and `source` has x's shape, but size m along `dim` (ShapeError). Otherwise as
/// `scatter_add`.
[[nodiscard]] Tensor index_add(const In& x, int64_t dim, const In& index, const In& source);

/// Options of `embedding`.
struct EmbeddingOptions {
  /// A row of the weight that gets no gradient; a negative number counts from the back.
  std::optional<int64_t> padding_idx = std::nullopt;
};
/// The rows of `weight` [V, D] that `input`, int64 of any shape, picks: input.shape + [D].
/// IndexError if padding_idx is not in [-V, V).
[[nodiscard]] Tensor embedding(const In& input, const In& weight,
                               const EmbeddingOptions& options = {});
/// 1 in place x[i] of row i, and 0 elsewhere: int64 x.shape + [num_classes]. Without `num_classes`,
/// it is the largest element plus 1. ValueError if num_classes is negative, or if x is empty and
/// there is none; IndexError for an element that is not in [0, num_classes).
[[nodiscard]] Tensor one_hot(const In& x, int64_t num_classes = -1);
/// The elements of x where `mask` (bool) is true, in row-major order: [count]. Both broadcast.
[[nodiscard]] Tensor masked_select(const In& x, const In& mask);

/// The entries of x along its leading axes that `index` picks.
///
/// An int64 `index` of any shape picks rows, which are entries along axis 0: the result has the
/// shape index.shape + x.shape[1:]. A bool `index` is a mask for the leading axes and has their
/// shape: the result has the shape [number of true elements] + the remaining axes of x.
[[nodiscard]] Tensor index(const In& x, const In& index);

/// `value` where `mask` (bool) is true, x elsewhere; both broadcast.
[[nodiscard]] Tensor masked_fill(const In& x, const In& mask, Number value);
/// x [.., n, m] with 0 above (`tril`) or below (`triu`) a diagonal, the elements [.., i, j] with
/// j - i = `diagonal`. ShapeError below rank 2.
[[nodiscard]] Tensor tril(const In& x, int64_t diagonal = 0);
[[nodiscard]] Tensor triu(const In& x, int64_t diagonal = 0);
/// x with the order reversed along each axis of `dims`; an empty list means no axis. ShapeError for
/// an axis that is named twice.
[[nodiscard]] Tensor flip(const In& x, const Dims& dims);
/// Moves the elements by shifts[i] indices along dims[i], for each i; what leaves at the end comes
/// in at the beginning, and a negative shift moves to the front. ShapeError unless both lists have
/// one length. Without axes, along all of x in row-major order.
[[nodiscard]] Tensor roll(const In& x, const Dims& shifts, const Dims& dims);
[[nodiscard]] Tensor roll(const In& x, int64_t shift);
/// x repeated counts[i] times along axis i. If there are more counts than axes, new axes come in
/// front; if there are fewer, `repeat` throws a ShapeError, and `tile` repeats only the last axes.
/// ShapeError for a negative count.
[[nodiscard]] Tensor repeat(const In& x, const Shape& counts);
[[nodiscard]] Tensor tile(const In& x, const Shape& counts);
/// The elements [i, j] with j - i = `diagonal` of a matrix, as a vector, which may be empty; of a
/// vector, the matrix that has it there and 0 elsewhere. Any dtype, for a vector not bool;
/// ShapeError for other ranks.
[[nodiscard]] Tensor diag(const In& x, int64_t diagonal = 0);
/// The indices of the elements that are not zero, in row-major order: int64 [count, rank].
[[nodiscard]] Tensor nonzero(const In& x);

}  // namespace descent
