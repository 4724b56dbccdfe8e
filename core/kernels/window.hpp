#pragma once
/// @file
/// What convolution and pooling share: a window that moves over the height and width of images.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// A size along height and width: `3` is 3 along both, `{3, 5}` is 3 high and 5 wide.
struct Size2d {
  /// Not given.
  Size2d() = default;
  /// The same along both, or each by itself.
  Size2d(int64_t both) : h(both), w(both) {}
  Size2d(int64_t h_, int64_t w_) : h(h_), w(w_) {}
  /// Whether somebody has chosen it.
  [[nodiscard]] bool has_value() const { return *this != Size2d(); }
  bool operator==(const Size2d&) const = default;

  /// Height and width.
  int64_t h = INT64_MIN, w = INT64_MIN;
};
/// "[3, 5]".
[[nodiscard]] std::string str(Size2d size);

namespace detail {

/// `kernel` pixels, `dilation` apart, that move in steps of `stride` over an image with `padding`
/// more pixels on each side.
struct Window {
  Size2d kernel, stride = 1, padding = 0, dilation = 1;
  bool ceil_mode = false;  ///< also a last step that leaves the image, if it starts inside
};

/// How many places the window has on the images x, [N, C, H, W] or [C, H, W]:
///     floor((in + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
/// Brings down what no place depends on, or products of it would not fit: the stride of a single
/// place to the padded size at most, the dilation of a single tap to 1.
/// ShapeError for an x of another rank, for images without pixels, and where there is no place;
/// ValueError for a kernel, stride or dilation below 1, or padding below 0; SizeError for others
/// whose window or padded image is larger than sizes can be.
Size2d count_places(const char* op, const In& x, Window& window);

}
}  // namespace descent::detail
