#pragma once
#include "descent/core/base/referred.hpp"

// Who watches an optimizer's steps. An observer that counts them:
//
//     struct Count : optim::StepObserver {
//       void after_step(const optim::OptimizerBase& opt) noexcept override { steps = opt.steps(); }
//       int64_t steps = 0;
//     };
//     Count count;
//     opt.trace(count);

namespace [[gnu::visibility("default")]] descent { namespace optim {

class OptimizerBase;

/// Sees the steps of the optimizer that it was given to, by OptimizerBase::trace. What throws here
/// keeps the optimizer from doing what it was about to do.
class StepObserver : public Referred {
 public:
  virtual ~StepObserver();
  /// An optimizer asks to be followed, as long as it lives; throws to refuse.
  virtual void follow(const OptimizerBase&, At) {}
  /// It is followed no more.
  virtual void leave() noexcept {}
  /// The optimizer's clip_grad_norm or clip_grad_value is about to change gradients.
  virtual void before_clip(const OptimizerBase&) {}
  /// Gradients and options are known to be good, and nothing has changed yet.
  virtual void before_step(const OptimizerBase&) {}
  /// The same, and the rule has found its fields and quantities.
  virtual void prepared(const OptimizerBase&) {}
  /// The step is carried out.
  virtual void after_step(const OptimizerBase&) noexcept {}
};

}}  // namespace descent::optim
