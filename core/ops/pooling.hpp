#pragma once
/// @file
/// Pooling: a window moves over each channel of the images x, [N, C, H, W] or [C, H, W], and what
/// it sees becomes one pixel, its largest or its mean. float32 and float64.
///
/// Errors, besides those of count_places: ValueError for padding above half the kernel.

#include "descent/core/kernels/window.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Where the window of `max_pool2d` goes.
struct MaxPool2dOptions {
  Size2d stride = {};      ///< by default the kernel
  Size2d padding = 0;      ///< pixels around x that never win
  Size2d dilation = 1;     ///< from one pixel of the kernel to the next; at most x's size if
                           ///< there is padding, or a window could see nothing (ValueError)
  bool ceil_mode = false;  ///< whether the last window may leave the padded image
};
/// The largest pixel in each window; NaN if there is one. Of equal pixels the first has the
/// gradient, of several NaN the last, as in PyTorch.
[[nodiscard]] Tensor max_pool2d(const In& x, Size2d kernel, const MaxPool2dOptions& options = {});

/// Where the window of `avg_pool2d` goes.
struct AvgPool2dOptions {
  Size2d stride = {};             ///< by default the kernel
  Size2d padding = 0;             ///< zeros around x
  bool ceil_mode = false;         ///< whether the last window may leave the padded image
  bool count_include_pad = true;  ///< whether padding counts in the mean
};
/// The mean of the pixels in each window.
[[nodiscard]] Tensor avg_pool2d(const In& x, Size2d kernel, const AvgPool2dOptions& options = {});

}  // namespace descent
