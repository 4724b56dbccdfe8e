#include "table.hpp"

namespace gradients { namespace {

void attention(Tally& t) {
  const Tensor allowed = sample({3, 4}, false, 9) > -1, added = sample({3, 4}, false, 8);
  for (const nn::AttentionOptions& o : {nn::AttentionOptions{},
                                        {.mask = allowed},
                                        {.mask = added},
                                        {.causal = true},
                                        {.scale = 0.3},
                                        {.mask = allowed, .causal = true, .scale = 2}})
    for (Layout layout : {Layout::plain, Layout::transposed})
      t.run("scaled_dot_product_attention",
            [=](const Tensors& x) { return nn::scaled_dot_product_attention(x[0], x[1], x[2], o); },
            {input({2, 3, 2}, layout, false, 1), input({1, 4, 2}, layout, false, 2),
             input({2, 4, 3}, layout, false, 3)});
  for (int64_t offset : {0, 5})
    any_of(t, "rotate_positions",
           [=](const Tensors& x) { return nn::rotate_positions(square(x[0]), offset, 100); },
           {{3, 4}, {2, 3, 2}, {1, 6}, {0, 2}});
}

/// The layer of several inputs as a function of the first one and of its parameters.
template <class Layer, class F>
void of_layer(Tally& t, const std::string& name, Layer layer, const Shape& shape, F call) {
  layer.to(kNumber);
  Tensors in{input(shape, Layout::plain, false, 1)};
  for (const Tensor& p : layer.parameters()) in.push_back(p);
  t.run(
      name,
      [=](const Tensors& x) {
        manual_seed(1);
        return call(layer, x[0]);
      },
      in);
}

void layers(Tally& t) {
  const Tensor memory = sample({4, 2, 4}, false, 5);
  for (const bool first : {false, true}) {
    const nn::TransformerOptions o{.dim_feedforward = 3,
                                   .dropout = first ? 0.2 : 0,
                                   .activation = tanh,
                                   .norm_first = first,
                                   .bias = !first};
    of_layer(t, "MultiheadAttention", nn::MultiheadAttention(4, 2, {.dropout = 0.2, .bias = first}),
             {3, 2, 4},
             [](const auto& l, const Tensor& x) { return l(x, x, x, {.causal = true}); });
    of_layer(t, "MultiheadAttention", nn::MultiheadAttention(4, 1, {.kdim = 4, .vdim = 4}),
             {4, 2, 4}, [=](const auto& l, const Tensor& x) { return l(x, memory, memory, {}); });
    of_layer(t, "TransformerEncoderLayer", nn::TransformerEncoderLayer(4, 2, o), {3, 2, 4},
             [](const auto& l, const Tensor& x) { return l(x, {.causal = true}); });
    of_layer(t, "TransformerDecoderLayer", nn::TransformerDecoderLayer(4, 2, o), {3, 2, 4},
             [=](const auto& l, const Tensor& x) { return l(x, memory, {}, {}); });
    of_layer(t, "TransformerEncoder", nn::TransformerEncoder(2, 4, 2, o), {2, 2, 4},
             [](const auto& l, const Tensor& x) { return l(x, {}); });
    of_layer(t, "TransformerDecoder", nn::TransformerDecoder(1, 4, 2, o), {2, 2, 4},
             [=](const auto& l, const Tensor& x) { return l(x, memory, {}, {}); });
  }
  for (int64_t n : {1, 2})
    of_layer(t, "MultiheadAttention", nn::MultiheadAttention(4, 2), {3, n, 4},
             [](const auto& l, const Tensor& x) { return l(x, x, x, {}); });
}

const Family kAttention(attention), kLayers(layers);

}  // namespace
}  // namespace gradients
