#pragma once
/// @file
/// The optimizer with any update rule: what a rule consists of, and how a step runs it.

#include "descent/core/ops/factory.hpp"
#include "descent/optim/loop.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

namespace detail {
/// The options of PyTorch's Adam and of those derived from it. They have `betas` where the rules
/// here have beta1 and beta2; an error says so.
struct PairOfBetas {
  double lr = 0, betas[2] = {}, eps = 0, weight_decay = 0;
  bool amsgrad = false, maximize = false;
};
}  // namespace detail

/// Applies the update rule R to registered parameters: one fused, threaded pass per step.
///
///     optim::Adam opt(model.named_parameters(), {.lr = 1e-3});
///     opt.group("encoder.*").lr = 1e-4;
///     opt.group("*.bias").weight_decay = 0;  // also for the biases in the encoder
///     opt.zero_grad();  loss.backward();  opt.step();
///
/// R is a template on its scalar type S. Its data members, of type S, Flag or Choice, are the
/// hyper-parameters; `hyper` lists their names in the same order, lr first. `name` is the name of
/// the rule. `state` lists the names of the state tensors, which start as zeros.
/// `update(theta, g, state..., t)` is the formula for one element. A rule may also have:
/// - `optional`: further state; the i-th of these is in use if `uses(i)` is true;
/// - `check(at)`, which refuses options that contradict each other;
/// - `maximize`, a Flag: if it is true, the formula receives -g;
/// - `refuses(parameter)`, static: why a parameter is unsuitable, or null;
/// - `prepare(Preparation&)`, or `prepare_group(std::span<Preparation>)`, which receives all
///   parameters that have a gradient and the same options, bit for bit, whichever patterns have set
///   them. It computes `fields` (a T for each element) and `quantities` (an S for the parameter),
///   which `update` receives between the state and t. `tensor_state` lists the names of tensors of
///   any shape that it keeps; `needs_loss` says that it reads the loss;
/// - `direction(theta, g, state..., fields..., t)`, also without the fields: `update` receives the
///   result in place of g. `prepare` can compute it as a tensor, to take its norm for instance.
///
/// `prepare` may throw: then the step changes nothing. `update` must not throw.
/// (The second parameter is always R<double>. It preserves the linkage of a rule that is in an
/// unnamed namespace.)
template <template <class> class R, class Rule_ = R<double>>
class Optimizer final : public OptimizerBase {
 public:
  using Rule = Rule_;  ///< the options

  /// ValueError if an option is out of range; errors for parameters are those of `add`.
  explicit Optimizer(const NamedTensors& parameters, Rule options = {}, At at = At::here())
      : OptimizerBase(Is::info, &options) {
    resolve(at);
    add(parameters, at);
  }
  // A template, so that the constructor above is preferred where both would do.
  template <int = 0>
  Optimizer(const NamedTensors& parameters, detail::PairOfBetas options, At at = At::here())
      __attribute__((
          unavailable("write .beta1 and .beta2, the formula's letters, in place of .betas")));

  /// The options of all parameters whose groups do not set others. They can be read and changed at
  /// any time.
  Rule& options() { return *std::launder(static_cast<Rule*>(options_at(0))); }
  /// The options of the parameters whose names match `pattern` ('*' for any characters, '?' for
  /// one). Assigning to an option sets it for these parameters, and leaves the other options alone.
  /// Each option of a parameter comes from the last matching pattern that has set it, or else from
  /// the defaults; patterns are in the order in which they were first asked for. An option that the
  /// group has not set reads as the value that held for the first matching parameter at this call
  /// (or, through a reference that was kept, when a state was last loaded).
  R<Setting>& group(std::string_view pattern, At at = At::here()) {
    return *std::launder(static_cast<R<Setting>*>(find_group(pattern, at)));
  }

 private:
  using Is = detail::Traits<R, Rule>;
  using Loop = detail::Loop<R, Rule>;

  void prepare() override {
    if constexpr (requires(Rule rule, Preparation & x) { rule.prepare(x); }) {
      for (Slot& slot : slots_) {
        if (!slot.grad.defined()) continue;
        const Rule rule = rule_of(slot);
        Preparation x =
            preparation_of(slot, Is::maximizes(rule), [this, &slot] { return direction<>(slot); });
        rule.prepare(x);
        widen_fields(slot);
      }
    } else if constexpr (requires(Rule rule, std::span<Preparation> x) { rule.prepare_group(x); }) {
      for (std::size_t mix = 0; mix < mixes_.size(); ++mix) {
        if (first_alike(mix) != mix) continue;
        const Rule& rule = Is::rule_at(options_at(mix));
        std::vector<Preparation> all;
        for (Slot& slot : slots_)
          if (slot.grad.defined() && first_alike(slot.mix) == mix)
            all.push_back(preparation_of(slot, Is::maximizes(rule), nullptr));
        if (!all.empty()) rule.prepare_group({all.data(), all.size()});
      }
    }
  }
  void update(const Slot& slot, const detail::Tile& tile) override {
    const Rule rule = rule_of(slot);
    if (slot.parameter.dtype() == float32) Loop::template update<float>(rule, slot, tile);
    else Loop::template update<double>(rule, slot, tile);
  }
  detail::Replay replay() const override {
    return [](DType dtype, detail::Moment& moment, Recording& recording) {
      if (dtype == float32) detail::replay<R, Rule, float>(moment, recording);
      else detail::replay<R, Rule, double>(moment, recording);
    };
  }

  /// The options that hold for one parameter, with its learning rate.
  Rule rule_of(const Slot& slot) const {
    Rule own = Is::rule_at(options_at(slot.mix));
    own.lr *= lr_factor_ * slot.lr_multiplier;
    return own;
  }
  /// The rule's `direction` as a tensor. The update computes it once more.
  template <class = Rule> Tensor direction(Slot& slot) {
    if constexpr (Is::has_direction) {
      if constexpr (Is::direction_has_fields) widen_fields(slot);
      const Tensor u = zeros(slot.parameter.shape(), slot.parameter.dtype());
      const Rule own = rule_of(slot);
      Tiles tiles;
      tiles.add(0, u.numel());
      tiles.for_each([&](const detail::Tile& tile) {
        if (u.dtype() == float32) Loop::template direct<float>(own, slot, tile, u);
        else Loop::template direct<double>(own, slot, tile, u);
      });
      return u;
    } else {
      return slot.grad;
    }
  }
};

}}  // namespace descent::optim
