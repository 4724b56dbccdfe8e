#pragma once
/// @file
/// All of an optimizer that is not a formula.

#include <functional>
#include <new>
#include <span>

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/tiles.hpp"
#include "descent/core/tensor/state.hpp"
#include "descent/optim/clip.hpp"
#include "descent/optim/observer.hpp"
#include "descent/optim/replay.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// Computes the loss and its gradients: it calls zero_grad, the model, the loss and backward.
/// Returns the loss, a tensor with one element.
using Closure = std::function<Tensor()>;

/// What a step does if a gradient, or a loss that the rule reads, has a NaN or an infinity.
/// `error`: it throws a NumericError; `skip`: it updates nothing and counts in `skipped_steps`;
/// `ignore`: it does not look for them.
enum class NonFinite { error, skip, ignore };

namespace detail {
/// Throws the ValueError "<what> is <value>: need <rule>" unless `holds`.
void require(bool holds, const char* what, double value, const char* rule, At at);
/// Throws a ValueError unless the value is finite and at least 0.
void require_nonnegative(const char* what, double value, At at);
/// The same for a factor on the learning rates.
void check_lr_factor(double factor, At at);
/// Throws a ValueError unless the value is in the option's range.
void check_option(const RuleInfo& info, std::size_t option, double value, At at);

/// The options that `opt.group(pattern)` has set; none at first. OptimizerBase does not know the
/// type of the rule R, so it keeps the bytes of an R<Setting>; a Setting is a number and whether it
/// was set (num.hpp).
struct Group {
  Group(const RuleInfo& info, std::string_view pattern_);
  std::string pattern;
  alignas(double) std::byte options[sizeof(Setting[Names::most])] = {};
};
/// The options that a step uses for parameters that match the same groups, as the bytes of an
/// R<double>. Mix 0 is for parameters that match no group.
struct Mix {
  std::vector<const Group*> groups;  // what a later one has set replaces what earlier ones have
  alignas(double) std::byte options[sizeof(double[Names::most])] = {};
};
/// One option of a group: to be read from its bytes, and to be put into them.
struct Cell {
  double value;
  bool set;
};
Cell cell_of(const RuleInfo& info, const Group& group, std::size_t option);
void put_cell(const RuleInfo& info, Group& group, std::size_t option, Cell cell);

/// A registered parameter, what the optimizer keeps for it, and what the running step has found.
struct Slot {
  std::string name;
  Tensor parameter;
  std::size_t mix = 0;
  double lr_multiplier = 1;
  int64_t step = 0;                         // t of the formula: see rules.hpp
  std::vector<Tensor> state, tensor_state;  // undefined until needed
  GradientAge seen;                         // the age of the gradient that the last step used
  Tensor grad;                              // contiguous; undefined if there is none
  // What the above become if the step is carried out; a state stays if its next_state is undefined.
  std::vector<Tensor> next_state, next_tensor_state;
  int64_t next_step = 0;  // 1 when a rule that can do without state begins to use it
  GradientAge next_seen;
  // What the rule's `prepare` computed, per element and per parameter; see Preparation.
  std::vector<Tensor> fields;
  std::vector<double> quantities;
};

/// A part of a parameter, which one thread updates at a time.
using Tile = Tiles::Tile;

/// A reference to an optimizer.
using OptimizerRef = Reference<OptimizerBase>;
}  // namespace detail

/// A whole parameter, as a rule's `prepare` receives it. `prepare` fills `quantities` and `fields`.
struct Preparation {
  /// - theta: the parameter
  /// - g: its gradient, as `update` would receive it
  /// - t: the number of the parameter's own step, from 1
  /// - loss: what step() was told; NaN if nothing
  Tensor theta, g;
  double t, loss;
  /// - state: the rule's `tensor_state`, which `prepare` keeps; undefined before the first step
  /// - fields: tensors of the parameter's dtype that broadcast to its shape
  /// - quantities: numbers
  std::vector<Tensor>& state;
  std::vector<Tensor>& fields;
  std::vector<double>& quantities;
  /// Computes the rule's `direction` as a tensor; `update` receives its elements in place of g.
  std::function<Tensor()> direction;
};

/// All of an optimizer that is not a formula: its parameters, their groups, state and steps.
class OptimizerBase : public Referred, public Loadable<OptimizerBase> {
 public:
  virtual ~OptimizerBase();

