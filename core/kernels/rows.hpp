#pragma once
#include <algorithm>

#include "descent/core/kernels/copy.hpp"
#include "descent/core/kernels/elementwise.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// f(i) for each of some rows of n elements, on several threads.
template <class F> void each_row(int64_t rows, int64_t n, F f) {
  const int64_t per_tile = std::max<int64_t>(kTileElements / std::max<int64_t>(n, 1), 1);
  parallel_for(ceil_div(rows, per_tile), [&](int64_t tile) {
    for (int64_t i = tile * per_tile; i < std::min(rows, (tile + 1) * per_tile); ++i) f(i);
  });
}

/// A tensor of Out and of x's shape. f(row, n, to) reads the n elements of a row of x along axis
/// `dim`, and writes n elements; several threads call it. The dtype of x is T.
template <class T, class Out, class F> Tensor map_rows(const char* op, const In& x, int dim, F f) {
  const Tensor from = pack({x.detach().transpose(dim, -1), x.at});
  const Tensor to = empty(op, from.shape(), dtype_of<Out>(), x.at);
  const int64_t n = std::max<int64_t>(from.shape().back(), 1);
  each_row(to.numel() / n, n,
           [&](int64_t i) { f(elements_of<T>(from) + i * n, n, elements_of<Out>(to) + i * n); });
  return to.transpose(dim, -1).contiguous();
}

}}  // namespace descent::detail
