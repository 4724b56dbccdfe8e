#include "descent/core/ops/view.hpp"

#include <algorithm>
#include <utility>

#include "descent/core/base/checked.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/copy.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/factory.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

/// Another window onto x's storage, which begins `offset` elements behind x.
Tensor view(const In& x, const Shape& shape, const Strides& strides, int64_t offset = 0) {
  const detail::Header* h = Peek::header(x);
  return detail::view_of(h->storage, h->data + offset * itemsize(h->dtype), h->dtype, shape,
                         strides);
}

/// `wanted`, with -1 replaced by the size that follows from the others.
Shape resolve_shape(const In& x, const Shape& wanted) {
  Shape shape = wanted;
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1 && unknown < 0) unknown = i;
    else if (shape[i] < 0) known = -1;
    else if (known >= 0) known = checked_mul(known, shape[i], "reshape", x.at);
  }
  if (unknown >= 0 && known > 0) shape[unknown] = x.numel() / known;
  const bool fits = known >= 0 && (unknown < 0 || known > 0) &&
                    detail::numel("reshape", shape, x.at) == x.numel();
  if (!fits)
    fail<ShapeError>(x.at,
                     "reshape: {} has {} elements: shape {} does not hold them: need sizes of at "
                     "least 0, of which one may be -1 if the others determine it",
                     x.shape(), x.numel(), wanted);
  return shape;
}

/// Finds strides with which `shape` has x's elements in row-major order; false if there are none.
bool find_strides(const In& x, const Shape& shape, Strides& strides) {
  strides = detail::contiguous_strides(shape);
  if (x.is_contiguous() || x.numel() == 0) return true;
  Shape size;
  Strides steps;
  for (int i = 0; i < x.dim(); ++i) {
    if (x.shape()[i] == 1) continue;  // its stride never matters
    size.push_back(x.shape()[i]);
    steps.push_back(x.strides()[i]);
  }
  int to = shape.rank() - 1;
  for (int from = size.rank() - 1; from >= 0;) {
    // The longest block of x's axes that ends at `from` and that one stride can walk...
    int64_t step = steps[from], left = size[from];
    int first = from;
    while (first > 0 && steps[first - 1] == steps[first] * size[first]) left *= size[--first];
    // ... must consist of whole axes of the new shape.
    while (to >= 0 && (left > 1 || shape[to] == 1)) {
      if (left % shape[to] != 0) return false;
      strides[to] = step;
      step *= shape[to];
      left /= shape[to--];
    }
    if (left != 1) return false;
    from = first - 1;
  }
  return true;
}

/// x's elements with another shape of as many: a view if there are strides for it, else a copy.
Tensor record_reshape(const char* op, const In& x, const Shape& shape) {
  Strides strides;
  Tensor out = find_strides(x, shape, strides)
                   ? view(x, shape, strides)
                   : view(x.detach().clone(x.at), shape, detail::contiguous_strides(shape));
  return record(op, out, wrt(x, [back = x.shape()](const Tensor& g) { return reshape(g, back); }));
}

Tensor record_slice(const char* op, const In& x, int dim, int64_t start, int64_t count,
                    int64_t step);

/// zeros(shape) with g at start, start + step, ... along `dim`: the derivative of a slice.
Tensor embed(const In& g, const Shape& shape, int dim, int64_t start, int64_t step) {
  detail::check("slice_backward", g);
  auto part = [dim, start, count = g.shape()[dim], step](const Tensor& input) {
    return record_slice("slice", input, dim, start, count, step);
  };
  Tensor out = zeros(shape, g.dtype(), g.at);
  part(out).copy_({g.detach(), g.at});
  return record("slice_backward", out, wrt(g, part));
}

/// The `count` indices start, start + step, ... along `dim`, all of which are in range.
Tensor record_slice(const char* op, const In& x, int dim, int64_t start, int64_t count,
                    int64_t step) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  const int64_t offset = count == 0 ? 0 : start * strides[dim];
  shape[dim] = count;
  strides[dim] *= step;
  Tensor out = view(x, shape, strides, offset);
  return record(op, out, wrt(x, [input = x.shape(), dim, start, step](const Tensor& g) {
                  return embed(g, input, dim, start, step);
                }));
}

}  // namespace

int detail::axis_of(const char* op, const In& x, int64_t dim) {
  detail::check(op, x);
  if (x.dim() == 0) fail<IndexError>(x.at, "{}: dim {} of a scalar: it has no axes", op, dim);
  return detail::wrap_dim(op, dim, x.dim(), x.at);
}

