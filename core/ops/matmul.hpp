#pragma once
/// @file
/// Matrix products of two tensors of the same dtype, float32 or float64 (DtypeError). Transposed
/// operands, and slices whose rows or columns have no gaps, are not copied; results have the same
/// bits for any number of threads.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The matrix product: a [.., n, k] and b [.., k, m] make [.., n, m], where the axes in front
/// broadcast. A vector counts as a row on the left and as a column on the right, and the result
/// lacks its axis: [k] and [k] make a scalar. If k is 0, the result is zeros. ShapeError if a or b
/// is a scalar, if k differs, or if the axes in front do not broadcast.
[[nodiscard]] Tensor matmul(const In& a, const In& b);

/// x weight^T + bias in one pass: x [.., in], weight [out, in] and bias [out], which may be
/// undefined, make [.., out]. The ShapeError names the argument that does not fit.
[[nodiscard]] Tensor linear(const In& x, const In& weight, const In& bias = Tensor());

}  // namespace descent
