#pragma once
/// @file
/// Update rules that work element by element and need no bias correction: descent with momentum,
/// and learning rates that adapt to each element.
///
/// The body of `update` is the published formula. theta is the parameter, g its gradient, and t =
/// 1, 2, ... counts the parameter's own steps; in a rule that can also do without state, it counts
/// from the first step with state. State tensors start at 0. Options and defaults are PyTorch's
/// where it has the rule. An option that is out of range is a ValueError.
///
/// An option is a hyper-parameter of the rule; `hyper` lists their names. T is the type of an
/// element, S that of a scalar; SGDRule<double> holds the options as numbers. `update` gets theta,
/// g, the state in the order of its names, and t. `optional` lists state that only some options
/// need: its i-th tensor exists if `uses(i)`. where(c, a, b) is c ? a : b; a / divisor(x) is a / x,
/// or 0 unless x > 0; lerp(a, b, w) is (1 - w) a + w b; let(name, x) is x, which an explanation
/// shows on its own line. See num.hpp.

#include "descent/optim/fused.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// Stochastic gradient descent with momentum: Sutskever et al. 2013, section 2. As in PyTorch, the
/// learning rate is outside the velocity b, and the first velocity is the gradient, without
/// dampening.
template <class S = double> struct SGDRule {
  /// - lr: the learning rate, at least 0
  /// - momentum: how much of the velocity b a step keeps, at least 0; 0: there is no velocity
  /// - dampening: the velocity grows by 1 - dampening times the gradient
  /// - weight_decay: how much of theta is added to g (L2 decay), at least 0
  /// - nesterov: Nesterov's momentum, which needs momentum > 0 and dampening = 0
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  Flag nesterov = false, maximize = false;
  static constexpr auto name = "SGD";
  static constexpr Names hyper{"lr",           "momentum", "dampening",
                               "weight_decay", "nesterov", "maximize"},
      state{}, optional{"b"};

  template <class T> void update(T& theta, T g, T& b, S t) const {
    g += weight_decay * theta;
    b = where(t == 1, g, momentum * b + (1 - dampening) * g);
    theta -= lr * where(momentum == 0, g, where(nesterov, g + momentum * b, b));
  }

  bool uses(std::size_t) const { return momentum != 0; }
  void check(At at) const {
    detail::require(!nesterov || (momentum > 0 && dampening == 0), "SGD: nesterov", 1,
                    "momentum above 0 and dampening 0 beside it", at);
  }
};

/// Adagrad: Duchi, Hazan & Singer 2011, section 1.1 (diagonal), with a decay of the learning rate.
template <class S = double> struct AdagradRule {
  /// - lr: the learning rate, at least 0
  /// - lr_decay: the learning rate of step t is lr / (1 + (t - 1) lr_decay), at least 0
  /// - weight_decay: how much of theta is added to g (L2 decay), at least 0
  /// - initial_accumulator_value: the sum of squares s before the first step, at least 0
  /// - eps: added to the divisor, at least 0
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-2, lr_decay = 0, weight_decay = 0, initial_accumulator_value = 0, eps = 1e-10;
  Flag maximize = false;
  static constexpr auto name = "Adagrad";
  static constexpr Names hyper{"lr",  "lr_decay", "weight_decay", "initial_accumulator_value",
                               "eps", "maximize"},
      state{"s"};

  template <class T> void update(T& theta, T g, T& s, S t) const {
    g += weight_decay * theta;
    s = where(t == 1, initial_accumulator_value, s) + g * g;
    theta -= lr / (1 + (t - 1) * lr_decay) * g / divisor(sqrt(s) + eps);
  }
};

/// RMSprop: Hinton 2012, lecture 6e. With `centered`: Graves 2013, equations 38 to 45
/// (arXiv:1308.0850).
template <class S = double> struct RMSpropRule {
  /// - lr: the learning rate, at least 0
  /// - alpha: how much of v, the running mean of g^2, a step keeps, at least 0
  /// - eps: added to the divisor, at least 0
  /// - weight_decay: how much of theta is added to g (L2 decay), at least 0
  /// - momentum: how much of the velocity b a step keeps, at least 0; 0: there is no velocity
  /// - centered: divide by the standard deviation of g, not by its root mean square
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-2, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0;
  Flag centered = false, maximize = false;
  static constexpr auto name = "RMSprop";
  static constexpr Names hyper{"lr",       "alpha",    "eps",     "weight_decay",
                               "momentum", "centered", "maximize"},
      state{"v"}, optional{"g_avg", "b"};

  template <class T> void update(T& theta, T g, T& v, T& g_avg, T& b, S) const {
    g += weight_decay * theta;
    v = alpha * v + (1 - alpha) * g * g;
    g_avg = lerp(g, g_avg, alpha);
    const T variance = max(v - g_avg * g_avg, 0);  // only rounding makes it negative
    const T step = g / divisor(sqrt(where(centered, variance, v)) + eps);
    b = momentum * b + step;
    theta -= lr * where(momentum == 0, step, b);
  }

  bool uses(std::size_t i) const { return i == 0 ? bool(centered) : momentum != 0; }
};

/// Adadelta: Zeiler 2012, Algorithm 1 (arXiv:1212.5701).
template <class S = double> struct AdadeltaRule {
  /// - lr: a factor on the paper's step, at least 0
  /// - rho: how much of v and u, the running means of g^2 and of delta^2, a step keeps, in [0, 1]
  /// - eps: added inside both roots (epsilon), at least 0
  /// - weight_decay: how much of theta is added to g (L2 decay), at least 0
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1, rho = 0.9, eps = 1e-6, weight_decay = 0;
  Flag maximize = false;
  static constexpr auto name = "Adadelta";
  static constexpr Names hyper{"lr", "rho", "eps", "weight_decay", "maximize"}, state{"v", "u"};

  template <class T> void update(T& theta, T g, T& v, T& u, S) const {
    g += weight_decay * theta;
    v = rho * v + (1 - rho) * g * g;
    const T delta = let("delta", sqrt(u + eps) / divisor(sqrt(v + eps)) * g);
    u = rho * u + (1 - rho) * delta * delta;
    theta -= lr * delta;
  }

  void check(At at) const {
    detail::require(rho >= 0 && rho <= 1, "Adadelta: rho", rho, "[0, 1]", at);
  }
};

