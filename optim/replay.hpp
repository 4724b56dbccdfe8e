#pragma once
/// @file
/// How a rule's formula is told: its body runs once more, for one element, with numbers that record
/// how they were computed. So an explanation prints the formula that runs; there is no second copy.
///
///     Recording recording;
///     Recorded<double> m("m", 2, &recording), g("g", 4, &recording);
///     m += 0.5 * (g - m);
///
/// records one assignment, of the expression m + 0.5·(g - m) to the variable m, which then is 3.

#include <array>
#include <compare>
#include <cstring>
#include <memory>
#include <vector>

#include "descent/core/base/dtype.hpp"
#include "descent/optim/rule.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// How a number was computed: it is a constant, the value of a variable, or the result of an
/// operation on other numbers.
struct Expression {
  const char* name;     ///< of the variable, or of the operation: "+", "sqrt"; null: a constant
  double value = 0;     ///< of the constant, or of the variable at that moment
  bool single = false;  ///< whether the value is a float
  /// The operands of an operation; b is null if it has one, and both are if this is no operation.
  std::shared_ptr<const Expression> a = {}, b = {};
};
/// One assignment in the body of a rule.
struct Assignment {
  /// - expression: what is assigned
  /// - variable: what it is assigned to, with its new value
  std::shared_ptr<const Expression> expression, variable;
};
/// The assignments in their order.
using Recording = std::vector<Assignment>;

/// A number of type F (float or double), with the expression that it was computed by. If it has a
/// name, it is a variable, and an assignment to it is added to `recording`. A copy of a variable is
/// only its value. The arithmetic is that of Num<F>.
template <class F> class Recorded : public detail::Assigning<Recorded<F>> {
 public:
  /// A constant; a variable with its first value; a copy of a value.
  Recorded(double constant);
  Recorded(const char* name, F value, Recording* recording);
  Recorded(const Recorded& x) : Recorded(x.value_, x.expression_, x.recording_) {}
  /// A scalar that is combined with an element: it is rounded to F.
  template <class Wider>
  requires(sizeof(Wider) > sizeof(F)) Recorded(const Recorded<Wider>& other)
      : Recorded(static_cast<F>(other.value_), other.expression_, other.recording_) {}
  ~Recorded();
  /// Assigns the value of x; if this is a variable, records that.
  Recorded& operator=(const Recorded& x);
  /// The number.
  F value() const { return value_; }

  /// Arithmetic and comparisons, as for Num<F>.
  friend Recorded operator+(const Recorded& a, const Recorded& b) { return apply("+", a, &b); }
  friend Recorded operator-(const Recorded& a, const Recorded& b) { return apply("-", a, &b); }
  friend Recorded operator*(const Recorded& a, const Recorded& b) { return apply("*", a, &b); }
  friend Recorded operator/(const Recorded& a, const Recorded& b) { return apply("/", a, &b); }
  friend Recorded pow(const Recorded& a, const Recorded& b) { return apply("^", a, &b); }
  friend Recorded operator-(const Recorded& a) { return apply("-", a); }
  friend std::partial_ordering operator<=>(const Recorded& a, const Recorded& b) {
    return a.value_ <=> b.value_;
  }
  friend bool operator==(const Recorded& a, const Recorded& b) { return a.value_ == b.value_; }

  /// Functions, as for Num<F>.
  friend Recorded sqrt(const Recorded& a) { return apply("sqrt", a); }
  friend Recorded abs(const Recorded& a) { return apply("abs", a); }
  friend Recorded sign(const Recorded& a) { return apply("sign", a); }
  friend Recorded epsilon(const Recorded& a) { return apply("epsilon", a); }
  friend Recorded max(const Recorded& a, const Recorded& b) { return apply("max", a, &b); }
  friend Recorded min(const Recorded& a, const Recorded& b) { return apply("min", a, &b); }
  /// a if `condition` holds, else b. The expression shows only the one that was chosen.
  friend Recorded where(bool condition, const Recorded& a, const Recorded& b) {
    return condition ? a : b;
  }
  /// As for Num<F>. The expressions of `lerp` and of the quotient show the branch that was chosen.
  friend Recorded lerp(const Recorded& a, const Recorded& b, const Recorded<double>& w) {
    Recorded told = w.value() < 0.5 ? a + w * (b - a) : b + (1 - w) * (a - b);
    told.value_ = between(a.value_, b.value_, w.value());
    return told;
  }
  friend Divisor<Recorded> divisor(const Recorded& x) { return {x}; }
  friend Recorded operator/(const Recorded& a, const Divisor<Recorded>& d) {
    return where(d.x > 0, a / d.x, 0);
  }
  friend Recorded let(const char* name, const Recorded& x) { return with_name(name, x); }

 private:
  template <class> friend class Recorded;

  using Pointer = std::shared_ptr<const Expression>;

  Recorded(F value, Pointer expression, Recording* recording)
      : value_(value), expression_(std::move(expression)), recording_(recording) {}
  static Recorded apply(const char* operation, const Recorded& a, const Recorded* b = nullptr);
  static Recorded with_name(const char* name, const Recorded& x);
  static F between(F a, F b, double w);  // not inline, where a compiler would fuse it

  F value_;
  Pointer expression_;
  Recording* recording_ = nullptr;
  const char* name_ = nullptr;
};

