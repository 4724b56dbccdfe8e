#pragma once
/// @file
/// Averages of the parameters of a model.
#include "descent/core/ops/blend.hpp"
#include "descent/core/tensor/state.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// How `WeightAverage` weights the steps.
struct AverageOptions {
  double decay = 0.999;  ///< how much of the average an update keeps, in [0, 1]
  bool equal = false;    ///< all updates have the same weight; `decay` is not used
};
/// The averages of parameters over the steps, which often predict better than the last values:
///
///     optim::WeightAverage average(model.named_parameters());
///     ... opt.step(); average.update(); ...
///     optim::AverageGuard averaged(average);  // the model has the averages until this ends
///
/// average = decay average + (1 - decay) parameter, PyTorch's EMA: Kingma & Ba 2015, section 7.2.
/// With `equal`: average += (parameter - average) / n in update n, PyTorch's SWA: Polyak & Juditsky
/// 1992; Izmailov et al. 2018, Algorithm 1 (arXiv:1803.05407). The first update copies.
class WeightAverage : public Loadable<WeightAverage>, Pinned {
 public:
  /// ValueError for a decay out of range, DtypeError for a parameter that is not floating.
  explicit WeightAverage(const NamedTensors& parameters, AverageOptions options = {},
                         At at = At::here());
  /// Adds the parameters, as they are now, to the averages. ShapeError if one has got another
  /// shape.
  void update();
  /// How many updates there were.
  [[nodiscard]] int64_t updates() const { return state_.back().second.item<int64_t>(); }
  /// The averages under the names of the parameters; before the first update, the parameters as
  /// they were when this was made. These tensors change with each update.
  [[nodiscard]] NamedTensors averages() const;
  /// "WeightAverage/updates" (int64) and "WeightAverage/<parameter>/average"; options are not
  /// saved.
  [[nodiscard]] NamedTensors state_dict() const { return saved_state(*this); }
  /// Prepares to load. ValueError if the state does not fit these parameters.
  [[nodiscard]] Commit prepare_load(NamedTensors state, At at = At::here()) {
    return prepare_state(*this, std::move(state), "this average", at);
  }
  /// Names what is saved: see StateVisitor.
  template <class V> void visit(V& v) { v(state_); }

 private:
  friend class AverageGuard;
  NamedTensors parameters_, state_;  // the average of each, and the count
  AverageOptions options_;
};

/// While it lives, the parameters have the values of their averages. When it ends, they get back
/// the values from before, bit for bit. A parameter whose shape has changed meanwhile stays as it
/// is, and one whose dtype has changed gets the values converted.
class AverageGuard : ElementsGuard {
 public:
  /// Puts the averages into the parameters of `average`.
  explicit AverageGuard(const WeightAverage& average);
};

}}  // namespace descent::optim
