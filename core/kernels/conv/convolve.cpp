#include "descent/core/kernels/conv/convolve.hpp"

#include <atomic>
#include <mutex>
#include <span>

#include "descent/core/base/paths.hpp"
#include "descent/core/kernels/conv/depthwise.hpp"
#include "descent/core/kernels/conv/winograd.hpp"
#include "descent/core/runtime/blas.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {

std::atomic<bool> winograd_on = true;

namespace {

// ---- as a product with the gathered windows

/// A matrix that is made in `scratch`, or lies elsewhere: then `data` points there.
template <class T> struct Columns {
  Columns(const Shape& made, int64_t step_, int64_t more = 0)
      : scratch(made, more), data(scratch.data()), step(step_) {}
  Scratch<T> scratch;
  const T* data;
  int64_t step;  // from one row to the next
};

template <class T> class Im2col {
 public:
  Im2col(const Conv& c, const T* weight) : geometry(c.geometry), c_(c), weight_(weight) {}

  int64_t piece_places() const {
    constexpr int64_t bytes = 1 << 20;  // of columns, to stay in a core's own cache
    const int64_t places = std::clamp<int64_t>(bytes / (c_.depth() * int64_t{sizeof(T)}), 64, 1024);
    const int64_t few = blas::kUnpackedProducts / (c_.out * c_.depth());  // not packed
    const bool pays = few >= std::min<int64_t>(geometry.places(), 512);
    return take("conv few channels", pays) ? std::min(few, places) : places;
  }
  int64_t weight_size() const { return c_.groups * c_.out * c_.depth(); }

  void forward(const Piece& b, int64_t group, Channels outs, Planes<const T> x, const T* bias,
               Planes<T> y) const {
    const int64_t n = b.places(geometry), first = group * c_.out + outs.begin;
    const Columns<T> columns = windows_of(b, x, group, {0, c_.in});
    const Scratch<T> result(Shape{outs.size(), n});
    blas::gemm<T>(false, false, outs.size(), n, c_.depth(), 1, weight_ + first * c_.depth(),
                  c_.depth(), columns.data, columns.step, 0, result.data(), n);
    const int64_t cells = n / b.images;
    for (int64_t i = 0; i < outs.size() * b.images; ++i) {
      const int64_t o = first + i / b.images, image = b.image + i % b.images;
      simd::map([](T sum, T start) { return sum + start; }, cells,
                y.at(image, o) + b.first * geometry.columns,
                static_cast<const T*>(result.data() + i * cells),
                simd::Scalar{bias ? bias[o] : T(0)});
    }
  }

  void input(const Piece& b, int64_t group, Channels ins, Planes<const T> g, Planes<T> dx) const {
    const int64_t n = b.places(geometry), first = group * c_.in + ins.begin, taps = geometry.taps();
    for (int64_t image = b.image; b.first == 0 && image < b.image + b.images; ++image)
      std::fill_n(dx.at(image, first), ins.size() * dx.cells, T(0));
    const Columns<T> places = planes_of(b, g, {group * c_.out, (group + 1) * c_.out});
    auto product = [&](T beta, T* to, int64_t step) {
      blas::gemm<T>(true, false, ins.size() * taps, n, c_.out, 1,
                    weight_ + group * c_.out * c_.depth() + ins.begin * taps, c_.depth(),
                    places.data, places.step, beta, to, step);
    };
    if (geometry.trivial() && b.images == 1 && take("conv pixels input"))
      return product(1, dx.at(b.image, first) + b.first * geometry.columns, dx.cells);
    const Scratch<T> columns(Shape{ins.size(), taps, n});
    product(0, columns.data(), n);
    for (int64_t i = 0; i < ins.size(); ++i)
      col2im(geometry, b, columns.data() + i * taps * n, n, dx, first + i);
  }

  void weight(const Piece& b, int64_t group, Channels ins, Planes<const T> x, Planes<const T> g,
              T beta, T* sum) const {
    const Columns<T> columns = windows_of(b, x, group, ins),
                     places = planes_of(b, g, {group * c_.out, (group + 1) * c_.out});
    blas::gemm<T>(false, true, c_.out, ins.size() * geometry.taps(), b.places(geometry), 1,
                  places.data, places.step, columns.data, columns.step, beta,
                  sum + group * c_.out * c_.depth() + ins.begin * geometry.taps(), c_.depth());
  }
  bool finish(const T* sum, T* dweight) const {
    return std::copy_n(sum, weight_size(), dweight), true;
  }

  const Geometry geometry;

 private:
  /// The cells under the taps, as [channels taps, places].
  Columns<T> windows_of(const Piece& b, Planes<const T> x, int64_t group, Channels ins) const {
    const int64_t first = group * c_.in + ins.begin, n = b.places(geometry), taps = geometry.taps();
    if (geometry.trivial() && take("conv pixels"))
      return planes_of(b, x, {first, first + ins.size()});
    const int64_t step = apart(n);
    Columns<T> columns({ins.size(), taps, step}, step, 8);
    for (int64_t i = 0; i < ins.size(); ++i)
      im2col(geometry, b, x, first + i, columns.scratch.data() + i * taps * step, step);
    return columns;
  }
  /// Planes that have one cell for each place, as [channels, places]: the gradient of y is one.
  Columns<T> planes_of(const Piece& b, Planes<const T> x, Channels channels) const {
    const int64_t n = b.places(geometry);
    if (b.images == 1) {
      Columns<T> there({0}, x.cells);
      there.data = x.at(b.image, channels.begin) + b.first * geometry.columns;
      return there;
    }
    enter("conv planes copied");
    const int64_t step = apart(n);
    Columns<T> columns({channels.size(), step}, step);
    for (int64_t i = 0; i < channels.size(); ++i)
      for (int64_t image = 0; image < b.images; ++image)
        copy_exactly(x.at(b.image + image, channels.begin + i), x.cells,
                     columns.scratch.data() + i * step + image * x.cells);
    return columns;
  }
  /// How far apart rows of n elements lie: rows that begin at the same place of a page would push
  /// one another out of the cache.
  static int64_t apart(int64_t n) { return n % 512 == 0 ? n + 16 : n; }
  const Conv& c_;
  const T* weight_;
};

// ---- by Winograd's tiles, and the places that those spoil as a product

/// Winograd's tiles. The places that they spoil are computed again by the definition.
template <class T> class GuardedWinograd : public Winograd<T> {
 public:
  GuardedWinograd(const Conv& c, const T* weight, bool turned)
      : Winograd<T>(c, weight, turned), c_(c), weight_(weight), turned_(turned) {}

  void forward(const Piece& b, int64_t, Channels outs, Planes<const T> x, const T* bias,
               Planes<T> y) const {
    const std::vector<Place> places = Winograd<T>::forward(b, outs, x, bias, y);
    const int64_t count = std::ssize(places);
    for (int64_t i = 0; i < count; i += 256)
      redo({places.data() + i, std::size_t(std::min<int64_t>(256, count - i))}, outs, x, bias, y);
  }

 private:
  /// Computes y at some places again, by the definition.
  void redo(std::span<const Place> places, Channels outs, Planes<const T> x, const T* bias,
            Planes<T> y) const {
    const int64_t n = std::ssize(places), taps = c_.geometry.taps(), depth = c_.depth();
    const Scratch<T> columns(Shape{depth, n}), result(Shape{outs.size(), n});
    T* to = columns.data();
    for (int64_t k = 0; k < c_.in; ++k)
      for (int64_t tap = 0; tap < taps; ++tap)
        for (const Place& place : places) {
          const T* const cell = cell_under(c_.geometry, x, k, place, tap);
          *to++ = cell ? *cell : T(0);
        }
    blas::gemm<T>(false, false, outs.size(), n, depth, 1, plain_weight() + outs.begin * depth,
                  depth, columns.data(), n, 0, result.data(), n);
    const T* from = result.data();
    for (int64_t o = outs.begin; o < outs.end; ++o)
      for (const Place& place : places)
        y.at(place.image, o)[place.row * c_.geometry.columns + place.column] =
            *from++ + (bias ? bias[o] : T(0));
  }
  /// The weight as [out, in, taps]. A turned one is made at the first call, because it is seldom
  /// needed.
  const T* plain_weight() const {
    if (!turned_) return weight_;
    std::call_once(once_, [this] {
      const int64_t taps = c_.geometry.taps();
      Scratch<T> made(Shape{c_.out, c_.depth()});
      T* to = made.data();
      for (int64_t o = 0; o < c_.out; ++o)
        for (int64_t k = 0; k < c_.in; ++k, to += taps)
          std::reverse_copy(weight_ + (k * c_.out + o) * taps,
                            weight_ + (k * c_.out + o + 1) * taps, to);
      turned_weight_ = std::move(made.tensor);
    });
    return elements_of<T>(turned_weight_);
  }

  const Conv& c_;
  const T* weight_;
  const bool turned_;
  mutable std::once_flag once_;
  mutable Tensor turned_weight_;
};

// ---- tiles, for all methods

/// The least number of tiles for the threads, the least number of places in a tile, and the least
/// number of parts of a single image. Parts are some of its channels. There are fewer of them,
/// because each part gathers the windows again.
constexpr int64_t kLeastTiles = 8, kLeastPlaces = 16, kLeastParts = 4;
/// The most elements in the sums of a weight's gradient, of which each adds up some of the pieces.
constexpr int64_t kSumElements = 1 << 22;

/// How images are cut into pieces. Sizes alone decide it, so that bits do not depend on threads.
struct Pieces {
  int64_t all_images, all_rows, images, rows;

