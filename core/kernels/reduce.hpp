#pragma once
#include <cmath>
#include <limits>

#include "descent/core/kernels/copy.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/vmath.hpp"

// The engine behind reductions. A reduction is a Fold (an identity, and how two partial results
// become one) and a map from an element to a partial result:
// `reduce<Plus, Kinds::any>("sum", x, axes, shape)`.
//
// The shape alone decides the order in which partial results are combined, so threads change no
// bit. At each of the levels below, at most 32 of them are combined one after the other; then their
// result is a partial result of the next level. So the error of a sum grows with the logarithm of
// its length n: it is below 8 eps log2(n) sum |x|.

namespace [[gnu::visibility("default")]] descent { namespace detail {

struct Plus {
  template <class A> static A identity() { return 0; }
  template <class A> static A combine(A a, A b) { return ring::add(a, b); }
};
/// For Larger, NaN is larger than every number; for Smaller, it is smaller. So one NaN makes the
/// result NaN.
struct Larger {
  template <class A> static A identity() {
    using Limits = std::numeric_limits<A>;
    return Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
  }
  template <class A> static A combine(A a, A b) { return a >= b || a != a ? a : b; }
};
struct Smaller {
  template <class A> static A identity() {
    using Limits = std::numeric_limits<A>;
    return Limits::has_infinity ? Limits::infinity() : Limits::max();
  }
  template <class A> static A combine(A a, A b) { return a <= b || a != a ? a : b; }
};

/// The element itself; bools count as 0 and 1.
struct Value {
  template <class T> auto operator()(T v) const {
    if constexpr (std::is_same_v<T, bool>) return int64_t{v};
    else return v;
  }
};

inline constexpr int64_t kLanes = 32;          // a row is reduced as a matrix of kLanes columns
inline constexpr int64_t kRunResults = 32;     // partial results combined one after the other
inline constexpr int64_t kWidthColumns = 128;  // columns reduced side by side
static_assert(kLanes * kRunResults * kRunResults == kTileElements);

/// Calls body(j) for j in [0, n), inlined, in loops that vectorise. The first loop has a multiple
/// of kLanes turns. The second has 8 at a time, because rows shorter than kLanes are common.
template <class Body> [[gnu::always_inline]] inline void each_lane(int64_t n, Body body) {
  const int64_t multiple = n / kLanes * kLanes;
  int64_t j = 0;
  for (; j < multiple; ++j) body(j);
  for (; j + 8 <= n; j += 8)
    for (int64_t k = 0; k < 8; ++k) body(j + k);
  for (; j < n; ++j) body(j);
}

/// total[j] = all x[i * stride + j] combined over the rows i. `width` is at most kWidthColumns.
template <class Fold, class T, class Map, class A>
[[gnu::always_inline]] inline void reduce_columns(const T* x, int64_t rows, int64_t stride,
                                                  int64_t width, Map map, A* total) {
  A run[kWidthColumns];
  each_lane(width, [&](int64_t j) { total[j] = Fold::template identity<A>(); });
  for (int64_t begin = 0; begin < rows; begin += kRunResults) {
    const int64_t end = begin + kRunResults < rows ? begin + kRunResults : rows;
    each_lane(width, [&](int64_t j) { run[j] = map(x[begin * stride + j]); });
    for (int64_t i = begin + 1; i < end; ++i)
      each_lane(width, [&](int64_t j) { run[j] = Fold::combine(run[j], map(x[i * stride + j])); });
    each_lane(width, [&](int64_t j) { total[j] = Fold::combine(total[j], run[j]); });
  }
}

/// x[0], ..., x[n - 1] combined.
template <class Fold, class T, class Map>
[[gnu::always_inline]] inline auto reduce_row(const T* x, int64_t n, Map map) {
  using A = decltype(map(*x));
  A result = Fold::template identity<A>();
  const int64_t rows = n / kLanes;
  if (rows > 0) {
    static_assert(kLanes == 32);  // loops of constant length vectorise
    A lane[kLanes];
    reduce_columns<Fold>(x, rows, kLanes, kLanes, map, lane);
    for (int j = 0; j < 16; ++j) lane[j] = Fold::combine(lane[j], lane[j + 16]);
    for (int j = 0; j < 8; ++j) lane[j] = Fold::combine(lane[j], lane[j + 8]);
    for (int j = 0; j < 4; ++j) lane[j] = Fold::combine(lane[j], lane[j + 4]);
    for (int j = 0; j < 2; ++j) lane[j] = Fold::combine(lane[j], lane[j + 2]);
    result = Fold::combine(lane[0], lane[1]);
  }
  for (int64_t i = rows * kLanes; i < n; ++i) result = Fold::combine(result, map(x[i]));
  return result;
}

/// The axes of x that a reduction removes.
struct Axes {
  /// The axes in `dims`, or all axes if the list is empty. IndexError for an axis that x does not
  /// have, ShapeError for an axis that is named twice.
  Axes(const char* op, const In& x, const Shape& dims);

