#include <algorithm>

#include "paths.hpp"

namespace paths {
namespace {

enum Op : int64_t {
  op_sum,
  op_sum_to,
  op_mean,
  op_max,
  op_min,
  op_var,
  op_var_of_all,  // of the population
  op_norm_1,
  op_norm_2,
  op_norm_3,
  op_norm_inf,
  op_logsumexp,
  ops
};

/// Which element of the result each element of x is part of, and how many are part of one.
struct Groups {
  Groups(const Shape& whole, int64_t mask, bool keepdim) {
    if (mask == 0) mask = (1 << whole.rank()) - 1;
    n = merged(whole, mask);
    for (int i = 0; i < whole.rank(); ++i) {
      const bool goes = (mask >> i & 1) != 0;
      if (!goes) shape.push_back(whole[i]);
      else if (keepdim) shape.push_back(1);
    }
    const int64_t numel = Expected::count(whole);
    for (int64_t i = 0; i < numel; ++i) {
      int64_t at = 0, step = 1, rest = i;
      for (int d = whole.rank() - 1; d >= 0; rest /= whole[d--]) {
        if ((mask >> d & 1) != 0) continue;
        at += rest % whole[d] * step;
        step *= whole[d];
      }
      of.push_back(at);
    }
  }
  static int64_t merged(const Shape& whole, int64_t mask) {
    int64_t count = 1;
    for (int i = 0; i < whole.rank(); ++i)
      if (mask == 0 || (mask >> i & 1) != 0) count *= whole[i];
    return count;
  }
  Shape shape{};
  int64_t n = 1;
  std::vector<int64_t> of;
};

struct Results {
  Expected y, dx;
};

/// sum of f(x[i]) in each group.
template <class F> std::vector<double> totals(const Groups& a, const std::vector<double>& x, F f) {
  std::vector<Sum> total(static_cast<std::size_t>(Expected::count(a.shape)));
  for (std::size_t i = 0; i < x.size(); ++i) total.data()[a.of[i]] += f(x[i], a.of[i]);
  return {total.begin(), total.end()};
}
std::vector<double> extremes(const Groups& a, const std::vector<double>& x, double sign) {
  std::vector<double> best(static_cast<std::size_t>(Expected::count(a.shape)), -INFINITY);
  for (std::size_t i = 0; i < x.size(); ++i)
    best.data()[a.of[i]] = std::max(best.data()[a.of[i]], sign * x[i]);
  for (double& v : best) v *= sign;
  return best;
}

/// The largest of sign f(x), whose gradient equal ones share.
template <class F, class D>
Results extreme(const Groups& a, const Shape& whole, const std::vector<double>& x,
                const std::vector<double>& g, double sign, F f, D slope) {
  Results r{Expected(a.shape), Expected(whole)};
  std::vector<double> values;
  for (const double v : x) values.push_back(f(v));
  const std::vector<double> best = extremes(a, values, sign);
  const std::vector<double> hits =
      totals(a, values, [&](double v, int64_t of) { return v == best.data()[of] ? 1.0 : 0.0; });
  for (int64_t i = 0; i < r.y.size(); ++i) r.y.add(i, best.data()[i], 0);
  for (int64_t i = 0; i < r.dx.size(); ++i) {
    const int64_t of = a.of.data()[i];
    if (values.data()[i] == best.data()[of])
      r.dx.add(i, g.data()[of] / hits.data()[of] * slope(x.data()[i]));
  }
  return r;
}

Results variance(const Groups& a, const Shape& whole, const std::vector<double>& x,
                 const std::vector<double>& g, double correction, double eps) {
  Results r{Expected(a.shape), Expected(whole)};
  const double n = static_cast<double>(a.n), degrees = n - correction;
  const std::vector<double> mean = totals(a, x, [n](double v, int64_t) { return v / n; });
  const std::vector<double> size = totals(a, x, [n](double v, int64_t) { return std::abs(v) / n; });
  for (int64_t i = 0; i < r.dx.size(); ++i) {
    const int64_t of = a.of.data()[i];
    const double off = x.data()[i] - mean.data()[of],
                 about = std::abs(x.data()[i]) + size.data()[of];
    // Each difference is off by eps about.
    const double size_of_square = off * off + 2 * std::abs(off) * about + eps * about * about;
    r.y.add(of, off * off / degrees, size_of_square / degrees);
    const double outer = g.data()[of] * 2 / degrees;
    r.dx.add(i, outer * off, std::abs(outer) * about);
  }
  return r;
}

Results p_norm(const Groups& a, const Shape& whole, const std::vector<double>& x,
               const std::vector<double>& g, double p) {
  Results r{Expected(a.shape), Expected(whole)};
  const std::vector<double> total =
      totals(a, x, [p](double v, int64_t) { return std::pow(std::abs(v), p); });
  for (int64_t i = 0; i < r.y.size(); ++i) r.y.add(i, std::pow(total.data()[i], 1 / p));
  for (int64_t i = 0; i < r.dx.size(); ++i) {
    const int64_t of = a.of.data()[i];
    const double v = x.data()[i], y = r.y.sum.data()[of];
    if (v == 0 || y == 0) continue;
    r.dx.add(i, g.data()[of] * (v > 0 ? 1 : -1) * std::pow(std::abs(v) / y, p - 1));
  }
  return r;
}

Results log_sum_exp(const Groups& a, const Shape& whole, const std::vector<double>& x,
                    const std::vector<double>& g) {
  Results r{Expected(a.shape), Expected(whole)};
  const std::vector<double> top = extremes(a, x, 1);
  const std::vector<double> total =
      totals(a, x, [&](double v, int64_t of) { return std::exp(v - top.data()[of]); });
  for (int64_t i = 0; i < r.y.size(); ++i) {
    const double t = top.data()[i], log_sum = std::log(total.data()[i]);
    r.y.add(i, t + log_sum, std::abs(t) + log_sum + 1);
  }
  for (int64_t i = 0; i < r.dx.size(); ++i) {
    const int64_t of = a.of.data()[i];
    const double v = x.data()[i], term = g.data()[of] * std::exp(v - r.y.sum.data()[of]);
    r.dx.add(i, term, std::abs(term) * (1 + std::abs(v) + r.y.scale.data()[of]));
  }
  return r;
}

Results linear(const Groups& a, const Shape& whole, const std::vector<double>& x,
               const std::vector<double>& g, double factor) {
  Results r{Expected(a.shape), Expected(whole)};
  for (int64_t i = 0; i < r.dx.size(); ++i) {
    r.y.add(a.of.data()[i], factor * x.data()[i]);
    r.dx.add(i, factor * g.data()[a.of.data()[i]]);
  }
  return r;
}

Results by_definition(int64_t op, const Groups& a, const Shape& whole, const std::vector<double>& x,
                      const std::vector<double>& g, double eps) {
  auto itself = [](double v) { return v; };
  auto one = [](double) { return 1.0; };
  auto size = [](double v) { return std::abs(v); };
  auto sign = [](double v) { return v > 0 ? 1.0 : v < 0 ? -1.0 : 0.0; };
  switch (op) {
    case op_mean: return linear(a, whole, x, g, 1 / static_cast<double>(a.n));
    case op_max: return extreme(a, whole, x, g, 1, itself, one);
    case op_min: return extreme(a, whole, x, g, -1, itself, one);
    case op_var: return variance(a, whole, x, g, 1, eps);
    case op_var_of_all: return variance(a, whole, x, g, 0, eps);
    case op_norm_1: return p_norm(a, whole, x, g, 1);
    case op_norm_2: return p_norm(a, whole, x, g, 2);
    case op_norm_3: return p_norm(a, whole, x, g, 3);
    case op_norm_inf: return extreme(a, whole, x, g, 1, size, sign);
    case op_logsumexp: return log_sum_exp(a, whole, x, g);
    default: return linear(a, whole, x, g, 1);
  }
}

Tensor computed(int64_t op, const Tensor& x, const Dims& dims, bool keepdim, const Shape& shape) {
  switch (op) {
    case op_sum_to: return sum_to(x, shape);
    case op_mean: return mean(x, dims, keepdim);
    case op_max: return max(x, dims, keepdim);
    case op_min: return min(x, dims, keepdim);
    case op_var: return var(x, dims, keepdim);
    case op_var_of_all: return var(x, dims, keepdim, {.correction = 0});
    case op_norm_1: return norm(x, dims, keepdim, {.p = 1});
    case op_norm_2: return norm(x, dims, keepdim);
    case op_norm_3: return norm(x, dims, keepdim, {.p = 3});
    case op_norm_inf: return norm(x, dims, keepdim, {.p = INFINITY});
    case op_logsumexp: return logsumexp(x, dims, keepdim);
    default: return sum(x, dims, keepdim);
  }
}

Shape shape_of(const Case& c) { return {c["a"], c["b"], c["c"], c["d"]}; }
bool keeps(const Case& c) { return c["keepdim"] != 0 || c["op"] == op_sum_to; }

void compare_one(Tally& tally, const Case& c, DType dtype, Random& random) {
  const Shape whole = shape_of(c);
  const int64_t op = c["op"], mask = c["axes"];
  const Groups groups(whole, mask, keeps(c));
  const Operand x = operand(random, whole, dtype, c["layout of x"], c["kind"]);
  const Operand g = operand(random, groups.shape, dtype, c["layout of g"]);
  const Results r = by_definition(op, groups, whole, x.values, g.values, eps_of(dtype));
  Dims dims{};
  for (int i = 0; i < whole.rank(); ++i)
    if ((mask >> i & 1) != 0) dims.push_back(i);
  Tensor y;
  tally.compare(
      "reduction", c, [&] { return y = computed(op, x.tensor, dims, keeps(c), groups.shape); },
      r.y);
  tally.compare_gradients("reduction", c, y, g.tensor.detach(), {{"input", x.tensor, r.dx}});
}

bool accepts(const Case& c) {
  const int64_t op = c["op"];
  const int64_t n = Groups::merged(shape_of(c), c["axes"]);
  if (op == op_var && n < 2) return false;
  return n > 0 || op == op_sum || op == op_sum_to || op == op_norm_1 || op == op_norm_2;
}

std::vector<Factor> factors_of(const std::vector<Factor>& others) {
  return with({{"op", range(0, ops - 1)},
               {"a", range(0, 20)},
               {"b", range(1, 20)},
               {"c", range(1, 20)},
               {"d", range(1, 20)},
               {"axes", range(0, 15)},
               {"keepdim", {0, 1}},
               {"kind", {any_number, ties}},
               {"layout of x", range(0, layouts - 1)},
               {"layout of g", range(0, layouts - 1)},
               {"cut", {kPays, kAlways}}},
              others);
}

void sweep(Tally& tally, const char* name, const Cases& cases, int64_t impossible = 0) {
  Random random(cases.values.size());
  tally.sweep(name, cases, impossible, [&](const Case& c) {
    const Chosen cut("reduce cut", c["cut"]);
    for (const DType dtype : {float32, float64}) compare_one(tally, c, dtype, random);
  });
}

// ---- softmax and its logarithm, along an axis

void compare_softmax(Tally& tally, const Case& c, DType dtype, Random& random) {
  const Shape whole{c["a"], c["b"], c["c"]};
  const int64_t dim = c["dim"];
  const bool logarithm = c["logarithm"] != 0;
  const Groups groups(whole, 1 << dim, true);
  const Operand x =
      operand(random, whole, dtype, c["layout of x"], c["kind"], static_cast<double>(c["size"]));
  const Operand g = operand(random, whole, dtype, c["layout of g"]);
  Expected y(whole), dx(whole);
  const std::vector<double> top = extremes(groups, x.values, 1);
  const std::vector<double> total =
      totals(groups, x.values, [&](double v, int64_t of) { return std::exp(v - top.data()[of]); });
  std::vector<Sum> outer(top.size());
  std::vector<double> outer_size(top.size()), far(top.size());
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t of = groups.of.data()[i];
    const double off = x.values.data()[i] - top.data()[of], log_sum = std::log(total.data()[of]);
    const double p = std::exp(off) / total.data()[of];
    if (logarithm) y.add(i, off - log_sum, -off + log_sum + 1);
    else y.add(i, p, p * (2 - off));
    const double term = g.values.data()[i] * (logarithm ? 1 : p);
    outer.data()[of] += term;
    outer_size.data()[of] += std::abs(term);
    far.data()[of] = std::max(far.data()[of], 2 - off);
  }
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t of = groups.of.data()[i];
    const double p = logarithm ? std::exp(y.sum.data()[i]) : y.sum.data()[i];
    const double own = g.values.data()[i] * (logarithm ? 1 : p), size = std::abs(own);
    dx.add(i, own, size * (logarithm ? 1 : far.data()[of]));
    dx.add(i, -p * outer.data()[of],
           p * outer_size.data()[of] * (logarithm ? 1 + y.scale.data()[i] : far.data()[of]));
  }
  Tensor result;
  tally.compare(
      logarithm ? "log_softmax" : "softmax", c,
      [&] { return result = logarithm ? log_softmax(x.tensor, dim) : softmax(x.tensor, dim); }, y);
  tally.compare_gradients(logarithm ? "log_softmax" : "softmax", c, result, g.tensor.detach(),
                          {{"input", x.tensor, dx}});
}

}  // namespace

