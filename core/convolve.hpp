#pragma once
#include "descent/core/im2col.hpp"

// The three products of a convolution, on raw elements. They are the derivatives of one form that
// is linear in each of g, x and weight,
//     sum over images, channels, places and taps of  g[place] x[place + tap] weight[tap],
// so that the derivatives of each are the other two.

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// What is convolved: x [images, groups in, height, width] with weight [groups out, in, taps] to
/// y [images, groups out, rows, columns]. At least one image.
struct Conv {
  int64_t images, groups, in, out;  // channels: those of one group
  Windows windows;
  int64_t depth() const { return in * windows.taps(); }
};

/// y = x * weight + bias; `bias` [groups out] may be null.
template <class T> void convolve(const Conv& c, const T* x, const T* weight, const T* bias, T* y);
/// What a gradient g of y is for x.
template <class T> void convolve_input(const Conv& c, const T* g, const T* weight, T* dx);
/// And for the weight.
template <class T> void convolve_weight(const Conv& c, const T* x, const T* g, T* dweight);

}}  // namespace descent::detail
