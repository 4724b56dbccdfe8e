#pragma once
/// @file
/// Layers that normalise; core/ops/normalization.hpp says what they compute. A weight starts at 1
/// and a bias at 0, as in PyTorch.

#include "descent/core/ops/normalization.hpp"
#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// What layers that normalise share: a weight and a bias.
class Normalization : public Module {
 public:
  /// The parameters; undefined if the layer does not have them. Their shape is [C] or, of
  /// `LayerNorm` and `RMSNorm`, `normalized_shape`.
  const Tensor weight, bias;

 protected:
  /// A layer whose parameters have this shape. ShapeError for a negative size.
  Normalization(const Shape& shape, bool has_weight, bool has_bias, At at);
};

/// How a `BatchNorm1d` or `BatchNorm2d` is made.
struct BatchNormLayerOptions {
  double eps = 1e-5;  ///< is added to the variance
  /// The weight of a batch in the running statistics; without one, they are the mean of all
  /// batches.
  std::optional<double> momentum = 0.1;
  bool affine = true;               ///< whether the layer has a weight
  bool track_running_stats = true;  ///< whether it keeps running statistics for evaluation mode
  bool bias = true;                 ///< whether a layer with a weight has a bias too
};
/// What `BatchNorm1d` and `BatchNorm2d` share: see `batch_norm`. In evaluation mode, it normalises
/// by its running statistics, if it has them, and otherwise by the batch. They start as mean 0 and
/// variance 1.
class BatchNorm : public Normalization {
 public:
  /// ShapeError for another rank of x or number of channels, and errors of `batch_norm`.
  Tensor forward(const In& x) const override;
  const BatchNormLayerOptions options;  ///< the options that were given
  /// [C]; undefined if the layer does not track them.
  const Tensor running_mean, running_var;
  const Tensor num_batches_tracked;  ///< how many batches it was trained with, an int64

 protected:
  /// A layer for images or, if not, for x of rank 2 or 3.
  BatchNorm(bool for_images, int64_t features, const BatchNormLayerOptions& options, At at);

 private:
  Tensor track(const char* name, const Tensor& start);
  const bool for_images_;
};
/// Normalises each channel of x [N, C] or [N, C, T].
class BatchNorm1d : public BatchNorm {
 public:
  /// A layer for `features` channels. ShapeError if that is negative.
  explicit BatchNorm1d(int64_t features, const BatchNormLayerOptions& o = {}, At at = At::here())
      : BatchNorm(false, features, o, at) {}
};
/// Normalises each channel of x [N, C, H, W].
class BatchNorm2d : public BatchNorm {
 public:
  /// A layer for `features` channels. ShapeError if that is negative.
  explicit BatchNorm2d(int64_t features, const BatchNormLayerOptions& o = {}, At at = At::here())
      : BatchNorm(true, features, o, at) {}
};

/// How a `LayerNorm` is made.
struct LayerNormOptions {
  double eps = 1e-5;               ///< is added to the variance
  bool elementwise_affine = true;  ///< whether the layer has a weight
  bool bias = true;                ///< whether a layer with a weight has a bias too
};
/// Normalises the last axes of x, of the sizes `normalized_shape`: see `layer_norm`.
class LayerNorm : public Normalization {
 public:
  /// A layer for x of any shape that ends with `shape`: one size, 8, or several, {4, 8}.
  /// ShapeError for a negative size.
  explicit LayerNorm(const Dims& shape, const LayerNormOptions& o = {}, At at = At::here())
      : Normalization(shape, o.elementwise_affine, o.elementwise_affine && o.bias, at),
        normalized_shape(shape),
        options(o) {}
  /// Errors as for `layer_norm`.
  Tensor forward(const In& x) const override;
  const Shape normalized_shape;    ///< the sizes that were given
  const LayerNormOptions options;  ///< the options that were given
};

/// How an `RMSNorm` is made.
struct RMSNormOptions {
  std::optional<double> eps = {};  ///< is added to the mean square; see `rms_norm`
  bool elementwise_affine = true;  ///< whether the layer has a weight
};
/// Divides the last axes of x, of the sizes `normalized_shape`, by the root of their mean square:
/// see `rms_norm`.
class RMSNorm : public Normalization {
 public:
  /// A layer for x of any shape that ends with `shape`: one size, 8, or several, {4, 8}.
  /// ShapeError for a negative size.
  explicit RMSNorm(const Dims& shape, const RMSNormOptions& o = {}, At at = At::here())
      : Normalization(shape, o.elementwise_affine, false, at),
        normalized_shape(shape),
        options(o) {}
  /// Errors as for `rms_norm`.
  Tensor forward(const In& x) const override;
  const Shape normalized_shape;  ///< the sizes that were given
  const RMSNormOptions options;  ///< the options that were given
};

/// How a `GroupNorm` is made.
struct GroupNormOptions {
  double eps = 1e-5;   ///< is added to the variance
  bool affine = true;  ///< whether the layer has a weight
  bool bias = true;    ///< whether a layer with a weight has a bias too
};
/// Normalises groups of channels of each image: see `group_norm`.
class GroupNorm : public Normalization {
 public:
  /// A layer for x [N, C, ..] with C = channels. ValueError unless `groups` is at least 1 and
  /// divides `channels`.
  GroupNorm(int64_t groups, int64_t channels, const GroupNormOptions& options = {},
            At at = At::here());
  /// Errors as for `group_norm`.
  Tensor forward(const In& x) const override;
  const int64_t groups;            ///< how many groups the channels are divided into
  const GroupNormOptions options;  ///< the options that were given
};

/// How an `InstanceNorm2d` is made.
struct InstanceNormOptions {
  double eps = 1e-5;    ///< is added to the variance
  bool affine = false;  ///< whether the layer has a weight
  bool bias = true;     ///< whether a layer with a weight has a bias too
};
/// Normalises each channel of each image, in both modes: see `instance_norm`. It keeps no running
/// statistics.
class InstanceNorm2d : public Normalization {
 public:
  /// A layer for `features` channels. ShapeError if that is negative.
  explicit InstanceNorm2d(int64_t features, const InstanceNormOptions& o = {}, At at = At::here())
      : Normalization({features}, o.affine, o.affine && o.bias, at), options(o) {}
  /// x is [N, C, H, W] or [C, H, W] (ShapeError); errors as for `instance_norm`.
  Tensor forward(const In& x) const override;
  const InstanceNormOptions options;  ///< the options that were given
};

}}  // namespace descent::nn
