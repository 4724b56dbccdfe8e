#pragma once
#include "descent/core/kernels/conv/convolve.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// Convolutions of single channels with stride 1. As products with the windows, they would only be
/// products with a vector. Here the rows of the padded plane lie one behind the other, so that a
/// tap is equally far from every place, and one long loop computes a plane.
template <class T> class Depthwise {
 public:
  static bool serves(const Conv& c) {
    return c.in == 1 && c.out == 1 && c.geometry.stride == Size2d(1) && c.geometry.compact();
  }
  Depthwise(const Conv& c, const T* weight, bool turned = false)
      : geometry(c.geometry), groups_(c.groups), weight_(weight), turned_(turned) {}

  int64_t piece_places() const { return std::max(geometry.places(), int64_t{2048}); }
  int64_t weight_size() const { return groups_ * geometry.taps(); }

  void forward(const Piece& b, int64_t group, Channels, Planes<const T> x, const T* bias,
               Planes<T> y) const {
    const Padded from(geometry), to(geometry);
    const T *w = weight_ + group * geometry.taps(), start = bias ? bias[group] : T(0);
    const Scratch<T> taps(Shape{geometry.taps()});
    if (turned_) std::reverse_copy(w, w + taps.size, taps.data());
    else std::copy_n(w, taps.size, taps.data());
    for (int64_t image = b.image; image < b.image + b.images; ++image) {
      from.fill(x.at(image, group), geometry.height, geometry.width, geometry.padding);
      simd::call([&, w = geometry, n = geometry.rows * from.pitch, cells = from.data()] {
        for (int64_t i = 0; i < n; i += lanes) {
          Sixteen<T> sum = Sixteen<T>{} + start;
          for (int64_t row = 0, tap = 0; row < w.kernel.h; ++row) {
            const T* at = cells + i + row * w.dilation.h * from.pitch;
            for (int64_t end = tap + w.kernel.w; tap < end; ++tap, at += w.dilation.w) {
              Sixteen<T> x_;
              load<T>(x_, at);
              sum += taps.data()[tap] * x_;
            }
          }
          std::memcpy(to.data() + i, &sum, sizeof sum);
        }
      });
      for (int64_t row = 0; row < geometry.rows; ++row)
        copy_exactly(to.data() + row * to.pitch, geometry.columns,
                     y.at(image, group) + row * geometry.columns);
    }
  }

  void weight(const Piece& b, int64_t group, Channels, Planes<const T> x, Planes<const T> g, T beta,
              T* sum) const {
    const Padded from(geometry), to(geometry);
    const Scratch<T> sums(Shape{geometry.taps(), lanes});
    std::fill_n(sums.data(), sums.size, T(0));
    for (int64_t image = b.image; image < b.image + b.images; ++image) {
      from.fill(x.at(image, group), geometry.height, geometry.width, geometry.padding);
      to.fill(g.at(image, group), geometry.rows, geometry.columns, 0);
      simd::call([&, n = geometry.rows * from.pitch] {
        for (int64_t tap = 0; tap < geometry.taps(); ++tap) {
          Sixteen<T> total, g_, x_;
          load<T>(total, sums.data() + tap * lanes);
          const T* const at = from.data() +
                              tap / geometry.kernel.w * geometry.dilation.h * from.pitch +
                              tap % geometry.kernel.w * geometry.dilation.w;
          for (int64_t i = 0; i < n; i += lanes) {
            load<T>(g_, to.data() + i);
            load<T>(x_, at + i);
            total += g_ * x_;
          }
          std::memcpy(sums.data() + tap * lanes, &total, sizeof total);
        }
      });
    }
    for (int64_t tap = 0; tap < geometry.taps(); ++tap) {
      T& total = sum[group * geometry.taps() + tap];
      if (beta == 0) total = 0;
      for (int64_t j = 0; j < lanes; ++j) total += sums.data()[tap * lanes + j];
    }
  }
  bool finish(const T* sum, T* dweight) const {
    return std::copy_n(sum, weight_size(), dweight), true;
  }

  const Geometry geometry;

 private:
  static constexpr int64_t lanes = 16;
  /// A plane with its padding. It is 0 wherever `fill` puts nothing. (To have the lanes of all
  /// images at once is slower.)
  struct Padded {
    explicit Padded(const Geometry& w)
        : pitch(w.width + 2 * w.padding.w),
          elements(Shape{w.height + 2 * w.padding.h, pitch}, w.kernel.w * w.dilation.w + lanes) {
      std::fill_n(data(), elements.size, T(0));
    }
    void fill(const T* plane, int64_t height, int64_t width, Size2d padding) const {
      for (int64_t row = 0; row < height; ++row)
        copy_exactly(plane + row * width, width, data() + (row + padding.h) * pitch + padding.w);
    }
    T* data() const { return elements.data(); }
    int64_t pitch;
    Scratch<T> elements;
  };

  const int64_t groups_;
  const T* weight_;
  const bool turned_;
};

}}  // namespace descent::detail
