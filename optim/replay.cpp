#include "descent/optim/replay.hpp"

#include <string_view>

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// The expression of a constant (which has no name) or of a variable.
template <class F> static auto leaf(const char* name, double value) {
  return std::make_shared<Expression>(Expression{name, value, name && sizeof(F) == sizeof(float)});
}

template <class F>
Recorded<F>::Recorded(double constant)
    : Recorded(static_cast<F>(constant), leaf<F>(nullptr, constant), nullptr) {}

template <class F>
Recorded<F>::Recorded(const char* name, F value, Recording* recording)
    : Recorded(value, leaf<F>(name, static_cast<double>(value)), recording) {
  name_ = name;
}

template <class F> Recorded<F>::~Recorded() = default;

/// Records the assignment if this is a recorded variable, unless x is the variable itself.
template <class F> Recorded<F>& Recorded<F>::operator=(const Recorded& x) {
  const bool told = name_ && recording_;
  const Pointer expression = x.expression_;
  value_ = x.value_;
  expression_ = told ? leaf<F>(name_, static_cast<double>(value_)) : expression;
  if (!told) recording_ = x.recording_;
  else if (expression->a || !expression->name || std::string_view(expression->name) != name_)
    recording_->push_back({expression, expression_});
  return *this;
}

template <class F> Recorded<F> Recorded<F>::with_name(const char* name, const Recorded& x) {
  Recorded variable(name, x.value_, x.recording_);
  variable = x;
  return variable;
}

template <class F>
Recorded<F> Recorded<F>::apply(const char* operation, const Recorded& a, const Recorded* b) {
  using T = Num<F>;
  const T x(typename T::Raw{}, a.value_), y(typename T::Raw{}, b ? b->value_ : 0);
  const std::string_view op = operation;
  const T value = op == "+"         ? x + y
                  : op == "-"       ? (b ? x - y : -x)
                  : op == "*"       ? x * y
                  : op == "/"       ? x / y
                  : op == "^"       ? T(::pow(static_cast<double>(x.v), static_cast<double>(y.v)))
                  : op == "sqrt"    ? sqrt(x)
                  : op == "abs"     ? abs(x)
                  : op == "sign"    ? sign(x)
                  : op == "epsilon" ? epsilon(x)
                  : op == "max"     ? max(x, y)
                                    : min(x, y);
  return {value.v,
          std::make_shared<Expression>(
              Expression{operation, 0, false, a.expression_, b ? b->expression_ : nullptr}),
          a.recording_ || !b ? a.recording_ : b->recording_};
}

template <class F> F Recorded<F>::between(F a, F b, double w) {
  using T = Num<F>;
  return lerp(T(typename T::Raw{}, a), T(typename T::Raw{}, b), w).v;
}

template class Recorded<float>;
template class Recorded<double>;

}}  // namespace descent::optim
