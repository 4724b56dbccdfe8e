#pragma once
#include <functional>
#include <new>
#include <span>

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/tiles.hpp"
#include "descent/core/tensor/named.hpp"
#include "descent/optim/clip.hpp"
#include "descent/optim/observer.hpp"
#include "descent/optim/replay.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// Computes the loss anew: zero_grad, predict, loss, backward; returns the loss, of one element.
using Closure = std::function<Tensor()>;

/// What a step does about a NaN or an infinity in a gradient, before it touches anything:
/// NumericError, or no update at all (see `skipped_steps`), or it does not look.
enum class NonFinite { error, skip, ignore };

namespace detail {
/// ValueError "<what> is <value>: need <rule>" unless `holds`.
void require(bool holds, const char* what, double value, const char* rule, At at);
/// ValueError unless it is a number of at least 0.
void require_nonnegative(const char* what, double value, At at);
/// The same for what multiplies the learning rates.
void check_lr_factor(double factor, At at);
/// ValueError unless the option may have this value.
void check_option(const RuleInfo& info, std::size_t option, double value, At at);

/// The options of a pattern: the rule, made of Settings, that `group` hands out; at first none set.
struct Group {
  Group(const RuleInfo& info, std::string_view pattern_);
  std::string pattern;
  alignas(double) std::byte options[sizeof(Setting[Names::most])] = {};
};
/// The parameters that the same groups match, and the options that hold for them: the rule, made of
/// as many doubles as it has names.
struct Mix {
  std::vector<const Group*> groups;  // the later counts
  alignas(double) std::byte options[sizeof(double[Names::most])] = {};
};
/// One option of a group.
struct Cell {
  double value;
  bool set;
};
Cell cell_of(const RuleInfo& info, const Group& group, std::size_t option);
void put_cell(const RuleInfo& info, Group& group, std::size_t option, Cell cell);

/// A registered parameter, what is remembered of it, and what the running step found.
struct Slot {
  std::string name;
  Tensor parameter;
  std::size_t mix = 0;
  double lr_multiplier = 1;
  int64_t step = 0;
  std::vector<Tensor> state, tensor_state;  // undefined until needed
  GradientAge seen;                         // of the gradient that the last step used
  Tensor grad;                              // contiguous; undefined if there is none
  // What these become if the step is carried out; an undefined state stays as it is.
  std::vector<Tensor> next_state, next_tensor_state;
  int64_t next_step = 0;  // 1 where a rule that can do without state begins to have some
  GradientAge next_seen;
  std::vector<Tensor> fields;
  std::vector<double> quantities;
};

/// A part of a parameter: what one thread updates at a time.
using Tile = Tiles::Tile;

/// A reference to an optimizer.
using OptimizerRef = Reference<OptimizerBase>;
}  // namespace detail

/// A parameter as a rule's `prepare` sees it: whole. It fills `quantities` and `fields`.
struct Preparation {
  Tensor theta, g;  ///< g as `update` would see it
  double t, loss;   ///< the parameter's own step; NaN if the loss was not given
  std::vector<Tensor>&
      state;  ///< the rule's `tensor_state` tensors, undefined before the first step
  std::vector<Tensor>& fields;
  std::vector<double>& quantities;
  /// The rule's `direction`, element by element; `update` receives it in g's place.
  std::function<Tensor()> direction;
};

/// All of an optimizer that is not a formula: which parameters, their groups, state and steps.
class OptimizerBase : public Referred {
 public:
  virtual ~OptimizerBase();

  /// One update of every parameter that has a gradient. A parameter without one stays, and its own
  /// step count with it. What throws has changed nothing.
  void step(At at = At::here());
  /// The same, told the loss of these gradients (one element): Polyak's rule needs it, and a ledger
  /// notes it.
  void step(const In& loss);
  /// Calls `closure`, then steps; returns the loss that it had computed.
  virtual double step(const Closure& closure, At at = At::here());

  /// Forgets every parameter's gradient, or (set_to_none = false) makes it zeros.
  void zero_grad(bool set_to_none = true);
  /// Parameters that come later: they join the groups whose patterns match, at step 0. ValueError
  /// if two have the same name or share elements, GraphError or DtypeError for what cannot be
  /// trained.
  void add(const NamedTensors& parameters, At at = At::here());
  [[nodiscard]] NamedTensors parameters() const;
  /// The functions of these names (clip.hpp) for all parameters; a ledger notes what was there.
  double clip_grad_norm(double max_norm, ClipNormOptions options = {}, At at = At::here());
  void clip_grad_value(double limit, At at = At::here());

  /// The learning rate in use: the defaults', times the schedule's factor.
  [[nodiscard]] double lr() const { return hyper(0)[0] * lr_factor_; }
  /// What a schedule multiplies every group's learning rate by; 1 without one.
  [[nodiscard]] double lr_factor() const { return lr_factor_; }
  void set_lr_factor(double factor, At at = At::here());
  /// Multiplies the rate of each parameter that matches, whatever its group: 1 by default.
  void set_lr_multiplier(std::string_view pattern, double multiplier, At at = At::here());
  /// Sets `momentum`, or `beta1`, for every parameter, as cyclic schedules do; ValueError if the
  /// rule has neither.
  void set_momentum(double momentum, At at = At::here());

