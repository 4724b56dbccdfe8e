#pragma once
/// @file
/// Normalisation: y = (x - mean) / sqrt(variance + eps) weight + bias, with the mean and the
/// variance, that of the population, of groups of elements. The functions differ in their groups.
///
/// The mean and the variance are computed in float64, in two passes; so groups of equal numbers
/// give exactly the bias if eps is above 0, and numbers far from 0 lose nothing. A group with a NaN
/// or an infinity becomes NaN. x is floating. A weight or bias that is undefined counts as ones or
/// zeros; otherwise it has x's dtype (DtypeError) and the shape that the function names
/// (ShapeError). ValueError unless eps is at least 0. If x has no elements, neither has the result,
/// and the gradients of weight and bias are 0.

#include <optional>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Options of `batch_norm`.
struct BatchNormOptions {
  bool training = false;  ///< normalise by the batch and update the running statistics
  double momentum = 0.1;  ///< the weight of the batch in the running statistics
  double eps = 1e-5;      ///< is added to the variance
};
/// Normalises each channel of x [N, C, ..]; weight, bias and the running statistics are [C].
///
/// In training, the mean and the variance are those of the channel in all of the batch. If running
/// statistics are defined, they become (1 - momentum) old + momentum new, where the new variance is
/// the unbiased one; an empty batch leaves them as they are. ShapeError for one element per
/// channel. Otherwise, the running statistics are the mean and the variance (ValueError if they are
/// undefined), and constants for gradients (GraphError if one requires a gradient). Ioffe & Szegedy
/// 2015, algorithms 1 and 2 (arXiv:1502.03167).
[[nodiscard]] Tensor batch_norm(const In& x, const In& running_mean, const In& running_var,
                                const In& weight = Tensor(), const In& bias = Tensor(),
                                const BatchNormOptions& options = {});

/// Normalises all that the last axes of x hold, whose sizes are `normalized_shape`, as weight's and
/// bias's are. ShapeError if x does not end with these axes, or if there are none. Ba et al. 2016,
/// section 3 (arXiv:1607.06450).
[[nodiscard]] Tensor layer_norm(const In& x, const Shape& normalized_shape,
                                const In& weight = Tensor(), const In& bias = Tensor(),
                                double eps = 1e-5);

/// Normalises `groups` groups of neighbouring channels of each image alone: x [N, C, ..]; weight
/// and bias are [C]. ShapeError if `groups` is below 1 or does not divide C. Wu & He 2018, section
/// 3 (arXiv:1803.08494).
[[nodiscard]] Tensor group_norm(const In& x, int64_t groups, const In& weight = Tensor(),
                                const In& bias = Tensor(), double eps = 1e-5);

/// The same with one group for each channel, for images of at least two pixels (ShapeError).
/// Ulyanov et al. 2016, section 2 (arXiv:1607.08022).
[[nodiscard]] Tensor instance_norm(const In& x, const In& weight = Tensor(),
                                   const In& bias = Tensor(), double eps = 1e-5);

/// As `layer_norm`, but the mean counts as 0, and there is no bias: x / sqrt(mean x^2 + eps)
/// weight. Without an eps, it is the distance from 1 to the next number of x's dtype, as in
/// PyTorch. Zhang & Sennrich 2019, section 4 (arXiv:1910.07467).
[[nodiscard]] Tensor rms_norm(const In& x, const Shape& normalized_shape,
                              const In& weight = Tensor(), std::optional<double> eps = {});

}  // namespace descent
