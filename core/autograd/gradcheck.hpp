#pragma once
/// @file
/// Compares gradients with finite differences, also those of your own operations.

#include "descent/core/autograd/backward.hpp"
#include "descent/core/graph/graph.hpp"

namespace [[gnu::visibility("default")]] descent {

/// What `gradcheck` checks, and how closely.
struct GradcheckOptions {
  int order = 1;             ///< 2 also checks the derivative of the derivative
  double tolerance = 1e-9;   ///< |analytic - numeric| <= tolerance * max(1, |numeric|)
  double tolerance2 = 1e-8;  ///< the same for the second order
  double step = 3e-4;        ///< differences are taken at step * max(1, |x|) and half of that
  uint64_t seed = 1;         ///< of the random weights, such as the outer gradient
};

/// What `gradcheck` found; true if all gradients are right.
struct GradcheckResult {
  bool ok = true;       ///< whether every error was within its tolerance
  int64_t checks = 0;   ///< one per input and order; in order 2 the outer gradient counts too
  double worst = 0;     ///< the largest |analytic - numeric| / max(1, |numeric|)
  std::string message;  ///< where it failed: order, input, element, both values, suspected cause
  /// Whether all gradients are right.
  explicit operator bool() const { return ok; }
};

/// Compares the gradients that `f` records with Richardson-extrapolated central differences of its
/// values, for every element of every input that requires a gradient, under one random outer
/// gradient. These inputs must be float64 (DtypeError: float32 differences prove nothing) and
/// leaves (GraphError), of any strides but 0. Their elements are changed while it runs, and
/// restored. ValueError if no input requires a gradient. `f` must be deterministic.
[[nodiscard]] GradcheckResult gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                                        const std::vector<Tensor>& inputs,
                                        GradcheckOptions options = {}, At at = At::here());

}  // namespace descent
