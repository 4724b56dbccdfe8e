#include "descent/nn/metrics.hpp"

#include <algorithm>

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

static void check_shapes(const char* op, const char* name, const In& x, const In& target) {
  check_input(op, x);
  check_input(op, target);
  if (!(x.shape() == target.shape()) || x.numel() == 0)
    fail<ShapeError>(x.at, "{}: {} {} with target {}: need one shape, and elements", op, name,
                     x.shape(), target.shape());
}

/// Checks that labels are class numbers below k; the message names what allows them, and its shape.
static void check_classes(const char* op, const char* name, const In& labels, int64_t k,
                          const char* what, const Shape& shape) {
  if (labels.dtype() != int64)
    fail<DtypeError>(labels.at, "{}: {} is {}: need int64 class numbers", op, name, labels.dtype());
  const Tensor strange = logical_or(labels < 0, labels >= k);
  if (any(strange).item<bool>())
    fail<IndexError>(labels.at, "{}: {}{} is {}, but {} {} allow 0..{}", op, name,
                     nonzero(strange)[0].to_vector<int64_t>(),
                     index(labels, strange)[0].item<int64_t>(), what, shape, k - 1);
}

static double top_k(const char* op, const In& logits, const In& target, int64_t k) {
  Frame frame(logits.at);
  NoGradGuard no_grad;
  check_input(op, logits);
  check_input(op, target);
  if (logits.dim() != 2 || target.dim() != 1 || logits.shape()[0] != target.shape()[0] ||
      target.numel() == 0)
    fail<ShapeError>(logits.at, "{}: logits {} with target {}: need [N, K] and [N], N > 0", op,
                     logits.shape(), target.shape());
  if (k < 1) fail<ValueError>(logits.at, "{}: k is {}: need at least 1", op, k);
  check_classes(op, "target", target, logits.shape()[1], "logits", logits.shape());
  const Tensor column = unsqueeze(target, 1), own = gather(logits, 1, column);
  auto above = [](const In& x, const In& y) {
    return logical_or(x > y, logical_and(x != x, y == y));
  };
  const Tensor rivals = logical_and(arange(logits.shape()[1]) < column,  // that win a tie
                                    logical_not(above(own, logits)));
  const Tensor before = sum(logical_or(above(logits, own), rivals), 1);
  return sum(before < k).item() / static_cast<double>(target.numel());
}
double accuracy(const In& logits, const In& target) { return top_k("accuracy", logits, target, 1); }
double top_k_accuracy(const In& logits, const In& target, int64_t k) {
  return top_k("top_k_accuracy", logits, target, k);
}

Tensor confusion_matrix(const In& prediction, const In& target, int64_t classes) {
  const char* op = "confusion_matrix";
  Frame frame(prediction.at);
  check_shapes(op, "prediction", prediction, target);
  if (classes < 1) fail<ValueError>(prediction.at, "{}: {} classes: need at least 1", op, classes);
  check_classes(op, "prediction", prediction, classes, "counts", {classes, classes});
  check_classes(op, "target", target, classes, "counts", {classes, classes});
  const Tensor cells = reshape(target * classes + prediction, {-1});
  return reshape(bincount(cells, classes * classes), {classes, classes});
}

ClassScores class_scores(const In& confusion, Average average) {
  const char* op = "class_scores";
  Frame frame(confusion.at);
  NoGradGuard no_grad;
  check_input(op, confusion);
  if (confusion.dim() != 2 || confusion.shape()[0] != confusion.shape()[1])
    fail<ShapeError>(confusion.at, "{}: confusion {}: need [K, K]", op, confusion.shape());
  const Tensor count = to(confusion, float64);
  Tensor hits = sum(count * eye(count.shape()[0], float64), 1), predicted = sum(count, 0),
         actual = sum(count, 1);
  if (average == Average::micro) hits = sum(hits), predicted = sum(predicted), actual = sum(actual);
  auto score = [&](const Tensor& part, const Tensor& whole) {
    const Tensor each = part / where(whole == 0, 1, whole);
    if (average == Average::macro) return mean(each);
    return average == Average::weighted ? sum(each * actual) / maximum(sum(actual), 1) : each;
  };
  return {score(hits, predicted), score(hits, actual), score(hits * 2, predicted + actual)};
}

namespace {
/// For each distinct score, from the highest down: how many examples of each class are not below.
std::vector<std::array<double, 2>> sweep(const char* op, const In& scores, const In& target) {
  check_shapes(op, "scores", scores, target);
  check_classes(op, "target", target, 2, "scores of two classes", scores.shape());
  if (any(scores != scores).item<bool>())
    fail<ValueError>(scores.at, "{}: a score is NaN: need an order", op);
  const auto score = scores.to_vector<double>();
  const auto label = target.to_vector<std::size_t>();
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t i = 0; i < score.size(); ++i) order.push_back({score[i], label[i]});
  std::sort(order.rbegin(), order.rend());
  std::vector<std::array<double, 2>> counts{{0, 0}};
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || order[i].first != order[i - 1].first) counts.push_back(counts.back());
    ++counts.back()[order[i].second];
  }
  return counts;
}
}  // namespace

double roc_auc(const In& scores, const In& target) {
  Frame frame(scores.at);
  const auto counts = sweep("roc_auc", scores, target);
  const auto [negatives, positives] = counts.back();
  if (negatives == 0 || positives == 0)
    fail<ValueError>(target.at, "roc_auc: only one class occurs in target: need both");
  double area = 0;
  for (std::size_t i = 1; i < counts.size(); ++i)
    area += (counts[i][0] - counts[i - 1][0]) * (counts[i][1] + counts[i - 1][1]) / 2;
  return area / (negatives * positives);
}

double average_precision(const In& scores, const In& target) {
  Frame frame(scores.at);
  const auto counts = sweep("average_precision", scores, target);
  const double positives = counts.back()[1];
  if (positives == 0)
    fail<ValueError>(target.at, "average_precision: class 1 does not occur in target");
  double area = 0;
  for (std::size_t i = 1; i < counts.size(); ++i)
    area += (counts[i][1] - counts[i - 1][1]) * counts[i][1] / (counts[i][0] + counts[i][1]);
  return area / positives;
}

double r2_score(const In& prediction, const In& target) {
  const char* op = "r2_score";
  Frame frame(prediction.at);
  NoGradGuard no_grad;
  check_shapes(op, "prediction", prediction, target);
  check_inputs(op, prediction, target, "prediction", "target");
  if (!is_floating(target.dtype()))
    fail<DtypeError>(target.at, "{}: target is {}: need a floating dtype", op, target.dtype());
  const double off = mean(square(prediction - target)).item();
  const double spread = var(target, {}, {.correction = 0}).item();
  return spread == 0 ? static_cast<double>(off == 0) : 1 - off / spread;
}

}}  // namespace descent::nn