void compare_reductions(Tally& tally) {
  sweep(tally, "reductions", Cases(factors_of({}), accepts, 100, 31));
  sweep(tally, "logsumexp", Cases(factors_of({{"op", {op_logsumexp}}}), accepts, 100, 35), 9);
  // Axes that are longer than a piece is high, in rows and in columns.
  const std::vector<Factor> large = factors_of({{"a", {1, 3, 1025, 1100, 3000}},
                                                {"b", {1, 33, 200}},
                                                {"c", {1, 7, 130, 1025, 2100}},
                                                {"d", {1, 2, 31, 129, 300}},
                                                {"cut", {kPays}}});
  auto not_too_large = [](const Case& c) {
    const int64_t n = Expected::count(shape_of(c));
    return accepts(c) && n > 10'000 && n < 120'000;
  };
  sweep(tally, "reductions of long axes", Cases(large, not_too_large, 100, 32, false));

  auto always = [](const Case&) { return true; };
  const std::vector<Factor> factors{{"a", range(0, 20)},
                                    {"b", range(1, 20)},
                                    {"c", range(1, 20)},
                                    {"dim", {0, 1, 2}},
                                    {"logarithm", {0, 1}},
                                    {"kind", {any_number, ties}},
                                    {"size", {1, 30}},
                                    {"layout of x", range(0, layouts - 1)},
                                    {"layout of g", range(0, layouts - 1)}};
  Random random(33);
  auto both = [&](const Case& c) {
    for (const DType dtype : {float32, float64}) compare_softmax(tally, c, dtype, random);
  };
  tally.sweep("softmax", Cases(factors, always, 1200, 33), 0, both);
  const std::vector<Factor> long_axes = with(
      factors, {{"a", {1, 2, 63, 300}}, {"b", {1, 2, 63, 300}}, {"c", {1, 15, 16, 33, 257, 1000}}});
  auto few = [](const Case& c) { return c["a"] * c["b"] * c["c"] < 100'000; };
  tally.sweep("softmax of long axes", Cases(long_axes, few, 50, 34, false), 0, both);
}

}  // namespace paths
