#include "descent/optim/average.hpp"

#include <algorithm>

#include "descent/core/kernels/blend.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

void detail::check_blend(const char* who, Named into, Named from, At at) {
  for (std::size_t i = 0; i < std::min(into.size(), from.size()); ++i) {
    const auto& [name, x] = into[i];
    const auto& [other, y] = from[i];
    if (!(x.shape() == y.shape()) || !is_floating(x.dtype()) || !is_floating(y.dtype()))
      fail<ShapeError>(at, "{}: {} is {} {} and {} is {} {}: need one shape and floating dtypes",
                       who, name, x.dtype(), x.shape(), other, y.dtype(), y.shape());
  }
}

void detail::blend(Named into, Named from, double w) {
  check_blend("average", into, from, At::unknown());
  NoGradGuard no_grad;
  for (std::size_t i = 0; i < std::min(into.size(), from.size()); ++i)
    descent::blend("average", into[i].second, from[i].second, w);
}

detail::Kept::Kept(const NamedTensors& all) : tensors(all), copies(clone_all(all)) {}
detail::Kept::~Kept() {
  for (std::size_t i = 0; i < tensors.size(); ++i)  // one with a new shape is skipped
    if (tensors[i].second.shape() == copies[i].second.shape() &&
        is_floating(tensors[i].second.dtype()))
      blend({&tensors[i], 1}, {&copies[i], 1}, 1);
}

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
