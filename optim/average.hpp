#pragma once
#include <span>

#include "descent/core/tensor/state.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

namespace detail {
using Named = std::span<const NamedTensors::value_type>;
/// ShapeError or DtypeError unless `blend` takes these.
void check_blend(Named into, Named from);
/// into[i] += w (from[i] - into[i]), as far as both go; w = 1 copies. Nothing fails once they are
/// checked, which is done first: it needs no memory.
void blend(Named into, Named from, double w);
/// Puts back, when it goes, the elements that some tensors had.
struct Kept : Pinned {
  explicit Kept(const NamedTensors& all);
  ~Kept();
  NamedTensors tensors, copies;
};
}  // namespace detail

struct AverageOptions {
  double decay = 0.999;  ///< in [0, 1]
  bool equal = false;    ///< all steps count the same, whatever `decay` is
};
/// Averages of parameters over the steps, which often predict better than the last values:
///
///     optim::WeightAverage average(model.named_parameters());
///     ... opt.step(); average.update(); ...
///     optim::AverageGuard averaged(average);  // the model has them until this goes
///
/// average = decay average + (1 - decay) parameter, PyTorch's EMA: Kingma & Ba 2015, section 7.2.
/// Equal: average += (parameter - average) / n in update n, PyTorch's SWA: Polyak & Juditsky 1992;
/// Izmailov et al. 2018, Algorithm 1 (arXiv:1803.05407). The first update copies.
class WeightAverage : Pinned {
 public:
  /// ValueError for a decay out of range, DtypeError for a parameter that is not floating.
  explicit WeightAverage(const NamedTensors& parameters, AverageOptions options = {},
                         At at = At::here());
  ~WeightAverage();
  void update();
  [[nodiscard]] int64_t updates() const { return state_.back().second.item<int64_t>(); }
  /// By the parameters' names; before the first update, as the parameters were. Updates write here.
  [[nodiscard]] NamedTensors averages() const;
  /// "WeightAverage/updates" (int64), "WeightAverage/<parameter>/average"; no options.
  [[nodiscard]] NamedTensors state_dict() const { return saved_state(*this); }
  /// Takes a copy. ValueError, and nothing changed, if it does not fit these parameters.
  void load_state_dict(const NamedTensors& state, At at = At::here()) {
    load_state(*this, state, "this average", at);
  }
  template <class V> void visit(V& v) { v(state_); }

 private:
  friend class AverageGuard;
  NamedTensors parameters_, state_;  // the average of each, and the count
  AverageOptions options_;
};

/// While it lives, the parameters hold their averages; then, bit for bit, what they had held: what
/// changes them meanwhile is undone.
class AverageGuard : detail::Kept {
 public:
  explicit AverageGuard(const WeightAverage& average);
};

}}  // namespace descent::optim
