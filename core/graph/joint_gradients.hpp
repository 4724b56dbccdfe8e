#pragma once
/// @file
/// Gradients of several inputs that are computed together.

#include <utility>
#include <vector>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// For an op whose backward computes the gradients of all its inputs at once: the first derivative
/// that a walk calls computes them, and each takes its own. The derivatives share one object.
class JointGradients {
 public:
  /// Gradient i of compute(g), a std::vector<Tensor> with one for each input.
  template <class F> Tensor take(std::size_t i, const Tensor& g, F compute) {
    const uint32_t version = In(g).version;
    const bool known =
        Peek::header(from_) == Peek::header(g) && version_ == version && gradients_[i].defined();
    if (!known) gradients_ = compute(g), from_ = g, version_ = version;
    return std::exchange(gradients_[i], {});
  }

 private:
  Tensor from_;  // the gradient that they were computed from, and its version
  uint32_t version_ = 0;
  std::vector<Tensor> gradients_;
};

}  // namespace descent
