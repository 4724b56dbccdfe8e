#pragma once
/// @file
/// Update rules that need more than one element at a time: a norm, the means of rows and columns,
/// an orthogonal factor, the loss. `prepare` computes these from whole tensors. See rules.hpp for
/// the letters and the options.

#include "descent/optim/fused.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// Layer-wise adaptive rate scaling: You, Gitman & Ginsburg 2017, Algorithm 1 (arXiv:1708.03888).
template <class S = double> struct LARSRule {
  /// - lr: the learning rate before it is scaled, at least 0
  /// - momentum: how much of the velocity b a step keeps, at least 0
  /// - weight_decay: how much of theta is added to g, at least 0
  /// - trust_coefficient: the factor (eta in the paper) of the scale |theta| / (|g| + weight_decay
  ///   |theta|), at least 0
  /// - nesterov: Nesterov's momentum
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-3, momentum = 0.9, weight_decay = 0, trust_coefficient = 1e-3;
  Flag nesterov = false, maximize = false;
  static constexpr auto name = "LARS";
  static constexpr Names hyper{"lr",       "momentum", "weight_decay", "trust_coefficient",
                               "nesterov", "maximize"},
      state{"b"}, quantities{"norm_theta", "norm_g"};

  void prepare(Preparation& x) const;
  template <class T> void update(T& theta, T g, T& b, S norm_theta, S norm_g, S) const {
    const S ratio = trust_coefficient * norm_theta / (norm_g + weight_decay * norm_theta);
    const S trust = let("trust", where(min(norm_theta, norm_g) > 0, ratio, 1));
    const T step = let("step", lr * trust * (g + weight_decay * theta));
    b = momentum * b + step;
    theta -= where(lr > 0, where(nesterov, step + momentum * b, b), 0);
  }
};

/// Layer-wise adaptive moments: You et al. 2020, Algorithm 2 (arXiv:1904.00962), with phi(x) = x.
template <class S = double> struct LAMBRule {
  /// - lr: the learning rate before it is scaled by |theta| / |u|, at least 0
  /// - beta1: how much of m a step keeps, in [0, 1)
  /// - beta2: how much of v a step keeps, in [0, 1)
  /// - eps: added to the divisor (epsilon), at least 0
  /// - weight_decay: how much of theta is added to the direction u (lambda), at least 0
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  Flag maximize = false;
  static constexpr auto name = "LAMB";
  static constexpr Names hyper{"lr", "beta1", "beta2", "eps", "weight_decay", "maximize"},
      state{"m", "v"}, quantities{"norm_theta", "norm_u"};

  template <class T> T direction(T theta, T g, T& m, T& v, S t) const {
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    return m / (1 - pow(beta1, t)) / divisor(sqrt(v / (1 - pow(beta2, t))) + eps) +
           weight_decay * theta;
  }
  void prepare(Preparation& x) const;
  template <class T> void update(T& theta, T u, T&, T&, S norm_theta, S norm_u, S) const {
    const S trust = let("trust", where(min(norm_theta, norm_u) > 0, norm_theta / norm_u, 1));
    theta -= lr * trust * u;
  }
};

/// Adafactor: Shazeer & Stern 2018, Algorithms 4 and 5 (arXiv:1804.04235). r and c are running
/// means of g^2, averaged along each row and along each column (of the last two axes). For a vector
/// r is the running mean of g^2 itself, and c and mean_r are 1.
template <class S = double> struct AdafactorRule {
  /// - lr: the largest relative step size: step t has min(lr, 1 / sqrt(t)), at least 0
  /// - beta2_decay: in step t the running means give g^2 the weight t^beta2_decay, at most 0
  /// - eps1: the smallest divisor (epsilon_1), at least 0; 0 stands for the epsilon of the dtype
  /// - eps2: the smallest scale of a parameter (epsilon_2), at least 0
  /// - d: the largest root mean square of an update before it is scaled, at least 1
  /// - weight_decay: a step multiplies theta by 1 - lr weight_decay first, at least 0
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-2, beta2_decay = -0.8, eps1 = 0, eps2 = 1e-3, d = 1, weight_decay = 0;
  Flag maximize = false;
  static constexpr auto name = "Adafactor";
  static constexpr Names hyper{"lr", "beta2_decay",  "eps1",    "eps2",
                               "d",  "weight_decay", "maximize"},
      state{}, tensor_state{"r", "c", "v"}, fields{"r", "c", "mean_r"},
      quantities{"rms_theta", "rms_u"};

  template <class T> T direction(T, T g, T r, T c, T mean_r, S) const {
    const T eps = let("eps1", where(eps1 > 0, T(eps1), epsilon(g)));
    const T v = let("v", r / max(mean_r, eps) * c);
    return g / divisor(sqrt(max(v, eps * eps)));
  }
  void prepare(Preparation& x) const;
  template <class T> void update(T& theta, T u, T, T, T, S rms_theta, S rms_u, S t) const {
    const S alpha = let("alpha", max(eps2, rms_theta) * min(lr, 1 / sqrt(t)));
    theta *= 1 - lr * weight_decay;
    theta -= alpha / max(1, rms_u / d) * u;
  }
  void check(At at) const {
    detail::require(beta2_decay <= 0, "Adafactor: beta2_decay", beta2_decay, "at most 0", at);
    detail::require(d >= 1, "Adafactor: d", d, "at least 1", at);
  }
};

