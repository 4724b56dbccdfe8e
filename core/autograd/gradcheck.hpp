#pragma once
/// @file
/// Gradients held against differences: for your own operations too.

#include "descent/core/autograd/backward.hpp"
#include "descent/core/graph/graph.hpp"

namespace [[gnu::visibility("default")]] descent {

/// How closely `gradcheck` looks.
struct GradcheckOptions {
  int order = 1;             ///< 2 also checks the derivative of the derivative
  double tolerance = 1e-9;   ///< |analytic - numeric| <= tolerance * max(1, |numeric|)
  double tolerance2 = 1e-8;  ///< the same for the second order
  double step = 3e-4;        ///< differences are taken at step * max(1, |x|) and half of that
  uint64_t seed = 1;         ///< of the random outer gradient
};

/// What `gradcheck` found; true if all was right.
struct GradcheckResult {
  bool ok = true;       ///< whether every error was within its tolerance
  int64_t checks = 0;   ///< one per input and order
  double worst = 0;     ///< the largest error over its scale, max(1, |numeric|)
  std::string message;  ///< where it failed: order, input, element, both values, suspected cause
  /// Whether all was right.
  explicit operator bool() const { return ok; }
};

/// Compares the gradients that `f` records with Richardson-extrapolated central differences of its
/// values, for every element of every input that requires a gradient, under one random outer
/// gradient. Inputs are float64 leaves (DtypeError otherwise: float32 differences prove nothing),
/// of any strides but 0; their elements are moved while it runs and put back. `f` must be
/// deterministic.
[[nodiscard]] GradcheckResult gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& f,
                                        const std::vector<Tensor>& inputs,
                                        GradcheckOptions options = {}, At at = At::here());

}  // namespace descent
