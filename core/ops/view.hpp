#pragma once
/// @file
/// Views: other windows onto the same elements, and the copies that make one's own. A view shares
/// the version counter; its gradient flows back to what it was taken from. Most of these are
/// methods of Tensor as well.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The same elements in row-major order under another shape of as many; one size may be -1. A view
/// where the strides allow it, a copy otherwise.
[[nodiscard]] Tensor reshape(const In& x, const Shape& shape);
/// Axes start..end become one; IndexError unless start <= end.
[[nodiscard]] Tensor flatten(const In& x, int64_t start = 0, int64_t end = -1);
/// A matrix [n, m] seen as [m, n]; a vector or scalar as it is. ShapeError above rank 2.
[[nodiscard]] Tensor t(const In& x);
/// Axes dim0 and dim1 exchanged.
[[nodiscard]] Tensor transpose(const In& x, int64_t dim0, int64_t dim1);
/// Axis i of the result is axis dims[i] of x; dims is a permutation of all axes.
[[nodiscard]] Tensor permute(const In& x, const Dims& dims);
template <std::integral... D>
[[nodiscard]] Tensor permute(const In& x, int64_t dim0, int64_t dim1, D... more)
    __attribute__((unavailable("write the axes as one list: permute(x, {1, 0})")));
/// Indices [start, start + length) along `dim`.
[[nodiscard]] Tensor narrow(const In& x, int64_t dim, int64_t start, int64_t length);
/// Indices start, start + step, ... below `end` along `dim`, as x[start:end:step] in Python:
/// negative ends count from the back, ends outside are clamped. step > 0.
[[nodiscard]] Tensor slice(const In& x, int64_t dim, int64_t start, int64_t end = INT64_MAX,
                           int64_t step = 1);
/// Index `index` along `dim`, which goes away.
[[nodiscard]] Tensor select(const In& x, int64_t dim, int64_t index);
/// Without axis `dim` if its size is 1; without all axes of size 1.
[[nodiscard]] Tensor squeeze(const In& x, int64_t dim);
[[nodiscard]] Tensor squeeze(const In& x);
/// With an axis of size 1 before axis `dim`, in [-rank - 1, rank].
[[nodiscard]] Tensor unsqueeze(const In& x, int64_t dim);
/// Axes of size 1 repeated to `shape` without a copy; -1 keeps a size; new axes come in front.
[[nodiscard]] Tensor expand(const In& x, const Shape& shape);
/// x itself if its elements lie in row-major order, else a copy where they do.
[[nodiscard]] Tensor contiguous(const In& x);
/// A copy with elements of its own, in the graph.
[[nodiscard]] Tensor clone(const In& x);
/// Converted to another dtype (to bool: whether not zero; to int64: without its fraction); x itself
/// if it has it. ValueError for an element that int64 does not hold: NaN, or too large.
/// The gradient flows between floating dtypes.
[[nodiscard]] Tensor to(const In& x, DType dtype);

namespace detail {
/// Checks x, and returns axis `dim` counted from the front: IndexError if there is none.
[[nodiscard]] int axis_of(const char* op, const In& x, int64_t dim);
}  // namespace detail

}  // namespace descent
