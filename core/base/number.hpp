#pragma once
/// @file
/// C++ numbers as arguments beside tensors.

#include <limits>

#include "descent/core/base/dtype.hpp"
#include "descent/core/base/shape.hpp"

namespace [[gnu::visibility("default")]] descent {

/// A C++ number as an argument, exactly as the caller wrote it: a whole one of up to 64 bits does
/// not pass through a double.
class Number {
 public:
  /// The number v.
  Number(double v) : real_(v) {}
  template <class T>
  requires std::is_arithmetic_v<T> Number(T v) {
    if constexpr (std::is_integral_v<T> && sizeof(T) <= 8) {
      integer_ = static_cast<int64_t>(v);
      kind_ = std::is_signed_v<T> || integer_ >= 0 ? Kind::integer : Kind::above;
    } else {
      real_ = static_cast<double>(v);
    }
  }

  /// f(v), v a double, an int64_t, or a uint64_t that int64_t does not hold.
  template <class F> decltype(auto) visit(F&& f) const {
    if (kind_ == Kind::real) return f(real_);
    if (kind_ == Kind::integer) return f(integer_);
    return f(static_cast<uint64_t>(integer_));
  }
  /// As a T, which `detail::check_scalar` has found to hold it.
  template <class T> T to() const {
    return visit([](auto v) { return static_cast<T>(v); });
  }
  /// Whether it was written as a whole number.
  [[nodiscard]] bool is_integer() const { return kind_ != Kind::real; }

 private:
  enum class Kind : uint8_t { real, integer, above };
  union {
    double real_;
    int64_t integer_;
  };
  Kind kind_ = Kind::real;
};
/// As a message shows it.
[[nodiscard]] std::string str(const Number& number);

namespace detail {

/// Whether `To` has a number for v, whose fraction is cut off. Floating types have one for every
/// number, if need be infinity; bool asks only whether v is 0.
template <class To, class From> [[nodiscard]] constexpr bool holds(From v) {
  if constexpr (!std::is_integral_v<To> || std::is_same_v<To, bool> || std::is_same_v<To, From>) {
    return true;
  } else if constexpr (std::is_integral_v<From>) {
    const To to = static_cast<To>(v);
    return static_cast<From>(to) == v && (to < To(1)) == (v < From(1));
  } else {  // the ends are powers of two, hence exact
    using Limits = std::numeric_limits<To>;
    constexpr To half = Limits::max() / 2 + 1;
    const bool below = v < 2 * static_cast<From>(half);
    const bool above = v - static_cast<From>(Limits::min()) > -1;
    return below & above;  // no branch: it vectorises
  }
}

/// ValueError: the element at `position` of a tensor of shape `shape` is not in [low, high].
[[noreturn]] void refuse_element(const char* op, int64_t position, const Shape& shape, Number value,
                                 Number low, Number high, At at);
/// ValueError unless `To` has a number for v, the element at `position`.
template <class To, class From>
void check_element(const char* op, From v, int64_t position, const Shape& shape, At at) {
  if constexpr (std::is_integral_v<To>)
    if (!holds<To>(v)) [[unlikely]]
      refuse_element(op, position, shape, v, std::numeric_limits<To>::min(),
                     std::numeric_limits<To>::max(), at);
}

[[noreturn]] void refuse_scalar(const char* op, DType dtype, Number value, At at);
/// A number beside a tensor of `dtype`: DtypeError unless it is a whole one in the range of int64,
/// or 0 or 1 for bool; ValueError if it is finite and float32 would make it infinite.
inline void check_scalar(const char* op, DType dtype, Number value, At at) {
  const bool fits = value.visit([dtype]<class V>(V v) {
    constexpr bool real = std::is_same_v<V, double>;
    if (dtype == float64) return true;
    if (dtype == float32) {
      const double size = real && v < 0 ? -static_cast<double>(v) : static_cast<double>(v);
      return !(size >= 0x1.ffffffp127 && size <= std::numeric_limits<double>::max());
    }
    if (dtype == boolean) return v == V(0) || v == V(1);
    if constexpr (real) return holds<int64_t>(v) && static_cast<V>(static_cast<int64_t>(v)) == v;
    else return holds<int64_t>(v);
  });
  if (!fits) [[unlikely]]
    refuse_scalar(op, dtype, value, at);
}

}  // namespace detail

}  // namespace descent