/// Resilient backpropagation: Riedmiller & Braun 1993, without weight backtracking. Each element
/// has its own step length eta, which is lr at first; it grows while the sign of the gradient stays
/// the same, and shrinks when the sign changes. While the learning rate is 0, theta and eta do not
/// change; an element begins in the first step whose learning rate is above 0.
template <class S = double> struct RpropRule {
  /// - lr: the first step length, at least 0
  /// - eta_minus: the factor on eta when the sign of the gradient has changed, in (0, 1)
  /// - eta_plus: the factor on eta when the sign of the gradient is the same, above 1
  /// - step_min: the smallest step length, at least 0
  /// - step_max: the largest step length, at least step_min
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-2, eta_minus = 0.5, eta_plus = 1.2, step_min = 1e-6, step_max = 50;
  Flag maximize = false;
  static constexpr auto name = "Rprop";
  static constexpr Names hyper{"lr", "eta_minus", "eta_plus", "step_min", "step_max", "maximize"},
      state{"g_prev", "eta"};
  static constexpr double smallest = 0x1p-126;  // float32 loops flush smaller ones to 0

  template <class T> void update(T& theta, T g, T& g_prev, T& eta, S) const {
    const T agreement = g * g_prev;
    const T change = where(agreement > 0, T(eta_plus), where(agreement < 0, T(eta_minus), 1));
    const S least = where(step_min > smallest, step_min, smallest);  // eta = 0: not begun
    const T next = min(max(where(eta > 0, eta, lr) * change, least), step_max);
    eta = where(lr > 0, next, eta);
    g = where(agreement < 0, 0, g);
    theta -= where(lr > 0, sign(g) * eta, 0);
    g_prev = g;
  }

  void check(At at) const {
    detail::require(eta_minus > 0 && eta_minus < 1, "Rprop: eta_minus", eta_minus, "(0, 1)", at);
    detail::require(eta_plus > 1, "Rprop: eta_plus", eta_plus, "a number above 1", at);
    detail::require(step_min <= step_max, "Rprop: step_min", step_min, "at most step_max", at);
  }
};

/// Averaged stochastic gradient descent: Polyak & Juditsky 1992, with the learning rates of Bottou
/// 2010, section 4. ax is the average of the parameter's values from step t0 + 2 on; before, it
/// equals the parameter. A new lr takes effect in the next step.
template <class S = double> struct ASGDRule {
  /// - lr: the first learning rate (gamma_0), at least 0
  /// - lambd: how fast the learning rate and theta decay (lambda), at least 0
  /// - alpha: the learning rate of step t is lr / (1 + lambd lr (t - 1))^alpha, at least 0
  /// - t0: the average begins with step t0 + 2
  /// - weight_decay: how much of theta is added to g (L2 decay), at least 0
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-2, lambd = 1e-4, alpha = 0.75, t0 = 1e6, weight_decay = 0;
  Flag maximize = false;
  static constexpr auto name = "ASGD";
  static constexpr Names hyper{"lr", "lambd", "alpha", "t0", "weight_decay", "maximize"},
      state{"ax"};

  template <class T> void update(T& theta, T g, T& ax, S t) const {
    const S eta = let("eta", lr / pow(1 + lambd * lr * (t - 1), alpha));
    const S mu = let("mu", 1 / max(1, t - 1 - t0));
    g += weight_decay * theta;
    theta *= 1 - lambd * eta;
    theta -= eta * g;
    ax = lerp(ax, theta, mu);
  }
};

/// Lion: Chen et al. 2023, Algorithm 2 (arXiv:2302.06675). Weight decay is decoupled.
template <class S = double> struct LionRule {
  /// - lr: the learning rate (eta in the paper), at least 0
  /// - beta1: the weight of m, against that of g, in the sign that is the step, in [0, 1)
  /// - beta2: how much of m a step keeps, in [0, 1)
  /// - weight_decay: how much theta decays in a step, times lr (lambda), at least 0
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-4, beta1 = 0.9, beta2 = 0.99, weight_decay = 0;
  Flag maximize = false;
  static constexpr auto name = "Lion";
  static constexpr Names hyper{"lr", "beta1", "beta2", "weight_decay", "maximize"}, state{"m"};

  template <class T> void update(T& theta, T g, T& m, S) const {
    theta -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * theta);
    m = beta2 * m + (1 - beta2) * g;
  }
};

extern template class Optimizer<SGDRule>;
extern template class Optimizer<AdagradRule>;
extern template class Optimizer<RMSpropRule>;
extern template class Optimizer<AdadeltaRule>;
extern template class Optimizer<RpropRule>;
extern template class Optimizer<ASGDRule>;
extern template class Optimizer<LionRule>;
/// The optimizers with these rules: the options of SGD are the members of SGDRule, and so on.
using SGD = Optimizer<SGDRule>;
using Adagrad = Optimizer<AdagradRule>;
using RMSprop = Optimizer<RMSpropRule>;
using Adadelta = Optimizer<AdadeltaRule>;
using Rprop = Optimizer<RpropRule>;
using ASGD = Optimizer<ASGDRule>;
using Lion = Optimizer<LionRule>;

}}  // namespace descent::optim
