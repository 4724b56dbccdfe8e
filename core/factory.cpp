#include "descent/core/factory.hpp"

#include <cmath>
#include <cstring>

#include "descent/core/elementwise.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail {

void refuse_ragged(std::size_t row, std::size_t first, std::size_t found, At at) {
  fail<ShapeError>(at, "tensor: row {} has {} elements, row 0 has {}: need equal rows", row, found,
                   first);
}

void refuse_count(std::size_t count, const Shape& shape, At at) {
  fail<ShapeError>(at, "tensor: {} values do not fill shape {}", count, shape);
}

}  // namespace detail

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
