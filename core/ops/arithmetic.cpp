#include "descent/core/ops/arithmetic.hpp"

#include <cmath>

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/pointwise.hpp"
#include "descent/core/ops/reduction.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

// We use lambdas of our own and not std::plus and the like. The type of a lambda belongs to this
// file, and so does the kernel made from it: the linker cannot replace it by a copy that was
// compiled with other flags. The first three wrap around for int64, as the functions of
// detail::ring do (elementwise.hpp); they do not call those, because gcc would then pass the lambda
// in memory.
template <class T> using Ring = detail::ring::Wrapping<T>;
constexpr auto plus = []<class T>(T a, T b) { return static_cast<T>(Ring<T>(a) + Ring<T>(b)); };
constexpr auto minus = []<class T>(T a, T b) { return static_cast<T>(Ring<T>(a) - Ring<T>(b)); };
constexpr auto times = []<class T>(T a, T b) { return static_cast<T>(Ring<T>(a) * Ring<T>(b)); };
constexpr auto over = [](auto a, auto b) { return a / b; };
constexpr auto equal = [](auto a, auto b) { return a == b; };
constexpr auto unequal = [](auto a, auto b) { return a != b; };
constexpr auto less = [](auto a, auto b) { return a < b; };
constexpr auto less_equal = [](auto a, auto b) { return a <= b; };
constexpr auto greater = [](auto a, auto b) { return a > b; };
constexpr auto greater_equal = [](auto a, auto b) { return a >= b; };

// The derivatives of sums, differences and steps.
constexpr auto same = [](const Tensor& g) { return g; };
constexpr auto opposite = [](const Tensor& g) { return -g; };
constexpr auto nothing = [](const Tensor& g) { return zeros_like(g); };

/// A scalar tensor of x's dtype with the number that stands beside x.
Tensor make_scalar(const char* op, const In& x, Number number) {
  detail::check(op, x);
  detail::check_scalar(op, x.dtype(), number, x.at);
  return full({}, number, x.dtype(), x.at);
}

}  // namespace

Tensor add(const In& a, const In& b) {
  return record("add", zip<Kinds::numeric>("add", a, b, plus), wrt(a, same), wrt(b, same));
}
Tensor sub(const In& a, const In& b) {
  return record("sub", zip<Kinds::numeric>("sub", a, b, minus), wrt(a, same), wrt(b, opposite));
}
Tensor mul(const In& a, const In& b) {
  Tensor y = zip<Kinds::numeric>("mul", a, b, times);
  if (!detail::records(a, b)) return y;  // often, in derivatives: keeps nothing
  return record("mul", std::move(y), wrt(a, [b = saved(b)](const Tensor& g) { return g * b; }),
                wrt(b, [a = saved(a)](const Tensor& g) { return g * a; }));
}
Tensor div(const In& a, const In& b) {
  return record("div", zip("div", a, b, over),
                wrt(a, [b = saved(b)](const Tensor& g) { return g / b; }),
                wrt(b, [b = saved(b)](const Tensor& g, const Tensor& y) { return -g * y / b; }));
}
Tensor neg(const In& x) {
  return record("neg", map<Kinds::numeric>("neg", x, [](auto v) { return detail::ring::neg(v); }),
                wrt(x, opposite));
}

Tensor add(const In& a, Number b) {
  return record("add", zip<Kinds::numeric>("add", a, b, plus), wrt(a, same));
}
Tensor sub(const In& a, Number b) {
  return record("sub", zip<Kinds::numeric>("sub", a, b, minus), wrt(a, same));
}
Tensor sub(Number a, const In& b) {
  return record("sub", zip<Kinds::numeric>("sub", b, a, [](auto x, auto c) { return minus(c, x); }),
                wrt(b, opposite));
}
Tensor mul(const In& a, Number b) {
  return record("mul", zip<Kinds::numeric>("mul", a, b, times),
                wrt(a, [by = b.to<double>()](const Tensor& g) { return g * by; }));
}
Tensor div(const In& a, Number b) {
  return record("div", zip("div", a, b, over),
                wrt(a, [by = b.to<double>()](const Tensor& g) { return g / by; }));
}
Tensor div(Number a, const In& b) {
  return record("div", zip("div", b, a, [](auto x, auto c) { return c / x; }),
                wrt(b, [b = saved(b)](const Tensor& g, const Tensor& y) { return -g * y / b; }));
}

