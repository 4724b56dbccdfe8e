#include "descent/core/reduction.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "descent/core/graph.hpp"
#include "descent/core/ops.hpp"
#include "descent/core/paths.hpp"
#include "descent/core/reduce.hpp"
#include "descent/core/vmath.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail {

Axes::Axes(const char* op, const In& x, const Shape& dims) {
  check(op, x);
  whole = x.shape();
  if (dims.rank() == 0) mask = (1U << x.dim()) - 1;
  for (int64_t dim : dims) {
    const int d = wrap_dim(op, dim, x.dim(), x.at);
    if (contain(d))
      fail<ShapeError>(x.at, "{}: dims {} of a tensor {} name an axis twice", op, dims, whole);
    mask |= 1U << d;
  }
  for (int i = 0; i < x.dim(); ++i)
    if (contain(i)) count *= whole[i];
}

Shape Axes::left(bool keepdim) const {
  Shape shape;
  for (int i = 0; i < whole.rank(); ++i)
    if (!contain(i) || keepdim) shape.push_back(contain(i) ? 1 : whole[i]);
  return shape;
}

Tensor Axes::spread(const Tensor& y) const {
  return y.dim() == 0 || y.dim() == whole.rank() ? y : reshape(y, left(true));
}

Passes::Passes(const Axes& axes) {
  size_[0] = 1;
  for (int i = axes.whole.rank() - 1; i >= 0; --i) {
    if (axes.whole[i] == 1) continue;
    if (axes.contain(i) != (count_ % 2 == 0)) size_[count_++] = 1;
    size_[count_ - 1] *= axes.whole[i];
  }
}

Pass Passes::next() {
  Pass p{1, count_ > 1 ? size_[1] : 1, size_[0], 0, 0};
  for (int i = 2; i < count_; ++i) p.outer *= size_[i];
  enter(p.inner == 1 ? Path("reduce rows") : Path("reduce columns"));
  p.height = p.inner == 1 ? kGrain : kRun * kRun;
  if (p.n > 2 && take("reduce cut", p.n > p.height)) p.height = std::min(p.height, p.n - 1);
  p.cuts = std::max<int64_t>(ceil_div(p.n, p.height), 1);
  if (p.cuts > 1) {
    size_[1] = p.cuts;
  } else {  // the kept axes around them are neighbours now
    if (count_ > 2) size_[0] *= size_[2];
    for (int i = 3; i < count_; ++i) size_[i - 2] = size_[i];
    count_ = std::max(count_ - 2, 1);
  }
  if (!done()) enter("reduce passes");
  return p;
}

}  // namespace detail

namespace {

using detail::Axes;
using detail::Larger;
using detail::Plus;
using detail::reduce;
using detail::Smaller;

constexpr auto magnitude = [](auto v) { return std::abs(static_cast<double>(v)); };
constexpr auto squared = [](auto v) { return static_cast<double>(v) * static_cast<double>(v); };

void check_floating(const char* op, const In& x) {
  detail::check(op, x);
  if (!is_floating(x.dtype())) detail::refuse_dtype(op, Kinds::floating, x.dtype(), x.at);
}

/// y, but 1 for 0: what 0 may be divided by.
Tensor nonzero(const Tensor& y) { return where(y == 0, 1, y); }

/// The axes of a choice: ShapeError if there is nothing to choose from.
Axes choice_axes(const char* op, const In& x, const Dims& dims) {
  const Axes axes(op, x, dims);
  if (axes.count == 0)
    fail<ShapeError>(x.at, "{}: no element of {} to choose from: need at least one", op, x.shape());
  return axes;
}

/// The largest or smallest element: Fold is Larger or Smaller.
template <class Fold> Tensor extreme(const char* op, const In& x, const Dims& dims, bool keepdim) {
  const Axes axes = choice_axes(op, x, dims);
  return record(op, reduce<Fold, Kinds::numeric>(op, x, axes, axes.left(keepdim)),
                wrt(x, [x, axes](const Tensor& g, const Tensor& y) {
                  const Tensor best = axes.spread(y);
                  const Tensor hits = to(x == best, g.dtype());
                  return axes.spread(g) * (hits / sum_to(hits, best.shape()));
                }));
}

/// The first index along the reduced axes (one, or all) where x is its extreme.
template <class Fold> Tensor position(const char* op, const In& x, const Dims& dims, bool keepdim) {
  const Axes axes = choice_axes(op, x, dims);
  const In source(detail::packed(x), x.at);
  const Tensor best = reduce<Fold, Kinds::numeric>(op, source, axes, axes.left(keepdim));
  Tensor out = detail::empty(op, best.shape(), int64, x.at);
  int64_t step = 1;  // between neighbours along the reduced axes
  for (int i = x.dim() - 1; i >= 0 && !axes.contain(i); --i) step *= x.shape()[i];
  const int64_t n = axes.count, per_tile = std::max<int64_t>(detail::kGrain / n, 1);
  detail::visit<Kinds::numeric>(op, x.dtype(), x.at, [&](auto zero) {
    using T = decltype(zero);
    const T *from = detail::elements_of<T>(source), *extremes = detail::elements_of<T>(best);
    int64_t* to = detail::elements_of<int64_t>(out);
    parallel_for(detail::ceil_div(out.numel(), per_tile), [&](int64_t tile) {
      const int64_t end = std::min((tile + 1) * per_tile, out.numel());
      for (int64_t k = tile * per_tile; k < end; ++k) {
        const T* p = from + k / step * n * step + k % step;
        int64_t i = 0;
        while (p[i * step] != extremes[k] && p[i * step] == p[i * step]) ++i;  // stops at NaN too
        to[k] = i;
      }
    });
  });
  return out;
}

}  // namespace

