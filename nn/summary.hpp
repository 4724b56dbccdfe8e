#pragma once
/// @file
/// A model as a table of its layers.

#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// A table of the modules that are called for an input of zeros, in the order in which the calls
/// return, with the shapes of their outputs and the number of their parameters. The input has
/// `input_shape` and the dtype of the first parameter. Calls `model` once, in evaluation mode, and
/// records nothing.
[[nodiscard]] std::string summary(Module& model, const Shape& input_shape, At at = At::here());
/// The same for a model of any signature: `call` calls it, as in
/// `summary(net, [&] { net(q, k, v); })`.
[[nodiscard]] std::string summary(ModuleBase& model, const std::function<void()>& call);

}}  // namespace descent::nn
