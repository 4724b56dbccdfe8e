#pragma once
/// @file
/// Layers that make images smaller or larger.

#include "descent/core/ops/pooling.hpp"
#include "descent/core/ops/resize.hpp"
#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// A function of the windows of images or sequences, as a module.
template <class Size, class Options, Tensor (*f)(const In&, Size, const Options&)>
class Pooling : public Module {
 public:
  /// Keeps the kernel and the options; `forward` checks them.
  explicit Pooling(Size kernel_, const Options& options_ = {})
      : kernel(kernel_), options(options_) {}
  /// f(x, kernel, options).
  Tensor forward(const In& x) const override { return f(x, kernel, options); }
  const Size kernel;      ///< the size of the window
  const Options options;  ///< the options that were given
};
/// The largest pixel in each window (`MaxPool2d`), the mean of its pixels (`AvgPool2d`), and the
/// same for sequences: see `max_pool2d`, `avg_pool2d`, `max_pool1d` and `avg_pool1d`.
class MaxPool2d : public Pooling<Size2d, MaxPool2dOptions, max_pool2d> {
  using Pooling::Pooling;
};
class AvgPool2d : public Pooling<Size2d, AvgPool2dOptions, avg_pool2d> {
  using Pooling::Pooling;
};
class MaxPool1d : public Pooling<int64_t, MaxPool2dOptions, max_pool1d> {
  using Pooling::Pooling;
};
class AvgPool1d : public Pooling<int64_t, AvgPool2dOptions, avg_pool1d> {
  using Pooling::Pooling;
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
