#include "descent/nn/layers/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "descent/core/autograd/functional.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/nn/init.hpp"
#include "descent/nn/layers/dropout.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
/// The most scores of one matrix that are kept for backward, and that a block of queries has.
constexpr int64_t kMostScores = 1 << 18, kBlockScores = 1 << 16;

/// Attention of some queries, of which the first is number `first`, to some keys.
Tensor attend(const In& q, const In& k, const In& v, const AttentionOptions& o, const Tensor& mask,
              int64_t first) {
  const int64_t rows = q.shape()[-2], keys = k.shape()[-2];
  Tensor scores = matmul(q * *o.scale, transpose(k, -2, -1));
  if (o.causal)
    scores = masked_fill(scores, unsqueeze(arange(first, first + rows), 1) < arange(keys), -kInf);
  if (!mask.defined()) return matmul(dropout(softmax(scores, -1), o.dropout), v);
  scores = mask.dtype() == boolean ? masked_fill(scores, logical_not(mask), -kInf) : scores + mask;
  const Tensor nothing = keys == 0 ? zeros({1}, boolean) : max(scores.detach(), -1, true) == -kInf;
  const Tensor p = masked_fill(softmax(masked_fill(scores, nothing, 0), -1), nothing, 0);
  return matmul(dropout(p, o.dropout), v);
}

/// Rows [first, first + n) and columns [0, keys) of a mask, which broadcasts to [.., T, S].
Tensor part_of(const Tensor& mask, int64_t first, int64_t n, int64_t keys) {
  Tensor part = mask;
  if (mask.defined() && mask.dim() > 1 && mask.size(-2) > 1) part = narrow(part, -2, first, n);
  if (mask.defined() && mask.dim() > 0 && mask.size(-1) > 1) part = narrow(part, -1, 0, keys);
  return part;
}

void check_attention(const In& q, const In& k, const In& v, const AttentionOptions& o) {
  const char* op = "scaled_dot_product_attention";
  check_inputs(op, q, k, "q", "k");
  check_inputs(op, q, v, "q", "v");
  check_floating(op, q);
  if (std::min({q.dim(), k.dim(), v.dim()}) < 2 || q.shape().back() != k.shape().back() ||
      k.shape()[-2] != v.shape()[-2])
    fail<ShapeError>(
        q.at, "{}: q {}, k {} and v {} do not fit: need [.., T, D], [.., S, D] and [.., S, E]", op,
        q.shape(), k.shape(), v.shape());
  if (!(o.dropout >= 0 && o.dropout <= 1))
    fail<ValueError>(q.at, "{}: dropout is {}: need [0, 1]", op, o.dropout);
  auto front = [](const In& x) {
    Shape axes;
    for (int d = 0; d + 2 < x.dim(); ++d) axes.push_back(x.shape()[d]);
    return axes;
  };
  Shape scores = broadcast_shapes(op, front(q), front(k), q.at);
  broadcast_shapes(op, scores, front(v), q.at);
  scores.push_back(q.shape()[-2]);
  scores.push_back(k.shape()[-2]);
  if (!o.mask.defined()) return;
  if (o.mask.dtype() != boolean && o.mask.dtype() != q.dtype())
    fail<DtypeError>(q.at, "{}: mask is {}: need bool or {}", op, o.mask.dtype(), q.dtype());
  if (!broadcasts_to(o.mask.shape(), scores))
    fail<ShapeError>(q.at, "{}: mask {} does not broadcast to the scores {}", op, o.mask.shape(),
                     scores);
}

}  // namespace

Tensor scaled_dot_product_attention(const In& q, const In& k, const In& v,
                                    const AttentionOptions& options) {
  check_attention(q, k, v, options);
  AttentionOptions o = options;
  o.mask = {};
  if (!o.scale) o.scale = 1 / std::sqrt(static_cast<double>(q.shape().back()));
  const Frame frame(q.at);
  const int64_t t = q.shape()[-2], s = k.shape()[-2];
  if (t * s <= kMostScores) return attend(q, k, v, o, options.mask, 0);
  const int64_t height = std::clamp<int64_t>(kBlockScores / s, 1, t);
  std::vector<Tensor> blocks;
  for (int64_t first = 0; first < t; first += height) {
    const int64_t rows = std::min(height, t - first);
    const int64_t keys = o.causal ? std::min(s, first + rows) : s;
    const Tensor mask = part_of(options.mask, first, rows, keys);
    std::vector<Tensor> inputs{narrow(q, -2, first, rows), narrow(k, -2, 0, keys),
                               narrow(v, -2, 0, keys)};
    if (mask.defined() && mask.requires_grad()) inputs.push_back(mask);
    blocks.push_back(checkpoint(
        [o, mask, first](const std::vector<Tensor>& x) {
          return attend(x[0], x[1], x[2], o, x.size() > 3 ? x[3] : mask, first);
        },
        inputs));
  }
  return cat(blocks, -2);
}