Tensor sum(const In& x, const Dims& dims, bool keepdim) {
  const Axes axes("sum", x, dims);
  return record("sum", reduce<Plus, Kinds::any>("sum", x, axes, axes.left(keepdim)),
                wrt(x, [axes](const Tensor& g) { return expand(axes.spread(g), axes.whole); }));
}

Tensor sum_to(const In& x, const Shape& shape) {
  detail::check("sum_to", x);
  if (shape == x.shape()) return x;
  if (!broadcasts_to(shape, x.shape()))
    fail<ShapeError>(x.at, "sum_to: {} does not broadcast to {}: only axes of size 1 widen", shape,
                     x.shape());
  Dims wider{};
  for (int i = 0, in_front = x.dim() - shape.rank(); i < x.dim(); ++i)
    if (i < in_front || shape[i - in_front] != x.shape()[i]) wider.push_back(i);
  return record("sum_to", reduce<Plus, Kinds::any>("sum_to", x, {"sum_to", x, wider}, shape),
                wrt(x, [whole = x.shape()](const Tensor& g) { return expand(g, whole); }));
}

Tensor mean(const In& x, const Dims& dims, bool keepdim) {
  const Axes axes("mean", x, dims);
  const auto n = static_cast<double>(axes.count);
  Tensor value = reduce<Plus, Kinds::floating>("mean", x, axes, axes.left(keepdim));
  value /= n;
  return record("mean", std::move(value), wrt(x, [axes, n = std::max(n, 1.0)](const Tensor& g) {
                  return expand(axes.spread(g / n), axes.whole);
                }));
}

Tensor max(const In& x, const Dims& dims, bool keepdim) {
  return extreme<Larger>("max", x, dims, keepdim);
}
Tensor min(const In& x, const Dims& dims, bool keepdim) {
  return extreme<Smaller>("min", x, dims, keepdim);
}

Tensor argmax(const In& x) { return position<Larger>("argmax", x, Dims{}, false); }
Tensor argmax(const In& x, int64_t dim, bool keepdim) {
  return position<Larger>("argmax", x, dim, keepdim);
}
Tensor argmin(const In& x) { return position<Smaller>("argmin", x, Dims{}, false); }
Tensor argmin(const In& x, int64_t dim, bool keepdim) {
  return position<Smaller>("argmin", x, dim, keepdim);
}

Tensor var(const In& x, const Dims& dims, VarOptions options) {
  check_floating("var", x);
  const Axes axes("var", x, dims);
  const auto n = static_cast<double>(axes.count);
  const double degrees = std::max(0.0, n - options.correction);
  const Tensor value = x.detach();
  const In off(value - mean(value, dims, true), x.at);
  const Tensor squares =
      reduce<Plus, Kinds::floating>("var", off, axes, axes.left(options.keepdim), squared);
  const double scale = axes.count == 0 ? 0 : 2 / degrees;
  return record("var", to(squares / degrees, x.dtype()),
                wrt(x, [x, axes, n, scale](const Tensor& g) {
                  const Tensor outer = axes.spread(g * scale);
                  return (x - sum_to(x, outer.shape()) / n) * outer;
                }));
}

