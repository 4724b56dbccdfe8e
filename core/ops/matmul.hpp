#pragma once
/// @file
/// Matrix products, float32 or float64, both operands of one dtype (DtypeError). Transposed and
/// sliced operands are read where they are; results have the same bits for any number of threads.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The matrix product: a [.., n, k] and b [.., k, m] make [.., n, m], where the axes in front
/// broadcast. A vector on the left is a row, on the right a column, and its axis is gone from the
/// result: [k] and [k] make a scalar. k = 0 makes zeros.
/// ShapeError if a or b is a scalar, k differs, or the axes in front do not broadcast.
[[nodiscard]] Tensor matmul(const In& a, const In& b);

/// x weight^T + bias in one pass: x [.., in], weight [out, in] and bias [out] make [.., out].
/// ShapeError naming the argument that does not fit.
[[nodiscard]] Tensor linear(const In& x, const In& weight, const In& bias);
/// x weight^T.
[[nodiscard]] Tensor linear(const In& x, const In& weight);

}  // namespace descent
