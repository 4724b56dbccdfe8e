#include "descent/optim/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/core.h>
#include <numbers>

#include "descent/core/base/checked.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {
namespace {

void need_positive(const char* what, double value, At at) {
  detail::require(value > 0 && std::isfinite(value), what, value, "a number above 0", at);
}
void need_share(const char* what, double value, At at) {
  detail::require(value >= 0 && value <= 1, what, value, "[0, 1]", at);
}
/// A number of steps as a double, for formulas. ValueError if it is below `least`.
double steps_from(int64_t least, const char* what, int64_t value, At at) {
  const auto steps = static_cast<double>(value);
  detail::require(value >= least, what, steps, least == 0 ? "at least 0" : "at least 1", at);
  return steps;
}

/// The weight of a value at the share x of the way to it. The weights at x and 1 - x add up to 1.
using Weight = double (*)(double x);
double straight(double x) { return x; }
/// (1 - cos(pi x)) / 2, computed without cancellation.
double wave(double x) { return std::pow(std::sin(std::numbers::pi / 2 * x), 2); }

/// A curve that has values[i] at step knots[i], and keeps the last one. A part without length is
/// skipped.
struct Path {
  std::vector<double> knots, values;
  Weight weight;

  double operator()(double n) const {
    n = std::min(n, knots.back());
    std::size_t i = 1;
    while (n > knots[i]) ++i;
    if (n == knots[i]) return values[i];
    const double begin = knots[i - 1], end = knots[i], steps = end - begin;
    return values[i - 1] * weight((end - n) / steps) + values[i] * weight((n - begin) / steps);
  }
};

/// The t of DecayOptions as a function of the step; errors name `period` and `floor`.
auto decay_time(const schedule::DecayOptions& o, const char* period, const char* floor, At at) {
  need_share(floor, o.floor, at);
  return [steps = steps_from(1, period, o.period, at), o](double n) {
    return o.staircase ? std::floor(n / steps) : n / steps;
  };
}

}  // namespace

double Schedule::operator()(int64_t n, At at) const {
  steps_from(0, "schedule: step", n, at);
  return f_(n);
}

Schedule Schedule::then(int64_t n, Schedule next, At at) const {
  steps_from(0, "then: step", n, at);
  return [first = *this, next = std::move(next), n](int64_t i) {
    return i < n ? first(i) : next(i - n);
  };
}

Schedule operator*(Schedule a, Schedule b) {
  return [a = std::move(a), b = std::move(b)](int64_t n) { return a(n) * b(n); };
}

