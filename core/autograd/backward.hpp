#pragma once
/// @file
/// The walk back through the graph. `backward` and the hooks are methods of Tensor.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// What `grad` keeps and allows.
struct GradOptions {
  bool create_graph = false;  ///< record the derivative too, for second derivatives
  bool retain_graph = false;  ///< keep saved tensors for another backward; implied by create_graph
  bool allow_unused = false;  ///< an input that is not reached gives an undefined tensor
};
/// The gradient of the sum of `outputs` with respect to each of `inputs`. The gradients that leaves
/// hold do not change. Outputs must have one element, unless `grad_outputs` gives their outer
/// gradients. The results share elements with no other tensor. As with `backward`, two threads may
/// walk one graph one after the other; if two walks meet, one of them throws a GraphError.
[[nodiscard]] std::vector<Tensor> grad(const std::vector<Tensor>& outputs,
                                       const std::vector<Tensor>& inputs,
                                       const GradOptions& options = {},
                                       const std::vector<Tensor>& grad_outputs = {},
                                       At at = At::here());

}  // namespace descent
