#include "descent/optim/tensor_rules.hpp"

#include <cmath>

#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

// These functions run with S = double only; an explanation shows their results.

template <> void LARSRule<double>::prepare(Preparation& x) const {
  x.quantities = {norm(x.theta).item(), norm(x.g).item()};
}

template <> void LAMBRule<double>::prepare(Preparation& x) const {
  const Tensor u = x.direction();
  x.quantities = {norm(x.theta).item(), norm(u).item()};
}

static double rms(const Tensor& x) {
  return norm(x).item() / std::sqrt(static_cast<double>(x.numel()));
}

template <> void AdafactorRule<double>::prepare(Preparation& x) const {
  const Tensor g2 = x.g * x.g;
  // The weight of the new value, 1 - beta2, is t^beta2_decay, which is 1 in the first step.
  auto mean_with = [w = std::pow(x.t, beta2_decay)](const Tensor& mean, const Tensor& now) {
    if (!mean.defined()) return now;
    return w < 0.5 ? mean + w * (now - mean) : now + (1 - w) * (mean - now);  // lerp
  };
  Tensor &r = x.state[0], &c = x.state[1], &v = x.state[2];
  if (x.g.dim() < 2) {
    v = mean_with(v, g2);
    const Tensor one = ones({}, v.dtype());
    x.fields = {v, one, one};
  } else {
    r = mean_with(r, g2.mean(-1, true));
    c = mean_with(c, g2.mean(-2, true));
    x.fields = {r, c, r.mean(-2, true)};
  }
  x.quantities = {rms(x.theta), 0};
  x.quantities[1] = rms(x.direction());
}

template <> const char* MuonRule<double>::refuses(const Tensor& parameter) {
  return parameter.dim() == 2 ? nullptr : "is not a matrix: Muon updates matrices only";
}

template <> void MuonRule<double>::prepare(Preparation& x) const {
  const auto n = static_cast<double>(x.theta.size(0)), m = static_cast<double>(x.theta.size(1));
  Tensor u = x.direction();
  const bool tall = n > m;
  if (tall) u = u.t();
  if (const double length = norm(u).item(); length > 0) u = u / std::max(length, eps);
  for (int k = 0; k < static_cast<int>(ns_steps); ++k) {
    const Tensor gram = matmul(u, u.t());
    u = a * u + matmul(b * gram + c * matmul(gram, gram), u);
  }
  x.fields = {tall ? u.t() : u};
  switch (MuonScale(adjust_lr)) {
    case MuonScale::original: x.quantities = {std::sqrt(std::max(1.0, n / m))}; break;
    case MuonScale::match_rms_adamw: x.quantities = {0.2 * std::sqrt(std::max(n, m))}; break;
    case MuonScale::spectral_unclamped: x.quantities = {std::sqrt(n / m)}; break;
  }
}

template <> void PolyakRule<double>::prepare_group(std::span<Preparation> group) const {
  double norm2 = 0;
  for (const Preparation& x : group) norm2 += std::pow(norm(x.g).item(), 2);
  for (Preparation& x : group) x.quantities = {x.loss, norm2};
}

template class Optimizer<LARSRule>;
template class Optimizer<LAMBRule>;
template class Optimizer<AdafactorRule>;
template class Optimizer<MuonRule>;
template class Optimizer<PolyakRule>;

}}  // namespace descent::optim
