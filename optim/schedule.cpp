#include "descent/optim/schedule.hpp"

#include <algorithm>
#include <cmath>

namespace [[gnu::visibility("default")]] descent { namespace optim {

Schedule exponential(double rate, ExponentialOptions o, At at) {
  detail::require(rate > 0 && std::isfinite(rate), "exponential: rate", rate, "a number above 0",
                  at);
  detail::require(o.period >= 1, "exponential: period", static_cast<double>(o.period), "at least 1",
                  at);
  detail::require(o.floor >= 0 && o.floor <= 1, "exponential: floor", o.floor, "[0, 1]", at);
  return [rate, o](int64_t step) {
    const double periods = o.staircase ? static_cast<double>(step / o.period)
                                       : static_cast<double>(step) / static_cast<double>(o.period);
    return std::max(o.floor, std::pow(rate, periods));
  };
}

Scheduler::Scheduler(OptimizerBase& optimizer, Schedule schedule, At at)
    : optimizer_(optimizer), schedule_(std::move(schedule)) {
  optimizer_.set_lr_factor(schedule_(0), at);
}

void Scheduler::step(At at) { set_step(step_ + 1, at); }

void Scheduler::set_step(int64_t step, At at) {
  detail::require(step >= 0, "set_step: step", static_cast<double>(step), "at least 0", at);
  optimizer_.set_lr_factor(schedule_(step), at);
  step_ = step;
}

}}  // namespace descent::optim
