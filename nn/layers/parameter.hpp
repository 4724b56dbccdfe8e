#pragma once
/// @file
/// What layers share when they make their parameters.

#include <cmath>

#include "descent/core/ops/factory.hpp"
#include "descent/nn/init.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// A new tensor, uniform in +-1/sqrt(fan_in). For a bias, pass the layer's `weight`, whose fan_in
/// is used; for a weight, pass none.
inline Tensor initial(const Shape& shape, At at, const Tensor& weight = {}) {
  Tensor x = empty(shape, float32, at);
  const int64_t inputs = init::fan_in(weight.defined() ? weight : x, at);
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  init::uniform_(x, -bound, bound);
  return x;
}

inline int64_t check_features(const char* layer, int64_t in, int64_t out, At at) {
  if (in < 1 || out < 1)
    fail<ValueError>(at, "{}: {} inputs and {} outputs: need at least one", layer, in, out);
  return in;
}

}}  // namespace descent::nn
