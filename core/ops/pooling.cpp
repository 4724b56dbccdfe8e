#include "descent/core/ops/pooling.hpp"

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/copy.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/pool.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

using detail::Pool;
using detail::Pooling;

/// A new tensor of `shape`, made by kernel(elements of x, of other, its own).
template <class F>
Tensor make(const char* op, const Shape& shape, const In& x, const In& other, F kernel) {
  detail::check(op, x);
  detail::check(op, other);
  const Tensor image = detail::pack(x), source = detail::pack(other);
  Tensor result = detail::empty(op, shape, x.dtype(), x.at);
  visit<Kinds::floating>(op, x.dtype(), x.at, [&]<class T>(T) {
    kernel(elements_of<const T>(image), elements_of<const T>(source), elements_of<T>(result));
  });
  return result;
}

Tensor record_pick(const Pool& p, const In& x, const In& h);

/// g, of the pooled shape, added to zeros where x is largest.
Tensor record_route(const Pool& p, const In& x, const In& g) {
  const char* op = "max_pool2d_backward";
  auto route = [&]<class T>(const T* from, const T* g_, T* to) {
    Pooling<T>::route(p, from, g_, to);
  };
  return record(op, make(op, p.input, x, g, route),
                wrt(g, [p, x = saved(x)](const Tensor& h) { return record_pick(p, x, h); }),
                wrt(x, [](const Tensor& h) { return zeros_like(h); }));  // but where it jumps
}
/// h, of x's shape, where x is largest.
Tensor record_pick(const Pool& p, const In& x, const In& h) {
  const char* op = "max_pool2d_pick";
  auto pick = [&]<class T>(const T* from, const T* h_, T* to) {
    Pooling<T>::pick(p, from, h_, to);
  };
  return record(op, make(op, p.shape, x, h, pick),
                wrt(h, [p, x = saved(x)](const Tensor& g) { return record_route(p, x, g); }),
                wrt(x, [x = saved(x)](const Tensor&) { return zeros_like(x); }));
}

/// The means in the windows of x, or the opposite. Each is the other's derivative: both are linear.
template <bool spread>
Tensor record_average(const char* op, const Pool& p, bool pad_counts, const In& x) {
  auto average = [&]<class T>(const T* from, const T*, T* to) {
    if constexpr (spread) Pooling<T>::spread(p, pad_counts, from, to);
    else Pooling<T>::average(p, pad_counts, from, to);
  };
  return record(op, make(op, spread ? p.input : p.shape, x, x, average),
                wrt(x, [p, pad_counts](const Tensor& g) {
                  return record_average<!spread>(spread ? "avg_pool2d" : "avg_pool2d_backward", p,
                                                 pad_counts, g);
                }));
}

}  // namespace

Tensor max_pool2d(const In& x, Size2d kernel, const MaxPool2dOptions& options) {
  const auto& [stride, padding, dilation, ceil_mode] = options;
  const Pool p("max_pool2d", x,
               {kernel, stride.has_value() ? stride : kernel, padding, dilation, ceil_mode});
  auto max = [&]<class T>(const T* from, const T*, T* to) { Pooling<T>::max(p, from, to); };
  return record("max_pool2d", make("max_pool2d", p.shape, x, x, max),
                wrt(x, [p, x = saved(x)](const Tensor& g) { return record_route(p, x, g); }));
}

Tensor avg_pool2d(const In& x, Size2d kernel, const AvgPool2dOptions& options) {
  const auto& [stride, padding, ceil_mode, pad_counts] = options;
  const Pool p("avg_pool2d", x,
               {kernel, stride.has_value() ? stride : kernel, padding, 1, ceil_mode});
  return record_average<false>("avg_pool2d", p, pad_counts, x);
}

/// Calls f with x as images of one row.
template <class F> static Tensor as_rows(const char* op, const In& x, F f) {
  detail::check(op, x);
  if (x.dim() != 2 && x.dim() != 3)
    fail<ShapeError>(x.at, "{}: x {} has rank {}: need [N, C, L] or [C, L]", op, x.shape(),
                     x.dim());
  return squeeze({f(In(unsqueeze(x, -2), x.at)), x.at}, -2);
}
Tensor max_pool1d(const In& x, int64_t kernel, const MaxPool2dOptions& options) {
  MaxPool2dOptions o = options;
  if (o.stride.has_value()) o.stride.h = 1;
  o.padding.h = 0, o.dilation.h = 1;
  return as_rows("max_pool1d", x, [&](const In& rows) { return max_pool2d(rows, {1, kernel}, o); });
}
Tensor avg_pool1d(const In& x, int64_t kernel, const AvgPool2dOptions& options) {
  AvgPool2dOptions o = options;
  if (o.stride.has_value()) o.stride.h = 1;
  o.padding.h = 0;
  return as_rows("avg_pool1d", x, [&](const In& rows) { return avg_pool2d(rows, {1, kernel}, o); });
}

Tensor adaptive_avg_pool2d(const In& x, Size2d size) {
  detail::check("adaptive_avg_pool2d", x);
  const Shape& s = x.shape();
  if ((s.rank() != 3 && s.rank() != 4) || size.h < 1 || size.w < 1 || s[-2] < 1 || s[-1] < 1)
    fail<ShapeError>(x.at,
                     "adaptive_avg_pool2d: x {} to {}: need [N, C, H, W] or [C, H, W] with pixels, "
                     "and a size of at least 1",
                     s, str(size));
  if (s[-2] % size.h == 0 && s[-1] % size.w == 0)  // windows side by side
    return avg_pool2d(x, {s[-2] / size.h, s[-1] / size.w});
  const Frame frame(x.at);
  Tensor y = x;
  for (const int d : {-2, -1}) {
    const int64_t in = s[d], out = d == -2 ? size.h : size.w;
    std::vector<Tensor> means;
    for (int64_t i = 0; i < out; ++i) {
      const int64_t first = i * in / out, last = detail::ceil_div((i + 1) * in, out);
      means.push_back(mean(narrow(y, d, first, last - first), d, true));
    }
    y = cat(means, d);
  }
  return y;
}
Tensor adaptive_avg_pool1d(const In& x, int64_t size) {
  return as_rows("adaptive_avg_pool1d", x, [size](const In& rows) {
    return adaptive_avg_pool2d(rows, {1, size});
  });
}

}  // namespace descent
