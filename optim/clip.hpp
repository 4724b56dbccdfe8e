#pragma once
#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

struct ClipNormOptions {
  double p = 2;                     ///< above 0; infinity: the largest |g|
  bool error_if_nonfinite = false;  ///< NumericError, nothing changed, if the norm is not finite
};
/// Multiplies every gradient by min(1, max_norm / (n + 1e-6)) and returns n, the p-norm of all
/// their elements as one vector, in float64. If n is not finite, gradients become NaN or 0, as in
/// PyTorch. A handle kept on a gradient stays as it is. ValueError unless max_norm >= 0 and p > 0.
/// Pascanu, Mikolov & Bengio 2013, Algorithm 1 (arXiv:1211.5063); the 1e-6 is PyTorch's.
double clip_grad_norm(const NamedTensors& parameters, double max_norm, ClipNormOptions options = {},
                      At at = At::here());
/// Brings every element of every gradient into [-limit, limit]; NaN stays. Handles as above.
/// ValueError unless limit >= 0.
void clip_grad_value(const NamedTensors& parameters, double limit, At at = At::here());

namespace detail {
/// Multiplies every gradient, which is none the newer for it: see GradientAge.
void scale_gradients(const NamedTensors& parameters, double factor);
}  // namespace detail

}}  // namespace descent::optim
