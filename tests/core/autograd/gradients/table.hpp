#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "support.hpp"

// What the rows of the table of gradient checks are made of. Every differentiable function of the
// public headers stands in one of the files of this folder, with the shapes and layouts that it
// must be right for. One check is one function, one set of shapes, one input and one order.

namespace gradients {

using namespace descent;

using Tensors = std::vector<Tensor>;
using Function = std::function<Tensor(const Tensors&)>;

enum class Layout { plain, transposed, strided };

/// What the rows compute in: float64, or float32 where the two are compared.
inline DType kNumber = float64;

/// Distinct values in +-[0.3, 2], or positive ones, in random order: no ties, and away from kinks.
/// Both dtypes can hold them.
inline Tensor sample(const Shape& shape, bool positive, uint64_t seed) {
  Generator generator(seed);
  const int64_t n = empty(shape).numel();
  const std::vector<int64_t> order = randperm(n, generator).to_vector<int64_t>();
  std::vector<double> v;
  for (int64_t k : order) {
    const double size = 0.3137 + 0.0131 * static_cast<double>(seed) +
                        1.6123 * static_cast<double>(k) / static_cast<double>(n);
    v.push_back(positive || k % 2 == 0 ? size : -size);
  }
  return tensor(v, shape, float32).to(kNumber);
}

/// A leaf of this shape whose elements lie in memory as the layout says.
inline Tensor input(const Shape& shape, Layout layout, bool positive, uint64_t seed) {
  Tensor x = sample(shape, positive, seed);
  if (layout == Layout::transposed && x.dim() >= 2) {
    x = x.transpose(0, -1).clone().transpose(0, -1);
  } else if (layout == Layout::strided && x.dim() >= 1) {
    Shape wide = shape;
    wide[shape.rank() - 1] *= 3;
    Tensor room = slice(zeros(wide, kNumber), -1, 1, INT64_MAX, 3);
    room.copy_(x);
    x = room;
  }
  return x.detach().requires_grad_();
}

/// x, each element of which is larger or smaller by this part of it.
inline Tensor nudge(const Tensor& x, double part, Generator& generator) {
  return x.detach() * (1 + part * sign(randn(x.shape(), float64, generator))).to(x.dtype());
}

/// The value of f and the gradients of sum(f outer), where outer is random; all of the inputs and
/// outer are nudged by `part`, if it is not 0.
inline std::vector<Values> value_and_gradients(const Function& f, const Tensors& inputs,
                                               double part = 0, uint64_t seed = 1) {
  Generator fixed(3), random(seed);
  Tensors before, wanted;
  for (const Tensor& x : inputs) {
    before.push_back(x.detach());
    if (part != 0) x.set_data(nudge(x, part, random));
    if (x.requires_grad()) wanted.push_back(x);
  }
  const Tensor y = f(inputs);
  Tensor outer = randn(y.shape(), float32, fixed).to(y.dtype());
  if (part != 0) outer = nudge(outer, part, random);
  std::vector<Values> all{values(y)};
  for (const Tensor& g : grad({y}, wanted, {.allow_unused = true}, {outer}))
    all.push_back(g.defined() ? values(g) : Values{});
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].set_data(before[i]);
  return all;
}

