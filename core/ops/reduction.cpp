#include "descent/core/ops/reduction.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "descent/core/base/paths.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/reduce.hpp"
#include "descent/core/kernels/rows.hpp"
#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

using detail::Axes;
using detail::Larger;
using detail::Plus;
using detail::reduce;
using detail::Smaller;

constexpr auto magnitude = [](auto v) { return std::abs(static_cast<double>(v)); };
constexpr auto squared = [](auto v) { return static_cast<double>(v) * static_cast<double>(v); };

/// Reshapes a result, or the gradient of one, so that it broadcasts to x's shape.
Tensor spread(const Axes& axes, const Tensor& y) {
  const bool broadcasts = y.dim() == 0 || y.dim() == axes.input.rank();
  return broadcasts ? y : reshape(y, axes.left(true));
}

/// y with 1 in place of 0, to divide by.
Tensor replace_zero(const Tensor& y) { return where(y == 0, 1, y); }

/// Whether right(v) holds for every element v. One thread suffices, because the elements are few.
template <class F> bool every(const Tensor& y, F right) {
  return visit<Kinds::floating>("every", y.dtype(), At::unknown(), [&]<class T>(T) {
    const T* p = elements_of<T>(y);
    bool all = true;
    for (int64_t i = 0, n = y.numel(); i < n; ++i) all &= right(p[i]);
    return all;
  });
}
constexpr auto is_finite = [](auto v) {
  return vmath::abs(v) <= std::numeric_limits<decltype(v)>::max();
};

/// The mean of x over `axes`, not recorded. If a sum does not fit in the dtype, the elements are
/// scaled down before they are added.
Tensor average(const char* op, const In& x, const Axes& axes, bool keepdim) {
  const Shape shape = axes.left(keepdim);
  const auto n = static_cast<double>(axes.count);
  Tensor value = reduce<Plus, Kinds::floating>(op, x, axes, shape);
  value /= n;
  if (every(value, is_finite) || axes.count == 0) return value;
  const double part = std::exp2(-std::ceil(std::log2(n)));
  const In parts(x.detach() * part, x.at);
  return where(isfinite(value), value,
               reduce<Plus, Kinds::floating>(op, parts, axes, shape) / (n * part));
}

/// The axes along which one element is chosen; ShapeError if there is none to choose.
Axes choice_axes(const char* op, const In& x, const Dims& dims) {
  const Axes axes(op, x, dims);
  if (axes.count == 0)
    fail<ShapeError>(x.at, "{}: no element of {} to choose from: need at least one", op, x.shape());
  return axes;
}

/// The axes of x in their order, but those that are reduced last.
Dims reduced_last(const In& x, const Axes& axes) {
  Dims order{};
  for (const bool reduced : {false, true})
    for (int d = 0; d < x.dim(); ++d)
      if (axes.contain(d) == reduced) order.push_back(d);
  return order;
}

/// The elements of x, not recorded, so that those that are combined are a row of neighbours.
Tensor rows_of(const In& x, const Axes& axes) {
  return detail::pack({x.detach().permute(reduced_last(x, axes), x.at), x.at});
}

/// The largest or smallest element: Fold is Larger or Smaller.
template <class Fold>
Tensor extreme(const char* op, const In& x, const Dims& dims, KeepDim keepdim) {
  const Axes axes = choice_axes(op, x, dims);
  return record(op, reduce<Fold, Kinds::numeric>(op, x, axes, axes.left(keepdim)),
                wrt(x, [x = saved(x), axes](const Tensor& g, const Tensor& y) {
                  const Tensor best = spread(axes, y);
                  const bool numbers =
                      !is_floating(y.dtype()) || every(y, [](auto v) { return v == v; });
                  const Tensor equal = numbers ? x == best : logical_or(x == best, x != x);
                  const Tensor hits = to(equal, g.dtype());
                  return spread(axes, g) * (hits / sum_to(hits, best.shape()));
                }));
}

