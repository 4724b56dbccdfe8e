#pragma once
/// @file
/// Functions that make a tensor. Data and shape are never confused: `tensor({1., 2.})` takes data,
/// `zeros({1, 2})` takes a shape.

#include <span>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// A tensor whose elements are uninitialised.
[[nodiscard]] Tensor empty(const Shape& shape, DType dtype = float32, At at = At::here());
/// A tensor whose elements are all 0 (`zeros`) or all 1 (`ones`).
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
/// A tensor whose elements are all `value`.
[[nodiscard]] Tensor full(const Shape& shape, Number value, DType dtype = float32,
                          At at = At::here());
/// A tensor on memory of others, which has the elements one after the other: nothing is copied, and
/// changes go both ways. `data` is kept as long as a tensor needs the elements. If it keeps nothing
/// alive, as `std::shared_ptr<void>(std::shared_ptr<void>(), pointer)`, the memory must be there as
/// long. ValueError if it is null or not aligned for the dtype.
[[nodiscard]] Tensor from_blob(std::shared_ptr<void> data, const Shape& shape,
                               DType dtype = float32, At at = At::here());
/// A tensor of x's shape and dtype whose elements are all 0, all 1 or all `value`. It does not
/// require a gradient.
[[nodiscard]] Tensor zeros_like(const In& x);
[[nodiscard]] Tensor ones_like(const In& x);
[[nodiscard]] Tensor full_like(const In& x, Number value);
/// `count` evenly spaced values from `start` to `end`, both included (one value is `start`); in
/// int64 their fractions are cut off. ValueError unless `start` and `end` are finite.
[[nodiscard]] Tensor linspace(Number start, Number end, int64_t count, DType dtype = float32,
                              At at = At::here());
/// The identity matrix [n, n]: ones on the diagonal, zeros elsewhere.
[[nodiscard]] Tensor eye(int64_t n, DType dtype = float32, At at = At::here());

namespace detail {
/// Whether every number of type `From` can become a `To`, so that no check is needed.
template <class To, class From> [[nodiscard]] constexpr bool holds_all() {
  if constexpr (std::is_floating_point_v<To>)
    return std::is_integral_v<From> || sizeof(From) <= sizeof(To);
  else
    return std::is_same_v<To, From> ||
           (sizeof(To) == 8 && holds<To>(std::numeric_limits<From>::max()));
}
/// out[offset + i] = values[i], converted to out's dtype; `check_scalar` refuses a value that this
/// dtype cannot hold.
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

/// The dtype of a tensor made of Ts: int64 for integers, bool for bools, and float32 for float and
/// double, as in PyTorch.
template <class T> [[nodiscard]] constexpr DType literal_dtype() {
  return std::is_same_v<T, bool> ? boolean : std::is_integral_v<T> ? int64 : float32;
}
template <class T>
concept Arithmetic = std::is_arithmetic_v<T>;

/// A number between braces, or a list of such. The list lives only as long as the expression in
/// which it is written.
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

/// The numbers start, start + step, start + 2 step, ... that lie below `end` (above it for a
/// negative step): shape [ceil((end - start) / step)].
///
/// If all three arguments are integers, the result is int64 and exact; otherwise it is float32,
/// unless `dtype` says otherwise. DtypeError if `start` or `step` has a fraction and `dtype` is
/// int64. ValueError if the step is 0 or leads away from `end`, if `start` or `end` is not finite,
/// or if the dtype cannot hold an element.
template <detail::Arithmetic A, detail::Arithmetic B, detail::Arithmetic C = int>
[[nodiscard]] Tensor arange(A start, B end, C step = 1,
                            DType dtype = detail::literal_dtype<std::common_type_t<A, B, C>>(),
                            At at = At::here()) {
  return detail::arange(start, end, step, dtype, at);
}
/// The numbers 0, 1, ... that lie below `end`.
template <detail::Arithmetic T>
[[nodiscard]] Tensor arange(T end, DType dtype = detail::literal_dtype<T>(), At at = At::here()) {
  return detail::arange(0, end, 1, dtype, at);
}

/// A scalar, which has rank 0.
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
/// A vector of numbers of several types, `tensor({1, 2.5})`, or a tensor given by its rows.
///
/// `tensor({{1., 2.}, {3., 4.}})` is a matrix; lists of matrices make a tensor of rank 3, and so
/// on. Unless `dtype` says otherwise, the dtype is float32 if at least one number is a float or a
/// double, as in PyTorch, else int64 if at least one is an integer, and bool if all are bools.
/// ShapeError unless all rows have the same shape.
[[nodiscard]] Tensor tensor(std::initializer_list<detail::Literal> list, At at = At::here());
[[nodiscard]] Tensor tensor(std::initializer_list<detail::Literal> list, DType dtype,
                            At at = At::here());
/// A copy of `values` in row-major order; without `shape`, a vector. Integers make an int64 tensor,
/// bools a bool tensor, and both float and double a float32 tensor, unless `dtype` says otherwise,
/// as in `tensor(values, {2, 3}, float64)`. ShapeError unless there are as many values as the shape
/// has elements.
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
