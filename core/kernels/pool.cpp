#include "descent/core/kernels/pool.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "descent/core/base/checked.hpp"
#include "descent/core/base/paths.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/reduce.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {

Pool::Pool(const char* op, const In& x, const Window& window_)
    : window(window_), out(count_places(op, x, window)), input(x.shape()), shape(input) {
  const auto& [kernel, stride, padding, dilation, ceil_mode] = window;
  if (padding.h > kernel.h / 2 || padding.w > kernel.w / 2)
    fail<ValueError>(x.at, "{}: padding {} with kernel {}: need at most half of it", op, padding,
                     kernel);
  h = input[-2], w = input[-1];
  if ((padding.h > 0 && dilation.h > h) || (padding.w > 0 && dilation.w > w))
    fail<ValueError>(x.at, "{}: dilation {} steps over x {} with padding: need at most its size",
                     op, dilation, input);
  const int64_t down = std::min(dilation.h * (kernel.h - 1), h - 1 + padding.h),
                across = std::min(dilation.w * (kernel.w - 1), w - 1 + padding.w);
  const int64_t below = checked_mul(down, w, op, x.at);
  if (checked_add(below, across, op, x.at) > INT32_MAX)  // what Wide<float> holds
    fail<SizeError>(x.at, "{}: kernel {} spans too much of x {}: need less than 2^31 pixels", op,
                    kernel, input);
  shape[-2] = out.h, shape[-1] = out.w;
  planes = x.numel() / (h * w);
}

