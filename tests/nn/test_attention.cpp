#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// Attention and transformers against PyTorch's, and against one another.

namespace {

Tensor given(const GoldenCase& c, const std::string& key) {
  return c.tensors.count(key) == 1 ? c.tensor(key) : Tensor();
}

/// Compares call(layer, inputs) for a layer with the parameters of the case, which it takes by
/// name.
template <class Layer, class F>
void add_layer(GoldenTally& tally, const GoldenCase& c, Layer layer, int inputs, F call) {
  std::vector<Tensor> x;
  std::map<std::string, Tensor> leaves;
  load_case(layer, c, leaves);
  layer.eval();
  for (int i = 0; i < inputs; ++i) {
    const std::string key = "input" + std::to_string(i);
    x.push_back(leaves[key] = c.leaf(key));
  }
  tally.add(c, call(layer, x), leaves);
}

nn::TransformerOptions options_of(const GoldenCase& c) {
  return {.dim_feedforward = 6,
          .activation = c.option("activation", "relu") == "gelu"
                            ? [](const In& x) { return gelu(x); }
                            : [](const In& x) { return relu(x); },
          .layer_norm_eps = c.number("layer_norm_eps", 1e-5),
          .batch_first = c.flag("batch_first", false),
          .norm_first = c.flag("norm_first", false),
          .bias = c.flag("bias", true)};
}

/// Attention as one formula, with all scores at once.
Tensor plainly(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& allowed) {
  const Tensor scores = matmul(q, k.transpose(-2, -1)) / std::sqrt(double(q.size(-1)));
  return matmul(softmax(masked_fill(scores, logical_not(allowed), -INFINITY), -1), v);
}

}  // namespace

TEST_CASE("attention is PyTorch's, with every kind of mask") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("scaled_dot_product_attention", "attention")) {
    const Tensor q = c.leaf("q"), k = c.leaf("k"), v = c.leaf("v");
    nn::AttentionOptions o{.causal = c.flag("is_causal", false)};
    if (c.options.count("scale") == 1) o.scale = c.number("scale", 0);
    std::map<std::string, Tensor> leaves{{"q", q}, {"k", k}, {"v", v}};
    o.mask = given(c, "mask");
    if (o.mask.defined() && o.mask.dtype() != boolean) leaves["mask"] = o.mask = c.leaf("mask");
    tally.add(c, nn::scaled_dot_product_attention(q, k, v, o), leaves);
  }
  tally.print("scaled_dot_product_attention", 12);
}

TEST_CASE("MultiheadAttention takes PyTorch's parameters by name, and gives its numbers") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("MultiheadAttention", "attention")) {
    const nn::MultiheadAttention layer(4, 2,
                                       {.bias = c.flag("bias", true),
                                        .kdim = static_cast<int64_t>(c.number("kdim", 0)),
                                        .vdim = static_cast<int64_t>(c.number("vdim", 0)),
                                        .batch_first = c.flag("batch_first", false)});
    const nn::AttentionMasks masks{given(c, "attn_mask"), given(c, "key_padding_mask")};
    add_layer(tally, c, layer, 3, [&](const auto& l, const std::vector<Tensor>& x) {
      return l(x[0], x[1], x[2], masks);
    });
  }
  tally.print("MultiheadAttention", 9);
}

TEST_CASE("the layers and stacks of a transformer are PyTorch's") {
  GoldenTally encoder, decoder, encoders, decoders;
  // Several operations follow one another here.
  encoder.most = decoder.most = encoders.most = decoders.most = 16;  // 2e-6
  for (const GoldenCase& c : golden_cases("TransformerEncoderLayer", "attention"))
    add_layer(encoder, c, nn::TransformerEncoderLayer(4, 2, options_of(c)), 1,
              [](const auto& l, const std::vector<Tensor>& x) { return l(x[0], {}); });
  for (const GoldenCase& c : golden_cases("TransformerDecoderLayer", "attention"))
    add_layer(decoder, c, nn::TransformerDecoderLayer(4, 2, options_of(c)), 2,
              [](const auto& l, const std::vector<Tensor>& x) { return l(x[0], x[1], {}, {}); });
  // PyTorch's masks are tensors; here a decoder that goes forward in time has an option.
  for (const GoldenCase& c : golden_cases("TransformerEncoder", "attention"))
    add_layer(
        encoders, c, nn::TransformerEncoder(2, 4, 2, options_of(c)), 1,
        [](const auto& l, const std::vector<Tensor>& x) { return l(x[0], {.causal = true}); });
  for (const GoldenCase& c : golden_cases("TransformerDecoder", "attention"))
    add_layer(decoders, c, nn::TransformerDecoder(2, 4, 2, options_of(c)), 2,
              [](const auto& l, const std::vector<Tensor>& x) {
                return l(x[0], x[1], {.causal = true}, {});
              });
  encoder.print("TransformerEncoderLayer", 6);
  decoder.print("TransformerDecoderLayer", 6);
  encoders.print("TransformerEncoder", 2);
  decoders.print("TransformerDecoder", 2);
}

