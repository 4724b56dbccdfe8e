#include "descent/nn/loss.hpp"

#include <cmath>
#include <numbers>

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// Refuses b unless it has a's dtype and this shape.
static void check_beside(const char* op, const In& a, const In& b, const Shape& shape) {
  check_inputs(op, a, b, "the first tensor", "another one");
  if (!is_floating(a.dtype()))
    fail<DtypeError>(a.at, "{}: the tensors are {}: need float32 or float64", op, a.dtype());
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

}}  // namespace descent::nn
