#pragma once
/// @file
/// Learning rates that change with the step.

#include <functional>

#include "descent/core/tensor/state.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// A pure function of the step n = 0, 1, ... that returns a factor on the learning rate of each
/// group. Any callable can be a schedule. Schedules compose. With the functions of the
/// namespace `schedule` below, `warmup(500) * cosine(10'000)` corresponds to PyTorch's
/// ChainedScheduler, and `constant(0.1).then(20, exponential(0.9))` to its SequentialLR.
class Schedule {
 public:
  /// From a callable f(n).
  template <class F>
  requires std::is_invocable_r_v<double, const F&, int64_t> Schedule(F f) : f_(std::move(f)) {}
  /// The factor at step n. ValueError unless n >= 0.
  double operator()(int64_t n, At at = At::here()) const;
  /// This schedule before step n, and from step n on `next`, which begins with its own step 0.
  /// ValueError unless n >= 0.
  [[nodiscard]] Schedule then(int64_t n, Schedule next, At at = At::here()) const;
  /// The product of the two factors.
  friend Schedule operator*(Schedule a, Schedule b);

 private:
  std::function<double(int64_t)> f_;
};

/// A schedule for the learning rates and one for the momentum.
struct Cycle {
  /// - rate: the factor on the learning rates
  /// - momentum: the momentum itself (in Adam, beta1)
  Schedule rate, momentum;
};

