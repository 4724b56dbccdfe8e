#include "descent/core/convolve.hpp"

#include "descent/core/blas.hpp"
#include "descent/core/depthwise.hpp"
#include "descent/core/winograd.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {
namespace {

// ---- as a product with the gathered windows

/// The windows of a piece on some channels as the columns of a matrix [channels taps, places].
template <class T> class Columns {
 public:
  Columns(const Windows& w, const Piece& b, Planes<const T> x, Range channels)
      : count(b.places(w)), step(count), scratch_(0) {
    if (w.trivial() && b.images == 1) {
      step = x.cells;
      data = x.at(b.image, channels.begin) + b.first * w.columns;
      return;
    }
    scratch_ = Scratch<T>(channels.size() * w.taps() * count + 16);
    for (int64_t i = 0; i < channels.size(); ++i)
      im2col(w, b, x, channels.begin + i, scratch_.data() + i * w.taps() * count, count);
    data = scratch_.data();
  }
  const T* data;
  int64_t count, step;  // columns, and from row to row

 private:
  Scratch<T> scratch_;
};

/// Adds to x a matrix of that form: product(to, step, beta) makes to = product + beta to.
template <class T, class Product>
void add_columns(const Windows& w, const Piece& b, Planes<T> x, Range channels, Product product) {
  if (w.trivial() && b.images == 1)
    return product(x.at(b.image, channels.begin) + b.first * w.columns, x.cells, T(1));
  const int64_t count = b.places(w);
  const Scratch<T> sums(channels.size() * w.taps() * count);
  product(sums.data(), count, T(0));
  for (int64_t i = 0; i < channels.size(); ++i)
    col2im(w, b, sums.data() + i * w.taps() * count, count, x, channels.begin + i);
}

template <class T> class Im2col {
 public:
  Im2col(const Conv& c, const T* weight)
      : windows(c.windows),
        places_(cells(c.windows.rows, c.windows.columns)),
        c_(c),
        weight_(weight) {}

  int64_t piece_places() const {
    constexpr int64_t bytes = 1 << 20;  // of columns, to stay in a core's own cache
    return std::clamp<int64_t>(bytes / (c_.depth() * int64_t{sizeof(T)}), 64, 1024);
  }
  int64_t weight_size() const { return c_.groups * c_.out * c_.depth(); }

  void forward(const Piece& b, int64_t group, Range outs, Planes<const T> x, const T* bias,
               Planes<T> y) const {
    for (int64_t image = b.image; image < b.image + b.images; ++image)
      for (int64_t o = group * c_.out + outs.begin; o < group * c_.out + outs.end; ++o)
        std::fill_n(y.at(image, o) + b.first * windows.columns,
                    (b.last - b.first) * windows.columns, bias ? bias[o] : T(0));
    const Columns<T> columns(windows, b, x, channels(group, c_.in, {0, c_.in}));
    const T* w = weight_ + (group * c_.out + outs.begin) * c_.depth();
    add_columns(places_, b, y, channels(group, c_.out, outs), [&](T* to, int64_t step, T beta) {
      blas::gemm<T>(false, false, outs.size(), columns.count, c_.depth(), 1, w, c_.depth(),
                    columns.data, columns.step, beta, to, step);
    });
  }
  void input(const Piece& b, int64_t group, Range ins, Planes<const T> g, Planes<T> dx) const {
    for (int64_t image = b.image; b.first == 0 && image < b.image + b.images; ++image)
      std::fill_n(dx.at(image, group * c_.in + ins.begin), ins.size() * dx.cells, T(0));
    const Columns<T> columns(places_, b, g, channels(group, c_.out, {0, c_.out}));
    const T* w = weight_ + group * c_.out * c_.depth() + ins.begin * windows.taps();
    add_columns(windows, b, dx, channels(group, c_.in, ins), [&](T* to, int64_t step, T beta) {
      blas::gemm<T>(true, false, ins.size() * windows.taps(), columns.count, c_.out, 1, w,
                    c_.depth(), columns.data, columns.step, beta, to, step);
    });
  }
  void weight(const Piece& b, int64_t group, Range ins, Planes<const T> x, Planes<const T> g,
              T beta, T* sum) const {
    const Columns<T> in_x(windows, b, x, channels(group, c_.in, ins));
    const Columns<T> in_g(places_, b, g, channels(group, c_.out, {0, c_.out}));
    blas::gemm<T>(false, true, c_.out, ins.size() * windows.taps(), in_x.count, 1, in_g.data,
                  in_g.step, in_x.data, in_x.step, beta,
                  sum + group * c_.out * c_.depth() + ins.begin * windows.taps(), c_.depth());
  }
  void finish(const T* sum, T* dweight) const { std::copy_n(sum, weight_size(), dweight); }

  const Windows windows;

 private:
  static Range channels(int64_t group, int64_t of_group, Range some) {
    return {group * of_group + some.begin, group * of_group + some.end};
  }
  const Windows places_;  // the cells of y
  const Conv& c_;
  const T* weight_;
};

// ---- tiles, whatever the method

/// At least so many tiles for the threads, but none with fewer places; a single image is cut into
/// parts of its channels, each of which gathers the windows anew: fewer of these.
constexpr int64_t kTiles = 8, kPlaces = 64, kParts = 4;
/// Sums of a weight's gradient, one for each of some pieces, hold at most so many elements.
constexpr int64_t kSums = 1 << 22;

/// How images are cut into pieces: by their sizes alone, so that bits do not depend on threads.
struct Pieces {
  int64_t all_images, all_rows, images, rows;

