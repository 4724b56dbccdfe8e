#pragma once
/// @file
/// The layers and stacks of a transformer: Vaswani et al. 2017, section 3.1 (arXiv:1706.03762).

#include "descent/core/ops/activation.hpp"
#include "descent/nn/layers/attention.hpp"
#include "descent/nn/layers/container.hpp"
#include "descent/nn/layers/dropout.hpp"
#include "descent/nn/layers/norm.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// How the layers of a transformer are made.
struct TransformerOptions {
  int64_t dim_feedforward = 2048;          ///< the width of the layer between the two linear ones
  double dropout = 0.1;                    ///< of attention weights, and behind each part
  Tensor (*activation)(const In&) = relu;  ///< between the two linear layers
  double layer_norm_eps = 1e-5;            ///< `eps` of the norms
  bool batch_first = false;                ///< whether inputs are [N, T, D] instead of [T, N, D]
  bool norm_first = false;  ///< whether a norm stands in front of each part, instead of behind it
  bool bias = true;         ///< whether linear layers and norms have biases
};

/// Attention to itself and two linear layers, each with a shortcut, dropout and a norm. Names and
/// start of the parameters are those of PyTorch's layer.
class TransformerEncoderLayer : public ModuleOf<Tensor(const In& x, const AttentionMasks& masks)> {
 public:
  /// For x of `features` numbers. ValueError as for `MultiheadAttention` and `Linear`.
  TransformerEncoderLayer(int64_t features, int64_t heads, const TransformerOptions& options = {},
                          At at = At::here());
  /// x [T, N, D] or as `batch_first` says; the result has its shape.
  Tensor forward(const In& x, const AttentionMasks& masks) const override;
  const TransformerOptions options;    ///< the options that were given
  const MultiheadAttention self_attn;  ///< the attention
  /// The two linear layers.
  const Linear linear1, linear2;
  /// The norms of the attention and of the linear layers.
  const LayerNorm norm1, norm2;
};

/// As the encoder's layer, with attention to `memory`, the encoder's result, between the two parts.
class TransformerDecoderLayer
    : public ModuleOf<Tensor(const In& x, const In& memory, const AttentionMasks& masks,
                             const AttentionMasks& memory_masks)> {
 public:
  /// For x of `features` numbers. ValueError as for `MultiheadAttention` and `Linear`.
  TransformerDecoderLayer(int64_t features, int64_t heads, const TransformerOptions& options = {},
                          At at = At::here());
  /// x [T, N, D] and memory [S, N, D], or as `batch_first` says; the result has x's shape.
  Tensor forward(const In& x, const In& memory, const AttentionMasks& masks,
                 const AttentionMasks& memory_masks) const override;
  const TransformerOptions options;  ///< the options that were given
  /// Attention to x, and to the memory.
  const MultiheadAttention self_attn, multihead_attn;
  /// The two linear layers.
  const Linear linear1, linear2;
  /// A norm for each part.
  const LayerNorm norm1, norm2, norm3;
};

/// Encoder layers one after the other, "layers.0" and so on, each with a start of its own.
class TransformerEncoder : public ModuleOf<Tensor(const In& x, const AttentionMasks& masks)> {
 public:
  /// `count` layers. ValueError as for the layers, and for a negative count.
  TransformerEncoder(int64_t count, int64_t features, int64_t heads,
                     const TransformerOptions& options = {}, At at = At::here());
  /// The result of the last layer; every layer gets the masks.
  Tensor forward(const In& x, const AttentionMasks& masks) const override;
  const ModuleList<TransformerEncoderLayer> layers;  ///< the layers
};

/// Decoder layers one after the other, as `TransformerEncoder`.
class TransformerDecoder
    : public ModuleOf<Tensor(const In& x, const In& memory, const AttentionMasks& masks,
                             const AttentionMasks& memory_masks)> {
 public:
  /// `count` layers. ValueError as for the layers, and for a negative count.
  TransformerDecoder(int64_t count, int64_t features, int64_t heads,
                     const TransformerOptions& options = {}, At at = At::here());
  /// The result of the last layer; every layer gets the memory and the masks.
  Tensor forward(const In& x, const In& memory, const AttentionMasks& masks,
                 const AttentionMasks& memory_masks) const override;
  const ModuleList<TransformerDecoderLayer> layers;  ///< the layers
};

}}  // namespace descent::nn
