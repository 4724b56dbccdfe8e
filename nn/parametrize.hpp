#pragma once
/// @file
/// Layers whose weight is computed from other parameters at each call.

#include <optional>

#include "descent/nn/layers/conv.hpp"
#include "descent/nn/layers/linear.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// A layer whose weight can be computed: its parameters, and what it does to its input.
struct Weighted {
  /// The parts of a layer.
  Weighted(const Linear& layer);
  Weighted(const Conv2d& layer);
  Tensor weight;                                               ///< the weight
  Tensor bias;                                                 ///< the bias; it may be undefined
  std::function<Tensor(const In& x, const In& weight)> apply;  ///< the layer with another weight
};

/// A layer that computes its weight at each call. Its parameters are called as those of
/// `torch.nn.utils.parametrize`: "bias", "parametrizations.weight.original" and so on.
class Parametrized : public Module {
 public:
  using Weight = ModuleOf<Tensor()>;  ///< a module that computes a weight from its parameters
  /// `layer`, but its weight is weight(). It takes over the bias.
  Parametrized(const Weighted& layer, std::shared_ptr<Weight> weight, At at = At::here());
  /// Shapes and errors are those of the layer.
  Tensor forward(const In& x) const override;
  /// The weight that a call in this mode uses.
  Tensor weight() const { return (*weight_)(); }

 private:
  const Weighted layer_;
  const std::shared_ptr<Weight> weight_;
};

/// Options of `weight_norm`.
struct WeightNormOptions {
  std::optional<int64_t> dim = 0;  ///< the axis whose slices have lengths; without one, the whole
};
/// A layer with the weight g v / |v|, where each slice of v along an axis has a length g of its
/// own. They are called original0 [out, 1, ..] and original1; at first the weight is that of
/// `layer`, whose parameters the new layer takes over. The weight is NaN where a slice of v is 0.
/// IndexError for an axis that the weight does not have. Salimans & Kingma 2016, section 2
/// (arXiv:1602.07868).
[[nodiscard]] Parametrized weight_norm(const Weighted& layer, const WeightNormOptions& options = {},
                                       At at = At::here());

/// Options of `spectral_norm`.
struct SpectralNormOptions {
  int64_t n_power_iterations = 1;  ///< at each call in training mode
  double eps = 1e-12;              ///< the least length of a vector that is divided by its length
};
/// A layer with the weight W / s, where W is called original, and s approximates the largest
/// singular value of W [out, rest]: s = u^T W v. The buffers u [out] and v [rest], called 0._u and
/// 0._v, are constants for gradients. They start at random, draw from the default generator, and
/// make 15 power iterations, u = W v / |W v| and v = W^T u / |W^T u|. Each call in training mode
/// makes some more first. The new layer takes over the parameters of `layer`. Miyato et al. 2018,
/// section 2.1 (arXiv:1802.05957).
[[nodiscard]] Parametrized spectral_norm(const Weighted& layer,
                                         const SpectralNormOptions& options = {},
                                         At at = At::here());

}}  // namespace descent::nn
