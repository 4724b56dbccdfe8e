#include "descent/nn/parametrize.hpp"

#include <algorithm>

#include "descent/core/graph/graph.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/core/ops/random.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {
namespace {

/// A module that only holds another one.
struct Folder : ModuleBase {
  Folder(const char* name, std::shared_ptr<ModuleBase> child, At at) {
    add_child(name, std::move(child), at);
  }
};

struct WeightNorm : Parametrized::Weight {
  WeightNorm(const Tensor& weight, std::optional<int64_t> dim, At at)
      : all(others(weight, dim, at)),
        length(register_parameter("original0", norm(weight.detach(), all, dim.has_value()))),
        direction(register_parameter("original1", weight)) {}
  /// The axes but for `dim`.
  static Dims others(const Tensor& weight, std::optional<int64_t> dim, At at) {
    if (dim) (void)weight.size(*dim, at);  // an IndexError if there is no such axis
    Dims axes{};
    for (int64_t d = 0; d < weight.dim(); ++d)
      if (!dim || d != (*dim + weight.dim()) % weight.dim()) axes.push_back(d);
    return axes;
  }
  Tensor forward() const override {
    return direction * (length / norm(direction, all, length.dim() > 0));
  }
  const Dims all;
  const Tensor length, direction;
};

struct SpectralNorm : Parametrized::Weight {
  struct Vectors : ModuleBase {
    explicit Vectors(const Tensor& matrix)
        : u(register_buffer("_u", randn({matrix.size(0)}, matrix.dtype()))),
          v(register_buffer("_v", randn({matrix.size(1)}, matrix.dtype()))) {}
    const Tensor u, v;
  };
  SpectralNorm(const Tensor& weight, const SpectralNormOptions& o)
      : options(o), original(register_parameter("original", weight)) {
    iterate(15);
  }
  void iterate(int64_t n) const {
    const NoGradGuard constant;
    const Tensor matrix = flatten(original, 1);
    auto unit = [&](const Tensor& x) { return x / std::max(norm(x).item(), options.eps); };
    for (int64_t i = 0; i < n; ++i) {
      vectors.u.copy_(unit(matmul(matrix, vectors.v)));
      vectors.v.copy_(unit(matmul(matrix.t(), vectors.u)));
    }
  }
  Tensor forward() const override {
    if (training()) iterate(options.n_power_iterations);
    // Copies, because the next call changes the vectors.
    const Tensor u = vectors.u.clone(), v = vectors.v.clone();
    return original / sum(u * matmul(flatten(original, 1), v));
  }
  const SpectralNormOptions options;
  const Tensor original;
  const Vectors vectors = register_module("0", Vectors(flatten(original.detach(), 1)));
};

}  // namespace

Weighted::Weighted(const Linear& layer)
    : weight(layer.weight),
      bias(layer.bias),
      apply([b = bias](const In& x, const In& w) { return linear(x, w, b); }) {}
Weighted::Weighted(const Conv2d& layer)
    : weight(layer.weight),
      bias(layer.bias),
      apply(
          [b = bias, o = layer.options](const In& x, const In& w) { return conv2d(x, w, b, o); }) {}

Parametrized::Parametrized(const Weighted& layer, std::shared_ptr<Weight> weight, At at)
    : layer_(layer), weight_(std::move(weight)) {
  if (layer.bias.defined()) register_parameter("bias", layer.bias, at);
  add_child("parametrizations", std::make_shared<Folder>("weight", weight_, at), at);
}
Tensor Parametrized::forward(const In& x) const {
  // Only a call in training changes them; in evaluation other threads may be reading them.
  const NamedTensors buffers = weight_->training() ? weight_->named_buffers() : NamedTensors{};
  std::vector<Tensor> before;
  for (const auto& entry : buffers) before.push_back(entry.second.clone());
  try {
    return layer_.apply(x, {weight(), x.at});
  } catch (...) {
    const NoGradGuard constant;
    for (std::size_t i = 0; i < before.size(); ++i) buffers[i].second.copy_(before[i]);
    throw;
  }
}

Parametrized weight_norm(const Weighted& layer, const WeightNormOptions& o, At at) {
  return {layer, std::make_shared<WeightNorm>(layer.weight, o.dim, at), at};
}
Parametrized spectral_norm(const Weighted& layer, const SpectralNormOptions& o, At at) {
  return {layer, std::make_shared<SpectralNorm>(layer.weight, o), at};
}

}}  // namespace descent::nn
