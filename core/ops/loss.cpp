#include "descent/core/ops/loss.hpp"

#include <algorithm>
#include <cmath>

#include "descent/core/base/paths.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/reduce.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

/// The class of each row of the scores [N, K], and the row's weight. The constructor checks both;
/// no gradient flows to them.
struct Labels {
  Labels(const char* op_, const char* name, const In& scores, const In& target_,
         const Tensor& weight, int64_t ignored_, Reduction reduction_);

  const char* op;
  int64_t n = 0, k = 0, ignored;
  Shape batch;  // [N, d1, ...]: the shape of the target, which has n elements
  Reduction reduction;
  Saved target;
  Tensor weights;    // [N]: the weight of the row's class, 0 if the row is ignored
  double total = 1;  // the divisor of the losses' sum
};

/// The scores [N, K, d1, ...] as rows [N d1 ..., K]: themselves if they are rows.
Tensor rows_of(const In& x) {
  return x.dim() == 2 ? Tensor(x) : flatten(transpose(flatten(x, 2), 1, 2), 0, 1);
}

void check_weight(const char* op, const In& scores, const Tensor& weight) {
  const Shape classes{scores.shape()[1]};
  if (weight.defined() && (!(weight.shape() == classes) || weight.dtype() != scores.dtype()))
    fail<ShapeError>(scores.at, "{}: weight is {} {}: need {} {}", op, weight.dtype(),
                     weight.shape(), scores.dtype(), classes);
  if (weight.defined() && weight.requires_grad())
    fail<GraphError>(
        scores.at, "{}: weight requires a gradient, which this loss does not compute: detach() it",
        op);
}

void check_labels(const char* op, const char* name, const In& scores, const In& target,
                  const Tensor& weight, Reduction reduction) {
  detail::check(op, scores);
  detail::check(op, target);
  Shape batch{};
  for (int d = 0; d < scores.dim(); ++d)
    if (d != 1) batch.push_back(scores.shape()[d]);
  if (scores.dim() < 2 || !(target.shape() == batch))
    fail<ShapeError>(scores.at, "{}: {} {} with target {}: need [N, K, d1, ..] and [N, d1, ..]", op,
                     name, scores.shape(), target.shape());
  if (target.dtype() != int64)
    fail<DtypeError>(target.at, "{}: target is {}: need int64 class numbers", op, target.dtype());
  if (target.numel() == 0 && reduction != Reduction::sum && reduction != Reduction::none)
    fail<ShapeError>(scores.at, "{}: {} {} are an empty batch: it has no mean", op, name,
                     scores.shape());
  check_weight(op, scores, weight);
}

Labels::Labels(const char* op_, const char* name, const In& scores, const In& target_,
               const Tensor& weight, int64_t ignored_, Reduction reduction_)
    : op(op_),
      ignored(ignored_),
      reduction(reduction_),
      target((check_labels(op, name, scores, target_, weight, reduction),
              In(detail::pack(target_), target_.at))) {
  n = target->numel(), k = scores.shape()[1], batch = target->shape();
  weights = empty({n}, scores.dtype());
  double sum = 0;
  const Tensor of_class = weight.defined() ? detail::pack(weight) : ones({k}, scores.dtype());
  visit<Kinds::floating>(op, scores.dtype(), scores.at, [&]<class T>(T) {
    T* row = elements_of<T>(weights);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t label = elements_of<int64_t>(*target)[i];
      row[i] = 0;
      if (label == ignored) continue;
      if (label < 0 || label >= k)
        fail<IndexError>(target_.at, "{}: target{} is {}, but {} {} allow 0..{}", op,
                         nonzero(*target == label)[0].to_vector<int64_t>(), label, name,
                         scores.shape(), k - 1);
      row[i] = elements_of<T>(of_class)[label];
      sum += row[i];
    }
  });
  if (reduction == Reduction::batchmean) total = static_cast<double>(batch[0]);
  if (reduction != Reduction::mean) return;
  if (sum == 0)
    fail<ShapeError>(target_.at, "{}: every target is ignored or weighs nothing: there is no mean",
                     op);
  total = sum;
}