// ---- MultiheadAttention

namespace {
/// What both masks let through: bool, or numbers to add; undefined without a mask. q and k are [N,
/// heads, .., ..].
Tensor join_masks(const In& at, const Tensor& q, const Tensor& k, const AttentionMasks& m) {
  const int64_t n = q.size(0), heads = q.size(1), t = q.size(2), s = k.size(2);
  Tensor mask = m.attn_mask;
  if (mask.defined()) {
    const bool each = mask.shape() == Shape{n * heads, t, s};
    if (!each && !(mask.shape() == Shape{t, s}))
      fail<ShapeError>(at.at, "MultiheadAttention: attn_mask {}: need {} or {}", mask.shape(),
                       Shape{t, s}, Shape{n * heads, t, s});
    if (mask.dtype() == boolean) mask = logical_not(mask);
    if (each) mask = mask.reshape({n, heads, t, s});
  }
  Tensor keys = m.key_padding_mask;
  if (!keys.defined()) return mask;
  if (keys.dtype() != boolean ||
      !(keys.shape() == Shape{n, s} || (n == 1 && keys.shape() == Shape{s})))
    fail<ShapeError>(at.at, "MultiheadAttention: key_padding_mask is {} {}: need bool {}",
                     keys.dtype(), keys.shape(), Shape{n, s});
  keys = logical_not(keys).reshape({n, 1, 1, s});
  if (!mask.defined()) return keys;
  return mask.dtype() == boolean ? logical_and(mask, keys)
                                 : mask + where(keys, 0, -kInf).to(mask.dtype());
}

const MultiheadAttentionOptions& check_heads(int64_t features, int64_t heads,
                                             const MultiheadAttentionOptions& o, At at) {
  if (heads < 1 || features < 1 || features % heads != 0)
    fail<ValueError>(at, "MultiheadAttention: {} heads for {} features: need a divisor of them",
                     heads, features);
  if (o.kdim < 0 || o.vdim < 0)
    fail<ValueError>(at, "MultiheadAttention: kdim {} and vdim {}: need at least 0", o.kdim,
                     o.vdim);
  return o;
}
/// Whether keys and values have as many features as queries.
bool alike(int64_t features, const MultiheadAttentionOptions& o) {
  return (o.kdim == 0 || o.kdim == features) && (o.vdim == 0 || o.vdim == features);
}
/// A linear layer whose bias starts at 0.
Linear without_start(int64_t features, bool bias, At at) {
  const Linear layer(features, features, {.bias = bias}, at);
  if (bias) init::zeros_(layer.bias);
  return layer;
}
}  // namespace

MultiheadAttention::MultiheadAttention(int64_t features_, int64_t heads_,
                                       const MultiheadAttentionOptions& o, At at)
    : options(check_heads(features_, heads_, o, at)),
      features(features_),
      heads(heads_),
      in_proj_weight(projection("in_proj_weight", alike(features, o), 3 * features, features, at)),
      q_proj_weight(projection("q_proj_weight", !alike(features, o), features, features, at)),
      k_proj_weight(projection("k_proj_weight", !alike(features, o), features,
                               o.kdim ? o.kdim : features, at)),
      v_proj_weight(projection("v_proj_weight", !alike(features, o), features,
                               o.vdim ? o.vdim : features, at)),
      in_proj_bias(o.bias ? register_parameter("in_proj_bias", zeros({3 * features})) : Tensor()),
      out_proj(register_module("out_proj", without_start(features, o.bias, at))) {}

/// A parameter, if it is wanted.
Tensor MultiheadAttention::projection(const char* name, bool wanted, int64_t out, int64_t in,
                                      At at) {
  if (!wanted) return {};
  const Tensor weight = empty({out, in}, float32, at);
  init::xavier_uniform_(weight);
  return register_parameter(name, weight);
}

