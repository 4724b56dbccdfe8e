#pragma once
/// @file
/// The numbers that an update rule is written with. A rule's body is written once, for an element
/// type T and a scalar type S. In the fused loop T is Num<float> or Num<double>, and S is double.
/// When a step is explained, both are numbers that record how they were computed: see replay.hpp.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "descent/core/runtime/simd.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

using ::pow;  // otherwise descent's functions of tensors would hide these two
using ::sqrt;

namespace detail {
/// `condition ? a : b`, computed with a bit mask: GCC compiles the plain expression to a branch,
/// and then does not vectorise the loop.
template <class F> F choose(bool condition, F a, F b) {
  using Bits = std::conditional_t<sizeof(F) == 4, uint32_t, uint64_t>;
  const Bits mask = -Bits{condition};
  return std::bit_cast<F>((std::bit_cast<Bits>(a) & mask) | (std::bit_cast<Bits>(b) & ~mask));
}

/// Gives T the operators += -= *= /=, made of its + - * /.
template <class T> struct Assigning {
  friend T& operator+=(T& a, const T& b) { return a = a + b; }
  friend T& operator-=(T& a, const T& b) { return a = a - b; }
  friend T& operator*=(T& a, const T& b) { return a = a * b; }
  friend T& operator/=(T& a, const T& b) { return a = a / b; }
};
}  // namespace detail

/// What `divisor` returns.
template <class T> struct Divisor { T x; /**< the number to divide by */ };

/// One element of a tensor, of type F. Scalars are combined with each other in double; one that is
/// combined with an element is rounded to F first.
template <class F> struct Num : detail::Assigning<Num<F>> {
  /// Says that a number has the type F already.
  struct Raw {};
  /// Not initialised; the number x, rounded to F; the number x as it is.
  Num() = default;
  constexpr Num(double x) : v(static_cast<F>(x)) {}
  constexpr Num(Raw, F x) : v(x) {}

  /// Arithmetic and comparisons in F. There is no <=>, which would compile to a branch: the loop
  /// would not be vectorised.
  friend Num operator+(Num a, Num b) { return {Raw{}, a.v + b.v}; }
  friend Num operator-(Num a, Num b) { return {Raw{}, a.v - b.v}; }
  friend Num operator*(Num a, Num b) { return {Raw{}, a.v * b.v}; }
  friend Num operator/(Num a, Num b) { return {Raw{}, a.v / b.v}; }
  friend Num operator-(Num a) { return {Raw{}, -a.v}; }
  friend bool operator==(Num a, Num b) { return a.v == b.v; }
  friend bool operator<(Num a, Num b) { return a.v < b.v; }
  friend bool operator>(Num a, Num b) { return a.v > b.v; }
  friend bool operator<=(Num a, Num b) { return a.v <= b.v; }
  friend bool operator>=(Num a, Num b) { return a.v >= b.v; }

  /// Functions of elements. If a or b is NaN, `max` and `min` return a; the sign of NaN is 0.
  friend Num sqrt(Num a) {
    if constexpr (sizeof(F) == 4) return {Raw{}, ::sqrtf(a.v)};
    else return {Raw{}, ::sqrt(a.v)};
  }
  friend Num abs(Num a) { return {Raw{}, a.v < 0 ? -a.v : a.v}; }
  friend Num max(Num a, Num b) { return {Raw{}, detail::choose(a.v < b.v, b.v, a.v)}; }
  friend Num min(Num a, Num b) { return {Raw{}, detail::choose(b.v < a.v, b.v, a.v)}; }
  friend Num sign(Num a) {
    return {Raw{}, detail::choose(a.v > 0, F(1), detail::choose(a.v < 0, F(-1), F(0)))};
  }
  /// a if `condition` holds, else b.
  friend Num where(bool condition, Num a, Num b) {
    return {Raw{}, detail::choose(condition, a.v, b.v)};
  }
  /// (1 - w) a + w b, computed from the nearer of the two: exactly a for w = 0 and exactly b for
  /// w = 1, if b - a is finite.
  friend Num lerp(Num a, Num b, double w) {
    const bool at_a = w < 0.5;
    return where(at_a, a, b) + detail::choose(at_a, w, w - 1) * (b - a);
  }
  /// a / divisor(x) is a / x if x is above 0, and otherwise 0. An element whose gradients have been
  /// 0 may have the divisor 0, because eps may be 0 or too small for F; it then stays as it is,
  /// where 0 / 0 would make it NaN. So does one whose divisor is NaN.
  friend Divisor<Num> divisor(Num x) { return {x}; }
  friend Num operator/(Num a, Divisor<Num> d) {
    return {Raw{}, detail::choose(d.x.v > 0, a.v / d.x.v, F(0))};
  }
  /// The distance from 1 to the next larger number of the dtype.
  friend Num epsilon(Num) { return {Raw{}, sizeof(F) == 4 ? F(0x1p-23) : F(0x1p-52)}; }
  /// Returns x, which an explanation shows on a line of its own under the given name.
  friend Num let(const char*, Num x) { return x; }

  F v;  ///< the number
};

/// The same functions of scalars.
inline double max(double a, double b) { return detail::choose(a < b, b, a); }
inline double min(double a, double b) { return detail::choose(b < a, b, a); }
inline double where(bool condition, double a, double b) { return detail::choose(condition, a, b); }
inline double let(const char*, double x) { return x; }

/// A hyper-parameter with few possible values, those of E from 0 to count - 1. It is stored as a
/// double, as all hyper-parameters of a rule are. A group that has not set it stores 0.25 more. A
/// copy of a Choice is rounded down, because it counts as set; code that has to keep the 0.25
/// copies the bytes.
template <class E, int count> class Choice {
 public:
  /// From a value of E, and back to it.
  constexpr Choice(E e) : number_(static_cast<double>(e)) {}
  constexpr Choice(const Choice& other) : Choice(E(other)) {}
  constexpr Choice& operator=(const Choice& other) {
    number_ = static_cast<double>(E(other));
    return *this;
  }
  constexpr operator E() const { return static_cast<E>(static_cast<int>(number_)); }

 private:
  Choice() = default;  // trivial, so that a rule can be made of bytes
  double number_;
};
/// A hyper-parameter that is true or false.
using Flag = Choice<bool, 2>;

/// A hyper-parameter in the options of a group: a number, and whether the group has set it. If it
/// has not, the number is what earlier groups or the defaults say: see Optimizer::group.
class Setting : public detail::Assigning<Setting> {
 public:
  /// From a number, and back to it. A Setting is set if it was made of a number or assigned to; a
  /// copy is set if the original is.
  constexpr Setting(double value) : value_(value), set_(true) {}
  constexpr Setting(const Setting&) = default;
  Setting& operator=(const Setting& other) {
    value_ = other.value_;
    set_ = true;
    return *this;
  }
  constexpr operator double() const { return value_; }

 private:
  double value_;
  bool set_;
};

/// The names of a rule's hyper-parameters, or of its state tensors.
struct Names {
  static constexpr std::size_t most = 12;  ///< the largest count
  /// The names in their order, and iterators over them.
  template <class... Name> constexpr Names(Name... name) : at{name...}, count(sizeof...(Name)) {}
  constexpr const char* const* begin() const { return at; }
  constexpr const char* const* end() const { return at + count; }
  const char* at[most] = {};  ///< the names; null after the last
  std::size_t count = 0;      ///< how many there are
};

}}  // namespace descent::optim
