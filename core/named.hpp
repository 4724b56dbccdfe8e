#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "descent/core/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Tensors with their dotted names, in a fixed order: how models, optimizers and files exchange
/// parameters.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Whether `name` fits `pattern`, in which '*' stands for any characters and '?' for one.
bool matches(std::string_view pattern, std::string_view name);

}  // namespace descent
