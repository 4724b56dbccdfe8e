#pragma once
#include <array>
#include <cstring>
#include <tuple>

#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

namespace detail {
/// What the formula reads in place of a tensor that is not there; nobody keeps what it writes.
template <class F> constexpr simd::Scalar<F> nothing{F(0)};

/// Writes back what a formula changed.
template <class F> void keep(F& element, Num<F> value) { element = value.v; }
template <class F> void keep(const F&, Num<F>) {}

/// The names that `get` finds in a rule; none if it has no such member.
template <class Rule> constexpr Names names_if_any(auto get) {
  if constexpr (std::is_invocable_v<decltype(get), Rule>) return get(Rule{});
  else return {};
}

/// Says of the option that it turns into how many values it has, if that is a Choice.
struct OptionKind {
  constexpr operator double() const { return 0; }
  template <class E, int count> constexpr operator Choice<E, count>() const {
    *choices = count;
    return E{};
  }
  int* choices;
};

/// What a rule says of itself, with what it left out, and its formula at work on elements. (Apart
/// from Optimizer, so that an Optimizer's name costs a compiler little.)
template <template <class> class R, class Rule> struct Formula {
  static constexpr Names optional =
      names_if_any<Rule>([](auto r) -> decltype(r.optional) { return r.optional; });
  static constexpr Names fields =
      names_if_any<Rule>([](auto r) -> decltype(r.fields) { return r.fields; });
  static constexpr Names quantities =
      names_if_any<Rule>([](auto r) -> decltype(r.quantities) { return r.quantities; });
  static constexpr Names whole =
      names_if_any<Rule>([](auto r) -> decltype(r.whole) { return r.whole; });
  static constexpr std::size_t required = Rule::state.count, states = required + optional.count;
  static constexpr Names state = [] {
    Names all = Rule::state;
    for (const char* name : optional) all.at[all.count++] = name;
    return all;
  }();
  static constexpr RuleInfo info = [] {
    RuleInfo all{Rule::name, Rule::hyper, state, required, whole, fields, quantities};
    for (std::size_t i = 0; i < all.hyper.count; ++i) all.ranges[i] = range_of(all.hyper.at[i]);
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      static_cast<void>(Rule{OptionKind{&all.choices[I]}...});
    }
    (std::make_index_sequence<Rule::hyper.count>());
    if constexpr (requires { Rule::needs_loss; }) all.needs_loss = Rule::needs_loss;
    if constexpr (requires { &Rule::refuses; }) all.refuses = &Rule::refuses;
    return all;
  }();
  static constexpr std::make_index_sequence<Rule::hyper.count> each_option{};
  static constexpr std::make_index_sequence<states> each_state{};
  static constexpr std::make_index_sequence<fields.count> each_field{};
  static constexpr std::make_index_sequence<quantities.count> each_quantity{};
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

  static_assert(std::string_view(Rule::hyper.at[0]) == "lr", "a rule's first option is lr");
  static_assert(sizeof(Rule) == Rule::hyper.count * sizeof(double),
                "a rule's members are its hyper-parameters, of type S, named in `hyper`");
  static_assert(sizeof(R<Setting>) == offset_of(info, Rule::hyper.count));

  static bool in_use(const Rule& rule, std::size_t i) {
    if constexpr (optional.count > 0)
      if (i >= required) return rule.uses(i - required);
    return true;
  }
  static bool maximizes(const Rule& rule) {
    if constexpr (requires { rule.maximize; }) return rule.maximize;
    else return false;
  }

  // ---- loops over elements
  template <class F> static F* elements(const Tile& tile, const Tensor& x) {
    return descent::detail::elements_of<F>(x) + tile.begin;
  }
  /// use(state...): a pointer for each state tensor in use; to zeros before the first step.
  template <class F, class Use, class... P>
  static void with_state(const Rule& rule, const Tile& tile, Use use, P... state_) {
    constexpr std::size_t i = sizeof...(P);
    if constexpr (i == states) {
      use(state_...);
    } else {
      if constexpr (i >= required)
        if (!in_use(rule, i)) return with_state<F>(rule, tile, use, state_..., nothing<F>);
      const Tensor& now = tile.slot->state[i];
      with_state<F>(rule, tile, use, state_...,
                    elements<F>(tile, now.defined() ? now : tile.slot->next_state[i]));
    }
  }
  /// body(to, from..., state..., fields...) for each element of a tile. Where gradients have
  /// stopped, moments decay into denormal numbers and would stay there: they count as 0.
  template <class F, std::size_t... I>
  static void loop(const Rule& rule, const Tile& tile, auto body, std::index_sequence<I...>, F* to,
                   std::same_as<const F*> auto... from) {
    with_state<F>(rule, tile, [&](auto... state_) {
      const auto& fields_ = tile.slot->fields;
      const simd::FlushDenormals flush;
      simd::for_each_exact(body, tile.count, to, from..., state_...,
                           static_cast<const F*>(elements<F>(tile, fields_[I]))...);
    });
  }