Tensor pow(const In& x, double p) {
  Tensor y = p == 0.5 ? map("pow", x, [](auto v) { return vmath::sqrt(v); })
             : p == -0.5
                 ? map("pow", x, [](auto v) { return 1 / vmath::sqrt(v); })
                 : map("pow", x, [p](auto v) { return static_cast<decltype(v)>(std::pow(v, p)); });
  return record("pow", std::move(y), wrt(x, [x = saved(x), p](const Tensor& g) {
                  return p == 0 ? zeros_like(g) : g * (p * pow(x, p - 1));
                }));
}
Tensor pow(const In& x, const In& p) {
  return record(
      "pow", zip("pow", x, p, [](auto v, auto q) { return std::pow(v, q); }),
      wrt(x, [x = saved(x), p = saved(p)](
                 const Tensor& g) { return where(p == 0, 0.0, g * (p * pow(x, p - 1))); }),
      wrt(p, [x = saved(x), p = saved(p)](const Tensor& g, const Tensor& y) {
        Tensor at_zero = logical_and(x == 0, p >= 0);
        return g * where(at_zero, 0.0, y * log(where(at_zero, 1.0, x)));
      }));
}

Tensor pow(Number x, const In& p) { return pow({make_scalar("pow", p, x), p.at}, p); }

/// a / b rounded down, and the rest of a, which has b's sign. (It is long and does not vectorise.)
template <class T> [[gnu::noinline]] static std::pair<T, T> divide_down(T a, T b) {
  T rest, quotient;
  if constexpr (std::is_integral_v<T>) {
    if (b == -1) return {detail::ring::neg(a), 0};  // a / b might overflow
    rest = a % b, quotient = a / b;
  } else {
    rest = std::fmod(a, b);
    quotient = b == 0 ? a / b : std::round((a - rest) / b);
  }
  const bool down = rest != 0 && (rest < 0) != (b < 0);
  return {static_cast<T>(quotient - down), down ? rest + b : rest};
}
static Tensor divide(const char* op, const In& a, const In& b, bool quotient) {
  check_inputs(op, a, b);
  if (b.dtype() == int64 && !all(b).item<bool>())
    fail<ValueError>(b.at, "{}: an element of b is 0: need another divisor in int64", op);
  return zip<Kinds::numeric>(op, a, b, [quotient](auto x, auto y) {
    const auto both = divide_down(x, y);
    return quotient ? both.first : both.second;
  });
}
Tensor floor_divide(const In& a, const In& b) {
  return record("floor_divide", divide("floor_divide", a, b, true), wrt(a, nothing),
                wrt(b, nothing));
}
Tensor remainder(const In& a, const In& b) {
  auto by_b = [a = saved(a), b = saved(b)](const Tensor& g) { return -g * floor_divide(a, b); };
  return record("remainder", divide("remainder", a, b, false), wrt(a, same), wrt(b, by_b));
}
Tensor floor_divide(const In& a, Number b) {
  return floor_divide(a, {make_scalar("floor_divide", a, b), a.at});
}
Tensor remainder(const In& a, Number b) {
  return remainder(a, {make_scalar("remainder", a, b), a.at});
}

Tensor lerp(const In& a, const In& b, double weight) {
  check_inputs("lerp", a, b);
  check_floating("lerp", a);
  const Frame frame(a.at);
  return std::abs(weight) < 0.5 ? a + (b - a) * weight : b - (b - a) * (1 - weight);
}
Tensor lerp(const In& a, const In& b, const In& weight) {
  check_inputs("lerp", a, weight, "a", "weight");
  const Frame frame(a.at);
  return where(abs(weight) < 0.5, a + (b - a) * weight, b - (b - a) * (1 - weight));
}

Tensor atan2(const In& y, const In& x) {
  auto share = [x = saved(x), y = saved(y)](const Tensor& g) {
    const Tensor squares = square(x) + square(y);
    return g / where(squares == 0, 1, squares);
  };
  return record("atan2", zip("atan2", y, x, [](auto v, auto u) { return std::atan2(v, u); }),
                wrt(y, [share, x = saved(x)](const Tensor& g) { return share(g) * x; }),
                wrt(x, [share, y = saved(y)](const Tensor& g) { return -share(g) * y; }));
}

/// The elements that win, or NaN. The gradient of one side is 0 where it loses, half of g at a tie,
/// and all of g where it wins or one of the two is NaN.
template <class F> static Tensor choose(const char* op, const In& a, const In& b, F wins) {
  auto winner = [wins](auto x, auto y) { return wins(x, y) || x != x ? x : y; };
  auto share = [wins](const In& own, const In& other) {
    return [wins, own = saved(own), other = saved(other)](const Tensor& g) {
      return where(wins(*other, *own), 0.0, where(*own == *other, g * 0.5, g));
    };
  };
  return record(op, zip<Kinds::numeric>(op, a, b, winner), wrt(a, share(a, b)),
                wrt(b, share(b, a)));
}
Tensor maximum(const In& a, const In& b) { return choose("maximum", a, b, greater); }
Tensor minimum(const In& a, const In& b) { return choose("minimum", a, b, less); }
Tensor maximum(const In& a, Number b) { return maximum(a, {make_scalar("maximum", a, b), a.at}); }
Tensor minimum(const In& a, Number b) { return minimum(a, {make_scalar("minimum", a, b), a.at}); }

