#pragma once
#include "descent/core/kernels/window.hpp"

// Pooling on raw elements: a window moves over each plane of an image, and its largest pixel or its
// mean is the result, or goes back to the pixels.

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// A window, the planes [h, w] of x that it moves over, and its places on each.
struct Pool {
  /// Errors are those of count_places; ValueError for padding above half the kernel, and for
  /// dilation that steps over the image; SizeError for a window that spans 2^31 pixels or more.
  Pool(const char* op, const In& x, const Window& window_);

  /// Whether the window is 2 by 2 pixels and its places lie side by side, all in the image.
  bool square() const {
    const auto& [kernel, stride, padding, dilation, ceil_mode] = window;
    return kernel == 2 && stride == 2 && padding == 0 && dilation == 1 && 2 * out.h <= h &&
           2 * out.w <= w;
  }

  Window window;
  Size2d out;
  Shape input, shape;  // x's and the result's
  int64_t h, w, planes;
};

/// What is computed of images x, of p.input, and of what has the shape of the result, p.shape.
template <class T> struct Pooling {
  /// y = the largest pixel in each window of x.
  static void max(const Pool& p, const T* x, T* y);
  /// y = the pixels of `from`, of x's shape, where x is largest.
  static void pick(const Pool& p, const T* x, const T* from, T* y);
  /// dx = g, of y's shape, added to zeros where x is largest.
  static void route(const Pool& p, const T* x, const T* g, T* dx);
  /// y = the mean of each window of x. Where a window leaves the image, `pad_counts` says whether
  /// the padding counts as pixels.
  static void average(const Pool& p, bool pad_counts, const T* x, T* y);
  /// dx = g, of y's shape, shared among the pixels that each window sees.
  static void spread(const Pool& p, bool pad_counts, const T* g, T* dx);
};

}}  // namespace descent::detail