  /// What `update` receives in g's place, from all state and fields.
  template <class T>
  [[gnu::always_inline]] static T direction_of(const Rule& rule, const T& theta, const T& g,
                                               double t, auto&... rest) {
    if constexpr (!has_direction) {
      return g;
    } else {
      return [&]<std::size_t... I>(std::index_sequence<I...>, auto all)
          __attribute__((always_inline, flatten)) {
        return rule.direction(theta, g, std::get<I>(all)..., t);
      }
      (std::make_index_sequence<states + (direction_has_fields ? fields.count : 0)>(),
       std::tie(rest...));
    }
  }
  template <class F> static void update(const Rule& rule, const Tile& tile) {
    using T = Num<F>;
    const auto t = static_cast<double>(tile.slot->step);
    const F sign = maximizes(rule) ? -1 : 1;  // a choice would not vectorise
    std::array<double, quantities.count> q{};
    for (std::size_t i = 0; i < quantities.count; ++i) q[i] = tile.slot->quantities[i];
    auto body = [=](F & theta_, const F& g_, auto&... rest_)
        __attribute__((always_inline, flatten)) {
      T theta(typename T::Raw{}, theta_), g(typename T::Raw{}, sign * g_);
      [&]<std::size_t... Q>(std::index_sequence<Q...>, auto... rest)
          __attribute__((always_inline, flatten)) {
        g = direction_of<T>(rule, theta, g, t, rest...);
        rule.update(theta, g, rest..., q[Q]..., t);
        (keep(rest_, rest), ...);
      }
      (each_quantity, T(typename T::Raw{}, rest_)...);
      theta_ = theta.v;
    };
    const F* g = elements<F>(tile, tile.slot->grad);
    loop<F>(rule, tile, body, each_field, elements<F>(tile, tile.slot->parameter), g);
  }
  /// u = direction(...); the state stays as it is until `update` does the same again.
  template <class F> static void direct(const Rule& rule, const Tile& tile, const Tensor& u) {
    using T = Num<F>;
    const auto t = static_cast<double>(tile.slot->next_step);
    const F sign = maximizes(rule) ? -1 : 1;
    auto body = [=](F & u_, const F& theta_, const F& g_, const auto&... rest_)
        __attribute__((always_inline, flatten)) {
      const T theta(typename T::Raw{}, theta_), g(typename T::Raw{}, sign * g_);
      [&](auto... rest) __attribute__((always_inline, flatten)) {
        u_ = direction_of<T>(rule, theta, g, t, rest...).v;
      }
      (T(typename T::Raw{}, rest_)...);
    };
    const F *theta = elements<F>(tile, tile.slot->parameter),
            *g = elements<F>(tile, tile.slot->grad);
    loop<F>(rule, tile, body, each_direction_field, elements<F>(tile, u), theta, g);
  }

