#pragma once
/// @file
/// What an update rule says about itself. The smallest rule has options, a name, state, a formula:
///
///     template <class S = double> struct MomentumRule {
///       S lr = 0.1, momentum = 0.9;
///       static constexpr auto name = "Momentum";
///       static constexpr Names hyper{"lr", "momentum"}, state{"b"};
///       template <class T> void update(T& theta, T g, T& b, S) const {
///         b = momentum * b + g;
///         theta -= lr * b;
///       }
///     };
///
/// Traits<MomentumRule>::info holds these names and the range of each option (lr: at least 0). All
/// else that a rule may have is empty there: see Optimizer in fused.hpp.

#include <string_view>
#include <utility>

#include "descent/core/tensor/tensor.hpp"
#include "descent/optim/num.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim { namespace detail {
/// The range of an option: any number, at least 0, [0, 1), at least 1. An option has the same range
/// in every rule: its name decides.
enum class Range { any, nonnegative, below_one, at_least_one };
constexpr Range range_of(std::string_view option) {
  for (std::string_view name : {"beta", "beta1", "beta2"})
    if (option == name) return Range::below_one;
  for (std::string_view name :
       {"lr", "lr_decay", "momentum", "momentum_decay", "weight_decay", "eps", "eps1", "eps2",
        "alpha", "lambd", "initial_accumulator_value", "trust_coefficient", "step_min"})
    if (option == name) return Range::nonnegative;
  return Range::any;
}

/// What an optimizer knows about its rule besides the formula. `options` points to the rule.
struct RuleInfo {
  const char* name;
  Names hyper;               // lr comes first
  Names state = {};          // tensors of the parameter's shape
  std::size_t required = 0;  // how many of these, from the first, are always in use
  Names tensor_state = {};   // tensors of any shape, which `prepare` keeps
  Names fields = {};         // what `prepare` computes for each element
  Names quantities = {};     // what `prepare` computes for a whole parameter
  bool needs_loss = false, needs_closure = false;
  const char* (*refuses)(const Tensor&) = nullptr;  // why a parameter is unsuitable, or null
  bool (*uses)(const void* options, std::size_t state) = nullptr;  // null if there is no state
  void (*check)(const void* options, At at) = nullptr;             // throws if they contradict
  Range ranges[Names::most] = {};                                  // of the hyper-parameters
  int choices[Names::most] = {};  // how many values an option that is a Choice has; 0: it is an S
};

/// The offset in bytes of an option in a rule made of Settings; for `option` = count, the rule's
/// size.
constexpr std::size_t offset_of(const RuleInfo& info, std::size_t option) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < option; ++i) at += info.choices[i] ? sizeof(double) : sizeof(Setting);
  return at;
}

/// The names that `get` returns for a rule; none if the rule has no such member.
template <class Rule> constexpr Names names_if_any(auto get) {
  if constexpr (std::is_invocable_v<decltype(get), Rule>) return get(Rule{});
  else return {};
}

/// Initialises one option of a rule, and writes into `choices` how many values that option has if
/// it is a Choice.
struct OptionKind {
  constexpr operator double() const { return 0; }
  template <class E, int count> constexpr operator Choice<E, count>() const {
    *choices = count;
    return E{};
  }
  int* choices;
};

/// What the rule R says about itself; members that it does not have are empty here. This is not
/// part of Optimizer, so that a mention of an Optimizer costs the compiler little.
template <template <class> class R, class Rule = R<double>> struct Traits {
  static constexpr Names optional =
      names_if_any<Rule>([](auto r) -> decltype(r.optional) { return r.optional; });
  static constexpr Names fields =
      names_if_any<Rule>([](auto r) -> decltype(r.fields) { return r.fields; });
  static constexpr Names quantities =
      names_if_any<Rule>([](auto r) -> decltype(r.quantities) { return r.quantities; });
  static constexpr Names tensor_state =
      names_if_any<Rule>([](auto r) -> decltype(r.tensor_state) { return r.tensor_state; });
  static constexpr std::size_t required = Rule::state.count, states = required + optional.count;
  static constexpr Names state = [] {
    Names all = Rule::state;
    for (const char* name : optional) all.at[all.count++] = name;
    return all;
  }();

  /// The rule that `options` points to.
  static const Rule& rule_at(const void* options) {
    return *std::launder(static_cast<const Rule*>(options));
  }
  static bool in_use(const Rule& rule, std::size_t i) {
    if constexpr (optional.count > 0)
      if (i >= required) return rule.uses(i - required);
    return true;
  }
  static bool maximizes(const Rule& rule) {
    if constexpr (requires { rule.maximize; }) return rule.maximize;
    else return false;
  }

  static constexpr RuleInfo info = [] {
    RuleInfo all{Rule::name, Rule::hyper, state, required, tensor_state, fields, quantities};
    for (std::size_t i = 0; i < all.hyper.count; ++i) all.ranges[i] = range_of(all.hyper.at[i]);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      static_cast<void>(Rule{OptionKind{&all.choices[I]}...});
    }
    (std::make_index_sequence<Rule::hyper.count>());
    if constexpr (requires { Rule::needs_loss; }) all.needs_loss = Rule::needs_loss;
    if constexpr (requires { &Rule::refuses; }) all.refuses = &Rule::refuses;
    all.uses = [](const void* options, std::size_t i) { return in_use(rule_at(options), i); };
    if constexpr (requires(Rule rule, At at) { rule.check(at); })
      all.check = [](const void* options, At at) { rule_at(options).check(at); };
    return all;
  }();

  static constexpr std::make_index_sequence<Rule::hyper.count> each_option{};
  static constexpr std::make_index_sequence<states> each_state{};
  static constexpr std::make_index_sequence<fields.count> each_field{};
  static constexpr std::make_index_sequence<quantities.count> each_quantity{};

  // Whether the rule has a `direction` that takes the state, and the fields that J counts.
  template <std::size_t... I, std::size_t... J>
  static constexpr bool directed(std::index_sequence<I...>, std::index_sequence<J...>) {
    return requires(Rule rule, Num<float> x) {
      rule.direction(x, x, (static_cast<void>(I), x)..., (static_cast<void>(J), x)..., 0.0);
    };
  }
  static constexpr bool direction_has_fields = directed(each_state, each_field);
  static constexpr bool has_direction =
      direction_has_fields || directed(each_state, std::index_sequence<>());
  static constexpr std::make_index_sequence<direction_has_fields ? fields.count : 0>
      each_direction_field{};

  template <std::size_t... I, std::size_t... J, std::size_t... Q>
  static constexpr bool updates(std::index_sequence<I...>, std::index_sequence<J...>,
                                std::index_sequence<Q...>) {
    return requires(Rule rule, Num<float> x, double s) {
      rule.update(x, x, (static_cast<void>(I), x)..., (static_cast<void>(J), x)...,
                  (static_cast<void>(Q), s)..., s);
    };
  }
  static_assert(updates(each_state, each_field, each_quantity),
                "a rule's update takes (theta, g, state..., fields..., quantities..., t)");

  static_assert(std::string_view(Rule::hyper.at[0]) == "lr", "a rule's first option is lr");
  static_assert(sizeof(Rule) == Rule::hyper.count * sizeof(double),
                "a rule's members are its hyper-parameters, of type S, named in `hyper`");
  static_assert(sizeof(R<Setting>) == offset_of(info, Rule::hyper.count));
};
}  // namespace detail

}}  // namespace descent::optim
