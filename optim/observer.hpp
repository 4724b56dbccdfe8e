#pragma once
/// @file
/// Objects that watch the steps of an optimizer. One that counts them:
///
///     struct Count : optim::StepObserver {
///       int64_t steps = 0;
///       void after_step(const optim::OptimizerBase& o) noexcept override { steps = o.steps(); }
///     };
///     Count count;
///     opt.trace(count);

#include "descent/core/base/referred.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

class OptimizerBase;

/// Is told about the steps of an optimizer, after it was given to OptimizerBase::trace. If one of
/// these functions throws, the optimizer does not do what it was about to do.
class StepObserver : public Referred {
 public:
  virtual ~StepObserver();
  /// An optimizer asks this observer to follow it until one of them ends. Throws to refuse.
  virtual void follow(const OptimizerBase&, At) {}
  /// The optimizer has another observer now, or none.
  virtual void leave() noexcept {}
  /// clip_grad_norm or clip_grad_value of the optimizer is about to change gradients.
  virtual void before_clip(const OptimizerBase&) {}
  /// Gradients and options have been checked, and nothing has changed yet.
  virtual void before_step(const OptimizerBase&) {}
  /// As before_step, and the rule has computed its fields and quantities.
  virtual void after_prepare(const OptimizerBase&) {}
  /// The step has been carried out.
  virtual void after_step(const OptimizerBase&) noexcept {}
};

}}  // namespace descent::optim