namespace {

constexpr int64_t kStripPlaces = 64;  // places of a window side by side: what is known of them
                                      // stays in cache

/// Moves a window over a plane. For each strip of n places, of which the first is `place`:
/// begin(row, place, n); then, for each pixel of the kernel, pixel(lo, hi, corner, offset), where
/// the places [lo, hi) of the strip have it in the plane, j at corner + offset + j step; then
/// end(place, n, corner).
template <class Step, class Begin, class Pixel, class End>
[[gnu::always_inline]] inline void sweep(const Pool& p, Step step, Begin begin, Pixel pixel,
                                         End end) {
  const Window& o = p.window;
  // The pixels of the kernel that lie in the plane at some place from `first` to `last` on.
  auto seen = [](int64_t kernel, int64_t dilation, int64_t size, int64_t first, int64_t last) {
    return std::pair(last < 0 ? (-last - 1) / dilation + 1 : 0,
                     first < size ? std::min(kernel, (size - first - 1) / dilation + 1) : 0);
  };
  for (int64_t row = 0; row < p.out.h; ++row)
    for (int64_t column = 0; column < p.out.w; column += kStripPlaces) {
      const int64_t n = std::min(kStripPlaces, p.out.w - column), place = row * p.out.w + column;
      const int64_t top = row * o.stride.h - o.padding.h, left = column * step - o.padding.w;
      const int64_t corner = top * p.w + left;
      begin(row, place, n);
      const auto [i0, i1] = seen(o.kernel.h, o.dilation.h, p.h, top, top);
      const auto [k0, k1] = seen(o.kernel.w, o.dilation.w, p.w, left, left + (n - 1) * step);
      for (int64_t i = i0; i < i1; ++i) {
        const int64_t y = i * o.dilation.h;
        for (int64_t k = k0; k < k1; ++k) {
          const int64_t x = k * o.dilation.w;
          int64_t lo = 0, hi = n;
          while (lo < hi && left + x + lo * step < 0) ++lo;
          while (lo < hi && left + x + (hi - 1) * step >= p.w) --hi;
          pixel(lo, hi, corner, y * p.w + x);
        }
      }
      end(place, n, corner);
    }
}

/// f(plane, step) for each plane, vectorised and threaded; step is the stride along rows, where it
/// is 1 a constant.
template <class F> void each_plane(const Pool& p, F f) {
  const int64_t per_tile = std::max<int64_t>(kTileElements / (p.h * p.w), 1);
  auto run = [&](auto step) {
    parallel_for(ceil_div(p.planes, per_tile), [&](int64_t tile) {
      const int64_t last = std::min((tile + 1) * per_tile, p.planes);
      simd::call([&] {
        for (int64_t plane = tile * per_tile; plane < last; ++plane) f(plane, step);
      });
    });
  };
  if (p.window.stride.w == 1) run(std::integral_constant<int64_t, 1>{});
  else run(p.window.stride.w);
}

/// f(a, b, c, d, v) for each window of 2 by 2 pixels a b over c d that lie side by side, and its
/// value v. Pixels are read `from` images and then written `to` images, values are `given` and then
/// written to `result`: those that are not `nullptr`.
template <class T, class From, class To, class Given, class Result, class F>
void each_square(const Pool& p, From from, To to, Given given, Result result, F f) {
  constexpr bool reads = !std::is_null_pointer_v<From>, writes = !std::is_null_pointer_v<To>;
  if constexpr (writes)
    if (2 * p.out.h < p.h || 2 * p.out.w < p.w) std::fill_n(to, p.planes * p.h * p.w, T(0));
  const int64_t rows = p.planes * p.out.h;
  const int64_t per_tile = std::max<int64_t>(kTileElements / (2 * p.w), 1);
  parallel_for(ceil_div(rows, per_tile), [&](int64_t tile) {
    const int64_t last = std::min((tile + 1) * per_tile, rows);
    simd::call([&] {
      for (int64_t row = tile * per_tile; row < last; ++row) {
        int64_t pixel = (row / p.out.h * p.h + row % p.out.h * 2) * p.w, place = row * p.out.w;
        int64_t left = p.out.w;
        auto blocks = [&](auto n) __attribute__((always_inline)) {  // of n windows: a constant
          T top[2 * n] = {}, bottom[2 * n] = {}, a[n], b[n], c[n], d[n], v[n] = {};
          for (; left >= n; left -= n, pixel += 2 * n, place += n) {
            if constexpr (reads) std::memcpy(top, from + pixel, sizeof top);
            if constexpr (reads) std::memcpy(bottom, from + pixel + p.w, sizeof bottom);
            if constexpr (!std::is_null_pointer_v<Given>) std::memcpy(v, given + place, sizeof v);
            for (int j = 0; j < n; ++j) a[j] = top[2 * j], b[j] = top[2 * j + 1];
            for (int j = 0; j < n; ++j) c[j] = bottom[2 * j], d[j] = bottom[2 * j + 1];
            for (int j = 0; j < n; ++j) f(a[j], b[j], c[j], d[j], v[j]);
            for (int j = 0; j < n; ++j) top[2 * j] = a[j], top[2 * j + 1] = b[j];
            for (int j = 0; j < n; ++j) bottom[2 * j] = c[j], bottom[2 * j + 1] = d[j];
            if constexpr (writes) std::memcpy(to + pixel, top, sizeof top);
            if constexpr (writes) std::memcpy(to + pixel + p.w, bottom, sizeof bottom);
            if constexpr (!std::is_null_pointer_v<Result>) std::memcpy(result + place, v, sizeof v);
          }
        };
        blocks(std::integral_constant<int, 16>());
        blocks(std::integral_constant<int, 8>());
        blocks(std::integral_constant<int, 4>());
        blocks(std::integral_constant<int, 1>());
      }
    });
  });
}

// ---- the largest

/// An integer as wide as T: as many fit in a vector.
template <class T> using Wide = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

/// The larger one, or NaN. (One comparison at a time: no branch.)
template <class T> T larger(T best, T v) {
  const T top = v > best ? v : best;
  return v != v ? v : top;
}
/// `there` if the larger one is v, of two NaN too, or else `where`.
template <class T> Wide<T> larger_at(T best, T v, Wide<T> where, Wide<T> there) {
  const Wide<T> at = v > best ? there : where;
  return v != v ? there : at;
}
/// g to the larger one of a and b.
template <class T> void give(T a, T b, T g, T& to_a, T& to_b) {
  const T first = b > a ? 0 : g, second = b > a ? g : 0;
  to_a = b != b ? 0 : first;
  to_b = b != b ? g : second;
}

/// act(place, n, corner, best, where) for each strip of a plane: its places' largest pixels and, if
/// it is to `seek` them, how far from the window's corner they are.
template <bool seek, class T, class Step, class Act>
[[gnu::always_inline]] inline void each_maximum(const Pool& p, const T* x, Step step, Act act) {
  T best[kStripPlaces];
  Wide<T> where[kStripPlaces];
  auto begin = [&](int64_t, int64_t, int64_t n) {
    each_lane(n, [&](int64_t j) { best[j] = -std::numeric_limits<T>::infinity(), where[j] = -1; });
  };
  auto compare = [&](int64_t lo, int64_t hi, int64_t corner, int64_t offset) {
    const T* pixel = x + corner + offset;
    const auto here = static_cast<Wide<T>>(offset);
    each_lane(hi - lo, [&, lo](int64_t i) {
      const int64_t j = lo + i;
      const T v = pixel[j * step];
      if constexpr (seek) where[j] = larger_at(best[j], v, where[j] < 0 ? here : where[j], here);
      best[j] = larger(best[j], v);
    });
  };
  auto end = [&](int64_t place, int64_t n, int64_t corner) { act(place, n, corner, best, where); };
  sweep(p, step, begin, compare, end);
}

/// What is done where x is largest in each window: its value is the result's; that of `other`, of
/// x's shape, is; or `other`, of the result's shape, is added there to zeros.
enum class Use { value, pick, route };

template <Use use, class T> void at_maxima(const Pool& p, const T* x, const T* other, T* result) {
  const int64_t pixels = p.h * p.w, places = p.out.h * p.out.w;
  each_plane(p, [=, &p](int64_t plane, auto step) {
    const T* give = other + plane * (use == Use::route ? places : pixels);
    T* to = result + plane * (use == Use::route ? pixels : places);
    if (use == Use::route) std::fill_n(to, pixels, T(0));
    each_maximum<use != Use::value>(
        p, x + plane * pixels, step,
        [=](int64_t place, int64_t n, int64_t corner, const T* best, const Wide<T>* where) {
          for (int64_t j = 0; j < n; ++j) {
            const int64_t pixel = corner + j * step + (use == Use::value ? 0 : where[j]);
            if constexpr (use == Use::value) to[place + j] = best[j];
            else if constexpr (use == Use::pick) to[place + j] = give[pixel];
            else to[pixel] += give[place + j];
          }
        });
  });
}

// ---- the mean

/// How many pixels a window counts at `place` along one axis.
int64_t count_pixels(int64_t in, int64_t kernel, int64_t stride, int64_t padding, bool pad_counts,
                     int64_t place) {
  const int64_t begin = place * stride - padding,
                end = begin + std::min(kernel, in + padding - begin);
  return pad_counts ? end - begin : std::min(end, in) - std::max<int64_t>(begin, 0);
}

/// result = the means in the windows of x; or, to `spread`, x shared among the pixels that each
/// window sees.
template <bool spread, class T>
void sweep_means(const Pool& p, bool pad_counts, const T* x, T* result) {
  if (p.planes == 0) return;  // places without a plane may be too many to list
  const Window& o = p.window;
  const int64_t pixels = p.h * p.w, places = p.out.h * p.out.w;
  std::vector<T> widths;
  for (int64_t k = 0; k < p.out.w; ++k)
    widths.push_back(
        static_cast<T>(count_pixels(p.w, o.kernel.w, o.stride.w, o.padding.w, pad_counts, k)));

  each_plane(p, [=, &p, &o, width = widths.data()](int64_t plane, auto step) {
    const T* from = x + plane * (spread ? places : pixels);
    T* to = result + plane * (spread ? pixels : places);
    if (spread) std::fill_n(to, pixels, T(0));
    T value[kStripPlaces], count[kStripPlaces];  // a window's sum or share, and its pixels
    auto begin = [&](int64_t row, int64_t place, int64_t n) {
      const int64_t height =
          count_pixels(p.h, o.kernel.h, o.stride.h, o.padding.h, pad_counts, row);
      const T *across = width + place % p.out.w, down = static_cast<T>(height);
      each_lane(n, [&](int64_t j) {
        count[j] = down * across[j];
        if constexpr (spread) value[j] = from[place + j] / count[j];
        else value[j] = 0;
      });
    };
    auto add = [&](int64_t lo, int64_t hi, int64_t corner, int64_t offset) {
      const int64_t at = corner + offset;
      each_lane(hi - lo, [&, lo](int64_t i) {
        const int64_t j = lo + i;
        if constexpr (spread) to[at + j * step] += value[j];
        else value[j] += from[at + j * step];
      });
    };
    auto end = [&](int64_t place, int64_t n, int64_t) {
      if constexpr (!spread) each_lane(n, [&](int64_t j) { to[place + j] = value[j] / count[j]; });
    };
    sweep(p, step, begin, add, end);
  });
}

/// Whether the path `squares` serves; otherwise `sweep` is the one that does.
bool take_squares(const Pool& p, Path squares, Path sweep) {
  if (p.square() && take(squares)) return true;
  enter(sweep);
  return false;
}

}  // namespace