TEST_CASE("long sequences are computed in blocks, with the gradients of the formula") {
  manual_seed(1);
  const int64_t t = 700, s = 600;
  for (const DType dtype : {float64, float32})
    for (const bool causal : {false, true}) {
      const Tensor allowed = rand({t, s}) < 0.7;
      allowed.select(1, 0).fill_(true);
      std::vector<Tensor> wide, in;  // the formula is computed in float64
      for (const Shape& shape : {Shape{2, t, 3}, Shape{2, s, 3}, Shape{2, s, 2}}) {
        in.push_back(randn(shape, dtype).requires_grad_());
        wide.push_back(in.back().detach().to(float64).requires_grad_());
      }
      const Tensor g = randn({2, t, 2}, dtype);
      const Tensor y = nn::scaled_dot_product_attention(in[0], in[1], in[2],
                                                        {.mask = allowed, .causal = causal});
      const Tensor below = unsqueeze(arange(t), 1) >= arange(s);
      const Tensor want =
          plainly(wide[0], wide[1], wide[2], causal ? logical_and(allowed, below) : allowed);
      const std::vector<Tensor> ours = grad({y}, in, {}, {g}),
                                theirs = grad({want}, wide, {}, {g.to(float64)});
      // 64 ulp of the largest number
      const double most = 64 * (dtype == float64 ? 0x1p-52 : 0x1p-23);
      auto off = [](const Tensor& a, const Tensor& b) {
        return max(abs(a.to(float64) - b)).item() / max(abs(b)).item();
      };
      CHECK(off(y, want) < most);
      // A mask with fewer axes is the same as one that repeats.
      for (const Tensor& few : {allowed.select(0, 5), tensor(true)}) {
        auto masked = [&](const Tensor& mask) {
          return nn::scaled_dot_product_attention(in[0], in[1], in[2],
                                                  {.mask = mask, .causal = causal});
        };
        CHECK(same_bits(masked(few), masked(few.expand({t, s}))));
      }
      for (std::size_t i = 0; i < 3; ++i) CHECK(off(ours[i], theirs[i]) < most);
    }
}

TEST_CASE("attention has the same bits for any number of threads") {
  manual_seed(7);
  for (int64_t t : {300, 600}) {
    const Tensor q = randn({4, t, 64}), mask = rand({t, t}) < 0.8;
    same_with_threads([&] {
      const Tensor x = q.clone().requires_grad_();
      const Tensor y = nn::scaled_dot_product_attention(x, x, x, {.mask = mask, .causal = true});
      y.sum().backward();
      return std::vector<Tensor>{y, x.grad()};
    });
  }
}

TEST_CASE("the memory of attention grows with the length, not with its square") {
  // What a recorded call keeps for backward, beyond its result.
  auto kept = [](int64_t t) {
    const Tensor q = randn({1, t, 16}).requires_grad_();
    const int64_t before = memory_stats().live_bytes;
    const Tensor y = nn::scaled_dot_product_attention(q, q, q, {.causal = true});
    return memory_stats().live_bytes - before;
  };
  const int64_t few = kept(1024), many = kept(4096);
  CHECK(many < 5 * few);
  CHECK(many < 4096 * 4096 / 4);  // a sixteenth of the scores
}

TEST_CASE("dropout of attention weights draws the same in backward, and keeps the mean") {
  manual_seed(2);
  const Tensor q = randn({600, 4}, float64), v = ones({600, 1}, float64).requires_grad_();
  const Tensor y = nn::scaled_dot_product_attention(q, q, v, {.dropout = 0.5});
  CHECK(std::abs(y.mean().item() - 1) < 0.02);
  y.sum().backward();  // of all ones, the sum of the weights is both the value and the gradient
  CHECK(v.grad().sum().item() == doctest::Approx(y.sum().item()).epsilon(1e-9));
}

