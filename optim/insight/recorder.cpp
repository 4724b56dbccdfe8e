#include "descent/optim/insight/recorder.hpp"

#include <charconv>
#include <string_view>

namespace [[gnu::visibility("default")]] descent { namespace optim {

std::string shortest(double value, bool single) {
  char text[32];
  const auto end = single ? std::to_chars(text, text + 32, static_cast<float>(value))
                          : std::to_chars(text, text + 32, value);
  return {text, end.ptr};
}

using enum detail::Binding;

namespace {
std::string in_parentheses(const std::string& text, bool needed) {
  return needed ? "(" + text + ")" : text;
}
}  // namespace

template <class F>
Recorded<F>::Recorded(double constant)
    : value_(static_cast<F>(constant)), formula_(shortest(constant, false)), numbers_(formula_) {}

template <class F>
Recorded<F>::Recorded(const char* name, F value, Lines* lines)
    : value_(value),
      formula_(name),
      numbers_(shortest(static_cast<double>(value), sizeof(F) == 4)),
      name_(name),
      lines_(lines) {}

template <class F>
Recorded<F>::Recorded(F value, std::string formula, std::string numbers, detail::Binding binding,
                      Lines* lines)
    : value_(value),
      formula_(std::move(formula)),
      numbers_(std::move(numbers)),
      binding_(binding),
      lines_(lines) {}

template <class F>
Recorded<F>::Recorded(const Recorded& other)
    : Recorded(other.value_, other.formula_, other.numbers_, other.binding_, other.lines_) {}

template <class F> Recorded<F>::~Recorded() = default;

template <class F> void Recorded<F>::tell(const Recorded& expression) {
  const auto number = static_cast<double>(value_);
  numbers_ = shortest(number, sizeof(F) == 4);
  if (expression.formula_ != name_)
    lines_->push_back({name_, expression.formula_, expression.numbers_, numbers_, number});
}

template <class F> Recorded<F>& Recorded<F>::operator=(const Recorded& expression) {
  value_ = expression.value_;
  if (name_ && lines_) {
    tell(expression);
    return *this;
  }
  formula_ = expression.formula_;
  numbers_ = expression.numbers_;
  binding_ = expression.binding_;
  lines_ = expression.lines_;
  return *this;
}

template <class F> Recorded<F> Recorded<F>::named(const char* name, const Recorded& x) {
  Recorded variable(name, x.value_, x.lines_);
  if (x.lines_) variable.tell(x);
  return variable;
}

template <class F> Recorded<F> Recorded<F>::binary(char op, const Recorded& a, const Recorded& b) {
  // What binds less tightly than the operator stands in parentheses; so do an equal on the right of
  // - and /, or beside ^, and a negative number except in front.
  const detail::Binding binding = op == '^' ? power : op == '*' || op == '/' ? product : sum;
  const char* sign = op == '+'   ? " + "
                     : op == '-' ? " - "
                     : op == '*' ? "·"
                     : op == '/' ? "/"
                                 : "^";
  auto operand = [&](const Recorded& x, const std::string& text, bool right) {
    const bool equal = x.binding_ == binding && (op == '^' || (right && op != '+' && op != '*'));
    const bool minus = text[0] == '-' && x.binding_ == atom && (right || binding != sum);
    return in_parentheses(text, x.binding_ < binding || equal || minus);
  };
  auto join = [&](const std::string& x, const std::string& y) {
    return operand(a, x, false) + sign + operand(b, y, true);
  };
  const F value =
      op == '+'   ? a.value_ + b.value_
      : op == '-' ? a.value_ - b.value_
      : op == '*' ? a.value_ * b.value_
      : op == '/'
          ? a.value_ / b.value_
          : static_cast<F>(::pow(static_cast<double>(a.value_), static_cast<double>(b.value_)));
  return {value, join(a.formula_, b.formula_), join(a.numbers_, b.numbers_), binding,
          a.lines_ ? a.lines_ : b.lines_};
}

template <class F> Recorded<F> Recorded<F>::negative(const Recorded& a) {
  auto minus = [&](const std::string& x) {
    return "-" + in_parentheses(x, a.binding_ == sum || x[0] == '-');
  };
  return {-a.value_, minus(a.formula_), minus(a.numbers_), sum, a.lines_};
}

template <class F> Recorded<F> Recorded<F>::call(const char* function, Pair arguments) {
  using T = Num<F>;
  const Recorded &first = **arguments.begin(), &last = **(arguments.end() - 1);
  const T a(typename T::Raw{}, first.value_), b(typename T::Raw{}, last.value_);
  const std::string_view f = function;
  const T value = f == "sqrt"      ? sqrt(a)
                  : f == "abs"     ? abs(a)
                  : f == "sign"    ? sign(a)
                  : f == "epsilon" ? epsilon(a)
                  : f == "max"     ? max(a, b)
                                   : min(a, b);
  auto list = [&](std::string Recorded::*text) {
    std::string all = first.*text;
    if (arguments.size() == 2) all += ", " + last.*text;
    return std::string(f) + "(" + all + ")";
  };
  return {value.v, list(&Recorded::formula_), list(&Recorded::numbers_), atom,
          first.lines_ ? first.lines_ : last.lines_};
}

template <class F> F Recorded<F>::between(F a, F b, double w) {
  using T = Num<F>;
  return lerp(T(typename T::Raw{}, a), T(typename T::Raw{}, b), w).v;
}

template class Recorded<float>;
template class Recorded<double>;

}}  // namespace descent::optim
