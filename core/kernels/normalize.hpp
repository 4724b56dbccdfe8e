#pragma once
#include "descent/core/kernels/reduce.hpp"

// Normalisation on raw elements: x - mean, divided by the size, and then a weight and a bias.

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// The groups of x, which is seen as [outer, batch, blocks, row]: numbers that differ in outer and
/// row only. They have common moments, of which `squares` is the mean. The weight and the bias have
/// the shape [blocks, row]. Either outer or batch is 1.
struct Groups {
  int64_t outer, batch, blocks, row;
  double eps;     // is added to the variance
  bool centered;  // or the mean counts as 0

  /// Of `kStep` batches, or of kRunResults outer ones, the gradients of the weight are added up one
  /// after the other: for each, there is a part.
  int64_t parts() const { return std::max(ceil_div(batch, kStep), ceil_div(outer, kRunResults)); }
  static constexpr int64_t kStep = 16;
};

/// How the numbers of a group are normalised. A mean that T does not hold has a rest.
template <class T> struct Standard {
  Standard(const Moment& m, double eps)
      : mean(static_cast<T>(m.mean)),
        rest(static_cast<T>(std::isfinite(mean) ? (m.mean - mean) + m.rest : 0)),
        scale(static_cast<T>(1 / std::sqrt(m.squares + eps))) {}
  [[gnu::always_inline]] T operator()(T v) const { return ((v - mean) - rest) * scale; }
  T mean, rest, scale;
};

/// f(tile, block, group) for each group, on several threads.
template <class F> void each_group(const Groups& p, F f) {
  parallel_for(ceil_div(p.batch, p.kStep) * p.blocks, [&](int64_t t) {
    const int64_t tile = t / p.blocks, block = t % p.blocks, begin = tile * p.kStep;
    for (int64_t i = begin; i < std::min(begin + p.kStep, p.batch); ++i)
      f(tile, block, i * p.blocks + block);
  });
}

/// y = (x - mean) / sqrt(variance + eps) w + b, and the moments m.
template <class T>
void normalize(const Groups& p, const T* x, const T* w, const T* b, Moment* m, T* y) {
  const int64_t stride = p.batch * p.blocks * p.row;
  each_group(p, [=](int64_t, int64_t block, int64_t group) {
    m[group] = simd::call(
        [&] { return moment_of(x + group * p.row, p.outer, stride, p.row, p.centered); });
    m[group].squares /= static_cast<double>(p.outer * p.row);
    auto f = [s = Standard<T>(m[group], p.eps)](T v, T a, T c) { return s(v) * a + c; };
    for (int64_t at = group * p.row; at < p.outer * stride; at += stride)
      simd::map(f, p.row, y + at, x + at, w + block * p.row, b + block * p.row);
  });
}

/// dx, from the gradient g of y. To `parts`, [p.parts(), 2, blocks, row], it adds the gradients of
/// the weight and of the bias.
template <class T>
void normalize_back(const Groups& p, const T* x, const T* w, const Moment* m, const T* g, T* dx,
                    T* parts) {
  const int64_t stride = p.batch * p.blocks * p.row, all = p.blocks * p.row;
  each_group(p, [=](int64_t tile, int64_t block, int64_t group) {
    const Standard<T> s(m[group], p.eps);
    const T* const factor = w + block * p.row;
    T slope[kRunResults * kLanes], outer[kRunResults * kLanes];
    double sum = 0, tilt = 0;  // of g w, and of that times the normalised x
    for (int64_t o = 0; o < p.outer; ++o)
      for (int64_t i = 0, n; i < p.row; i += n) {
        n = std::min<int64_t>(std::size(slope), p.row - i);
        const int64_t at = o * stride + group * p.row + i;
        T* const dw = parts + (tile + o / kRunResults) * 2 * all + block * p.row + i;
        auto step = [s](T v, T d, T a, T& to_w, T& to_b, T& by_x, T& by_1) {
          const T product = s(v) * d;
          to_w += product;
          to_b += d;
          by_x = product * a;
          by_1 = d * a;
        };
        simd::for_each(step, n, x + at, g + at, factor + i, dw, dw + all, slope, outer);
        simd::call([&] {
          auto wide = [](T v) { return static_cast<double>(v); };
          tilt += reduce_row<Plus>(slope, n, wide);
          sum += reduce_row<Plus>(outer, n, wide);
        });
      }
    const auto n = static_cast<double>(p.outer * p.row);
    auto f = [s, mean = static_cast<T>(p.centered ? sum / n : 0), turn = static_cast<T>(tilt / n)](
                 T v, T d, T a) { return (d * a - mean - s(v) * turn) * s.scale; };
    for (int64_t at = group * p.row; at < p.outer * stride; at += stride)
      simd::map(f, p.row, dx + at, x + at, g + at, factor);
  });
}

}}  // namespace descent::detail
