#include "descent/optim/average.hpp"

#include "descent/core/ops/blend.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

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

AverageGuard::AverageGuard(const WeightAverage& average) : ElementsGuard(average.parameters_) {
  blend("average", tensors, average.state_, 1);
}

void WeightAverage::update() {
  const auto n = static_cast<double>(updates()) + 1;
  blend("average", state_, parameters_, n == 1 ? 1 : options_.equal ? 1 / n : 1 - options_.decay);
  state_.back().second += 1;
}

NamedTensors WeightAverage::averages() const {
  NamedTensors all = parameters_;
  for (std::size_t i = 0; i < all.size(); ++i) all[i].second = state_[i].second;
  return all;
}

}}  // namespace descent::optim
