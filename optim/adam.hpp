#pragma once
/// @file
/// Adam and the rules derived from it. m and v are running means of the gradient and of its square.
/// They start at 0, and the division by 1 - beta^t corrects this bias. See rules.hpp for the
/// letters.

#include "descent/optim/fused.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// Adam: Kingma & Ba 2015, Algorithm 1 (arXiv:1412.6980). With `amsgrad`: Reddi et al. 2018,
/// Algorithm 2. As in PyTorch, eps is added outside the root, after the bias correction, and weight
/// decay is added to the gradient. For decoupled weight decay see AdamWRule.
template <class S = double> struct AdamRule {
  /// - lr: the learning rate (alpha in the paper), at least 0
  /// - beta1: how much of m a step keeps, in [0, 1)
  /// - beta2: how much of v a step keeps, in [0, 1)
  /// - eps: added to the divisor (epsilon), at least 0
  /// - weight_decay: how much of theta is added to g (L2 decay), at least 0
  /// - amsgrad: divide by the largest v so far, not by the current one
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  Flag amsgrad = false, maximize = false;
  static constexpr auto name = "Adam";
  static constexpr Names hyper{"lr",           "beta1",   "beta2",   "eps",
                               "weight_decay", "amsgrad", "maximize"},
      state{"m", "v"}, optional{"v_max"};

  template <class T> void update(T& theta, T g, T& m, T& v, T& v_max, S t) const {
    g += weight_decay * theta;
    m = lerp(g, m, beta1);
    v = beta2 * v + (1 - beta2) * g * g;
    v_max = max(v_max, v);
    theta -= lr / (1 - pow(beta1, t)) * m /
             divisor(sqrt(where(amsgrad, v_max, v)) / sqrt(1 - pow(beta2, t)) + eps);
  }

  bool uses(std::size_t) const { return amsgrad; }
};

/// Adam with decoupled weight decay: Loshchilov & Hutter 2019, Algorithm 2 (arXiv:1711.05101), but
/// with the learning rate as a factor of the decay.
template <class S = double> struct AdamWRule {
  /// - lr: the learning rate (alpha in the paper), at least 0
  /// - beta1: how much of m a step keeps, in [0, 1)
  /// - beta2: how much of v a step keeps, in [0, 1)
  /// - eps: added to the divisor (epsilon), at least 0
  /// - weight_decay: a step multiplies theta by 1 - lr weight_decay first, at least 0
  /// - amsgrad: divide by the largest v so far, not by the current one
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 1e-2;
  Flag amsgrad = false, maximize = false;
  static constexpr auto name = "AdamW";
  static constexpr Names hyper = AdamRule<>::hyper, state{"m", "v"}, optional{"v_max"};

  template <class T> void update(T& theta, T g, T& m, T& v, T& v_max, S t) const {
    theta *= 1 - lr * weight_decay;
    m = lerp(g, m, beta1);
    v = beta2 * v + (1 - beta2) * g * g;
    v_max = max(v_max, v);
    theta -= lr / (1 - pow(beta1, t)) * m /
             divisor(sqrt(where(amsgrad, v_max, v)) / sqrt(1 - pow(beta2, t)) + eps);
  }

  bool uses(std::size_t) const { return amsgrad; }
};

/// Adam with the largest recent gradient in place of the root mean square: Kingma & Ba 2015,
/// Algorithm 2 (arXiv:1412.6980). eps is inside the maximum.
template <class S = double> struct AdamaxRule {
  /// - lr: the learning rate (alpha in the paper), at least 0
  /// - beta1: how much of m a step keeps, in [0, 1)
  /// - beta2: how much of u a step keeps, in [0, 1)
  /// - eps: added to |g| inside the maximum, at least 0
  /// - weight_decay: how much of theta is added to g (L2 decay), at least 0
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  Flag maximize = false;
  static constexpr auto name = "Adamax";
  static constexpr Names hyper{"lr", "beta1", "beta2", "eps", "weight_decay", "maximize"},
      state{"m", "u"};

  template <class T> void update(T& theta, T g, T& m, T& u, S t) const {
    g += weight_decay * theta;
    m = lerp(g, m, beta1);
    u = max(beta2 * u, abs(g) + eps);
    theta -= lr / (1 - pow(beta1, t)) * m / divisor(u);
  }
};

