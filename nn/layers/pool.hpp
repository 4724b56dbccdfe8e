#pragma once
/// @file
/// Layers that make images smaller or larger.

#include "descent/core/ops/pooling.hpp"
#include "descent/core/ops/resize.hpp"
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

/// The largest element in each window of a sequence; see `max_pool1d`.
class MaxPool1d : public Module {
 public:
  /// Keeps the kernel and the options; `forward` checks them.
  explicit MaxPool1d(int64_t kernel_, const MaxPool2dOptions& options_ = {})
      : kernel(kernel_), options(options_) {}
  /// x [N, C, L] or [C, L] becomes [N, C, OL] or [C, OL]. Errors as for `max_pool1d`.
  Tensor forward(const In& x) const override;
  const int64_t kernel;            ///< the size of the window
  const MaxPool2dOptions options;  ///< the options that were given
};

/// The mean of the elements in each window of a sequence; see `avg_pool1d`.
class AvgPool1d : public Module {
 public:
  /// Keeps the kernel and the options; `forward` checks them.
  explicit AvgPool1d(int64_t kernel_, const AvgPool2dOptions& options_ = {})
      : kernel(kernel_), options(options_) {}
  /// x [N, C, L] or [C, L] becomes [N, C, OL] or [C, OL]. Errors as for `avg_pool1d`.
  Tensor forward(const In& x) const override;
  const int64_t kernel;            ///< the size of the window
  const AvgPool2dOptions options;  ///< the options that were given
};

/// Means of windows that cover the image; see `adaptive_avg_pool2d`.
class AdaptiveAvgPool2d : public Module {
 public:
  /// Keeps the size of the result; `forward` checks it.
  explicit AdaptiveAvgPool2d(Size2d size_) : size(size_) {}
  /// x [N, C, H, W] or [C, H, W] gets this size. Errors as for `adaptive_avg_pool2d`.
  Tensor forward(const In& x) const override;
  const Size2d size;  ///< of the result
};

/// The same for sequences; see `adaptive_avg_pool1d`.
class AdaptiveAvgPool1d : public Module {
 public:
  /// Keeps the size of the result; `forward` checks it.
  explicit AdaptiveAvgPool1d(int64_t size_) : size(size_) {}
  /// x [N, C, L] or [C, L] gets this size. Errors as for `adaptive_avg_pool1d`.
  Tensor forward(const In& x) const override;
  const int64_t size;  ///< of the result
};

/// Images at another size; see `interpolate`.
class Upsample : public Module {
 public:
  /// Keeps the options; `forward` checks them.
  explicit Upsample(const InterpolateOptions& options_) : options(options_) {}
  /// x [N, C, H, W] or [C, H, W]. Errors as for `interpolate`.
  Tensor forward(const In& x) const override;
  const InterpolateOptions options;  ///< the options that were given
};

}}  // namespace descent::nn
