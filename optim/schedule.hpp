#pragma once
#include <functional>

#include "descent/core/tensor/state.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// A pure function of the step n = 0, 1, ... that returns a factor on each group's own learning
/// rate. Any callable is one, and they compose: `warmup(500) * cosine(10'000)` is PyTorch's
/// ChainedScheduler, `constant(0.1).then(20, exponential(0.9))` its SequentialLR.
class Schedule {
 public:
  template <class F>
  requires std::is_invocable_r_v<double, const F&, int64_t> Schedule(F f) : f_(std::move(f)) {}
  /// ValueError unless n >= 0.
  double operator()(int64_t n, At at = At::here()) const;
  /// This one before step n; `next`, from its own step 0, at n and after. ValueError unless n >= 0.
  [[nodiscard]] Schedule then(int64_t n, Schedule next, At at = At::here()) const;
  friend Schedule operator*(Schedule a, Schedule b);

 private:
  std::function<double(int64_t)> f_;
};

/// A factor on the learning rates, and the momentum itself (Adam's beta1).
struct Cycle {
  Schedule rate, momentum;
};

/// The schedules that the library has.
///
/// Options are checked at once: ValueError unless steps, periods and the like are at least 1;
/// rates, gammas, powers and divisors above 0; floors, shares and momenta in [0, 1]; other factors
/// at least 0. A schedule that ends has its last value, exactly, from n = steps on.
namespace schedule {

/// `factor` for the first `steps` steps (0: none), then 1; or for ever. PyTorch's ConstantLR.
[[nodiscard]] Schedule constant(double factor, int64_t steps = INT64_MAX, At at = At::here());
/// gamma^floor(n / period), for ever. PyTorch's StepLR.
[[nodiscard]] Schedule step(int64_t period, double gamma = 0.1, At at = At::here());
/// gamma^(how many milestones are at most n): in any order, from 0 on, and one that stands twice
/// counts twice. PyTorch's MultiStepLR.
[[nodiscard]] Schedule multi_step(std::vector<int64_t> milestones, double gamma = 0.1,
                                  At at = At::here());

struct DecayOptions {
  int64_t period = 1;      ///< steps for one unit of t
  bool staircase = false;  ///< decay at once at the end of each period, not evenly within it
  double floor = 0;        ///< the factor never falls below
};
/// max(floor, rate^t), t = n / period, rounded down if `staircase`. PyTorch's ExponentialLR(rate).
[[nodiscard]] Schedule exponential(double rate, DecayOptions options = {}, At at = At::here());
/// max(floor, 1 / (1 + rate t)), t as above: Keras's InverseTimeDecay.
[[nodiscard]] Schedule inverse_time(double rate, DecayOptions options = {}, At at = At::here());

/// start + (end - start) n / steps, then `end`. PyTorch's LinearLR, which cannot start at 0.
[[nodiscard]] Schedule linear(double start, double end, int64_t steps, At at = At::here());
/// n / steps, then 1: Goyal et al. 2017, section 2.2 (arXiv:1706.02677). Step 0 has rate 0,
/// exactly.
[[nodiscard]] Schedule warmup(int64_t steps, At at = At::here());
/// min(n / warmup, sqrt(warmup / n)): Vaswani et al. 2017, section 5.3, eq. 3 ("Noam"; their first
/// step is n = 1), over its peak 1 / sqrt(d_model warmup). 0 at n = 0, 1 at n = warmup; never ends.
[[nodiscard]] Schedule inverse_sqrt(int64_t warmup, At at = At::here());
/// end + (1 - end) (1 - n / steps)^power, then `end`. PyTorch's PolynomialLR(steps, power).
[[nodiscard]] Schedule polynomial(int64_t steps, double power = 1, double end = 0,
                                  At at = At::here());

struct CosineOptions {
  double floor = 0;     ///< the factor at n = steps
  bool cyclic = false;  ///< climb back to 1 at n = 2 steps, and so on, as CosineAnnealingLR does
};
/// floor + (1 - floor) (1 + cos(pi n / steps)) / 2, then `floor`: Loshchilov & Hutter 2017, eq. 5
/// (arXiv:1608.03983), without restarts.
[[nodiscard]] Schedule cosine(int64_t steps, CosineOptions options = {}, At at = At::here());
/// The same over and over, each period `mult` times as long as the one before: their section 3. The
/// step at which one ends is the next one's first, with factor 1.
[[nodiscard]] Schedule warm_restarts(int64_t period, int64_t mult = 1, double floor = 0,
                                     At at = At::here());

enum class Anneal { cosine, linear };
struct OneCycleOptions {
  double pct_start = 0.3;  ///< the share of the steps that rise; at most 0.5 with three phases
  Anneal anneal = Anneal::cosine;
  double div_factor = 25, final_div_factor = 1e4;
  bool three_phase = false;  ///< fall as long as it rose, to where it began; then to the last value
  double base_momentum = 0.85, max_momentum = 0.95;  ///< at the peak, and at both ends
};
/// From 1 / div_factor up to 1, each group's own rate, at n = pct_start steps - 1, and down to 1 /
/// (div_factor final_div_factor) at n = steps - 1, where it ends; the momentum goes against it.
/// Smith & Topin 2018 (arXiv:1708.07120), as PyTorch's OneCycleLR, which climbs again after the
/// end.
[[nodiscard]] Cycle one_cycle(int64_t steps, OneCycleOptions options = {}, At at = At::here());

enum class CyclicMode { triangular, triangular2, exp_range };
struct CyclicOptions {
  int64_t down = 0;  ///< steps down; 0: as many as up
  CyclicMode mode = CyclicMode::triangular;
  double gamma = 1;                                ///< of exp_range
  double base_momentum = 0.8, max_momentum = 0.9;  ///< at factor 1, and at `floor`
};
/// floor + (1 - floor) h s, for ever: h goes from 0 to 1 in `up` steps and back in `down`; s is 1,
/// in triangular2 2^-floor(n / (up + down)), in exp_range gamma^n. The momentum is max_momentum -
/// (max_momentum - base_momentum) h s. Smith 2017, section 3 (arXiv:1506.01186), as PyTorch's
/// CyclicLR, whose max_lr is each group's own rate here.
[[nodiscard]] Cycle cyclic(double floor, int64_t up, CyclicOptions options = {},
                           At at = At::here());

}  // namespace schedule

