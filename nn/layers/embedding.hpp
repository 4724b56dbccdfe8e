#pragma once
/// @file
/// Vectors for numbers of words, classes or places.

#include <optional>

#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// A row of `weight` for each index. The rows start normal, with mean 0 and standard deviation 1.
class Embedding : public Module {
 public:
  /// `count` rows of `features` numbers. The row `padding_idx`, if there is one, starts with zeros
  /// and gets no gradient; a negative one counts from the back. ValueError for a negative size,
  /// IndexError for a row that there is not.
  Embedding(int64_t count, int64_t features, std::optional<int64_t> padding_idx = {},
            At at = At::here());
  /// [.., features] of an int64 x [..]. IndexError for an index that is not in 0..count - 1.
  Tensor forward(const In& x) const override;
  const std::optional<int64_t> padding_idx;  ///< the row without a gradient, from 0 on
  const Tensor weight;                       ///< [count, features]
};

}}  // namespace descent::nn
