#include "descent/optim/average.hpp"

#include <algorithm>

#include "descent/core/ops.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

void detail::blend(const NamedTensors& into, const NamedTensors& from, double w) {
  NoGradGuard no_grad;
  for (std::size_t i = 0; i < std::min(into.size(), from.size()); ++i) {
    const Tensor& x = into[i].second;
    const Tensor y = from[i].second.to(x.dtype());  // a model may have been cast
    if (w == 1) x.copy_(y);
    else x += w * (y - x);
  }
}

detail::Kept::Kept(const NamedTensors& all) : tensors(all), copies(cloned(all)) {}
detail::Kept::~Kept() { blend(tensors, copies, 1); }

WeightAverage::WeightAverage(const NamedTensors& parameters, AverageOptions o, At at)
    : parameters_(parameters), options_(o) {
  detail::require(o.decay >= 0 && o.decay <= 1, "WeightAverage: decay", o.decay, "[0, 1]", at);
  for (const auto& [name, p] : parameters) {
    if (!is_floating(p.dtype()))
      fail<DtypeError>(at, "WeightAverage: {} is {}: need a floating dtype", name, p.dtype());
    state_.emplace_back("WeightAverage/" + name + "/average", p.detach().clone());
  }
  state_.emplace_back("WeightAverage/updates", tensor(int64_t{0}));
}

WeightAverage::~WeightAverage() = default;

NamedTensors WeightAverage::state_dict() const { return cloned(state_); }
void WeightAverage::load_state_dict(const NamedTensors& state, At at) {
  state_ = detail::copied(state_, state, "this average", at);
}

AverageGuard::AverageGuard(const WeightAverage& average) : Kept(average.parameters_) {
  detail::blend(tensors, average.state_, 1);
}

void WeightAverage::update() {
  const auto n = static_cast<double>(updates()) + 1;
  detail::blend(state_, parameters_, n == 1 ? 1 : options_.equal ? 1 / n : 1 - options_.decay);
  state_.back().second += 1;
}

NamedTensors WeightAverage::averages() const {
  NamedTensors all = parameters_;
  for (std::size_t i = 0; i < all.size(); ++i) all[i].second = state_[i].second;
  return all;
}

}}  // namespace descent::optim
