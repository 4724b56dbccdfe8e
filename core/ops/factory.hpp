#pragma once
/// @file
/// Ways to make a tensor. Data and shape are never confused: `tensor({1., 2.})` holds data,
/// `zeros({1, 2})` has a shape.

#include <iterator>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Uninitialised elements.
[[nodiscard]] Tensor empty(const Shape& shape, DType dtype = float32, At at = At::here());
/// Zeros, ones.
[[nodiscard]] Tensor zeros(const Shape& shape, DType dtype = float32, At at = At::here());
[[nodiscard]] Tensor ones(const Shape& shape, DType dtype = float32, At at = At::here());
template <std::integral... D>
[[nodiscard]] Tensor empty(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: empty({2, 3})")));
template <std::integral... D>
[[nodiscard]] Tensor zeros(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: zeros({2, 3})")));
template <std::integral... D>
[[nodiscard]] Tensor ones(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: ones({2, 3})")));
/// Every element is `value`.
[[nodiscard]] Tensor full(const Shape& shape, Number value, DType dtype = float32,
                          At at = At::here());
/// The same of x's shape and dtype, without a gradient.
[[nodiscard]] Tensor zeros_like(const In& x);
[[nodiscard]] Tensor ones_like(const In& x);
[[nodiscard]] Tensor full_like(const In& x, Number value);
/// `count` evenly spaced values from `start` to `end`, both included; fractions are cut off in
/// int64. ValueError unless both are finite.
[[nodiscard]] Tensor linspace(Number start, Number end, int64_t count, DType dtype = float32,
                              At at = At::here());
/// [n, n], ones on the diagonal.
[[nodiscard]] Tensor eye(int64_t n, DType dtype = float32, At at = At::here());

namespace detail {
/// Whether `To` holds every number of `From`.
template <class To, class From> [[nodiscard]] constexpr bool holds_all() {
  if constexpr (std::is_floating_point_v<To>)
    return std::is_integral_v<From> || sizeof(From) <= sizeof(To);
  else
    return std::is_same_v<To, From> ||
           (sizeof(To) == 8 && holds<To>(std::numeric_limits<From>::max()));
}
/// out[offset + i] = values[i], in out's dtype, which must hold it: see `check_scalar`.
template <class Iterator>
void store(Iterator values, std::size_t count, const Tensor& out, At at, std::size_t offset = 0) {
  visit<Kinds::any>("tensor", out.dtype(), at, [&]<class To>(To) {
    To* p = reinterpret_cast<To*>(Peek::header(out)->data) + offset;
    for (std::size_t i = 0; i < count; ++i, ++values) {
      using From = std::iter_value_t<Iterator>;
      if constexpr (!holds_all<To, From>()) check_scalar("tensor", out.dtype(), *values, at);
      *p++ = static_cast<To>(*values);
    }
  });
}
[[nodiscard]] Tensor arange(Number start, Number end, Number step, DType dtype, At at);
[[noreturn]] void refuse_count(std::size_t count, const Shape& shape, At at);

/// Literals: integers make int64, bools bool, and 1. a float32, as in PyTorch.
template <class T> [[nodiscard]] constexpr DType literal_dtype() {
  return std::is_same_v<T, bool> ? boolean : std::is_integral_v<T> ? int64 : float32;
}
template <class T>
concept Arithmetic = std::is_arithmetic_v<T>;

/// A number between braces, or a list of them that is no longer than the expression it stands in.
struct Literal {
  template <Arithmetic T> Literal(T value_) : dtype(literal_dtype<T>()), value(value_) {}
  Literal(std::initializer_list<Literal> list) : rows(list), is_list(true) {}

  std::initializer_list<Literal> rows = {};
  bool is_list = false;
  DType dtype = boolean;  // of a number
  Number value = 0.0;
};

template <class Iterator>
[[nodiscard]] Tensor tensor_of(Iterator values, std::size_t count, const Shape& shape, DType dtype,
                               At at) {
  Tensor out = empty("tensor", shape, dtype, at);
  if (out.numel() != static_cast<int64_t>(count)) refuse_count(count, shape, at);
  store(values, count, out, at);
  return out;
}
}  // namespace detail

/// start, start + step, ... below `end` (above it for a negative step): shape [ceil((end - start) /
/// step)]. int64, and exact, if all three are integers, else float32, or as `dtype` says:
/// DtypeError for fractions in int64. ValueError for a step of 0 or one that leads away from `end`,
/// for ends that are not finite, and for elements that the dtype does not hold.
template <detail::Arithmetic A, detail::Arithmetic B, detail::Arithmetic C = int>
[[nodiscard]] Tensor arange(A start, B end, C step = 1,
                            DType dtype = detail::literal_dtype<std::common_type_t<A, B, C>>(),
                            At at = At::here()) {
  return detail::arange(start, end, step, dtype, at);
}
/// 0, 1, ... below `end`.
template <detail::Arithmetic T>
[[nodiscard]] Tensor arange(T end, DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  return detail::arange(0, end, 1, dtype, at);
}

/// A scalar (rank 0).
template <detail::Arithmetic T>
[[nodiscard]] Tensor tensor(T value, DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  return detail::tensor_of(&value, 1, {}, dtype, at);
}
/// A vector: `tensor({1., 2., 3.})`.
template <detail::Arithmetic T>
[[nodiscard]] Tensor tensor(std::initializer_list<T> values,
                            DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  const std::size_t n = values.size();
  return detail::tensor_of(values.begin(), n, {static_cast<int64_t>(n)}, dtype, at);
}
/// The same of numbers of several types, `tensor({1, 2.5})`, or by rows.
///
/// A matrix is `tensor({{1., 2.}, {3., 4.}})`, and so on. Where one number is a fraction, all are:
/// float32, as in PyTorch, unless `dtype` says otherwise. ShapeError if the rows are not all alike.
[[nodiscard]] Tensor tensor(std::initializer_list<detail::Literal> list, At at = At::here());
[[nodiscard]] Tensor tensor(std::initializer_list<detail::Literal> list, DType dtype,
                            At at = At::here());
/// A copy of `values` in row-major order. Its dtype follows the rule for literals: integers make
/// int64, bools bool, and both float and double float32, unless `dtype` says otherwise, as in
/// `tensor(values, {2, 3}, float64)`. ShapeError unless there are as many values as the shape has
/// elements.
template <detail::Arithmetic T>
[[nodiscard]] Tensor tensor(std::span<const T> values, const Shape& shape,
                            DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  return detail::tensor_of(values.begin(), values.size(), shape, dtype, at);
}
template <detail::Arithmetic T>
[[nodiscard]] Tensor tensor(const std::vector<T>& values, const Shape& shape,
                            DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  return detail::tensor_of(values.begin(), values.size(), shape, dtype, at);
}
template <detail::Arithmetic T>
[[nodiscard]] Tensor tensor(const std::vector<T>& values, DType dtype = detail::literal_dtype<T>(),
                            At at = At::here()) {
  return tensor(values, {static_cast<int64_t>(values.size())}, dtype, at);
}

}  // namespace descent