template <class T> void Pooling<T>::max(const Pool& p, const T* x, T* y) {
  if (!take_squares(p, "max_pool2d squares", "max_pool2d sweep"))
    return at_maxima<Use::value>(p, x, x, y);
  each_square<T>(p, x, nullptr, nullptr, y, [](T& a, T& b, T& c, T& d, T& best) {
    best = larger(larger(a, b), larger(c, d));
  });
}
template <class T> void Pooling<T>::pick(const Pool& p, const T* x, const T* from, T* y) {
  enter("max_pool2d pick");
  at_maxima<Use::pick>(p, x, from, y);
}
template <class T> void Pooling<T>::route(const Pool& p, const T* x, const T* g, T* dx) {
  if (!take_squares(p, "max_pool2d route squares", "max_pool2d route sweep"))
    return at_maxima<Use::route>(p, x, g, dx);
  each_square<T>(p, x, dx, g, nullptr, [](T& a, T& b, T& c, T& d, T& outer) {
    T upper, lower;
    give(larger(a, b), larger(c, d), outer, upper, lower);
    give(a, b, upper, a, b);
    give(c, d, lower, c, d);
  });
}

template <class T> void Pooling<T>::average(const Pool& p, bool pad_counts, const T* x, T* y) {
  if (!take_squares(p, "avg_pool2d squares", "avg_pool2d sweep"))
    return sweep_means<false>(p, pad_counts, x, y);
  each_square<T>(p, x, nullptr, nullptr, y,
                 [](T& a, T& b, T& c, T& d, T& v) { v = (a + b + c + d) / 4; });
}
template <class T> void Pooling<T>::spread(const Pool& p, bool pad_counts, const T* g, T* dx) {
  if (!take_squares(p, "avg_pool2d spread squares", "avg_pool2d spread sweep"))
    return sweep_means<true>(p, pad_counts, g, dx);
  each_square<T>(p, nullptr, dx, g, nullptr,
                 [](T& a, T& b, T& c, T& d, T& v) { a = b = c = d = v / 4; });
}

template struct Pooling<float>;
template struct Pooling<double>;

}}  // namespace descent::detail
