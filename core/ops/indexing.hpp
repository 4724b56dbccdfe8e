#pragma once
/// @file
/// Elements picked by other tensors. Indices are int64, masks bool; x has any dtype where nothing
/// is added. Indices count from the front and are all checked before anything is computed: one
/// outside is an IndexError that names its position, its value and the bound. All results are
/// copies.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// x at index[0], index[1], ... (shape [m]) along `dim`: x's shape with m in place of that size.
[[nodiscard]] Tensor index_select(const In& x, int64_t dim, const In& index);
/// out[i, j, ...] = x[index[i, j, ...], j, ...] for dim = 0, and so on: the shape of `index`, whose
/// rank is x's and whose sizes do not exceed x's but along `dim`.
[[nodiscard]] Tensor gather(const In& x, int64_t dim, const In& index);
/// x with x[index[i, j, ...], j, ...] += src[i, j, ...] for dim = 0, and so on: src has the shape
/// of `index`, which is as for gather. What meets is added in the order of the indices. Not for
/// bool.
[[nodiscard]] Tensor scatter_add(const In& x, int64_t dim, const In& index, const In& src);

/// Rows of x (along axis 0) by an int64 tensor of any shape: index.shape + x.shape[1:]. Or those
/// where a bool tensor holds, whose shape is that of x's leading axes: [count] + the axes left.
[[nodiscard]] Tensor index(const In& x, const In& index);

/// `value` where mask (bool) holds, x elsewhere; both broadcast.
[[nodiscard]] Tensor masked_fill(const In& x, const In& mask, Number value);
/// [count, rank] int64: the indices of the elements that are not zero, in row-major order.
[[nodiscard]] Tensor nonzero(const In& x);

}  // namespace descent
