#pragma once
/// @file
/// What layers and losses share: how parameters start, and checks.

#include <cmath>

#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"
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

/// ShapeError unless the lengths are int64 [N], ValueError unless all are in [least, most].
inline void check_lengths(const char* op, const char* name, const In& lengths, int64_t n,
                          int64_t least, int64_t most) {
  check_input(op, lengths);
  if (lengths.dtype() != int64 || !(lengths.shape() == Shape{n}))
    fail<ShapeError>(lengths.at, "{}: {} are {} {}: need int64 {}", op, name, lengths.dtype(),
                     lengths.shape(), Shape{n});
  if (any(logical_or(lt(lengths, least), gt(lengths, most))).item<bool>())
    fail<ValueError>(lengths.at, "{}: {} are {}: need {} to {}", op, name,
                     lengths.to_vector<int64_t>(), least, most);
}

}}  // namespace descent::nn
