#pragma once
#include <functional>

#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// A learning-rate schedule: a pure function of the step 0, 1, ... that returns a factor on each
/// group's own rate.
class Schedule {
 public:
  template <class F>
  requires std::is_invocable_r_v<double, const F&, int64_t> Schedule(F f) : f_(std::move(f)) {}
  double operator()(int64_t step) const { return f_(step); }

 private:
  std::function<double(int64_t)> f_;
};

struct ExponentialOptions {
  int64_t period = 1;      ///< steps for one factor of `rate`
  bool staircase = false;  ///< decay at once at the end of each period, not evenly within it
  double floor = 0;        ///< the factor never falls below
};
/// max(floor, rate^(step / period)). ValueError unless rate > 0, period >= 1, floor in [0, 1].
Schedule exponential(double rate, ExponentialOptions options = {}, At at = At::here());

/// Sets an optimizer's factor step by step, PyTorch's way: schedule(0) when it is made, and the
/// next one at each `step()`. Its only state is the step. An optimizer has one at a time: of two,
/// the one that stepped last decides.
class Scheduler {
 public:
  Scheduler(OptimizerBase& optimizer, Schedule schedule, At at = At::here());
  void step(At at = At::here());
  int64_t current_step() const { return step_; }
  void set_step(int64_t step, At at = At::here());

 private:
  OptimizerBase& optimizer_;
  Schedule schedule_;
  int64_t step_ = 0;
};

}}  // namespace descent::optim
