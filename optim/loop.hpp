#pragma once
/// @file
/// A rule's formula as one vectorised pass over a part of a parameter. For Adam,
///
///     Loop<AdamRule>::update<float>(rule, slot, {array, begin, count});
///
/// does the following, with the widest instructions that the machine has:
///
///     for (int64_t i = begin; i < begin + count; ++i)
///       rule.update(theta[i], g[i], m[i], v[i], v_max[i], t);

#include <array>
#include <tuple>

#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim { namespace detail {

/// What the formula reads in place of a state tensor that is not in use. What the formula writes to
/// it is dropped.
template <class F> constexpr simd::Scalar<F> nothing{F(0)};

/// Writes back the value that a formula has changed; a constant drops it.
template <class F> void keep(F& element, Num<F> value) { element = value.v; }
template <class F> void keep(const F&, Num<F>) {}

/// The loops over elements of the rule R.
template <template <class> class R, class Rule = R<double>> struct Loop {
  using Is = Traits<R, Rule>;

  template <class F> static void update(const Rule& rule, const Slot& slot, const Tile& tile) {
    using T = Num<F>;
    const auto t = static_cast<double>(slot.step);
    const F sign = Is::maximizes(rule) ? -1 : 1;  // an if in the loop would not vectorise
    std::array<double, Is::quantities.count> q{};
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = slot.quantities[i];
    auto body = [=](F & theta_, const F& g_, auto&... rest_)
        __attribute__((always_inline, flatten)) {
      T theta(typename T::Raw{}, theta_), g(typename T::Raw{}, sign * g_);
      [&]<std::size_t... Q>(std::index_sequence<Q...>, auto... rest)
          __attribute__((always_inline, flatten)) {
        g = direction_of<T>(rule, theta, g, t, rest...);
        rule.update(theta, g, rest..., q[Q]..., t);
        (keep(rest_, rest), ...);
      }
      (Is::each_quantity, T(typename T::Raw{}, rest_)...);
      theta_ = theta.v;
    };
    const F* g = elements<F>(tile, slot.grad);
    over<F>(rule, slot, tile, body, Is::each_field, elements<F>(tile, slot.parameter), g);
  }

  /// u = direction(...). The state does not change; `update` computes the same once more.
  template <class F>
  static void direct(const Rule& rule, const Slot& slot, const Tile& tile, const Tensor& u) {
    using T = Num<F>;
    const auto t = static_cast<double>(slot.next_step);
    const F sign = Is::maximizes(rule) ? -1 : 1;
    auto body = [=](F & u_, const F& theta_, const F& g_, const auto&... rest_)
        __attribute__((always_inline, flatten)) {
      const T theta(typename T::Raw{}, theta_), g(typename T::Raw{}, sign * g_);
      [&](auto... rest) __attribute__((always_inline, flatten)) {
        u_ = direction_of<T>(rule, theta, g, t, rest...).v;
      }
      (T(typename T::Raw{}, rest_)...);
    };
    const F *theta = elements<F>(tile, slot.parameter), *g = elements<F>(tile, slot.grad);
    over<F>(rule, slot, tile, body, Is::each_direction_field, elements<F>(tile, u), theta, g);
  }

 private:
  template <class F> static F* elements(const Tile& tile, const Tensor& x) {
    return elements_of<F>(x) + tile.begin;
  }

  /// What `update` receives in place of g; `rest` are all state tensors and fields.
  template <class T>
  [[gnu::always_inline]] static T direction_of(const Rule& rule, const T& theta, const T& g,
                                               double t, auto&... rest) {
    if constexpr (!Is::has_direction) {
      return g;
    } else {
      return [&]<std::size_t... I>(std::index_sequence<I...>, auto all)
          __attribute__((always_inline, flatten)) {
        return rule.direction(theta, g, std::get<I>(all)..., t);
      }
      (std::make_index_sequence<Is::states + Is::each_direction_field.size()>(), std::tie(rest...));
    }
  }

  /// Calls body(to, from..., state..., fields...) for each element of a tile. Where no more
  /// gradients come, moments would decay into denormal numbers and stay there: these count as 0.
  template <class F, std::size_t... I>
  static void over(const Rule& rule, const Slot& slot, const Tile& tile, auto body,
                   std::index_sequence<I...>, F* to, std::same_as<const F*> auto... from) {
    with_state<F>(rule, slot, tile, [&](auto... state) {
      const simd::FlushDenormals flush;
      simd::for_each_exact(body, tile.count, to, from..., state...,
                           static_cast<const F*>(elements<F>(tile, slot.fields[I]))...);
    });
  }
  /// Calls use(state...) with a pointer to each state tensor (before the first step, to zeros), or
  /// `nothing` for one that is not in use.
  template <class F, class Use, class... P>
  static void with_state(const Rule& rule, const Slot& slot, const Tile& tile, Use use,
                         P... state) {
    constexpr std::size_t i = sizeof...(P);
    if constexpr (i == Is::states) {
      use(state...);
    } else {
      if constexpr (i >= Is::required)
        if (!Is::in_use(rule, i)) return with_state<F>(rule, slot, tile, use, state..., nothing<F>);
      const Tensor& now = slot.state[i];
      with_state<F>(rule, slot, tile, use, state...,
                    elements<F>(tile, now.defined() ? now : slot.next_state[i]));
    }
  }
};

}}}  // namespace descent::optim::detail
