#include "descent/core/base/shape.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "descent/core/base/checked.hpp"
#include "descent/core/base/dtype.hpp"

namespace [[gnu::visibility("default")]] descent {

void Shape::refuse_rank() {
  fail<ShapeError>(At::here(), "shape: a tensor has at most {} axes", kMaxRank);
}

void Shape::refuse_axis() const {
  fail<IndexError>(At::here(), "shape: {} has no such axis", *this);
}

std::string str(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

const char* str(DType dtype) {
  switch (dtype) {
    case float32: return "float32";
    case float64: return "float64";
    case int64: return "int64";
    case boolean: return "bool";
  }
  return "?";
}

namespace detail {

void refuse_dtype(const char* op, Kinds kinds, DType dtype, At at) {
  const char* need = kinds == Kinds::floating  ? "float32 or float64"
                     : kinds == Kinds::numeric ? "float32, float64 or int64"
                                               : "a dtype";
  fail<DtypeError>(at, "{}: the input is {}: need {} (use to())", op, dtype, need);
}

void fail_size(const char* what, int64_t a, const char* sign, int64_t b, At at) {
  fail<SizeError>(at, "{}: {} {} {} is too large: sizes end at {}", what, a, sign, b, INT64_MAX);
}

int64_t numel(const char* op, const Shape& shape, At at) {
  int64_t n = 1;
  bool empty = false;
  for (int64_t size : shape) {
    if (size < 0) fail<ShapeError>(at, "{}: shape {} has a negative size", op, shape);
    empty |= size == 0;
    if (__builtin_mul_overflow(n, size == 0 ? 1 : size, &n))
      fail<SizeError>(at, "{}: shape {} is too large: sizes end at {}", op, shape, INT64_MAX);
  }
  return empty ? 0 : n;
}

void check_rank(const char* op, int rank, At at) {
  if (rank > kMaxRank)
    fail<ShapeError>(at, "{}: the result has {} axes: a tensor has at most {}", op, rank, kMaxRank);
}

Shape indices_of(int64_t position, const Shape& shape) {
  Shape indices = shape;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    indices[d] = position % shape[d];
    position /= shape[d];
  }
  return indices;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = Shape::filled(shape.rank(), 1);
  for (int i = shape.rank() - 2; i >= 0; --i)
    strides[i] = strides[i + 1] * (shape[i + 1] == 0 ? 1 : shape[i + 1]);
  return strides;
}

int wrap_dim(const char* op, int64_t dim, int rank, At at) {
  int64_t axes = rank == 0 ? 1 : rank;
  if (dim < -axes || dim >= axes)
    fail<IndexError>(at, "{}: dim {} is out of range for rank {}: need {}..{}", op, dim, rank,
                     -axes, axes - 1);
  return static_cast<int>(dim < 0 ? dim + axes : dim);
}

}
}  // namespace descent::detail
