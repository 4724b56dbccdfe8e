#pragma once
/// @file
/// Softmax along an axis, and its logarithm.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// exp(x) / sum exp(x) along `dim`, by default the last axis.
///
/// The result has x's shape; its elements are in [0, 1] and add up to 1 along `dim`. It is computed
/// from x - max x, so that finite elements of any size give finite results. If along `dim` all
/// elements are -inf, or one is inf or NaN, the result there is NaN. Floating dtypes. IndexError
/// for a `dim` out of range.
[[nodiscard]] Tensor softmax(const In& x, int64_t dim = -1);

/// log(softmax(x, dim)) = (x - max x) - log sum exp(x - max x), which is precise even where softmax
/// would round to 0 or 1. Everything else is as for `softmax`.
[[nodiscard]] Tensor log_softmax(const In& x, int64_t dim = -1);

}  // namespace descent
