#pragma once
#include <algorithm>
#include <cstring>

#include "descent/core/base/checked.hpp"
#include "descent/core/base/paths.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/window.hpp"

// Windows that move over images: what convolutions and their derivatives gather and scatter.

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// The places of a kernel on a plane of `height` x `width` cells: `rows` down and `columns` across.
///
/// A plane can be laid out in lanes: the stride cuts the plane with its padding into stride.h x
/// stride.w lanes, each of which has every stride.h-th row and every stride.w-th column. The cells
/// under a tap at the places of one row then lie one behind the other in a row of a lane, for every
/// padding and every stride.
struct Geometry {
  int64_t height, width;
  Size2d kernel, stride, padding, dilation;
  int64_t rows, columns;

  int64_t taps() const { return kernel.h * kernel.w; }
  int64_t places() const { return rows * columns; }
  /// Whether the plane itself is its only lane.
  bool lies_in_lanes() const { return stride == Size2d(1) && padding == Size2d(0); }
  /// Whether each window is one cell, and each cell a window.
  bool trivial() const { return lies_in_lanes() && taps() == 1; }
  /// Whether the plane with its padding is not much larger than what the windows see of it. (With
  /// huge strides or dilations it can be.) If this is true, the product of its sides fits in an
  /// int64_t.
  bool compact() const {
    auto size = [](int64_t in, int64_t pad) { return double(in) + 2 * double(pad); };
    const double seen = double(height * width) + double(taps()) * double(places());
    return size(height, padding.h) * size(width, padding.w) <= std::min(4 * seen, 0x1p50);
  }
};

/// The channels of images: planes of `cells` elements, one behind the other.
template <class T> struct Planes {
  T* data;
  int64_t channels, cells;
  T* at(int64_t image, int64_t channel) const {
    return data + (image * channels + channel) * cells;
  }
};

/// Some images, or the rows [first, last) of places on one image.
struct Piece {
  int64_t image, images, first, last;
  int64_t places(const Geometry& w) const { return images * (last - first) * w.columns; }
};

/// The place of one window on an image.
struct Place {
  int64_t image, row, column;
};