/// Adam with Nesterov momentum: Dozat 2016, Algorithm 2. mu_product is the product of all mu up to
/// this step.
template <class S = double> struct NAdamRule {
  /// - lr: the learning rate, at least 0
  /// - beta1: how much of m a step keeps, in [0, 1)
  /// - beta2: how much of v a step keeps, in [0, 1)
  /// - eps: added to the divisor, at least 0
  /// - weight_decay: how much theta decays in a step, at least 0
  /// - decoupled_weight_decay: multiply theta by 1 - lr weight_decay, as AdamW does; otherwise
  ///   weight_decay theta is added to g (L2 decay)
  /// - momentum_decay: how fast mu grows to beta1: mu(t) = beta1 (1 - 0.96^(t momentum_decay) / 2),
  ///   at least 0
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0, momentum_decay = 4e-3;
  Flag decoupled_weight_decay = false, maximize = false;
  static constexpr auto name = "NAdam";
  static constexpr Names state{"m", "v"}, tensor_state{"mu_product"}, quantities{"mu_product"},
      hyper{"lr",
            "beta1",
            "beta2",
            "eps",
            "weight_decay",
            "momentum_decay",
            "decoupled_weight_decay",
            "maximize"};

  S mu(S t) const { return beta1 * (1 - 0.5 * pow(0.96, t * momentum_decay)); }
  void prepare(Preparation& x) const;

  template <class T> void update(T& theta, T g, T& m, T& v, S mu_product, S t) const {
    const S now = let("mu", mu(t)), next = let("mu_next", mu(t + 1));
    theta *= where(decoupled_weight_decay, 1 - lr * weight_decay, 1);
    g += where(decoupled_weight_decay, 0, weight_decay) * theta;
    m = lerp(g, m, beta1);
    v = beta2 * v + (1 - beta2) * g * g;
    const T root = let("root", sqrt(1 / (1 - pow(beta2, t)) * v) + eps);
    theta -= lr * ((1 - now) / (1 - mu_product) * g + next / (1 - mu_product * next) * m) /
             divisor(root);
  }
};

/// Rectified Adam: Liu et al. 2020, Algorithm 2 (arXiv:1908.03265). While rho, the length of the
/// running mean, is at most 5, a step uses only the momentum. As in PyTorch, eps is added before
/// the bias correction.
template <class S = double> struct RAdamRule {
  /// - lr: the learning rate (alpha in the paper), at least 0
  /// - beta1: how much of m a step keeps, in [0, 1)
  /// - beta2: how much of v a step keeps, in [0, 1)
  /// - eps: added to the divisor, at least 0
  /// - weight_decay: how much theta decays in a step, at least 0
  /// - decoupled_weight_decay: multiply theta by 1 - lr weight_decay, as AdamW does; otherwise
  ///   weight_decay theta is added to g (L2 decay)
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  Flag decoupled_weight_decay = false, maximize = false;
  static constexpr auto name = "RAdam";
  static constexpr Names hyper{
      "lr", "beta1", "beta2", "eps", "weight_decay", "decoupled_weight_decay", "maximize"},
      state{"m", "v"};

  template <class T> void update(T& theta, T g, T& m, T& v, S t) const {
    theta *= where(decoupled_weight_decay, 1 - lr * weight_decay, 1);
    g += where(decoupled_weight_decay, 0, weight_decay) * theta;
    m = lerp(g, m, beta1);
    v = beta2 * v + (1 - beta2) * g * g;
    const S rho_inf = let("rho_inf", 2 / (1 - beta2) - 1);
    const S rho = let("rho", rho_inf - 2 * t * pow(beta2, t) / (1 - pow(beta2, t)));
    const S r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho));
    const S rate = lr / (1 - pow(beta1, t));
    theta -= rate * m * where(rho > 5, r * sqrt(1 - pow(beta2, t)) / divisor(sqrt(v) + eps), 1);
  }
};

template <> void NAdamRule<double>::prepare(Preparation& x) const;
extern template class Optimizer<AdamRule>;
extern template class Optimizer<AdamWRule>;
extern template class Optimizer<AdamaxRule>;
extern template class Optimizer<NAdamRule>;
extern template class Optimizer<RAdamRule>;
/// The optimizers with these rules: the options of Adam are the members of AdamRule, and so on.
using Adam = Optimizer<AdamRule>;
using AdamW = Optimizer<AdamWRule>;
using Adamax = Optimizer<AdamaxRule>;
using NAdam = Optimizer<NAdamRule>;
using RAdam = Optimizer<RAdamRule>;

}}  // namespace descent::optim
