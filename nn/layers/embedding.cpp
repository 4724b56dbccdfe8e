#include "descent/nn/layers/embedding.hpp"

#include "descent/core/ops/indexing.hpp"
#include "descent/nn/init.hpp"
#include "descent/nn/layers/parameter.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

static std::optional<int64_t> check_padding(std::optional<int64_t> row, int64_t count,
                                            int64_t features, At at) {
  check_features("Embedding", count, features, at);
  if (row && (*row < -count || *row >= count))
    fail<IndexError>(at, "Embedding: padding_idx {}: need {} to {}", *row, -count, count - 1);
  return row && *row < 0 ? *row + count : row;
}
static Tensor rows(int64_t count, int64_t features, std::optional<int64_t> zero) {
  const Tensor all = empty({count, features});
  init::normal_(all);
  if (zero) init::zeros_(all[*zero]);
  return all;
}

Embedding::Embedding(int64_t count, int64_t features, std::optional<int64_t> row, At at)
    : padding_idx(check_padding(row, count, features, at)),
      weight(register_parameter("weight", rows(count, features, padding_idx))) {}

Tensor Embedding::forward(const In& x) const { return embedding(x, weight, {padding_idx}); }

}}  // namespace descent::nn
