#include "descent/nn/layers/transformer.hpp"

#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {
namespace {

MultiheadAttentionOptions attention(const TransformerOptions& o) {
  return {.dropout = o.dropout, .bias = o.bias, .batch_first = o.batch_first};
}
LayerNorm norm(int64_t features, const TransformerOptions& o, At at) {
  return LayerNorm(features, {.eps = o.layer_norm_eps, .bias = o.bias}, at);
}

/// x beside part(x), with the norm in front of the part or behind the sum.
template <class Layer, class Part>
Tensor with_shortcut(const Layer& layer, const Tensor& x, const LayerNorm& norm, Part part) {
  const TransformerOptions& o = layer.options;
  const Tensor h = dropout(part(o.norm_first ? norm(x) : x), o.dropout, layer.training());
  return o.norm_first ? x + h : norm(x + h);
}

/// The two linear layers.
template <class Layer> Tensor feed_forward(const Layer& layer, const Tensor& x) {
  const TransformerOptions& o = layer.options;
  return layer.linear2(dropout(o.activation(layer.linear1(x)), o.dropout, layer.training()));
}

template <class Layer>
ModuleList<Layer> make_layers(int64_t count, int64_t features, int64_t heads,
                              const TransformerOptions& options, At at) {
  if (count < 0) fail<ValueError>(at, "Transformer: {} layers: need at least 0", count);
  ModuleList<Layer> layers;
  for (int64_t i = 0; i < count; ++i) layers.push_back(Layer(features, heads, options, at), at);
  return layers;
}

}  // namespace

TransformerEncoderLayer::TransformerEncoderLayer(int64_t features, int64_t heads,
                                                 const TransformerOptions& o, At at)
    : options(o),
      self_attn(
          register_module("self_attn", MultiheadAttention(features, heads, attention(o), at))),
      linear1(
          register_module("linear1", Linear(features, o.dim_feedforward, {.bias = o.bias}, at))),
      linear2(
          register_module("linear2", Linear(o.dim_feedforward, features, {.bias = o.bias}, at))),
      norm1(register_module("norm1", norm(features, o, at))),
      norm2(register_module("norm2", norm(features, o, at))) {}

Tensor TransformerEncoderLayer::forward(const In& x, const AttentionMasks& masks) const {
  const Tensor h =
      with_shortcut(*this, x, norm1, [&](const Tensor& y) { return self_attn(y, y, y, masks); });
  return with_shortcut(*this, h, norm2, [&](const Tensor& y) { return feed_forward(*this, y); });
}

TransformerDecoderLayer::TransformerDecoderLayer(int64_t features, int64_t heads,
                                                 const TransformerOptions& o, At at)
    : options(o),
      self_attn(
          register_module("self_attn", MultiheadAttention(features, heads, attention(o), at))),
      multihead_attn(
          register_module("multihead_attn", MultiheadAttention(features, heads, attention(o), at))),
      linear1(
          register_module("linear1", Linear(features, o.dim_feedforward, {.bias = o.bias}, at))),
      linear2(
          register_module("linear2", Linear(o.dim_feedforward, features, {.bias = o.bias}, at))),
      norm1(register_module("norm1", norm(features, o, at))),
      norm2(register_module("norm2", norm(features, o, at))),
      norm3(register_module("norm3", norm(features, o, at))) {}

Tensor TransformerDecoderLayer::forward(const In& x, const In& memory, const AttentionMasks& masks,
                                        const AttentionMasks& memory_masks) const {
  Tensor h =
      with_shortcut(*this, x, norm1, [&](const Tensor& y) { return self_attn(y, y, y, masks); });
  h = with_shortcut(*this, h, norm2, [&](const Tensor& y) {
    return multihead_attn(y, memory, memory, memory_masks);
  });
  return with_shortcut(*this, h, norm3, [&](const Tensor& y) { return feed_forward(*this, y); });
}

TransformerEncoder::TransformerEncoder(int64_t count, int64_t features, int64_t heads,
                                       const TransformerOptions& o, At at)
    : layers(register_module(
          "layers", make_layers<TransformerEncoderLayer>(count, features, heads, o, at))) {}

Tensor TransformerEncoder::forward(const In& x, const AttentionMasks& masks) const {
  Tensor h = x;
  for (const TransformerEncoderLayer& layer : layers) h = layer(h, masks);
  return h;
}

TransformerDecoder::TransformerDecoder(int64_t count, int64_t features, int64_t heads,
                                       const TransformerOptions& o, At at)
    : layers(register_module(
          "layers", make_layers<TransformerDecoderLayer>(count, features, heads, o, at))) {}

Tensor TransformerDecoder::forward(const In& x, const In& memory, const AttentionMasks& masks,
                                   const AttentionMasks& memory_masks) const {
  Tensor h = x;
  for (const TransformerDecoderLayer& layer : layers) h = layer(h, memory, masks, memory_masks);
  return h;
}

}}  // namespace descent::nn