  Pieces(int64_t images_, const Windows& w, int64_t places)
      : all_images(images_),
        all_rows(w.rows),
        images(std::clamp<int64_t>(
            places / w.places(), 1,
            std::min(images_, std::max(ceil_div(images_, kTiles), kPlaces / w.places())))),
        rows(images > 1 ? w.rows : std::clamp<int64_t>(places / w.columns, 1, w.rows)) {}
  int64_t down() const { return ceil_div(all_rows, rows); }
  int64_t across() const { return ceil_div(all_images, images); }
  int64_t count() const { return across() * down(); }
  Piece at(int64_t i) const {
    const int64_t image = i / down() * images, row = i % down() * rows;
    return {image, std::min(images, all_images - image), row, std::min(row + rows, all_rows)};
  }
};

/// f(i, group, some channels of the group) for i in [0, n), in at least about `wanted` tiles.
template <class F>
void for_each_tile(int64_t n, const Conv& c, int64_t channels, int64_t wanted, F f) {
  const int64_t parts = std::clamp<int64_t>(wanted / (n * c.groups), 1, channels);
  parallel_for(n * c.groups * parts, [&](int64_t t) {
    const int64_t part = t % parts;
    f(t / parts / c.groups, t / parts % c.groups,
      Range{channels * part / parts, channels * (part + 1) / parts});
  });
}

template <class T> Planes<T> x_planes(const Conv& c, T* x) {
  return {x, c.groups * c.in, c.windows.height * c.windows.width};
}
template <class T> Planes<T> y_planes(const Conv& c, T* y) {
  return {y, c.groups * c.out, c.windows.places()};
}

template <class T, class Method>
void forward(const Method& method, const Conv& c, const T* x, const T* bias, T* y) {
  const Pieces pieces(c.images, method.windows, method.piece_places());
  for_each_tile(pieces.count(), c, c.out, kParts, [&](int64_t i, int64_t group, Range outs) {
    method.forward(pieces.at(i), group, outs, x_planes(c, x), bias, y_planes(c, y));
  });
}

template <class T, class Method>
void weight_gradient(const Method& method, const Conv& c, const T* x, const T* g, T* dweight) {
  const Pieces pieces(c.images, method.windows, method.piece_places());
  const int64_t size = method.weight_size(), count = pieces.count();
  const int64_t sums = std::clamp<int64_t>(kSums / size, 1, std::min(count, kTiles));
  const Scratch<T> sum(sums * size);
  for_each_tile(sums, c, c.in, kTiles, [&](int64_t i, int64_t group, Range ins) {
    const int64_t first = count * i / sums, last = count * (i + 1) / sums;
    for (int64_t j = first; j < last; ++j)
      method.weight(pieces.at(j), group, ins, x_planes(c, x), y_planes(c, g), T(j > first),
                    sum.data() + i * size);
  });
  parallel_for(tiles_of(size), [&](int64_t t) {
    T* const total = sum.data() + t * kGrain;
    for (int64_t i = 1; i < sums; ++i)
      simd::map([](T a, T b) { return a + b; }, std::min(kGrain, size - t * kGrain), total,
                static_cast<const T*>(total), static_cast<const T*>(total + i * size));
  });
  method.finish(sum.data(), dweight);
}

/// Who asks for float64 asks for its last digits.
template <class T> constexpr bool winograd_serves = std::is_same_v<T, float>;

/// f with the method that serves c best.
template <class T, class F> void with_method(const Conv& c, const T* weight, F f) {
  if constexpr (winograd_serves<T>) {
    if (Winograd<T>::serves(c)) return f(Winograd<T>(c, weight));
  }
  if (Depthwise<T>::serves(c)) f(Depthwise<T>(c, weight));
  else f(Im2col<T>(c, weight));
}
}  // namespace

template <class T> void convolve(const Conv& c, const T* x, const T* weight, const T* bias, T* y) {
  with_method(c, weight, [&](const auto& method) { forward(method, c, x, bias, y); });
}

template <class T> void convolve_input(const Conv& c, const T* g, const T* weight, T* dx) {
  if (const Conv turned = c.adjoint(); c.has_adjoint()) {
    if constexpr (winograd_serves<T>)
      if (Winograd<T>::serves(turned))
        return forward<T>(Winograd<T>(turned, weight, true), turned, g, nullptr, dx);
    if (Depthwise<T>::serves(turned))
      return forward<T>(Depthwise<T>(turned, weight, true), turned, g, nullptr, dx);
  }
  const Im2col<T> method(c, weight);
  const Pieces pieces(c.images, method.windows, method.piece_places());
  for_each_tile(pieces.across(), c, c.in, kParts, [&](int64_t i, int64_t group, Range ins) {
    for (int64_t row = 0; row < pieces.down(); ++row)  // windows overlap: all of an image's rows
      method.input(pieces.at(i * pieces.down() + row), group, ins, y_planes(c, g), x_planes(c, dx));
  });
}

template <class T> void convolve_weight(const Conv& c, const T* x, const T* g, T* dweight) {
  with_method<T>(c, nullptr,
                 [&](const auto& method) { weight_gradient(method, c, x, g, dweight); });
}

template void convolve(const Conv&, const float*, const float*, const float*, float*);
template void convolve(const Conv&, const double*, const double*, const double*, double*);
template void convolve_input(const Conv&, const float*, const float*, float*);
template void convolve_input(const Conv&, const double*, const double*, double*);
template void convolve_weight(const Conv&, const float*, const float*, float*);
template void convolve_weight(const Conv&, const double*, const double*, double*);

}}  // namespace descent::detail