namespace schedule {

Schedule constant(double factor, int64_t steps, At at) {
  detail::require_nonnegative("constant: factor", factor, at);
  steps_from(0, "constant: steps", steps, at);
  return [factor, steps](int64_t n) { return n < steps ? factor : 1; };
}

Schedule step(int64_t period, double gamma, At at) {
  steps_from(1, "step: period", period, at);
  need_positive("step: gamma", gamma, at);
  return [period, gamma](int64_t n) { return std::pow(gamma, n / period); };
}

Schedule multi_step(std::vector<int64_t> milestones, double gamma, At at) {
  for (const int64_t m : milestones) steps_from(0, "multi_step: a milestone", m, at);
  need_positive("multi_step: gamma", gamma, at);
  std::sort(milestones.begin(), milestones.end());
  return [milestones = std::move(milestones), gamma](int64_t n) {
    const auto passed = std::upper_bound(milestones.begin(), milestones.end(), n);
    return std::pow(gamma, passed - milestones.begin());
  };
}

Schedule exponential(double rate, DecayOptions o, At at) {
  need_positive("exponential: rate", rate, at);
  const auto t = decay_time(o, "exponential: period", "exponential: floor", at);
  return [rate, t, floor = o.floor](double n) { return std::max(floor, std::pow(rate, t(n))); };
}

Schedule inverse_time(double rate, DecayOptions o, At at) {
  need_positive("inverse_time: rate", rate, at);
  const auto t = decay_time(o, "inverse_time: period", "inverse_time: floor", at);
  return [rate, t, floor = o.floor](double n) { return std::max(floor, 1 / (1 + rate * t(n))); };
}

Schedule linear(double start, double end, int64_t steps, At at) {
  detail::require_nonnegative("linear: start", start, at);
  detail::require_nonnegative("linear: end", end, at);
  return Path{{0, steps_from(1, "linear: steps", steps, at)}, {start, end}, straight};
}

Schedule warmup(int64_t steps, At at) {
  return Path{{0, steps_from(1, "warmup: steps", steps, at)}, {0, 1}, straight};
}

Schedule inverse_sqrt(int64_t warmup, At at) {
  const double peak = steps_from(1, "inverse_sqrt: warmup", warmup, at);
  return [peak](double n) { return n < peak ? n / peak : std::sqrt(peak / n); };
}

Schedule polynomial(int64_t steps, double power, double end, At at) {
  const double last = steps_from(1, "polynomial: steps", steps, at);
  need_positive("polynomial: power", power, at);
  detail::require_nonnegative("polynomial: end", end, at);
  return [last, power, end](double n) {
    return end + (1 - end) * std::pow((last - std::min(n, last)) / last, power);
  };
}

Schedule cosine(int64_t steps, CosineOptions o, At at) {
  const double half = steps_from(1, "cosine: steps", steps, at);
  need_share("cosine: floor", o.floor, at);
  if (!o.cyclic) return Path{{0, half}, {1, o.floor}, wave};
  const Path period{{0, half, 2 * half}, {1, o.floor, 1}, wave};
  return [period, half](double n) { return period(std::fmod(n, 2 * half)); };
}

Schedule warm_restarts(int64_t period, int64_t mult, double floor, At at) {
  const double first = steps_from(1, "warm_restarts: period", period, at);
  const double growth = steps_from(1, "warm_restarts: mult", mult, at);
  need_share("warm_restarts: floor", floor, at);
  return [=](double n) {
    double length = first;
    if (growth == 1) n = std::fmod(n, length);
    for (; n >= length; length *= growth) n -= length;
    return Path{{0, length}, {1, floor}, wave}(n);
  };
}

Cycle one_cycle(int64_t steps, OneCycleOptions o, At at) {
  const double count = steps_from(1, "one_cycle: steps", steps, at);
  detail::require(o.pct_start >= 0 && o.pct_start <= (o.three_phase ? 0.5 : 1),
                  "one_cycle: pct_start", o.pct_start, "[0, 1], [0, 0.5] with three phases", at);
  need_positive("one_cycle: div_factor", o.div_factor, at);
  need_positive("one_cycle: final_div_factor", o.final_div_factor, at);
  need_share("one_cycle: base_momentum", o.base_momentum, at);
  need_share("one_cycle: max_momentum", o.max_momentum, at);
  const double begin = 1 / o.div_factor, end = begin / o.final_div_factor;
  const double peak = o.pct_start * count - 1, last = count - 1;
  const double low = o.base_momentum, high = o.max_momentum;
  const Weight weight = o.anneal == Anneal::cosine ? wave : straight;
  if (o.three_phase)
    return {Path{{0, peak, 2 * peak, last}, {begin, 1, begin, end}, weight},
            Path{{0, peak, 2 * peak, last}, {high, low, high, high}, weight}};
  return {Path{{0, peak, last}, {begin, 1, end}, weight},
          Path{{0, peak, last}, {high, low, high}, weight}};
}

Cycle cyclic(double floor, int64_t up, CyclicOptions o, At at) {
  need_share("cyclic: floor", floor, at);
  const double peak = steps_from(1, "cyclic: up", up, at);
  const double down = steps_from(0, "cyclic: down", o.down, at);
  need_positive("cyclic: gamma", o.gamma, at);
  need_share("cyclic: base_momentum", o.base_momentum, at);
  need_share("cyclic: max_momentum", o.max_momentum, at);
  const double length = peak + (down > 0 ? down : peak);
  const auto height = [triangle = Path{{0, peak, length}, {0, 1, 0}, straight}, length,
                       o](double n) {
    const double scale = o.mode == CyclicMode::triangular2 ? std::exp2(-std::floor(n / length))
                         : o.mode == CyclicMode::exp_range ? std::pow(o.gamma, n)
                                                           : 1;
    return triangle(std::fmod(n, length)) * scale;
  };
  return {
      [=](double n) { return floor + (1 - floor) * height(n); },
      [=](double n) { return o.max_momentum - (o.max_momentum - o.base_momentum) * height(n); }};
}

}  // namespace schedule