/// The schedules that the library has.
///
/// Options are checked when a schedule is made. ValueError unless steps and periods are at least 1;
/// rates, gammas, powers and divisors above 0; floors, shares and momenta in [0, 1]; other factors
/// at least 0. A schedule that ends has exactly its last value from n = steps on.
namespace schedule {

/// `factor` for the first `steps` steps (which may be 0), then 1; by default `factor` for ever.
/// PyTorch's ConstantLR.
[[nodiscard]] Schedule constant(double factor, int64_t steps = INT64_MAX, At at = At::here());
/// gamma^floor(n / period), for ever. PyTorch's StepLR.
[[nodiscard]] Schedule step(int64_t period, double gamma = 0.1, At at = At::here());
/// gamma^k, where k is the number of milestones that are at most n. Milestones are at least 0 and
/// may be in any order; one that is listed twice counts twice. PyTorch's MultiStepLR.
[[nodiscard]] Schedule multi_step(std::vector<int64_t> milestones, double gamma = 0.1,
                                  At at = At::here());

/// How `exponential` and `inverse_time` decay.
struct DecayOptions {
  int64_t period = 1;      ///< how many steps are one unit of t
  bool staircase = false;  ///< decay only at the end of each period, not in every step
  double floor = 0;        ///< the smallest factor
};
/// max(floor, rate^t) with t = n / period, rounded down if `staircase`. PyTorch's
/// ExponentialLR(rate).
[[nodiscard]] Schedule exponential(double rate, DecayOptions options = {}, At at = At::here());
/// max(floor, 1 / (1 + rate t)), with t as in `exponential`: Keras's InverseTimeDecay.
[[nodiscard]] Schedule inverse_time(double rate, DecayOptions options = {}, At at = At::here());

/// start + (end - start) n / steps, then `end`. PyTorch's LinearLR, which cannot start at 0.
[[nodiscard]] Schedule linear(double start, double end, int64_t steps, At at = At::here());
/// n / steps, then 1: Goyal et al. 2017, section 2.2 (arXiv:1706.02677). At step 0 the factor is
/// exactly 0.
[[nodiscard]] Schedule warmup(int64_t steps, At at = At::here());
/// min(n / warmup, sqrt(warmup / n)), for ever: 0 at n = 0 and 1 at n = warmup. This is Vaswani et
/// al. 2017, section 5.3, eq. 3 ("Noam"; their first step is n = 1), divided by its peak,
/// 1 / sqrt(d_model warmup).
[[nodiscard]] Schedule inverse_sqrt(int64_t warmup, At at = At::here());
/// end + (1 - end) (1 - n / steps)^power, then `end`. PyTorch's PolynomialLR(steps, power).
[[nodiscard]] Schedule polynomial(int64_t steps, double power = 1, double end = 0,
                                  At at = At::here());

/// How `cosine` ends.
struct CosineOptions {
  double floor = 0;     ///< the factor at n = steps
  bool cyclic = false;  ///< rise back to 1 at n = 2 steps, and so on, as CosineAnnealingLR does
};
/// floor + (1 - floor) (1 + cos(pi n / steps)) / 2, then `floor`: Loshchilov & Hutter 2017, eq. 5
/// (arXiv:1608.03983), without restarts.
[[nodiscard]] Schedule cosine(int64_t steps, CosineOptions options = {}, At at = At::here());
/// `cosine` again and again; each period is `mult` times as long as the one before: Loshchilov &
/// Hutter 2017, section 3. The step at which a period ends is the first of the next one, with
/// factor 1.
[[nodiscard]] Schedule warm_restarts(int64_t period, int64_t mult = 1, double floor = 0,
                                     At at = At::here());

/// The curve between two values: half a wave of the cosine, or a straight line.
enum class Anneal { cosine, linear };
/// The shape of `one_cycle`.
struct OneCycleOptions {
  double pct_start = 0.3;          ///< the share of the steps that rise; at most 0.5 if three_phase
  Anneal anneal = Anneal::cosine;  ///< the curve between two values
  /// - div_factor: the first factor is 1 / div_factor
  /// - final_div_factor: the last factor is 1 / (div_factor final_div_factor)
  double div_factor = 25, final_div_factor = 1e4;
  bool three_phase = false;  ///< rise, fall back to the first value as fast, then fall to the last
  /// - base_momentum: the momentum at the peak of the learning rate
  /// - max_momentum: the momentum at the first and the last step
  double base_momentum = 0.85, max_momentum = 0.95;
};
/// The factor rises from 1 / div_factor to 1 at n = pct_start steps - 1. Then it falls to
/// 1 / (div_factor final_div_factor) at n = steps - 1, where the schedule ends. The momentum goes
/// the other way, from max_momentum to base_momentum and back. Smith & Topin 2018
/// (arXiv:1708.07120), as PyTorch's OneCycleLR, which however rises again after the end.
[[nodiscard]] Cycle one_cycle(int64_t steps, OneCycleOptions options = {}, At at = At::here());

/// How the height of the cycles of `cyclic` changes: not at all; halved after each cycle; gamma^n.
enum class CyclicMode { triangular, triangular2, exp_range };
/// The shape of `cyclic`.
struct CyclicOptions {
  int64_t down = 0;  ///< how many steps the factor falls; 0: as many as it rises
  CyclicMode mode = CyclicMode::triangular;  ///< how the height of the cycles changes
  double gamma = 1;                          ///< the base of exp_range
  /// - base_momentum: the momentum at factor 1
  /// - max_momentum: the momentum at factor `floor`
  double base_momentum = 0.8, max_momentum = 0.9;
};
/// floor + (1 - floor) h s, for ever. h goes from 0 to 1 in `up` steps and back in `down` steps. s
/// is 1 in mode triangular, 2^-k with k = n / (up + down) rounded down in triangular2, and gamma^n
/// in exp_range. The momentum is max_momentum - (max_momentum - base_momentum) h s. Smith 2017,
/// section 3 (arXiv:1506.01186), as PyTorch's CyclicLR; its max_lr is the learning rate of each
/// group here.
[[nodiscard]] Cycle cyclic(double floor, int64_t up, CyclicOptions options = {},
                           At at = At::here());

}  // namespace schedule

