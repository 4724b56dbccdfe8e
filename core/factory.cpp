#include "descent/core/factory.hpp"

#include <cmath>
#include <cstring>

#include "descent/core/elementwise.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail {

void refuse_count(std::size_t count, const Shape& shape, At at) {
  fail<ShapeError>(at, "tensor: {} values do not fill shape {}", count, shape);
}

}  // namespace detail

namespace {
using List = std::initializer_list<detail::Literal>;

/// The list's shape, as its first elements have it.
Shape shape_of(List list) {
  Shape shape;
  for (const List* rows = &list; rows; rows = &rows->begin()->rows) {
    shape.push_back(static_cast<int64_t>(rows->size()));
    if (rows->size() == 0 || !rows->begin()->is_list) break;
  }
  return shape;
}

/// What holds all of its numbers: fractions before integers before bools.
DType dtype_of(List list) {
  DType widest = boolean;
  for (const detail::Literal& item : list) {
    const DType own = item.is_list ? dtype_of(item.rows) : item.dtype;
    if (own == float32 || (own == int64 && widest == boolean)) widest = own;
  }
  return list.size() == 0 ? float32 : widest;
}

/// Writes the list, which is axis `axis` of `out` here, from element `next` on.
void fill(const Tensor& out, List list, int axis, std::size_t& next, At at) {
  const bool of_lists = axis + 1 < out.dim();
  for (const detail::Literal& item : list) {
    const auto row = &item - list.begin();
    const auto size = static_cast<int64_t>(item.rows.size());
    if (item.is_list != of_lists)
      fail<ShapeError>(at, "tensor: element {} is {}, element 0 is {}: need all of a kind", row,
                       item.is_list ? "a list" : "a number", of_lists ? "a list" : "a number");
    if (of_lists && size != out.size(axis + 1))
      fail<ShapeError>(at, "tensor: row {} has {} elements, row 0 has {}: need equal rows", row,
                       size, out.size(axis + 1));
    if (of_lists) fill(out, item.rows, axis + 1, next, at);
    else if (item.exact) detail::store(&item.integer, 1, out, next++);
    else detail::store(&item.number, 1, out, next++);
  }
}
}  // namespace

Tensor tensor(List list, DType dtype, At at) {
  const Tensor out = detail::empty("tensor", shape_of(list), dtype, at);
  std::size_t next = 0;
  fill(out, list, 0, next, at);
  return out;
}
Tensor tensor(List list, At at) { return tensor(list, dtype_of(list), at); }

Tensor empty(const Shape& shape, DType dtype, At at) {
  return detail::empty("empty", shape, dtype, at);
}

static Tensor filled(const char* op, const Shape& shape, double value, DType dtype, At at) {
  detail::check_scalar(op, dtype, value, at);
  return detail::empty(op, shape, dtype, at).fill_(value, at);
}

Tensor zeros(const Shape& shape, DType dtype, At at) {
  Tensor out = detail::empty("zeros", shape, dtype, at);  // all dtypes' zeros are zero bytes
  std::memset(Peek::header(out)->data, 0, static_cast<std::size_t>(out.numel() * itemsize(dtype)));
  return out;
}
Tensor ones(const Shape& shape, DType dtype, At at) { return filled("ones", shape, 1, dtype, at); }
Tensor full(const Shape& shape, double value, DType dtype, At at) {
  return filled("full", shape, value, dtype, at);
}
Tensor zeros_like(const In& x) { return zeros(x.shape(), x.dtype(), x.at); }
Tensor ones_like(const In& x) { return ones(x.shape(), x.dtype(), x.at); }
Tensor full_like(const In& x, double value) { return full(x.shape(), value, x.dtype(), x.at); }

/// start + i * step for i in [0, count).
static Tensor ramp(const char* op, double start, double step, int64_t count, DType dtype, At at) {
  Tensor out = detail::empty(op, {count}, dtype, at);
  detail::visit<Kinds::numeric>(op, dtype, at, [&](auto zero) {
    auto* p = reinterpret_cast<decltype(zero)*>(Peek::header(out)->data);
    for (int64_t i = 0; i < count; ++i)
      p[i] = static_cast<decltype(zero)>(start + static_cast<double>(i) * step);
  });
  return out;
}

Tensor detail::arange(double start, double end, double step, DType dtype, At at) {
  if (step == 0 || !std::isfinite(start) || !std::isfinite(end) || !std::isfinite(step))
    fail<ValueError>(at, "arange: from {} to {} by {}: need finite ends and a step that is not 0",
                     start, end, step);
  for (double value : {start, step}) check_scalar("arange", dtype, value, at);
  double count = std::max(0.0, std::ceil((end - start) / step));
  if (count > 9e18) fail<SizeError>(at, "arange: {} elements", count);
  return ramp("arange", start, step, static_cast<int64_t>(count), dtype, at);
}

Tensor linspace(double start, double end, int64_t count, DType dtype, At at) {
  Tensor out =
      ramp("linspace", start, count > 1 ? (end - start) / static_cast<double>(count - 1) : 0, count,
           dtype, at);
  if (count > 1)
    detail::store(&end, 1, out,
                  static_cast<std::size_t>(count - 1));  // exactly, whatever the step's rounding
  return out;
}

Tensor eye(int64_t n, DType dtype, At at) {
  if (n < 0) fail<ShapeError>(at, "eye: n is {}: need n >= 0", n);
  Tensor out = zeros({n, n}, dtype, at);
  const int one = 1;
  for (std::size_t i = 0, size = static_cast<std::size_t>(n); i < size; ++i)
    detail::store(&one, 1, out, i * size + i);
  return out;
}

}  // namespace descent
