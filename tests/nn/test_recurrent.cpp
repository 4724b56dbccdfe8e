#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// Recurrent layers and cells against PyTorch's, and against one another; and Embedding.

namespace {

nn::RecurrentOptions options_of(const GoldenCase& c) {
  using enum nn::RecurrentNonlinearity;
  return {.num_layers = static_cast<int64_t>(c.number("num_layers", 1)),
          .bias = c.flag("bias", true),
          .batch_first = c.flag("batch_first", false),
          .bidirectional = c.flag("bidirectional", false),
          .nonlinearity = c.option("nonlinearity", "tanh") == "relu" ? relu : tanh};
}

template <class Layer> void compare_layer(const char* name, int cases) {
  GoldenTally tally;
  tally.most = 8;  // the roundings of five steps add up, other ones with each kernel of OpenBLAS
  for (const GoldenCase& c : golden_cases(name, "recurrent")) {
    Layer layer(4, 3, options_of(c));
    const Tensor x = c.leaf("input"), h = c.leaf("h"), cell = c.leaf("c");
    std::map<std::string, Tensor> leaves{{"input", x}, {"h", h}, {"c", cell}};
    load_case(layer, c, leaves);
    const Tensor lengths = c.tensors.count("lengths") == 1 ? c.tensor("lengths") : Tensor();
    const nn::RecurrentResult y = layer(x, {h, cell, lengths});
    std::vector<Tensor> outputs{y.output, y.h};
    if (y.c.defined()) outputs.push_back(y.c);
    tally.add(c, outputs, leaves);
  }
  tally.print(name, cases);
}

template <class Layer> Layer with_dtype(Layer layer) {
  layer.to(float64);
  return layer;
}

}  // namespace

TEST_CASE("recurrent layers take PyTorch's parameters by name, and give its numbers") {
  compare_layer<nn::RNN>("RNN", 12);
  compare_layer<nn::LSTM>("LSTM", 11);
  compare_layer<nn::GRU>("GRU", 11);
}

TEST_CASE("cells are PyTorch's") {
  GoldenTally rnn, lstm, gru;
  for (const GoldenCase& c : golden_cases("RNNCell", "recurrent")) {
    nn::RNNCell cell(4, 3, options_of(c));
    std::map<std::string, Tensor> leaves{{"input", c.leaf("input")}, {"h", c.leaf("h")}};
    const Tensor x = leaves["input"], h = leaves["h"];
    load_case(cell, c, leaves);
    rnn.add(c, cell(x, h), leaves);
  }
  for (const GoldenCase& c : golden_cases("LSTMCell", "recurrent")) {
    nn::LSTMCell cell(4, 3, options_of(c));
    const Tensor x = c.leaf("input"), h = c.leaf("h"), s = c.leaf("c");
    std::map<std::string, Tensor> leaves{{"input", x}, {"h", h}, {"c", s}};
    load_case(cell, c, leaves);
    const auto [next_h, next_c] = cell(x, h, s);
    lstm.add(c, {next_h, next_c}, leaves);
  }
  for (const GoldenCase& c : golden_cases("GRUCell", "recurrent")) {
    nn::GRUCell cell(4, 3, options_of(c));
    const Tensor x = c.leaf("input"), h = c.leaf("h");
    std::map<std::string, Tensor> leaves{{"input", x}, {"h", h}};
    load_case(cell, c, leaves);
    gru.add(c, cell(x, h), leaves);
  }
  rnn.print("RNNCell", 3);
  lstm.print("LSTMCell", 2);
  gru.print("GRUCell", 2);
}

TEST_CASE("the steps as one operation have the bits of any number of threads") {
  manual_seed(1);
  const nn::LSTM lstm(20, 70, {.num_layers = 2, .bidirectional = true});
  const nn::GRU gru(20, 70);
  const Tensor x = randn({9, 40, 20}), lengths = randint(1, 10, {40});
  auto run = [&](const auto& layer) {
    const Tensor in = x.clone().requires_grad_();
    const nn::RecurrentResult y = layer(in, {.lengths = lengths});
    (y.output.sum() + square(y.h).sum()).backward();
    std::vector<Tensor> all{y.output, y.h, in.grad()};
    for (const Tensor& p : layer.parameters()) all.push_back(p.grad());
    layer.zero_grad();
    return all;
  };
  same_with_threads([&] { return run(lstm); });
  same_with_threads([&] { return run(gru); });
}

TEST_CASE("what is behind the end of a sequence is not read") {
  manual_seed(2);
  const nn::GRU gru(3, 4, {.bidirectional = true});
  const Tensor x = randn({6, 2, 3}), lengths = tensor({4, 6});
  const Tensor changed = x.clone();
  changed.narrow(0, 4, 2).select(1, 0).fill_(NAN);
  const Tensor seen = lengths.clone();  // which nobody reads after the call
  const nn::RecurrentResult a = gru(x, {.lengths = lengths}), b = gru(changed, {.lengths = seen});
  seen.fill_(1);
  CHECK(same_bits(a.h, b.h));
  CHECK(same_bits(a.output, b.output));
  CHECK(max(abs(a.output.narrow(0, 4, 2).select(1, 0))).item() == 0);
  const std::vector<Tensor> of_a = grad({a.output.sum()}, gru.parameters()),
                            of_b = grad({b.output.sum()}, gru.parameters());
  for (std::size_t i = 0; i < of_a.size(); ++i) CHECK(same_bits(of_a[i], of_b[i]));
}