/// The channels [begin, end).
struct Channels {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

/// Temporary memory: as many elements as the product of `sizes`, and `more` beyond them.
template <class T> struct Scratch {
  explicit Scratch(const Shape& sizes, int64_t more = 0)
      : size(checked_add(numel("conv2d", sizes, At::unknown()), more, "conv2d")),
        tensor(empty("conv2d", {size}, dtype_of<T>(), At::unknown())) {}
  T* data() const { return elements_of<T>(tensor); }
  int64_t size;
  Tensor tensor;
};

/// Sixteen elements as a vector of the compiler, which keeps it in registers.
template <class T> struct SixteenOf {
  typedef T Vector __attribute__((vector_size(16 * sizeof(T))));
};
template <class T> using Sixteen = typename SixteenOf<T>::Vector;
/// to = the elements at `from`. It does not return them, because how such a vector is returned
/// depends on the registers that the code is compiled for.
template <class T> [[gnu::always_inline]] inline void load(Sixteen<T>& to, const T* from) {
  std::memcpy(&to, from, sizeof to);
}

// ---- rows of windows

/// to[i] = from[i] for i in [0, n). It copies whole vectors if it can read them, which it can up to
/// `end`. What they write beyond n must be written again later.
template <class T> inline void copy_row(const T* from, int64_t n, const T* end, T* to) {
  constexpr int lanes = 8;
  if (end - from < n + lanes) return copy_exactly(from, n, to);
  for (int64_t i = 0; i < n; i += lanes) std::memcpy(to + i, from + i, lanes * sizeof(T));
}
/// to[i] += from[i].
template <class T> inline void add_row(const T* from, int64_t n, T* to) {
  constexpr int lanes = 8;
  for (; n >= lanes; n -= lanes, from += lanes, to += lanes) {
    T sum[lanes], other[lanes];
    std::memcpy(sum, to, sizeof sum);
    std::memcpy(other, from, sizeof other);
    for (int j = 0; j < lanes; ++j) sum[j] += other[j];
    std::memcpy(to, sum, sizeof sum);
  }
  for (; n > 0; --n) *to++ += *from++;
}

/// The lanes of one channel of a piece's images, if the geometry is compact. They have the rows
/// that the windows of the piece see. If the plane itself is the only lane, it is used in place,
/// with all its rows.
template <class T> class Lanes {
 public:
  using Element = std::remove_const_t<T>;
  Lanes(const Geometry& w, const Piece& b, Planes<T> x, int64_t channel)
      : w_(w),
        b_(b),
        x_(x),
        channel_(channel),
        in_place_(w.lies_in_lanes() && take("im2col in place")),
        top_(in_place_ ? 0 : b.first * w.stride.h),
        rows_(in_place_
                  ? w.height
                  : (b.last - b.first - 1) * w.stride.h + w.dilation.h * (w.kernel.h - 1) + 1),
        pitch_(ceil_div(w.width + 2 * w.padding.w, w.stride.w)),
        lane_(ceil_div(rows_, w.stride.h) * pitch_),
        size_(w.stride.h * w.stride.w * lane_),
        own_(Shape{in_place_ ? 0 : b.images, size_}, in_place_ ? 0 : 16) {
    if (!in_place_) enter("im2col lanes");
    std::fill_n(own_.data(), own_.size, Element(0));
    if constexpr (std::is_const_v<T>)
      for_each_run([](const T* cells, int64_t step, Element* own, int64_t n) {
        if (step == 1) copy_exactly(cells, n, own);
        else
          for (int64_t i = 0; i < n; ++i) own[i] = cells[i * step];
      });
  }
  /// Adds to the planes what has been added to their lanes.
  void merge() {
    for_each_run([](T* cells, int64_t step, const Element* own, int64_t n) {
      if (step == 1) add_row(own, n, cells);
      else
        for (int64_t i = 0; i < n; ++i) cells[i * step] += own[i];
    });
  }
  T* begin(int64_t image) const {
    if (in_place_) return x_.at(b_.image + image, channel_);
    return own_.data() + image * size_;
  }
  T* end(int64_t image) const { return begin(image) + size_; }
  /// The distance from the cells that a tap sees at one row of places to those at the next row.
  int64_t pitch() const { return pitch_; }
  /// The cell that the tap sees at the first place of a row.
  T* at(int64_t image, int64_t row, int64_t tap) const {
    const int64_t y = tap / w_.kernel.w * w_.dilation.h, x = tap % w_.kernel.w * w_.dilation.w;
    return begin(image) + place(row * w_.stride.h - top_ + y, x);
  }

 private:
  /// The position in the lanes of the cell in row top_ + y and column x of the padded plane.
  int64_t place(int64_t y, int64_t x) const {
    const Size2d s = w_.stride;
    if (s == Size2d(1)) return y * pitch_ + x;
    return (y % s.h * s.w + x % s.w) * lane_ + y / s.h * pitch_ + x / s.w;
  }
  /// Calls f(cells, step, own, n) for all cells of the planes that are in the lanes: n cells,
  /// `step` elements apart, which lie one behind the other in the lane at `own`.
  template <class F> void for_each_run(F f) {
    if (in_place_) return;
    const int64_t step = w_.stride.w, width = w_.width;
    const int64_t first = std::max<int64_t>(top_ - w_.padding.h, 0),
                  last = std::min(top_ + rows_ - w_.padding.h, w_.height);
    for (int64_t image = 0; image < b_.images; ++image)
      for (int64_t row = first; row < last; ++row) {
        T* const cells = x_.at(b_.image + image, channel_) + row * width;
        Element* const own = own_.data() + image * size_;
        const int64_t y = row + w_.padding.h - top_;
        if (step == 1) {  // saves the divisions for each row
          f(cells, 1, own + place(y, w_.padding.w), width);
          continue;
        }
        for (int64_t column = 0; column < std::min(step, width); ++column)
          f(cells + column, step, own + place(y, column + w_.padding.w),
            ceil_div(width - column, step));
      }
  }
  const Geometry& w_;
  const Piece& b_;
  const Planes<T> x_;
  const int64_t channel_;
  const bool in_place_;
  const int64_t top_, rows_;  // of the padded plane
  const int64_t pitch_, lane_, size_;
  const Scratch<Element> own_;
};

/// Calls f(place, cells, end) for each row of a piece's places. `place` is the number of the first
/// place of the row. There the tap sees the first of `cells`, at the next place the next one, and
/// so on. The lane can be read up to `end`.
template <class T, class F>
[[gnu::always_inline]] inline void for_each_row(const Geometry& w, const Piece& b,
                                                const Lanes<T>& lanes, int64_t tap, F f) {
  const int64_t rows = b.last - b.first, columns = w.columns, pitch = lanes.pitch();
  int64_t place = 0;
  for (int64_t image = 0; image < b.images; ++image) {
    T *cells = lanes.at(image, b.first, tap), *const end = lanes.end(image);
    for (int64_t row = 0; row < rows; ++row, place += columns, cells += pitch) f(place, cells, end);
  }
}

/// The cell under a tap, or null if that is padding. It is slow, but works for every geometry.
template <class T>
T* cell_under(const Geometry& w, Planes<T> x, int64_t channel, const Place& place, int64_t tap) {
  const int64_t i = place.row * w.stride.h - w.padding.h + tap / w.kernel.w * w.dilation.h;
  const int64_t k = place.column * w.stride.w - w.padding.w + tap % w.kernel.w * w.dilation.w;
  const bool inside = i >= 0 && i < w.height && k >= 0 && k < w.width;
  return inside ? x.at(place.image, channel) + i * w.width + k : nullptr;
}
/// Calls f(tap, number of the place, cell or null) for all taps and all places of a piece.
template <class T, class F>
void for_each_cell(const Geometry& w, const Piece& b, Planes<T> x, int64_t channel, F f) {
  for (int64_t tap = 0; tap < w.taps(); ++tap)
    for (int64_t i = 0; i < b.places(w); ++i) {
      const int64_t line = i / w.columns, image = line / (b.last - b.first);
      const Place place{b.image + image, b.first + line % (b.last - b.first), i % w.columns};
      f(tap, i, cell_under(w, x, channel, place, tap));
    }
}

/// to[tap step + place] = the cell under the tap, or 0, for one channel of a piece's images. `to`
/// must have room for 8 more elements.
template <class T>
void im2col(const Geometry& w, const Piece& b, Planes<const T> x, int64_t channel, T* to,
            int64_t step) {
  if (take("im2col cells", !w.compact()))
    return for_each_cell(w, b, x, channel, [=](int64_t tap, int64_t place, const T* cell) {
      to[tap * step + place] = cell ? *cell : T(0);
    });
  const Lanes<const T> lanes(w, b, x, channel);
  const bool eight = w.columns == 8 && take("im2col eight");
  simd::call([&] {
    for (int64_t tap = 0; tap < w.taps(); ++tap, to += step)
      if (eight)  // small images: a row is one vector
        for_each_row(w, b, lanes, tap, [to](int64_t place, const T* cells, const T*) {
          std::memcpy(to + place, cells, 8 * sizeof(T));
        });
      else
        for_each_row(w, b, lanes, tap,
                     [n = w.columns, to](int64_t place, const T* cells, const T* end) {
                       copy_row(cells, n, end, to + place);
                     });
  });
}

/// The adjoint of im2col: the cell under the tap += from[tap step + place].
template <class T>
void col2im(const Geometry& w, const Piece& b, const T* from, int64_t step, Planes<T> x,
            int64_t channel) {
  if (take("im2col cells", !w.compact()))
    return for_each_cell(w, b, x, channel, [=](int64_t tap, int64_t place, T* cell) {
      if (cell) *cell += from[tap * step + place];
    });
  Lanes<T> lanes(w, b, x, channel);
  simd::call([&] {
    for (int64_t tap = 0; tap < w.taps(); ++tap, from += step)
      for_each_row(w, b, lanes, tap, [n = w.columns, from](int64_t place, T* cells, const T*) {
        add_row(from + place, n, cells);
      });
  });
  lanes.merge();
}

}}  // namespace descent::detail