TEST_CASE("parameters of attention start as PyTorch's do") {
  manual_seed(3);
  const nn::MultiheadAttention layer(32, 4);
  const double bound = std::sqrt(6. / (32 + 96));
  CHECK(max(abs(layer.in_proj_weight)).item() <= bound);
  CHECK(max(abs(layer.in_proj_weight)).item() > 0.95 * bound);
  CHECK(max(abs(layer.in_proj_bias)).item() == 0);
  CHECK(max(abs(layer.out_proj.bias)).item() == 0);
  CHECK(max(abs(layer.out_proj.weight)).item() <= 1 / std::sqrt(32.));
  std::vector<std::string> names;
  for (const auto& entry : nn::TransformerEncoder(2, 4, 2, {.bias = false}).state_dict())
    names.push_back(entry.first);
  CHECK(names[0] == "layers.0.self_attn.in_proj_weight");
  CHECK(names.back() == "layers.1.norm2.weight");
  const nn::TransformerEncoder two(2, 8, 2);
  CHECK_FALSE(same_bits(two.get_parameter("layers.0.linear1.weight"),
                        two.get_parameter("layers.1.linear1.weight")));
}

TEST_CASE("positions are those of the papers") {
  const Tensor p = nn::sinusoidal_positions(50, 5, float64);
  for (int64_t t : {0, 1, 49})
    for (int64_t i = 0; i < 5; ++i) {
      const double angle = double(t) / std::pow(10000., double(i / 2 * 2) / 5);
      CHECK(p[t][i].item() ==
            doctest::Approx(i % 2 ? std::cos(angle) : std::sin(angle)).epsilon(1e-12));
    }
  // The product of turned rows depends on their distance alone.
  manual_seed(4);
  const Tensor q = randn({1, 6}, float64), k = randn({1, 6}, float64);
  auto product = [&](int64_t i, int64_t j) {
    return (nn::rotate_positions(q, i) * nn::rotate_positions(k, j)).sum().item();
  };
  CHECK(product(3, 1) == doctest::Approx(product(52, 50)).epsilon(1e-11));
  CHECK(std::abs(product(3, 1) - product(3, 2)) > 1e-3);
  const Tensor x = randn({4, 6}, float64), turned = nn::rotate_positions(x, 2);
  const double angle = 3 / std::pow(10000., 2. / 6);  // row 1, the second pair
  CHECK(turned[1][2].item() ==
        doctest::Approx(x[1][2].item() * std::cos(angle) - x[1][3].item() * std::sin(angle)));
}

TEST_CASE("what attention cannot do is refused") {
  const Tensor q = zeros({2, 3, 4}), k = zeros({2, 5, 4});
  auto shape = [](auto f) { return refusal<ShapeError>(f); };
  CHECK(shape([&] {
          nn::scaled_dot_product_attention(q, zeros({2, 5, 3}), k);
        }) ==
        "scaled_dot_product_attention: q [2, 3, 4], k [2, 5, 3] and v [2, 5, 4] do not fit: need "
        "[.., T, D], [.., S, D] and [.., S, E]");
  CHECK(shape([&] {
          nn::scaled_dot_product_attention(q, k, k, {.mask = ones({3, 4})});
        }) ==
        "scaled_dot_product_attention: mask [3, 4] does not broadcast to the scores [2, 3, 5]");
  CHECK(refusal<DtypeError>([&] {
          nn::scaled_dot_product_attention(q, k, k, {.mask = ones({3, 5}, int64)});
        }) == "scaled_dot_product_attention: mask is int64: need bool or float32");
  CHECK(refusal<ValueError>([&] { nn::scaled_dot_product_attention(q, k, k, {.dropout = 2}); }) ==
        "scaled_dot_product_attention: dropout is 2: need [0, 1]");
  CHECK(refusal<ValueError>([] { nn::MultiheadAttention(6, 4); }) ==
        "MultiheadAttention: 4 heads for 6 features: need a divisor of them");
  const nn::MultiheadAttention layer(4, 2);
  CHECK(shape([&] { layer(q, q, k, {}); }) ==
        "MultiheadAttention: query [2, 3, 4], key [2, 3, 4] and value [2, 5, 4] do not fit: need "
        "[T, N, D] with 4, 4 and 4 features");
  CHECK(shape([&] {
          layer(q, q, q, {.attn_mask = ones({2, 3}) > 0});
        }) == "MultiheadAttention: attn_mask [2, 3]: need [2, 2] or [6, 2, 2]");
  CHECK(shape([&] {
          layer(q, q, q, {.key_padding_mask = ones({2, 3}) > 0});
        }) == "MultiheadAttention: key_padding_mask is bool [2, 3]: need bool [3, 2]");
  CHECK(refusal<ValueError>([] { nn::TransformerDecoder(-1, 4, 2); }) ==
        "Transformer: -1 layers: need at least 0");
  CHECK(refusal<ValueError>([] { nn::sinusoidal_positions(-1, 4); }) ==
        "sinusoidal_positions: -1 positions of 4 features: need at least 0 and 1");
  CHECK(shape([&] {
          nn::rotate_positions(zeros({2, 3}));
        }) == "rotate_positions: x [2, 3]: need [.., T, D] with an even D");
}
