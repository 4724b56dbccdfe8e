#pragma once
#include "descent/core/ops/random.hpp"
#include "descent/core/tensor/tensor.hpp"

// Initialisers: they fill a tensor in place, whether or not it requires a gradient.

namespace [[gnu::visibility("default")]] descent { namespace nn::init {

/// Uniform from `low` to `high`. ValueError unless low <= high and both are finite.
void uniform_(const Tensor& x, double low = 0, double high = 1,
              Generator& generator = default_generator(), At at = At::here());
/// ValueError unless std >= 0 and both are finite.
void normal_(const Tensor& x, double mean = 0, double std = 1,
             Generator& generator = default_generator(), At at = At::here());
void constant_(const Tensor& x, Number value, At at = At::here());

/// Inputs that feed one output of `weight` [out, in, ...]. ShapeError below rank 2.
[[nodiscard]] int64_t fan_in(const Tensor& weight, At at = At::here());

/// Uniform in +-sqrt(6 / ((1 + a^2) fan_in)), a the leaky ReLU's slope (0: ReLU).
/// He et al. 2015, section 2.2 (arXiv:1502.01852).
void kaiming_uniform_(const Tensor& weight, double a = 0,
                      Generator& generator = default_generator(), At at = At::here());

}}  // namespace descent::nn::init