/// Reduces `losses` [n] and records the result. slope(g) turns the gradient of the losses into the
/// gradient of the scores.
template <class F>
Tensor record_reduction(const Labels& l, const In& scores, Tensor losses, F slope) {
  if (l.reduction == Reduction::none) {
    const Tensor each = record(l.op, losses, wrt(scores, slope));
    return l.batch.rank() == 1 ? each : reshape(each, l.batch);
  }
  Tensor value = sum(losses);
  if (l.total != 1) value /= l.total;
  if (!std::isfinite(value.item())) value = sum(losses / l.total);  // the sum alone overflowed
  return record(l.op, value, wrt(scores, [slope, n = l.n, total = l.total](const Tensor& g) {
                  return slope(expand(total == 1 ? g : g / total, {n}));
                }));
}

// ---- cross_entropy: with log p = log softmax(z) and w the classes' weights,
//     loss[n] = -w[t] log p[t],   t = target[n],
//     d loss[n] / d z[j] = w[t] (p[j] - [j = t]).

/// Returns the losses [N]. `sums` [2, N] gets the rows' `top` and `log_sum`, where log p = (z -
/// top)
/// - log_sum.
template <class T> Tensor entropies(const Labels& l, const In& logits, const Tensor& sums) {
  detail::enter("cross_entropy");
  const Tensor source = detail::pack(logits), losses = empty({l.n}, logits.dtype());
  const int64_t k = l.k, ignored = l.ignored, *label = elements_of<int64_t>(*l.target);
  const T *z = elements_of<T>(source), *weight = elements_of<T>(l.weights);
  T *loss = elements_of<T>(losses), *top = elements_of<T>(sums), *log_sum = top + l.n;
  detail::each_strip(l.n, k, [&](int64_t begin, int64_t count) {
    const Tensor scratch = empty({count * k}, logits.dtype());
    T* y = elements_of<T>(scratch);
    simd::call([&] {
      detail::exp_rows(z + begin * k, count, k, y, top + begin, log_sum + begin);
      for (int64_t i = begin; i < begin + count; ++i) {
        log_sum[i] = vmath::log(log_sum[i]);
        loss[i] =
            label[i] == ignored ? T(0) : -weight[i] * ((z[i * k + label[i]] - top[i]) - log_sum[i]);
      }
    });
  });
  return losses;
}

/// The gradient of the logits from the gradient g [N] of the losses.
template <class T>
Tensor entropy_slope(const Labels& l, const Tensor& sums, const In& logits, const In& g) {
  const Tensor source = detail::pack(logits), slope = empty({l.n, l.k}, logits.dtype());
  const int64_t k = l.k, ignored = l.ignored, step = g.strides()[0];
  const int64_t* label = elements_of<int64_t>(*l.target);
  const T *z = elements_of<T>(source), *outer = elements_of<T>(g), *top = elements_of<T>(sums);
  const T *log_sum = top + l.n, *weight = elements_of<T>(l.weights);
  T* to = elements_of<T>(slope);
  detail::each_strip(l.n, k, [&](int64_t begin, int64_t count) {
    simd::call([&] {
      for (int64_t i = begin; i < begin + count; ++i) {
        const T shift = top[i], rest = log_sum[i];
        detail::each_lane(k, [=](int64_t j) { to[i * k + j] = (z[i * k + j] - shift) - rest; });
      }
      detail::exp_all(count * k, to + begin * k);
      for (int64_t i = begin; i < begin + count; ++i) {
        T* row = to + i * k;
        const T scale = outer[i * step] * weight[i];
        if (label[i] == ignored) {  // its row may hold anything
          std::fill_n(row, k, T(0));
          continue;
        }
        detail::each_lane(k, [=](int64_t j) { row[j] *= scale; });
        row[label[i]] -= scale;
      }
    });
  });
  return slope;
}

Tensor entropy_backward(const Labels& l, const Tensor& sums, const In& logits, const In& g) {
  const char* op = "cross_entropy_backward";
  detail::enter("cross_entropy backward");
  detail::check(op, logits);
  detail::check(op, g);
  Tensor slope = visit<Kinds::floating>(op, logits.dtype(), logits.at, [&](auto zero) {
    return entropy_slope<decltype(zero)>(l, sums, logits, g);
  });
  auto by_g = [l, sums, logits = saved(logits)](const Tensor& h) {
    return sum(h * entropy_backward(l, sums, logits, ones({l.n}, h.dtype())), 1);
  };
  auto by_logits = [l, logits = saved(logits), g = saved(g)](const Tensor& h) {
    const Tensor weight = unsqueeze(l.weights, 1), p = where(weight != 0, softmax(logits, 1), 0.0);
    return unsqueeze(g, 1) * weight * p * (h - sum(p * h, 1, true));
  };
  return record(op, slope, wrt(g, by_g), wrt(logits, by_logits));
}