  Pieces(int64_t images_, const Geometry& w, int64_t places)
      : all_images(images_), all_rows(w.rows), images(1), rows(w.rows) {
    const int64_t together = std::clamp<int64_t>(
        places / w.places(), 1,
        std::min(images_, std::max(ceil_div(images_, kLeastTiles), kLeastPlaces / w.places())));
    const int64_t few_rows = std::clamp<int64_t>(places / w.columns, 1, w.rows);
    if (images_ > 1 && take("conv images", together > 1)) images = std::max<int64_t>(together, 2);
    else if (w.rows > 1 && take("conv rows", few_rows < w.rows))
      rows = std::min(few_rows, w.rows - 1);
  }
  int64_t down() const { return ceil_div(all_rows, rows); }
  int64_t across() const { return ceil_div(all_images, images); }
  int64_t count() const { return across() * down(); }
  Piece at(int64_t i) const {
    const int64_t image = i / down() * images, row = i % down() * rows;
    return {image, std::min(images, all_images - image), row, std::min(row + rows, all_rows)};
  }
};

/// Calls f(i, group, some of its channels) for i in [0, n), in about `wanted` tiles or more.
template <class F>
void for_each_tile(int64_t n, const Conv& c, int64_t channels, int64_t wanted, F f) {
  const int64_t parts = std::clamp<int64_t>(wanted / (n * c.groups), 1, channels);
  if (parts > 1) enter("conv parts");
  parallel_for(n * c.groups * parts, [&](int64_t t) {
    const int64_t part = t % parts;
    f(t / parts / c.groups, t / parts % c.groups,
      Channels{channels * part / parts, channels * (part + 1) / parts});
  });
}

template <class T> Planes<T> x_planes(const Conv& c, T* x) {
  return {x, c.groups * c.in, c.geometry.height * c.geometry.width};
}
template <class T> Planes<T> y_planes(const Conv& c, T* y) {
  return {y, c.groups * c.out, c.geometry.places()};
}

template <class T, class Method>
void forward(const Method& method, const Conv& c, const T* x, const T* bias, T* y) {
  const Pieces pieces(c.images, method.geometry, method.piece_places());
  for_each_tile(pieces.count(), c, c.out, kLeastParts,
                [&](int64_t i, int64_t group, Channels outs) {
                  method.forward(pieces.at(i), group, outs, x_planes(c, x), bias, y_planes(c, y));
                });
}

/// False if the method cannot compute this gradient well: then another one must compute it.
template <class T, class Method>
bool weight_gradient(const Method& method, const Conv& c, const T* x, const T* g, T* dweight) {
  const Pieces pieces(c.images, method.geometry, method.piece_places());
  const int64_t size = method.weight_size(), count = pieces.count();
  const int64_t most = std::clamp<int64_t>(kSumElements / size, 1, kLeastTiles);
  const bool shared = count > 1 && take("conv accumulated", count > most);
  const int64_t sums = shared ? std::min(most, count - 1) : count;
  const Scratch<T> sum(Shape{sums, size});
  for_each_tile(sums, c, c.in, kLeastTiles, [&](int64_t i, int64_t group, Channels ins) {
    const int64_t first = count * i / sums, last = count * (i + 1) / sums;
    for (int64_t j = first; j < last; ++j)
      method.weight(pieces.at(j), group, ins, x_planes(c, x), y_planes(c, g), T(j > first),
                    sum.data() + i * size);
  });
  parallel_for(count_tiles(size), [&](int64_t t) {
    T* const total = sum.data() + t * kTileElements;
    for (int64_t i = 1; i < sums; ++i)
      simd::map([](T a, T b) { return a + b; }, std::min(kTileElements, size - t * kTileElements),
                total, static_cast<const T*>(total), static_cast<const T*>(total + i * size));
  });
  return method.finish(sum.data(), dweight);
}

/// The paths of one of the three products.
struct Methods {
  Path im2col, winograd, depthwise;
};
constexpr Methods kForward{"im2col forward", "winograd forward", "depthwise forward"},
    kInput{"im2col input", "winograd input", "depthwise input"},
    kWeight{"im2col weight", "winograd weight", "depthwise weight"};

/// Calls f with a method that is faster than im2col, if there is one for c. False if there is none,
/// or if f returns false. `weight` is the weight of c, or of its adjoint if `turned`.
template <class T, class F>
bool with_special_method(const Methods& paths, const Conv& c, const T* weight, bool turned, F f) {
  if constexpr (std::is_same_v<T, float>) {  // users of float64 want its last digits
    if (winograd_on && Winograd<T>::serves(c) && take(paths.winograd, Winograd<T>::pays(c))) {
      const GuardedWinograd<T> method(c, weight, turned);
      if (method.even() && f(method)) return true;
    }
  }
  if (Depthwise<T>::serves(c) && take(paths.depthwise)) return f(Depthwise<T>(c, weight, turned));
  enter(paths.im2col);
  return false;
}
}  // namespace

