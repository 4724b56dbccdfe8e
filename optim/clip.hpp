#pragma once
/// @file
/// Limits on the size of gradients.
#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// Which norm `clip_grad_norm` limits, and what it does if that is not finite.
struct ClipNormOptions {
  double p = 2;                     ///< above 0; infinity: the norm is the largest |g|
  bool error_if_nonfinite = false;  ///< throw a NumericError, before anything changes
};
/// Multiplies every gradient by min(1, max_norm / (n + 1e-6)) and returns n, the p-norm of the
/// elements of all gradients as one vector, computed in float64. If n is not finite, gradients
/// become NaN or 0, as in PyTorch. A handle that was kept on a gradient still has the elements from
/// before. ValueError unless max_norm >= 0 and p > 0. Pascanu, Mikolov & Bengio 2013, Algorithm 1
/// (arXiv:1211.5063); the 1e-6 is PyTorch's.
double clip_grad_norm(const NamedTensors& parameters, double max_norm, ClipNormOptions options = {},
                      At at = At::here());
/// Limits every element of every gradient to [-limit, limit]; NaN stays NaN. A handle that was kept
/// on a gradient still has the elements from before. ValueError unless limit >= 0.
void clip_grad_value(const NamedTensors& parameters, double limit, At at = At::here());

namespace detail {
/// Multiplies every gradient by `factor`. This does not change the GradientAge.
void scale_gradients(const NamedTensors& parameters, double factor);
}  // namespace detail

}}  // namespace descent::optim
