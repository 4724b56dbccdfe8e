#pragma once
#include <functional>
#include <memory>
#include <new>
#include <span>

#include "descent/core/graph/graph.hpp"
#include "descent/core/runtime/threads.hpp"
#include "descent/core/tensor/named.hpp"
#include "descent/optim/clip.hpp"
#include "descent/optim/insight/recorder.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

class Ledger;
class OptimizerBase;

/// Computes the loss anew: zero_grad, predict, loss, backward; returns the loss, of one element.
using Closure = std::function<Tensor()>;

/// What a step does about a NaN or an infinity in a gradient, before it touches anything:
/// NumericError, or no update at all (see `skipped_steps`), or it does not look.
enum class NonFinite { error, skip, ignore };

namespace detail {
/// ValueError "<what> is <value>: need <rule>" unless `holds`.
void require(bool holds, const char* what, double value, const char* rule, At at);
/// ValueError unless it is a number of at least 0.
void check_lr_factor(double factor, At at);
/// The values that every rule means by an option of this name: not negative, [0, 1), any number.
enum class Range { any, nonnegative, below_one };
constexpr Range range_of(std::string_view option) {
  for (std::string_view name : {"beta", "beta1", "beta2"})
    if (option == name) return Range::below_one;
  for (std::string_view name :
       {"lr", "lr_decay", "momentum", "momentum_decay", "weight_decay", "eps", "eps1", "eps2",
        "alpha", "lambd", "initial_accumulator_value", "trust_coefficient", "step_min"})
    if (option == name) return Range::nonnegative;
  return Range::any;
}

/// What an optimizer knows of its rule besides the formula.
struct RuleInfo {
  const char* name;
  Names hyper;               // lr comes first
  Names state = {};          // one element for each of the parameter's
  std::size_t required = 0;  // so many of them always; the others if the options ask for them
  Names whole = {};          // state of any shape that `prepare` keeps
  Names fields = {};         // what `prepare` finds for each element,
  Names quantities = {};     // and for the whole parameter
  bool needs_loss = false;
  const char* (*refuses)(const Tensor&) = nullptr;  // why a parameter does not suit
  Range ranges[Names::most] = {};                   // of the hyper-parameters
  int choices[Names::most] = {};                    // as many values has a Choice; 0: it is an S
};
/// ValueError unless the option may have this value.
void check_option(const RuleInfo& info, std::size_t option, double value, At at);

/// Where an option stands in a rule made of Settings, in bytes; behind the last, its size.
constexpr std::size_t offset_of(const RuleInfo& info, std::size_t option) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < option; ++i) at += info.choices[i] ? sizeof(double) : sizeof(Setting);
  return at;
}

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
  std::vector<Tensor> state, whole;   // undefined until needed
  descent::detail::GradientAge seen;  // of the gradient that the last step used
  Tensor grad;                        // contiguous; undefined if there is none
  // What these become if the step is carried out; an undefined state stays as it is.
  std::vector<Tensor> next_state, next_whole;
  int64_t next_step = 0;  // 1 where a rule that can do without state begins to have some
  descent::detail::GradientAge next_seen;
  std::vector<Tensor> fields;
  std::vector<double> quantities;
};

/// A part of a parameter: what one thread updates at a time.
struct Tile {
  Slot* slot;
  int64_t begin, count;
};

/// One element in one step, before and after.
struct Moment {
  std::vector<double> hyper, quantities;
  double t, theta, g;
  std::vector<double> state, fields;
};
/// Copies of what `state` has under the names of `like`. ValueError, as `who`, unless it has these
/// and no others, with their dtypes and shapes, and its counts (int64) are from 0 to 2^53.
NamedTensors copied(const NamedTensors& like, const NamedTensors& state, const std::string& who,
                    At at = At::unknown());
/// A reference to an optimizer, which may go first: to use it then is a ValueError, as `who`.
class OptimizerRef {
 public:
  OptimizerRef(OptimizerBase& optimizer, const char* who);
  OptimizerBase& get(At at = At::unknown()) const;

 private:
  std::weak_ptr<OptimizerBase> optimizer_;
  const char* who_;
};
/// Runs a rule's body on `moment` with recording scalars.
using Replay = void (*)(DType dtype, Moment& moment, Lines& lines);
}  // namespace detail

/// A parameter as a rule's `prepare` sees it: whole. It fills `quantities` and `fields`.
struct Whole {
  Tensor theta, g;             ///< g as `update` would see it
  double t, loss;              ///< the parameter's own step; NaN if the loss was not given
  std::vector<Tensor>& state;  ///< the rule's `whole` tensors, undefined before the first step
  std::vector<Tensor>& fields;
  std::vector<double>& quantities;
  /// The rule's `direction`, element by element; `update` receives it in g's place.
  std::function<Tensor()> direction;
};

