#include "descent/optim/clip.hpp"

#include <cmath>

#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// Replaces each element x of every gradient by change(x). An optimizer does not count the result
/// as a new gradient. Gradients to which there are other handles are copied first, all before the
/// first change.
template <class F> static void change_gradients(const NamedTensors& parameters, F change) {
  NoGradGuard no_grad;
  std::vector<std::pair<Tensor*, Tensor>> all;
  for (const auto& [name, p] : parameters)
    if (Tensor* g = gradient_of(p))
      all.emplace_back(g, Peek::unique(*g) ? Tensor() : g->detach().clone());
  for (auto& [g, copy] : all) {
    if (copy.defined()) *g = std::move(copy);
    map_in_place("clip", *g, change);
  }
}

void detail::scale_gradients(const NamedTensors& parameters, double factor) {
  if (factor != 1)
    change_gradients(parameters, [=]<class T>(T x) { return x * static_cast<T>(factor); });
}

double clip_grad_norm(const NamedTensors& parameters, double max_norm, ClipNormOptions o, At at) {
  detail::require(max_norm >= 0, "clip_grad_norm: max_norm", max_norm, "at least 0", at);
  detail::require(o.p > 0, "clip_grad_norm: p", o.p, "a number above 0", at);
  NoGradGuard no_grad;
  std::vector<double> norms{0};
  for (const auto& [name, p] : parameters)
    if (const Tensor g = p.grad(); g.defined() && g.numel() > 0)
      norms.push_back(norm(g.to(float64), {}, {.p = o.p}).item());
  const double n = norm(tensor(norms, float64), {}, {.p = o.p}).item(),
               factor = max_norm / (n + 1e-6);
  if (o.error_if_nonfinite && !std::isfinite(n))
    fail<NumericError>(at, "clip_grad_norm: the gradients' norm is {}: nothing was clipped", n);
  detail::scale_gradients(parameters, factor > 1 ? 1 : factor);  // NaN stays NaN
  return n;
}

void clip_grad_value(const NamedTensors& parameters, double limit, At at) {
  detail::require(limit >= 0, "clip_grad_value: limit", limit, "at least 0", at);
  change_gradients(parameters, [=]<class T>(T x) {
    const T bound = static_cast<T>(limit);
    return x < -bound ? -bound : x > bound ? bound : x;
  });
}

}}  // namespace descent::optim
