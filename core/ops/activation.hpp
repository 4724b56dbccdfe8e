#pragma once
/// @file
/// Activation functions: functions of one element that stand between the layers of a network. They
/// take floating dtypes.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The logistic function, 1 / (1 + exp(-x)).
[[nodiscard]] Tensor sigmoid(const In& x);
/// max(x, 0); a NaN stays NaN. The gradient at 0 is 0; at NaN it passes unchanged, as in PyTorch.
[[nodiscard]] Tensor relu(const In& x);

}  // namespace descent
