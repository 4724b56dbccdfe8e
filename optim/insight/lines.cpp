#include "descent/optim/insight/lines.hpp"

#include <charconv>
#include <string_view>

namespace [[gnu::visibility("default")]] descent { namespace optim {

std::string shortest(double value, bool single) {
  char text[32];
  const auto end = single ? std::to_chars(text, text + 32, static_cast<float>(value))
                          : std::to_chars(text, text + 32, value);
  return {text, end.ptr};
}

namespace {

enum Binding { sum, product, power, atom };  // how tightly an expression's last operator binds

/// An expression with the names of its variables, or with their numbers.
struct Text {
  std::string text;
  Binding binding;
};

std::string in_parentheses(const std::string& text, bool needed) {
  return needed ? "(" + text + ")" : text;
}

std::string negative(const Text& x) {
  return "-" + in_parentheses(x.text, x.binding == sum || x.text[0] == '-');
}

/// An operand is in parentheses if it binds less tightly than `op`; if it binds equally and is on
/// the right of - or /, or beside ^; or if it is a negative number, except at the front of a sum.
std::string binary(char op, Binding binding, const Text& a, const Text& b) {
  const auto operand = [&](const Text& x, bool right) {
    const bool equal = x.binding == binding && (op == '^' || (right && op != '+' && op != '*'));
    const bool minus = x.text[0] == '-' && x.binding == atom && (right || binding != sum);
    return in_parentheses(x.text, x.binding < binding || equal || minus);
  };
  const std::string sign = op == '*' ? "·" : std::string(1, op);
  return operand(a, false) + (binding == sum ? " " + sign + " " : sign) + operand(b, true);
}

Text text_of(const Expression& x, bool numbers) {
  if (!x.a) return {x.name && !numbers ? x.name : shortest(x.value, x.single), atom};
  const Text a = text_of(*x.a, numbers), b = x.b ? text_of(*x.b, numbers) : Text{"", atom};
  const char op = x.name[0];
  if (op == '-' && !x.b) return {negative(a), sum};
  const auto place = std::string_view("+-*/^").find(op);
  if (place == std::string_view::npos)
    return {std::string(x.name) + "(" + a.text + (x.b ? ", " + b.text : "") + ")", atom};
  const Binding binding = place < 2 ? sum : place < 4 ? product : power;
  return {binary(op, binding, a, b), binding};
}

}  // namespace

Lines lines_of(const Recording& recording) {
  Lines lines;
  for (const auto& [expression, variable] : recording)
    lines.push_back({variable->name, text_of(*expression, false).text,
                     text_of(*expression, true).text, text_of(*variable, true).text,
                     variable->value});
  return lines;
}

}}  // namespace descent::optim