template <class T> void convolve(const Conv& c, const T* x, const T* weight, const T* bias, T* y) {
  auto with = [&](const auto& method) { return forward(method, c, x, bias, y), true; };
  if (!with_special_method(kForward, c, weight, false, with)) with(Im2col<T>(c, weight));
}

template <class T> void convolve_input(const Conv& c, const T* g, const T* weight, T* dx) {
  const Conv turned = c.adjoint();
  auto with = [&](const auto& m) { return forward<T>(m, turned, g, nullptr, dx), true; };
  if (!c.has_adjoint()) enter(kInput.im2col);
  else if (with_special_method(kInput, turned, weight, true, with)) return;
  const Im2col<T> method(c, weight);
  const Pieces pieces(c.images, method.geometry, method.piece_places());
  for_each_tile(pieces.across(), c, c.in, kLeastParts, [&](int64_t i, int64_t group, Channels ins) {
    for (int64_t row = 0; row < pieces.down(); ++row)  // windows overlap: one tile for all
      method.input(pieces.at(i * pieces.down() + row), group, ins, y_planes(c, g), x_planes(c, dx));
  });
}

template <class T> void convolve_weight(const Conv& c, const T* x, const T* g, T* dweight) {
  auto with = [&](const auto& method) { return weight_gradient(method, c, x, g, dweight); };
  if (!with_special_method<T>(kWeight, c, nullptr, false, with)) with(Im2col<T>(c, nullptr));
}

template void convolve(const Conv&, const float*, const float*, const float*, float*);
template void convolve(const Conv&, const double*, const double*, const double*, double*);
template void convolve_input(const Conv&, const float*, const float*, float*);
template void convolve_input(const Conv&, const double*, const double*, double*);
template void convolve_weight(const Conv&, const float*, const float*, float*);
template void convolve_weight(const Conv&, const double*, const double*, double*);

}  // namespace detail

}  // namespace descent
