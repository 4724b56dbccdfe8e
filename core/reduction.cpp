#include "descent/core/reduction.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "descent/core/graph.hpp"
#include "descent/core/ops.hpp"
#include "descent/core/reduce.hpp"
#include "descent/core/vmath.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail {

Axes::Axes(const char* op, const In& x, const Shape& dims) {
  check(op, x);
  if (dims.rank() == 0) mask = (1U << x.dim()) - 1;
  for (int64_t dim : dims) {
    const int d = wrap_dim(op, dim, x.dim(), x.at);
    if (contain(d))
      fail<ShapeError>(x.at, "{}: dims {} of a tensor {} name an axis twice", op, dims, x.shape());
    mask |= 1U << d;
  }
  for (int i = 0; i < x.dim(); ++i)
    if (contain(i)) count *= x.shape()[i];
}

Axes Axes::back_to(const Shape& shape, const In& x) {
  Axes axes;
  const int in_front = x.dim() - shape.rank();
  for (int i = 0; i < x.dim(); ++i)
    if (i < in_front || shape[i - in_front] != x.shape()[i]) axes.mask |= 1U << i;
  return axes;
}

Shape Axes::taken_from(const Shape& wide, bool keepdim) const {
  Shape shape;
  for (int i = 0; i < wide.rank(); ++i)
    if (!contain(i) || keepdim) shape.push_back(contain(i) ? 1 : wide[i]);
  return shape;
}

Passes::Passes(const Shape& shape, const Axes& axes) {
  size_[0] = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] == 1) continue;
    if (axes.contain(i) != (count_ % 2 == 0)) size_[count_++] = 1;
    size_[count_ - 1] *= shape[i];
  }
}

Pass Passes::next() {
  Pass p{1, count_ > 1 ? size_[1] : 1, size_[0], 0, 0};
  for (int i = 2; i < count_; ++i) p.outer *= size_[i];
  p.height = p.inner == 1 ? kGrain : kRun * kRun;
  p.cuts = std::max<int64_t>(ceil_div(p.n, p.height), 1);
  if (p.cuts > 1) {
    size_[1] = p.cuts;
  } else {  // the kept axes around them are neighbours now
    if (count_ > 2) size_[0] *= size_[2];
    for (int i = 3; i < count_; ++i) size_[i - 2] = size_[i];
    count_ = std::max(count_ - 2, 1);
  }
  return p;
}

}  // namespace detail

