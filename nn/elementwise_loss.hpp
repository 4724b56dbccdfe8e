#pragma once
/// @file
/// Losses of a prediction and a target that have one shape, with PyTorch's names and defaults.
///
/// Each pair of elements has a loss of its own; `reduction` says what is returned: see Reduction.
/// Both tensors have the same floating dtype (DtypeError) and the same shape, which may be any
/// (ShapeError, because broadcasting here is nearly always a mistake). ShapeError also if there is
/// no mean, because there are no elements. A NaN gives NaN. Gradients flow to both tensors, unless
/// a loss says otherwise.

#include "descent/core/ops/loss.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

using descent::cross_entropy, descent::CrossEntropyOptions, descent::nll_loss, descent::NllOptions;
using descent::Reduction, descent::reduce_losses;

/// How `mse_loss` reduces.
struct MseOptions {
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// The squares (prediction - target)^2.
[[nodiscard]] Tensor mse_loss(const In& prediction, const In& target,
                              const MseOptions& options = {});

/// How `l1_loss` reduces.
using L1Options = MseOptions;
/// The distances |prediction - target|; the gradient at 0 is 0.
[[nodiscard]] Tensor l1_loss(const In& prediction, const In& target, const L1Options& options = {});

/// Options of `huber_loss`.
struct HuberOptions {
  double delta = 1;                       ///< where the loss becomes linear, above 0 (ValueError)
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// With d = |prediction - target|: d^2 / 2 if d < delta, else delta (d - delta / 2). The second
/// derivative at d = delta is 0. (Huber, Robust Estimation of a Location Parameter, 1964.)
[[nodiscard]] Tensor huber_loss(const In& prediction, const In& target,
                                const HuberOptions& options = {});

/// Options of `smooth_l1_loss`.
struct SmoothL1Options {
  double beta = 1;  ///< where the loss becomes linear, at least 0 (ValueError); 0 gives `l1_loss`
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// `huber_loss` with delta = beta, divided by beta.
[[nodiscard]] Tensor smooth_l1_loss(const In& prediction, const In& target,
                                    const SmoothL1Options& options = {});

/// Options of `binary_cross_entropy`.
struct BinaryCrossEntropyOptions {
  Tensor weight = {};  ///< broadcasts to the prediction's shape: a factor of the losses
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// -target log p - (1 - target) log(1 - p), where the prediction p is a probability, and so is the
/// target: ValueError for an element outside [0, 1], NaN included.
///
/// Logarithms below -100 count as -100. As in PyTorch, the gradient of p is (p - target) divided by
/// p (1 - p) or, if that is smaller, by 1e-12. The gradient of the target is finite everywhere,
/// where PyTorch's is infinite for p = 0 and p = 1.
[[nodiscard]] Tensor binary_cross_entropy(const In& prediction, const In& target,
                                          const BinaryCrossEntropyOptions& options = {});

/// Options of `binary_cross_entropy_with_logits`.
struct LogitsOptions {
  Tensor weight = {};      ///< broadcasts to the prediction's shape: a factor of the losses
  Tensor pos_weight = {};  ///< broadcasts to the prediction's shape: a factor of `target`'s share
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// `binary_cross_entropy` of sigmoid(prediction), -pos_weight target log p - (1 - target) log(1 -
/// p) with p = sigmoid(prediction): finite and precise for logits of any size, and for any target.
[[nodiscard]] Tensor binary_cross_entropy_with_logits(const In& prediction, const In& target,
                                                      const LogitsOptions& options = {});

/// How `soft_margin_loss` reduces.
using SoftMarginOptions = MseOptions;
/// log(1 + exp(-target prediction)), finite for predictions of any size. A target is 1 or -1; other
/// numbers are used as they are.
[[nodiscard]] Tensor soft_margin_loss(const In& prediction, const In& target,
                                      const SoftMarginOptions& options = {});

/// Options of `hinge_embedding_loss`.
struct HingeEmbeddingOptions {
  double margin = 1;                      ///< how large a prediction with target -1 should be
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// The prediction where the target is 1, max(0, margin - prediction) where it is -1; ValueError for
/// another target. The gradient at the kink is 0; no gradient flows to the target.
[[nodiscard]] Tensor hinge_embedding_loss(const In& prediction, const In& target,
                                          const HingeEmbeddingOptions& options = {});

/// Options of `kl_div`.
struct KlDivOptions {
  bool log_target = false;                ///< the target consists of logarithms too
  Reduction reduction = Reduction::mean;  ///< what is returned; `batchmean` gives the divergence
};
/// The terms target (log target - prediction) of the Kullback-Leibler divergence, where the
/// prediction consists of logarithms. A target 0 counts as 0 log 0 = 0, and the gradient of
/// target log target is 0 there; a target below 0 gives NaN.
[[nodiscard]] Tensor kl_div(const In& prediction, const In& target,
                            const KlDivOptions& options = {});

/// Options of `poisson_nll_loss`.
struct PoissonNllOptions {
  bool log_input = true;  ///< the prediction is the logarithm of the rate
  bool full = false;      ///< adds Stirling's approximation of log target! where target > 1
  double eps = 1e-8;      ///< added to the rate in log(rate), unless `log_input`
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// The negative logarithm of the probability of the target in a Poisson distribution, without the
/// terms of the target alone: exp(x) - target x for the prediction x or, without log_input,
/// x - target log(x + eps).
[[nodiscard]] Tensor poisson_nll_loss(const In& prediction, const In& target,
                                      const PoissonNllOptions& options = {});

}}  // namespace descent::nn
