#include "descent/nn/layers/dropout.hpp"

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/core/ops/random.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

static double check_p(const char* op, double p, At at) {
  if (!(p >= 0 && p <= 1)) fail<ValueError>(at, "{}: p is {}: need [0, 1]", op, p);
  return p;
}
/// x times `factor`, which broadcasts to x. Where the factor is 0 the result is 0, also for NaN and
/// infinities.
static Tensor drop(const In& x, const In& factor) {
  return record(
      "dropout",
      zip("dropout", x, factor, [](auto v, auto kept) { return kept == 0 ? kept : v * kept; }),
      wrt(x, [factor = saved(factor)](const Tensor& g) { return drop(g, factor); }));
}
/// Sets elements of x to 0 with probability p, and draws once per element of `shape`, which
/// broadcasts to x.
static Tensor drop_out(const In& x, const Shape& shape, double p) {
  const double scale = p == 1 ? 0 : 1 / (1 - p);
  return drop(x, bernoulli(shape, 1 - p).to(x.dtype()) * scale);
}

Tensor dropout(const In& x, double p, bool training) {
  check_p("dropout", p, x.at);
  check_floating("dropout", x);
  return !training || p == 0 ? Tensor(x) : drop_out(x, x.shape(), p);
}

Dropout::Dropout(double p_, At at) : p(check_p("Dropout", p_, at)) {}
Tensor Dropout::forward(const In& x) const { return dropout(x, p, training()); }

Dropout2d::Dropout2d(double p_, At at) : p(check_p("Dropout2d", p_, at)) {}

Tensor Dropout2d::forward(const In& x) const {
  if (x.dim() != 3 && x.dim() != 4)
    fail<ShapeError>(x.at, "Dropout2d: x {} has rank {}: need [N, C, H, W] or [C, H, W]", x.shape(),
                     x.dim());
  Shape channels = x.shape();
  channels[-2] = channels[-1] = 1;
  return !training() || p == 0 ? Tensor(x) : drop_out(x, channels, p);
}

}}  // namespace descent::nn