/// The first index along the reduced axes, counted in row-major order, where x equals its extreme.
template <class Fold>
Tensor find_extreme(const char* op, const In& x, const Dims& dims, KeepDim keepdim) {
  const Axes axes = choice_axes(op, x, dims);
  const Tensor rows = rows_of(x, axes);
  const Tensor best = reduce<Fold, Kinds::numeric>(op, x, axes, axes.left(keepdim));
  Tensor out = detail::empty(op, best.shape(), int64, x.at);
  visit<Kinds::numeric>(op, x.dtype(), x.at, [&]<class T>(T) {
    const T *from = elements_of<T>(rows), *extremes = elements_of<T>(best);
    int64_t* to = elements_of<int64_t>(out);
    detail::each_row(out.numel(), axes.count, [=, n = axes.count](int64_t k) {
      const T *const row = from + k * n, *p = row;
      while (*p != extremes[k] && *p == *p) ++p;  // stops at NaN too
      to[k] = p - row;
    });
  });
  return out;
}

}  // namespace

Tensor sum(const In& x, const Dims& dims, KeepDim keepdim) {
  const Axes axes("sum", x, dims);
  return record("sum", reduce<Plus, Kinds::any>("sum", x, axes, axes.left(keepdim)),
                wrt(x, [axes](const Tensor& g) { return expand(spread(axes, g), axes.input); }));
}

Tensor sum_to(const In& x, const Shape& shape) {
  detail::check("sum_to", x);
  if (shape == x.shape()) return x.dtype() == boolean ? to(x, int64) : Tensor(x);
  if (!broadcasts_to(shape, x.shape()))
    fail<ShapeError>(x.at, "sum_to: {} does not broadcast to {}: only axes of size 1 repeat", shape,
                     x.shape());
  Dims wider{};
  for (int i = 0, in_front = x.dim() - shape.rank(); i < x.dim(); ++i)
    if (i < in_front || shape[i - in_front] != x.shape()[i]) wider.push_back(i);
  return record("sum_to", reduce<Plus, Kinds::any>("sum_to", x, {"sum_to", x, wider}, shape),
                wrt(x, [input = x.shape()](const Tensor& g) { return expand(g, input); }));
}

Tensor mean(const In& x, const Dims& dims, KeepDim keepdim) {
  const Axes axes("mean", x, dims);
  const double n = std::max(static_cast<double>(axes.count), 1.0);
  return record("mean", average("mean", x, axes, keepdim), wrt(x, [axes, n](const Tensor& g) {
                  return expand(spread(axes, g / n), axes.input);
                }));
}

Tensor max(const In& x, const Dims& dims, KeepDim keepdim) {
  return extreme<Larger>("max", x, dims, keepdim);
}
Tensor min(const In& x, const Dims& dims, KeepDim keepdim) {
  return extreme<Smaller>("min", x, dims, keepdim);
}

Tensor argmax(const In& x, const Dims& dims, KeepDim keepdim) {
  return find_extreme<Larger>("argmax", x, dims, keepdim);
}
Tensor argmin(const In& x, const Dims& dims, KeepDim keepdim) {
  return find_extreme<Smaller>("argmin", x, dims, keepdim);
}

// ---- var

namespace {

/// For each group of elements that one element of the result combines: their mean, which is the sum
/// mean + rest of two doubles, and the sum of their squared distances from it. float64 tensors of
/// shape axes.left(true).
struct Moments {
  Tensor mean, rest, squares;
};

/// x minus the means of its groups: a linear function of x, because the means are functions of x
/// too.
Tensor subtract_means(const In& x, const Axes& axes, const Moments& m) {
  Tensor off = detail::empty_like("var", x, x.dtype());
  visit<Kinds::floating>("var", x.dtype(), x.at, [&]<class T>(T) {
    detail::transform<T>([](T v, double mean) { return static_cast<T>(v - mean); }, off,
                         detail::Operand<T>(x), detail::Operand<double>(m.mean));
  });
  if (x.dtype() == float64) off -= m.rest;
  return record("var_backward", std::move(off),
                wrt(x, [n = static_cast<double>(axes.count), shape = m.mean.shape()](
                           const Tensor& g) { return g - sum_to(g, shape) / n; }));
}

Moments moments(const In& x, const Axes& axes) {
  const Shape shape = axes.left(true);
  const Tensor rows = rows_of(x, axes);
  const Moments m{zeros(shape, float64), zeros(shape, float64), zeros(shape, float64)};
  auto *mean = elements_of<double>(m.mean), *rest = elements_of<double>(m.rest),
       *squares = elements_of<double>(m.squares);
  visit<Kinds::floating>("var", x.dtype(), x.at, [&]<class T>(T) {
    const int64_t n = axes.count, count = n == 0 ? 0 : m.mean.numel();
    detail::each_row(count, n, [=, from = elements_of<const T>(rows)](int64_t i) {
      const detail::Moment one =
          simd::call([=] { return detail::moment_of(from + i * n, 1, n, n); });
      mean[i] = one.mean, rest[i] = one.rest, squares[i] = one.squares;
    });
  });
  return m;
}

}  // namespace