/// The factor on Muon's learning rate for a matrix of shape [n, m]. `original`: sqrt(max(1, n /
/// m)); `match_rms_adamw`: 0.2 sqrt(max(n, m)), so that steps are as large as AdamW's;
/// `spectral_unclamped`: sqrt(n / m).
enum class MuonScale { original, match_rms_adamw, spectral_unclamped };

/// Muon: Jordan et al. 2024. A step is the momentum, made almost orthogonal by ns_steps
/// Newton-Schulz iterations X = a X + (b A + c A^2) X with A = X X^T, in the parameter's own dtype.
/// Each parameter must be a matrix (ValueError).
template <class S = double> struct MuonRule {
  /// - lr: the learning rate, before the factor that adjust_lr chooses, at least 0
  /// - weight_decay: a step multiplies theta by 1 - lr weight_decay first, at least 0
  /// - momentum: how much of the running mean of the gradient a step keeps, at least 0
  /// - nesterov: Nesterov's momentum
  /// - a, b, c: the coefficients of the iteration
  /// - eps: the smallest norm that the momentum is divided by before the iterations, at least 0
  /// - ns_steps: the number of iterations, a whole number from 0 to 99
  /// - adjust_lr: the factor on the learning rate
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1e-3, weight_decay = 0.1, momentum = 0.95;
  Flag nesterov = true;
  S a = 3.4445, b = -4.7750, c = 2.0315, eps = 1e-7, ns_steps = 5;
  Choice<MuonScale, 3> adjust_lr = MuonScale::original;
  Flag maximize = false;
  static constexpr auto name = "Muon";
  static constexpr Names hyper{"lr", "weight_decay", "momentum", "nesterov",  "a",       "b",
                               "c",  "eps",          "ns_steps", "adjust_lr", "maximize"},
      state{"b"}, fields{"o"}, quantities{"scale"};

  template <class T> T direction(T, T g, T& b_, S) const {
    b_ = lerp(g, b_, momentum);
    return where(nesterov, g + momentum * (b_ - g), b_);
  }
  void prepare(Preparation& x) const;
  template <class T> void update(T& theta, T, T&, T o, S scale, S) const {
    theta *= 1 - lr * weight_decay;
    theta -= lr * scale * o;
  }
  void check(At at) const {
    detail::require(ns_steps >= 0 && ns_steps < 100 && ns_steps == int(ns_steps), "Muon: ns_steps",
                    ns_steps, "a whole number from 0 to 99", at);
  }
  /// Why a parameter is unsuitable; null if it is not.
  static const char* refuses(const Tensor& parameter);
};

/// Polyak's step: Polyak 1987, section 5.3. The learning rate is that at which the loss would fall
/// to f_star if it were linear, but at most lr. The squared norm of the gradient is taken over all
/// parameters that have the same options.
template <class S = double> struct PolyakRule {
  /// - lr: the largest learning rate, at least 0
  /// - f_star: the least value of the loss, or with `maximize` the largest
  /// - maximize: ascend instead of descend: the formula receives -g
  S lr = 1, f_star = 0;
  Flag maximize = false;
  static constexpr auto name = "Polyak";
  static constexpr bool needs_loss = true;
  static constexpr Names hyper{"lr", "f_star", "maximize"}, state{}, quantities{"loss", "norm2_g"};

  void prepare_group(std::span<Preparation> group) const;
  template <class T> void update(T& theta, T g, S loss, S norm2_g, S) const {
    const S gap = where(maximize, f_star - loss, loss - f_star);
    const S gamma = let("gamma", where(norm2_g > 0, min(lr, max(0, gap) / norm2_g), 0));
    theta -= gamma * g;
  }
};

template <> void LARSRule<double>::prepare(Preparation& x) const;
template <> void LAMBRule<double>::prepare(Preparation& x) const;
template <> void AdafactorRule<double>::prepare(Preparation& x) const;
template <> void MuonRule<double>::prepare(Preparation& x) const;
template <> const char* MuonRule<double>::refuses(const Tensor& parameter);
template <> void PolyakRule<double>::prepare_group(std::span<Preparation> group) const;
extern template class Optimizer<LARSRule>;
extern template class Optimizer<LAMBRule>;
extern template class Optimizer<AdafactorRule>;
extern template class Optimizer<MuonRule>;
extern template class Optimizer<PolyakRule>;
/// The optimizers with these rules: the options of LARS are the members of LARSRule, and so on.
using LARS = Optimizer<LARSRule>;
using LAMB = Optimizer<LAMBRule>;
using Adafactor = Optimizer<AdafactorRule>;
using Muon = Optimizer<MuonRule>;
using Polyak = Optimizer<PolyakRule>;

}}  // namespace descent::optim
