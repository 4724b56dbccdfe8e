#pragma once
/// @file
/// Products of two tensors that are made of other operations.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The sums of products of two tensors that `equation` describes, by Einstein's convention.
///
/// `einsum("nik,njk->nij", a, b)` gives each axis of a and of b a letter. The letters behind the
/// arrow are the axes of the result, in their order; over all others, the products are summed. It
/// becomes sums, permutations and one `matmul`. Floating dtypes. ValueError for an equation without
/// an arrow or with other characters, such as "...", and for a letter that a tensor or the result
/// has twice, or the result alone; ShapeError if a tensor has not one letter for each axis, or if a
/// letter stands for two sizes.
[[nodiscard]] Tensor einsum(const std::string& equation, const In& a, const In& b);

/// The products of an element of a [n] and one of b [m]: [n, m]. ShapeError unless both are
/// vectors.
[[nodiscard]] Tensor outer(const In& a, const In& b);
/// The matrix products of a [N, n, k] and b [N, k, m]: [N, n, m]. Nothing broadcasts (ShapeError).
[[nodiscard]] Tensor bmm(const In& a, const In& b);

/// The cosine of the angle between a and b along `dim`, which is removed: sum a b / (|a| |b|), with
/// `eps` in place of a smaller norm. Both broadcast. Floating dtypes; ValueError unless eps > 0.
/// The gradient takes a norm below eps as a constant, where PyTorch's lets it vary.
[[nodiscard]] Tensor cosine_similarity(const In& a, const In& b, int64_t dim = 1,
                                       double eps = 1e-8);

}  // namespace descent
