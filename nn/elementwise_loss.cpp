#include "descent/nn/elementwise_loss.hpp"

#include <numbers>

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {
namespace {

void check_pair(const char* op, const In& x, const In& target, Reduction reduction) {
  check_inputs(op, x, target, "prediction", "target");
  check_floating(op, x);
  if (!(x.shape() == target.shape()))
    fail<ShapeError>(x.at, "{}: prediction {} with target {}: need one shape", op, x.shape(),
                     target.shape());
  if (x.numel() == 0 && reduction != Reduction::sum && reduction != Reduction::none)
    fail<ShapeError>(x.at, "{}: prediction {} is empty: it has no mean", op, x.shape());
}

/// Checks the inputs and reduces what `losses()` computes.
template <class F>
Tensor loss_of(const char* op, const In& x, const In& target, Reduction reduction, F losses) {
  Frame frame(x.at);
  check_pair(op, x, target, reduction);
  return reduce_losses(op, losses(), reduction);
}

/// ValueError that names the first element of `x` where `wrong` is true.
void check_elements(const char* op, const char* name, const In& x, const In& wrong,
                    const char* rule) {
  if (any(wrong).item<bool>())
    fail<ValueError>(x.at, "{}: {}{} is {}: need {}", op, name,
                     nonzero(wrong)[0].to_vector<int64_t>(), index(x.detach(), wrong)[0].item(),
                     rule);
}

/// `losses` times `weight`, if that is defined.
Tensor weigh(const char* op, const char* name, const In& losses, const Tensor& weight) {
  if (!weight.defined()) return losses;
  if (weight.dtype() != losses.dtype() || !broadcasts_to(weight.shape(), losses.shape()))
    fail<ShapeError>(losses.at, "{}: {} is {} {}: need {} and a shape that broadcasts to {}", op,
                     name, weight.dtype(), weight.shape(), losses.dtype(), losses.shape());
  return losses * weight;
}

/// The gradient of `mse_loss` for the prediction a, with n for the divisor of the losses: 2 (a - b)
/// g / n, where g has a's shape or is a scalar. -n gives the gradient for the target b.
Tensor mse_backward(const In& g, const In& a, const In& b, double n) {
  const char* op = "mse_loss_backward";
  auto f = [n](auto x, auto y, auto outer) { return outer / decltype(x)(n) * ((x - y) * 2); };
  auto by_g = [a = saved(a), b = saved(b), n](const Tensor& h) { return h * (a - b) * (2 / n); };
  auto by = [g = saved(g)](double factor) {
    return [g, factor](const Tensor& h) { return h * g * factor; };
  };
  return record(op, zip(op, a, b, g, f), wrt(g, by_g), wrt(a, by(2 / n)), wrt(b, by(-2 / n)));
}

Tensor huber(const In& off, double delta) {
  const Tensor near = clamp(off, -delta, delta);
  return near * (off - near * 0.5);
}

/// The losses of probabilities p, with logarithms of at least -100.
Tensor entropies(const In& p, const In& target) {
  const char* op = "binary_cross_entropy";
  auto f = [](auto v, auto y) {
    const auto on = vmath::log(v), off = vmath::log1p(-v), least = decltype(v)(-100);
    return (y - 1) * (off < least ? least : off) - y * (on < least ? least : on);
  };
  return record(
      op, zip(op, p, target, f),
      wrt(p, [p = saved(p), target = saved(target)](
                 const Tensor& g) { return g * (p - target) / maximum(p * (1 - p), 1e-12); }),
      wrt(target, [p = saved(p)](const Tensor& g) {
        return g * (maximum(log1p(-p), -100) - maximum(log(p), -100));
      }));
}

}  // namespace

Tensor mse_loss(const In& x, const In& y, const MseOptions& o) {
  Frame frame(x.at);
  check_pair("mse_loss", x, y, o.reduction);
  const Tensor losses = zip("mse_loss", x, y, [](auto a, auto b) { return (a - b) * (a - b); });
  const Tensor value = reduce_losses("mse_loss", losses, o.reduction);
  const auto n = static_cast<double>(o.reduction == Reduction::mean        ? x.numel()
                                     : o.reduction == Reduction::batchmean ? x.shape()[0]
                                                                           : 1);
  auto slope = [x = saved(x), y = saved(y)](double divisor) {
    return [x, y, divisor](const Tensor& g) { return mse_backward(g, x, y, divisor); };
  };
  return record("mse_loss", value, wrt(x, slope(n)), wrt(y, slope(-n)));
}

Tensor l1_loss(const In& x, const In& y, const L1Options& o) {
  return loss_of("l1_loss", x, y, o.reduction, [&] { return abs(x - y); });
}

Tensor huber_loss(const In& x, const In& y, const HuberOptions& o) {
  if (!(o.delta > 0))
    fail<ValueError>(x.at, "huber_loss: delta is {}: need a number above 0", o.delta);
  return loss_of("huber_loss", x, y, o.reduction, [&] { return huber(x - y, o.delta); });
}

Tensor smooth_l1_loss(const In& x, const In& y, const SmoothL1Options& o) {
  if (!(o.beta >= 0)) fail<ValueError>(x.at, "smooth_l1_loss: beta is {}: need at least 0", o.beta);
  return loss_of("smooth_l1_loss", x, y, o.reduction,
                 [&] { return o.beta == 0 ? abs(x - y) : huber(x - y, o.beta) / o.beta; });
}

Tensor binary_cross_entropy(const In& x, const In& y, const BinaryCrossEntropyOptions& o) {
  const char* op = "binary_cross_entropy";
  return loss_of(op, x, y, o.reduction, [&] {
    auto wrong = [](const In& v) { return logical_not(logical_and(v >= 0, v <= 1)); };
    check_elements(op, "prediction", x, wrong(x), "[0, 1]");
    check_elements(op, "target", y, wrong(y), "[0, 1]");
    return weigh(op, "weight", entropies(x, y), o.weight);
  });
}

Tensor binary_cross_entropy_with_logits(const In& x, const In& y, const LogitsOptions& o) {
  const char* op = "binary_cross_entropy_with_logits";
  return loss_of(op, x, y, o.reduction, [&] {
    const Tensor on = weigh(op, "pos_weight", y * logsigmoid(x), o.pos_weight);
    return weigh(op, "weight", (y - 1) * logsigmoid(-x) - on, o.weight);
  });
}

Tensor soft_margin_loss(const In& x, const In& y, const SoftMarginOptions& o) {
  return loss_of("soft_margin_loss", x, y, o.reduction, [&] { return -logsigmoid(y * x); });
}

Tensor hinge_embedding_loss(const In& x, const In& y, const HingeEmbeddingOptions& o) {
  const char* op = "hinge_embedding_loss";
  return loss_of(op, x, y, o.reduction, [&] {
    check_elements(op, "target", y, abs(y.detach()) != 1, "1 or -1");
    return where(y == 1, x, relu(o.margin - x));
  });
}

Tensor kl_div(const In& x, const In& y, const KlDivOptions& o) {
  return loss_of("kl_div", x, y, o.reduction, [&] {
    return o.log_target ? exp(y) * (y - x) : y * log(where(y == 0, 1, y)) - y * x;
  });
}

Tensor poisson_nll_loss(const In& x, const In& y, const PoissonNllOptions& o) {
  return loss_of("poisson_nll_loss", x, y, o.reduction, [&] {
    const Tensor losses = o.log_input ? exp(x) - y * x : x - y * log(x + o.eps);
    if (!o.full) return losses;
    const Tensor n = where(y > 1, y, 1);  // the others get no gradient, and it must not be NaN
    const Tensor stirling = n * log(n) - n + log(n * (2 * std::numbers::pi)) * 0.5;
    return losses + where(y > 1, stirling, 0);
  });
}

}}  // namespace descent::nn
