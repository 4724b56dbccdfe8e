#pragma once
#include <array>
#include <memory>

#include "descent/core/elementwise.hpp"
#include "descent/core/named.hpp"
#include "descent/optim/num.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

namespace detail {
/// ValueError "<what> is <value>: need <rule>" unless `holds`.
void require(bool holds, const char* what, double value, const char* rule, At at);
}  // namespace detail

/// All of an optimizer that is not a formula: which parameters, their groups, state and steps.
class OptimizerBase : descent::detail::Pinned {
 public:
  virtual ~OptimizerBase() = default;

  /// Forgets every parameter's gradient.
  void zero_grad();
  /// One update of every parameter that has a gradient. A parameter without one stays, and its own
  /// step count with it. Everything is checked before the first parameter is touched.
  virtual void step(At at = At::here()) = 0;
  /// The learning rate in use: the default group's, times the schedule's factor.
  virtual double lr() const = 0;
  /// What a schedule multiplies every group's learning rate by; 1 without one.
  double lr_factor() const { return lr_factor_; }
  void set_lr_factor(double factor, At at = At::here());
  NamedTensors parameters() const;

 protected:
  struct Slot {
    std::string name;
    Tensor parameter;
    std::vector<Tensor> state;
    std::size_t group = 0;
    int64_t step = 0;
    Tensor grad;  // while a step runs: its gradient, contiguous; undefined if it has none
  };
  /// Parameters are contiguous floating leaves; each stands here once, under a name of its own.
  OptimizerBase(const NamedTensors& parameters, std::size_t states, At at);
  /// Puts the parameters that match into group `index`; ValueError if there are none.
  void assign_group(std::string_view pattern, std::size_t index, At at);
  /// Collects gradients, ages their parameters, and cuts the work into tiles.
  /// DtypeError if a parameter's dtype is no longer that of its state.
  void begin_step(At at);
  void end_step();

  struct Tile {
    Slot* slot;
    int64_t begin, count;
  };
  std::vector<Slot> slots_;
  std::vector<Tile> tiles_;
  double lr_factor_ = 1;
};

/// Applies the update rule R to registered parameters: one fused, threaded pass per step.
///
///     optim::Adam opt(model.named_parameters(), {.lr = 1e-3});
///     opt.group("*.bias").weight_decay = 0;
///     opt.zero_grad();  loss.backward();  opt.step();
///
/// R is a template on its scalar type: members of type S are the hyper-parameters, named in that
/// order by `hyper`; `state` names the state tensors; `update(theta, g, state..., t)` is the
/// formula for one element. `check(at)`, if there is one, refuses options out of range;
/// `stateless()` says when the state is not needed.
template <template <class> class R> class Optimizer final : public OptimizerBase {
 public:
  using Rule = R<double>;
  static constexpr std::size_t states = Rule::state.count;
  static_assert(
      requires(Rule rule) { rule.lr; }, "a rule has a learning rate, called lr");
  static_assert(sizeof(Rule) == Rule::hyper.count * sizeof(double),
                "a rule's members are its hyper-parameters, of type S, named in `hyper`");

  explicit Optimizer(const NamedTensors& parameters, Rule options = {}, At at = At::here())
      : OptimizerBase(parameters, states, at) {
    check(options, at);
    groups_.push_back(std::make_unique<Rule>(options));
  }

  /// The default group's options, to read and to change at any time.
  Rule& options() { return *groups_[0]; }
  /// The options of the parameters whose names match `pattern` ('*' for any characters): a copy of
  /// the defaults as they are now, to be changed. Of two patterns that match, the later counts.
  Rule& group(std::string_view pattern, At at = At::here()) {
    for (std::size_t i = 1; i < groups_.size(); ++i)
      if (patterns_[i - 1] == pattern) return *groups_[i];
    assign_group(pattern, groups_.size(), at);
    patterns_.emplace_back(pattern);
    groups_.push_back(std::make_unique<Rule>(options()));
    return *groups_.back();
  }

  void step(At at = At::here()) override {
    for (const auto& rule : groups_) check(*rule, at);
    begin_step(at);
    parallel_for(static_cast<int64_t>(tiles_.size()), [this](int64_t i) {
      const Tile& tile = tiles_[static_cast<std::size_t>(i)];
      if (tile.slot->parameter.dtype() == float32) apply<float>(tile);
      else apply<double>(tile);
    });
    end_step();
  }

  double lr() const override { return scaled(*groups_[0]).lr; }

 private:
  static void check(const Rule& rule, At at) {
    if constexpr (requires { rule.check(at); }) rule.check(at);
  }
  Rule scaled(Rule rule) const {
    rule.lr *= lr_factor_;
    return rule;
  }

  template <class F> void apply(const Tile& tile) const {
    const Rule rule = scaled(*groups_[tile.slot->group]);
    const auto t = static_cast<double>(tile.slot->step);
    auto at = [&](const Tensor& x) { return descent::detail::Operand<F>(x).data() + tile.begin; };
    F* theta = const_cast<F*>(at(tile.slot->parameter));
    const F* g = at(tile.slot->grad);
    if constexpr (requires { rule.stateless(); }) {
      if (rule.stateless()) return run<F, false>(rule, t, tile.count, theta, g);
    }
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      run<F, true>(rule, t, tile.count, theta, g, const_cast<F*>(at(tile.slot->state[I]))...);
    }
    (std::make_index_sequence<states>{});
  }

  /// The formula over `count` elements. Without state it works on zeros that nobody keeps.
  template <class F, bool Stateful, class... P>
  static void run(const Rule& rule, double t, int64_t count, F* theta, const F* g, P*... state) {
    using T = Num<F>;
    using Raw = typename T::Raw;
    simd::for_each_exact(
        [rule, t](F& theta_, const F& g_, auto&... state_) {
          T th(Raw{}, theta_);
          if constexpr (Stateful) {
            [&](auto... s) {
              rule.update(th, T(Raw{}, g_), s..., t);
              ((state_ = s.v), ...);
            }(T(Raw{}, state_)...);
          } else {
            [&]<std::size_t... I>(std::index_sequence<I...>) {
              T scratch[states] = {(static_cast<void>(I), T(0.0))...};
              rule.update(th, T(Raw{}, g_), scratch[I]..., t);
            }
            (std::make_index_sequence<states>{});
          }
          theta_ = th.v;
        },
        count, theta, g, state...);
  }

  std::vector<std::unique_ptr<Rule>> groups_;
  std::vector<std::string> patterns_;
};

}}  // namespace descent::optim
