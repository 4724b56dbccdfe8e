#pragma once
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

/// Distinct values in +-[0.3, 2], or positive ones, in random order: no ties, and away from kinks.
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
  return tensor(v, shape, float64);
}

/// A leaf of this shape whose elements lie in memory as the layout says.
inline Tensor input(const Shape& shape, Layout layout, bool positive, uint64_t seed) {
  Tensor x = sample(shape, positive, seed);
  if (layout == Layout::transposed && x.dim() >= 2) {
    x = x.transpose(0, -1).clone().transpose(0, -1);
  } else if (layout == Layout::strided && x.dim() >= 1) {
    Shape wide = shape;
    wide[shape.rank() - 1] *= 3;
    Tensor room = slice(zeros(wide, float64), -1, 1, INT64_MAX, 3);
    room.copy_(x);
    x = room;
  }
  return x.detach().requires_grad_();
}

/// The value of f and the gradients of sum(f outer), each as doubles.
inline std::vector<Values> value_and_gradients(const Function& f, const Tensors& inputs,
                                               uint64_t seed) {
  Generator generator(seed);
  const Tensor y = f(inputs);
  std::vector<Values> all{values(y)};
  Tensors wanted;
  for (const Tensor& x : inputs)
    if (x.requires_grad()) wanted.push_back(x);
  const Tensor outer = randn(y.shape(), float32, generator).to(y.dtype());
  for (const Tensor& g : grad({y}, wanted, {.allow_unused = true}, {outer}))
    all.push_back(g.defined() ? values(g) : Values{});
  return all;
}

struct Tally {
  bool single = false;  // float32 is compared with float64, in place of gradient checks
  int64_t checks = 0;
  double worst = 0;
  std::map<std::string, int64_t> functions = {};  // and layers: how many checks each has

  void run(const std::string& name, const Function& f, const Tensors& inputs, int order = 2) {
    INFO(name);
    if (single) return compare(name.substr(0, name.find(' ')), f, inputs);
    const GradcheckResult r = gradcheck(f, inputs, {.order = order});
    checks += r.checks;
    functions[name.substr(0, name.find(' '))] += r.checks;
    worst = std::max(worst, r.worst);
    INFO(r.message);
    CHECK(r.ok);
  }

 private:
  /// Compares f in float32 with f in float64 of the same numbers. The inputs are leaves, so that a
  /// layer, whose parameters are among them, changes its dtype with them. A row with constants of
  /// float64 refuses float32, and counts nothing.
  void compare(const std::string& name, const Function& f, const Tensors& inputs) {
    functions.emplace(name, 0);
    auto become = [&](DType dtype) {
      for (const Tensor& x : inputs) x.set_data(x.detach().to(dtype));
    };
    try {
      become(float32), become(float64);
      const std::vector<Values> right = value_and_gradients(f, inputs, 3);
      become(float32);
      const std::vector<Values> ours = value_and_gradients(f, inputs, 3);
      compare(name, {ours[0]}, {right[0]});
      compare(name, {ours.begin() + 1, ours.end()}, {right.begin() + 1, right.end()});
    } catch (const Error&) {}
    become(float64);
  }
  /// In units of the last place of the largest number: the gradients of one call have one scale,
  /// because terms that cancel in one of them leave what rounding leaves of the terms.
  void compare(const std::string& name, const std::vector<Values>& ours,
               const std::vector<Values>& right) {
    double scale = 0x1p-4, error = 0;  // smaller results are made of numbers near 1
    for (std::size_t k = 0; k < right.size(); ++k)
      for (std::size_t i = 0; i < right[k].size(); ++i) {
        const double a = ours[k][i], b = right[k][i];
        if (std::isfinite(b)) scale = std::max(scale, std::abs(b));
        if (a == b || (std::isnan(a) && std::isnan(b))) continue;
        error = std::isnan(a - b) ? HUGE_VAL : std::max(error, std::abs(a - b));
      }
    const double ulp = error / scale * 0x1p23;
    checks += std::ssize(right), functions[name] += std::ssize(right);
    worst = std::max(worst, ulp);
    CHECK(ulp <= 64);
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
  module.to(float64);
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