  bool contain(int d) const { return (mask >> d & 1) != 0; }
  /// The shape of x without these axes or, if `keepdim`, with size 1 in their place.
  Shape left(bool keepdim) const;

  Shape input;  // the shape of x
  uint32_t mask = 0;
  int64_t count = 1;  // elements of x for each element of the result
};

/// A pass over a contiguous tensor, seen as [outer, n, inner]. It cuts the axis n into `cuts`
/// pieces of at most `height` elements, combines each piece, and leaves [outer, cuts, inner].
struct Pass {
  int64_t outer, n, inner, height, cuts;
};

/// The passes that a reduction needs.
class Passes {
 public:
  explicit Passes(const Axes& axes);
  /// The pass over the last reduced axes. Afterwards the object describes what this pass leaves.
  Pass next();
  bool done() const { return count_ < 2; }

 private:
  // The sizes of x's axes from the back, neighbours of one kind merged: kept, reduced, kept, ...
  int64_t size_[kMaxRank + 1];
  int count_ = 1;
};

template <class Fold, class T, class Map, class A>
void run_pass(const Pass& p, const T* x, Map map, A* out) {
  const int64_t strips = ceil_div(p.inner, kWidthColumns), pieces = p.outer * p.cuts * strips;
  const int64_t work = std::min(p.n, p.height) * std::min(p.inner, kWidthColumns);
  const int64_t per_tile = std::max<int64_t>(kTileElements / std::max<int64_t>(work, 1), 1);
  parallel_for(ceil_div(pieces, per_tile), [&](int64_t tile) {
    simd::call([&] {
      int64_t piece = tile * per_tile;
      const int64_t end = std::min(piece + per_tile, pieces);
      int64_t strip = piece % strips, cut = piece / strips % p.cuts, o = piece / strips / p.cuts;
      for (; piece < end; ++piece) {
        const int64_t begin = cut * p.height, rows = std::min(p.height, p.n - begin);
        const T* from = x + (o * p.n + begin) * p.inner + strip * kWidthColumns;
        A* to = out + (o * p.cuts + cut) * p.inner + strip * kWidthColumns;
        if (p.inner == 1) {
          *to = reduce_row<Fold>(from, rows, map);
        } else {
          A total[kWidthColumns];
          const int64_t columns = std::min(kWidthColumns, p.inner - strip * kWidthColumns);
          reduce_columns<Fold>(from, rows, p.inner, columns, map, total);
          each_lane(columns, [&](int64_t j) { to[j] = total[j]; });
        }
        if (++strip < strips) continue;
        strip = 0;
        if (++cut < p.cuts) continue;
        cut = 0;
        ++o;
      }
    });
  });
}

template <class Fold, class T, class Map, class A>
void run_passes(const char* op, At at, Passes& passes, const T* x, Map map, A* out) {
  const Pass pass = passes.next();
  if (passes.done()) return run_pass<Fold>(pass, x, map, out);
  const Tensor left = empty(op, {pass.outer, pass.cuts, pass.inner}, dtype_of<A>(), at);
  run_pass<Fold>(pass, x, map, elements_of<A>(left));
  run_passes<Fold>(op, at, passes, elements_of<A>(left), Value{}, out);
}

/// The elements of x, mapped and combined over `axes`: a tensor of shape `shape`, whose dtype is
/// the one that `map` returns. The dtype of x is among `K`.
template <class Fold, Kinds K, class Map = Value>
Tensor reduce(const char* op, const In& x, const Axes& axes, const Shape& shape, Map map = {}) {
  return visit<K>(op, x.dtype(), x.at, [&]<class T>(T) {
    using A = decltype(map(T()));
    const Tensor source = pack(x);
    Tensor out = empty(op, shape, dtype_of<A>(), x.at);
    Passes passes(axes);
    if (out.numel() != 0)
      run_passes<Fold>(op, x.at, passes, elements_of<T>(source), map, elements_of<A>(out));
    return out;
  });
}

// ---- moments

/// Of a group of numbers: their mean, which is the sum mean + rest of two doubles, and the sum of
/// their squared distances from it.
struct Moment {
  double mean, rest, squares;
};

/// mean + rest = base + shift, exactly (Knuth, The Art of Computer Programming 2, 4.2.2).
inline void add_exactly(double base, double shift, double& mean, double& rest) {
  mean = base + shift;
  const double part = mean - base;
  rest = std::isfinite(mean) ? (base - (mean - part)) + (shift - part) : 0;
}

/// Of the group of n numbers in each of `rows` rows, `stride` apart, at least one in all. It adds
/// up distances from the first number, so that the mean of equal numbers is that number. If not
/// `centered`, the mean is taken as 0. It is inlined, because many groups are short.
template <class T>
[[gnu::always_inline]] inline Moment moment_of(const T* x, int64_t rows, int64_t stride, int64_t n,
                                               bool centered = true) {
  const int64_t cuts = count_tiles(n), pieces = rows * cuts;
  auto total = [=](auto map) __attribute__((always_inline)) {
    if (pieces == 1) return reduce_row<Plus>(x, n, map);
    std::vector<double> sums(static_cast<std::size_t>(pieces));
    parallel_for(pieces, [=, to = sums.data()](int64_t i) {
      const int64_t begin = i % cuts * kTileElements, size = std::min(kTileElements, n - begin);
      const T* const from = x + i / cuts * stride + begin;
      to[i] = simd::call([=] { return reduce_row<Plus>(from, size, map); });
    });
    return reduce_row<Plus>(sums.data(), pieces, Value{});
  };
  Moment m{};
  if (centered) {
    const double base = *x, sum = total([=](T v) { return v - base; });
    add_exactly(base, sum / static_cast<double>(rows * n), m.mean, m.rest);
  }
  m.squares = total([m](T v) {
    const double off = (v - m.mean) - m.rest;
    return off * off;
  });
  return m;
}

// ---- softmax

inline constexpr int64_t kStripRows = 256;  // rows that share one loop of exp: most are short
inline constexpr int64_t kStripElements = 1 << 13;  // of a strip of short rows, to stay in cache

/// Calls f(begin, count) on several threads, for strips of at most kStripRows rows. There are
/// `rows` rows of `size` elements.
template <class F> void each_strip(int64_t rows, int64_t size, F f) {
  const int64_t count =
      std::clamp<int64_t>(kStripElements / std::max<int64_t>(size, 1), 1, kStripRows);
  parallel_for(ceil_div(rows, count),
               [&](int64_t tile) { f(tile * count, std::min(count, rows - tile * count)); });
}

/// y = exp(y). (GCC does not vectorise this in `each_lane`.)
template <class T> [[gnu::always_inline]] inline void exp_all(int64_t n, T* y) {
  auto exp = [](T& v) { v = vmath::exp(v); };
  simd::detail::loop(exp, n, y);
}

/// y = exp(x - max x) for each row of a strip; `top` gets max x of each row, and `sum` gets sum y.
template <class T>
[[gnu::always_inline]] inline void exp_rows(const T* __restrict x, int64_t rows, int64_t size,
                                            T* __restrict y, T* top, T* sum) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = x + r * size;
    const T shift = top[r] = reduce_row<Larger>(from, size, Value{});
    each_lane(size, [=](int64_t j) { y[r * size + j] = from[j] - shift; });
  }
  exp_all(rows * size, y);
  for (int64_t r = 0; r < rows; ++r) sum[r] = reduce_row<Plus>(y + r * size, size, Value{});
}

}}  // namespace descent::detail
