#pragma once
/// @file
/// The walk back through the graph. Tensor's `backward` and hooks are declared with it.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// What `grad` is to keep and to allow.
struct GradOptions {
  bool create_graph = false;  ///< record the derivative too, for second derivatives
  bool retain_graph = false;  ///< keep saved tensors for another backward; implied by create_graph
  bool allow_unused = false;  ///< an input that is not reached gets undefined, no error
};
/// The gradient of sum(outputs) with respect to each of `inputs`, leaving every leaf's own gradient
/// alone. Outputs must have one element, unless `grad_outputs` gives their outer gradients. Results
/// share elements with nothing. As with `backward`, two threads may walk one graph one after the
/// other; where two walks meet, one of them is a GraphError.
[[nodiscard]] std::vector<Tensor> grad(const std::vector<Tensor>& outputs,
                                       const std::vector<Tensor>& inputs,
                                       const GradOptions& options = {},
                                       const std::vector<Tensor>& grad_outputs = {},
                                       At at = At::here());

}  // namespace descent