namespace {

using detail::Axes;

constexpr auto magnitude = [](auto v) { return std::abs(static_cast<double>(v)); };
constexpr auto squared = [](auto v) { return static_cast<double>(v) * static_cast<double>(v); };

void check_floating(const char* op, const In& x) {
  detail::check(op, x);
  if (!is_floating(x.dtype())) detail::refuse_dtype(op, Kinds::floating, x.dtype(), x.at);
}

void check_not_empty(const char* op, const In& x, const Axes& axes) {
  if (axes.count == 0)
    fail<ShapeError>(x.at, "{}: no element of {} to choose from: need at least one", op, x.shape());
}

Tensor plain_sum(const char* op, const In& x, const Axes& axes, const Shape& shape) {
  return detail::visit<Kinds::any>(op, x.dtype(), x.at, [&](auto zero) {
    return detail::reduce<detail::Plus, decltype(zero)>(op, x, axes, shape, detail::Value{});
  });
}

/// f of each element of a floating x, added up.
template <class F>
Tensor sum_of(F f, const char* op, const In& x, const Axes& axes, const Shape& shape) {
  return detail::visit<Kinds::floating>(op, x.dtype(), x.at, [&](auto zero) {
    return detail::reduce<detail::Plus, decltype(zero)>(op, x, axes, shape, f);
  });
}

/// The elements combined by Fold, Larger or Smaller; its identity for none.
template <class Fold>
Tensor extreme_value(const char* op, const In& x, const Axes& axes, const Shape& shape) {
  return detail::visit<Kinds::numeric>(op, x.dtype(), x.at, [&](auto zero) {
    return detail::reduce<Fold, decltype(zero)>(op, x, axes, shape, detail::Value{});
  });
}

/// A result over `axes` or its gradient, shaped so that it broadcasts to the input's shape `wide`.
Tensor spread(const Tensor& y, const Axes& axes, const Shape& wide) {
  return y.dim() == 0 || y.dim() == wide.rank() ? y : reshape(y, axes.taken_from(wide, true));
}
/// y, but 1 for 0: what 0 may be divided by.
Tensor nonzero(const Tensor& y) { return where(y == 0, 1, y); }

template <class Fold> Tensor extreme(const char* op, const In& x, const Dims& dims, bool keepdim) {
  const Axes axes(op, x, dims);
  check_not_empty(op, x, axes);
  return record(op, extreme_value<Fold>(op, x, axes, axes.taken_from(x.shape(), keepdim)),
                wrt(x, [x, axes](const Tensor& g, const Tensor& y) {
                  const Tensor best = spread(y, axes, x.shape());
                  const Tensor hits = to(x == best, g.dtype());
                  return spread(g, axes, x.shape()) * (hits / sum_to(hits, best.shape()));
                }));
}

/// The first index along the reduced axes (one, or all) where x is its extreme.
template <class Fold> Tensor position(const char* op, const In& x, const Dims& dims, bool keepdim) {
  const Axes axes(op, x, dims);
  check_not_empty(op, x, axes);
  const In source(detail::packed(x), x.at);
  const Shape shape = axes.taken_from(x.shape(), keepdim);
  const Tensor best = extreme_value<Fold>(op, source, axes, shape);
  Tensor out = detail::empty(op, shape, int64, x.at);
  int64_t step = 1;  // between neighbours along the reduced axes
  for (int i = x.dim() - 1; i >= 0 && !axes.contain(i); --i) step *= x.shape()[i];
  const int64_t n = axes.count, per_tile = std::max<int64_t>(detail::kGrain / n, 1);
  detail::visit<Kinds::numeric>(op, x.dtype(), x.at, [&](auto zero) {
    using T = decltype(zero);
    const T* extremes = detail::elements_of<T>(best);
    parallel_for(detail::ceil_div(out.numel(), per_tile), [&](int64_t tile) {
      const int64_t end = std::min((tile + 1) * per_tile, out.numel());
      for (int64_t k = tile * per_tile; k < end; ++k) {
        const T* p = detail::elements_of<T>(source) + k / step * n * step + k % step;
        int64_t i = 0;
        while (p[i * step] != extremes[k] && p[i * step] == p[i * step]) ++i;  // stops at NaN too
        detail::elements_of<int64_t>(out)[k] = i;
      }
    });
  });
  return out;
}

}  // namespace

Tensor sum(const In& x, const Dims& dims, bool keepdim) {
  const Axes axes("sum", x, dims);
  return record("sum", plain_sum("sum", x, axes, axes.taken_from(x.shape(), keepdim)),
                wrt(x, [axes, wide = x.shape()](const Tensor& g) {
                  return expand(spread(g, axes, wide), wide);
                }));
}

Tensor sum_to(const In& x, const Shape& shape) {
  detail::check("sum_to", x);
  if (shape == x.shape()) return x;
  if (!broadcasts_to(shape, x.shape()))
    fail<ShapeError>(x.at, "sum_to: {} does not broadcast to {}: only axes of size 1 widen", shape,
                     x.shape());
  return record("sum_to", plain_sum("sum_to", x, Axes::back_to(shape, x), shape),
                wrt(x, [wide = x.shape()](const Tensor& g) { return expand(g, wide); }));
}

Tensor mean(const In& x, const Dims& dims, bool keepdim) {
  check_floating("mean", x);
  const Axes axes("mean", x, dims);
  const auto n = static_cast<double>(axes.count);
  Tensor value = plain_sum("mean", x, axes, axes.taken_from(x.shape(), keepdim));
  value /= n;
  return record("mean", std::move(value),
                wrt(x, [axes, wide = x.shape(), n = std::max(n, 1.0)](const Tensor& g) {
                  return expand(spread(g / n, axes, wide), wide);
                }));
}