Tensor MultiheadAttention::forward(const In& query, const In& key, const In& value,
                                   const AttentionMasks& masks) const {
  const char* layer = "MultiheadAttention";
  check_inputs(layer, query, key, "query", "key");
  check_inputs(layer, query, value, "query", "value");
  const int rank = query.dim();
  const int64_t kdim = options.kdim ? options.kdim : features,
                vdim = options.vdim ? options.vdim : features;
  const int batch = options.batch_first ? 0 : 1, time = 1 - batch;  // axes
  bool fits = (rank == 2 || rank == 3) && key.dim() == rank && value.dim() == rank &&
              query.shape().back() == features && key.shape().back() == kdim &&
              value.shape().back() == vdim;
  for (int d = 0; fits && d + 1 < rank; ++d)
    fits = key.shape()[d] == value.shape()[d] &&
           (rank == 2 || d == time || query.shape()[d] == key.shape()[d]);
  if (!fits)
    fail<ShapeError>(query.at,
                     "{}: query {}, key {} and value {} do not fit: need {} with {}, {} and {} "
                     "features",
                     layer, query.shape(), key.shape(), value.shape(),
                     options.batch_first ? "[N, T, D]" : "[T, N, D]", features, kdim, vdim);
  auto project = [&](const In& x, int part, const Tensor& own) {
    const Tensor weight =
        own.defined() ? own : narrow(in_proj_weight, 0, part * features, features);
    return linear(x, weight,
                  options.bias ? narrow(in_proj_bias, 0, part * features, features) : Tensor());
  };
  /// [.., D] as [N, heads, T, D / heads].
  auto split_heads = [&](const Tensor& x) {
    const Tensor whole = rank == 3 ? (batch == 0 ? x : transpose(x, 0, 1)) : unsqueeze(x, 0);
    return transpose(whole.reshape({whole.size(0), whole.size(1), heads, features / heads}), 1, 2);
  };
  const Tensor q = split_heads(project(query, 0, q_proj_weight)),
               k = split_heads(project(key, 1, k_proj_weight)),
               v = split_heads(project(value, 2, v_proj_weight));
  AttentionOptions o{.causal = masks.causal, .dropout = training() ? options.dropout : 0};
  o.mask = join_masks(query, q, k, masks);
  const Tensor h = transpose(scaled_dot_product_attention(q, k, v, o), 1, 2);
  const Tensor joined = out_proj(h.reshape({h.size(0), h.size(1), features}));
  return rank == 2 ? squeeze(joined, 0) : batch == 0 ? joined : transpose(joined, 0, 1);
}

// ---- positions

/// (t + offset) / base^(2 i / features) for t in [0, length) and i in [0, pairs): [length, pairs].
static Tensor angles(int64_t length, int64_t offset, int64_t pairs, int64_t features, double base) {
  const Tensor exponent = arange(pairs).to(float64) * (-2 / static_cast<double>(features));
  return (arange(length) + offset).to(float64).unsqueeze(1) * exp(exponent * std::log(base));
}

Tensor sinusoidal_positions(int64_t length, int64_t features, DType dtype, At at) {
  if (length < 0 || features < 1)
    fail<ValueError>(at, "sinusoidal_positions: {} positions of {} features: need at least 0 and 1",
                     length, features);
  const int64_t pairs = (features + 1) / 2;
  const Tensor angle = angles(length, 0, pairs, features, 10000);
  const Tensor both = stack({sin(angle), cos(angle)}, -1).reshape({length, 2 * pairs});
  return narrow(both, 1, 0, features).to(dtype);
}

Tensor rotate_positions(const In& x, int64_t offset, double base) {
  check_floating("rotate_positions", x);
  if (x.dim() < 2 || x.shape().back() % 2 != 0)
    fail<ShapeError>(x.at, "rotate_positions: x {}: need [.., T, D] with an even D", x.shape());
  if (!(base > 0)) fail<ValueError>(x.at, "rotate_positions: base {}: need a number above 0", base);
  const Frame frame(x.at);
  const int64_t t = x.shape()[-2], d = x.shape().back();
  const Tensor angle = angles(t, offset, d / 2, d, base);
  const Tensor c = cos(angle).to(x.dtype()), s = sin(angle).to(x.dtype());
  const Tensor even = slice(x, -1, 0, INT64_MAX, 2), odd = slice(x, -1, 1, INT64_MAX, 2);
  return stack({even * c - odd * s, even * s + odd * c}, -1).reshape(x.shape());
}

}}  // namespace descent::nn
