#pragma once
#include "descent/core/ops/loss.hpp"

// Losses, with PyTorch's names and defaults, and metrics: functions of a prediction and a target.

namespace [[gnu::visibility("default")]] descent { namespace nn {

using descent::cross_entropy;
using descent::CrossEntropyOptions;
using descent::mse_loss;
using descent::MseOptions;
using descent::nll_loss;
using descent::NllOptions;
using descent::Reduction;

/// The share of rows whose largest logit is at the target. logits [N, K], target [N] int64; N > 0.
[[nodiscard]] double accuracy(const In& logits, const In& target);

}}  // namespace descent::nn
