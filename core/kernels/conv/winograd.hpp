#pragma once
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "descent/core/kernels/conv/convolve.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/runtime/blas.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// The matrices of F(4x4, 3x3) with the points 0, 1, -1, 2, -2 (Lavin and Gray, "Fast Algorithms
/// for Convolutional Neural Networks", 2016, section 4.1).
namespace winograd {
template <int R, int C> using Matrix = std::array<std::array<double, C>, R>;
template <int R, int C> constexpr Matrix<C, R> transpose(const Matrix<R, C>& m) {
  Matrix<C, R> t{};
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t c = 0; c < C; ++c) t[c][r] = m[r][c];
  return t;
}
inline constexpr Matrix<6, 6> Bt{{{4, 0, -5, 0, 1, 0},
                                  {0, -4, -4, 1, 1, 0},
                                  {0, 4, -4, -1, 1, 0},
                                  {0, -2, -1, 2, 1, 0},
                                  {0, 2, -1, -2, 1, 0},
                                  {0, 4, 0, -5, 0, 1}}};
inline constexpr Matrix<6, 3> G{{{1. / 4, 0, 0},
                                 {-1. / 6, -1. / 6, -1. / 6},
                                 {-1. / 6, 1. / 6, -1. / 6},
                                 {1. / 24, 1. / 12, 1. / 6},
                                 {1. / 24, -1. / 12, 1. / 6},
                                 {0, 0, 1}}};
inline constexpr Matrix<4, 6> At_{
    {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}}};
inline constexpr auto Gt = transpose<6, 3>(G);
inline constexpr auto A = transpose<4, 6>(At_);

/// Calls f(0), ..., f(N - 1), with the numbers as types.
template <int N, class F> [[gnu::always_inline]] inline void unroll(F f) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, I>()), ...);
  }
  (std::make_integer_sequence<int, N>());
}
/// The sum over k of m[r][k] x(k), without the terms whose m[r][k] is 0.
template <const auto& m, int r, class T, class X> [[gnu::always_inline]] inline T row(X x) {
  T sum = 0;
  unroll<m[0].size()>([&](auto k) __attribute__((always_inline)) {
    if constexpr (m[r][k] == 1) sum += x(k);
    else if constexpr (m[r][k] != 0) sum += static_cast<T>(m[r][k]) * x(k);
  });
  return sum;
}
/// Y = m X m^T for `lanes` small matrices at once. x(r, c) and y(r, s) point to their elements.
template <const auto& m, int lanes, class T, class X, class Y>
[[gnu::always_inline]] inline void multiply_both_sides(X x, Y y) {
  constexpr int R = m.size(), C = m[0].size();
  T half[R][C][lanes];  // m X
  unroll<C>([&](auto c) __attribute__((always_inline)) {
    unroll<R>([&](auto r) __attribute__((always_inline)) {
      for (int i = 0; i < lanes; ++i)
        half[r][c][i] =
            row<m, r, T>([&](auto k) __attribute__((always_inline)) { return x(k, c)[i]; });
    });
  });
  unroll<R>([&](auto r) __attribute__((always_inline)) {
    unroll<R>([&](auto s) __attribute__((always_inline)) {
      T* const to = y(r, s);
      for (int i = 0; i < lanes; ++i)
        to[i] = row<m, s, T>([&](auto k) __attribute__((always_inline)) { return half[r][k][i]; });
    });
  });
}