Tensor reshape(const In& x, const Shape& wanted) {
  detail::check("reshape", x);
  return record_reshape("reshape", x, resolve_shape(x, wanted));
}

Tensor flatten(const In& x, int64_t start, int64_t end) {
  detail::check("flatten", x);
  const int first = detail::wrap_dim("flatten", start, x.dim(), x.at);
  const int last = detail::wrap_dim("flatten", end, x.dim(), x.at);
  if (first > last)
    fail<IndexError>(x.at, "flatten: axes {}..{} of {}: need start <= end", start, end, x.shape());
  Shape shape;
  for (int d = 0; d < first; ++d) shape.push_back(x.shape()[d]);
  int64_t n = 1;
  for (int d = first; d <= last && d < x.dim(); ++d) n *= x.shape()[d];
  shape.push_back(n);
  for (int d = last + 1; d < x.dim(); ++d) shape.push_back(x.shape()[d]);
  return reshape(x, shape);
}

Tensor permute(const In& x, const Dims& dims) {
  detail::check("permute", x);
  Shape shape = x.shape();
  Strides strides = x.strides();
  Dims back = dims;
  bool seen[kMaxRank] = {};
  bool ok = dims.rank() == x.dim();
  for (int i = 0; ok && i < dims.rank(); ++i) {
    const int d = detail::wrap_dim("permute", dims[i], x.dim(), x.at);
    ok = !std::exchange(seen[d], true);
    shape[i] = x.shape()[d];
    strides[i] = x.strides()[d];
    back[d] = i;
  }
  if (!ok)
    fail<ShapeError>(x.at, "permute: dims {} of a tensor {}: need each axis once", dims, x.shape());
  return record("permute", view(x, shape, strides),
                wrt(x, [back](const Tensor& g) { return permute(g, back); }));
}

Tensor transpose(const In& x, int64_t dim0, int64_t dim1) {
  const int a = detail::axis_of("transpose", x, dim0), b = detail::axis_of("transpose", x, dim1);
  Shape shape = x.shape();
  Strides strides = x.strides();
  std::swap(shape[a], shape[b]);
  std::swap(strides[a], strides[b]);
  return record("transpose", view(x, shape, strides),
                wrt(x, [a, b](const Tensor& g) { return transpose(g, a, b); }));
}

Tensor t(const In& x) {
  detail::check("t", x);
  if (x.dim() > 2)
    fail<ShapeError>(x.at, "t: tensor {} has rank {}: need at most 2 (use transpose or permute)",
                     x.shape(), x.dim());
  return x.dim() < 2 ? Tensor(x) : transpose(x, 0, 1);
}

Tensor narrow(const In& x, int64_t dim, int64_t start, int64_t length) {
  const int d = detail::axis_of("narrow", x, dim);
  const int64_t size = x.shape()[d], first = start < 0 ? start + size : start;
  if (first < 0 || length < 0 || first > size - length)
    fail<IndexError>(x.at,
                     "narrow: start {} and length {} for dim {} of {}: need a part of the axis",
                     start, length, dim, x.shape());
  return record_slice("narrow", x, d, first, length, 1);
}

Tensor slice(const In& x, int64_t dim, int64_t start, int64_t end, int64_t step) {
  const int d = detail::axis_of("slice", x, dim);
  if (step < 1) fail<ValueError>(x.at, "slice: step {}: need at least 1", step);
  const int64_t size = x.shape()[d];
  step = std::min(step, std::max<int64_t>(size, 1));  // a longer one also takes the first alone
  auto clamped = [size](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + size : i, 0, size); };
  const int64_t first = clamped(start), last = std::max(first, clamped(end));
  return record_slice("slice", x, d, first, last == first ? 0 : (last - first - 1) / step + 1,
                      step);
}

Tensor Tensor::view_part(std::initializer_list<AxisIndex> parts) const {
  const At at = parts.begin()->at;
  if (std::ssize(parts) > get("index", at).shape.rank())
    fail<IndexError>(at, "index: {} indices for {}: need at most one for each axis", parts.size(),
                     shape());
  Tensor y = *this;
  int axis = 0;  // of y
  for (const AxisIndex& i : parts)
    if (i.removed) y = y.select(axis, i.start, at);
    else y = slice({y, at}, axis++, i.start, i.end, i.step);
  return y;
}

