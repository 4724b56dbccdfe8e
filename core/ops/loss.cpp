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
         const Tensor& weight_, int64_t ignored_, Reduction reduction_);

  template <class T> struct Elements {
    const int64_t* label;
    const T* class_weight;  // null if all are 1
    const T* weight;
  };
  /// The elements; GraphError if `target` or `weight` has been changed in the meantime.
  template <class T> Elements<T> elements() const {
    return {elements_of<int64_t>(*target), weight->numel() == 0 ? nullptr : elements_of<T>(*weight),
            elements_of<T>(weights)};
  }

  const char* op;
  int64_t n = 0, k = 0, ignored;
  Shape batch;  // [N, d1, ...]: the shape of the target, which has n elements
  Reduction reduction;
  Saved target, weight;  // weight: [K], or [0] if all are 1
  Tensor weights;        // [N]: the weight of the row's class, 0 if the row is ignored
  double total = 1;      // the divisor of the losses' sum
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
               const Tensor& weight_, int64_t ignored_, Reduction reduction_)
    : op(op_),
      ignored(ignored_),
      reduction(reduction_),
      target((check_labels(op, name, scores, target_, weight_, reduction),
              In(detail::pack(target_), target_.at))),
      weight(
          In(weight_.defined() ? detail::pack(weight_) : empty({0}, scores.dtype()), scores.at)) {
  n = target->numel(), k = scores.shape()[1], batch = target->shape();
  weights = empty({n}, scores.dtype());
  double sum = 0;
  visit<Kinds::floating>(op, scores.dtype(), scores.at, [&]<class T>(T) {
    const auto e = elements<T>();
    T* row = elements_of<T>(weights);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t label = e.label[i];
      row[i] = 0;
      if (label == ignored) continue;
      if (label < 0 || label >= k)
        fail<IndexError>(target_.at, "{}: target{} is {}, but {} {} allow 0..{}", op,
                         nonzero(*target == label)[0].to_vector<int64_t>(), label, name,
                         scores.shape(), k - 1);
      row[i] = e.class_weight ? e.class_weight[label] : T(1);
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

// ---- nll_loss: the loss of each row and its gradient, each of which is the other's derivative

/// The gradient of the scores from the gradient g of the losses.
Tensor nll_slope(const Labels& l, const In& g);

/// The losses -weight[n] x[n, target[n]].
Tensor nll_rows(const Labels& l, const In& x) {
  detail::enter("nll_loss");
  const Tensor source = detail::pack(x);
  Tensor losses = empty({l.n}, x.dtype());
  visit<Kinds::floating>(l.op, x.dtype(), x.at, [&]<class T>(T) {
    const auto e = l.elements<T>();
    const T* from = elements_of<T>(source);
    T* loss = elements_of<T>(losses);
    for (int64_t i = 0; i < l.n; ++i)
      loss[i] = e.label[i] == l.ignored ? T(0) : -e.weight[i] * from[i * l.k + e.label[i]];
  });
  return record("nll_loss", losses, wrt(x, [l](const Tensor& g) { return nll_slope(l, g); }));
}
Tensor nll_slope(const Labels& l, const In& g) {
  detail::enter("nll_loss backward");
  Tensor slope = zeros({l.n, l.k}, g.dtype());
  visit<Kinds::floating>(l.op, g.dtype(), g.at, [&]<class T>(T) {
    const auto e = l.elements<T>();
    const T* outer = elements_of<T>(g);
    T* to = elements_of<T>(slope);
    for (int64_t i = 0; i < l.n; ++i)
      if (e.label[i] != l.ignored)
        to[i * l.k + e.label[i]] = -e.weight[i] * outer[i * g.strides()[0]];
  });
  return record("nll_loss_backward", slope,
                wrt(g, [l](const Tensor& h) { return nll_rows(l, h); }));
}

// ---- cross_entropy: with log p = log softmax(z), a smoothing of s, and w the classes' weights,
//     loss[n] = -(1 - s) w[t] log p[t] - s/K sum_j w[j] log p[j],   t = target[n],
//     d loss[n] / d z[j] = mass[n] p[j] - (1 - s) w[t] [j = t] - s/K w[j],
//     mass[n] = (1 - s) w[t] + s/K sum_j w[j].

struct Entropy {
  Entropy(const Labels& labels, double smoothing_)
      : l(labels), smoothing(smoothing_), rows(empty({3, l.n}, l.weights.dtype())) {}

  template <class T> struct Elements : Labels::Elements<T> {
    T *top, *log_sum, *mass;
    T on, spread;  // 1 - s and s/K
  };
  template <class T> Elements<T> elements() const {
    T* row = elements_of<T>(rows);
    return {l.elements<T>(),
            row,
            row + l.n,
            row + 2 * l.n,
            static_cast<T>(1 - smoothing),
            static_cast<T>(smoothing / static_cast<double>(l.k))};
  }

  Labels l;
  double smoothing;
  Tensor rows;  // [3, N]: top, log_sum, mass (0 if ignored): log p = (z - top) - log_sum
};

/// Returns the losses [N], and fills s.rows.
template <class T> Tensor entropies(const Entropy& s, const In& logits) {
  const Tensor source = detail::pack(logits), losses = empty({s.l.n}, logits.dtype());
  const auto e = s.elements<T>();
  detail::enter(e.spread != 0 ? detail::Path("cross_entropy smoothed")
                              : detail::Path("cross_entropy"));
  const int64_t k = s.l.k, ignored = s.l.ignored;
  const T* z = elements_of<T>(source);
  T* loss = elements_of<T>(losses);
  const T everything = e.class_weight
                           ? detail::reduce_row<detail::Plus>(e.class_weight, k, detail::Value{})
                           : static_cast<T>(k);
  detail::each_strip(s.l.n, k, [&](int64_t begin, int64_t count) {
    const Tensor scratch = empty({count * k}, logits.dtype());
    T* y = elements_of<T>(scratch);
    simd::call([&] {
      detail::exp_rows(z + begin * k, count, k, y, e.top + begin, e.log_sum + begin);
      for (int64_t i = begin; i < begin + count; ++i) {
        const T* row = z + i * k;
        const T top = e.top[i], log_sum = e.log_sum[i] = vmath::log(e.log_sum[i]);
        loss[i] = e.mass[i] = 0;
        if (e.label[i] == ignored) continue;
        T all = 0;
        if (e.spread != 0) {
          detail::each_lane(k, [=](int64_t j) { y[j] = (row[j] - top) - log_sum; });
          if (e.class_weight) detail::each_lane(k, [=](int64_t j) { y[j] *= e.class_weight[j]; });
          all = detail::reduce_row<detail::Plus>(y, k, detail::Value{});
        }
        e.mass[i] = e.on * e.weight[i] + e.spread * everything;
        loss[i] = -(e.on * e.weight[i] * ((row[e.label[i]] - top) - log_sum) + e.spread * all);
      }
    });
  });
  return losses;
}

/// The gradient of the logits from the gradient g [N] of the losses.
template <class T> Tensor entropy_slope(const Entropy& s, const In& logits, const In& g) {
  const Tensor source = detail::pack(logits), slope = empty({s.l.n, s.l.k}, logits.dtype());
  const auto e = s.elements<T>();
  const int64_t k = s.l.k, ignored = s.l.ignored, step = g.strides()[0];
  const T *z = elements_of<T>(source), *outer = elements_of<T>(g);
  T* to = elements_of<T>(slope);
  detail::each_strip(s.l.n, k, [&](int64_t begin, int64_t count) {
    simd::call([&] {
      for (int64_t i = begin; i < begin + count; ++i) {
        const T top = e.top[i], log_sum = e.log_sum[i];
        detail::each_lane(k, [=](int64_t j) { to[i * k + j] = (z[i * k + j] - top) - log_sum; });
      }
      detail::exp_all(count * k, to + begin * k);
      for (int64_t i = begin; i < begin + count; ++i) {
        T* row = to + i * k;
        const T weight = outer[i * step], scale = weight * e.mass[i], shared = weight * e.spread;
        if (e.label[i] == ignored) {  // its row may hold anything
          std::fill_n(row, k, T(0));
          continue;
        }
        detail::each_lane(k, [=](int64_t j) { row[j] *= scale; });
        if (e.spread != 0)
          detail::each_lane(k, [=](int64_t j) {
            row[j] -= e.class_weight ? shared * e.class_weight[j] : shared;
          });
        row[e.label[i]] -= weight * e.on * e.weight[i];
      }
    });
  });
  return slope;
}

Tensor entropy_backward(const Entropy& s, const In& logits, const In& g) {
  const char* op = "cross_entropy_backward";
  detail::enter("cross_entropy backward");
  detail::check(op, logits);
  detail::check(op, g);
  Tensor slope = visit<Kinds::floating>(op, logits.dtype(), logits.at, [&](auto zero) {
    return entropy_slope<decltype(zero)>(s, logits, g);
  });
  auto by_g = [s, logits = saved(logits)](const Tensor& h) {
    return sum(h * entropy_backward(s, logits, ones({s.l.n}, h.dtype())), 1);
  };
  auto by_logits = [s, logits = saved(logits), g = saved(g)](const Tensor& h) {
    const Tensor mass = unsqueeze(select(s.rows, 0, 2), 1),
                 p = where(mass != 0, softmax(logits, 1), 0.0);
    return unsqueeze(g, 1) * mass * p * (h - sum(p * h, 1, true));
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
  const In rows(rows_of(log_probs), log_probs.at);
  return record_reduction(l, rows, nll_rows(l, rows.detach()),
                          [l](const Tensor& g) { return nll_slope(l, g); });
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
  const Entropy s(l, o.label_smoothing);
  const In rows(rows_of(logits), logits.at);
  Tensor losses = visit<Kinds::floating>(
      l.op, rows.dtype(), rows.at, [&](auto zero) { return entropies<decltype(zero)>(s, rows); });
  return record_reduction(l, rows, std::move(losses), [s, rows = saved(rows)](const Tensor& g) {
    return entropy_backward(s, rows, g);
  });
}

}  // namespace descent