/// cross_entropy with a target of the logits' shape [N, K, d1, ...].
Tensor entropy_of_probabilities(const In& logits, const In& target, const CrossEntropyOptions& o) {
  check_inputs("cross_entropy", logits, target, "logits", "target");
  check_weight("cross_entropy", logits, o.weight);
  const int64_t k = logits.shape()[1];
  const double s = o.label_smoothing;
  Tensor p = s == 0 ? Tensor(target) : target * (1 - s) + s / static_cast<double>(k);
  Shape classes = Shape::filled(logits.dim(), 1);
  classes[1] = k;
  if (o.weight.defined()) p = p * reshape(o.weight, classes);
  return reduce_losses("cross_entropy", -sum(p * log_softmax(logits, 1), 1), o.reduction);
}

}  // namespace

Tensor reduce_losses(const char* op, const In& losses, Reduction reduction) {
  detail::check(op, losses);
  if (reduction == Reduction::none) return losses;
  if (reduction == Reduction::sum) return sum(losses);
  if (losses.numel() == 0 || (reduction == Reduction::batchmean && losses.dim() == 0))
    fail<ShapeError>(losses.at, "{}: the losses have the shape {}: there is no mean", op,
                     losses.shape());
  if (reduction == Reduction::mean) return mean(losses);
  return sum(losses) / static_cast<double>(losses.shape()[0]);
}

Tensor nll_loss(const In& log_probs, const In& target, const NllOptions& o) {
  Frame frame(log_probs.at);
  const Labels l("nll_loss", "log_probs", log_probs, target, o.weight, o.ignore_index, o.reduction);
  const Tensor labels = reshape(l.target, {l.n, 1}), ignored = labels == l.ignored;
  const Tensor picked = gather(rows_of(log_probs), 1, where(ignored, 0, labels));
  const Tensor losses = reshape(where(ignored, 0, -picked * unsqueeze(l.weights, 1)), {l.n});
  return record_reduction(l, losses, losses.detach(), [](const Tensor& g) { return g; });
}

Tensor cross_entropy(const In& logits, const In& target, const CrossEntropyOptions& o) {
  Frame frame(logits.at);
  if (!(o.label_smoothing >= 0 && o.label_smoothing <= 1))
    fail<ValueError>(logits.at, "cross_entropy: label_smoothing is {}: need [0, 1]",
                     o.label_smoothing);
  detail::check("cross_entropy", logits);
  detail::check("cross_entropy", target);
  if (is_floating(target.dtype()) && target.shape() == logits.shape() && logits.dim() >= 2)
    return entropy_of_probabilities(logits, target, o);
  const Labels l("cross_entropy", "logits", logits, target, o.weight, o.ignore_index, o.reduction);
  const In rows(rows_of(logits), logits.at);
  const Tensor sums = empty({2, l.n}, rows.dtype());
  Tensor losses = visit<Kinds::floating>(l.op, rows.dtype(), rows.at, [&](auto zero) {
    return entropies<decltype(zero)>(l, rows, sums);
  });
  auto slope = [l, sums, rows = saved(rows)](const Tensor& g) {
    return entropy_backward(l, sums, rows, g);
  };
  if (o.label_smoothing == 0) return record_reduction(l, rows, std::move(losses), slope);
  // (1 - s) loss[n] - s/K sum_j w[j] log p[j]
  const Tensor hard = record(l.op, losses, wrt(rows, slope));
  const Tensor counts = reshape(l.target, {l.n}) != l.ignored;  // other rows may hold anything
  const bool clean = all(counts).item<bool>();
  Tensor log_p = log_softmax(clean ? Tensor(rows) : where(unsqueeze(counts, 1), rows, 0), 1);
  if (o.weight.defined()) log_p = log_p * o.weight;
  const Tensor even = where(counts, sum(log_p, 1), 0) * (o.label_smoothing / double(l.k));
  const Tensor mixed = hard * (1 - o.label_smoothing) - even;
  return record_reduction(l, mixed, mixed.detach(), [](const Tensor& g) { return g; });
}

}  // namespace descent
