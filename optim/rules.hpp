#pragma once
#include "descent/optim/optimizer.hpp"

// Update rules. The body of `update` is the published formula for one element: theta the parameter,
// g its gradient, t = 1, 2, ... the parameter's own step; state tensors start at 0.

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// Stochastic gradient descent with momentum: Sutskever et al. 2013, section 2, with the learning
/// rate outside the velocity and the first velocity undamped, as in PyTorch. Nesterov's needs
/// momentum > 0 and no dampening.
template <class S = double> struct SGDRule {
  S lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0, nesterov = 0, maximize = 0;
  static constexpr Names hyper{"lr",           "momentum", "dampening",
                               "weight_decay", "nesterov", "maximize"},
      state{"b"};

  template <class T> void update(T& theta, T g, T& b, S t) const {
    g = where(maximize != 0, -g, g);
    g += weight_decay * theta;
    b = where(t == 1 || momentum == 0, g, momentum * b + (1 - dampening) * g);
    theta -= lr * where(nesterov != 0, g + momentum * b, b);
  }

  bool stateless() const { return momentum == 0; }
  void check(At at) const {
    detail::require(lr >= 0, "SGD: lr", lr, "at least 0", at);
    detail::require(momentum >= 0, "SGD: momentum", momentum, "at least 0", at);
    detail::require(weight_decay >= 0, "SGD: weight_decay", weight_decay, "at least 0", at);
    detail::require(nesterov == 0 || (momentum > 0 && dampening == 0), "SGD: nesterov", nesterov,
                    "momentum above 0 and dampening 0 beside it", at);
  }
};

/// Adam. Kingma & Ba 2015, Algorithm 1 (arXiv:1412.6980); eps outside the root, after the bias
/// correction, and weight decay added to the gradient, as in PyTorch.
template <class S = double> struct AdamRule {
  S lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0, maximize = 0;
  static constexpr Names hyper{"lr", "beta1", "beta2", "eps", "weight_decay", "maximize"},
      state{"m", "v"};

  template <class T> void update(T& theta, T g, T& m, T& v, S t) const {
    g = where(maximize != 0, -g, g);
    g += weight_decay * theta;
    m += (1 - beta1) * (g - m);
    v = beta2 * v + (1 - beta2) * g * g;
    theta -= lr / (1 - pow(beta1, t)) * m / (sqrt(v) / sqrt(1 - pow(beta2, t)) + eps);
  }

  void check(At at) const {
    detail::require(lr >= 0, "Adam: lr", lr, "at least 0", at);
    detail::require(beta1 >= 0 && beta1 < 1, "Adam: beta1", beta1, "[0, 1)", at);
    detail::require(beta2 >= 0 && beta2 < 1, "Adam: beta2", beta2, "[0, 1)", at);
    detail::require(eps >= 0, "Adam: eps", eps, "at least 0", at);
    detail::require(weight_decay >= 0, "Adam: weight_decay", weight_decay, "at least 0", at);
  }
};

extern template class Optimizer<SGDRule>;
extern template class Optimizer<AdamRule>;
using SGD = Optimizer<SGDRule>;
using Adam = Optimizer<AdamRule>;

}}  // namespace descent::optim
