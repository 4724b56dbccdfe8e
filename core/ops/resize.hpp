#pragma once
/// @file
/// Functions that make axes longer or shorter.

#include <vector>

#include "descent/core/base/number.hpp"
#include "descent/core/kernels/window.hpp"

namespace [[gnu::visibility("default")]] descent {

/// What `pad` puts around x: a number, x mirrored at its edge elements (which are not repeated),
/// its edge elements, or x again.
enum class PadMode { constant, reflect, replicate, circular };
/// Options of `pad`.
struct PadOptions {
  PadMode mode = PadMode::constant;  ///< what is put around x
  Number value = 0;                  ///< the number, for PadMode::constant
};
/// x with more elements around it. `sizes` are pairs, how many in front and how many behind, for
/// the last axis, then for the one before it, and so on, as in PyTorch; a negative size takes away
/// as many. Any dtype. ShapeError for more pairs than axes or an odd number of sizes, for more to
/// take away than there is, and if a mirrored axis is not longer than a size, a circular one
/// shorter than it, or there is no edge to repeat.
[[nodiscard]] Tensor pad(const In& x, const std::vector<int64_t>& sizes,
                         const PadOptions& options = {});

/// How `interpolate` finds a pixel: the nearest one on the upper left, or the weighted mean of the
/// four around it.
enum class InterpolateMode { nearest, bilinear };
/// Options of `interpolate`.
struct InterpolateOptions {
  Size2d size = {};  ///< of the result; if it is not given, `scale_factor` is
  double scale_factor =
      0;  ///< the result has floor(H scale_factor) by floor(W scale_factor) pixels
  InterpolateMode mode = InterpolateMode::nearest;  ///< how a pixel is found
  /// For the bilinear mode: whether the centres of the corner pixels stay where they are, instead
  /// of the outer edges of these pixels.
  bool align_corners = false;
};
/// Images x, [N, C, H, W] or [C, H, W], at another size. Pixel i of an axis is found at i s in the
/// nearest mode, rounded down, and in the bilinear mode at (i + 1/2) s - 1/2, at least 0, where s
/// is 1 / scale_factor, or the old size by the new one if `size` is given; with align_corners at i
/// (old
/// - 1) / (new - 1). Bilinear: floating dtypes; nearest: any. ShapeError for another rank, an image
/// without pixels or a result without; ValueError unless one of size and a finite scale_factor
/// above 0 is given.
[[nodiscard]] Tensor interpolate(const In& x, const InterpolateOptions& options);

}  // namespace descent
