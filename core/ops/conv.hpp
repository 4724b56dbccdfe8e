#pragma once
/// @file
/// Convolution of images.

#include "descent/core/kernels/window.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Where the kernel of `conv2d` goes.
struct Conv2dOptions {
  Size2d stride = 1;    ///< of the kernel's steps over the image
  Size2d padding = 0;   ///< zeros around the image, on each side
  Size2d dilation = 1;  ///< from one tap of the kernel to the next
  int64_t groups = 1;   ///< of channels, each convolved on its own
  bool bias = true;     ///< whether a layer has one; the function has the one that it is given
};
/// y[n, o, i, j] = bias[o] + the sum over the channels c of o's group and the taps k, l of
///     weight[o, c, k, l] x[n, c, i stride - padding + k dilation, j stride - padding + l
///     dilation].
/// x [N, C, H, W] or [C, H, W], weight [O, C / groups, KH, KW], bias [O]; floating, of one dtype.
/// Returns [N, O, OH, OW] or [O, OH, OW] with OH = floor((H + 2 padding - dilation (KH - 1) - 1) /
/// stride) + 1. ShapeError if channels and groups do not fit or there is no place for the kernel;
/// ValueError for options out of range.
///
/// In float32, 3x3 kernels with stride and dilation 1 on enough channels go by Winograd's tiles of
/// 4 x 4 places (see `set_winograd`), all of which share their rounding. It is below 256 eps, of
/// 2^-23, of the sum over c of the largest |x| in the tile's 6 x 6 pixels times the largest
/// |weight| for c, in a weight's gradient of the sum over all tiles of the largest |x| times the
/// largest |gradient|: measured at most 133 for numbers of many distributions. There is no such
/// bound in the result's root mean square, of which it is some 300 eps for normal numbers and 3,000
/// for lognormal ones; images and weights without negative numbers may give results just below 0.
/// What is not finite or huge changes only what sees it: the places of a tile of which one is not
/// finite, and those that are below 2^-7 of the largest of their tile, of all channels, are
/// computed again as a plain sum, and so is a weight's gradient whose taps, of all pairs of
/// channels, are that far apart; kernels with an empty tap are always.
[[nodiscard]] Tensor conv2d(const In& x, const In& weight, const In& bias,
                            const Conv2dOptions& options = {});
[[nodiscard]] Tensor conv2d(const In& x, const In& weight, const Conv2dOptions& options = {});

/// Whether float32 convolutions may go by Winograd's tiles, as they do at first, or by the plain
/// sum, which rounds less. Thread-safe: what starts later goes by it, backward passes too.
void set_winograd(bool on);
[[nodiscard]] bool winograd();

}  // namespace descent