extern template class Recorded<float>;
extern template class Recorded<double>;

/// Initialises one hyper-parameter of a rule that records: a number, or a value of a Choice.
struct RecordedOption {
  /// The option as the type that the rule has for it.
  operator Recorded<double>() const { return {name, value, recording}; }
  template <class E, int count> operator Choice<E, count>() const {
    return static_cast<E>(static_cast<int>(value));
  }
  const char* name;      ///< of the option
  double value;          ///< of the option
  Recording* recording;  ///< where it is used
};

namespace detail {
/// One element in one step: before it, and after `Replay` has run.
struct Moment {
  std::vector<double> hyper, quantities;
  double t, theta, g;
  std::vector<double> state, fields;
};
/// Runs the body of a rule on `moment` with numbers that record.
using Replay = void (*)(DType dtype, Moment& moment, Recording& recording);

/// Runs the body of the rule R on `moment`, with elements of type F.
template <template <class> class R, class Rule, class F>
void replay(Moment& moment, Recording& recording) {
  using Is = Traits<R, Rule>;
  using T = Recorded<F>;
  using S = Recorded<double>;
  auto scalar = [&](const char* name, double value) { return S(name, value, &recording); };
  auto element = [&](const char* name, double value) {
    return T(name, static_cast<F>(value), &recording);
  };
  Rule plain;
  std::memcpy(static_cast<void*>(&plain), moment.hyper.data(), sizeof plain);
  auto state_of = [&](std::size_t i) {
    return Is::in_use(plain, i) ? element(Is::state.at[i], moment.state[i]) : T(0);
  };
  const S t = scalar("t", moment.t);
  T theta = element("theta", moment.theta);
  if (Is::maximizes(plain)) {
    T g = element("g", moment.g);
    g = -g;
    moment.g = static_cast<double>(g.value());
  }
  [&]<std::size_t... H, std::size_t... I, std::size_t... D, std::size_t... J, std::size_t... Q>(
      std::index_sequence<H...>, std::index_sequence<I...>, std::index_sequence<D...>,
      std::index_sequence<J...>, std::index_sequence<Q...>) {
    const R<S> rule{RecordedOption{Rule::hyper.at[H], moment.hyper[H], &recording}...};
    std::array<T, Is::states> s{state_of(I)...};
    auto g = [&] {
      if constexpr (Is::has_direction)
        return let("u", rule.direction(T(theta), element("g", moment.g), s[I]...,
                                       element(Is::fields.at[D], moment.fields[D])..., t));
      else return element("g", moment.g);
    };
    rule.update(theta, g(), s[I]..., element(Is::fields.at[J], moment.fields[J])...,
                scalar(Is::quantities.at[Q], moment.quantities[Q])..., t);
    ((moment.state[I] = Is::in_use(plain, I) ? static_cast<double>(s[I].value()) : moment.state[I]),
     ...);
  }
  (Is::each_option, Is::each_state, Is::each_direction_field, Is::each_field, Is::each_quantity);
  moment.theta = static_cast<double>(theta.value());
}

}  // namespace detail

}}  // namespace descent::optim
