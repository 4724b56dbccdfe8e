#pragma once
#include <atomic>

#include "descent/core/kernels/conv/im2col.hpp"

// The three products of a convolution, on raw elements. They are the derivatives of one form that
// is linear in each of g, x and weight,
//     sum over images, channels, places and taps of  g[place] x[place + tap] weight[tap],
// so that the derivatives of each product are the other two products.

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// The sizes of a convolution of x [images, groups in, height, width] with weight [groups out, in,
/// taps] to y [images, groups out, rows, columns]. There is at least one image.
struct Conv {
  int64_t images, groups, in, out;  // in, out: channels of one group
  Geometry geometry;
  int64_t depth() const { return in * geometry.taps(); }

  /// With stride 1, the gradient of x is itself a convolution: of g, the gradient of y, with the
  /// weight, whose taps are in reverse order (turned). There is no such adjoint if its padding
  /// would be negative.
  bool has_adjoint() const {
    const Size2d padding = adjoint().geometry.padding;
    return geometry.stride == Size2d(1) && padding.h >= 0 && padding.w >= 0;
  }
  Conv adjoint() const {
    const Geometry& w = geometry;
    const Size2d padding(w.dilation.h * (w.kernel.h - 1) - w.padding.h,
                         w.dilation.w * (w.kernel.w - 1) - w.padding.w);
    const Geometry back{w.rows, w.columns, w.kernel, 1, padding, w.dilation, w.height, w.width};
    return {images, groups, out, in, back};
  }
};

/// Whether Winograd's tiles may be used.
extern std::atomic<bool> winograd_on;

/// y = x * weight + bias; `bias` [groups out] may be null.
template <class T> void convolve(const Conv& c, const T* x, const T* weight, const T* bias, T* y);
/// dx = the gradient of x, from the gradient g of y.
template <class T> void convolve_input(const Conv& c, const T* g, const T* weight, T* dx);
/// dweight = the gradient of the weight, from the gradient g of y.
template <class T> void convolve_weight(const Conv& c, const T* x, const T* g, T* dweight);

}}  // namespace descent::detail
