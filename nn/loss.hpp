#pragma once
/// @file
/// Losses, with PyTorch's names and defaults, and metrics: functions of a prediction and a target.
/// core/ops/loss.hpp documents the losses.

#include "descent/core/ops/loss.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

using descent::cross_entropy;
using descent::CrossEntropyOptions;
using descent::mse_loss;
using descent::MseOptions;
using descent::nll_loss;
using descent::NllOptions;
using descent::Reduction;

/// The share of rows, from 0 to 1, whose largest logit is at the target: logits [N, K], target [N],
/// int64, with N > 0 (ShapeError). Of equal logits the first counts, and NaN counts as larger than
/// any number. DtypeError for a target of another
/// dtype, IndexError for one outside [0, K).
[[nodiscard]] double accuracy(const In& logits, const In& target);

}}  // namespace descent::nn