  // ---- the same formula, told
  template <class F> static void replay(Moment& moment, Lines& lines) {
    using T = Recorded<F>;
    using S = Recorded<double>;
    auto scalar = [&](const char* name, double value) { return S(name, value, &lines); };
    auto element = [&](const char* name, double value) {
      return T(name, static_cast<F>(value), &lines);
    };
    Rule plain;
    std::memcpy(static_cast<void*>(&plain), moment.hyper.data(), sizeof plain);
    auto state_of = [&](std::size_t i) {
      return in_use(plain, i) ? element(state.at[i], moment.state[i]) : T(0);
    };
    const S t = scalar("t", moment.t);
    T theta = element("theta", moment.theta);
    if (maximizes(plain)) {
      T g = element("g", moment.g);
      g = -g;
      moment.g = static_cast<double>(g.value());
    }
    [&]<std::size_t... H, std::size_t... I, std::size_t... D, std::size_t... J, std::size_t... Q>(
        std::index_sequence<H...>, std::index_sequence<I...>, std::index_sequence<D...>,
        std::index_sequence<J...>, std::index_sequence<Q...>) {
      const R<S> rule{RecordedOption{Rule::hyper.at[H], moment.hyper[H], &lines}...};
      std::array<T, states> s{state_of(I)...};
      auto g = [&] {
        if constexpr (has_direction)
          return let("u", rule.direction(T(theta), element("g", moment.g), s[I]...,
                                         element(fields.at[D], moment.fields[D])..., t));
        else return element("g", moment.g);
      };
      rule.update(theta, g(), s[I]..., element(fields.at[J], moment.fields[J])...,
                  scalar(quantities.at[Q], moment.quantities[Q])..., t);
      ((moment.state[I] = in_use(plain, I) ? static_cast<double>(s[I].value()) : moment.state[I]),
       ...);
    }
    (each_option, each_state, each_direction_field, each_field, each_quantity);
    moment.theta = static_cast<double>(theta.value());
  }
};

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
///   between the state and t. `whole` names the tensors of any shape that it keeps, `needs_loss`
///   says that it reads the loss;
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
      : OptimizerBase(Formula::info, &options) {
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
  using Formula = detail::Formula<R, Rule>;
  using Slot = detail::Slot;

  const Rule& rule(std::size_t mix) const {
    return *std::launder(static_cast<const Rule*>(options_at(mix)));
  }

  // ---- what the base asks
  void advance(At at) override {
    resolve(at);
    const Running running(*this);
    if (!begin_step(at)) return;
    {
      NoGradGuard no_grad;
      prepare();
    }
    commit_step();
    for_each_tile([this](const Tile& tile) {
      const Rule own = rule_of(*tile.slot);
      if (tile.slot->parameter.dtype() == float32) Formula::template update<float>(own, tile);
      else Formula::template update<double>(own, tile);
    });
    end_step();
  }
  bool uses(std::size_t mix, std::size_t i) const override { return Formula::in_use(rule(mix), i); }
  void check_options(const void* options, At at) const override {
    if constexpr (requires(Rule rule) { rule.check(at); })
      std::launder(static_cast<const Rule*>(options))->check(at);
  }
  detail::Replay replay() const override {
    return [](DType dtype, detail::Moment& moment, Lines& lines) {
      if (dtype == float32) Formula::template replay<float>(moment, lines);
      else Formula::template replay<double>(moment, lines);
    };
  }

  /// The options as they hold for one parameter.
  Rule rule_of(const Slot& slot) const {
    Rule own = rule(slot.mix);
    own.lr *= lr_factor_ * slot.lr_multiplier;
    return own;
  }
  // ---- before the fused pass
  void prepare() {
    if constexpr (requires(Rule rule, Whole & x) { rule.prepare(x); }) {
      for (Slot& slot : slots_) {
        if (!slot.grad.defined()) continue;
        const Rule rule = rule_of(slot);
        Whole x =
            whole_of(slot, Formula::maximizes(rule), [this, &slot] { return direction<>(slot); });
        rule.prepare(x);
        widen_fields(slot);
      }
    } else if constexpr (requires(Rule rule, std::span<Whole> x) { rule.prepare_group(x); }) {
      for (std::size_t mix = 0; mix < mixes_.size(); ++mix) {
        if (first_alike(mix) != mix) continue;
        std::vector<Whole> all;
        for (Slot& slot : slots_)
          if (slot.grad.defined() && first_alike(slot.mix) == mix)
            all.push_back(whole_of(slot, Formula::maximizes(rule(mix)), nullptr));
        if (!all.empty()) rule(mix).prepare_group({all.data(), all.size()});
      }
    }
  }
  /// The rule's `direction`, which the update then finds again.
  template <class = Rule> Tensor direction(Slot& slot) {
    if constexpr (Formula::has_direction) {
      if constexpr (Formula::direction_has_fields) widen_fields(slot);
      const Tensor u = zeros(slot.parameter.shape(), slot.parameter.dtype());
      const Rule own = rule_of(slot);
      const int64_t n = u.numel(), grain = descent::detail::kGrain;
      parallel_for(descent::detail::tiles_of(n), [&](int64_t i) {
        const Tile tile{&slot, i * grain, std::min(grain, n - i * grain)};
        if (u.dtype() == float32) Formula::template direct<float>(own, tile, u);
        else Formula::template direct<double>(own, tile, u);
      });
      return u;
    } else {
      return slot.grad;
    }
  }
};

}}  // namespace descent::optim