Scheduler::Scheduler(OptimizerBase& optimizer, Schedule rate, At at)
    : optimizer_(optimizer, "Scheduler: its optimizer has gone"), rate_(std::move(rate)) {
  set_step(0, at);
}

Scheduler::Scheduler(OptimizerBase& optimizer, Cycle cycle, At at)
    : optimizer_(optimizer, "Scheduler: its optimizer has gone"),
      rate_(std::move(cycle.rate)),
      momentum_(std::move(cycle.momentum)) {
  set_step(0, at);
}

void Scheduler::step(At at) { set_step(checked_add(step_, 1, "step", at), at); }

Commit Scheduler::prepare_step(int64_t n, At at) {
  steps_from(0, "set_step: step", n, at);
  OptimizerBase& optimizer = optimizer_.get(at);
  const double factor = rate_(n), momentum = momentum_ ? momentum_(n) : 0;
  detail::check_lr_factor(factor, at);
  if (momentum_) optimizer.check_momentum(momentum, at);
  return [this, n, factor, momentum, at] {
    if (momentum_) optimizer_.get(at).set_momentum(momentum, at);
    optimizer_.get(at).set_lr_factor(factor, at);
    step_ = n;
  };
}

Plateau::Plateau(OptimizerBase& optimizer, PlateauOptions o, At at)
    : optimizer_(optimizer, "Plateau: its optimizer has gone"),
      options_(o),
      best_(o.maximize ? -HUGE_VAL : HUGE_VAL) {
  detail::require(o.factor >= 0 && o.factor < 1, "Plateau: factor", o.factor, "[0, 1)", at);
  steps_from(0, "Plateau: patience", o.patience, at);
  detail::require(o.threshold >= 0 && o.threshold < (o.absolute ? HUGE_VAL : 1),
                  "Plateau: threshold", o.threshold, "at least 0, and below 1 as a share", at);
  steps_from(0, "Plateau: cooldown", o.cooldown, at);
  detail::require_nonnegative("Plateau: min_factor", o.min_factor, at);
  detail::require_nonnegative("Plateau: eps", o.eps, at);
}

void Plateau::step(double metric, At at) {
  const double margin = options_.maximize ? options_.threshold : -options_.threshold;
  const double bound = options_.absolute ? best_ + margin : best_ * (1 + margin);
  const bool better = options_.maximize ? metric > bound : metric < bound;
  const bool bad = !better && cooldown_ == 0, reduces = bad && bad_ >= options_.patience;
  const double old = optimizer_.get(at).lr_factor(),
               reduced = std::max(old * options_.factor, options_.min_factor);
  if (reduces && old - reduced > options_.eps) optimizer_.get(at).set_lr_factor(reduced, at);
  if (better) best_ = metric;
  bad_ = bad && !reduces ? bad_ + 1 : 0;
  cooldown_ = reduces ? options_.cooldown : std::max<int64_t>(cooldown_ - 1, 0);
}

NamedTensors Plateau::state_dict() const {
  Plateau now = *this;
  now.factor_ = optimizer_.get().lr_factor();
  return saved_state(now);
}

Commit Plateau::prepare_load(NamedTensors state, At at) {
  const Plateau loaded = with_state(*this, std::move(state), "Plateau", at);
  detail::require(loaded.best_ == loaded.best_, "Plateau: best", loaded.best_, "a number", at);
  detail::check_lr_factor(loaded.factor_, at);
  return [this, loaded, &optimizer = optimizer_.get(at)] {
    optimizer.set_lr_factor(loaded.factor_);
    *this = loaded;
  };
}

}}  // namespace descent::optim