Tensor max(const In& x, const Dims& dims, bool keepdim) {
  return extreme<detail::Larger>("max", x, dims, keepdim);
}
Tensor min(const In& x, const Dims& dims, bool keepdim) {
  return extreme<detail::Smaller>("min", x, dims, keepdim);
}

Tensor argmax(const In& x) { return position<detail::Larger>("argmax", x, Dims{}, false); }
Tensor argmax(const In& x, int64_t dim, bool keepdim) {
  return position<detail::Larger>("argmax", x, dim, keepdim);
}
Tensor argmin(const In& x) { return position<detail::Smaller>("argmin", x, Dims{}, false); }
Tensor argmin(const In& x, int64_t dim, bool keepdim) {
  return position<detail::Smaller>("argmin", x, dim, keepdim);
}

Tensor var(const In& x, const Dims& dims, VarOptions options) {
  check_floating("var", x);
  const Axes axes("var", x, dims);
  const Shape shape = axes.taken_from(x.shape(), options.keepdim);
  const auto n = static_cast<double>(axes.count);
  const double degrees = std::max(0.0, n - options.correction);
  Tensor value;
  {
    NoGradGuard no_grad;
    value = to(sum_of(squared, "var", x - mean(x, dims, true), axes, shape) / degrees, x.dtype());
  }
  const double scale = axes.count == 0 ? 0 : 2 / degrees;
  return record("var", std::move(value), wrt(x, [x, axes, n, scale](const Tensor& g) {
                  const Tensor outer = spread(g * scale, axes, x.shape());
                  return (x - sum_to(x, outer.shape()) / n) * outer;
                }));
}

Tensor norm(const In& x, const Dims& dims, NormOptions options) {
  const double p = options.p;
  check_floating("norm", x);
  if (!(p > 0)) fail<ValueError>(x.at, "norm: p is {}: need a number above 0", p);
  if (std::isinf(p)) return extreme<detail::Larger>("norm", {abs(x), x.at}, dims, options.keepdim);
  const Axes axes("norm", x, dims);
  const Shape shape = axes.taken_from(x.shape(), options.keepdim);
  auto raised = [p](auto v) { return std::pow(magnitude(v), p); };
  Tensor value = p == 2   ? sqrt(sum_of(squared, "norm", x, axes, shape))
                 : p == 1 ? sum_of(magnitude, "norm", x, axes, shape)
                          : pow(sum_of(raised, "norm", x, axes, shape), 1 / p);
  return record("norm", to(value, x.dtype()),
                wrt(x, [x, p, axes](const Tensor& g, const Tensor& y) {
                  const Tensor outer = spread(g, axes, x.shape());
                  const Tensor length = nonzero(spread(y, axes, x.shape()));
                  if (p == 2) return x * (outer / length);
                  return outer * sign(x) * pow(nonzero(abs(x)) / length, p - 1);
                }));
}

Tensor logsumexp(const In& x, const Dims& dims, bool keepdim) {
  check_floating("logsumexp", x);
  const Axes axes("logsumexp", x, dims);
  Tensor value;
  {
    NoGradGuard no_grad;
    const Shape kept = axes.taken_from(x.shape(), true);
    const Tensor top = extreme_value<detail::Larger>("logsumexp", x, axes, kept);
    const Tensor shift = where(isfinite(top), top, 0);  // inf - inf would be NaN
    value = log(sum_to(exp(x - shift), kept)) + shift;
  }
  return record("logsumexp", reshape(value, axes.taken_from(x.shape(), keepdim)),
                wrt(x, [x, axes](const Tensor& g, const Tensor& y) {
                  return spread(g, axes, x.shape()) * exp(x - spread(y, axes, x.shape()));
                }));
}