Tensor select(const In& x, int64_t dim, int64_t index) {
  const int d = detail::axis_of("select", x, dim);
  const int64_t size = x.shape()[d];
  if (index < -size || index >= size)
    fail<IndexError>(x.at, "select: index {} for dim {} of {}: need {} to {}", index, dim,
                     x.shape(), -size, size - 1);
  return squeeze({record_slice("select", x, d, index < 0 ? index + size : index, 1, 1), x.at}, d);
}

Tensor squeeze(const In& x, int64_t dim) {
  detail::check("squeeze", x);
  const int d = detail::wrap_dim("squeeze", dim, x.dim(), x.at);
  Shape shape;
  for (int i = 0; i < x.dim(); ++i)
    if (i != d || x.shape()[i] != 1) shape.push_back(x.shape()[i]);
  return record_reshape("squeeze", x, shape);
}

Tensor squeeze(const In& x) {
  detail::check("squeeze", x);
  Shape shape;
  for (int64_t size : x.shape())
    if (size != 1) shape.push_back(size);
  return record_reshape("squeeze", x, shape);
}

Tensor unsqueeze(const In& x, int64_t dim) {
  detail::check("unsqueeze", x);
  detail::check_rank("unsqueeze", x.dim() + 1, x.at);
  Shape shape = x.shape();
  shape.insert(detail::wrap_dim("unsqueeze", dim, x.dim() + 1, x.at), 1);
  return record_reshape("unsqueeze", x, shape);
}

Tensor expand(const In& x, const Shape& wanted) {
  detail::check("expand", x);
  Shape shape = wanted;
  const int shift = shape.rank() - x.dim();
  for (int i = std::max(shift, 0); i < shape.rank(); ++i)
    if (shape[i] == -1) shape[i] = x.shape()[i - shift];
  if (!broadcasts_to(x.shape(), shape))
    fail<ShapeError>(x.at, "expand: {} does not broadcast to {}: only axes of size 1 repeat",
                     x.shape(), wanted);
  detail::numel("expand", shape, x.at);
  Strides strides = Shape::filled(shape.rank(), 0);
  for (int i = 0; i < x.dim(); ++i)
    strides[i + shift] = x.shape()[i] == 1 && shape[i + shift] != 1 ? 0 : x.strides()[i];
  // The engine sums a broadcast gradient back by itself.
  return record("expand", view(x, shape, strides), wrt(x, [](const Tensor& g) { return g; }));
}

Tensor clone(const In& x) {
  detail::check("clone", x);
  return record("clone", detail::convert("clone", x, x.dtype()),
                wrt(x, [](const Tensor& g) { return g; }));
}

Tensor contiguous(const In& x) {
  detail::check("contiguous", x);
  return x.is_contiguous() ? Tensor(x) : clone(x);
}

Tensor to(const In& x, DType dtype) {
  detail::check("to", x);
  if (dtype == x.dtype()) return x;
  Tensor out = detail::convert("to", x, dtype);
  if (!is_floating(dtype)) return out;
  return record("to", out, wrt(x, [back = x.dtype()](const Tensor& g) { return to(g, back); }));
}

// ---- the same functions as methods

Tensor Tensor::reshape(const Shape& s, At at) const { return descent::reshape({*this, at}, s); }
Tensor Tensor::t(At at) const { return descent::t({*this, at}); }
Tensor Tensor::transpose(int64_t a, int64_t b, At at) const {
  return descent::transpose({*this, at}, a, b);
}
Tensor Tensor::permute(const Dims& dims, At at) const {
  return descent::permute({*this, at}, dims);
}
Tensor Tensor::narrow(int64_t dim, int64_t start, int64_t length, At at) const {
  return descent::narrow({*this, at}, dim, start, length);
}
Tensor Tensor::select(int64_t dim, int64_t index, At at) const {
  return descent::select({*this, at}, dim, index);
}
Tensor Tensor::squeeze(int64_t dim, At at) const { return descent::squeeze({*this, at}, dim); }
Tensor Tensor::squeeze(At at) const { return descent::squeeze({*this, at}); }
Tensor Tensor::unsqueeze(int64_t dim, At at) const { return descent::unsqueeze({*this, at}, dim); }
Tensor Tensor::expand(const Shape& s, At at) const { return descent::expand({*this, at}, s); }
Tensor Tensor::contiguous(At at) const { return descent::contiguous({*this, at}); }
Tensor Tensor::clone(At at) const { return descent::clone({*this, at}); }
Tensor Tensor::to(DType dtype, At at) const { return descent::to({*this, at}, dtype); }

}  // namespace descent
