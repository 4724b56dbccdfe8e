#include "descent/nn/loss.hpp"

#include <cmath>
#include <numbers>

#include "descent/core/graph/graph.hpp"
#include "descent/nn/layers/parameter.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// Refuses b unless it has a's dtype and this shape.
static void check_beside(const char* op, const In& a, const In& b, const Shape& shape) {
  check_inputs(op, a, b, "the first tensor", "another one");
  check_floating(op, a);
  if (!(b.shape() == shape))
    fail<ShapeError>(b.at, "{}: {} beside {}: need {}", op, b.shape(), a.shape(), shape);
}

Tensor gaussian_nll_loss(const In& prediction, const In& target, const In& var,
                         const GaussianNllOptions& o) {
  const char* op = "gaussian_nll_loss";
  Frame frame(prediction.at);
  check_input(op, prediction);
  check_beside(op, prediction, target, prediction.shape());
  Shape shape = prediction.shape();
  check_input(op, var);
  if (var.dim() > 0 && var.dim() == shape.rank() && var.shape().back() == 1) shape[-1] = 1;
  check_beside(op, prediction, var, shape);
  if (!(o.eps > 0)) fail<ValueError>(var.at, "{}: eps is {}: need a number above 0", op, o.eps);
  if (any(var < 0).item<bool>()) fail<ValueError>(var.at, "{}: a variance is below 0", op);
  const Tensor raise = maximum(var.detach(), o.eps) - var.detach(), v = var + raise;
  const Tensor losses = (log(v) + square(prediction - target) / v) * 0.5;
  const double constant = o.full ? std::log(2 * std::numbers::pi) / 2 : 0;
  return reduce_losses(op, losses + constant, o.reduction);
}

Tensor margin_ranking_loss(const In& a, const In& b, const In& target, const MarginOptions& o) {
  const char* op = "margin_ranking_loss";
  Frame frame(a.at);
  check_input(op, a);
  for (const In* x : {&b, &target}) check_beside(op, a, *x, a.shape());
  return reduce_losses(op, relu(o.margin - target * (a - b)), o.reduction);
}

Tensor cosine_embedding_loss(const In& a, const In& b, const In& target, const MarginOptions& o) {
  const char* op = "cosine_embedding_loss";
  Frame frame(a.at);
  check_input(op, a);
  if (a.dim() != 1 && a.dim() != 2)
    fail<ShapeError>(a.at, "{}: a {} has rank {}: need [N, D] or [D]", op, a.shape(), a.dim());
  check_beside(op, a, b, a.shape());
  check_beside(op, a, target, a.dim() == 1 ? Shape{} : Shape{a.shape()[0]});
  auto length = [](const In& x) { return sum(square(x), -1) + 1e-12; };
  const Tensor cosine = sum(a * b, -1) / sqrt(length(a) * length(b));
  const Tensor apart = where(target == -1, relu(cosine - o.margin), 0);
  return reduce_losses(op, where(target == 1, 1 - cosine, apart), o.reduction);
}

Tensor triplet_margin_loss(const In& anchor, const In& positive, const In& negative,
                           const TripletMarginOptions& o) {
  const char* op = "triplet_margin_loss";
  Frame frame(anchor.at);
  check_input(op, anchor);
  if (anchor.dim() == 0) fail<ShapeError>(anchor.at, "{}: anchor has rank 0: need [.., D]", op);
  for (const In* x : {&positive, &negative}) check_beside(op, anchor, *x, anchor.shape());
  if (!(o.margin > 0))
    fail<ValueError>(anchor.at, "{}: margin is {}: need a number above 0", op, o.margin);
  auto distance = [&](const In& x, const In& y) { return norm(x - y + o.eps, -1, {.p = o.p}); };
  Tensor far = distance(anchor, negative);
  if (o.swap) far = minimum(far, distance(positive, negative));
  return reduce_losses(op, relu(distance(anchor, positive) - far + o.margin), o.reduction);
}

// ---- ctc_loss