Tensor detail::limit(const char* op, const In& x, Number low, Number high, bool nan_passes) {
  detail::check(op, x);
  for (const Number& end : {low, high}) detail::check_scalar(op, x.dtype(), end, x.at);
  const auto bottom = low.to<double>(), top = high.to<double>();
  if (!(bottom <= top))
    fail<ValueError>(x.at, "{}: low {} and high {}: need low <= high", op, low, high);
  auto f = [=]<class T>(T v) { return v < T(bottom) ? T(bottom) : v > T(top) ? T(top) : v; };
  return record(op, map(op, x, f), wrt(x, [=, x = saved(x)](const Tensor& g) {
                  const Tensor above = std::isinf(bottom) ? x >= bottom : x > bottom;
                  const Tensor inside = logical_and(above, std::isinf(top) ? x <= top : x < top);
                  return where(nan_passes ? logical_or(inside, isnan(x)) : inside, g, 0.0);
                }));
}
Tensor clamp(const In& x, Number low, Number high) {
  return detail::limit("clamp", x, low, high, false);
}

namespace {

using Byte = unsigned char;  // how kernels read a bool: with bool itself, gcc makes a branch

void check_bool(const char* op, const In& x, const char* name = "the input") {
  detail::check(op, x);
  if (x.dtype() != boolean) fail<DtypeError>(x.at, "{}: {} is {}: need bool", op, name, x.dtype());
}

}  // namespace

Tensor where(const In& condition, const In& a, const In& b) {
  check_bool("where", condition, "condition");
  check_inputs("where", a, b);
  const Shape ab = broadcast_shapes("where", a.shape(), b.shape(), a.at);
  const Shape shape = broadcast_shapes("where", condition.shape(), ab, condition.at);
  Tensor out = detail::empty("where", shape, a.dtype(), a.at);
  visit<Kinds::any>("where", a.dtype(), a.at, [&]<class T>(T) {
    detail::transform<T>([](Byte c, T u, T v) { return c != 0 ? u : v; }, out,
                         detail::Operand<Byte>(condition), detail::Operand<T>(a),
                         detail::Operand<T>(b));
  });
  return record(
      "where", out,
      wrt(a, [condition = saved(condition)](const Tensor& g) { return where(condition, g, 0.0); }),
      wrt(b, [condition = saved(condition)](const Tensor& g) { return where(condition, 0.0, g); }));
}
Tensor where(const In& condition, const In& a, Number b) {
  return where(condition, a, {make_scalar("where", a, b), a.at});
}
Tensor where(const In& condition, Number a, const In& b) {
  return where(condition, {make_scalar("where", b, a), b.at}, b);
}

Tensor where(const In& condition, Number a, Number b) {
  const DType dtype = a.is_integer() && b.is_integer() ? int64 : float32;
  detail::check_scalar("where", dtype, a, condition.at);
  return where(condition, {full({}, a, dtype, condition.at), condition.at}, b);
}

Tensor eq(const In& a, const In& b) { return zip<Kinds::any>("eq", a, b, equal); }
Tensor eq(const In& a, Number b) { return zip<Kinds::any>("eq", a, b, equal); }
Tensor ne(const In& a, const In& b) { return zip<Kinds::any>("ne", a, b, unequal); }
Tensor ne(const In& a, Number b) { return zip<Kinds::any>("ne", a, b, unequal); }
Tensor lt(const In& a, const In& b) { return zip<Kinds::numeric>("lt", a, b, less); }
Tensor lt(const In& a, Number b) { return zip<Kinds::numeric>("lt", a, b, less); }
Tensor le(const In& a, const In& b) { return zip<Kinds::numeric>("le", a, b, less_equal); }
Tensor le(const In& a, Number b) { return zip<Kinds::numeric>("le", a, b, less_equal); }
Tensor gt(const In& a, const In& b) { return zip<Kinds::numeric>("gt", a, b, greater); }
Tensor gt(const In& a, Number b) { return zip<Kinds::numeric>("gt", a, b, greater); }
Tensor ge(const In& a, const In& b) { return zip<Kinds::numeric>("ge", a, b, greater_equal); }
Tensor ge(const In& a, Number b) { return zip<Kinds::numeric>("ge", a, b, greater_equal); }

