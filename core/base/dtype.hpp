#pragma once
/// @file
/// The types of a tensor's elements.

#include <cstdint>
#include <string>
#include <type_traits>

#include "descent/core/base/error.hpp"
#include "descent/core/base/float_mode.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The type of a tensor's elements. There is no implicit promotion between tensors; a C++ number
/// takes the dtype of the tensor beside it.
enum class DType : uint8_t { float32, float64, int64, boolean };
using enum DType;

/// "float32", "float64", "int64" or "bool".
const char* str(DType dtype);
/// Bytes per element.
[[nodiscard]] constexpr int64_t itemsize(DType dtype) {
  return dtype == boolean ? 1 : dtype == float32 ? 4 : 8;
}
/// Whether it is float32 or float64.
[[nodiscard]] constexpr bool is_floating(DType dtype) {
  return dtype == float32 || dtype == float64;
}

/// The dtype whose elements have the C++ type T: float, double, int64_t or bool.
template <class T> [[nodiscard]] constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return float32;
  else if constexpr (std::is_same_v<T, double>) return float64;
  else if constexpr (std::is_same_v<T, int64_t>) return int64;
  else {
    static_assert(std::is_same_v<T, bool>, "elements are float, double, int64_t or bool");
    return boolean;
  }
}

/// The sets of dtypes that an op can accept.
enum class Kinds { floating, numeric, any };

namespace detail {
[[noreturn]] void refuse_dtype(const char* op, Kinds kinds, DType dtype, At at);

}  // namespace detail

/// Returns f(T{}), where T is the C++ type of `dtype`. DtypeError if `dtype` is not among `K`. All
/// code that computes elements runs in such an f, so the floating-point mode of the thread is set
/// here: see simd::DefaultFloatMode.
template <Kinds K, class F> decltype(auto) visit(const char* op, DType dtype, At at, F&& f) {
  const simd::DefaultFloatMode mode;
  if (dtype == float32) return f(float{});
  if (dtype == float64) return f(double{});
  if constexpr (K != Kinds::floating)
    if (dtype == int64) return f(int64_t{});
  if constexpr (K == Kinds::any)
    if (dtype == boolean) return f(bool{});
  detail::refuse_dtype(op, K, dtype, at);
}

}  // namespace descent
