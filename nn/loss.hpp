#pragma once
/// @file
/// Losses, with PyTorch's names and defaults: functions of a prediction and a target. Those here
/// compare three tensors; core/ops/loss.hpp documents the losses of class scores, and
/// nn/elementwise_loss.hpp those of a prediction and a target that have one shape.
///
/// All tensors of a call have one floating dtype (DtypeError). Gradients flow to all of them,
/// unless a loss says otherwise. ShapeError if there is no mean, because there are no losses. A NaN
/// gives NaN.

#include "descent/nn/elementwise_loss.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// Options of `gaussian_nll_loss`.
struct GaussianNllOptions {
  bool full = false;                      ///< adds the constant log(2 pi) / 2
  double eps = 1e-6;                      ///< the least variance, above 0 (ValueError)
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// (log v + (prediction - target)^2 / v) / 2 for a normal distribution of variance v.
///
/// prediction and target: one shape. var: the same shape, or 1 in place of the last axis, and not
/// below 0 (ValueError). v is var, or eps if var is smaller; the gradient of var is that of v.
[[nodiscard]] Tensor gaussian_nll_loss(const In& prediction, const In& target, const In& var,
                                       const GaussianNllOptions& options = {});

/// Options of `margin_ranking_loss` and `cosine_embedding_loss`.
struct MarginOptions {
  double margin = 0;  ///< the difference, or the cosine, at which a loss becomes 0
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// max(0, margin - target (a - b)): a should be the larger if the target is 1, the smaller if it is
/// -1. a, b and target: one shape. The gradient at the kink is 0.
[[nodiscard]] Tensor margin_ranking_loss(const In& a, const In& b, const In& target,
                                         const MarginOptions& options = {});
/// 1 - cos(a, b) where the target is 1, max(0, cos(a, b) - margin) where it is -1, and 0 elsewhere.
///
/// a and b: [N, D] and target [N], or [D] and a scalar. As in PyTorch, 1e-12 is added to each of
/// the squared lengths in the cosine. The gradient at the kink is 0; none flows to the target.
[[nodiscard]] Tensor cosine_embedding_loss(const In& a, const In& b, const In& target,
                                           const MarginOptions& options = {});

/// Options of `triplet_margin_loss`.
struct TripletMarginOptions {
  double margin = 1;  ///< how much closer the positive should be, above 0 (ValueError)
  double p = 2;       ///< the exponent of the distance: see `norm`
  double eps = 1e-6;  ///< added to each difference
  bool swap = false;  ///< the distance between positive and negative counts, if that is smaller
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// max(0, |anchor - positive| - |anchor - negative| + margin), with p-norms over the last axis.
///
/// All three: one shape [D] or [.., D]; the losses have that shape without D. At the kink the
/// gradient is 0; equal distances share it if `swap`. (Balntas et al., Learning local feature
/// descriptors with triplets and shallow convolutional neural networks, 2016.)
[[nodiscard]] Tensor triplet_margin_loss(const In& anchor, const In& positive, const In& negative,
                                         const TripletMarginOptions& options = {});

/// Options of `ctc_loss`.
struct CtcOptions {
  int64_t blank = 0;                      ///< the class that stands for no label
  Reduction reduction = Reduction::mean;  ///< what is returned; a mean divides by lengths first
  bool zero_infinity = false;             ///< whether 0 takes the place of an infinite loss
};
/// -log of the probability of a sequence of labels whose times are not known: the sum over all
/// paths that give it when repetitions and then blanks are left out.
///
/// log_probs: [T, N, K], such as log_softmax gives. targets: int64 [N, S], classes other than the
/// blank (IndexError); those behind the end of a target do not count. input_lengths, in 1..T, and
/// target_lengths, in 0..S: int64 [N] (ValueError). With Reduction::mean, each loss is divided by
/// the length of its target, if that is not 0, before the mean is taken. If T is too short for any
/// path, the loss is infinite, and its gradient 0. The gradient is that of this function, whatever
/// log_probs are, where PyTorch's is right behind log_softmax only; it is made of operations, in
/// float64. (Graves et al., Connectionist temporal classification, 2006, section 4.1.)
[[nodiscard]] Tensor ctc_loss(const In& log_probs, const In& targets, const In& input_lengths,
                              const In& target_lengths, const CtcOptions& options = {});

}}  // namespace descent::nn
