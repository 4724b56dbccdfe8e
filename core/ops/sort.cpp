#include "descent/core/ops/sort.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "descent/core/base/checked.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/rows.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

/// The indices that sort x along axis d, of which the first k along d are in order.
Tensor find_order(const char* op, const In& x, int d, bool descending, int64_t k) {
  return visit<Kinds::any>(op, x.dtype(), x.at, [&]<class T>(T) {
    return detail::map_rows<T, int64_t>(op, x, d, [=](const T* row, int64_t n, int64_t* order) {
      auto less = [](T a, T b) { return a < b || (b != b && a == a); };
      auto before = [=](int64_t i, int64_t j) {
        const T a = row[descending ? j : i], b = row[descending ? i : j];
        return less(a, b) || (!less(b, a) && i < j);
      };
      std::iota(order, order + n, 0);
      if (k < n) std::partial_sort(order, order + k, order + n, before);
      else std::sort(order, order + n, before);
    });
  });
}

/// The elements of x at these indices along axis d, which is then removed unless `keepdim`.
ValuesAndIndices pick(const In& x, int d, const Tensor& indices, bool keepdim = true) {
  const Frame frame(x.at);
  const Tensor values = gather(x, d, indices);
  if (keepdim) return {values, indices};
  return {squeeze(values, d), squeeze(indices, d)};
}

/// Axis `dim` of x; ShapeError if it has no elements.
int axis_to_choose(const char* op, const In& x, int64_t dim) {
  const int d = detail::axis_of(op, x, dim);
  if (x.shape()[d] == 0)
    fail<ShapeError>(x.at, "{}: no element of {} to choose from: need at least one", op, x.shape());
  return d;
}

}  // namespace

ValuesAndIndices sort(const In& x, int64_t dim, const SortOptions& options) {
  const int d = detail::axis_of("sort", x, dim);
  return pick(x, d, find_order("sort", x, d, options.descending, x.shape()[d]));
}
Tensor argsort(const In& x, int64_t dim, const SortOptions& options) {
  const int d = detail::axis_of("argsort", x, dim);
  return find_order("argsort", x, d, options.descending, x.shape()[d]);
}

ValuesAndIndices topk(const In& x, int64_t k, int64_t dim, const TopkOptions& options) {
  const int d = detail::axis_of("topk", x, dim);
  const int64_t size = x.shape()[d];
  if (k < 0 || k > size)
    fail<ValueError>(x.at, "topk: k is {}, but dim {} of {} allows 0..{}", k, d, x.shape(), size);
  const Tensor order = find_order("topk", x, d, options.largest, k);
  return pick(x, d, order.narrow(d, 0, k).contiguous());
}

ValuesAndIndices max_with_indices(const In& x, int64_t dim, KeepDim keepdim) {
  const int d = axis_to_choose("max_with_indices", x, dim);
  return pick(x, d, argmax(x, d, true), keepdim);
}
ValuesAndIndices min_with_indices(const In& x, int64_t dim, KeepDim keepdim) {
  const int d = axis_to_choose("min_with_indices", x, dim);
  return pick(x, d, argmin(x, d, true), keepdim);
}

ValuesAndIndices median(const In& x, int64_t dim, KeepDim keepdim) {
  const int d = axis_to_choose("median", x, dim);
  const int64_t n = x.shape()[d];
  if (x.dtype() == boolean) detail::refuse_dtype("median", Kinds::numeric, x.dtype(), x.at);
  const Frame frame(x.at);
  const Tensor order = find_order("median", x, d, false, n);
  const Tensor nans = sum(x.detach() != x.detach(), d, true);  // they are at the end
  return pick(x, d, gather(order, d, where(nans > 0, n - nans, full_like(nans, (n - 1) / 2))),
              keepdim);
}

Tensor quantile(const In& x, double q, int64_t dim, KeepDim keepdim) {
  const int d = axis_to_choose("quantile", x, dim);
  check_floating("quantile", x);
  if (!(q >= 0 && q <= 1)) fail<ValueError>(x.at, "quantile: q is {}: need [0, 1]", q);
  const Frame frame(x.at);
  const Tensor values = sort(x, d).values, last = narrow(values, d, -1, 1);
  const double place = q * static_cast<double>(x.shape()[d] - 1), low = std::floor(place);
  const double share = place - low;
  Tensor y = narrow(values, d, static_cast<int64_t>(low), 1);
  if (share > 0) y = y * (1 - share) + narrow(values, d, static_cast<int64_t>(low) + 1, 1) * share;
  y = where(isnan(last), last, y);
  return keepdim ? y : squeeze(y, d);
}

Unique unique(const In& x) {
  detail::check("unique", x);
  const In flat(x.detach().reshape({-1}, x.at), x.at);
  const ValuesAndIndices sorted = sort(flat, 0);
  Tensor inverse = detail::empty("unique", flat.shape(), int64, x.at);
  std::vector<int64_t> first, counts;  // of each value: its first place in `values`
  visit<Kinds::any>("unique", x.dtype(), x.at, [&]<class T>(T) {
    const T* value = elements_of<T>(sorted.values);
    const int64_t* order = elements_of<int64_t>(sorted.indices);
    for (int64_t i = 0; i < flat.numel(); ++i) {
      if (i == 0 || value[i] != value[i - 1]) first.push_back(i), counts.push_back(0);
      ++counts.back();
      elements_of<int64_t>(inverse)[order[i]] = static_cast<int64_t>(first.size()) - 1;
    }
  });
  const Frame frame(x.at);
  return {index_select(sorted.values, 0, tensor(first)), inverse.reshape(x.shape()),
          tensor(counts)};
}

Tensor bincount(const In& x, int64_t minlength) {
  detail::check("bincount", x);
  if (x.dtype() != int64) fail<DtypeError>(x.at, "bincount: x is {}: need int64", x.dtype());
  if (x.dim() != 1) fail<ShapeError>(x.at, "bincount: x {}: need a vector", x.shape());
  const Frame frame(x.at);
  const int64_t low = x.numel() == 0 ? 0 : min(x).item<int64_t>();
  if (low < 0 || minlength < 0)
    fail<ValueError>(x.at, "bincount: least element {}, minlength {}: need at least 0", low,
                     minlength);
  const int64_t last = x.numel() == 0 ? -1 : max(x).item<int64_t>();
  const int64_t size = std::max(checked_add(last, 1, "bincount", x.at), minlength);
  return scatter_add(zeros({size}, int64), 0, x, ones_like(x));
}

}  // namespace descent
