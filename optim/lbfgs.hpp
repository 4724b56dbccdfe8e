#pragma once
/// @file
/// The L-BFGS method, which calls the loss several times in a step.
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// How LBFGS searches, and when it stops. ValueError for an option out of its range.
struct LBFGSOptions {
  double lr = 1;                 ///< the first step length to try (without a search the only one)
  double max_iter = 20;          ///< the most iterations in a step(), at least 1
  double max_eval = 0;           ///< the most calls of the closure in a step(); 0: max_iter * 5 / 4
  double tolerance_grad = 1e-7;  ///< stop if no element of the gradient is larger, at least 0
  double tolerance_change = 1e-9;  ///< stop if parameters or the loss change by less, at least 0
  double history_size = 100;       ///< how many pairs approximate the curvature, at least 1
  Flag strong_wolfe = false;       ///< search along the line, instead of a step of fixed length
  Flag maximize = false;           ///< ascend instead of descend
};

/// Limited-memory BFGS: Nocedal & Wright 2006, Algorithms 7.4 and 7.5, with the strong Wolfe search
/// of Algorithms 3.5 and 3.6. It is for full batches, because it needs the loss to be a function of
/// the parameters alone. The search treats a point where the loss or its slope is not finite as too
/// far away, and tries nearer ones. If the remembered curvature leads nowhere, it is forgotten, and
/// the line along the gradient is searched.
///
///     optim::LBFGS opt(model.named_parameters(), {.strong_wolfe = true});
///     opt.step([&] { opt.zero_grad(); Tensor loss = ...; loss.backward(); return loss; });
///
/// Options, defaults and results are PyTorch's. There are no groups, and set_lr_multiplier has no
/// effect. All parameters need one dtype (DtypeError); one without a gradient counts as one whose
/// gradient is zero. A step is a ValueError if there is an observer.
class LBFGS final : public OptimizerBase {
 public:
  /// ValueError for options out of range; errors for parameters are those of `add`.
  explicit LBFGS(const NamedTensors& parameters, LBFGSOptions options = {}, At at = At::here());

  /// The options, which can be read and changed at any time.
  LBFGSOptions& options() { return *std::launder(static_cast<LBFGSOptions*>(options_at(0))); }
  using OptimizerBase::step;  // the two without a closure throw a ValueError
  /// Up to max_iter iterations; returns the loss before the first. If the loss or the gradient is
  /// not finite where the step begins, or after an iteration without a search, the step throws or
  /// is left out, as set_nonfinite() says. In both cases, and whatever else throws, nothing has
  /// changed. A step that makes no progress, although it has not reached a tolerance, is reported,
  /// each reason once.
  double step(const Closure& closure, At at = At::here()) override;

  NamedTensors state_dict() const override;
  Commit prepare_load(NamedTensors state, At at = At::here()) override;

 private:
  /// A point on the line x + t d: the loss, its slope along the line, and the gradient there.
  struct Point {
    double t, f, slope;
    Tensor g;
  };
  /// What a search has seen: the smallest t, and whether the loss was finite at all points.
  struct Trials {
    double nearest;
    bool finite = true;
  };
  /// Why there was no progress. Each kind is reported once.
  struct Reason {
    const char* kind = nullptr;  // null: there was progress, and the step goes on
    std::string text;            // empty for a tolerance, which is not reported
    bool worn = false;           // whether old curvature, of another place, may be the cause
  };
  struct Pair {
    Tensor y, s;  // changes of the gradient and of the parameters
    double rho;   // 1 / y·s
  };
  /// What one iteration leaves to the next.
  struct Memory {
    int64_t iterations = 0, evaluations = 0;
    Tensor d, g;  // the last direction, and the gradient before it
    double t = 0, gamma = 1;
    std::vector<Pair> pairs;
  };

  void check_all(At at) const;

  Tensor theta() const;
  Point evaluate(const Closure& closure);
  Point evaluate(const Closure& closure, const Tensor& x, double t);
  bool accepts(const Point& now, const char* place, At at);
  bool minimize(const Closure& closure, At at);  // false: not finite, to be skipped
  Reason walk(const Closure& closure, const Tensor& x, Point& now, double last);
  Memory copy_memory() const;
  void remember(const Tensor& g);
  Tensor direction(const Tensor& g) const;
  Point search(const Closure& closure, const Tensor& x, const Point& start, double t,
               double max_evaluations, Trials& trials);
  Reason standstill(const Point& start, const Trials& trials, bool used_up) const;

  Memory memory_;
};

}}  // namespace descent::optim
