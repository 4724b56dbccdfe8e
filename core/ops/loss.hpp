#pragma once
/// @file
/// Losses of class scores, and how every loss is reduced, with PyTorch's names and defaults. They
/// are in namespace descent::nn as well.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// What a loss function returns for a batch: the mean of its losses, their sum, all of them, or
/// their sum divided by N, the size of the first axis (`batchmean`).
enum class Reduction { mean, sum, none, batchmean };
/// The losses of the function `op`, of any shape, reduced. For losses of your own. Floating dtypes.
/// ShapeError if there is no mean, because there are no losses, or no first axis for `batchmean`.
[[nodiscard]] Tensor reduce_losses(const char* op, const In& losses, Reduction reduction);

/// How `cross_entropy` weighs classes and rows.
struct CrossEntropyOptions {
  Tensor weight = {};           ///< [K], how much each class counts; all 1 if undefined
  int64_t ignore_index = -100;  ///< rows with this target do not count
  double label_smoothing = 0;   ///< in [0, 1]: the part of a target that all classes share
  Reduction reduction = Reduction::mean;  ///< what is returned
};
/// The mean over the batch of -log softmax(logits)[n, target[n]], each row weighted by its class.
///
/// logits [N, K] or [N, K, d1, ...], floating; target [N] or [N, d1, ...], int64, in 0..K-1
/// (IndexError). Each position of d1, ... is a row of its own. Returns a scalar, or target's shape
/// with Reduction::none. ShapeError if there is no mean, because the batch is empty or all of its
/// rows are ignored or have weight 0. No gradient flows to `weight`: GraphError if it requires one.
///
/// A target of the logits' shape and dtype gives a probability for each class: the loss of a row is
/// -sum_k weight[k] target[k] log softmax(logits)[k]. Then `ignore_index` means nothing, the mean
/// is over all rows, whatever their weights, and a gradient flows to the target too.
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

}  // namespace descent