TEST_CASE("a recurrent layer that fails or is called twice keeps its gradients right") {
  manual_seed(3);
  const nn::LSTM lstm = with_dtype(nn::LSTM(2, 3));
  const Tensor x = randn({4, 2, 2}, float64).requires_grad_();
  const nn::RecurrentResult y = lstm(x);
  const Tensor loss = y.output.sum();
  loss.backward(Tensor(), true);
  const Tensor once = x.grad().clone();
  loss.backward();
  CHECK(max(abs(x.grad() - 2 * once)).item() < 1e-14);
}

TEST_CASE("dropout acts between the layers, in training mode") {
  manual_seed(4);
  nn::GRU gru(3, 5, {.num_layers = 2, .dropout = 0.5});
  const Tensor x = randn({4, 2, 3});
  CHECK_FALSE(same_bits(gru(x).output, gru(x).output));
  gru.eval();
  CHECK(same_bits(gru(x).output, gru(x).output));
  const nn::GRU one(3, 5, {.dropout = 0.5});
  CHECK(same_bits(one(x).output, one(x).output));
}

TEST_CASE("parameters of recurrent layers start as PyTorch's do") {
  manual_seed(5);
  const nn::LSTM lstm(3, 16, {.num_layers = 2, .bidirectional = true});
  std::vector<std::string> names;
  for (const auto& [name, p] : lstm.named_parameters()) {
    names.push_back(name);
    CHECK(max(abs(p)).item() <= 0.25);
    CHECK(max(abs(p)).item() > 0.2);
  }
  CHECK(names.size() == 16);
  CHECK(names[3] == "bias_hh_l0");
  CHECK(names[4] == "weight_ih_l0_reverse");
  CHECK(lstm.get_parameter("weight_ih_l1").shape() == Shape{64, 32});
}

TEST_CASE("what a recurrent layer cannot read is refused") {
  const nn::LSTM lstm(3, 4);
  const nn::GRU gru(3, 4, {.batch_first = true});
  const Tensor x = zeros({5, 2, 3});
  auto shape = [](auto f) { return refusal<ShapeError>(f); };
  CHECK(shape([&] {
          lstm(zeros({5, 2, 4}));
        }) == "LSTM: x [5, 2, 4]: need [T, N, in] or [T, 3] with at least one step");
  CHECK(shape([&] {
          gru(zeros({2, 0, 3}));
        }) == "GRU: x [2, 0, 3]: need [N, T, in] or [T, 3] with at least one step");
  CHECK(shape([&] {
          lstm(x, {.h = zeros({1, 2, 3})});
        }) == "LSTM: h [1, 2, 3] for x [5, 2, 3]: need [1, 2, 4]");
  CHECK(shape([&] {
          lstm(x, {.lengths = tensor({1, 2, 3})});
        }) == "LSTM: lengths are int64 [3]: need int64 [2]");
  CHECK(refusal<ValueError>([&] {
          lstm(x, {.lengths = tensor({6, 1})});
        }) == "LSTM: lengths are [6, 1]: need 1 to 5");
  CHECK(refusal<ValueError>([&] {
          gru(x, {.c = zeros({1, 5, 4})});
        }) == "GRU: there is no c: only an LSTM has one");
  CHECK(refusal<DtypeError>([&] { lstm(x.to(float64)); }) ==
        "LSTM: x is float64 and the layer is float32: need one dtype (use to())");
  CHECK(refusal<ValueError>([] { nn::RNN(0, 4); }) ==
        "Recurrent: 0 inputs, 4 hidden and 1 layers: need at least one");
  CHECK(shape([] {
          nn::GRUCell(3, 4)(zeros({2, 3}), zeros({2, 3}));
        }) == "GRUCell: x [2, 3] and state [2, 3]: need [N, 3] and [N, 4]");
}

TEST_CASE("Embedding picks rows, and its padding row stays") {
  manual_seed(6);
  const nn::Embedding layer(5, 3, -2);
  CHECK(*layer.padding_idx == 3);
  CHECK(max(abs(layer.weight[3])).item() == 0);
  const Tensor x = tensor({{0, 3}, {4, 0}});
  const Tensor y = layer(x);
  CHECK(y.shape() == Shape{2, 2, 3});
  CHECK(same_bits(y[1][0], layer.weight[4]));
  y.sum().backward();
  CHECK(values(layer.weight.grad().sum(1)) == Values{6, 0, 0, 0, 3});
  CHECK(std::abs(descent::std(nn::Embedding(100, 100).weight).item() - 1) < 0.05);
  CHECK(refusal<IndexError>([] { nn::Embedding(5, 3, 5); }) ==
        "Embedding: padding_idx 5: need -5 to 4");
  CHECK(refusal<IndexError>([&] { layer(tensor({5})); }).starts_with("embedding: "));
}