/// to[p step + i] = from[4 i + p] for i in [0, n), where n is a multiple of 16.
template <class T>
[[gnu::always_inline]] inline void deal(const T* from, T* to, int64_t step, int64_t n) {
  [=]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    for (int64_t i = 0; i < n; i += 16) {
      Sixteen<T> x[4], half[4];
      std::memcpy(x, from + 4 * i, sizeof x);
      for (int p = 0; p < 2; ++p) {
        half[2 * p] = __builtin_shufflevector(x[2 * p], x[2 * p + 1], 2 * I...);
        half[2 * p + 1] = __builtin_shufflevector(x[2 * p], x[2 * p + 1], 2 * I + 1 ...);
      }
      for (int p = 0; p < 2; ++p) {
        x[p] = __builtin_shufflevector(half[p], half[p + 2], 2 * I...);
        x[p + 2] = __builtin_shufflevector(half[p], half[p + 2], 2 * I + 1 ...);
      }
      for (int p = 0; p < 4; ++p) std::memcpy(to + p * step + i, x + p, sizeof x[p]);
    }
  }
  (std::make_integer_sequence<int, 16>());
}
/// The inverse of `deal`: to[4 i + p] = from[p step + i].
template <class T>
[[gnu::always_inline]] inline void merge(const T* from, int64_t step, T* to, int64_t n) {
  [=]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    for (int64_t i = 0; i < n; i += 16) {
      Sixteen<T> x[4], half[4];
      for (int p = 0; p < 4; ++p) std::memcpy(x + p, from + p * step + i, sizeof x[p]);
      for (int p = 0; p < 2; ++p) {
        half[p] = __builtin_shufflevector(x[p], x[p + 2], I / 2 + I % 2 * 16 ...);
        half[p + 2] = __builtin_shufflevector(x[p], x[p + 2], 8 + I / 2 + I % 2 * 16 ...);
      }
      for (int p = 0; p < 2; ++p) {
        x[2 * p] = __builtin_shufflevector(half[2 * p], half[2 * p + 1], I / 2 + I % 2 * 16 ...);
        x[2 * p + 1] =
            __builtin_shufflevector(half[2 * p], half[2 * p + 1], 8 + I / 2 + I % 2 * 16 ...);
      }
      std::memcpy(to + 4 * i, x, sizeof x);
    }
  }
  (std::make_integer_sequence<int, 16>());
}
/// n, rounded up to whole vectors of 16 elements.
inline int64_t round_to_vectors(int64_t n) { return (n + 15) / 16 * 16; }
}  // namespace winograd

