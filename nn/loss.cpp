#include "descent/nn/loss.hpp"

#include "descent/core/graph.hpp"
#include "descent/core/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {
namespace {

void check_cross_entropy(const In& logits, const In& target, const CrossEntropyOptions& o) {
  const char* op = "cross_entropy";
  detail::check(op, logits);
  detail::check(op, target);
  if (logits.dim() != 2 || target.dim() != 1 || logits.shape()[0] != target.shape()[0])
    fail<ShapeError>(logits.at, "{}: logits {} with target {}: need [N, K] and [N]", op,
                     logits.shape(), target.shape());
  if (target.dtype() != int64)
    fail<DtypeError>(target.at, "{}: target is {}: need int64 class numbers", op, target.dtype());
  if (target.numel() == 0 && o.reduction == Reduction::mean)
    fail<ShapeError>(logits.at, "{}: logits {} are an empty batch: it has no mean", op,
                     logits.shape());
  const int64_t classes = logits.shape()[1];
  if (!(o.label_smoothing >= 0 && o.label_smoothing <= 1))
    fail<ValueError>(logits.at, "{}: label_smoothing is {}: need [0, 1]", op, o.label_smoothing);
  if (o.weight.defined() &&
      (!(o.weight.shape() == Shape{classes}) || o.weight.dtype() != logits.dtype()))
    fail<ShapeError>(logits.at, "{}: weight is {} {}: need {} [{}]", op, o.weight.dtype(),
                     o.weight.shape(), logits.dtype(), classes);
  const std::vector<int64_t> labels = target.to_vector<int64_t>();
  for (std::size_t n = 0; n < labels.size(); ++n)
    if (labels[n] != o.ignore_index && (labels[n] < 0 || labels[n] >= classes))
      fail<IndexError>(target.at, "{}: target[{}] is {}, but logits {} allow 0..{}", op, n,
                       labels[n], logits.shape(), classes - 1);
}

Tensor reduced(const Tensor& losses, Reduction reduction) {
  return reduction == Reduction::none  ? losses
         : reduction == Reduction::sum ? sum(losses)
                                       : mean(losses);
}

}  // namespace

Tensor cross_entropy(const In& logits, const In& target, const CrossEntropyOptions& o) {
  Frame frame(logits.at);
  check_cross_entropy(logits, target, o);
  const Tensor counts = target != tensor(o.ignore_index);
  const Tensor label = where(counts, target, 0.0);
  const Tensor log_p = log_softmax(logits, 1);
  auto pick = [&](const Tensor& x) { return gather(x, 1, label.unsqueeze(1)).squeeze(1); };

  // Per row: the weight of its class, and -weight * log p.
  const Tensor kept = counts.to(logits.dtype());
  const Tensor weight = o.weight.defined() ? index_select(o.weight, 0, label) * kept : kept;
  Tensor losses = -pick(log_p) * weight;
  if (o.label_smoothing > 0) {
    const Tensor spread = o.weight.defined() ? log_p * o.weight : log_p;
    losses = losses * (1 - o.label_smoothing) -
             sum(spread, 1) * (o.label_smoothing / static_cast<double>(logits.shape()[1]));
  }
  losses = where(counts, losses, 0.0);  // an ignored row may hold anything, -inf too
  if (o.reduction != Reduction::mean) return reduced(losses, o.reduction);
  const Tensor total = sum(weight);
  if (total.item() == 0)
    fail<ShapeError>(target.at,
                     "cross_entropy: every target is ignored or weighs nothing: there is no mean");
  return sum(losses) / total;
}

Tensor mse_loss(const In& prediction, const In& target, MseOptions options) {
  Frame frame(prediction.at);
  detail::check("mse_loss", prediction);
  detail::check("mse_loss", target);
  if (!(prediction.shape() == target.shape()))
    fail<ShapeError>(prediction.at, "mse_loss: prediction {} with target {}: need one shape",
                     prediction.shape(), target.shape());
  if (prediction.numel() == 0 && options.reduction == Reduction::mean)
    fail<ShapeError>(prediction.at, "mse_loss: prediction {} is empty: it has no mean",
                     prediction.shape());
  return reduced(square(prediction - target), options.reduction);
}

double accuracy(const In& logits, const In& target) {
  Frame frame(logits.at);
  NoGradGuard no_grad;
  detail::check("accuracy", logits);
  detail::check("accuracy", target);
  if (logits.dim() != 2 || target.dim() != 1 || logits.shape()[0] != target.shape()[0] ||
      target.numel() == 0)
    fail<ShapeError>(logits.at, "accuracy: logits {} with target {}: need [N, K] and [N], N > 0",
                     logits.shape(), target.shape());
  const auto hits = sum(argmax(logits, 1) == target).item<double>();
  return hits / static_cast<double>(target.numel());
}

}}  // namespace descent::nn
