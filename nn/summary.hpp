#pragma once
#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// A table of the layers that a zero input of `input_shape` passes, in the order of their calls,
/// with output shapes and parameter counts. Runs `model` once, in evaluation mode, recording
/// nothing.
[[nodiscard]] std::string summary(Module& model, const Shape& input_shape, At at = At::here());
/// The same for a model of any signature: `call` calls it. `summary(net, [&] { net(q, k, v); })`.
[[nodiscard]] std::string summary(ModuleBase& model, const std::function<void()>& call);

}}  // namespace descent::nn
