#pragma once
/// @file
/// Attention, and the positions that it does not know of itself.

#include <optional>

#include "descent/nn/layers/linear.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// Who may attend to what in `scaled_dot_product_attention`.
struct AttentionOptions {
  /// Broadcasts to [.., T, S]: bool, true where a query may attend to a key; or of the dtype of q,
  /// what is added to the scores. Everything may be attended to if it is undefined.
  Tensor mask = {};
  bool causal = false;               ///< query t attends to the keys 0..t only
  double dropout = 0;                ///< the probability that an attention weight is 0
  std::optional<double> scale = {};  ///< multiplies the scores; 1/sqrt(D) if not set
};
/// softmax(scale q k^T + mask) v: for each query, the mean of the values v, each weighted by how
/// well its key fits.
///
/// q [.., T, D], k [.., S, D] and v [.., S, E] give [.., T, E]; the axes in front broadcast.
/// Floating dtypes. A query that the mask lets attend to nothing gets zeros. The memory grows with
/// T
/// + S, not with T S: where T S is large, the queries are computed in blocks, of which backward
/// computes the weights again (see `checkpoint`: such a call has no second derivative). ShapeError
/// if the shapes do not fit, DtypeError for other dtypes, ValueError for `dropout` outside of [0,
/// 1]. Vaswani et al. 2017, section 3.2.1 (arXiv:1706.03762).
[[nodiscard]] Tensor scaled_dot_product_attention(const In& q, const In& k, const In& v,
                                                  const AttentionOptions& options = {});

/// How a `MultiheadAttention` is made.
struct MultiheadAttentionOptions {
  double dropout = 0;        ///< the probability that an attention weight is 0 in training mode
  bool bias = true;          ///< whether the projections have biases
  int64_t kdim = 0;          ///< the features of the keys; 0: those of the queries
  int64_t vdim = 0;          ///< the features of the values; 0: those of the queries
  bool batch_first = false;  ///< whether inputs are [N, T, D] instead of [T, N, D]
};
/// Who may attend to what in a `MultiheadAttention`. As in PyTorch, bool masks are true where
/// attention is *not* allowed.
struct AttentionMasks {
  Tensor attn_mask = {};  ///< [T, S] or [N heads, T, S]: bool, or numbers added to the scores
  Tensor key_padding_mask = {};  ///< bool [N, S]: keys that nobody attends to
  bool causal = false;           ///< query t attends to the keys 0..t only
};
/// Attention by several heads, each with projections of its own: Vaswani et al. 2017,
/// section 3.2.2.
///
/// The parameters are PyTorch's: in_proj_weight [3 D, D], or q_proj_weight, k_proj_weight and
/// v_proj_weight if keys or values have other features; in_proj_bias [3 D], out_proj.weight [D, D]
/// and out_proj.bias [D]. Projections start as `init::xavier_uniform_`, out_proj.weight as that of
/// a `Linear`, biases with 0.
class MultiheadAttention : public ModuleOf<Tensor(const In& query, const In& key, const In& value,
                                                  const AttentionMasks& masks)> {
 public:
  /// For queries of `features` numbers. ValueError unless `heads` is at least 1 and divides them,
  /// or for a negative number of features.
  MultiheadAttention(int64_t features, int64_t heads, const MultiheadAttentionOptions& options = {},
                     At at = At::here());
  /// query [T, N, D], key [S, N, kdim] and value [S, N, vdim] give [T, N, D]; with batch_first the
  /// first two axes are exchanged, and without a batch they are [T, D] and so on. ShapeError if
  /// inputs or masks do not fit.
  Tensor forward(const In& query, const In& key, const In& value,
                 const AttentionMasks& masks) const override;
  const MultiheadAttentionOptions options;  ///< the options that were given
  /// D, and how many heads there are.
  const int64_t features, heads;
  const Tensor in_proj_weight;  ///< undefined if keys or values have other features
  /// Defined in that case.
  const Tensor q_proj_weight, k_proj_weight, v_proj_weight;
  const Tensor in_proj_bias;  ///< undefined for a layer without biases
  const Linear out_proj;      ///< after the heads are joined

 private:
  Tensor projection(const char* name, bool wanted, int64_t out, int64_t in, At at);
};

/// sin(t / 10000^(2 i / D)) in column 2 i and cos of the same in column 2 i + 1: [length, D], for D
/// >= 2. ValueError for a negative length or D < 1. Vaswani et al. 2017, section 3.5.
[[nodiscard]] Tensor sinusoidal_positions(int64_t length, int64_t features, DType dtype = float32,
                                          At at = At::here());
/// x [.., T, D], in which the pairs (2 i, 2 i + 1) of row t are turned by the angle (t + offset) /
/// base^(2 i / D), so that products of rows depend on how far apart they are. ShapeError unless D
/// is even. Su et al. 2021, section 3.2.2 (arXiv:2104.09864).
[[nodiscard]] Tensor rotate_positions(const In& x, int64_t offset = 0, double base = 10000);

}}  // namespace descent::nn