/// The largest difference of two results: infinity if one is a NaN or infinite and the other not.
inline double largest_difference(const Values& a, const Values& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    largest = std::isnan(a[i] - b[i]) ? HUGE_VAL : std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

/// What a row gives in float64: values, then gradients, and the scale that the errors of each have
/// in float32.
///
/// The scale of a result is its largest number; or, if this is more, how much the result changes
/// for each unit by which all of the inputs change relative to themselves (the largest of three
/// random changes). Terms that cancel in the result do not cancel in its changes, and a function
/// that is steep, as the tangent near its pole, is as steep in its changes. So float32 is asked for
/// what rounding of the inputs alone would leave of the result, and for no more.
///
/// Where the terms of a gradient cancel for all inputs, up to a small part, a row names their size,
/// `terms`.
struct Expected {
  std::string name;
  std::vector<Values> right;
  std::vector<double> scale;

  Expected(std::string row, const Function& f, const Tensors& inputs, double terms)
      : name(std::move(row)), right(value_and_gradients(f, inputs)) {
    for (const Values& all : right) {
      double largest = 0;
      for (const double v : all)
        if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
      scale.push_back(largest);
    }
    for (uint64_t seed : {1U, 2U, 3U}) {
      const double part = 0x1p-30;
      const std::vector<Values> near = value_and_gradients(f, inputs, part, seed);
      for (std::size_t k = 0; k < right.size(); ++k)
        if (const double change = largest_difference(near[k], right[k]) / part; change < HUGE_VAL)
          scale[k] = std::max(scale[k], change);
    }
    for (std::size_t k = 1; k < scale.size(); ++k) scale[k] = std::max(scale[k], terms);
  }
};

/// Checks gradients; or computes in float64 what is right; or compares float32 with that.
enum class Mode { check, expect, compare };

struct Tally {
  Mode mode = Mode::check;
  int64_t checks = 0;
  double worst = 0;
  std::string worst_row = {};
  std::map<std::string, int64_t> functions = {};  // and layers: how many checks each has
  std::vector<Expected> expected = {};
  std::size_t compared = 0;  // rows
  double terms = 0;          // of the gradients of the rows that follow; see Expected

  void run(const std::string& name, const Function& f, const Tensors& inputs, int order = 2) {
    INFO(name);
    if (mode == Mode::expect) return void(expected.emplace_back(name, f, inputs, terms));
    if (mode == Mode::compare) return compare(name, value_and_gradients(f, inputs));
    const GradcheckResult r = gradcheck(f, inputs, {.order = order});
    count(name, r.checks, r.worst);
    INFO(r.message);
    CHECK(r.ok);
  }

 private:
  void count(const std::string& name, int64_t number, double error) {
    checks += number;
    functions[name.substr(0, name.find(' '))] += number;
    if (error > worst) worst = error, worst_row = name;
  }
  void compare(const std::string& name, const std::vector<Values>& ours) {
    REQUIRE(compared < expected.size());
    const Expected& row = expected[compared++];
    REQUIRE(row.name == name);
    for (std::size_t k = 0; k < ours.size(); ++k) {
      const double error = largest_difference(ours[k], row.right[k]);
      const double ulp = error == 0 ? 0 : error / row.scale[k] * 0x1p23;
      count(name, std::ssize(ours[k]), ulp);
      INFO("the value, or gradients, number ", k);
      CHECK(ulp <= 64);
    }
  }
};

inline const std::vector<Shape> kShapes = {{},     {1},    {0},       {5},      {3, 4},
                                           {1, 7}, {7, 1}, {2, 3, 4}, {2, 0, 3}};

/// f at all shapes and layouts, and as a diamond: x reaches the result by two ways.
inline void unary(Tally& tally, const std::string& name, Tensor (*f)(const In&),
                  bool positive = false) {
  const Function call = [f](const Tensors& x) { return f(x[0]); };
  for (const Shape& shape : kShapes)
    tally.run(name, call, {input(shape, Layout::plain, positive, 1)});
  for (Layout layout : {Layout::transposed, Layout::strided})
    tally.run(name, call, {input({3, 4}, layout, positive, 2)});
  tally.run(name + " diamond", [f](const Tensors& x) { return f(x[0]) * x[0] + f(x[0]); },
            {input({2, 3}, Layout::plain, positive, 3)});
}

inline void binary(Tally& tally, const std::string& name, Tensor (*f)(const In&, const In&),
                   bool positive = false) {
  const Function call = [f](const Tensors& x) { return f(x[0], x[1]); };
  const std::pair<Shape, Shape> pairs[] = {{{}, {}},        {{3}, {3}},       {{3, 4}, {4}},
                                           {{4}, {3, 4}},   {{3, 1}, {1, 4}}, {{2, 3, 4}, {3, 1}},
                                           {{1}, {5}},      {{0}, {1}},       {{2, 0}, {1}},
                                           {{}, {3, 4}},    {{3, 4}, {}},     {{2, 1, 4}, {3, 1}},
                                           {{3, 4}, {3, 4}}};
  for (const auto& [a, b] : pairs)
    tally.run(name, call,
              {input(a, Layout::plain, positive, 1), input(b, Layout::plain, positive, 2)});
  for (Layout layout : {Layout::transposed, Layout::strided})
    tally.run(name, call,
              {input({3, 4}, layout, positive, 1), input({3, 4}, Layout::plain, positive, 2)});
  tally.run(name + " with one constant", [f](const Tensors& x) { return f(x[0], x[1]); },
            {input({3}, Layout::plain, positive, 1), sample({3}, positive, 2)});
}

inline void same_twice(Tally& tally, const std::string& name, Tensor (*f)(const In&, const In&),
                       bool positive) {
  tally.run(name + " of itself", [f](const Tensors& x) { return f(x[0], x[0]); },
            {input({3, 2}, Layout::plain, positive, 1)});
}

/// f(x) for any number of shapes of x.
inline void any_of(Tally& tally, const std::string& name, const Function& f,
                   const std::vector<Shape>& shapes, bool positive = false) {
  for (const Shape& shape : shapes)
    for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
      if (layout == Layout::plain || shape.rank() >= 2)
        tally.run(name, f, {input(shape, layout, positive, 1)});
}

/// The layer's output of x, as a function of x and of the layer's parameters. (gradcheck changes
/// its inputs in place, and the layer sees that.)
template <class Layer>
void layer(Tally& tally, const std::string& name, Layer module, const std::vector<Shape>& shapes,
           int order = 2) {
  module.to(kNumber);
  for (const Shape& shape : shapes) {
    Tensors inputs{input(shape, Layout::plain, false, 1)};
    for (const Tensor& p : module.parameters()) inputs.push_back(p);
    auto call = [module](const Tensors& in) {
      manual_seed(1);  // dropout draws the same each time
      return module(in[0]);
    };
    tally.run(name, call, inputs, order);
  }
}

/// A family of rows, which the test runs: `const Family family(rows);` in a file of this folder.
struct Family {
  explicit Family(void (*rows)(Tally&)) { all().push_back(rows); }
  static std::vector<void (*)(Tally&)>& all() {
    static std::vector<void (*)(Tally&)> families;
    return families;
  }
};

}  // namespace gradients
