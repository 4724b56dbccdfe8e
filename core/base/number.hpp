#pragma once
/// @file
/// C++ numbers as arguments beside tensors.

#include <limits>

#include "descent/core/base/dtype.hpp"
#include "descent/core/base/shape.hpp"

namespace [[gnu::visibility("default")]] descent {

/// A C++ number as an argument, with exactly the value that the caller wrote: an integer of up to
/// 64 bits is not converted to double. (A long double is rounded to double.)
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

  /// Returns f(v), where v is a double, an int64_t, or a uint64_t that is too large for int64_t.
  template <class F> decltype(auto) visit(F&& f) const {
    if (kind_ == Kind::real) return f(real_);
    if (kind_ == Kind::integer) return f(integer_);
    return f(static_cast<uint64_t>(integer_));
  }
  /// The number as a T. `detail::check_scalar` must have accepted it before.
  template <class T> T to() const {
    return visit([](auto v) { return static_cast<T>(v); });
  }
  /// Whether it was written as an integer.
  [[nodiscard]] bool is_integer() const { return kind_ != Kind::real; }

 private:
  enum class Kind : uint8_t { real, integer, above };
  union {
    double real_;
    int64_t integer_;
  };
  Kind kind_ = Kind::real;
};
/// The number as messages show it.
[[nodiscard]] std::string str(const Number& number);

namespace detail {

/// Whether v without its fraction is a number of type `To`. Floating types take every number, which
/// may become infinite; so does bool, which is false for 0 and true for all others.
template <class To, class From> [[nodiscard]] constexpr bool holds(From v) {
  if constexpr (!std::is_integral_v<To> || std::is_same_v<To, bool> || std::is_same_v<To, From>) {
    return true;
  } else if constexpr (std::is_integral_v<From>) {
    const To to = static_cast<To>(v);
    return static_cast<From>(to) == v && (to < To(1)) == (v < From(1));
  } else {  // both ends are powers of two, which From holds exactly
    using Limits = std::numeric_limits<To>;
    constexpr To half = Limits::max() / 2 + 1;
    const bool below = v < 2 * static_cast<From>(half);
    const bool above = v - static_cast<From>(Limits::min()) > -1;
    return below & above;  // not &&: without a branch, loops vectorise
  }
}

/// Throws a ValueError: the element at `position` of a tensor of this shape is not in [low, high].
[[noreturn]] void refuse_element(const char* op, int64_t position, const Shape& shape, Number value,
                                 Number low, Number high, At at);
/// ValueError unless `To` holds v, the element at `position`: see `holds`.
template <class To, class From>
void check_element(const char* op, From v, int64_t position, const Shape& shape, At at) {
  if constexpr (std::is_integral_v<To>)
    if (!holds<To>(v)) [[unlikely]]
      refuse_element(op, position, shape, v, std::numeric_limits<To>::min(),
                     std::numeric_limits<To>::max(), at);
}

[[noreturn]] void refuse_scalar(const char* op, DType dtype, Number value, At at);
/// Checks a number beside a tensor of `dtype`. DtypeError unless it is a whole number in the range
/// of int64 for an int64 tensor, or 0 or 1 for a bool tensor; ValueError if it is finite but would
/// be infinite in float32.
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
