#pragma once
#include <bit>
#include <cstdint>
#include <type_traits>

#include "descent/core/runtime/simd.hpp"

// What an update rule is made of. Its body is written once, for an element type T and a scalar type
// S. In the fused loop they are Num<float> or Num<double>, and double; when a step is explained
// they are recording scalars: see replay.hpp.

namespace [[gnu::visibility("default")]] descent { namespace optim {

using ::pow;  // the namespace's own functions of tensors would hide them
using ::sqrt;

namespace detail {
/// `condition ? a : b` in bits: of that GCC makes a branch, and does not vectorise the loop.
template <class F> F choose(bool condition, F a, F b) {
  using Bits = std::conditional_t<sizeof(F) == 4, uint32_t, uint64_t>;
  const Bits mask = -Bits{condition};
  return std::bit_cast<F>((std::bit_cast<Bits>(a) & mask) | (std::bit_cast<Bits>(b) & ~mask));
}

/// a += b and the like, for a T that has a + b.
template <class T> struct Assigning {
  friend T& operator+=(T& a, const T& b) { return a = a + b; }
  friend T& operator-=(T& a, const T& b) { return a = a - b; }
  friend T& operator*=(T& a, const T& b) { return a = a * b; }
  friend T& operator/=(T& a, const T& b) { return a = a / b; }
};
}  // namespace detail

/// See `divisor`.
template <class T> struct Divisor { T x; };

/// One element. Scalars are combined in double and rounded to F once, where they meet it.
template <class F> struct Num : detail::Assigning<Num<F>> {
  struct Raw {};
  Num() = default;
  constexpr Num(double x) : v(static_cast<F>(x)) {}
  constexpr Num(Raw, F x) : v(x) {}

  friend Num operator+(Num a, Num b) { return {Raw{}, a.v + b.v}; }
  friend Num operator-(Num a, Num b) { return {Raw{}, a.v - b.v}; }
  friend Num operator*(Num a, Num b) { return {Raw{}, a.v * b.v}; }
  friend Num operator/(Num a, Num b) { return {Raw{}, a.v / b.v}; }
  friend Num operator-(Num a) { return {Raw{}, -a.v}; }
  friend bool operator==(Num a, Num b) { return a.v == b.v; }
  friend bool operator<(Num a, Num b) { return a.v < b.v; }  // <=> is a branch, and not vectorised
  friend bool operator>(Num a, Num b) { return a.v > b.v; }
  friend bool operator<=(Num a, Num b) { return a.v <= b.v; }
  friend bool operator>=(Num a, Num b) { return a.v >= b.v; }

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
  /// a where `condition` holds, else b.
  friend Num where(bool condition, Num a, Num b) {
    return {Raw{}, detail::choose(condition, a.v, b.v)};
  }
  /// (1 - w) a + w b from the nearer of the two: a at 0 and b at 1, exactly, if b - a is a number.
  friend Num lerp(Num a, Num b, double w) {
    const bool at_a = w < 0.5;
    return where(at_a, a, b) + detail::choose(at_a, w, w - 1) * (b - a);
  }
  /// What to divide by: if it is above 0, x; else the quotient is 0. An element whose gradients'
  /// scale is 0 (eps may be 0, or too small for F), or no number, has no step, instead of 0 / 0.
  friend Divisor<Num> divisor(Num x) { return {x}; }
  friend Num operator/(Num a, Divisor<Num> d) {
    return {Raw{}, detail::choose(d.x.v > 0, a.v / d.x.v, F(0))};
  }
  friend Num epsilon(Num) { return {Raw{}, sizeof(F) == 4 ? F(0x1p-23) : F(0x1p-52)}; }
  /// x, which an explanation shows on a line of its own under this name.
  friend Num let(const char*, Num x) { return x; }

  F v;
};

// The same for scalars.
inline double max(double a, double b) { return detail::choose(a < b, b, a); }
inline double min(double a, double b) { return detail::choose(b < a, b, a); }
inline double where(bool condition, double a, double b) { return detail::choose(condition, a, b); }
inline double let(const char*, double x) { return x; }

/// A hyper-parameter that is one of few, E's values from 0 to count - 1, kept as a number like the
/// others. (In a group that did not set it, a quarter more. A copy is a value, which is set: what
/// keeps the quarter copies bytes.)
template <class E, int count> class Choice {
 public:
  constexpr Choice(E e) : number_(static_cast<double>(e)) {}
  constexpr Choice(const Choice& other) : Choice(E(other)) {}
  constexpr Choice& operator=(const Choice& other) {
    number_ = static_cast<double>(E(other));
    return *this;
  }
  constexpr operator E() const { return static_cast<E>(static_cast<int>(number_)); }

 private:
  Choice() = default;  // trivial, so that bytes may become a rule
  double number_;
};
using Flag = Choice<bool, 2>;

/// A hyper-parameter of a group of parameters: a number, and whether the group has set it.
/// Otherwise it is what the groups before or the defaults say.
class Setting : public detail::Assigning<Setting> {
 public:
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

/// The names of a rule's hyper-parameters, or of its state tensors; at most 12.
struct Names {
  static constexpr std::size_t most = 12;
  template <class... Name> constexpr Names(Name... name) : at{name...}, count(sizeof...(Name)) {}
  constexpr const char* const* begin() const { return at; }
  constexpr const char* const* end() const { return at + count; }
  const char* at[most] = {};
  std::size_t count = 0;
};

}}  // namespace descent::optim
