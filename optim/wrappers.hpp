#pragma once
/// @file
/// Classes around an optimizer, which keeps the parameters, groups and learning rates. It must
/// outlive them: once it has ended, what needs it throws a ValueError. Options out of range are a
/// ValueError too; a state dict does not hold options.

#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// One step for several micro-batches, with the gradient of one large batch:
///
///     optim::Accumulate accumulate(opt, 4);
///     for (auto [x, y] : loader) accumulate.backward(loss(model(x), y), x.size(0));
///     accumulate.flush();  // the last window may be smaller
///
/// A window is the micro-batches of one step. Each loss is a mean over n_i examples, and the step's
/// gradient is the mean over all of them, sum n_i g_i / sum n_i, also if the n_i differ. A window
/// begins with zero_grad() and ends with `step(mean loss)`.
class Accumulate : public Loadable<Accumulate>, Pinned {
 public:
  /// What the end of a window calls, with the mean loss.
  using Step = std::function<void(const Tensor& loss)>;
  /// A window is full with `batches` of them, at least 1. `step` is optimizer.step(loss) unless you
  /// give another function, which may clip the gradients before it, or step a scheduler after it.
  Accumulate(OptimizerBase& optimizer, int64_t batches, Step step = nullptr, At at = At::here());
  /// Calls loss.backward(), weighted by `examples`, the number of examples (at least 1) of which
  /// the loss is the mean. If that fills the window, it steps and returns true. If backward or the
  /// step throws, the window and the gradients are as they were: meanwhile a second copy is kept.
  bool backward(const In& loss, int64_t examples);
  /// Steps with the micro-batches that the open window has; false if there are none. Call it at the
  /// end of an epoch, whose last window would otherwise be filled by the next epoch.
  bool flush(At at = At::here());
  /// Micro-batches in the open window.
  [[nodiscard]] int64_t pending() const { return window_.batches; }
  /// The open window: "Accumulate/batches", ".../first" and ".../examples" (how many examples the
  /// first micro-batch and all had), ".../loss" (the sum over them), and while it is open the
  /// gradients so far, ".../<parameter>/grad".
  [[nodiscard]] NamedTensors state_dict() const;
  /// Prepares to go on within a saved window: the parameters get its gradients, and no others.
  /// ValueError if the state does not fit, or has a gradient of a parameter that requires none
  /// here.
  [[nodiscard]] Commit prepare_load(NamedTensors state, At at = At::here());

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
/// Follows an inner optimizer. The parameters are the fast weights; the slow weights begin as
/// copies of them. After every k steps that the inner optimizer carried out, slow += alpha (fast -
/// slow), and then fast = slow. Zhang et al. 2019, Algorithm 1 (arXiv:1907.08610).
class Lookahead : public Loadable<Lookahead>, Pinned {
 public:
  /// Around `inner`. From now on, step here and not there.
  explicit Lookahead(OptimizerBase& inner, LookaheadOptions options = {}, At at = At::here());
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
  /// Prepares to load `state`. ValueError if it does not fit.
  [[nodiscard]] Commit prepare_load(NamedTensors state, At at = At::here());

 private:
  double around(At at, const std::function<double()>& step);
  [[nodiscard]] NamedTensors complete() const;

  detail::OptimizerRef inner_;
  LookaheadOptions options_;
  // The slow weights, each made in the first step after its parameter was added, and the count.
  NamedTensors state_;
};

/// How far SAM goes from theta before it takes the gradient.
struct SAMOptions {
  double rho = 0.05;      ///< at least 0
  bool adaptive = false;  ///< scale e by the size of each element
};
/// Sharpness-aware minimization. The base optimizer steps from theta with the gradient at theta +
/// e, where e = rho g / ||g|| over all parameters: Foret et al. 2021, Algorithm 1
/// (arXiv:2010.01412). If adaptive, e = rho theta^2 g / || |theta| g ||: Kwon et al. 2021, eq. 3
/// (arXiv:2102.11600). It minimizes: do not use it with `maximize`.
class SAM : public Loadable<SAM>, Pinned {
 public:
  /// Around `base`.
  explicit SAM(OptimizerBase& base, SAMOptions options = {}, At at = At::here());
  /// Calls `closure` at theta and at theta + e, each time after zero_grad(). Puts theta back, bit
  /// for bit, also if the closure throws. Then the base optimizer steps with the second loss.
  /// Returns the first loss. e is 0 where there is no gradient, and if ||g|| is 0 or not finite.
  double step(const Closure& closure, At at = At::here());
  /// Calls the function of the base optimizer.
  void zero_grad(bool set_to_none = true) { base_.get().zero_grad(set_to_none); }
  /// The base optimizer.
  OptimizerBase& base() { return base_.get(); }
  /// The state of the base optimizer: SAM itself has none.
  [[nodiscard]] NamedTensors state_dict() const { return base_.get().state_dict(); }
  [[nodiscard]] Commit prepare_load(NamedTensors state, At at = At::here()) {
    return base_.get(at).prepare_load(std::move(state), at);
  }

 private:
  void climb(const NamedTensors& theta) const;

  detail::OptimizerRef base_;
  SAMOptions options_;
};

}}  // namespace descent::optim
