#pragma once
/// @file
/// Losses that have a kernel of their own, with PyTorch's names and defaults. They are in namespace
/// descent::nn as well.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// What a loss function returns for a batch: the mean of its losses, their sum, or all of them.
enum class Reduction { mean, sum, none };

/// How `cross_entropy` weighs classes and rows.
struct CrossEntropyOptions {
  Tensor weight = {};           ///< [K], how much each class counts; all 1 if undefined
  int64_t ignore_index = -100;  ///< rows with this target do not count
  double label_smoothing = 0;   ///< in [0, 1]: the part of a target that all classes share
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// The mean over the batch of -log softmax(logits)[n, target[n]], each row weighted by its class.
///
/// logits [N, K], floating; target [N], int64, in 0..K-1 (IndexError). Returns a scalar, or [N]
/// with Reduction::none. ShapeError if there is no mean, because the batch is empty or all of its
/// rows are ignored or have weight 0. No gradient flows to `weight`: GraphError if it requires one.
[[nodiscard]] Tensor cross_entropy(const In& logits, const In& target,
                                   const CrossEntropyOptions& options = {});

/// How `nll_loss` weighs classes and rows.
struct NllOptions {
  Tensor weight = {};                     ///< [K], how much each class counts; all 1 if undefined
  int64_t ignore_index = -100;            ///< rows with this target do not count
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// The mean over the batch of -log_probs[n, target[n]], with the shapes, weights and errors of
/// `cross_entropy`: nll_loss(log_softmax(x, 1), target) is cross_entropy(x, target).
[[nodiscard]] Tensor nll_loss(const In& log_probs, const In& target,
                              const NllOptions& options = {});

/// How `mse_loss` reduces.
struct MseOptions {
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// The mean of (prediction - target)^2 over all elements. ShapeError unless both have the same
/// shape, because broadcasting here is nearly always a mistake.
[[nodiscard]] Tensor mse_loss(const In& prediction, const In& target,
                              const MseOptions& options = {});

}  // namespace descent
