#pragma once
/// @file
/// Layers that drop elements or channels at random while a model is trained.

#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// If `training`, each element of x becomes 0 with probability p, even if it was NaN or infinite;
/// the others are multiplied by 1 / (1 - p). Otherwise it returns x itself, as for p = 0. Draws
/// from the default generator. Any shape, floating dtypes; ValueError unless p is in [0, 1].
/// Srivastava et al. 2014, section 4.
[[nodiscard]] Tensor dropout(const In& x, double p = 0.5, bool training = true);

/// `dropout` while the layer is in training mode.
class Dropout : public Module {
 public:
  /// ValueError unless p is in [0, 1].
  explicit Dropout(double p = 0.5, At at = At::here());
  /// x is floating, of any shape; it is returned itself where nothing changes.
  Tensor forward(const In& x) const override;
  const double p;  ///< the probability of a 0
};

/// As `Dropout`, but sets whole channels to 0. Tompson et al. 2015, section 3.2.
class Dropout2d : public Module {
 public:
  /// ValueError unless p is in [0, 1].
  explicit Dropout2d(double p = 0.5, At at = At::here());
  /// x is floating, [N, C, H, W] or [C, H, W] (ShapeError); it is returned itself where nothing
  /// changes.
  Tensor forward(const In& x) const override;
  const double p;  ///< the probability that a channel becomes 0
};

}}  // namespace descent::nn
