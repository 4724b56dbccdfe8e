#pragma once
/// @file
/// Metrics: functions of a prediction and a target that measure how good a model is. They record no
/// gradient, and return numbers, or tensors with a number for each class.
///
/// Classes are int64 numbers in 0..K-1: DtypeError for a target of another dtype, IndexError for
/// another number. ShapeError if there is no element.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// The share of rows, from 0 to 1, whose largest logit is at the target: logits [N, K], target [N].
/// Of equal logits the first counts, and NaN counts as larger than any number.
[[nodiscard]] double accuracy(const In& logits, const In& target);
/// The share of rows whose target is among the k largest logits, in the order of `accuracy`;
/// ValueError unless k is at least 1.
[[nodiscard]] double top_k_accuracy(const In& logits, const In& target, int64_t k);

/// How often each class was predicted for each target: int64 [K, K], with a row for each target and
/// a column for each prediction. prediction and target: one shape, which may be any, int64.
[[nodiscard]] Tensor confusion_matrix(const In& prediction, const In& target, int64_t classes);

/// How the scores of classes become one: not at all, their mean, their mean weighted by how often a
/// class is the target, or the score of all decisions together.
enum class Average { none, macro, weighted, micro };
/// What `class_scores` returns: float64, [K] with Average::none, else scalars.
struct ClassScores {
  Tensor precision;  ///< the share of the predictions of a class that are right
  Tensor recall;     ///< the share of the targets of a class that were predicted
  Tensor f1;         ///< 2 hits / (predictions + targets), their harmonic mean
};
/// The scores of a `confusion_matrix`. What would be 0 / 0 is 0, as for the precision of a class
/// that is never predicted and the recall of one that is absent from the targets; an absent class
/// counts in Average::macro.
[[nodiscard]] ClassScores class_scores(const In& confusion, Average average = Average::none);

/// The area under the ROC curve: the probability that an example of class 1 has a higher score than
/// one of class 0, where a tie counts half.
///
/// scores: any shape, floating, without NaN (ValueError); target: that shape, 0 or 1. ValueError
/// unless both classes occur. (Hanley and McNeil, The Meaning and Use of the Area under a ROC
/// Curve, 1982.)
[[nodiscard]] double roc_auc(const In& scores, const In& target);
/// The sum over the distinct scores of (increase of the recall) (precision), from the highest
/// score down: the area under the curve of precision and recall, as steps. Arguments as `roc_auc`;
/// ValueError unless class 1 occurs.
[[nodiscard]] double average_precision(const In& scores, const In& target);

/// 1 - sum (target - prediction)^2 / sum (target - mean of target)^2 over all elements, which is 1
/// at best. One floating dtype and one shape. For a constant target: 1 if the prediction is exact,
/// else 0.
[[nodiscard]] double r2_score(const In& prediction, const In& target);

/// The weighted mean of numbers that come one after the other, such as the losses of batches.
struct RunningMean {
  double mean = 0;    ///< of the numbers so far; 0 before the first
  double weight = 0;  ///< the sum of their weights
  /// Adds a number, such as a batch's mean, with its weight, such as the batch's size.
  void add(double value, double value_weight = 1) {
    weight += value_weight;
    if (weight != 0) mean += (value - mean) * (value_weight / weight);
  }
};

}}  // namespace descent::nn
