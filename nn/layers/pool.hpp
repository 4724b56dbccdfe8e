#pragma once
/// @file
/// Layers that pool.

#include "descent/core/ops/pooling.hpp"
#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// The largest pixel in each window; see `max_pool2d`.
class MaxPool2d : public Module {
 public:
  /// Keeps the kernel and the options; `forward` checks them.
  explicit MaxPool2d(Size2d kernel_, const MaxPool2dOptions& options_ = {})
      : kernel(kernel_), options(options_) {}
  /// x [N, C, H, W] or [C, H, W] becomes [N, C, OH, OW] or [C, OH, OW]. Errors as for `max_pool2d`.
  Tensor forward(const In& x) const override;
  const Size2d kernel;             ///< the size of the window
  const MaxPool2dOptions options;  ///< the options that were given
};

/// The mean of the pixels in each window; see `avg_pool2d`.
class AvgPool2d : public Module {
 public:
  /// Keeps the kernel and the options; `forward` checks them.
  explicit AvgPool2d(Size2d kernel_, const AvgPool2dOptions& options_ = {})
      : kernel(kernel_), options(options_) {}
  /// x [N, C, H, W] or [C, H, W] becomes [N, C, OH, OW] or [C, OH, OW]. Errors as for `avg_pool2d`.
  Tensor forward(const In& x) const override;
  const Size2d kernel;             ///< the size of the window
  const AvgPool2dOptions options;  ///< the options that were given
};

}}  // namespace descent::nn