namespace {

/// What stands for log 0: sums of such numbers are finite, and below those of any float32.
constexpr double kLogZero = -1e100;

/// The labels with a blank around each, and blanks behind their end: [N, 2 S + 1].
Tensor put_blanks(const In& targets, const In& lengths, int64_t blank, int64_t k) {
  const int64_t n = targets.shape()[0], s = targets.shape()[1];
  const Tensor inside = arange(s) < unsqueeze(lengths, 1);
  const Tensor strange = logical_or(logical_or(targets < 0, targets >= k), targets == blank);
  if (const Tensor wrong = nonzero(logical_and(inside, strange)); wrong.numel() > 0)
    fail<IndexError>(targets.at, "ctc_loss: targets{} is {}: need 0 to {}, but not the blank, {}",
                     wrong[0].to_vector<int64_t>(),
                     targets[wrong[0][0].item<int64_t>()][wrong[0][1].item<int64_t>()].item(),
                     k - 1, blank);
  const Tensor labels = where(inside, targets, blank), blanks = full_like(labels, blank);
  return pad(reshape(stack({blanks, labels}, 2), {n, 2 * s}), {0, 1}, {.value = blank});
}

}  // namespace

Tensor ctc_loss(const In& log_probs, const In& targets, const In& input_lengths,
                const In& target_lengths, const CtcOptions& o) {
  const char* op = "ctc_loss";
  check_floating(op, log_probs);
  check_input(op, targets);
  const Frame frame(log_probs.at);
  const Shape &p = log_probs.shape(), &t = targets.shape();
  if (p.rank() != 3 || t.rank() != 2 || targets.dtype() != int64 || p[1] != t[0] || p[0] == 0)
    fail<ShapeError>(log_probs.at,
                     "{}: log_probs {} with targets {} {}: need [T, N, K], int64 "
                     "[N, S] and T > 0",
                     op, p, targets.dtype(), t);
  check_lengths(op, "input_lengths", input_lengths, p[1], 1, p[0]);
  check_lengths(op, "target_lengths", target_lengths, p[1], 0, t[1]);
  if (o.blank < 0 || o.blank >= p[2])
    fail<ValueError>(log_probs.at, "{}: blank is {}: need 0 to {}", op, o.blank, p[2] - 1);
  const Tensor labels = put_blanks(targets, target_lengths, o.blank, p[2]);
  // Sums of many steps lose digits: they are in float64.
  const Tensor picked = gather(log_probs, 2, expand(labels, {p[0], p[1], labels.size(1)}));
  std::vector<Tensor> emitted;  // by two levels, because the gradient of each part is made whole
  for (const Tensor& part : split(maximum(picked.to(float64), kLogZero), 32))
    for (const Tensor& one : split(part, 1)) emitted.push_back(one[0]);
  auto moved = [&](const Tensor& x, int64_t by, Number fill) {
    return pad(x, {by, -by}, {.value = fill});
  };
  // A path may leave out a blank between two labels that differ.
  const Tensor skips = logical_and(labels != o.blank, labels != moved(labels, 2, o.blank));
  Tensor alpha = where(arange(labels.size(1)) < 2, emitted[0], kLogZero);
  for (int64_t step = 1; step < p[0]; ++step) {
    const Tensor two = where(skips, moved(alpha, 2, kLogZero), kLogZero);
    const Tensor next = logsumexp(stack({alpha, moved(alpha, 1, kLogZero), two}), 0) +
                        emitted[static_cast<std::size_t>(step)];
    alpha = where(unsqueeze(input_lengths > step, 1), next, alpha);
  }
  const Tensor end = unsqueeze(target_lengths * 2, 1);
  const Tensor label = where(end > 0, gather(alpha, 1, maximum(end - 1, 0)), kLogZero);
  Tensor losses = -logsumexp(cat({gather(alpha, 1, end), label}, 1), 1);
  losses = where(losses > -kLogZero / 2, o.zero_infinity ? 0 : HUGE_VAL, losses);
  if (o.reduction == Reduction::mean) losses = losses / maximum(target_lengths, 1).to(float64);
  return reduce_losses(op, losses.to(log_probs.dtype()), o.reduction);
}

}}  // namespace descent::nn
