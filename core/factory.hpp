#pragma once
#include "descent/core/tensor.hpp"

// Ways to make a tensor. Data and shape are never confused: `tensor({1., 2.})` holds data,
// `zeros({1, 2})` has a shape.

namespace [[gnu::visibility("default")]] descent {

/// Uninitialised elements.
Tensor empty(const Shape& shape, DType dtype = float32, At at = At::here());
Tensor zeros(const Shape& shape, DType dtype = float32, At at = At::here());
Tensor ones(const Shape& shape, DType dtype = float32, At at = At::here());
/// Every element is `value`.
Tensor full(const Shape& shape, double value, DType dtype = float32, At at = At::here());
Tensor zeros_like(const In& x);
Tensor ones_like(const In& x);
Tensor full_like(const In& x, double value);
/// start, start + step, ... below `end` (above it for a negative step): shape [ceil((end - start) /
/// step)].
Tensor arange(double start, double end, double step = 1, DType dtype = int64, At at = At::here());
/// [end]: 0, 1, ..., end - 1.
Tensor arange(int64_t end, DType dtype = int64, At at = At::here());
/// `count` evenly spaced values from `start` to `end`, both included.
Tensor linspace(double start, double end, int64_t count, DType dtype = float32, At at = At::here());
/// [n, n], ones on the diagonal.
Tensor eye(int64_t n, DType dtype = float32, At at = At::here());

namespace detail {
/// out[offset + i] = values[i], converted to out's dtype. T is a C++ arithmetic type.
template <class T>
void store(const T* values, std::size_t count, const Tensor& out, int64_t offset);
[[noreturn]] void refuse_ragged(std::size_t row, std::size_t first, std::size_t found, At at);
[[noreturn]] void refuse_count(std::size_t count, const Shape& shape, At at);

/// Literals: integers make int64, bools bool, and 1. a float32, as in PyTorch.
template <class T> constexpr DType literal_dtype() {
  return std::is_same_v<T, bool> ? boolean : std::is_integral_v<T> ? int64 : float32;
}
template <class T>
concept Number = std::is_arithmetic_v<T>;
}  // namespace detail

/// A scalar (rank 0).
template <detail::Number T>
Tensor tensor(T value, DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  Tensor out = empty({}, dtype, at);
  detail::store(&value, 1, out, 0);
  return out;
}
/// A vector: `tensor({1., 2., 3.})`.
template <detail::Number T>
Tensor tensor(std::initializer_list<T> values, DType dtype = detail::literal_dtype<T>(),
              At at = At::here()) {
  Tensor out = empty({static_cast<int64_t>(values.size())}, dtype, at);
  detail::store(values.begin(), values.size(), out, 0);
  return out;
}
/// A matrix, by rows: `tensor({{1., 2.}, {3., 4.}})`. ShapeError if the rows differ in length.
template <detail::Number T>
Tensor tensor(std::initializer_list<std::initializer_list<T>> rows,
              DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  const std::size_t columns = rows.begin()->size();
  Tensor out = empty({static_cast<int64_t>(rows.size()), static_cast<int64_t>(columns)}, dtype, at);
  for (const auto& row : rows) {
    const auto i = static_cast<std::size_t>(&row - rows.begin());
    if (row.size() != columns) detail::refuse_ragged(i, columns, row.size(), at);
    detail::store(row.begin(), columns, out, static_cast<int64_t>(i * columns));
  }
  return out;
}
/// A copy of `values` in row-major order; its dtype is T's own: double makes float64.
template <class T>
Tensor tensor(std::span<const T> values, const Shape& shape, At at = At::here()) {
  constexpr DType dtype = std::is_same_v<T, double> ? float64 : detail::literal_dtype<T>();
  Tensor out = empty(shape, dtype, at);
  if (out.numel() != static_cast<int64_t>(values.size()))
    detail::refuse_count(values.size(), shape, at);
  detail::store(values.data(), values.size(), out, 0);
  return out;
}
template <class T>
Tensor tensor(const std::vector<T>& values, const Shape& shape, At at = At::here()) {
  return tensor(std::span<const T>(values), shape, at);
}
template <class T> Tensor tensor(const std::vector<T>& values, At at = At::here()) {
  return tensor(std::span<const T>(values), {static_cast<int64_t>(values.size())}, at);
}

}  // namespace descent
