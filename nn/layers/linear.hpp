#pragma once
/// @file
/// Layers of weighted sums.

#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// How a `Linear` layer is made.
struct LinearOptions {
  bool bias = true;  ///< whether the layer adds a bias
};
/// y = x weight^T + bias. `weight` and `bias` start uniform in +-1/sqrt(in), as in PyTorch.
class Linear : public Module {
 public:
  /// A layer from `in` to `out` features. ValueError if either is below 1.
  Linear(int64_t in, int64_t out, LinearOptions options = {}, At at = At::here());
  /// y [.., out] of x [.., in]. ShapeError if the last size of x is not `in`, DtypeError if x has
  /// another dtype than `weight`.
  Tensor forward(const In& x) const override;
  const Tensor weight;  ///< [out, in]
  const Tensor bias;    ///< [out]; undefined for a layer without a bias
};

}}  // namespace descent::nn
