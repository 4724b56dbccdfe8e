#include "descent/nn/layers.hpp"

#include <cmath>

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/core/ops/random.hpp"
#include "descent/nn/init.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// A new tensor, uniform in +-1/sqrt(fan_in). For a bias, pass the layer's `weight`, whose fan_in
/// is used; for a weight, pass none.
static Tensor initial(const Shape& shape, At at, const Tensor& weight = {}) {
  Tensor x = empty(shape, float32, at);
  const int64_t inputs = init::fan_in(weight.defined() ? weight : x, at);
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  init::uniform_(x, -bound, bound);
  return x;
}

static int64_t check_features(const char* layer, int64_t in, int64_t out, At at) {
  if (in < 1 || out < 1)
    fail<ValueError>(at, "{}: {} inputs and {} outputs: need at least one", layer, in, out);
  return in;
}

Linear::Linear(int64_t in, int64_t out, LinearOptions options, At at)
    : weight(
          register_parameter("weight", initial({out, check_features("Linear", in, out, at)}, at))),
      bias(options.bias ? register_parameter("bias", initial({out}, at, weight)) : Tensor()) {}

Tensor Linear::forward(const In& x) const {
  return bias.defined() ? linear(x, weight, bias) : linear(x, weight);
}

static const Conv2dOptions& check_options(int64_t in, int64_t out, Size2d kernel,
                                          const Conv2dOptions& o, At at) {
  check_features("Conv2d", in, out, at);
  if (kernel.h < 1 || kernel.w < 1)
    fail<ValueError>(at, "Conv2d: kernel is {}: need at least 1", kernel);
  if (o.groups < 1 || in % o.groups != 0 || out % o.groups != 0)
    fail<ValueError>(at, "Conv2d: groups {} do not divide {} inputs and {} outputs", o.groups, in,
                     out);
  return o;
}

Conv2d::Conv2d(int64_t in, int64_t out, Size2d kernel, const Conv2dOptions& o, At at)
    : options(check_options(in, out, kernel, o, at)),
      weight(register_parameter("weight", initial({out, in / o.groups, kernel.h, kernel.w}, at))),
      bias(o.bias ? register_parameter("bias", initial({out}, at, weight)) : Tensor()) {}

Tensor Conv2d::forward(const In& x) const {
  return options.bias ? conv2d(x, weight, bias, options) : conv2d(x, weight, options);
}

static double check_p(const char* op, double p, At at) {
  if (!(p >= 0 && p <= 1)) fail<ValueError>(at, "{}: p is {}: need [0, 1]", op, p);
  return p;
}
/// x times `factor`, which broadcasts to x. Where the factor is 0 the result is 0, also for NaN and
/// infinities.
static Tensor drop(const In& x, const In& factor) {
  return record(
      "dropout",
      zip("dropout", x, factor, [](auto v, auto kept) { return kept == 0 ? kept : v * kept; }),
      wrt(x, [factor = saved(factor)](const Tensor& g) { return drop(g, factor); }));
}
/// Sets elements of x to 0 with probability p, and draws once per element of `shape`, which
/// broadcasts to x.
static Tensor drop_out(const In& x, const Shape& shape, double p) {
  const double scale = p == 1 ? 0 : 1 / (1 - p);
  return drop(x, bernoulli(shape, 1 - p).to(x.dtype()) * scale);
}

Dropout::Dropout(double p_, At at) : p(check_p("Dropout", p_, at)) {}

Tensor Dropout::forward(const In& x) const {
  return !training() || p == 0 ? Tensor(x) : drop_out(x, x.shape(), p);
}

Dropout2d::Dropout2d(double p_, At at) : p(check_p("Dropout2d", p_, at)) {}

Tensor Dropout2d::forward(const In& x) const {
  if (x.dim() != 3 && x.dim() != 4)
    fail<ShapeError>(x.at, "Dropout2d: x {} has rank {}: need [N, C, H, W] or [C, H, W]", x.shape(),
                     x.dim());
  Shape channels = x.shape();
  channels[-2] = channels[-1] = 1;
  return !training() || p == 0 ? Tensor(x) : drop_out(x, channels, p);
}

Tensor MaxPool2d::forward(const In& x) const { return max_pool2d(x, kernel, options); }
Tensor AvgPool2d::forward(const In& x) const { return avg_pool2d(x, kernel, options); }

Tensor Flatten::forward(const In& x) const { return flatten(x, start, end); }

namespace {
struct Function : Module {
  explicit Function(std::function<Tensor(const In&)> f_) : f(std::move(f_)) {}
  Tensor forward(const In& x) const override { return f(x); }
  std::function<Tensor(const In&)> f;
};
}  // namespace

Sequential::Step::Step(std::function<Tensor(const In&)> f)
    : module_(std::make_shared<Function>(std::move(f))) {}

Sequential::Sequential(std::initializer_list<Step> steps, At at) {
  // Compilers differ on Sequential{s}: to one it is a copy of s, to another a list with one step.
  // Here it is always a copy.
  if (steps.size() == 1) {
    const Module& only = *steps.begin()->module_;
    if (typeid(only) == typeid(Sequential)) {
      alias(only);
      steps_ = static_cast<const Sequential&>(only).steps_;
      return;
    }
  }
  for (const Step& step : steps) push_back(step, at);
}

std::shared_ptr<Sequential::Steps> Sequential::no_steps() { return std::make_shared<Steps>(); }

Sequential& Sequential::push_back(Step step, At at) {
  add_child(std::to_string(steps_->size()), step.module_, at);
  steps_->push_back(std::move(step.module_));
  return *this;
}

Tensor Sequential::forward(const In& x) const {
  Tensor h = x;
  for (const auto& step : *steps_) h = (*step)({h, x.at});
  return h;
}

}}  // namespace descent::nn