Tensor norm(const In& x, const Dims& dims, NormOptions options) {
  const double p = options.p;
  check_floating("norm", x);
  if (!(p > 0)) fail<ValueError>(x.at, "norm: p is {}: need a number above 0", p);
  if (std::isinf(p)) return extreme<Larger>("norm", {abs(x), x.at}, dims, options.keepdim);
  const Axes axes("norm", x, dims);
  auto total = [&](auto f) {
    return reduce<Plus, Kinds::floating>("norm", x, axes, axes.left(options.keepdim), f);
  };
  auto raised = [p](auto v) { return std::pow(magnitude(v), p); };
  Tensor value = p == 2   ? sqrt(total(squared))
                 : p == 1 ? total(magnitude)
                          : pow(total(raised), 1 / p);
  return record("norm", to(value, x.dtype()),
                wrt(x, [x, p, axes](const Tensor& g, const Tensor& y) {
                  const Tensor outer = axes.spread(g), length = nonzero(axes.spread(y));
                  if (p == 2) return x * (outer / length);
                  return outer * sign(x) * pow(nonzero(abs(x)) / length, p - 1);
                }));
}

Tensor logsumexp(const In& x, const Dims& dims, bool keepdim) {
  const Axes axes("logsumexp", x, dims);
  detail::enter("logsumexp");
  const Tensor value = x.detach();
  const Tensor top = reduce<Larger, Kinds::floating>("logsumexp", x, axes, axes.left(true));
  const Tensor shift = where(isfinite(top), top, 0);  // inf - inf would be NaN
  const Tensor result = log(sum_to(exp(value - shift), top.shape())) + shift;
  return record("logsumexp", reshape(result, axes.left(keepdim)),
                wrt(x, [x, axes](const Tensor& g, const Tensor& y) {
                  return axes.spread(g) * exp(x - axes.spread(y));
                }));
}

/// How many elements over `dims` are not zero.
static Tensor count(const char* op, const In& x, const Dims& dims, bool keepdim) {
  const Axes axes(op, x, dims);
  return reduce<Plus, Kinds::any>(op, {to(x, boolean), x.at}, axes, axes.left(keepdim));
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

/// The softmax of each row of a strip, or its logarithm.
template <bool logarithm, class T>
[[gnu::always_inline]] inline void strip(const T* __restrict x, int64_t rows, int64_t size,
                                         T* __restrict y) {
  T top[detail::kRows], sum[detail::kRows];
  detail::exp_rows(x, rows, size, y, top, sum);
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = x + r * size;
    T* to = y + r * size;
    if constexpr (logarithm) {
      const T shift = top[r], log_sum = vmath::log(sum[r]);
      detail::each_lane(size, [=](int64_t j) { to[j] = (from[j] - shift) - log_sum; });
    } else {
      const T total = sum[r];
      detail::each_lane(size, [=](int64_t j) { to[j] /= total; });
    }
  }
}

/// softmax, or its logarithm, along `dim`: the values alone.
template <bool logarithm> Tensor normalized(const char* op, const In& x, int64_t dim) {
  detail::check(op, x);
  const int d = detail::wrap_dim(op, dim, x.dim(), x.at), last = std::max(x.dim() - 1, 0);
  if (d != last) {
    detail::enter("softmax turned");
    const Tensor turned = x.detach().transpose(d, last);
    return normalized<logarithm>(op, {turned, x.at}, last).transpose(d, last).contiguous();
  }
  detail::enter(logarithm ? detail::Path("log_softmax") : detail::Path("softmax"));
  const Tensor source = detail::packed(x);
  Tensor out = detail::empty_like(op, x, x.dtype());
  detail::visit<Kinds::floating>(op, x.dtype(), x.at, [&](auto zero) {
    using T = decltype(zero);
    if (out.numel() == 0) return;
    const int64_t size = x.dim() == 0 ? 1 : x.shape().back();
    detail::each_strip(x.numel() / size, size, [&](int64_t begin, int64_t count) {
      const T* from = detail::elements_of<T>(source) + begin * size;
      T* to = detail::elements_of<T>(out) + begin * size;
      simd::call([&] { strip<logarithm>(from, count, size, to); });
    });
  });
  return out;
}

}  // namespace

Tensor softmax(const In& x) { return softmax(x, -1); }
Tensor softmax(const In& x, int64_t dim) {
  return record(
      "softmax", normalized<false>("softmax", x, dim),
      wrt(x, [dim](const Tensor& g, const Tensor& y) { return y * (g - sum(g * y, dim, true)); }));
}

Tensor log_softmax(const In& x) { return log_softmax(x, -1); }
Tensor log_softmax(const In& x, int64_t dim) {
  return record(
      "log_softmax", normalized<true>("log_softmax", x, dim),
      wrt(x, [dim](const Tensor& g, const Tensor& y) { return g - exp(y) * sum(g, dim, true); }));
}

}  // namespace descent
