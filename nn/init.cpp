#include "descent/nn/init.hpp"

#include <cmath>

#include "descent/core/graph/graph.hpp"
#include "descent/core/ops/ops.hpp"
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
void trunc_normal_(const Tensor& x, double mean, double std, double low, double high,
                   Generator& generator, At at) {
  const auto below = [&](double v) { return std::erfc((mean - v) / (std * std::sqrt(2.0))) / 2; };
  if (!(std > 0 && std::isfinite(mean) && below(high) - below(low) >= 0.01))
    fail<ValueError>(at,
                     "trunc_normal_: mean {} and std {} in [{}, {}]: need std above 0, and 1 % of "
                     "the numbers there",
                     mean, std, low, high);
  NoGradGuard no_grad;
  Tensor y = randn(x.shape(), x.dtype(), generator, at) * std + mean;
  for (;;) {
    const Tensor outside = logical_or(y<low, y> high);
    if (!any(outside).item<bool>()) break;
    y = where(outside, randn(x.shape(), x.dtype(), generator, at) * std + mean, y);
  }
  x.copy_(y);
}
void constant_(const Tensor& x, Number value, At at) {
  NoGradGuard no_grad;
  x.fill_(value, at);
}

/// ShapeError unless x has rank 2.
static void check_matrix(const char* op, const Tensor& x, At at) {
  if (x.dim() != 2) fail<ShapeError>(at, "{}: x {}: need a matrix [n, m]", op, x.shape());
}
void eye_(const Tensor& x, At at) {
  check_matrix("eye_", x, at);
  NoGradGuard no_grad;
  x.copy_((arange(x.size(0)).unsqueeze(1) == arange(x.size(1))).to(x.dtype()));
}

int64_t fan_in(const Tensor& weight, At at) {
  if (weight.dim() < 2)
    fail<ShapeError>(at, "init: weight {} has no fan: need rank 2 or more", weight.shape());
  int64_t n = 1;
  for (int i = 1; i < weight.dim(); ++i) n *= weight.size(i);
  return n;
}
int64_t fan_out(const Tensor& weight, At at) {
  int64_t n = fan_in(weight, at) > 0 ? weight.size(0) : 0;
  for (int i = 2; i < weight.dim(); ++i) n *= weight.size(i);
  return n;
}

double gain(Nonlinearity nonlinearity, double slope) {
  switch (nonlinearity) {
    case Nonlinearity::tanh: return 5.0 / 3;
    case Nonlinearity::relu: return std::sqrt(2.0);
    case Nonlinearity::leaky_relu: return std::sqrt(2 / (1 + slope * slope));
    case Nonlinearity::selu: return 0.75;
    default: return 1;
  }
}

namespace {

/// Fills `weight` with numbers of mean 0 and this standard deviation.
void fill(const Tensor& weight, double std, bool normal, Generator& generator, At at) {
  const double bound = std::sqrt(3.0) * std;  // of uniform numbers
  if (normal) normal_(weight, 0, std, generator, at);
  else uniform_(weight, -bound, bound, generator, at);
}
void fill_xavier(const Tensor& weight, double gain, bool normal, Generator& generator, At at) {
  const auto fans = static_cast<double>(fan_in(weight, at) + fan_out(weight, at));
  if (weight.numel() > 0) fill(weight, gain * std::sqrt(2 / fans), normal, generator, at);
}
void fill_kaiming(const Tensor& weight, const KaimingOptions& o, bool normal, Generator& generator,
                  At at) {
  const auto fan = static_cast<double>(o.fan_out ? fan_out(weight, at) : fan_in(weight, at));
  if (weight.numel() > 0)
    fill(weight, gain(o.nonlinearity, o.a) / std::sqrt(fan), normal, generator, at);
}

}  // namespace

void xavier_uniform_(const Tensor& weight, double gain, Generator& generator, At at) {
  fill_xavier(weight, gain, false, generator, at);
}
void xavier_normal_(const Tensor& weight, double gain, Generator& generator, At at) {
  fill_xavier(weight, gain, true, generator, at);
}
void kaiming_uniform_(const Tensor& weight, const KaimingOptions& options, Generator& generator,
                      At at) {
  fill_kaiming(weight, options, false, generator, at);
}
void kaiming_normal_(const Tensor& weight, const KaimingOptions& options, Generator& generator,
                     At at) {
  fill_kaiming(weight, options, true, generator, at);
}

void orthogonal_(const Tensor& weight, double gain, Generator& generator, At at) {
  const int64_t rest = fan_in(weight, at), out = weight.size(0);
  if (weight.numel() == 0) return;
  NoGradGuard no_grad;
  // Gram & Schmidt on rows of normal numbers: as their signs are not touched, no direction is
  // preferred. Each row is made orthogonal twice, because once is not precise.
  Tensor q = randn({std::min(out, rest), std::max(out, rest)}, float64, generator, at);
  for (int64_t i = 0; i < q.size(0); ++i) {
    Tensor row = q.select(0, i);
    const Tensor before = q.narrow(0, 0, i);
    for (int pass = 0; pass < 2; ++pass) row -= matmul(matmul(before, row), before);
    row /= norm(row);
  }
  weight.copy_(((out > rest ? q.t() : q).reshape(weight.shape()) * gain).to(weight.dtype()));
}

void sparse_(const Tensor& x, double sparsity, double std, Generator& generator, At at) {
  check_matrix("sparse_", x, at);
  if (!(sparsity >= 0 && sparsity <= 1))
    fail<ValueError>(at, "sparse_: sparsity is {}: need [0, 1]", sparsity);
  normal_(x, 0, std, generator, at);
  NoGradGuard no_grad;
  const auto zeros = static_cast<int64_t>(std::ceil(sparsity * static_cast<double>(x.size(0))));
  for (int64_t column = 0; column < x.size(1); ++column)
    for (const int64_t row :
         randperm(x.size(0), generator).narrow(0, 0, zeros).to_vector<int64_t>())
      x.select(0, row).select(0, column).fill_(0);
}

}}  // namespace descent::nn::init
