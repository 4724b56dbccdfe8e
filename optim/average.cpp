#include "descent/optim/average.hpp"

#include <algorithm>

#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// The same for one tensor; the model that it belongs to may have been cast.
template <class T, class From> static void blend_one(const Tensor& x, const Tensor& y, double w) {
  using namespace descent::detail;
  will_write("average", x, At::unknown());
  auto mix = [=](T to, From from) {
    const auto goal = static_cast<T>(from);
    return w == 1 ? goal : lerp(Num<T>({}, to), Num<T>({}, goal), w).v;
  };
  transform<T>(mix, x, Operand<T>(x), Operand<From>(y));
}

void detail::check_blend(Named into, Named from) {
  for (std::size_t i = 0; i < std::min(into.size(), from.size()); ++i) {
    const auto& [name, x] = into[i];
    const auto& [other, y] = from[i];
    if (!(x.shape() == y.shape()) || !is_floating(x.dtype()) || !is_floating(y.dtype()))
      fail<ShapeError>(At::unknown(),
                       "average: {} is {} {} and {} is {} {}: need one shape and floating dtypes",
                       name, x.dtype(), x.shape(), other, y.dtype(), y.shape());
  }
}

void detail::blend(Named into, Named from, double w) {
  check_blend(into, from);
  NoGradGuard no_grad;
  for (std::size_t i = 0; i < std::min(into.size(), from.size()); ++i) {
    const Tensor &x = into[i].second, &y = from[i].second;
    const bool wide = x.dtype() == float64, cast = x.dtype() != y.dtype();
    if (wide) cast ? blend_one<double, float>(x, y, w) : blend_one<double, double>(x, y, w);
    else cast ? blend_one<float, double>(x, y, w) : blend_one<float, float>(x, y, w);
  }
}

detail::Kept::Kept(const NamedTensors& all) : tensors(all), copies(cloned(all)) {}
detail::Kept::~Kept() {
  for (std::size_t i = 0; i < tensors.size(); ++i)  // one that has got another shape is left
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
