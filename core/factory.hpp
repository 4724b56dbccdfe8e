#pragma once
#include "descent/core/tensor.hpp"

// Ways to make a tensor. Data and shape are never confused: `tensor({1., 2.})` holds data,
// `zeros({1, 2})` has a shape.

namespace [[gnu::visibility("default")]] descent {

/// Uninitialised elements.
Tensor empty(const Shape& shape, DType dtype = float32, At at = At::here());
Tensor zeros(const Shape& shape, DType dtype = float32, At at = At::here());
Tensor ones(const Shape& shape, DType dtype = float32, At at = At::here());
template <std::integral... D>
Tensor empty(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: empty({2, 3})")));
template <std::integral... D>
Tensor zeros(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: zeros({2, 3})")));
template <std::integral... D>
Tensor ones(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: ones({2, 3})")));
/// Every element is `value`.
Tensor full(const Shape& shape, double value, DType dtype = float32, At at = At::here());
Tensor zeros_like(const In& x);
Tensor ones_like(const In& x);
Tensor full_like(const In& x, double value);
/// `count` evenly spaced values from `start` to `end`, both included.
Tensor linspace(double start, double end, int64_t count, DType dtype = float32, At at = At::here());
/// [n, n], ones on the diagonal.
Tensor eye(int64_t n, DType dtype = float32, At at = At::here());

namespace detail {
/// out[offset + i] = values[i], converted to out's dtype.
template <class Iterator>
void store(Iterator values, std::size_t count, const Tensor& out, std::size_t offset = 0) {
  visit<Kinds::any>("tensor", out.dtype(), At::unknown(), [&](auto zero) {
    auto* p = reinterpret_cast<decltype(zero)*>(Peek::header(out)->data) + offset;
    for (std::size_t i = 0; i < count; ++i) *p++ = static_cast<decltype(zero)>(*values++);
  });
}
Tensor arange(double start, double end, double step, DType dtype, At at);
[[noreturn]] void refuse_count(std::size_t count, const Shape& shape, At at);

/// Literals: integers make int64, bools bool, and 1. a float32, as in PyTorch.
template <class T> constexpr DType literal_dtype() {
  return std::is_same_v<T, bool> ? boolean : std::is_integral_v<T> ? int64 : float32;
}
template <class T>
concept Number = std::is_arithmetic_v<T>;

/// A number between braces, or a list of them that is no longer than the expression it stands in.
struct Literal {
  template <Number T>
  Literal(T value)
      : dtype(literal_dtype<T>()),
        exact(std::is_integral_v<T> &&
              (std::is_signed_v<T> || static_cast<uint64_t>(value) <= INT64_MAX)),
        integer(exact ? static_cast<int64_t>(value) : 0),
        number(static_cast<double>(value)) {}
  Literal(std::initializer_list<Literal> list) : rows(list), is_list(true) {}

  std::initializer_list<Literal> rows = {};
  bool is_list = false;
  DType dtype = boolean;  // of a number
  bool exact = false;     // `integer` is the number, and `number` may be rounded
  int64_t integer = 0;
  double number = 0;
};

template <class T, class Iterator>
Tensor copied(Iterator values, std::size_t count, const Shape& shape, At at) {
  Tensor out = empty("tensor", shape, std::is_same_v<T, double> ? float64 : literal_dtype<T>(), at);
  if (out.numel() != static_cast<int64_t>(count)) refuse_count(count, shape, at);
  store(values, count, out);
  return out;
}
}  // namespace detail

/// start, start + step, ... below `end` (above it for a negative step): shape [ceil((end - start) /
/// step)]. int64 if all three are integers, else float32, or as `dtype` says: DtypeError for
/// fractions in int64.
template <detail::Number A, detail::Number B, detail::Number C = int>
Tensor arange(A start, B end, C step = 1,
              DType dtype = detail::literal_dtype<std::common_type_t<A, B, C>>(),
              At at = At::here()) {
  return detail::arange(static_cast<double>(start), static_cast<double>(end),
                        static_cast<double>(step), dtype, at);
}
/// 0, 1, ... below `end`.
template <detail::Number T>
Tensor arange(T end, DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  return detail::arange(0, static_cast<double>(end), 1, dtype, at);
}

/// A scalar (rank 0).
template <detail::Number T>
Tensor tensor(T value, DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  Tensor out = empty({}, dtype, at);
  detail::store(&value, 1, out);
  return out;
}
/// A vector: `tensor({1., 2., 3.})`.
template <detail::Number T>
Tensor tensor(std::initializer_list<T> values, DType dtype = detail::literal_dtype<T>(),
              At at = At::here()) {
  Tensor out = empty({static_cast<int64_t>(values.size())}, dtype, at);
  detail::store(values.begin(), values.size(), out);
  return out;
}
/// The same of numbers of several types, `tensor({1, 2.5})`, a matrix by rows,
/// `tensor({{1., 2.}, {3., 4.}})`, and so on. Where one is a fraction, all are: float32, as in
/// PyTorch, unless `dtype` says otherwise. ShapeError if the rows are not all alike.
Tensor tensor(std::initializer_list<detail::Literal> list, At at = At::here());
Tensor tensor(std::initializer_list<detail::Literal> list, DType dtype, At at = At::here());
/// A copy of `values` in row-major order; its dtype is T's own: double makes float64.
template <detail::Number T>
Tensor tensor(std::span<const T> values, const Shape& shape, At at = At::here()) {
  return detail::copied<T>(values.begin(), values.size(), shape, at);
}
template <detail::Number T>
Tensor tensor(const std::vector<T>& values, const Shape& shape, At at = At::here()) {
  return detail::copied<T>(values.begin(), values.size(), shape, at);
}
template <detail::Number T> Tensor tensor(const std::vector<T>& values, At at = At::here()) {
  return tensor(values, {static_cast<int64_t>(values.size())}, at);
}

}  // namespace descent
