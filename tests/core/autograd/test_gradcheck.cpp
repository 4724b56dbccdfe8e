#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "support.hpp"

using namespace descent;

// Every differentiable function of the public headers stands in this table, with the shapes and
// layouts that it must be right for. One check is one function, one set of shapes, one input and
// one order.

namespace {

using Tensors = std::vector<Tensor>;
using Function = std::function<Tensor(const Tensors&)>;

enum class Layout { plain, transposed, strided };

/// Distinct values in +-[0.3, 2], or positive ones, in random order: no ties, and away from kinks.
Tensor sample(const Shape& shape, bool positive, uint64_t seed) {
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
Tensor input(const Shape& shape, Layout layout, bool positive, uint64_t seed) {
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

struct Tally {
  int64_t checks = 0;
  double worst = 0;
  std::set<std::string> functions;

  void run(const std::string& name, const Function& f, const Tensors& inputs, int order = 2) {
    functions.insert(name.substr(0, name.find(' ')));
    const GradcheckResult r = gradcheck(f, inputs, {.order = order});
    checks += r.checks;
    worst = std::max(worst, r.worst);
    INFO(name, ": ", r.message);
    CHECK(r.ok);
  }
};

const std::vector<Shape> kShapes = {{},     {1},    {0},       {5},      {3, 4},
                                    {1, 7}, {7, 1}, {2, 3, 4}, {2, 0, 3}};

/// f at all shapes and layouts, and as a diamond: x reaches the result by two ways.
void unary(Tally& tally, const std::string& name, Tensor (*f)(const In&), bool positive = false) {
  const Function call = [f](const Tensors& x) { return f(x[0]); };
  for (const Shape& shape : kShapes)
    tally.run(name, call, {input(shape, Layout::plain, positive, 1)});
  for (Layout layout : {Layout::transposed, Layout::strided})
    tally.run(name, call, {input({3, 4}, layout, positive, 2)});
  tally.run(name + " diamond", [f](const Tensors& x) { return f(x[0]) * x[0] + f(x[0]); },
            {input({2, 3}, Layout::plain, positive, 3)});
}

void binary(Tally& tally, const std::string& name, Tensor (*f)(const In&, const In&),
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

void same_twice(Tally& tally, const std::string& name, Tensor (*f)(const In&, const In&),
                bool positive) {
  tally.run(name + " of itself", [f](const Tensors& x) { return f(x[0], x[0]); },
            {input({3, 2}, Layout::plain, positive, 1)});
}

/// f(x) for any number of shapes of x.
void any_of(Tally& tally, const std::string& name, const Function& f,
            const std::vector<Shape>& shapes, bool positive = false) {
  for (const Shape& shape : shapes)
    for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
      if (layout == Layout::plain || shape.rank() >= 2)
        tally.run(name, f, {input(shape, layout, positive, 1)});
}

void pointwise(Tally& t) {
  unary(t, "exp", exp), unary(t, "expm1", expm1), unary(t, "log", log, true);
  unary(t, "log1p", log1p, true), unary(t, "sqrt", sqrt, true), unary(t, "square", square);
  unary(t, "reciprocal", reciprocal), unary(t, "abs", abs), unary(t, "sign", sign);
  unary(t, "sin", sin), unary(t, "cos", cos), unary(t, "tanh", tanh), unary(t, "erf", erf);
  unary(t, "sigmoid", sigmoid), unary(t, "relu", relu), unary(t, "floor", floor);
  unary(t, "ceil", ceil), unary(t, "round", round), unary(t, "neg", neg), unary(t, "clone", clone);
  unary(t, "contiguous", contiguous), unary(t, "softmax", softmax),
      unary(t, "log_softmax", log_softmax);
  unary(t, "add scalar", [](const In& x) { return 2.0 + x + 3.0; });
  unary(t, "sub scalar", [](const In& x) { return 2.0 - (x - 3.0); });
  unary(t, "mul scalar", [](const In& x) { return 2.0 * x * 3.0; });
  unary(t, "div scalar", [](const In& x) { return 2.0 / x + x / 3.0; });
  unary(t, "pow 3", [](const In& x) { return pow(x, 3.0); });
  unary(
      t, "pow -1.5", [](const In& x) { return pow(x, -1.5); }, true);
  unary(t, "pow 0", [](const In& x) { return pow(x, 0.0); });
  unary(t, "clamp", [](const In& x) { return clamp(x, -0.9, 1.1); });
  unary(t, "to", [](const In& x) { return x.to(float64); });
}

void arithmetic(Tally& t) {
  binary(t, "add", add), binary(t, "sub", sub), binary(t, "mul", mul), binary(t, "div", div);
  binary(t, "pow", pow, true), binary(t, "maximum", maximum), binary(t, "minimum", minimum);
  same_twice(t, "add", add, false), same_twice(t, "sub", sub, false),
      same_twice(t, "mul", mul, false);
  same_twice(t, "div", div, false), same_twice(t, "pow", pow, true);
  const Tensor mask = sample({3, 4}, false, 7) > 0, row = sample({4}, false, 8) > 0;
  for (const Tensor& c : {mask, row}) {
    const Tensors ab = {input({3, 4}, Layout::plain, false, 1),
                        input({4}, Layout::plain, false, 2)};
    t.run(
        "where", [&](const Tensors& x) { return where(c, x[0], x[1]); }, ab);
    t.run(
        "where scalar", [&](const Tensors& x) { return where(c, x[0], 2.0) * where(c, 1.5, x[1]); },
        ab);
    t.run(
        "masked_fill", [&](const Tensors& x) { return masked_fill(x[0], c, 2.0) * x[1]; }, ab);
  }
}

void reductions(Tally& t) {
  const std::vector<Shape> full = {{1}, {5}, {3, 4}, {1, 7}, {7, 1}, {2, 3, 4}};
  std::vector<Shape> all = full;
  all.push_back({}), all.push_back({0}), all.push_back({2, 0, 3});
  any_of(
      t, "sum", [](const Tensors& x) { return sum(x[0]); }, all);
  any_of(
      t, "mean", [](const Tensors& x) { return mean(x[0]); }, full);
  any_of(
      t, "max", [](const Tensors& x) { return max(x[0]); }, full);
  any_of(
      t, "min", [](const Tensors& x) { return min(x[0]); }, full);
  any_of(t, "var", [](const Tensors& x) { return var(x[0]); }, {{5}, {3, 4}, {2, 3, 4}});
  any_of(
      t, "norm", [](const Tensors& x) { return norm(x[0]); }, full);
  for (bool keepdim : {false, true}) {
    for (const Dims& dims : {Dims{0}, Dims{-1}, Dims{1}, Dims{0, 2}, Dims{2, 1, 0}}) {
      const std::vector<Shape> shapes = {{2, 3, 4}, {4, 1, 3}};
      const std::string at = " over " + str(dims);
      any_of(
          t, "sum" + at, [=](const Tensors& x) { return sum(x[0], dims, keepdim); }, shapes);
      any_of(
          t, "mean" + at, [=](const Tensors& x) { return mean(x[0], dims, keepdim); }, shapes);
      any_of(
          t, "max" + at, [=](const Tensors& x) { return max(x[0], dims, keepdim); }, shapes);
      any_of(
          t, "min" + at, [=](const Tensors& x) { return min(x[0], dims, keepdim); }, shapes);
      any_of(t, "var" + at, [=](const Tensors& x) { return var(x[0], dims, keepdim, {0}); },
             {{2, 3, 4}});
      any_of(
          t, "logsumexp" + at, [=](const Tensors& x) { return logsumexp(x[0], dims, keepdim); },
          shapes);
      for (double p : {1.0, 2.0, 3.0, static_cast<double>(INFINITY)})
        any_of(t, "norm" + at, [=](const Tensors& x) { return norm(x[0], dims, keepdim, {p}); },
               {{2, 3, 4}});
    }
  }
  for (const Shape& to : {Shape{3, 1}, Shape{4}, Shape{}, Shape{1, 1, 4}})
    t.run("sum_to", [=](const Tensors& x) { return sum_to(x[0], to); },
          {input({2, 3, 4}, Layout::plain, false, 1)});
  for (int64_t dim : {0, 1, -1}) {
    any_of(t, "softmax dim", [=](const Tensors& x) { return softmax(x[0], dim); },
           {{2, 3, 4}, {3, 1, 4}});
    any_of(t, "log_softmax dim", [=](const Tensors& x) { return log_softmax(x[0], dim); },
           {{2, 3, 4}, {3, 1, 4}});
  }
}

void views(Tally& t) {
  const std::vector<Shape> s = {{2, 3, 4}, {2, 3, 1}};
  any_of(
      t, "reshape",
      [](const Tensors& x) {
        return reshape(x[0], {-1, 2}) * 2.0;
      },
      s);
  any_of(
      t, "flatten", [](const Tensors& x) { return flatten(x[0], 1); }, s);
  any_of(
      t, "permute",
      [](const Tensors& x) {
        return permute(x[0], {2, 0, 1});
      },
      s);
  any_of(
      t, "transpose", [](const Tensors& x) { return transpose(x[0], 0, -1); }, s);
  any_of(t, "t", [](const Tensors& x) { return descent::t(x[0]); }, {{3, 4}, {1, 3}, {5}, {0, 2}});
  any_of(
      t, "narrow", [](const Tensors& x) { return narrow(x[0], 1, 1, 2); }, s);
  any_of(
      t, "slice", [](const Tensors& x) { return slice(x[0], 1, 0, 3, 2); }, s);
  any_of(
      t, "slice of nothing", [](const Tensors& x) { return slice(x[0], 1, 2, 1); }, s);
  any_of(
      t, "select", [](const Tensors& x) { return select(x[0], 1, -1); }, s);
  any_of(
      t, "squeeze", [](const Tensors& x) { return squeeze(x[0]) * 3.0; }, s);
  any_of(
      t, "squeeze dim", [](const Tensors& x) { return squeeze(x[0], 2); }, s);
  any_of(
      t, "unsqueeze", [](const Tensors& x) { return unsqueeze(x[0], 1); }, s);
  any_of(t, "expand",
         [](const Tensors& x) {
           return expand(x[0], {2, 5, 3, -1});
         },
         {{3, 1}, {1, 4}, {5, 3, 2}});
}

void joins(Tally& t) {
  const Tensors three = {input({2, 3}, Layout::plain, false, 1),
                         input({2, 3}, Layout::transposed, false, 2),
                         input({2, 3}, Layout::strided, false, 3)};
  for (int64_t dim : {0, 1, -1}) {
    t.run(
        "cat", [=](const Tensors& x) { return cat(x, dim); }, three);
    t.run(
        "cat of itself",
        [=](const Tensors& x) {
          return cat({x[0], x[1], x[0]}, dim) * 2.0;
        },
        three);
    t.run(
        "stack", [=](const Tensors& x) { return stack(x, dim); }, three);
  }
  any_of(t, "split",
         [](const Tensors& x) { return split(x[0], 2, 1)[1] * split(x[0], 1, 0)[0].sum(); },
         {{2, 3}, {3, 4}});
  const Tensor rows = tensor({2, 0, 2}), cells = tensor({{1, 0, 1, 2}, {2, 2, 0, 0}});
  const Tensor mask = sample({3, 4}, false, 7) > 0;
  const std::vector<Shape> s = {{3, 4}};
  any_of(t, "index_select", [=](const Tensors& x) { return index_select(x[0], 0, rows); },
         {{3, 4}, {3}, {3, 0}, {3, 2, 2}});
  any_of(
      t, "index_select dim", [=](const Tensors& x) { return index_select(x[0], 1, rows); }, s);
  any_of(
      t, "gather", [=](const Tensors& x) { return gather(x[0], 0, cells); }, s);
  any_of(
      t, "index", [=](const Tensors& x) { return index(x[0], rows) * 2.0; }, s);
  any_of(
      t, "index by mask", [=](const Tensors& x) { return index(x[0], mask); }, s);
  for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
    t.run("scatter_add", [=](const Tensors& x) { return scatter_add(x[0], 0, cells, x[1]); },
          {input({3, 4}, layout, false, 1), input({2, 4}, layout, false, 2)});
}

void products(Tally& t) {
  const std::pair<Shape, Shape> pairs[] = {{{3}, {3}},
                                           {{2, 3}, {3}},
                                           {{3}, {3, 2}},
                                           {{2, 3}, {3, 4}},
                                           {{1, 3}, {3, 1}},
                                           {{0, 3}, {3, 2}},
                                           {{2, 0}, {0, 3}},
                                           {{2, 3, 4}, {4, 2}},
                                           {{3, 4}, {2, 4, 2}},
                                           {{2, 3, 4}, {2, 4, 2}},
                                           {{2, 1, 3, 2}, {3, 2, 2}},
                                           {{2, 3, 4}, {4}}};
  for (const auto& [a, b] : pairs)
    for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
      t.run("matmul", [](const Tensors& x) { return matmul(x[0], x[1]); },
            {input(a, layout, false, 1), input(b, layout, false, 2)});
  t.run("matmul of itself", [](const Tensors& x) { return matmul(x[0], x[0].t()); },
        {input({3, 2}, Layout::plain, false, 1)});
  for (const Shape& shape : {Shape{4}, Shape{3, 4}, Shape{2, 3, 4}, Shape{0, 4}}) {
    const Tensors in = {input(shape, Layout::plain, false, 1),
                        input({2, 4}, Layout::plain, false, 2),
                        input({2}, Layout::plain, false, 3)};
    t.run(
        "linear", [](const Tensors& x) { return linear(x[0], x[1], x[2]); }, in);
    t.run(
        "linear without bias", [](const Tensors& x) { return linear(x[0], x[1]) * x[2]; }, in);
  }
}

/// By the product and one channel at a time.
void convolutions(Tally& t) {
  struct Case {
    Shape x, weight;
    Conv2dOptions options;
  };
  const Case cases[] = {{{2, 2, 4, 5}, {3, 2, 3, 2}, {}},
                        {{2, 3, 4}, {2, 2, 1, 1}, {}},
                        {{2, 4, 5, 4}, {2, 2, 3, 3}, {.stride = {2, 1}, .padding = 1, .groups = 2}},
                        {{1, 2, 6, 5}, {1, 2, 2, 3}, {.padding = {0, 2}, .dilation = {3, 2}}},
                        {{2, 3, 4, 5}, {3, 1, 3, 3}, {.padding = 1, .groups = 3}},
                        {{0, 2, 4, 4}, {2, 2, 3, 3}, {}}};
  for (const auto& [images, weight, o] : cases) {
    const Tensors in = {input(images, Layout::plain, false, 1),
                        input(weight, Layout::plain, false, 2),
                        input({weight[0]}, Layout::plain, false, 3)};
    t.run(
        "conv2d", [o = o](const Tensors& x) { return conv2d(x[0], x[1], x[2], o); }, in);
    t.run("conv2d without bias", [o = o](const Tensors& x) { return conv2d(x[0], x[1], o); },
          {in[0], in[1]});
  }
}

void pooling(Tally& t) {
  const std::vector<Shape> images = {{2, 2, 4, 6}, {3, 5, 5}, {1, 1, 4, 5}};
  const MaxPool2dOptions largest[] = {{},
                                      {.stride = 1, .padding = 1},
                                      {.stride = {2, 1}, .ceil_mode = true},
                                      {.stride = 3, .padding = {0, 1}, .dilation = 2}};
  for (const MaxPool2dOptions& o : largest)
    for (const Size2d& kernel : {Size2d(2), Size2d(2, 3)})
      any_of(
          t, "max_pool2d", [=](const Tensors& x) { return max_pool2d(x[0], kernel, o); }, images);
  const AvgPool2dOptions means[] = {
      {},
      {.stride = 1, .padding = 1},
      {.stride = {2, 1}, .ceil_mode = true},
      {.padding = {1, 0}, .ceil_mode = true, .count_include_pad = false}};
  for (const AvgPool2dOptions& o : means)
    for (const Size2d& kernel : {Size2d(2), Size2d(2, 3)})
      any_of(
          t, "avg_pool2d", [=](const Tensors& x) { return avg_pool2d(x[0], kernel, o); }, images);
}

void losses(Tally& t) {
  const Tensor target = tensor({2, 0, 1});
  const Tensor weight = tensor({1., 2., 0.5}, float64);
  for (nn::Reduction reduction : {nn::Reduction::mean, nn::Reduction::sum, nn::Reduction::none}) {
    any_of(t, "cross_entropy",
           [=](const Tensors& x) {
             return nn::cross_entropy(
                 x[0], target, {.weight = weight, .label_smoothing = 0.1, .reduction = reduction});
           },
           {{3, 3}});
    any_of(t, "cross_entropy",
           [=](const Tensors& x) {
             return nn::cross_entropy(x[0], target, {.ignore_index = 0, .reduction = reduction});
           },
           {{3, 3}, {3, 5}});
    any_of(t, "nll_loss",
           [=](const Tensors& x) {
             return nn::nll_loss(x[0], target,
                                 {.weight = weight, .ignore_index = 0, .reduction = reduction});
           },
           {{3, 3}});
    any_of(t, "cross_entropy ignoring, smoothed",
           [=](const Tensors& x) {
             return nn::cross_entropy(
                 x[0], target, {.ignore_index = 2, .label_smoothing = 0.3, .reduction = reduction});
           },
           {{3, 3}});
    t.run("mse_loss", [=](const Tensors& x) { return nn::mse_loss(x[0], x[1], {reduction}); },
          {input({3, 4}, Layout::plain, false, 1), input({3, 4}, Layout::transposed, false, 2)});
  }
}

/// The names of the functions in the public headers that take a tensor and return one.
std::set<std::string> public_functions() {
  std::set<std::string> names;
  for (const char* folder : {"core/ops", "nn"})
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(std::string(DESCENT_ROOT "/") + folder)) {
      if (entry.path().extension() != ".hpp") continue;
      std::ifstream file(entry.path());
      for (std::string line; std::getline(file, line);) {
        if (const std::string mark = "[[nodiscard]] "; line.starts_with(mark))
          line.erase(0, mark.size());
        const std::size_t open = line.find('('), space = line.find(' ');
        const std::string type = line.substr(0, space);
        if (open == std::string::npos || (type != "Tensor" && type != "std::vector<Tensor>"))
          continue;
        const std::string arguments = line.substr(open);
        if (arguments.starts_with("(const char* op")) continue;  // a kernel: it records nothing
        if (arguments.find("const In&") != std::string::npos ||
            arguments.find("const std::vector<Tensor>&") != std::string::npos)
          names.insert(line.substr(space + 1, open - space - 1));
      }
    }
  return names;
}

}  // namespace

TEST_CASE("every differentiable function has the derivative it says, to the second order") {
  Tally tally;
  pointwise(tally);
  arithmetic(tally);
  reductions(tally);
  views(tally);
  joins(tally);
  products(tally);
  convolutions(tally);
  pooling(tally);
  losses(tally);
  MESSAGE(tally.checks, " gradient checks of ", tally.functions.size(), " functions, worst error ",
          tally.worst);
  CHECK(tally.checks >= 4200);

  std::set<std::string> missing = public_functions();
  CHECK(missing.size() > 60);
  for (const char* none : {"eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or",
                           "logical_not", "isnan", "isfinite", "argmax", "argmin", "any", "all",
                           "nonzero", "zeros_like", "ones_like", "full_like"})
    missing.erase(none);
  for (const std::string& name : tally.functions) missing.erase(name);
  for (const std::string& name : missing)
    FAIL_CHECK(name, " has no row in the table of gradient checks");
}

TEST_CASE("a wrong derivative is found, and its cause named") {
  const Tensor x = tensor({0.5, -1.25}, float64).requires_grad_();
  auto wrong = [](double factor) {
    return [factor](const Tensors& in) {
      return record(
          "wrong", map("wrong", in[0], [](auto v) { return v * v; }),
          wrt(In(in[0]), [x = saved(in[0]), factor](const Tensor& g) { return g * x * factor; }));
    };
  };
  CHECK(gradcheck(wrong(2), {x}).ok);
  CHECK(gradcheck(wrong(-2), {x}).message.find("the sign is wrong") != std::string::npos);
  CHECK(gradcheck(wrong(0), {x}).message.find("the derivative is missing") != std::string::npos);
  CHECK(gradcheck(wrong(2 + 1e-7), {x}).ok == false);
  const std::string message = gradcheck(wrong(4), {x}).message;
  CHECK(message.find("first order, input 0 [2], element [0] = 0.5") != std::string::npos);
  CHECK(message.find("off by a factor of 2") != std::string::npos);
}

TEST_CASE("a kink that is crossed is named as the cause") {
  const Tensor x = tensor({0.5, 1e-5}, float64).requires_grad_();
  const GradcheckResult r = gradcheck([](const Tensors& in) { return relu(in[0]); }, {x});
  CHECK_FALSE(r.ok);
  CHECK(r.message.find("a kink is crossed") != std::string::npos);
  CHECK(values(x) == Values{0.5, 1e-5});
}

TEST_CASE("a wrong second derivative is found") {
  // The derivative is right, but its own derivative takes x for a constant.
  auto f = [](const Tensors& in) {
    const Tensor constant = in[0].detach();
    return record(
        "cube", map("cube", in[0], [](auto v) { return v * v * v; }),
        wrt(In(in[0]), [constant](const Tensor& g) { return g * constant * constant * 3; }));
  };
  const Tensor x = tensor({0.5, -1.25}, float64).requires_grad_();
  CHECK(gradcheck(f, {x}).ok);
  CHECK(gradcheck(f, {x}, {.order = 2}).message.find("second order") != std::string::npos);
}

TEST_CASE("gradcheck refuses what it cannot judge") {
  const Function id = [](const Tensors& x) { return x[0] * 1.0; };
  CHECK(refusal<DtypeError>([&] {
          gradcheck(id, {tensor({1., 2.}).requires_grad_()});
        }) == "gradcheck: inputs[0] is float32: need float64");
  CHECK(refusal<ValueError>([&] {
          gradcheck(id, {tensor({1., 2.}, float64)});
        }) == "gradcheck: no input requires a gradient");
}

TEST_CASE("gradcheck takes functions that differentiate themselves") {
  const auto slope = [](const Tensors& in) {  // |d/dx sum x^3|^2 = 9 x^4
    return square(grad({pow(in[0], 3).sum()}, {in[0]}, {.create_graph = true})[0]).sum();
  };
  const Tensor x = tensor({0.5, -1.5, 2.0}, float64).requires_grad_();
  const GradcheckResult result = gradcheck(slope, {x}, {.order = 2});
  INFO(result.message);
  CHECK(result.ok);
  CHECK(result.checks == 3);  // x to both orders, and the outer gradient
}
