#include "descent/optim/optimizer.hpp"

#include <cmath>
#include <unordered_map>

#include "descent/core/factory.hpp"
#include "descent/core/graph.hpp"
#include "descent/optim/rules.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

void detail::require(bool holds, const char* what, double value, const char* rule, At at) {
  if (!holds) fail<ValueError>(at, "{} is {}: need {}", what, value, rule);
}

OptimizerBase::OptimizerBase(const NamedTensors& parameters, std::size_t states, At at) {
  if (parameters.empty()) fail<ValueError>(at, "optimizer: no parameters to optimize");
  std::unordered_map<std::string, bool> names;
  std::unordered_map<const void*, std::string> tensors;
  for (const auto& [name, p] : parameters) {
    if (!p.defined()) fail<ValueError>(at, "optimizer: parameter {} is undefined", name);
    if (!p.is_leaf())
      fail<GraphError>(at, "optimizer: parameter {} is the result of an op: need a leaf", name);
    if (!is_floating(p.dtype()))
      fail<DtypeError>(at, "optimizer: parameter {} is {}: need a floating dtype", name, p.dtype());
    if (!p.is_contiguous())
      fail<ValueError>(at, "optimizer: parameter {} is not contiguous: clone() it", name);
    if (!names.emplace(name, true).second)
      fail<ValueError>(at, "optimizer: two parameters are called {}", name);
    auto [same, fresh] = tensors.emplace(Peek::header(p), name);
    if (!fresh)
      fail<ValueError>(at, "optimizer: {} and {} are the same tensor", same->second, name);
    Slot slot{name, p, {}, 0, 0, {}};
    for (std::size_t i = 0; i < states; ++i) slot.state.push_back(zeros(p.shape(), p.dtype(), at));
    slots_.push_back(std::move(slot));
  }
}

void OptimizerBase::zero_grad() {
  for (Slot& slot : slots_) slot.parameter.zero_grad();
}

void OptimizerBase::set_lr_factor(double factor, At at) {
  detail::require(factor >= 0 && std::isfinite(factor), "optimizer: the learning rate's factor",
                  factor, "a number of at least 0", at);
  lr_factor_ = factor;
}

NamedTensors OptimizerBase::parameters() const {
  NamedTensors all;
  for (const Slot& slot : slots_) all.emplace_back(slot.name, slot.parameter);
  return all;
}

void OptimizerBase::assign_group(std::string_view pattern, std::size_t index, At at) {
  bool any = false;
  for (const Slot& slot : slots_) any |= matches(pattern, slot.name);
  if (!any) fail<ValueError>(at, "group: no parameter matches \"{}\"", pattern);
  for (Slot& slot : slots_)
    if (matches(pattern, slot.name)) slot.group = index;
}

void OptimizerBase::begin_step(At at) {
  NoGradGuard no_grad;
  for (const Slot& slot : slots_)
    for (const Tensor& state : slot.state)
      if (state.dtype() != slot.parameter.dtype())
        fail<DtypeError>(
            at,
            "step: parameter {} is {}, its state {}: convert a model before its optimizer is made",
            slot.name, slot.parameter.dtype(), state.dtype());
  tiles_.clear();
  for (Slot& slot : slots_) slot.grad = slot.parameter.grad();
  for (Slot& slot : slots_)  // may allocate: before anything changes
    if (slot.grad.defined()) slot.grad = slot.grad.detach().contiguous();
  for (Slot& slot : slots_) {
    if (!slot.grad.defined()) continue;
    const int64_t n = slot.parameter.numel();
    for (int64_t begin = 0; begin < n; begin += descent::detail::kGrain)
      tiles_.push_back({&slot, begin, std::min(descent::detail::kGrain, n - begin)});
  }
  for (Slot& slot : slots_) {
    if (!slot.grad.defined()) continue;
    ++slot.step;
    descent::detail::will_write("step", slot.parameter, At::unknown());
  }
}

void OptimizerBase::end_step() {
  for (Slot& slot : slots_) slot.grad = {};
}

template class Optimizer<SGDRule>;
template class Optimizer<AdamRule>;

}}  // namespace descent::optim