/// Convolutions by 3x3 kernels with stride 1, in 36 products, not 144, for a tile of 4 x 4 places:
///     y = A^T (G w G^T . B^T x B) A,
/// where the tiles of x are 6 x 6 and overlap. The rounding is larger than that of the plain sum,
/// and all places of a tile share it.
template <class T> class Winograd {
 public:
  static bool serves(const Conv& c) {
    const Geometry& w = c.geometry;
    return w.kernel == Size2d(3) && w.stride == Size2d(1) && w.dilation == Size2d(1) &&
           w.padding.h <= 2 && w.padding.w <= 2 && c.groups == 1 && c.in * c.out % 16 == 0;
  }
  static bool pays(const Conv& c) {
    const Geometry& w = c.geometry;
    const int64_t tiles = ceil_div(w.rows, 4) * ceil_div(w.columns, 4);
    return c.in >= 8 && c.out >= 8 && 2 * 36 * tiles <= 9 * w.places();
  }
  /// `weight` is [out, in, 9], or that of the adjoint if `turned`. It may be null if only
  /// `weight()` is called.
  Winograd(const Conv& c, const T* weight, bool turned = false)
      : geometry{c.geometry.rows,
                 c.geometry.columns,
                 4,
                 4,
                 0,
                 1,
                 ceil_div(c.geometry.rows, 4),
                 ceil_div(c.geometry.columns, 4)},
        c_(c),
        u_(Shape{weight ? weight_size() : 0}) {
    if (!weight) return;
    std::vector<Spread> spread(std::size_t(ceil_div(c_.in * c_.out, kPairs)));
    for_each_pairs([&](int64_t first, int64_t n, T* taps) {
      for (int64_t i = 0; i < n; ++i) {
        const int64_t o = (first + i) / c_.in, k = (first + i) % c_.in;
        const T* w = weight + (turned ? k * c_.out + o : first + i) * 9;
        for (int64_t tap = 0; tap < 9; ++tap) taps[tap * n + i] = w[turned ? 8 - tap : tap];
      }
      simd::call([=, to = &spread[std::size_t(first / kPairs)]] {
        Spread part{};
        for (int64_t tap = 0; tap < 9; ++tap)
          for (int64_t i = tap * n; i < (tap + 1) * n; i += 16) {
            keep_largest(taps + i, part.largest[tap]);
            for (int j = 0; j < 16; ++j) part.sum[j] += std::abs(taps[i + j]);
          }
        *to = part;
      });
      transform_all<winograd::G>(taps, n, u_.data() + first, c_.in * c_.out, n);
    });
    even_ = all_even(spread, 9 * c_.in * c_.out);
  }
  /// Whether no tap is infinite, or so large that its rounding would be seen at places where it
  /// lies over padding. Weights with such taps are not computed by tiles: see `all_even`.
  bool even() const { return even_; }

  int64_t piece_places() const {
    constexpr int64_t bytes = 1 << 20;  // of transformed tiles, to stay in a core's own cache
    return std::clamp<int64_t>(bytes / (36 * (c_.in + c_.out) * int64_t{sizeof(T)}), 64, 512);
  }
  int64_t weight_size() const { return 36 * c_.in * c_.out; }

  /// Returns the places that must be computed again by the plain sum: see `is_spoilt`.
  std::vector<Place> forward(const Piece& b, Channels outs, Planes<const T> x, const T* bias,
                             Planes<T> y) const {
    const Tiles v = tiles_of_x(b, x, {0, c_.in});
    const Tiles m(b.places(geometry), outs.size());
    for (int64_t f = 0; f < 36; ++f)
      blas::gemm<T>(false, false, outs.size(), v.count, c_.in, 1,
                    u_.data() + (f * c_.out + outs.begin) * c_.in, c_.in, v.at(f), v.step, 0,
                    m.at(f), m.step);
    return write_y(b, m, bias, y, outs);
  }
  /// sum [36, out, in] = beta sum + the gradient of G w G^T, for the channels `ins` of x.
  void weight(const Piece& b, int64_t, Channels ins, Planes<const T> x, Planes<const T> g, T beta,
              T* sum) const {
    const Tiles v = tiles_of_x(b, x, ins), m = tiles_of_g(b, g);
    for (int64_t f = 0; f < 36; ++f)
      blas::gemm<T>(false, true, c_.out, ins.size(), v.count, 1, m.at(f), m.step, v.at(f), v.step,
                    beta, sum + f * c_.in * c_.out + ins.begin, c_.in);
  }
  /// False if the gradient must be computed again by the plain sum: see `is_spoilt`.
  bool finish(const T* sum, T* dweight) const {
    std::vector<std::array<Bits, 9 * 16>> seen(std::size_t(ceil_div(c_.in * c_.out, kPairs)));
    for_each_pairs([&](int64_t first, int64_t n, T* taps) {
      transform_all<winograd::Gt>(sum + first, c_.in * c_.out, taps, n, n);
      Bits* const largest = seen[std::size_t(first / kPairs)].data();
      simd::call([=] {
        for (int64_t tap = 0; tap < 9; ++tap)
          for (int64_t i = 0; i < n; i += 16) keep_largest(taps + tap * n + i, largest + tap * 16);
      });
      for (int64_t i = 0; i < n; ++i)
        for (int64_t tap = 0; tap < 9; ++tap) dweight[(first + i) * 9 + tap] = taps[tap * n + i];
    });
    std::array<Bits, 9> largest{};
    for (const auto& part : seen)
      for (std::size_t i = 0; i < part.size(); ++i)
        largest[i / 16] = std::max(largest[i / 16], part[i]);
    const auto [low, high] = std::minmax_element(largest.begin(), largest.end());
    return !is_spoilt(*low, *high);
  }

  const Geometry geometry;  // the tiles of y

 private:
  /// The bits of a magnitude. They have the order of the magnitudes, infinity and NaN above all.
  using Bits = int32_t;
  static constexpr Bits infinity = 0x7f80'0000;
  static_assert(sizeof(T) == sizeof(Bits));

  /// For some kernels, in 16 lanes: the largest magnitude of each tap, and the sum of all.
  struct Spread {
    Bits largest[9][16];
    T sum[16];
  };
  /// Whether the largest weight is not huge beside the mean of all weights but the largest of each
  /// lane, and no tap is 0, or nearly 0, in all kernels: its places would show the rounding of the
  /// other taps.
  static bool all_even(const std::vector<Spread>& parts, int64_t taps) {
    Bits tap[9] = {};
    double others = 0;
    for (const Spread& part : parts)
      for (int j = 0; j < 16; ++j) {
        Bits lane = 0;
        for (int k = 0; k < 9; ++k) {
          tap[k] = std::max(tap[k], part.largest[k][j]);
          lane = std::max(lane, part.largest[k][j]);
        }
        others += double(part.sum[j]) - double(std::bit_cast<T>(lane));
      }
    const auto [least, most] = std::minmax_element(tap, tap + 9);
    const double largest = double(std::bit_cast<T>(*most));
    return *most < infinity && largest <= 4096 * others / double(taps) &&
           double(std::bit_cast<T>(*least)) * 4096 >= largest;
  }

  /// Whether a place of a tile must be computed again. `low` is its magnitude and `high` the
  /// largest one of the tile, both the largest of all channels. This is true if `high` is not
  /// finite, or so much larger than `low` that its rounding, which all of the tile shares, is seen.
  /// So a number that is huge or not finite changes only the places that see it. The taps of a
  /// weight's gradient share their rounding as the places of a tile do.
  static bool is_spoilt(Bits low, Bits high) {
    constexpr Bits apart = 7 << 23;  // a factor of 2^7
    return high >= infinity || high - low > apart;
  }
  /// largest[j] = the larger of largest[j] and |x[j]|, for 16 elements.
  [[gnu::always_inline]] static void keep_largest(const T* x, Bits* largest) {
    for (int j = 0; j < 16; ++j)
      largest[j] = std::max(largest[j], std::bit_cast<Bits>(x[j]) & 0x7fff'ffff);
  }

  /// `count` transformed tiles [36, channels, step]; `step` leaves room to write whole vectors.
  struct Tiles {
    Tiles(int64_t count_, int64_t channels_)
        : count(count_),
          channels(channels_),
          step(winograd::round_to_vectors(count) + 16),
          plane(channels_ * step + 16),
          elements(Shape{36, plane}) {}
    T* at(int64_t f, int64_t channel = 0) const {
      return elements.data() + f * plane + channel * step;
    }
    int64_t count, channels, step;
    // The distance between the 36 elements of a tile. It is no power of 2, otherwise they would
    // compete for the same cache lines.
    int64_t plane;
    Scratch<T> elements;
  };

  /// Y = m X m^T for n matrices, where n is a multiple of 16. The elements of one matrix are x_step
  /// and y_step apart.
  template <const auto& m>
  static void transform_all(const T* x, int64_t x_step, T* y, int64_t y_step, int64_t n) {
    constexpr int rows = m.size(), columns = m[0].size();
    simd::call([=] {
      for (int64_t i = 0; i < n; i += 16)
        winograd::multiply_both_sides<m, 16, T>(
            [=](int r, int c) { return x + (r * columns + c) * x_step + i; },
            [=](int r, int s) { return y + (r * rows + s) * y_step + i; });
    });
  }

  /// The tiles B^T x B, from tiles of x of 6 x 6.
  Tiles tiles_of_x(const Piece& b, Planes<const T> x, Channels channels) const {
    const Tiles to(b.places(geometry), channels.size());
    const int64_t height = c_.geometry.height, width = c_.geometry.width;
    const int64_t down = b.last - b.first, across = geometry.columns + 1,
                  n = 4 * (down + 1) * across;
    const int64_t top = 4 * b.first - c_.geometry.padding.h, left = c_.geometry.padding.w;
    const int64_t step = winograd::round_to_vectors(n) + 16;
    const Scratch<T> padded(Shape{4, step}),
        dealt(Shape{4, step});  // the part of an image that the tiles need
    std::fill_n(padded.data(), padded.size, T(0));
    std::fill_n(dealt.data(), dealt.size, T(0));
    simd::call([&, p = padded.data(), d = dealt.data(), to_step = to.plane] {
      for (int64_t i = 0; i < channels.size() * b.images; ++i) {
        const int64_t channel = i / b.images, image = i % b.images;
        const T* plane = x.at(b.image + image, channels.begin + channel);
        for (int64_t r = std::max<int64_t>(top, 0); r < std::min(height, top + 4 * (down + 1)); ++r)
          copy_exactly(plane + r * width, width, p + (r - top) * 4 * across + left);
        winograd::deal(p, d, step, winograd::round_to_vectors(n));
        const T* from = d;
        T* v = to.at(0, channel) + image * down * geometry.columns;
        for (int64_t ty = 0, tx = 0; ty < down;) {  // one loop, which makes its many addresses once
          winograd::multiply_both_sides<winograd::Bt, 8, T>(
              [=](int r, int c) { return from + (c % 4) * step + r * across + c / 4; },
              [=](int r, int s) { return v + (r * 6 + s) * to_step; });
          const int64_t on =
              std::min<int64_t>(8, geometry.columns - tx);  // what was written beyond
          tx += on;                                         // is written again
          from += on;
          v += on;
          if (tx < geometry.columns) continue;
          from += 4 * across - tx;
          tx = 0;
          ++ty;
        }
      }
    });
    return to;
  }

  /// The tiles A g A^T, from tiles of g of 4 x 4, for all channels.
  Tiles tiles_of_g(const Piece& b, Planes<const T> g) const {
    const Tiles to(b.places(geometry), c_.out);
    for_each_channels(to, {0, c_.out}, [&](Channels some, T* dealt, T* lines, int64_t n) {
      for_each_line(
          b, g, some, lines, to.step, [](const T& cell, T& element, T) { element = cell; },
          nullptr);
      simd::call([=, row_step = 4 * kChannels * to.step] {
        for (int64_t r = 0; r < 4; ++r)
          winograd::deal(lines + r * row_step, dealt + r * 4 * n, n, n);
      });
      transform_all<winograd::A>(dealt, n, to.at(0, some.begin), to.plane, n);
    });
    return to;
  }

  /// y = A^T m A + bias. Returns the places that must be computed again.
  std::vector<Place> write_y(const Piece& b, const Tiles& m, const T* bias, Planes<T> y,
                             Channels outs) const {
    std::vector<Bits> seen(std::size_t(16 * m.step));  // [place of the tile][tile]
    for_each_channels(m, outs, [&](Channels some, T* dealt, T* lines, int64_t n) {
      transform_all<winograd::At_>(m.at(0, some.begin - outs.begin), m.plane, dealt, n, n);
      simd::call([=, row_step = 4 * kChannels * m.step, step = m.step, largest = seen.data()] {
        for (int64_t r = 0; r < 4; ++r)
          winograd::merge(dealt + r * 4 * n, n, lines + r * row_step, n);
        for (int64_t place = 0; place < 16; ++place)
          for (int64_t from = place * n; from < (place + 1) * n; from += step)
            for (int64_t t = 0; t < step; t += 16)
              keep_largest(dealt + from + t, largest + place * step + t);
      });
      for_each_line(
          b, y, some, lines, m.step,
          [](T& cell, const T& element, T start) { cell = element + start; }, bias);
    });
    return find_spoilt(b, m, seen.data());
  }
  /// The places that are spoilt. `seen` [16, step] has the largest magnitude at each place.
  std::vector<Place> find_spoilt(const Piece& b, const Tiles& m, Bits* seen) const {
    const int64_t across = geometry.columns, down = b.last - b.first;
    auto drop = [&](int64_t r, int64_t c, int64_t t) {  // a place outside of the image
      seen[(4 * r + c) * m.step + t] = seen[t];
    };
    for (int64_t t = 0; t < m.count; ++t)
      if (const int64_t rows = geometry.height - 4 * (b.first + t / across % down); rows < 4)
        for (int64_t r = rows; r < 4; ++r)
          for (int64_t c = 0; c < 4; ++c) drop(r, c, t);
    for (int64_t t = across - 1; t < m.count; t += across)
      for (int64_t c = geometry.width - 4 * (across - 1); c < 4; ++c)
        for (int64_t r = 0; r < 4; ++r) drop(r, c, t);

    std::vector<Place> again;
    for (int64_t t = 0; t < m.count; t += 16) {
      Bits low[16], high[16];
      simd::call([&, all = seen + t, step = m.step] {
        for (int j = 0; j < 16; ++j) low[j] = high[j] = all[j];
        for (int64_t i = 1; i < 16; ++i)
          for (int j = 0; j < 16; ++j) {
            low[j] = std::min(low[j], all[i * step + j]);
            high[j] = std::max(high[j], all[i * step + j]);
          }
      });
      for (int64_t j = 0; j < std::min<int64_t>(16, m.count - t); ++j) {
        if (!is_spoilt(low[j], high[j])) continue;
        const int64_t line = (t + j) / across, row = 4 * (b.first + line % down),
                      column = 4 * ((t + j) % across);
        for (int64_t r = row; r < std::min(row + 4, geometry.height); ++r)
          for (int64_t c = column; c < std::min(column + 4, geometry.width); ++c)
            if (is_spoilt(seen[(4 * (r - row) + c - column) * m.step + t + j], high[j]))
              again.push_back({b.image + line / down, r, c});
      }
    }
    return again;
  }
  static constexpr int64_t kChannels = 4;  // computed at a time
  /// Calls f(channels, dealt [16, n], lines, n) for at most kChannels channels at a time, which
  /// have n tiles together. `lines` always has room for kChannels channels. What no plane fills of
  /// it stays 0 from one call to the next.
  template <class F> static void for_each_channels(const Tiles& m, Channels channels, F f) {
    const Scratch<T> dealt(Shape{16, kChannels, m.step}), lines(Shape{16, kChannels, m.step});
    std::fill_n(lines.data(), lines.size, T(0));
    for (int64_t i = channels.begin; i < channels.end; i += kChannels) {
      const Channels some{i, std::min(i + kChannels, channels.end)};
      f(some, dealt.data(), lines.data(), some.size() * m.step);
    }
  }
  /// Calls body(cell, element, bias) for all cells of the planes and their elements in `lines`,
  /// which are [row of the tile][kChannels channels][tile][column], with `step` tiles for each
  /// channel.
  template <class P, class Body>
  void for_each_line(const Piece& b, Planes<P> planes, Channels channels, T* lines, int64_t step,
                     Body body, const T* bias) const {
    for (int64_t i = 0; i < channels.size() * b.images; ++i) {
      const int64_t channel = i / b.images, image = i % b.images;
      const T start = bias ? bias[channels.begin + channel] : T(0);
      for (int64_t row = 4 * b.first; row < std::min(geometry.height, 4 * b.last); ++row) {
        const int64_t t = image * (b.last - b.first) + row / 4 - b.first;
        simd::for_each([=](P& cell, T& element) { body(cell, element, start); }, geometry.width,
                       planes.at(b.image + image, channels.begin + channel) + row * geometry.width,
                       lines + ((row % 4 * kChannels + channel) * step + t * geometry.columns) * 4);
      }
    }
  }

  static constexpr int64_t kPairs = 2048;  // of an input and an output channel, at a time
  /// Calls f(first, n, taps [9, n]) for all pairs of channels, n at a time, on several threads.
  template <class F> void for_each_pairs(F f) const {
    const int64_t all = c_.in * c_.out;
    parallel_for(ceil_div(all, kPairs), [&](int64_t t) {
      const int64_t n = std::min(kPairs, all - t * kPairs);
      const Scratch<T> taps(Shape{9, n});
      f(t * kPairs, n, taps.data());
    });
  }
  const Conv c_;
  const Scratch<T> u_;  // G w G^T [36, out, in]
  bool even_ = true;
};

}}  // namespace descent::detail