/// All of an optimizer that is not a formula: which parameters, their groups, state and steps.
class OptimizerBase : Pinned {
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
  void on_report(std::function<void(const std::string&)> report);
  /// Notes in `ledger`, as long as both live, what each step does; null to stop. ValueError if it
  /// follows another optimizer, or holds steps of another rule. Those of this rule it keeps, and
  /// replaces them where a step of the same number is done anew.
  void trace(Ledger* ledger, At at = At::here());
  void trace(Ledger& ledger, At at = At::here()) { trace(&ledger, at); }

 protected:
  using Slot = detail::Slot;
  OptimizerBase(const detail::RuleInfo& info, const void* options);

  /// One update, all of it.
  virtual void advance(At at) = 0;
  virtual bool uses(std::size_t mix, std::size_t state) const = 0;
  virtual void check_options(const void*, At) const {}  // that they hold together
  virtual detail::Replay replay() const { return nullptr; }

  /// The hyper-parameters of a mix; 0 is the defaults.
  std::vector<double> hyper(std::size_t mix) const;
  void* options_at(std::size_t mix) const { return mixes_[mix]->options; }
  using Mixes = std::vector<std::unique_ptr<detail::Mix>>;
  using Groups = std::vector<std::unique_ptr<detail::Group>>;
  /// Finds out which options hold for each mix, by now, and checks them.
  void resolve(At at) const { resolve(mixes_, at); }
  /// The options of `pattern`; ValueError if no parameter matches.
  void* find_group(std::string_view pattern, At at);
  /// Collects gradients, checks them, makes the state that is missing and cuts the work into tiles;
  /// false if the step is to be skipped. DtypeError if a parameter's dtype is no longer its
  /// state's.
  bool begin_step(At at);
  /// f(tile) on all threads; small tiles are bundled, so that a small model's step wakes no thread.
  template <class F> void for_each_tile(F f) const {
    parallel_for(static_cast<int64_t>(bundles_.size()) - 1, [&](int64_t i) {
      const auto bundle = static_cast<std::size_t>(i);
      for (std::size_t t = bundles_[bundle]; t < bundles_[bundle + 1]; ++t) f(tiles_[t]);
    });
  }
  std::size_t first_alike(std::size_t mix) const;  // the first mix with the same options
  Whole whole_of(Slot& slot, bool maximize, std::function<Tensor()> direction) const;
  void widen_fields(Slot& slot) const;  // to the parameter's shape, for the loops
  void commit_step();                   // nothing fails from here on
  void end_step();
  /// Lets go, at the end of a step that was carried out or not, of what only it needed.
  struct Running : Pinned {
    explicit Running(OptimizerBase& opt_) : opt(opt_) { opt.said_ = opt.reported_.size(); }
    ~Running() { opt.let_go(); }
    OptimizerBase& opt;
  };
  Ledger* ledger() const;             // null if none is there to note anything
  bool first_time(const char* kind);  // of a report
  void report(const std::string& text) const;

  using Tile = detail::Tile;
  const detail::RuleInfo& info_;
  std::vector<Slot> slots_;
  Groups groups_;  // in the order in which they were asked for
  Mixes mixes_;    // the first is that of the defaults, of no groups
  std::vector<Tile> tiles_;
  std::vector<std::size_t> bundles_;  // where each begins, and the last ends
  double lr_factor_ = 1, loss_ = 0;
  int64_t steps_ = 0, skipped_ = 0;
  NonFinite nonfinite_ = NonFinite::error;

 private:
  friend class detail::OptimizerRef;
  void cut_into_tiles();
  friend class Ledger;
  void check_overlaps(const std::vector<Slot>& slots, At at) const;
  void check_parameter(const std::string& name, const Tensor& parameter, At at) const;
  void collect_gradients(At at);
  bool all_finite(At at);
  void check_freshness();
  void overlay(const Mixes& mixes) const;
  void resolve(const Mixes& mixes, At at) const;
  static Mixes mix(const Groups& groups, std::vector<Slot>& slots);
  void adopt(Mixes mixes) noexcept;
  void inherit(detail::Group& group, const Mixes& mixes,
               const std::vector<Slot>& slots) const noexcept;
  void take_groups(Groups groups,
                   const std::vector<std::pair<std::string, std::vector<double>>>& saved,
                   std::vector<Slot>& slots, At at);
  std::vector<Slot*> matching(std::string_view pattern, At at);  // ValueError if there are none
  void let_go();

  std::vector<const char*> reported_;
  std::size_t said_ = 0;  // so many of them before the step, or by one that was carried out
  std::function<void(const std::string&)> report_;
  std::weak_ptr<Ledger> ledger_;
  std::shared_ptr<OptimizerBase> self_;  // owns nothing: its weak copies end with this
};

}}  // namespace descent::optim