/// Sets an optimizer's factor step by step, PyTorch's way: schedule(0) when it is made, and the
/// next one at each `step()`. Its only state is the step. An optimizer has one at a time: of two,
/// the one that stepped last decides.
class Scheduler {
 public:
  Scheduler(OptimizerBase& optimizer, Schedule rate, At at = At::here());
  /// Sets the momentum too. ValueError if the optimizer has none.
  Scheduler(OptimizerBase& optimizer, Cycle cycle, At at = At::here());
  void step(At at = At::here());
  [[nodiscard]] int64_t current_step() const { return step_; }
  void set_step(int64_t n, At at = At::here());
  /// "Scheduler/step" (int64).
  [[nodiscard]] NamedTensors state_dict() const { return saved_state(*this); }
  /// Sets that step. ValueError, and nothing changed, if it does not fit.
  void load_state_dict(const NamedTensors& state, At at = At::here()) {
    set_step(with_state(*this, state, "Scheduler", at).step_, at);
  }
  template <class V> void visit(V& v) { v("Scheduler/step", step_); }

 private:
  detail::OptimizerRef optimizer_;
  Schedule rate_;
  std::function<double(int64_t)> momentum_;  // may be none
  int64_t step_ = 0;
};

struct PlateauOptions {
  bool maximize = false;    ///< the metric is to rise, like an accuracy
  double factor = 0.1;      ///< what a reduction multiplies by
  int64_t patience = 10;    ///< so many bad metrics in a row are let pass
  double threshold = 1e-4;  ///< by how much better is better: a share of the best so far
  bool absolute = false;    ///< ... the difference itself
  int64_t cooldown = 0;     ///< so many metrics after a reduction do not count as bad
  double min_factor = 0;    ///< no reduction goes below
  double eps = 1e-8;        ///< a reduction by no more is left out
};
/// Multiplies an optimizer's `lr_factor()` when a metric has been no better for more than
/// `patience` steps in a row: PyTorch's ReduceLROnPlateau. Better is metric < best (1 - threshold),
/// or with `maximize` metric > best (1 + threshold): use `absolute` where metrics are negative. The
/// first metric is better than none; NaN never is. ValueError unless factor in [0, 1), the others
/// >= 0, threshold < 1 as a share.
class Plateau {
 public:
  explicit Plateau(OptimizerBase& optimizer, PlateauOptions options = {}, At at = At::here());
  void step(double metric, At at = At::here());
  /// "Plateau/best", ".../bad_steps" (in a row), ".../cooldown" (what is left of it), and the
  /// optimizer's factor, ".../factor".
  [[nodiscard]] NamedTensors state_dict() const;
  /// ValueError, and nothing changed, unless it fits, the factor is at least 0, and `best` is a
  /// number.
  void load_state_dict(const NamedTensors& state, At at = At::here());
  template <class V> void visit(V& v) {
    v("Plateau/best", best_), v("Plateau/bad_steps", bad_);
    v("Plateau/cooldown", cooldown_), v("Plateau/factor", factor_);
  }

 private:
  detail::OptimizerRef optimizer_;
  PlateauOptions options_;
  double best_, factor_ = 1;  // the factor, as it was saved
  int64_t bad_ = 0, cooldown_ = 0;
};

}}  // namespace descent::optim
