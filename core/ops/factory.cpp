#include "descent/core/ops/factory.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "descent/core/kernels/elementwise.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail {

void refuse_count(std::size_t count, const Shape& shape, At at) {
  fail<ShapeError>(at, "tensor: {} values do not fill shape {}", count, shape);
}

}  // namespace detail

namespace {
using List = std::initializer_list<detail::Literal>;

/// The shape of the list, judged by the first element of each level; `fill` checks the others.
Shape shape_of(List list) {
  Shape shape;
  for (const List* rows = &list; rows; rows = &rows->begin()->rows) {
    shape.push_back(static_cast<int64_t>(rows->size()));
    if (rows->size() == 0 || !rows->begin()->is_list) break;
  }
  return shape;
}

/// The smallest dtype that holds all numbers of the list: bool, int64 or float32.
DType dtype_of(List list) {
  DType widest = boolean;
  for (const detail::Literal& item : list) {
    const DType own = item.is_list ? dtype_of(item.rows) : item.dtype;
    if (own == float32 || (own == int64 && widest == boolean)) widest = own;
  }
  return list.size() == 0 ? float32 : widest;
}

/// Writes the list, whose items lie along axis `axis` of `out`, to the elements of `out` from
/// number `next` on, and counts `next` up.
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
    else item.value.visit([&](auto number) { detail::store(&number, 1, out, at, next++); });
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

Tensor from_blob(std::shared_ptr<void> data, const Shape& shape, DType dtype, At at) {
  detail::numel("from_blob", shape, at);
  if (!data) fail<ValueError>(at, "from_blob: data is null");
  if (reinterpret_cast<std::uintptr_t>(data.get()) % static_cast<std::size_t>(itemsize(dtype)) != 0)
    fail<ValueError>(at, "from_blob: data is not aligned for {}: need a multiple of {} bytes",
                     dtype, itemsize(dtype));
  const Tensor owner = empty({0}, dtype, at);
  detail::Storage* storage = Peek::header(owner)->storage;
  storage->memory = std::move(data);
  auto* elements = static_cast<std::byte*>(storage->memory.get());
  return detail::view_of(storage, elements, dtype, shape, detail::contiguous_strides(shape));
}

/// A new tensor whose elements are all `value`.
static Tensor make(const char* op, const Shape& shape, Number value, DType dtype, At at) {
  detail::check_scalar(op, dtype, value, at);
  return detail::empty(op, shape, dtype, at).fill_(value, at);
}

Tensor zeros(const Shape& shape, DType dtype, At at) {
  Tensor out = detail::empty("zeros", shape, dtype, at);  // in every dtype, 0 is all zero bytes
  std::memset(Peek::header(out)->data, 0, static_cast<std::size_t>(out.numel() * itemsize(dtype)));
  return out;
}
Tensor ones(const Shape& shape, DType dtype, At at) { return make("ones", shape, 1, dtype, at); }
Tensor full(const Shape& shape, Number value, DType dtype, At at) {
  return make("full", shape, value, dtype, at);
}
Tensor zeros_like(const In& x) {
  detail::check("zeros_like", x);
  return zeros(x.shape(), x.dtype(), x.at);
}
static Tensor make_like(const char* op, const In& x, Number value) {
  detail::check(op, x);
  return make(op, x.shape(), value, x.dtype(), x.at);
}
Tensor ones_like(const In& x) { return make_like("ones_like", x, 1); }
Tensor full_like(const In& x, Number value) { return make_like("full_like", x, value); }

namespace {

__extension__ using int128 = __int128;  // holds products and differences of two int64

/// The finite number as an integer; a fraction is rounded up or down.
int128 round_to_integer(const Number& number, bool up) {
  return number.visit([up]<class V>(V v) -> int128 {
    if constexpr (!std::is_same_v<V, double>) return v;
    else return static_cast<int128>(std::clamp(up ? std::ceil(v) : std::floor(v), -0x1p99, 0x1p99));
  });
}

/// A vector [count] whose element i is integer(i) if `dtype` is int64, and real(i) if it is
/// floating.
template <class Integer, class Real>
Tensor make_range(const char* op, int64_t count, DType dtype, At at, Integer integer, Real real) {
  Tensor out = detail::empty(op, {count}, dtype, at);
  visit<Kinds::numeric>(op, dtype, at, [&]<class T>(T) {
    T* p = elements_of<T>(out);
    for (int64_t i = 0; i < count; ++i) {
      if constexpr (std::is_same_v<T, int64_t>) p[i] = static_cast<int64_t>(integer(i));
      else p[i] = static_cast<T>(real(i));
    }
  });
  return out;
}

}  // namespace

Tensor detail::arange(Number start, Number end, Number step, DType dtype, At at) {
  const auto from = start.to<double>(), to = end.to<double>(), by = step.to<double>();
  if (by == 0 || !std::isfinite(from) || !std::isfinite(to) || !std::isfinite(by))
    fail<ValueError>(at, "arange: from {} to {} by {}: need finite ends and a step that is not 0",
                     start, end, step);
  for (const Number& number : {start, step}) check_scalar("arange", dtype, number, at);
  const bool exact =
      dtype == int64 || (start.is_integer() && end.is_integer() && step.is_integer());
  const int128 first = round_to_integer(start, false), stride = round_to_integer(step, false),
               distance = round_to_integer(end, by > 0) - first;
  if (exact ? distance != 0 && (distance < 0) != (by < 0) : (to < from) != (by < 0) && to != from)
    fail<ValueError>(at, "arange: from {} to {} by {}: the step leads away from the end", start,
                     end, step);
  const int128 exact_count = exact ? (distance + stride - (by > 0 ? 1 : -1)) / stride : 0;
  const double count = exact ? static_cast<double>(exact_count) : std::ceil((to - from) / by);
  if (count > 9e18) fail<SizeError>(at, "arange: {} elements: sizes end at {}", count, INT64_MAX);
  const auto n = exact ? static_cast<int64_t>(exact_count) : static_cast<int64_t>(count);
  const int128 last = first + (n - 1) * stride;
  if (dtype == int64 && n > 0 && last != static_cast<int64_t>(last))
    fail<ValueError>(at, "arange: from {} to {} by {}: int64 ends before the last element", start,
                     end, step);
  if (dtype != int64) check_scalar("arange", dtype, from + static_cast<double>(n) * by - by, at);
  return make_range(
      "arange", n, dtype, at, [=](int64_t i) { return first + i * stride; },
      [=](int64_t i) { return from + static_cast<double>(i) * by; });
}

Tensor linspace(Number start, Number end, int64_t count, DType dtype, At at) {
  const auto from = start.to<double>(), to = end.to<double>();
  if (!std::isfinite(from) || !std::isfinite(to))
    fail<ValueError>(at, "linspace: from {} to {}: need finite ends", start, end);
  for (const Number& number : {start, end}) detail::check_scalar("linspace", dtype, number, at);
  const int128 first = round_to_integer(start, false), last = round_to_integer(end, false);
  const int64_t steps = std::max<int64_t>(count, 2) - 1;
  const auto n = static_cast<double>(steps);
  const double step = std::isfinite(to - from) ? (to - from) / n : to / n - from / n;
  return make_range(
      "linspace", count, dtype, at,
      [=](int64_t i) { return (first * (steps - i) + last * i) / steps; },
      // The last value is exactly `end`, however `step` was rounded.
      [=](int64_t i) { return i > 0 && i == steps ? to : from + static_cast<double>(i) * step; });
}

Tensor eye(int64_t n, DType dtype, At at) {
  if (n < 0) fail<ShapeError>(at, "eye: n is {}: need n >= 0", n);
  Tensor out = zeros({n, n}, dtype, at);
  const int one = 1;
  for (std::size_t i = 0, size = static_cast<std::size_t>(n); i < size; ++i)
    detail::store(&one, 1, out, at, i * size + i);
  return out;
}

}  // namespace descent
