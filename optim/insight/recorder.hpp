#pragma once
#include <compare>
#include <string>
#include <vector>

#include "descent/optim/num.hpp"

// An update rule's body, run once more with scalars that remember how they came about. The formula
// that is printed is the one that runs: there is no second copy of it.

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// One assignment of a rule's body.
struct Line {
  std::string name;     ///< what is assigned: "m"
  std::string formula;  ///< "m + (1 - beta1)·(g - m)"
  std::string numbers;  ///< "0.012 + (1 - 0.9)·(0.5 - 0.012)"
  std::string value;    ///< "0.0608": as few digits as read back the same bits
  double number;
};
using Lines = std::vector<Line>;

namespace detail {
enum Binding { sum, product, power, atom };  // how tightly an expression's last operator binds
}

/// A number of precision F (float or double) with the text of the expression that it is. One with a
/// name is a variable: assigning to it adds a line to `lines`. A copy is a value, not the variable.
/// Its arithmetic is Num<F>'s.
template <class F> class Recorded {
 public:
  Recorded(double constant);
  Recorded(const char* name, F value, Lines* lines);
  Recorded(const Recorded& other);
  /// A scalar that meets an element: rounded here.
  template <class Wider>
  requires(sizeof(Wider) > sizeof(F)) Recorded(const Recorded<Wider>& other)
      : Recorded(static_cast<F>(other.value_), other.formula_, other.numbers_, other.binding_,
                 other.lines_) {}
  ~Recorded();
  Recorded& operator=(const Recorded& expression);
  F value() const { return value_; }

  friend Recorded operator+(const Recorded& a, const Recorded& b) { return binary('+', a, b); }
  friend Recorded operator-(const Recorded& a, const Recorded& b) { return binary('-', a, b); }
  friend Recorded operator*(const Recorded& a, const Recorded& b) { return binary('*', a, b); }
  friend Recorded operator/(const Recorded& a, const Recorded& b) { return binary('/', a, b); }
  friend Recorded pow(const Recorded& a, const Recorded& b) { return binary('^', a, b); }
  friend Recorded operator-(const Recorded& a) { return negative(a); }
  Recorded& operator+=(const Recorded& b) { return *this = *this + b; }
  Recorded& operator-=(const Recorded& b) { return *this = *this - b; }
  Recorded& operator*=(const Recorded& b) { return *this = *this * b; }
  Recorded& operator/=(const Recorded& b) { return *this = *this / b; }
  friend std::partial_ordering operator<=>(const Recorded& a, const Recorded& b) {
    return a.value_ <=> b.value_;
  }
  friend bool operator==(const Recorded& a, const Recorded& b) { return a.value_ == b.value_; }

  friend Recorded sqrt(const Recorded& a) { return call("sqrt", {&a}); }
  friend Recorded abs(const Recorded& a) { return call("abs", {&a}); }
  friend Recorded sign(const Recorded& a) { return call("sign", {&a}); }
  friend Recorded epsilon(const Recorded& a) { return call("epsilon", {&a}); }
  friend Recorded max(const Recorded& a, const Recorded& b) { return call("max", {&a, &b}); }
  friend Recorded min(const Recorded& a, const Recorded& b) { return call("min", {&a, &b}); }
  /// Shows the one that is taken.
  friend Recorded where(bool condition, const Recorded& a, const Recorded& b) {
    return condition ? a : b;
  }
  friend Recorded lerp(const Recorded& a, const Recorded& b, const Recorded<double>& w) {
    Recorded told = w.value() < 0.5 ? a + w * (b - a) : b + (1 - w) * (a - b);
    told.value_ = between(a.value_, b.value_, w.value());
    return told;
  }
  friend Divisor<Recorded> divisor(const Recorded& x) { return {x}; }
  friend Recorded operator/(const Recorded& a, const Divisor<Recorded>& d) {
    return where(d.x > 0, a / d.x, 0);
  }
  friend Recorded let(const char* name, const Recorded& x) { return named(name, x); }

 private:
  template <class> friend class Recorded;
  using Pair = std::initializer_list<const Recorded*>;

  Recorded(F value, std::string formula, std::string numbers, detail::Binding binding,
           Lines* lines);
  static Recorded binary(char op, const Recorded& a, const Recorded& b);
  static Recorded negative(const Recorded& a);
  static Recorded call(const char* function, Pair arguments);
  static Recorded named(const char* name, const Recorded& x);
  static F between(F a, F b, double w);  // not inline, where a compiler would fuse it
  void tell(const Recorded& expression);

  F value_;
  std::string formula_, numbers_;
  detail::Binding binding_ = detail::atom;
  const char* name_ = nullptr;
  Lines* lines_ = nullptr;
};

extern template class Recorded<float>;
extern template class Recorded<double>;

/// A hyper-parameter on its way into a recording rule: a number, or one of a Choice.
struct RecordedOption {
  operator Recorded<double>() const { return {name, value, lines}; }
  template <class E, int count> operator Choice<E, count>() const {
    return static_cast<E>(static_cast<int>(value));
  }
  const char* name;
  double value;
  Lines* lines;
};

/// The shortest text that reads back as this number in its precision.
std::string shortest(double value, bool single);

}}  // namespace descent::optim
