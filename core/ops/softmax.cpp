#include "descent/core/ops/softmax.hpp"

#include <algorithm>

#include "descent/core/base/paths.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/reduce.hpp"
#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

/// Writes the softmax of each row of a strip, or its logarithm, to y.
template <bool logarithm, class T>
[[gnu::always_inline]] inline void normalize_strip(const T* __restrict x, int64_t rows,
                                                   int64_t size, T* __restrict y) {
  T top[detail::kStripRows], sum[detail::kStripRows];
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

/// softmax along `dim`, or its logarithm, not recorded.
template <bool logarithm> Tensor normalize(const char* op, const In& x, int64_t dim) {
  detail::check(op, x);
  const int d = detail::wrap_dim(op, dim, x.dim(), x.at), last = std::max(x.dim() - 1, 0);
  if (d != last) {
    detail::enter("softmax turned");
    const Tensor turned = x.detach().transpose(d, last);
    return normalize<logarithm>(op, {turned, x.at}, last).transpose(d, last).contiguous();
  }
  detail::enter(logarithm ? detail::Path("log_softmax") : detail::Path("softmax"));
  const Tensor source = detail::pack(x);
  Tensor out = detail::empty_like(op, x, x.dtype());
  visit<Kinds::floating>(op, x.dtype(), x.at, [&]<class T>(T) {
    if (out.numel() == 0) return;
    const int64_t size = x.dim() == 0 ? 1 : x.shape().back();
    detail::each_strip(x.numel() / size, size, [&](int64_t begin, int64_t count) {
      const T* from = elements_of<T>(source) + begin * size;
      T* to = elements_of<T>(out) + begin * size;
      simd::call([&] { normalize_strip<logarithm>(from, count, size, to); });
    });
  });
  return out;
}

}  // namespace

Tensor softmax(const In& x, int64_t dim) {
  return record(
      "softmax", normalize<false>("softmax", x, dim),
      wrt(x, [dim](const Tensor& g, const Tensor& y) { return y * (g - sum(g * y, dim, true)); }));
}

Tensor log_softmax(const In& x, int64_t dim) {
  return record(
      "log_softmax", normalize<true>("log_softmax", x, dim),
      wrt(x, [dim](const Tensor& g, const Tensor& y) { return g - exp(y) * sum(g, dim, true); }));
}

}  // namespace descent
