#pragma once
#include <algorithm>

#include "descent/core/simd.hpp"
#include "descent/core/window.hpp"

// Windows that move over images: what convolutions and their derivatives gather and scatter.

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// A kernel's places on a plane of `height` x `width` cells: `rows` down and `columns` across.
struct Windows {
  int64_t height, width;
  Size2d kernel, stride, padding, dilation;
  int64_t rows, columns;

  int64_t taps() const { return kernel.h * kernel.w; }
  int64_t places() const { return rows * columns; }
  /// Some windows reach into the padding, or beyond it.
  bool hangs_over() const {
    auto over = [](int64_t n, int64_t step, int64_t pad, int64_t span, int64_t size) {
      return pad > 0 || (n - 1) * step + span > size;
    };
    return over(rows, stride.h, padding.h, dilation.h * (kernel.h - 1) + 1, height) ||
           over(columns, stride.w, padding.w, dilation.w * (kernel.w - 1) + 1, width);
  }
  /// Each window is one cell, and each cell a window.
  bool trivial() const {
    return taps() == 1 && rows == height && columns == width && !hangs_over();
  }
};
/// The windows that are the cells themselves.
inline Windows cells(int64_t height, int64_t width) {
  return {height, width, 1, 1, 0, 1, height, width};
}

/// f(tap, place, cell, n) for each run of n windows side by side, in the rows from `first` to
/// `last`: under `tap`, the window at `place` (counted from row `first`) has the plane's cell
/// `cell`, the next one the cell stride.w further on. What lies in the padding is left out.
template <class F> void for_each_overlap(const Windows& w, int64_t first, int64_t last, F f) {
  for (int64_t y = 0; y < w.kernel.h; ++y)
    for (int64_t x = 0; x < w.kernel.w; ++x) {
      const int64_t left = x * w.dilation.w - w.padding.w;  // the first window's column
      const int64_t begin = left >= 0 ? 0 : (w.stride.w - 1 - left) / w.stride.w;
      const int64_t end =
          left >= w.width ? 0 : std::min(w.columns, (w.width - 1 - left) / w.stride.w + 1);
      if (begin >= end) continue;
      for (int64_t row = first; row < last; ++row) {
        const int64_t at = row * w.stride.h - w.padding.h + y * w.dilation.h;
        if (at >= 0 && at < w.height)
          f(y * w.kernel.w + x, (row - first) * w.columns + begin,
            at * w.width + left + begin * w.stride.w, end - begin);
      }
    }
}

/// to[tap step + place] = the plane's cell there; places in the padding are left as they are.
template <class T>
void im2col(const Windows& w, int64_t first, int64_t last, const T* plane, T* to, int64_t step) {
  for_each_overlap(w, first, last, [=, &w](int64_t tap, int64_t place, int64_t cell, int64_t n) {
    T* const out = to + tap * step + place;
    const T* const in = plane + cell;
    if (w.stride.w == 1) std::copy_n(in, n, out);
    else
      for (int64_t i = 0; i < n; ++i) out[i] = in[i * w.stride.w];
  });
}

/// Its adjoint: plane's cell += from[tap step + place], for each window that has it.
template <class T>
void col2im(const Windows& w, int64_t first, int64_t last, const T* from, int64_t step, T* plane) {
  for_each_overlap(w, first, last, [=, &w](int64_t tap, int64_t place, int64_t cell, int64_t n) {
    const T* const in = from + tap * step + place;
    T* const out = plane + cell;
    if (w.stride.w == 1) simd::for_each([](T& a, const T& b) { a += b; }, n, out, in);
    else
      for (int64_t i = 0; i < n; ++i) out[i * w.stride.w] += in[i];
  });
}

/// Channels of images, one plane of `cells` elements behind the other.
template <class T> struct Planes {
  T* data;
  int64_t channels, cells;
  T* at(int64_t image, int64_t channel) const {
    return data + (image * channels + channel) * cells;
  }
};

/// Some images, or some rows of the windows on one.
struct Piece {
  int64_t image, images, first, last;
  int64_t places(const Windows& w) const { return images * (last - first) * w.columns; }
};

/// im2col and col2im of one channel of a piece's images, side by side.
template <class T>
void gather(const Windows& w, const Piece& b, Planes<const T> x, int64_t channel, T* to,
            int64_t step) {
  const int64_t places = b.places(w) / b.images;
  for (int64_t i = 0; i < b.images; ++i)
    im2col(w, b.first, b.last, x.at(b.image + i, channel), to + i * places, step);
}
template <class T>
void scatter(const Windows& w, const Piece& b, const T* from, int64_t step, Planes<T> x,
             int64_t channel) {
  const int64_t places = b.places(w) / b.images;
  for (int64_t i = 0; i < b.images; ++i)
    col2im(w, b.first, b.last, from + i * places, step, x.at(b.image + i, channel));
}

/// Some of n channels.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

/// Elements that only the work at hand needs.
template <class T> struct Scratch {
  explicit Scratch(int64_t n) : tensor(empty("conv2d", {n}, dtype_of<T>(), At::unknown())) {}
  T* data() const { return reinterpret_cast<T*>(Peek::header(tensor)->data); }
  Tensor tensor;
};

}}  // namespace descent::detail
