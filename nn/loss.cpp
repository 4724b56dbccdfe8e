#include "descent/nn/loss.hpp"

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

double accuracy(const In& logits, const In& target) {
  Frame frame(logits.at);
  NoGradGuard no_grad;
  check_input("accuracy", logits);
  check_input("accuracy", target);
  if (logits.dim() != 2 || target.dim() != 1 || logits.shape()[0] != target.shape()[0] ||
      target.numel() == 0)
    fail<ShapeError>(logits.at, "accuracy: logits {} with target {}: need [N, K] and [N], N > 0",
                     logits.shape(), target.shape());
  if (target.dtype() != int64)
    fail<DtypeError>(target.at, "accuracy: target is {}: need int64 class numbers", target.dtype());
  const int64_t k = logits.shape()[1];
  const Tensor strange = logical_or(target < 0, target >= k);
  if (any(strange).item<bool>()) {
    const auto i = nonzero(strange)[0].item<int64_t>();
    fail<IndexError>(target.at, "accuracy: target[{}] is {}, but logits {} allow 0..{}", i,
                     target[i].item<int64_t>(), logits.shape(), k - 1);
  }
  const auto hits = sum(argmax(logits, 1) == target).item<double>();
  return hits / static_cast<double>(target.numel());
}

}}  // namespace descent::nn
