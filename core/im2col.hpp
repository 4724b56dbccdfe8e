#pragma once
#include <algorithm>
#include <cstring>

#include "descent/core/elementwise.hpp"
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

/// Some of n channels.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

/// Elements that only the work at hand needs.
template <class T> struct Scratch {
  explicit Scratch(int64_t n)
      : size(n), tensor(empty("conv2d", {n}, dtype_of<T>(), At::unknown())) {}
  T* data() const { return elements_of<T>(tensor); }
  int64_t size;
  Tensor tensor;
};

/// Sixteen elements as the compilers' own vectors, which they keep in registers.
template <class T> struct SixteenOf {
  typedef T Vector __attribute__((vector_size(16 * sizeof(T))));
};
template <class T> using Sixteen = typename SixteenOf<T>::Vector;
/// Not returned: by value they would be passed otherwise where the CPU has no such registers.
template <class T> [[gnu::always_inline]] inline void load(Sixteen<T>& to, const T* from) {
  std::memcpy(&to, from, sizeof to);
}

// ---- rows of windows

/// to[i] = from[i] for i in [0, n): rows are too short to call a function for each.
template <class T> inline void copy_exactly(const T* from, int64_t n, T* to) {
  constexpr int lanes = 8;
  for (; n >= lanes; n -= lanes, from += lanes, to += lanes)
    std::memcpy(to, from, lanes * sizeof(T));
  for (; n > 0; --n) *to++ = *from++;
}
/// The same in whole vectors, where the source allows: what they write beyond is to be
/// written later.
template <class T> inline void copy_row(const T* from, int64_t n, const T* end, T* to) {
  constexpr int lanes = 16;
  if (end - from < n + lanes) return copy_exactly(from, n, to);
  for (int64_t i = 0; i < n; i += lanes) std::memcpy(to + i, from + i, lanes * sizeof(T));
}
/// to[i] += from[i].
template <class T> inline void add_row(const T* from, int64_t n, T* to) {
  constexpr int lanes = 8;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    T sum[lanes], other[lanes];
    std::memcpy(sum, to + i, sizeof sum);
    std::memcpy(other, from + i, sizeof other);
    for (int j = 0; j < lanes; ++j) sum[j] += other[j];
    std::memcpy(to + i, sum, sizeof sum);
  }
  for (; i < n; ++i) to[i] += from[i];
}

/// The planes of a piece's images for windows that move in steps: columns a step apart lie side by
/// side, [image][column % step][row][column / step]. For steps of 1, the planes themselves.
template <class T> class Lanes {
 public:
  using Element = std::remove_const_t<T>;
  Lanes(const Windows& w, const Piece& b, Planes<T> x, int64_t channel)
      : w_(w),
        b_(b),
        x_(x),
        channel_(channel),
        width_(ceil_div(w.width, w.stride.w)),
        own_(w.stride.w == 1 ? 0 : b.images * size()) {
    if (w.stride.w == 1) return;
    if constexpr (!std::is_const_v<T>) std::fill_n(own_.data(), b.images * size(), T(0));
    else each([](const T& cell, Element& own) { own = cell; });
  }
  /// Adds what has been collected to the planes.
  void merge() {
    if (w_.stride.w > 1) each([](T& cell, Element& own) { cell += own; });
  }
  /// From a plane's first cell to the first of a column, and from row to row.
  int64_t offset(int64_t column) const {
    const int64_t s = w_.stride.w;
    return s == 1 ? column : column % s * w_.height * width_ + column / s;
  }
  int64_t pitch() const { return width_; }
  T* begin(int64_t image) const {
    if (w_.stride.w == 1) return x_.at(b_.image + image, channel_);
    return own_.data() + image * size();
  }
  T* end(int64_t image) const { return begin(image) + (w_.stride.w == 1 ? x_.cells : size()); }

 private:
  int64_t size() const { return w_.stride.w * w_.height * width_; }
  template <class F> void each(F f) {
    for (int64_t image = 0; image < b_.images; ++image)
      for (int64_t row = 0; row < w_.height; ++row) {
        T* const cells = x_.at(b_.image + image, channel_) + row * w_.width;
        for (int64_t phase = 0; phase < std::min(w_.stride.w, w_.width); ++phase) {
          Element* const own = own_.data() + image * size() + (phase * w_.height + row) * width_;
          for (int64_t i = phase, to = 0; i < w_.width; i += w_.stride.w) f(cells[i], own[to++]);
        }
      }
  }
  const Windows& w_;
  const Piece& b_;
  const Planes<T> x_;
  const int64_t channel_, width_;
  const Scratch<Element> own_;
};

/// f(place, cells, n, end) for the windows of a piece under one tap, row by row: n of them from
/// `place` on have `cells` one by one, which lie before `end`; and outside(place, n) for those
/// whose tap is in the padding. In ascending order of places.
template <class T, class F, class G>
void for_each_row(const Windows& w, const Piece& b, const Lanes<T>& lanes, int64_t tap, F f,
                  G outside) {
  const int64_t top = tap / w.kernel.w * w.dilation.h - w.padding.h;
  const int64_t left = tap % w.kernel.w * w.dilation.w - w.padding.w;
  const int64_t begin = std::min(w.columns, ceil_div(std::max<int64_t>(-left, 0), w.stride.w));
  const int64_t end =
      left >= w.width ? begin : std::clamp((w.width - 1 - left) / w.stride.w + 1, begin, w.columns);
  const int64_t offset = lanes.offset(left + begin * w.stride.w);
  int64_t place = 0;
  for (int64_t image = 0; image < b.images; ++image) {
    T* const cells = lanes.begin(image) + offset;
    for (int64_t i = b.first; i < b.last; ++i, place += w.columns) {
      const int64_t row = top + i * w.stride.h;
      if (row < 0 || row >= w.height || begin == end) {
        outside(place, w.columns);
      } else {
        if (begin > 0) outside(place, begin);
        f(place + begin, cells + row * lanes.pitch(), end - begin, lanes.end(image));
        if (end < w.columns) outside(place + end, w.columns - end);
      }
    }
  }
}

/// to[tap step + place] = the cell there, 0 in the padding, for one channel of a piece's images.
/// There must be room for 16 more elements.
template <class T>
void im2col(const Windows& w, const Piece& b, Planes<const T> x, int64_t channel, T* to,
            int64_t step) {
  const Lanes<const T> lanes(w, b, x, channel);
  for (int64_t tap = 0; tap < w.taps(); ++tap, to += step)
    for_each_row(
        w, b, lanes, tap,
        [to](int64_t place, const T* cells, int64_t n, const T* end) {
          copy_row(cells, n, end, to + place);
        },
        [to](int64_t place, int64_t n) { std::fill_n(to + place, n, T(0)); });
}

/// Its adjoint: the cells += from[tap step + place].
template <class T>
void col2im(const Windows& w, const Piece& b, const T* from, int64_t step, Planes<T> x,
            int64_t channel) {
  Lanes<T> lanes(w, b, x, channel);
  for (int64_t tap = 0; tap < w.taps(); ++tap, from += step)
    for_each_row(
        w, b, lanes, tap,
        [from](int64_t place, T* cells, int64_t n, T*) { add_row(from + place, n, cells); },
        [](int64_t, int64_t) {});
  lanes.merge();
}

}}  // namespace descent::detail
