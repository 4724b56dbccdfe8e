#include "descent/nn/init.hpp"

#include <cmath>

#include "descent/core/graph/graph.hpp"
#include "descent/core/ops/arithmetic.hpp"
#include "descent/core/ops/random.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn::init {

void uniform_(const Tensor& x, double low, double high, Generator& generator, At at) {
  if (!(low <= high && std::isfinite(high - low)))
    fail<ValueError>(at, "uniform_: from {} to {}: need a finite, ordered range", low, high);
  NoGradGuard no_grad;
  x.copy_(rand(x.shape(), x.dtype(), generator, at) * (high - low) + low);
}
void normal_(const Tensor& x, double mean, double std, Generator& generator, At at) {
  if (!(std >= 0 && std::isfinite(mean) && std::isfinite(std)))
    fail<ValueError>(at, "normal_: mean {} and std {}: need both finite and std >= 0", mean, std);
  NoGradGuard no_grad;
  x.copy_(randn(x.shape(), x.dtype(), generator, at) * std + mean);
}
void constant_(const Tensor& x, Number value, At at) {
  NoGradGuard no_grad;
  x.fill_(value, at);
}

int64_t fan_in(const Tensor& weight, At at) {
  if (weight.dim() < 2)
    fail<ShapeError>(at, "init: weight {} has no fan: need rank 2 or more", weight.shape());
  int64_t n = 1;
  for (int i = 1; i < weight.dim(); ++i) n *= weight.size(i);
  return n;
}

void kaiming_uniform_(const Tensor& weight, double a, Generator& generator, At at) {
  if (weight.numel() == 0) return;  // its fan may be 0
  const double bound = std::sqrt(6 / ((1 + a * a) * static_cast<double>(fan_in(weight, at))));
  uniform_(weight, -bound, bound, generator, at);
}

}}  // namespace descent::nn::init