  void set_nonfinite(NonFinite policy) { nonfinite_ = policy; }
  [[nodiscard]] int64_t skipped_steps() const { return skipped_; }
  /// Calls of step() that were carried out.
  [[nodiscard]] int64_t steps() const { return steps_; }

  /// Everything a run needs to go on with the same bits, under "<rule>/<parameter>/<state>" and
  /// ".../step" (int64), "<rule>/[*]/<option>" for the defaults, "<rule>/[<number> <pattern>]/
  /// <option>" for groups in their order (NaN: not set), "<rule>/lr_factor" and "<rule>/steps".
  /// Copies.
  [[nodiscard]] virtual NamedTensors state_dict() const;
  /// Takes a copy, and with it the groups: those that the state does not have set nothing any more.
  /// ValueError, and nothing changed, if it is another rule's, or its parameters, shapes or dtypes
  /// are not these, or a number is out of range.
  virtual void load_state_dict(const NamedTensors& state, At at = At::here());

  /// Where steps that look like a mistake are reported, each kind once: a step without a new
  /// gradient, a forgotten zero_grad, parameters that backward never reached. Standard error, at
  /// first.
  void on_report(std::function<void(const std::string&)> report) { report_ = std::move(report); }
  /// Shows `observer`, as long as both live, what each step does; null to stop. An optimizer has
  /// one at a time. A ledger refuses, with a ValueError, if it follows another optimizer, or holds
  /// steps of another rule. Those of this rule it keeps, and replaces them where a step of the same
  /// number is done anew.
  void trace(StepObserver* observer, At at = At::here());
  void trace(StepObserver& observer, At at = At::here()) { trace(&observer, at); }

  // What an observer reads, besides.
  const detail::RuleInfo& info() const { return info_; }
  std::span<const detail::Slot> slots() const { return slots_; }
  /// The options as a step has them for a parameter: its group's, and lr as it is used.
  std::vector<double> options_of(const detail::Slot& slot) const;
  /// Of the running step, or the last; NaN if step() was not told.
  double loss() const { return loss_; }
  /// Tells the rule's formula; null if a step is none.
  virtual detail::Replay replay() const { return nullptr; }
  /// Says something to the user, where on_report says.
  void report(const std::string& text) const;

 protected:
  using Slot = detail::Slot;
  OptimizerBase(const detail::RuleInfo& info, const void* options);

  // What a rule adds to a step: quantities and fields of whole parameters, which may throw, and its
  // formula on a part of one, which may not.
  virtual void prepare() {}
  virtual void update(const Slot&, const detail::Tile&) {}

  /// The hyper-parameters of a mix; 0 is the defaults.
  std::vector<double> hyper(std::size_t mix) const;
  void* options_at(std::size_t mix) const { return mixes_[mix]->options; }
  using Mixes = std::vector<std::unique_ptr<detail::Mix>>;
  using Groups = std::vector<std::unique_ptr<detail::Group>>;
  /// Finds out which options hold for each mix, by now, and checks them.
  void resolve(At at) const { resolve(mixes_, at); }
  /// The options of `pattern`; ValueError if no parameter matches.
  void* find_group(std::string_view pattern, At at);
  std::size_t first_alike(std::size_t mix) const;  // the first mix with the same options
  Preparation preparation_of(Slot& slot, bool maximize, std::function<Tensor()> direction) const;
  void widen_fields(Slot& slot) const;  // to the parameter's shape, for the loops
  StepObserver* observer() const { return observer_.get(); }  // null if none is there
  bool first_time(const char* kind);                          // of a report

  const detail::RuleInfo& info_;
  std::vector<Slot> slots_;
  Mixes mixes_;  // the first is that of the defaults, of no groups
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
  void overlay(const Mixes& mixes) const;
  void resolve(const Mixes& mixes, At at) const;
  static Mixes mix(const Groups& groups, std::vector<Slot>& slots);
  void adopt(Mixes mixes) noexcept;
  void inherit(detail::Group& group, const Mixes& mixes,
               const std::vector<Slot>& slots) const noexcept;
  void take_groups(Groups groups,
                   const std::vector<std::pair<std::string, std::vector<double>>>& saved,
                   std::vector<Slot>& slots, At at);
  std::vector<Slot*> find_slots(std::string_view pattern, At at);  // ValueError if there are none

  Groups groups_;  // in the order in which they were asked for
  Tiles tiles_;
  std::vector<const char*> reported_;
  std::size_t said_ = 0;  // so many of them before the step, or by one that was carried out
  std::function<void(const std::string&)> report_;
  Weak<StepObserver> observer_;
};

}}  // namespace descent::optim
