#pragma once
/// @file
/// Convolution of images.

#include "descent/core/ops/resize.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Options of `conv2d`.
struct Conv2dOptions {
  Size2d stride = 1;    ///< how far the kernel moves at each step
  Size2d padding = 0;   ///< how many zeros are added on each side of the image
  Size2d dilation = 1;  ///< how far one tap of the kernel is from the next
  int64_t groups = 1;   ///< into how many groups the channels are divided; each is convolved alone
  bool bias = true;     ///< whether a layer has a bias; the function takes the one it is given
  PadMode padding_mode = PadMode::constant;  ///< what is added on each side: see `pad`
};
/// y[n, o, i, j] = bias[o] + the sum over the channels c of o's group and the taps k, l of
///     weight[o, c, k, l] x[n, c, i s - p + k d, j s - p + l d]
/// with s = stride, p = padding and d = dilation.
/// x [N, C, H, W] or [C, H, W], weight [O, C / groups, KH, KW], bias [O], which may be undefined;
/// floating, of one dtype.
/// Returns [N, O, OH, OW] or [O, OH, OW] with OH = floor((H + 2 padding - dilation (KH - 1) - 1) /
/// stride) + 1, and OW likewise. A row or column of taps that is outside the image at all places is
/// left out, and so adds 0 even if its weights are not finite. ShapeError if channels and groups do
/// not fit or the image has no place for the kernel; ValueError for options out of range.
///
/// In float32, a convolution by 3x3 kernels with stride and dilation 1 on enough channels is
/// computed in Winograd's tiles of 4 x 4 places (see `set_winograd`). All places of a tile share
/// one rounding error. With eps = 2^-23, it is below 256 eps times the sum over c of the largest
/// |x| in the tile's 6 x 6 pixels times the largest |weight| for c. In the gradient of a weight, it
/// is below 256 eps times the sum over all tiles of the largest |x| times the largest |gradient|.
/// At most 133 eps have been measured, for numbers of many distributions.
///
/// There is no such bound relative to the root mean square of the result: the error is some 300 eps
/// of that for normal numbers, and some 3,000 eps of it for lognormal ones. Images and weights
/// without negative numbers may give results just below 0.
///
/// A number that is huge or not finite changes only the results that depend on it, because these
/// are computed again as a plain sum: the places of a tile in which a result is not finite; the
/// places whose results, of all channels, are below 2^-7 of the largest in their tile; and the
/// gradient of the weights if the largest values at two of its taps, of all pairs of channels, are
/// that far apart. If a weight is huge beside the others or not finite, or if one tap is 0 in all
/// channels or nearly so, the whole result is a plain sum.
[[nodiscard]] Tensor conv2d(const In& x, const In& weight, const In& bias,
                            const Conv2dOptions& options = {});
[[nodiscard]] Tensor conv2d(const In& x, const In& weight, const Conv2dOptions& options = {});

/// `conv2d` along one axis: x [N, C, L] or [C, L], weight [O, C / groups, K], bias [O], which may
/// be undefined. It is the convolution of images of one row: of a Size2d among the options, w
/// counts, and errors give the shapes of such images.
[[nodiscard]] Tensor conv1d(const In& x, const In& weight, const In& bias = Tensor(),
                            const Conv2dOptions& options = {});

/// Options of `conv_transpose2d`.
struct ConvTranspose2dOptions {
  Size2d stride = 1;          ///< how far apart the kernels of neighbouring pixels begin
  Size2d padding = 0;         ///< how many pixels the result loses on each side
  Size2d output_padding = 0;  ///< how many more pixels it has below and on the right
  Size2d dilation = 1;        ///< how far one tap of the kernel is from the next
  int64_t groups = 1;         ///< into how many groups the channels are divided
  bool bias = true;           ///< whether a layer has a bias
};
/// The gradient of conv2d with respect to its images, as a function of that of its result: each
/// pixel of x adds its multiple of the kernel to the result, `stride` further on than the pixel
/// before it. x [N, C, H, W] or [C, H, W], weight [C, O / groups, KH, KW], bias [O], which may be
/// undefined. Returns [N, O, OH, OW] or [O, OH, OW] with OH = (H - 1) stride - 2 padding + dilation
/// (KH - 1) + output_padding + 1, and OW likewise. ShapeError if channels and groups do not fit or
/// nothing is left; ValueError for options out of range, such as an output_padding that is not
/// below the stride (PyTorch also takes one below the dilation). Zeiler et al. 2010, section 3
/// (Deconvolutional Networks).
[[nodiscard]] Tensor conv_transpose2d(const In& x, const In& weight, const In& bias = Tensor(),
                                      const ConvTranspose2dOptions& options = {});

/// `conv_transpose2d` along one axis, as `conv1d`: x [N, C, L] or [C, L], weight [C, O / groups,
/// K], bias [O], which may be undefined.
[[nodiscard]] Tensor conv_transpose1d(const In& x, const In& weight, const In& bias = Tensor(),
                                      const ConvTranspose2dOptions& options = {});

/// Sets whether float32 convolutions may use Winograd's tiles, which is the default. The plain sum
/// rounds less. Thread-safe: it holds for all convolutions that start later, backward passes too.
void set_winograd(bool on);
/// Whether float32 convolutions may use Winograd's tiles.
[[nodiscard]] bool winograd();

}  // namespace descent