  /// Updates every parameter that has a gradient. A parameter without one does not change, nor does
  /// its own step count. A step that throws has changed nothing. ValueError if the rule needs the
  /// loss or a closure, or if options are out of range; NumericError: see NonFinite.
  void step(At at = At::here());
  /// The same, with the loss that these gradients belong to (one element). Polyak's rule needs it,
  /// and a ledger records it.
  void step(const In& loss);
  /// Calls `closure`, then steps with the loss that it has computed. Returns that loss.
  virtual double step(const Closure& closure, At at = At::here());

  /// Drops the gradient of every parameter, or with `set_to_none` = false fills it with zeros.
  void zero_grad(bool set_to_none = true);
  /// Registers more parameters. They join the groups whose patterns match, and begin at step 0.
  /// ValueError if the list is empty, or if two parameters have the same name or share elements, or
  /// if one is not contiguous or does not suit the rule; GraphError for the result of an op,
  /// DtypeError for one that is not floating. Then nothing has changed.
  void add(const NamedTensors& parameters, At at = At::here());
  /// All registered parameters, in their order.
  [[nodiscard]] NamedTensors parameters() const;
  /// Calls the function of this name (see clip.hpp) for all parameters. A ledger records what the
  /// gradients were before.
  double clip_grad_norm(double max_norm, ClipNormOptions options = {}, At at = At::here());
  void clip_grad_value(double limit, At at = At::here());

  /// The learning rate in use: that of the defaults, times the factor of the schedule.
  [[nodiscard]] double lr() const { return hyper(0)[0] * lr_factor_; }
  /// The factor on the learning rate of every group, which a schedule sets; 1 without one. Setting
  /// it is a ValueError unless it is finite and at least 0.
  [[nodiscard]] double lr_factor() const { return lr_factor_; }
  void set_lr_factor(double factor, At at = At::here());
  /// Multiplies the learning rate of each matching parameter, whatever its groups, by `multiplier`,
  /// which is 1 at first. ValueError unless it is finite and at least 0, and if nothing matches.
  void set_lr_multiplier(std::string_view pattern, double multiplier, At at = At::here());
  /// Sets `momentum`, or in a rule without it `beta1`, for every parameter, as cyclic schedules do.
  /// ValueError if the rule has neither, or if the value is out of range.
  void set_momentum(double momentum, At at = At::here());
  /// Refuses what `set_momentum` would refuse. Returns the place of that option in the rule.
  std::size_t check_momentum(double momentum, At at = At::here()) const;

  /// Chooses what a step does about gradients that are not finite: at first NonFinite::error.
  void set_nonfinite(NonFinite policy) { nonfinite_ = policy; }
  /// How many steps NonFinite::skip has left out.
  [[nodiscard]] int64_t skipped_steps() const { return skipped_; }
  /// How many calls of step() were carried out.
  [[nodiscard]] int64_t steps() const { return steps_; }

  /// Copies of everything that a run needs to continue with the same bits. The names are
  /// "<rule>/<parameter>/<state>", ".../step" (int64), ".../lr_multiplier" and ".../shape";
  /// "<rule>/[*]/<option>" for the defaults; "<rule>/[<number> <pattern>]/<option>" for the groups
  /// in their order (NaN: not set); "<rule>/lr_factor" and "<rule>/steps".
  [[nodiscard]] virtual NamedTensors state_dict() const;
  /// Prepares to load `state`, and with it its groups. A reference to a group stays valid; a group
  /// that the state does not have has no option set any more. ValueError if the state is that of
  /// another rule, if its parameters, shapes or dtypes are others, or if a number is out of range.
  [[nodiscard]] virtual Commit prepare_load(NamedTensors state, At at = At::here());

  /// Sets the function that receives reports about steps that look like a mistake: a step without a
  /// new gradient, a forgotten zero_grad, parameters that backward has not reached. Each kind is
  /// reported once. At first, reports go to standard error.
  void on_report(std::function<void(const std::string&)> report) { report_ = std::move(report); }
  /// Tells `observer` about each step, until one of the two ends; null stops this. An optimizer has
  /// one observer at a time. A ledger throws a ValueError if it follows another optimizer or holds
  /// steps of another rule. It keeps the steps of this rule, and replaces them where a step with
  /// the same number is done again.
  void trace(StepObserver* observer, At at = At::here());
  void trace(StepObserver& observer, At at = At::here()) { trace(&observer, at); }

