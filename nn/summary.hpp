#pragma once
#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// A table of the layers that a zero input of `input_shape` passes, in the order of their calls,
/// with output shapes and parameter counts. Runs `model` once, in evaluation mode, recording
/// nothing.
[[nodiscard]] std::string summary(Module& model, const Shape& input_shape, At at = At::here());

}}  // namespace descent::nn
