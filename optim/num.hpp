#pragma once
#include "descent/core/simd.hpp"

// What an update rule computes with. A rule's body is written once, for an element type T and a
// scalar type S; in the fused loop they are Num<float> or Num<double>, and double.

namespace [[gnu::visibility("default")]] descent { namespace optim {

using ::pow;  // the namespace's own functions of tensors would hide them
using ::sqrt;

/// One element. Scalars are combined in double and rounded to F once, where they meet it.
template <class F> struct Num {
  struct Raw {};
  Num() = default;
  constexpr Num(double x) : v(static_cast<F>(x)) {}
  constexpr Num(Raw, F x) : v(x) {}

  friend Num operator+(Num a, Num b) { return {Raw{}, a.v + b.v}; }
  friend Num operator-(Num a, Num b) { return {Raw{}, a.v - b.v}; }
  friend Num operator*(Num a, Num b) { return {Raw{}, a.v * b.v}; }
  friend Num operator/(Num a, Num b) { return {Raw{}, a.v / b.v}; }
  friend Num operator-(Num a) { return {Raw{}, -a.v}; }
  Num& operator+=(Num b) { return *this = *this + b; }
  Num& operator-=(Num b) { return *this = *this - b; }
  Num& operator*=(Num b) { return *this = *this * b; }
  Num& operator/=(Num b) { return *this = *this / b; }
  friend auto operator<=>(Num a, Num b) { return a.v <=> b.v; }
  friend bool operator==(Num a, Num b) { return a.v == b.v; }

  friend Num sqrt(Num a) {
    if constexpr (sizeof(F) == 4) return {Raw{}, ::sqrtf(a.v)};
    else return {Raw{}, ::sqrt(a.v)};
  }
  friend Num abs(Num a) { return {Raw{}, a.v < 0 ? -a.v : a.v}; }
  friend Num max(Num a, Num b) { return {Raw{}, a.v < b.v ? b.v : a.v}; }
  friend Num min(Num a, Num b) { return {Raw{}, b.v < a.v ? b.v : a.v}; }
  friend Num sign(Num a) { return {Raw{}, a.v > 0 ? F(1) : a.v < 0 ? F(-1) : F(0)}; }
  /// a where `condition` holds, else b: a choice that vectorises.
  friend Num where(bool condition, Num a, Num b) { return {Raw{}, condition ? a.v : b.v}; }

  F v;
};

/// The names of a rule's hyper-parameters, or of its state tensors.
struct Names {
  template <class... Name> constexpr Names(Name... name) : at{name...}, count(sizeof...(Name)) {}
  const char* at[12] = {};
  std::size_t count = 0;
};

}}  // namespace descent::optim