Tensor var(const In& x, const Dims& dims, KeepDim keepdim, const VarOptions& options) {
  check_floating("var", x);
  const Axes axes("var", x, dims);
  const double degrees = std::max(0.0, static_cast<double>(axes.count) - options.correction);
  const double scale = axes.count == 0 ? 0 : 2 / degrees;
  const Moments m = moments(x, axes);
  Tensor value = to(m.squares / degrees, x.dtype());
  return record("var", reshape(value, axes.left(keepdim)),
                wrt(x, [x = saved(x), axes, m, scale](const Tensor& g) {
                  return subtract_means(x, axes, m) * spread(axes, g * scale);
                }));
}

Tensor std(const In& x, const Dims& dims, KeepDim keepdim, const VarOptions& options) {
  check_floating("std", x);
  const Axes axes("std", x, dims);
  const Frame frame(x.at);
  const Tensor variance = var(x, dims, keepdim, options);
  const Tensor none = variance == 0;  // where the root has no finite gradient
  return where(none, 0, sqrt(where(none, 1, variance)));
}

// ---- products and running totals

Tensor prod(const In& x, const Dims& dims, KeepDim keepdim) {
  const Axes axes("prod", x, dims);
  const Frame frame(x.at);
  if (x.dtype() == boolean) return prod(to(x, int64), dims, keepdim);
  if (axes.count == 0) return sum(x, dims, keepdim) + 1;
  Tensor y = reshape(permute(x, reduced_last(x, axes)), {x.numel() / axes.count, axes.count});
  for (int64_t n = axes.count; n > 1; n = y.size(1)) {  // the halves, multiplied
    const Tensor product = narrow(y, 1, 0, n / 2) * narrow(y, 1, n / 2, n / 2);
    y = n % 2 == 0 ? product : cat({product, narrow(y, 1, n - 1, 1)}, 1);
  }
  return reshape(y, axes.left(keepdim));
}

/// The sums of x[0], ..., x[i] along axis d, or, if `back`, those of x[i], x[i + 1], ...
static Tensor record_cumsum(const In& x, int d, bool back) {
  detail::check("cumsum", x);
  Tensor y = visit<Kinds::numeric>("cumsum", x.dtype(), x.at, [&]<class T>(T) {
    return detail::map_rows<T, T>("cumsum", x, d, [back](const T* row, int64_t n, T* out) {
      std::conditional_t<std::is_same_v<T, float>, double, T> total = 0;
      for (int64_t k = 0; k < n; ++k) {
        const int64_t i = back ? n - 1 - k : k;
        total = detail::ring::add<decltype(total)>(total, row[i]);
        out[i] = static_cast<T>(total);
      }
    });
  });
  return record("cumsum", std::move(y),
                wrt(x, [d, back](const Tensor& g) { return record_cumsum(g, d, !back); }));
}
Tensor cumsum(const In& x, int64_t dim) {
  const int d = detail::axis_of("cumsum", x, dim);
  return x.dtype() == boolean ? cumsum({to(x, int64), x.at}, d) : record_cumsum(x, d, false);
}

// ---- norm

namespace {

/// (sum |x|^p)^(1/p) in float64. Where the powers might leave the range of doubles, x is divided by
/// `unit` first: for p = 2 by a power of two near the largest |x|, otherwise by the largest |x|.
Tensor compute_norm(const In& x, const Axes& axes, double p, const Shape& shape) {
  auto total = [&](const In& v, auto f) {
    return reduce<Plus, Kinds::floating>("norm", v, axes, shape, f);
  };
  if (p == 1) return total(x, magnitude);
  if (p == 2) {
    const Tensor plain = total(x, squared);
    // Squares of float32 always fit in float64.
    if (x.dtype() == float32 ||
        every(plain, [](double v) { return v >= 0x1p-960 && v <= 0x1p1020; }))
      return sqrt(plain);
  }
  const Tensor wide = to(x.detach(), float64);
  const Tensor top = reduce<Larger, Kinds::floating>("norm", x, axes, shape, magnitude);
  const Tensor unit = map("norm", top, [p](double v) {
    if (v == 0 || !is_finite(v)) return 1.0;
    return p == 2 ? std::exp2(std::clamp(std::logb(v), -1022.0, 1022.0)) : v;
  });
  const In scaled(wide / spread(axes, unit), x.at);
  if (p == 2) return sqrt(total(scaled, squared)) * unit;
  const Tensor sum = total(scaled, [p](auto v) { return std::pow(magnitude(v), p); });
  const Tensor root = pow(sum, 0.5 / p);  // its square may be infinite where the norm is not
  return unit * root * root;
}

}  // namespace

