#pragma once
#include "descent/core/tensor/tensor.hpp"

// Losses with a kernel of their own, with PyTorch's names and defaults. (nn names them too.)

namespace [[gnu::visibility("default")]] descent {

/// What becomes of the losses of a batch: their mean, their sum, or each for itself.
enum class Reduction { mean, sum, none };

/// How `cross_entropy` weighs classes and rows.
struct CrossEntropyOptions {
  Tensor weight = {};           ///< [K], how much each class counts; all 1 if undefined
  int64_t ignore_index = -100;  ///< rows with this target do not count
  double label_smoothing = 0;   ///< in [0, 1]: the target's mass that is spread over all classes
  Reduction reduction = Reduction::mean;  ///< of the losses
};
/// -log softmax(logits)[n, target[n]], averaged over the batch (weighted by the targets' weights).
/// logits [N, K], floating; target [N], int64, in 0..K-1 (IndexError). Returns a scalar; [N] with
/// Reduction::none. An empty batch, or a target with nothing but ignored rows, has no mean: a
/// ShapeError. No gradient flows to `weight`: GraphError if it requires one.
[[nodiscard]] Tensor cross_entropy(const In& logits, const In& target,
                                   const CrossEntropyOptions& options = {});

/// How `nll_loss` weighs classes and rows.
struct NllOptions {
  Tensor weight = {};                     ///< [K], how much each class counts; all 1 if undefined
  int64_t ignore_index = -100;            ///< rows with this target do not count
  Reduction reduction = Reduction::mean;  ///< of the losses
};
/// -log_probs[n, target[n]], averaged as cross_entropy does, with its shapes and errors:
/// nll_loss(log_softmax(x, 1), target) is cross_entropy(x, target).
[[nodiscard]] Tensor nll_loss(const In& log_probs, const In& target,
                              const NllOptions& options = {});

/// How `mse_loss` reduces.
struct MseOptions {
  Reduction reduction = Reduction::mean;  ///< of the losses
};
/// (prediction - target)^2, averaged over all elements. Both of one shape: broadcasting here is
/// nearly always a mistake, and a ShapeError.
[[nodiscard]] Tensor mse_loss(const In& prediction, const In& target,
                              const MseOptions& options = {});

}  // namespace descent