/// Sets the `lr_factor()` of an optimizer step by step, as in PyTorch: to schedule(0) when it is
/// made, and to the next value at each `step()`. Its only state is the step. If an optimizer has
/// two schedulers, the one that stepped last decides. ValueError if the optimizer has ended, or for
/// a factor that is not finite or below 0.
class Scheduler : public Loadable<Scheduler> {
 public:
  /// A scheduler at step 0.
  Scheduler(OptimizerBase& optimizer, Schedule rate, At at = At::here());
  /// The same, which also sets the momentum. ValueError if the optimizer has none.
  Scheduler(OptimizerBase& optimizer, Cycle cycle, At at = At::here());
  /// Goes to the next step, and sets the factor for it.
  void step(At at = At::here());
  /// The step whose factor was set last.
  [[nodiscard]] int64_t current_step() const { return step_; }
  /// Goes to step n, and sets the factor for it. ValueError unless n >= 0.
  void set_step(int64_t n, At at = At::here()) { prepare_step(n, at)(); }
  /// "Scheduler/step" (int64).
  [[nodiscard]] NamedTensors state_dict() const { return saved_state(*this); }
  /// Prepares to go to the step that was saved. ValueError if the state does not fit.
  [[nodiscard]] Commit prepare_load(NamedTensors state, At at = At::here()) {
    return prepare_step(with_state(*this, std::move(state), "Scheduler", at).step_, at);
  }
  /// Names what is saved: see StateVisitor.
  template <class V> void visit(V& v) { v("Scheduler/step", step_); }

 private:
  Commit prepare_step(int64_t n, At at);

  detail::OptimizerRef optimizer_;
  Schedule rate_;
  std::function<double(int64_t)> momentum_;  // may be empty
  int64_t step_ = 0;
};

/// When `Plateau` reduces, and by how much. ValueError unless `factor` is in [0, 1), the other
/// numbers are at least 0, and `threshold` is below 1 if it is not `absolute`.
struct PlateauOptions {
  bool maximize = false;    ///< a larger metric is better, as for an accuracy
  double factor = 0.1;      ///< what a reduction multiplies lr_factor() by
  int64_t patience = 10;    ///< how many bad metrics in a row do not cause a reduction
  double threshold = 1e-4;  ///< how much better counts as better, as a share of the best so far
  bool absolute = false;    ///< `threshold` is a difference, not a share
  int64_t cooldown = 0;     ///< how many metrics after a reduction do not count as bad
  double min_factor = 0;    ///< the smallest lr_factor() that a reduction sets
  double eps = 1e-8;        ///< a reduction by this much or less is left out
};
/// Reduces the `lr_factor()` of an optimizer when a metric has been no better for more than
/// `patience` steps in a row: PyTorch's ReduceLROnPlateau. A metric is better if it is below best
/// (1 - threshold), or with `maximize` above best (1 + threshold); for negative metrics use
/// `absolute`. The first metric is better than none; NaN is never better.
class Plateau : public Loadable<Plateau> {
 public:
  /// ValueError if an option is out of range.
  explicit Plateau(OptimizerBase& optimizer, PlateauOptions options = {}, At at = At::here());
  /// Takes the metric of one more step, and reduces the factor if it is time.
  void step(double metric, At at = At::here());
  /// "Plateau/best", ".../bad_steps" (in a row), ".../cooldown" (what is left of it) and
  /// ".../factor" (that of the optimizer).
  [[nodiscard]] NamedTensors state_dict() const;
  /// Loads these, and sets the factor of the optimizer. ValueError, with nothing changed, if the
  /// state does not fit, if the factor is below 0, or if `best` is NaN.
  [[nodiscard]] Commit prepare_load(NamedTensors state, At at = At::here());
  /// Names what is saved: see StateVisitor.
  template <class V> void visit(V& v) {
    v("Plateau/best", best_), v("Plateau/bad_steps", bad_);
    v("Plateau/cooldown", cooldown_), v("Plateau/factor", factor_);
  }

 private:
  detail::OptimizerRef optimizer_;
  PlateauOptions options_;
  double best_, factor_ = 1;  // factor_ is only used to save and load
  int64_t bad_ = 0, cooldown_ = 0;
};

}}  // namespace descent::optim