Tensor logical_and(const In& a, const In& b) {
  check_bool("logical_and", a);
  return zip<Kinds::any>("logical_and", a, b, [](auto x, auto y) { return bool(x) && bool(y); });
}
Tensor logical_or(const In& a, const In& b) {
  check_bool("logical_or", a);
  return zip<Kinds::any>("logical_or", a, b, [](auto x, auto y) { return bool(x) || bool(y); });
}
Tensor logical_xor(const In& a, const In& b) {
  check_bool("logical_xor", a);
  return zip<Kinds::any>("logical_xor", a, b, unequal);
}
Tensor logical_not(const In& x) {
  check_bool("logical_not", x);
  return map<Kinds::any>("logical_not", x, [](auto v) { return !bool(v); });
}

// ---- changes in place: methods of Tensor. Everything is checked before an element is written.

namespace {

/// Whether a and b may share elements: they have the same storage, but not the same first element,
/// shape and strides.
bool overlaps(const Tensor& a, const Tensor& b) {
  const detail::Header *x = Peek::header(a), *y = Peek::header(b);
  return x->storage == y->storage &&
         !(x->data == y->data && x->shape == y->shape && x->strides == y->strides);
}

/// self[i] = f(self[i], other[i]), where `other` is broadcast to self's shape.
template <Kinds K = Kinds::numeric, class F>
const Tensor& apply(const char* op, const Tensor& self, const In& other, F f) {
  check_inputs(op, {self, other.at}, other);
  if (!broadcasts_to(other.shape(), self.shape()))
    fail<ShapeError>(other.at,
                     "{}: {} does not broadcast to {}: a tensor does not change its shape in place",
                     op, other.shape(), self.shape());
  if (other.requires_grad() && detail::grad_mode)
    fail<GraphError>(other.at,
                     "{}: the right side requires a gradient, which a change in place would lose: "
                     "use NoGradGuard or detach()",
                     op);
  visit<K>(op, self.dtype(), other.at, [&]<class T>(T) {
    Tensor copy;
    const Tensor& there = other;
    const Tensor& source = overlaps(self, other) ? copy = there.detach().clone() : there;
    will_write(op, self, other.at);
    detail::transform<T>(f, self, detail::Operand<T>(self), detail::Operand<T>(source));
  });
  return self;
}

/// self[i] = f(self[i], number).
template <Kinds K = Kinds::numeric, class F>
const Tensor& apply(const char* op, const Tensor& self, Scalar number, F f) {
  detail::check(op, {self, number.at});
  visit<K>(op, self.dtype(), number.at, [&]<class T>(T) {
    detail::check_scalar(op, self.dtype(), number.value, number.at);
    will_write(op, self, number.at);
    T value = number.value.to<T>();
    const detail::Header header = detail::header_of(value);
    detail::transform<T>(f, self, detail::Operand<T>(self), detail::Operand<T>(header));
  });
  return self;
}

/// The new element. The old one is not read, because it may be uninitialised.
constexpr auto second = [](const auto&, auto v) { return v; };

}  // namespace

/// Adds up gradients for backward, without a change of the version: see arithmetic.hpp.
void detail::accumulate(const Tensor& sum, const Tensor& g) {
  visit<Kinds::floating>("add_", sum.dtype(), At::unknown(), [&]<class T>(T) {
    transform<T>(plus, sum, Operand<T>(sum), Operand<T>(g));
  });
}

Tensor Tensor::pow(double p, At at) const { return descent::pow({*this, at}, p); }
Tensor Tensor::clamp(Number low, Number high, At at) const {
  return descent::clamp({*this, at}, low, high);
}
Tensor Tensor::operator+=(const In& b) const { return apply("add_", *this, b, plus); }
Tensor Tensor::operator+=(Scalar b) const { return apply("add_", *this, b, plus); }
Tensor Tensor::operator-=(const In& b) const { return apply("sub_", *this, b, minus); }
Tensor Tensor::operator-=(Scalar b) const { return apply("sub_", *this, b, minus); }
Tensor Tensor::operator*=(const In& b) const { return apply("mul_", *this, b, times); }
Tensor Tensor::operator*=(Scalar b) const { return apply("mul_", *this, b, times); }
Tensor Tensor::operator/=(const In& b) const {
  return apply<Kinds::floating>("div_", *this, b, over);
}
Tensor Tensor::operator/=(Scalar b) const { return apply<Kinds::floating>("div_", *this, b, over); }
Tensor Tensor::copy_(const In& source) const {
  return apply<Kinds::any>("copy_", *this, source, second);
}
Tensor Tensor::fill_(Number value, At at) const {
  get("fill_", at);
  return apply<Kinds::any>("fill_", *this, Scalar(value, at), second);
}

}  // namespace descent
