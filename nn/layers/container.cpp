#include "descent/nn/layers/container.hpp"

#include "descent/core/ops/view.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

Tensor Flatten::forward(const In& x) const { return flatten(x, start, end); }

Tensor Unflatten::forward(const In& x) const {
  const int64_t axis = dim < 0 ? dim + x.dim() : dim;
  if (axis < 0 || axis >= x.dim())
    fail<IndexError>(x.at, "Unflatten: dim {} of {}: need {} to {}", dim, x.shape(), -x.dim(),
                     x.dim() - 1);
  Shape shape;
  for (int d = 0; d < x.dim(); ++d) {
    if (d != axis) shape.push_back(x.shape()[d]);
    else
      for (int64_t size : sizes) shape.push_back(size);
  }
  return reshape(x, shape);
}

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
