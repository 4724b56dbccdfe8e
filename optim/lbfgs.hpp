#pragma once
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

struct LBFGSOptions {
  double lr = 1;                   ///< the first step length tried (the only one without a search)
  double max_iter = 20;            ///< iterations per step(), at least 1
  double max_eval = 0;             ///< calls of the closure per step(); 0: max_iter * 5 / 4
  double tolerance_grad = 1e-7;    ///< stop when no gradient is larger
  double tolerance_change = 1e-9;  ///< stop when neither parameters nor the loss change by more
  double history_size = 100;       ///< pairs that approximate the curvature, at least 1
  Flag strong_wolfe = false;       ///< search along the line, instead of a step of fixed length
  Flag maximize = false;
};

/// Limited-memory BFGS: Nocedal & Wright 2006, Algorithms 7.4 and 7.5, with the strong Wolfe search
/// of Algorithms 3.5 and 3.6. For full batches: it takes the loss for a function of the parameters.
/// To the search a point is too far where the loss or its slope is not finite: it comes back.
/// Where the remembered curvature leads nowhere, it is forgotten and the gradient's line searched.
///
///     optim::LBFGS opt(model.named_parameters(), {.strong_wolfe = true});
///     opt.step([&] { opt.zero_grad(); Tensor loss = ...; loss.backward(); return loss; });
///
/// Options, defaults and numbers are PyTorch's. One group, one dtype (DtypeError); a parameter
/// without a gradient counts as one with zeros. Multipliers do not count; a ledger is a ValueError.
class LBFGS final : public OptimizerBase {
 public:
  explicit LBFGS(const NamedTensors& parameters, LBFGSOptions options = {}, At at = At::here());
  ~LBFGS() override;

  LBFGSOptions& options() { return *std::launder(static_cast<LBFGSOptions*>(options_at(0))); }
  using OptimizerBase::step;  // these two, without a closure, are ValueErrors
  /// Up to max_iter iterations; returns the loss before the first. If anything throws, or an
  /// iteration without a search ends where the loss or its gradient is not finite and the policy
  /// minds, all is as it was. A step that makes no progress, short of a tolerance, is reported,
  /// each reason once.
  double step(const Closure& closure, At at = At::here()) override;

  NamedTensors state_dict() const override;
  void load_state_dict(const NamedTensors& state, At at = At::here()) override;

 private:
  /// A point on the line x + t d: the loss, its slope along the line, and the gradient there.
  struct Point {
    double t, f, slope;
    Tensor g;
  };
  /// The points of a search: the nearest, and whether the loss was finite at all of them.
  struct Trials {
    double nearest;
    bool finite = true;
  };
  /// Of a standstill. Each kind is said once.
  struct Reason {
    const char* kind = nullptr;  // none: the step goes on
    std::string text;            // empty: a tolerance, of which nothing is said
    bool worn = false;           // whether another place's curvature may be to blame
  };
  struct Pair {
    Tensor y, s;  // changes of the gradient and of the parameters
    double rho;   // 1 / y·s
  };
  /// What goes from one iteration to the next.
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
