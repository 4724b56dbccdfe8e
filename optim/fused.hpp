#pragma once
#include "descent/core/ops/factory.hpp"
#include "descent/optim/loop.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

namespace detail {
/// PyTorch's options of Adam and its kin, where a rule's own have beta1 and beta2.
struct PairOfBetas {
  double lr = 0, betas[2] = {}, eps = 0, weight_decay = 0;
  bool amsgrad = false, maximize = false;
};
}  // namespace detail

/// Applies the update rule R to registered parameters: one fused, threaded pass per step.
///
///     optim::Adam opt(model.named_parameters(), {.lr = 1e-3});
///     opt.group("encoder.*").lr = 1e-4;
///     opt.group("*.bias").weight_decay = 0;  // also where the rate is another one
///     opt.zero_grad();  loss.backward();  opt.step();
///
/// R is a template on its scalar type S. Its members, of type S, Flag or Choice, are the
/// hyper-parameters, named in their order by `hyper`, lr first; `name` is the rule's own; `state`
/// names the state tensors, zeros at first; `update(theta, g, state..., t)` is the formula for one
/// element. A rule may also have:
/// - `optional`: further state, in use if `uses(i)` says so of the i-th of these;
/// - `check(at)`, which refuses combinations of options;
/// - `maximize`: a Flag; the formula then sees -g;
/// - `prepare(Whole&)`, or `prepare_group(std::span<Whole>)` for all parameters with a gradient
///   whose options are the same, bit for bit, whichever patterns have set them; it computes
///   `fields` (a T for each element) and `quantities` (an S for the tensor): `update` receives them
///   between the state and t. `tensor_state` names the tensors of any shape that it keeps,
///   `needs_loss` says that it reads the loss;
/// - `direction(theta, g, state..., fields..., t)`, or without the fields: what `update` receives
///   in g's place. `prepare` may ask for it, and measure it.
/// `prepare` may throw, and the step has changed nothing; `update` may not.
/// (Always R<double>, the second parameter keeps the linkage of a rule in an unnamed namespace.)
template <template <class> class R, class Rule_ = R<double>>
class Optimizer final : public OptimizerBase {
 public:
  using Rule = Rule_;

  /// ValueError for options out of range, or for parameters as `add` refuses them.
  explicit Optimizer(const NamedTensors& parameters, Rule options = {}, At at = At::here())
      : OptimizerBase(Is::info, &options) {
    resolve(at);
    add(parameters, at);
  }
  // A template, so that whatever suits the constructor above goes there.
  template <int = 0>
  Optimizer(const NamedTensors& parameters, detail::PairOfBetas options, At at = At::here())
      __attribute__((
          unavailable("write .beta1 and .beta2, the formula's letters, in place of .betas")));

  /// The defaults, to read and to change at any time.
  Rule& options() { return *std::launder(static_cast<Rule*>(options_at(0))); }
  /// The options of the parameters whose names match `pattern` ('*' for any characters). An option
  /// holds where it is assigned, by that alone: a parameter has each one from the last pattern that
  /// matches and has set it, or else the default. Patterns count in the order in which they were
  /// first asked for. What the group has not set reads as it held for the first parameter that
  /// matches, at this call or, of a group that one has kept, when a state was loaded since.
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

  /// The options as they hold for one parameter.
  Rule rule_of(const Slot& slot) const {
    Rule own = Is::rule_at(options_at(slot.mix));
    own.lr *= lr_factor_ * slot.lr_multiplier;
    return own;
  }
  /// The rule's `direction`, which the update then finds again.
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
