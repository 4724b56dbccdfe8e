#pragma once
/// @file
/// Views, which are other windows onto the same elements, and functions that copy the elements.
///
/// A view shares the version counter of the tensor that it was taken from, and its gradient flows
/// back to that tensor. Most of these functions are methods of Tensor as well.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The same elements, in row-major order, with another shape of as many elements (ShapeError). One
/// size may be -1: it follows from the others. A view if the strides allow it, a copy otherwise.
[[nodiscard]] Tensor reshape(const In& x, const Shape& shape);
/// Merges the axes start..end into one; IndexError unless start <= end.
[[nodiscard]] Tensor flatten(const In& x, int64_t start = 0, int64_t end = -1);
/// The transpose of a matrix: [n, m] becomes [m, n]. A vector or a scalar stays as it is.
/// ShapeError above rank 2.
[[nodiscard]] Tensor t(const In& x);
/// Exchanges the axes dim0 and dim1.
[[nodiscard]] Tensor transpose(const In& x, int64_t dim0, int64_t dim1);
/// Reorders the axes: axis i of the result is axis dims[i] of x. ShapeError unless `dims` names
/// each axis once.
[[nodiscard]] Tensor permute(const In& x, const Dims& dims);
/// The indices [start, start + length) along `dim`; a negative start counts from the back.
/// IndexError unless x has all of them.
[[nodiscard]] Tensor narrow(const In& x, int64_t dim, int64_t start, int64_t length);
/// The indices start, start + step, ... below `end` along `dim`, like x[start:end:step] in Python:
/// a negative `start` or `end` counts from the back, and one out of range is limited to the range.
/// ValueError unless step > 0.
[[nodiscard]] Tensor slice(const In& x, int64_t dim, int64_t start, int64_t end = INT64_MAX,
                           int64_t step = 1);
/// The entry at `index` along `dim`, which is removed; a negative index counts from the back.
[[nodiscard]] Tensor select(const In& x, int64_t dim, int64_t index);
/// Removes axis `dim` if its size is 1.
[[nodiscard]] Tensor squeeze(const In& x, int64_t dim);
/// Removes all axes of size 1.
[[nodiscard]] Tensor squeeze(const In& x);
/// Adds an axis of size 1 in front of axis `dim`, in [-rank - 1, rank].
[[nodiscard]] Tensor unsqueeze(const In& x, int64_t dim);
/// Repeats axes of size 1 to get `shape`, without a copy. -1 keeps a size; new axes come in front.
[[nodiscard]] Tensor expand(const In& x, const Shape& shape);
/// x itself if its elements lie in row-major order, otherwise a copy whose elements do.
[[nodiscard]] Tensor contiguous(const In& x);
/// A copy with elements of its own. Its gradient flows back to x.
[[nodiscard]] Tensor clone(const In& x);
/// Converts x to another dtype; x itself if it has that dtype already.
///
/// An element becomes true in bool if it is not zero, and loses its fraction in int64. ValueError
/// for an element that int64 cannot hold, because it is NaN or too large. The gradient flows
/// between floating dtypes.
[[nodiscard]] Tensor to(const In& x, DType dtype);

namespace detail {
/// Checks x, and returns the axis `dim` as counted from the front; IndexError if there is none.
[[nodiscard]] int axis_of(const char* op, const In& x, int64_t dim);
}  // namespace detail

}  // namespace descent
