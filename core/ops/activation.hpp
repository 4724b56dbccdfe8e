#pragma once
/// @file
/// Activation functions: functions of one element that stand between the layers of a network. Each
/// takes a floating dtype (DtypeError) and any shape, and makes a new tensor of that shape, unless
/// it says otherwise. Values and gradients are finite for finite x of any size. A NaN stays NaN.
/// Gradients at kinks and at NaN are PyTorch's.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The logistic function, 1 / (1 + exp(-x)).
[[nodiscard]] Tensor sigmoid(const In& x);
/// log(sigmoid(x)), precise where sigmoid would round to 0 or 1.
[[nodiscard]] Tensor logsigmoid(const In& x);
/// log(1 + exp(beta x)) / beta, and x itself where beta x > threshold.
[[nodiscard]] Tensor softplus(const In& x, double beta = 1, double threshold = 20);
/// x sigmoid(x), also called swish. (Elfwing et al. 2017, section 2.)
[[nodiscard]] Tensor silu(const In& x);
/// x tanh(log(1 + exp(x))). (Misra 2019.)
[[nodiscard]] Tensor mish(const In& x);
/// How `gelu` computes the normal distribution function: exactly, or by the formula with a tanh.
enum class Approximate { none, tanh };
/// x times the normal distribution function, x (1 + erf(x / sqrt(2))) / 2; with Approximate::tanh,
/// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. NaN at -inf. (Hendrycks & Gimpel 2016.)
[[nodiscard]] Tensor gelu(const In& x, Approximate approximate = Approximate::none);

/// max(x, 0). The gradient at 0 is 0; at NaN it passes unchanged.
[[nodiscard]] Tensor relu(const In& x);
/// x limited to [low, high]. The gradient is 0 outside and at both limits, and passes unchanged at
/// NaN (where that of `clamp` is 0). ValueError unless low <= high.
[[nodiscard]] Tensor hardtanh(const In& x, double low = -1, double high = 1);
/// `hardtanh` with the limits 0 and 6.
[[nodiscard]] Tensor relu6(const In& x);
/// x / 6 + 1/2 limited to [0, 1]. The gradient is 0 at both limits and at NaN.
[[nodiscard]] Tensor hardsigmoid(const In& x);
/// x times `hardsigmoid(x)`. The gradient is 0 at x = -3 and 1 from 3 on; it passes unchanged at
/// NaN. (Howard et al. 2019, section 5.2.)
[[nodiscard]] Tensor hardswish(const In& x);
/// x above 0, negative_slope x elsewhere. The gradient at 0 and at NaN is negative_slope.
[[nodiscard]] Tensor leaky_relu(const In& x, double negative_slope = 0.01);
/// `leaky_relu` whose slope is trained: `weight` has one slope, in a shape [] or [1], or one for
/// each channel, [C] for x [N, C, ..]. ShapeError for other shapes, DtypeError unless both have one
/// dtype. (He et al. 2015, section 2.)
[[nodiscard]] Tensor prelu(const In& x, const In& weight);
/// x above 0, alpha (exp(x) - 1) elsewhere. The gradient at 0 is alpha. (Clevert et al. 2015.)
[[nodiscard]] Tensor elu(const In& x, double alpha = 1);
/// 1.0507 elu(x, 1.67326), with all digits: a fixed point of mean 0 and variance 1. The gradient at
/// 0 is 1.0507 * 1.67326. (Klambauer et al. 2017.)
[[nodiscard]] Tensor selu(const In& x);
/// x above 0, alpha (exp(x / alpha) - 1) elsewhere: smooth at 0. ValueError if alpha is 0. (Barron
/// 2017.)
[[nodiscard]] Tensor celu(const In& x, double alpha = 1);
/// x / (1 + |x|); NaN at infinities.
[[nodiscard]] Tensor softsign(const In& x);
/// a sigmoid(b), where a and b are the halves of x along `dim`, which has half the size in the
/// result. ShapeError if that size is odd, IndexError for a `dim` out of range. (Dauphin et al.
/// 2016.)
[[nodiscard]] Tensor glu(const In& x, int64_t dim = -1);

}  // namespace descent
