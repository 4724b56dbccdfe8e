#pragma once
/// @file
/// Pooling: a window moves over each channel of the images x, [N, C, H, W] or [C, H, W], and the
/// pixels that it covers become one pixel: the largest of them, or their mean. float32 and float64.
///
/// The result has floor((in + 2 padding - dilation (kernel - 1) - 1) / stride) + 1 pixels along an
/// axis of `in` pixels; `ceil_mode` rounds up instead, but leaves out a window that would begin
/// behind the image. ShapeError if x has another rank or no pixels, or
/// if the window fits nowhere; ValueError for options out of range, such as padding above half the
/// kernel; SizeError if the window or the padded image is larger than sizes can be.

#include "descent/core/kernels/window.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Options of `max_pool2d`.
struct MaxPool2dOptions {
  Size2d stride = {};      ///< by default the size of the kernel
  Size2d padding = 0;      ///< pixels around x that are never the largest
  Size2d dilation = 1;     ///< how far one pixel of the kernel is from the next; if there is
                           ///< padding, at most x's size (ValueError), because a window of
                           ///< padding alone has no largest pixel
  bool ceil_mode = false;  ///< whether the last window may leave the padded image
};
/// The largest pixel in each window; NaN if there is a NaN. Of several equal pixels the first gets
/// the gradient, of several NaN the last, as in PyTorch.
[[nodiscard]] Tensor max_pool2d(const In& x, Size2d kernel, const MaxPool2dOptions& options = {});

/// Options of `avg_pool2d`.
struct AvgPool2dOptions {
  Size2d stride = {};             ///< by default the size of the kernel
  Size2d padding = 0;             ///< zeros around x
  bool ceil_mode = false;         ///< whether the last window may leave the padded image
  bool count_include_pad = true;  ///< whether padding counts in the mean
};
/// The mean of the pixels in each window.
[[nodiscard]] Tensor avg_pool2d(const In& x, Size2d kernel, const AvgPool2dOptions& options = {});

/// Pooling along one axis, x [N, C, L] or [C, L]: that of images of one row. Of a Size2d among the
/// options, w counts, and errors give the shapes of such images.
[[nodiscard]] Tensor max_pool1d(const In& x, int64_t kernel, const MaxPool2dOptions& options = {});
[[nodiscard]] Tensor avg_pool1d(const In& x, int64_t kernel, const AvgPool2dOptions& options = {});

/// The means of windows that cover x so that there are `size` of them: window i has the pixels from
/// floor(i H / OH) up to, but not including, ceil((i + 1) H / OH), and likewise across. ShapeError
/// if the size has a number below 1, and for x as `avg_pool2d`.
[[nodiscard]] Tensor adaptive_avg_pool2d(const In& x, Size2d size);
/// The same along one axis: x [N, C, L] or [C, L] becomes [N, C, size] or [C, size].
[[nodiscard]] Tensor adaptive_avg_pool1d(const In& x, int64_t size);

}  // namespace descent