/// How many elements over `dims` are not zero.
static Tensor count(const char* op, const In& x, const Dims& dims, bool keepdim) {
  const Axes axes(op, x, dims);
  return plain_sum(op, {to(x, boolean), x.at}, axes, axes.taken_from(x.shape(), keepdim));
}
Tensor any(const In& x, const Dims& dims, bool keepdim) {
  return count("any", x, dims, keepdim) > 0;
}
Tensor all(const In& x, const Dims& dims, bool keepdim) {
  const auto n = static_cast<double>(Axes("all", x, dims).count);
  return count("all", x, dims, keepdim) == n;
}

// ---- softmax

namespace {

constexpr int64_t kRows = 256;  // rows that share one loop of exp: most are short
constexpr int64_t kStrip =
    1 << 13;  // elements in so many rows, if rows are short: they stay in cache

enum class Output { probability, log_probability };

/// One strip: `rows` rows of `size` elements, at most kRows.
template <Output output, class T>
[[gnu::always_inline]] inline void strip(const T* __restrict x, int64_t rows, int64_t size,
                                         T* __restrict y) {
  T top[kRows];
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = x + r * size;
    const T shift = top[r] = detail::reduce_row<detail::Larger>(from, size, detail::Value{});
    detail::each_lane(size, [=](int64_t j) { y[r * size + j] = from[j] - shift; });
  }
  detail::each_lane(rows * size, [=](int64_t j) { y[j] = vmath::exp(y[j]); });
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = x + r * size;
    T* to = y + r * size;
    const T sum = detail::reduce_row<detail::Plus>(to, size, detail::Value{});
    if constexpr (output == Output::probability) {
      detail::each_lane(size, [=](int64_t j) { to[j] /= sum; });
    } else {
      const T shift = top[r], log_sum = vmath::log(sum);
      detail::each_lane(size, [=](int64_t j) { to[j] = (from[j] - shift) - log_sum; });
    }
  }
}

/// Along axis d of x: the values alone.
template <Output output> Tensor normalized(const char* op, const In& x, int d) {
  const int last = std::max(x.dim() - 1, 0);
  if (d != last) {
    const Tensor turned = x.detach().transpose(d, last);
    return normalized<output>(op, {turned, x.at}, last).transpose(d, last).contiguous();
  }
  const Tensor source = x.detach().contiguous();
  Tensor out = detail::empty(op, x.shape(), x.dtype(), x.at);
  detail::visit<Kinds::floating>(op, x.dtype(), x.at, [&](auto zero) {
    using T = decltype(zero);
    if (out.numel() == 0) return;
    const int64_t size = x.dim() == 0 ? 1 : x.shape().back(), rows = x.numel() / size;
    const int64_t per_tile = std::clamp<int64_t>(kStrip / size, 1, kRows);
    parallel_for(detail::ceil_div(rows, per_tile), [&](int64_t tile) {
      const int64_t begin = tile * per_tile, count = std::min(per_tile, rows - begin);
      const T* from = detail::elements_of<T>(source) + begin * size;
      T* to = detail::elements_of<T>(out) + begin * size;
      simd::call([&] { strip<output>(from, count, size, to); });
    });
  });
  return out;
}

}  // namespace

Tensor softmax(const In& x) { return softmax(x, -1); }
Tensor softmax(const In& x, int64_t dim) {
  detail::check("softmax", x);
  const int d = detail::wrap_dim("softmax", dim, x.dim(), x.at);
  return record(
      "softmax", normalized<Output::probability>("softmax", x, d),
      wrt(x, [d](const Tensor& g, const Tensor& y) { return y * (g - sum(g * y, d, true)); }));
}

Tensor log_softmax(const In& x) { return log_softmax(x, -1); }
Tensor log_softmax(const In& x, int64_t dim) {
  detail::check("log_softmax", x);
  const int d = detail::wrap_dim("log_softmax", dim, x.dim(), x.at);
  return record(
      "log_softmax", normalized<Output::log_probability>("log_softmax", x, d),
      wrt(x, [d](const Tensor& g, const Tensor& y) { return g - exp(y) * sum(g, d, true); }));
}

}  // namespace descent
