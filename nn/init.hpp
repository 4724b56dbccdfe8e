#pragma once
/// @file
/// Initialisers: they fill a tensor of any shape in place, also one that requires a gradient, and
/// record nothing.

#include "descent/core/ops/random.hpp"
#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn::init {

/// Fills x, which is floating, with uniform numbers from `low` to `high`. ValueError unless
/// low <= high and the difference is finite.
void uniform_(const Tensor& x, double low = 0, double high = 1,
              Generator& generator = default_generator(), At at = At::here());
/// Fills x, which is floating, with normal numbers of this mean and standard deviation. ValueError
/// unless std >= 0 and both are finite.
void normal_(const Tensor& x, double mean = 0, double std = 1,
             Generator& generator = default_generator(), At at = At::here());
/// Sets every element of x, of any dtype, to `value`.
void constant_(const Tensor& x, Number value, At at = At::here());

/// How many inputs contribute to one output of `weight` [out, in, ...]: the product of all sizes
/// but the first. ShapeError below rank 2.
[[nodiscard]] int64_t fan_in(const Tensor& weight, At at = At::here());

/// Fills `weight` [out, in, ...] with uniform numbers in +-sqrt(6 / ((1 + a^2) fan_in)), where a is
/// the slope of a leaky ReLU below 0; a = 0 is the ReLU. ShapeError below rank 2; a
/// weight without elements stays as it is. He et al. 2015, section 2.2 (arXiv:1502.01852).
void kaiming_uniform_(const Tensor& weight, double a = 0,
                      Generator& generator = default_generator(), At at = At::here());

}}  // namespace descent::nn::init