  // For observers:

  /// What the optimizer knows about its rule, and its parameters with their state.
  const detail::RuleInfo& info() const { return info_; }
  std::span<const detail::Slot> slots() const { return slots_; }
  /// The options that a step uses for a parameter; lr has all its factors.
  std::vector<double> options_of(const detail::Slot& slot) const;
  /// The loss that the running or the last step was told; NaN if none.
  double loss() const { return loss_; }
  /// The function that runs the rule's formula for one recorded element; null if there is no
  /// formula.
  virtual detail::Replay replay() const { return nullptr; }
  /// Reports something to the user: see on_report.
  void report(const std::string& text) const;

 protected:
  using Slot = detail::Slot;  ///< a parameter with its state
  /// `options` points to the rule, which is made of doubles.
  OptimizerBase(const detail::RuleInfo& info, const void* options);

  /// What a rule adds to a step. `prepare` computes quantities and fields of whole parameters, and
  /// may throw; `update` applies the formula to a part of one, and must not throw.
  virtual void prepare() {}
  virtual void update(const Slot&, const detail::Tile&) {}

  /// The options of a mix, as numbers and as the rule; mix 0 is the defaults.
  std::vector<double> hyper(std::size_t mix) const;
  void* options_at(std::size_t mix) const { return mixes_[mix]->options; }
  using Mixes = std::vector<std::unique_ptr<detail::Mix>>;     ///< one for each set of groups
  using Groups = std::vector<std::unique_ptr<detail::Group>>;  ///< one for each pattern
  /// Determines which options hold for each mix now, and checks them.
  void resolve(At at) const { resolve(mixes_, at); }
  /// The options of `pattern`; ValueError if no parameter matches.
  void* find_group(std::string_view pattern, At at);
  /// The first mix with the same options as this one. `prepare_group` gets the parameters of all
  /// such mixes together.
  std::size_t first_alike(std::size_t mix) const;
  /// What `prepare` receives for a parameter.
  Preparation preparation_of(Slot& slot, bool maximize, std::function<Tensor()> direction) const;
  /// Expands the fields to the shape of the parameter, for the loops.
  void widen_fields(Slot& slot) const;
  /// The observer; null if there is none.
  StepObserver* observer() const { return observer_.get(); }
  /// Whether a report of this kind is the first one; it counts as made then.
  bool first_time(const char* kind);

  /// - info_, slots_: see info() and slots()
  /// - mixes_: the options; the first mix, of no groups, is the defaults
  /// - lr_factor_, loss_: see lr_factor() and loss()
  /// - steps_, skipped_: see steps() and skipped_steps()
  /// - nonfinite_: see set_nonfinite()
  const detail::RuleInfo& info_;
  std::vector<Slot> slots_;
  Mixes mixes_;
  double lr_factor_ = 1, loss_ = 0;
  int64_t steps_ = 0, skipped_ = 0;
  NonFinite nonfinite_ = NonFinite::error;

 private:
  class Running;
  void advance(double loss, At at);
  void collect(At at);
  bool check(At at);
  void commit();
  void check_freshness();
  bool all_finite(At at) const;
  void tell(void (StepObserver::*event)(const OptimizerBase&)) const;

  void check_parameter(const std::string& name, const Tensor& parameter, At at) const;
  // See groups.cpp, and for the last two state.cpp.
  void overlay(const Mixes& mixes) const;
  void resolve(const Mixes& mixes, At at) const;
  static Mixes mix(const Groups& groups, std::vector<Slot>& slots);
  void adopt(Mixes mixes) noexcept;
  void inherit(detail::Group& group, const Mixes& mixes,
               const std::vector<Slot>& slots) const noexcept;
  Mixes prepare_groups(Groups& groups,
                       const std::vector<std::pair<std::string, std::vector<double>>>& saved,
                       std::vector<Slot>& slots, At at);
  void take_groups(Groups& groups, Mixes& mixes);
  std::vector<Slot*> find_slots(std::string_view pattern, At at);  // ValueError if none

  Groups groups_;  // in the order in which they were asked for
  Tiles tiles_;
  std::vector<const char*> reported_;
  // How many of the reports in reported_ remain when the running step ends. A step that throws
  // forgets its own, so that it may make them again.
  std::size_t said_ = 0;
  std::function<void(const std::string&)> report_;
  Weak<StepObserver> observer_;
};

}}  // namespace descent::optim
