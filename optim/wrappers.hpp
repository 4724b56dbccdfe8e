#pragma once
/// @file
/// Around an optimizer: parameters, groups and rates are its own, and once it has gone, all that
/// needs it is a ValueError. So are options out of range; they are not saved with the state.

#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// One step for several micro-batches, with the gradient of one large batch:
///
///     optim::Accumulate accumulate(opt, 4);
///     for (auto [x, y] : loader) accumulate.backward(loss(model(x), y), x.size(0));
///     accumulate.flush();  // the last window may be smaller
///
/// The losses are means over n_i examples, and so is the gradient: sum n_i g_i / sum n_i, whatever
/// the sizes. zero_grad() comes before each window, `step(mean loss)` at its end.
class Accumulate : Pinned {
 public:
  /// What a full window calls to step, with the mean loss.
  using Step = std::function<void(const Tensor& loss)>;
  /// `batches`, at least 1, make a window. `step` is optimizer.step(loss) unless given: yours may
  /// clip the gradients before, or step a scheduler after.
  Accumulate(OptimizerBase& optimizer, int64_t batches, Step step = nullptr, At at = At::here());
  /// loss.backward(), weighted by the `examples` (at least 1) that it is the mean of; whether that
  /// made the window full, and a step. If backward or the step throws, the window and its gradients
  /// are what they were: until then a second copy of them is kept.
  bool backward(const In& loss, int64_t examples);
  /// Steps with what the open window has, if anything; without it, the next epoch would fill it.
  bool flush();
  /// Micro-batches in the open window.
  [[nodiscard]] int64_t pending() const { return window_.batches; }
  /// The open window: "Accumulate/batches", ".../first" and ".../examples" (how many examples the
  /// first micro-batch and all had), ".../loss" (the sum over them), and while it is open the
  /// gradients so far, ".../<parameter>/grad".
  [[nodiscard]] NamedTensors state_dict() const;
  /// Goes on within that window: the parameters get its gradients. ValueError, and nothing changed,
  /// if it does not fit.
  void load_state_dict(const NamedTensors& state, At at = At::here());

 private:
  /// The micro-batches so far: how many, n_1, sum n_i, sum n_i loss_i.
  struct Window {
    int64_t batches = 0;
    double first = 0, examples = 0, loss = 0;
  };
  struct Open;
  class Undo;

  detail::OptimizerRef optimizer_;
  int64_t batches_;
  Step step_;
  Window window_;
};

/// How often the slow weights move, and how far.
struct LookaheadOptions {
  int64_t k = 5;       ///< at least 1
  double alpha = 0.5;  ///< in [0, 1]
};
/// Follows an inner optimizer: after every k steps that it carried out, slow += alpha (fast -
/// slow), fast = slow; fast are the parameters, slow at first too. Zhang et al. 2019, Algorithm 1
/// (arXiv:1907.08610).
class Lookahead : Pinned {
 public:
  /// Around `inner`, whose steps are taken here from now on.
  explicit Lookahead(OptimizerBase& inner, LookaheadOptions options = {}, At at = At::here());
  ~Lookahead();
  /// A step of the inner optimizer, and after every k of them one of the slow weights.
  void step(At at = At::here());
  void step(const In& loss);
  double step(const Closure& closure, At at = At::here());
  /// Calls the function of the inner optimizer.
  void zero_grad(bool set_to_none = true) { inner_.get().zero_grad(set_to_none); }
  /// The inner optimizer.
  OptimizerBase& inner() { return inner_.get(); }
  /// "Lookahead/steps" (int64), "Lookahead/<parameter>/slow", and the inner optimizer's entries.
  [[nodiscard]] NamedTensors state_dict() const;
  /// Takes a copy. ValueError, and nothing changed, if it does not fit.
  void load_state_dict(const NamedTensors& state, At at = At::here());

 private:
  double around(const std::function<double()>& step);
  [[nodiscard]] NamedTensors complete() const;

  detail::OptimizerRef inner_;
  LookaheadOptions options_;
  // Slow weights, each made in the first step that sees its parameter, and the count.
  NamedTensors state_;
};

/// How far SAM goes from theta before it takes the gradient.
struct SAMOptions {
  double rho = 0.05;      ///< at least 0
  bool adaptive = false;  ///< scale e by the size of each element
};
/// Sharpness-aware minimization: the base optimizer's step from theta, with the gradient at theta +
/// e, e = rho g / ||g|| over all parameters: Foret et al. 2021, Algorithm 1 (arXiv:2010.01412).
/// Adaptive: e = rho theta^2 g / || |theta| g ||, Kwon et al. 2021, eq. 3 (arXiv:2102.11600). Made
/// for minimizing: not with `maximize`.
class SAM : Pinned {
 public:
  /// Around `base`.
  explicit SAM(OptimizerBase& base, SAMOptions options = {}, At at = At::here());
  /// Calls `closure` at theta and at theta + e, after a zero_grad() each; puts theta back, bit for
  /// bit, also if it throws; steps, told the second loss; returns the first. e is 0 without a
  /// gradient, and if ||g|| is 0 or not finite.
  double step(const Closure& closure, At at = At::here());
  /// Calls the function of the base optimizer.
  void zero_grad(bool set_to_none = true) { base_.get().zero_grad(set_to_none); }
  /// The base optimizer.
  OptimizerBase& base() { return base_.get(); }
  /// The base optimizer's: SAM itself has none.
  [[nodiscard]] NamedTensors state_dict() const { return base_.get().state_dict(); }
  void load_state_dict(const NamedTensors& state, At at = At::here()) {
    base_.get(at).load_state_dict(state, at);
  }

 private:
  void climb(const NamedTensors& theta) const;

  detail::OptimizerRef base_;
  SAMOptions options_;
};

}}  // namespace descent::optim