Tensor norm(const In& x, const Dims& dims, KeepDim keepdim, const NormOptions& options) {
  const double p = options.p;
  check_floating("norm", x);
  if (!(p > 0)) fail<ValueError>(x.at, "norm: p is {}: need a number above 0", p);
  if (std::isinf(p)) return extreme<Larger>("norm", {abs(x), x.at}, dims, keepdim);
  const Axes axes("norm", x, dims);
  Tensor value = to(compute_norm(x, axes, p, axes.left(keepdim)), x.dtype());
  return record("norm", std::move(value),
                wrt(x, [x = saved(x), p, axes](const Tensor& g, const Tensor& y) {
                  const Tensor outer = spread(axes, g), length = spread(axes, y);
                  if (p == 2) {
                    const Tensor scale = outer / length;
                    const double least = y.dtype() == float32 ? 0x1p-126 : 0x1p-1022;
                    const auto exact = [least](auto v) {
                      return is_finite(v) && (v >= least || v <= -least);
                    };
                    if (every(detail::pack(scale), exact)) return x * scale;
                    return where(length == 0, 0.0, outer * (x / length));
                  }
                  Tensor share = abs(x) / replace_zero(length);
                  if (p < 1) share = replace_zero(share);  // not 0^(p - 1), which is infinite
                  return outer * sign(x) * pow(share, p - 1);
                }));
}

Tensor logsumexp(const In& x, const Dims& dims, KeepDim keepdim) {
  const Axes axes("logsumexp", x, dims);
  detail::enter("logsumexp");
  const Tensor value = x.detach();
  const Tensor top = reduce<Larger, Kinds::floating>("logsumexp", x, axes, axes.left(true));
  const Tensor shift = where(isfinite(top), top, 0);  // inf - inf would be NaN
  const Tensor result = log(sum_to(exp(value - shift), top.shape())) + shift;
  return record("logsumexp", reshape(result, axes.left(keepdim)),
                wrt(x, [x = saved(x), axes](const Tensor& g, const Tensor& y) {
                  return spread(axes, g) * exp(x - spread(axes, y));
                }));
}

/// What `count_nonzero` returns, as `op`.
static Tensor count_nonzero(const char* op, const In& x, const Dims& dims, KeepDim keepdim) {
  const Axes axes(op, x, dims);
  return reduce<Plus, Kinds::any>(op, {to(x, boolean), x.at}, axes, axes.left(keepdim));
}
Tensor count_nonzero(const In& x, const Dims& dims, KeepDim keepdim) {
  return count_nonzero("count_nonzero", x, dims, keepdim);
}
Tensor any(const In& x, const Dims& dims, KeepDim keepdim) {
  return count_nonzero("any", x, dims, keepdim) > 0;
}
Tensor all(const In& x, const Dims& dims, KeepDim keepdim) {
  return count_nonzero("all", x, dims, keepdim) == Axes("all", x, dims).count;
}

// ---- the same functions as methods

Tensor Tensor::sum(const Dims& dims, KeepDim keepdim, At at) const {
  return descent::sum({*this, at}, dims, keepdim);
}
Tensor Tensor::mean(const Dims& dims, KeepDim keepdim, At at) const {
  return descent::mean({*this, at}, dims, keepdim);
}
Tensor Tensor::max(const Dims& dims, KeepDim keepdim, At at) const {
  return descent::max({*this, at}, dims, keepdim);
}
Tensor Tensor::min(const Dims& dims, KeepDim keepdim, At at) const {
  return descent::min({*this, at}, dims, keepdim);
}
Tensor Tensor::argmax(const Dims& dims, KeepDim keepdim, At at) const {
  return descent::argmax({*this, at}, dims, keepdim);
}

}  // namespace descent
