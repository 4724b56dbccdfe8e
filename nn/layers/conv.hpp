#pragma once
/// @file
/// Layers that convolve.

#include "descent/core/ops/conv.hpp"
#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

using descent::Conv2dOptions;
/// The convolution of images; `conv2d` says what it computes. `weight` and `bias` start uniform in
/// +-1/sqrt((in / groups) KH KW), as in PyTorch.
class Conv2d : public Module {
 public:
  /// A layer from `in` to `out` channels. ValueError if `in`, `out`, the kernel or the groups are
  /// below 1, or the groups do not divide `in` and `out`; `forward` checks the other options.
  Conv2d(int64_t in, int64_t out, Size2d kernel, const Conv2dOptions& options = {},
         At at = At::here());
  /// Images [N, in, H, W] or [in, H, W] become [N, out, OH, OW] or [out, OH, OW], with the OH, OW
  /// and errors of `conv2d`.
  Tensor forward(const In& x) const override;
  const Conv2dOptions options;  ///< the options that were given
  const Tensor weight;          ///< [out, in / groups, KH, KW]
  const Tensor bias;            ///< [out]; undefined for a layer without a bias
};

/// The convolution of sequences; `conv1d` says what it computes. Starts as `Conv2d`.
class Conv1d : public Module {
 public:
  /// A layer from `in` to `out` channels. ValueError as for `Conv2d`.
  Conv1d(int64_t in, int64_t out, int64_t kernel, const Conv2dOptions& options = {},
         At at = At::here());
  /// x [N, in, L] or [in, L] becomes [N, out, OL] or [out, OL]. Errors as for `conv1d`.
  Tensor forward(const In& x) const override;
  const Conv2dOptions options;  ///< the options that were given
  const Tensor weight;          ///< [out, in / groups, K]
  const Tensor bias;            ///< [out]; undefined for a layer without a bias
};

using descent::ConvTranspose2dOptions;
/// The transpose of a convolution, which enlarges images; `conv_transpose2d` says what it computes.
/// `weight` and `bias` start uniform in +-1/sqrt((out / groups) KH KW), as in PyTorch.
class ConvTranspose2d : public Module {
 public:
  /// A layer from `in` to `out` channels. ValueError as for `Conv2d`.
  ConvTranspose2d(int64_t in, int64_t out, Size2d kernel,
                  const ConvTranspose2dOptions& options = {}, At at = At::here());
  /// x [N, in, H, W] or [in, H, W] becomes [N, out, OH, OW] or [out, OH, OW]. Errors as for
  /// `conv_transpose2d`.
  Tensor forward(const In& x) const override;
  const ConvTranspose2dOptions options;  ///< the options that were given
  const Tensor weight;                   ///< [in, out / groups, KH, KW]
  const Tensor bias;                     ///< [out]; undefined for a layer without a bias
};

/// The transpose of a convolution of sequences, as `ConvTranspose2d`.
class ConvTranspose1d : public Module {
 public:
  /// A layer from `in` to `out` channels. ValueError as for `Conv2d`.
  ConvTranspose1d(int64_t in, int64_t out, int64_t kernel,
                  const ConvTranspose2dOptions& options = {}, At at = At::here());
  /// x [N, in, L] or [in, L] becomes [N, out, OL] or [out, OL]. Errors as for `conv_transpose1d`.
  Tensor forward(const In& x) const override;
  const ConvTranspose2dOptions options;  ///< the options that were given
  const Tensor weight;                   ///< [in, out / groups, K]
  const Tensor bias;                     ///< [out]; undefined for a layer without a bias
};

}}  // namespace descent::nn
