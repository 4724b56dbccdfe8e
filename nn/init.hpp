#pragma once
/// @file
/// Initialisers: they fill a tensor in place, also one that requires a gradient, and record
/// nothing. x is floating. In a weight [out, in, ...], the *fan in* is the number of inputs that
/// contribute to one output, in times all sizes behind it, and the *fan out* is out times the same
/// sizes.

#include "descent/core/ops/random.hpp"
#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn::init {

/// Fills x with uniform numbers from `low` to `high`. ValueError unless low <= high and the
/// difference is finite.
void uniform_(const Tensor& x, double low = 0, double high = 1,
              Generator& generator = default_generator(), At at = At::here());
/// Fills x with normal numbers of this mean and standard deviation. ValueError unless std >= 0 and
/// both are finite.
void normal_(const Tensor& x, double mean = 0, double std = 1,
             Generator& generator = default_generator(), At at = At::here());
/// The same, but numbers outside [low, high] are drawn again. ValueError also unless std is above 0
/// and at least 1 % of the normal numbers lie in [low, high].
void trunc_normal_(const Tensor& x, double mean = 0, double std = 1, double low = -2,
                   double high = 2, Generator& generator = default_generator(), At at = At::here());
/// Sets every element of x, of any dtype, to `value`.
void constant_(const Tensor& x, Number value, At at = At::here());
/// Sets every element of x, of any dtype, to 0 or to 1.
inline void zeros_(const Tensor& x, At at = At::here()) { constant_(x, 0, at); }
inline void ones_(const Tensor& x, At at = At::here()) { constant_(x, 1, at); }
/// Makes x [n, m] an identity: ones on the diagonal, zeros elsewhere. ShapeError for another rank.
void eye_(const Tensor& x, At at = At::here());

/// The fan in or the fan out of `weight`. ShapeError below rank 2.
[[nodiscard]] int64_t fan_in(const Tensor& weight, At at = At::here());
[[nodiscard]] int64_t fan_out(const Tensor& weight, At at = At::here());

/// What follows a layer, for `gain`.
enum class Nonlinearity { linear, sigmoid, tanh, relu, leaky_relu, selu };
/// The factor by which weights are larger because of what follows the layer: 1 (linear, sigmoid),
/// 5/3 (tanh), sqrt(2) (ReLU), sqrt(2 / (1 + slope^2)) (leaky ReLU), 3/4 (SELU), as in PyTorch.
[[nodiscard]] double gain(Nonlinearity nonlinearity, double slope = 0.01);

/// Fills `weight` with numbers of mean 0 and variance 2 gain^2 / (fan_in + fan_out): uniform or
/// normal ones. ShapeError below rank 2; a weight without elements stays as it is. Glorot & Bengio
/// 2010, section 4.2.1.
void xavier_uniform_(const Tensor& weight, double gain = 1,
                     Generator& generator = default_generator(), At at = At::here());
void xavier_normal_(const Tensor& weight, double gain = 1,
                    Generator& generator = default_generator(), At at = At::here());

/// Options of `kaiming_uniform_` and `kaiming_normal_`.
struct KaimingOptions {
  double a = 0;          ///< the slope below 0 of the leaky ReLU that follows; 0 is the ReLU
  bool fan_out = false;  ///< divide by the fan out, which keeps the size of gradients
  Nonlinearity nonlinearity = Nonlinearity::leaky_relu;  ///< what follows
};
/// Fills `weight` with numbers of mean 0 and variance gain^2 / fan: uniform or normal ones.
/// ShapeError below rank 2; a weight without elements stays as it is. He et al. 2015, section 2.2
/// (arXiv:1502.01852).
void kaiming_uniform_(const Tensor& weight, const KaimingOptions& options = {},
                      Generator& generator = default_generator(), At at = At::here());
void kaiming_normal_(const Tensor& weight, const KaimingOptions& options = {},
                     Generator& generator = default_generator(), At at = At::here());

/// Makes `weight`, seen as a matrix [out, rest], `gain` times a random matrix whose rows (or
/// columns, if there are more rows) are orthonormal; all such matrices are equally likely.
/// ShapeError below rank 2. Saxe et al. 2013 (arXiv:1312.6120).
void orthogonal_(const Tensor& weight, double gain = 1, Generator& generator = default_generator(),
                 At at = At::here());
/// Fills x [n, m] with normal numbers of this standard deviation, and sets the share `sparsity` of
/// each column, rounded up, to 0. ShapeError for another rank, ValueError unless sparsity is in
/// [0, 1]. Martens 2010, section 5.
void sparse_(const Tensor& x, double sparsity, double std = 0.01,
             Generator& generator = default_generator(), At at = At::here());

}}  // namespace descent::nn::init
