#pragma once
#include "descent/core/window.hpp"

namespace [[gnu::visibility("default")]] descent {

struct Conv2dOptions {
  Size2d stride = 1;    ///< of the kernel's steps over the image
  Size2d padding = 0;   ///< zeros around the image, on each side
  Size2d dilation = 1;  ///< from one tap of the kernel to the next
  int64_t groups = 1;   ///< of channels, each convolved on its own
};
/// y[n, o, i, j] = bias[o] + the sum over the channels c of o's group and the taps k, l of
///     weight[o, c, k, l] x[n, c, i stride - padding + k dilation, j stride - padding + l
///     dilation].
/// x [N, C, H, W] or [C, H, W], weight [O, C / groups, KH, KW], bias [O]; floating, of one dtype.
/// Returns [N, O, OH, OW] or [O, OH, OW] with OH = floor((H + 2 padding - dilation (KH - 1) - 1) /
/// stride) + 1. ShapeError if channels and groups do not fit or there is no place for the kernel;
/// ValueError for options out of range.
Tensor conv2d(const In& x, const In& weight, const In& bias, const Conv2dOptions& options = {});
Tensor conv2d(const In& x, const In& weight, const Conv2dOptions& options = {});

/// Whether float32 convolutions may go by Winograd's tiles, as they do at first. Thread-safe: what
/// starts later goes by it, backward passes too.
void set_winograd(bool on);
bool winograd();

}  // namespace descent
