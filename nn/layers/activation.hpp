#pragma once
/// @file
/// Activation functions as layers, for `Sequential` and for summaries that show them. Each applies
/// the function of the same name in core/ops/activation.hpp or core/ops/softmax.hpp, which says
/// what it computes and what it refuses, to a floating x of any shape.

#include "descent/core/ops/activation.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/pointwise.hpp"
#include "descent/core/ops/softmax.hpp"
#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// What the layers without options are: the function f.
template <Tensor (*f)(const In&)> struct Activation : Module {
  /// f(x).
  Tensor forward(const In& x) const override { return f(x); }
};
/// `relu`.
struct ReLU : Activation<relu> {};
/// `relu6`.
struct ReLU6 : Activation<relu6> {};
/// `sigmoid`.
struct Sigmoid : Activation<sigmoid> {};
/// `logsigmoid`.
struct LogSigmoid : Activation<logsigmoid> {};
/// `tanh`.
struct Tanh : Activation<tanh> {};
/// `silu`.
struct SiLU : Activation<silu> {};
/// `mish`.
struct Mish : Activation<mish> {};
/// `selu`.
struct SELU : Activation<selu> {};
/// `hardsigmoid`.
struct Hardsigmoid : Activation<hardsigmoid> {};
/// `hardswish`.
struct Hardswish : Activation<hardswish> {};
/// `softsign`.
struct Softsign : Activation<softsign> {};

/// What the layers with one option are: the function f of x and a number.
template <class N, Tensor (*f)(const In&, N)> struct ActivationWith : Module {
  /// f(x, option).
  Tensor forward(const In& x) const override { return f(x, option); }
  const N option;  ///< the one that was given, by the name that the function has for it

 protected:
  /// Keeps the option.
  explicit ActivationWith(N option_) : option(option_) {}
};
/// `gelu`.
struct GELU : ActivationWith<Approximate, gelu> {
  /// Keeps the option.
  explicit GELU(Approximate approximate = Approximate::none) : ActivationWith(approximate) {}
};
/// `elu`.
struct ELU : ActivationWith<double, elu> {
  /// Keeps the option.
  explicit ELU(double alpha = 1) : ActivationWith(alpha) {}
};
/// `celu`.
struct CELU : ActivationWith<double, celu> {
  /// Keeps the option; `forward` checks it.
  explicit CELU(double alpha = 1) : ActivationWith(alpha) {}
};
/// `leaky_relu`.
struct LeakyReLU : ActivationWith<double, leaky_relu> {
  /// Keeps the option.
  explicit LeakyReLU(double negative_slope = 0.01) : ActivationWith(negative_slope) {}
};
/// `glu`, which halves the size of one axis.
struct GLU : ActivationWith<int64_t, glu> {
  /// Keeps the axis; `forward` checks it.
  explicit GLU(int64_t dim = -1) : ActivationWith(dim) {}
};
/// `softmax` along an axis.
struct Softmax : ActivationWith<int64_t, softmax> {
  /// Keeps the axis, by default the last one; `forward` checks it.
  explicit Softmax(int64_t dim = -1) : ActivationWith(dim) {}
};
/// `log_softmax` along an axis.
struct LogSoftmax : ActivationWith<int64_t, log_softmax> {
  /// Keeps the axis, by default the last one; `forward` checks it.
  explicit LogSoftmax(int64_t dim = -1) : ActivationWith(dim) {}
};

/// `softplus`.
struct Softplus : Module {
  /// Keeps the options.
  explicit Softplus(double beta_ = 1, double threshold_ = 20)
      : beta(beta_), threshold(threshold_) {}
  /// softplus(x, beta, threshold).
  Tensor forward(const In& x) const override { return softplus(x, beta, threshold); }
  /// The options that were given.
  const double beta, threshold;
};
/// `hardtanh`.
struct Hardtanh : Module {
  /// Keeps the limits; `forward` checks them.
  explicit Hardtanh(double low_ = -1, double high_ = 1) : low(low_), high(high_) {}
  /// hardtanh(x, low, high).
  Tensor forward(const In& x) const override { return hardtanh(x, low, high); }
  /// The limits that were given.
  const double low, high;
};
/// `prelu` with slopes that are trained. Do not decay them: He et al. 2015, section 2.
struct PReLU : Module {
  /// One slope, or one for each of `slopes` channels, which start at `init`. ValueError if there is
  /// none.
  explicit PReLU(int64_t slopes = 1, double init = 0.25, At at = At::here())
      : weight(
            register_parameter("weight", full({slopes < 1 ? 0 : slopes}, init, float32, at), at)) {
    if (slopes < 1) fail<ValueError>(at, "PReLU: {} slopes: need at least one", slopes);
  }
  /// prelu(x, weight).
  Tensor forward(const In& x) const override { return prelu(x, weight); }
  const Tensor weight;  ///< [slopes]
};

}}  // namespace descent::nn
