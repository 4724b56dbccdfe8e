#include "table.hpp"

namespace gradients { namespace {

/// The layer as a function of x, of its states and of its parameters.
template <class Layer>
void recurrent(Tally& t, const std::string& name, Layer layer, const Shape& shape,
               const Tensor& lengths) {
  layer.to(kNumber);
  const int64_t ways = layer.options.bidirectional ? 2 : 1, rows = ways * layer.options.num_layers;
  Tensor x = input(shape, Layout::transposed, false, 1);
  Tensors in{x, input({rows, shape[layer.options.batch_first ? 0 : 1], layer.hidden}, Layout::plain,
                      false, 2)};
  const bool has_c = std::is_same_v<Layer, nn::LSTM>;
  if (has_c) in.push_back(input(in[1].shape(), Layout::plain, false, 3));
  for (const Tensor& p : layer.parameters()) in.push_back(p);
  t.run(
      name,
      [=](const Tensors& v) {
        const nn::RecurrentResult y =
            layer(v[0] * 0.5, {v[1] * 0.3, has_c ? v[2] * 0.3 : Tensor(), lengths});
        const Tensor end = y.c.defined() ? y.h * y.c : y.h;
        return cat({y.output.reshape({-1}), end.reshape({-1})});
      },
      in);
}

template <class Cell> void cell(Tally& t, const std::string& name, bool bias) {
  Cell made(3, 2, {.bias = bias});
  made.to(kNumber);
  for (int64_t n : {1, 2, 0}) {
    Tensors in{input({n, 3}, Layout::plain, false, 1), input({n, 2}, Layout::plain, false, 2)};
    for (const Tensor& p : made.parameters()) in.push_back(p);
    t.run(
        name,
        [=](const Tensors& v) {
          if constexpr (std::is_same_v<Cell, nn::LSTMCell>) {
            const auto [h, c] = made(v[0], v[1], v[1] * 0.5);
            return h * c;
          } else {
            return made(v[0], v[1]);
          }
        },
        in);
  }
}

void rows(Tally& t) {
  const Tensor ends = tensor({3, 1});
  for (const Tensor& lengths : {Tensor(), ends}) {
    for (const nn::RecurrentOptions& o :
         {nn::RecurrentOptions{}, {.bias = false}, {.bidirectional = true}}) {
      recurrent(t, "RNN", nn::RNN(2, 2, o), {3, 2, 2}, lengths);
      recurrent(t, "GRU", nn::GRU(2, 2, o), {3, 2, 2}, lengths);
      recurrent(t, "LSTM", nn::LSTM(2, 2, o), {3, 2, 2}, lengths);
    }
    const nn::RecurrentOptions two{.num_layers = 2, .batch_first = true};
    recurrent(t, "RNN", nn::RNN(2, 2, two), {2, 3, 2}, lengths);
    recurrent(t, "GRU", nn::GRU(2, 2, two), {2, 3, 2}, lengths);
    recurrent(t, "LSTM", nn::LSTM(2, 2, two), {2, 3, 2}, lengths);
  }
  for (const bool bias : {true, false}) {
    cell<nn::RNNCell>(t, "RNNCell", bias);
    cell<nn::LSTMCell>(t, "LSTMCell", bias);
    cell<nn::GRUCell>(t, "GRUCell", bias);
  }
  const Tensor index = tensor({{2, 0, 2}, {1, 1, 0}});
  for (int64_t width : {1, 2, 3, 4, 5, 6, 7})
    for (const std::optional<int64_t> padding : {std::optional<int64_t>(), {1}}) {
      nn::Embedding layer(3, width, padding);
      layer.to(kNumber);
      t.run("Embedding",
            [=](const Tensors& v) {
              const Tensor y = layer(index) * 1.5;
              return padding ? masked_fill(y, unsqueeze(index == 1, 2), 0) * v[1] : y * v[1];
            },
            {layer.weight, input({width}, Layout::plain, false, 1)});
    }
}

const Family kRecurrent(rows);

}  // namespace
}  // namespace gradients
