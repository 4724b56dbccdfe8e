#include "descent/nn/layers/norm.hpp"

#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

Normalization::Normalization(const Shape& shape, bool has_weight, bool has_bias, At at)
    : weight(has_weight ? register_parameter("weight", ones(shape, float32, at)) : Tensor()),
      bias(has_bias ? register_parameter("bias", zeros(shape, float32, at)) : Tensor()) {}

BatchNorm::BatchNorm(bool for_images, int64_t features, const BatchNormLayerOptions& o, At at)
    : Normalization({features}, o.affine, o.affine && o.bias, at),
      options(o),
      running_mean(track("running_mean", zeros({features}, float32, at))),
      running_var(track("running_var", ones({features}, float32, at))),
      num_batches_tracked(track("num_batches_tracked", zeros({}, int64))),
      for_images_(for_images) {}

Tensor BatchNorm::track(const char* name, const Tensor& start) {
  return options.track_running_stats ? register_buffer(name, start) : Tensor();
}

Tensor BatchNorm::forward(const In& x) const {
  const char* name = for_images_ ? "BatchNorm2d" : "BatchNorm1d";
  check_input(name, x);
  if (for_images_ ? x.dim() != 4 : x.dim() != 2 && x.dim() != 3)
    fail<ShapeError>(x.at, "{}: x {} has rank {}: need {}", name, x.shape(), x.dim(),
                     for_images_ ? "[N, C, H, W]" : "[N, C] or [N, C, T]");
  const bool update = training() && options.track_running_stats;
  const double momentum = update && !options.momentum ? 1 / (num_batches_tracked.item() + 1)
                                                      : options.momentum.value_or(0);
  Tensor y = batch_norm(x, running_mean, running_var, weight, bias,
                        {training() || !options.track_running_stats, momentum, options.eps});
  if (update) num_batches_tracked += 1;
  return y;
}

Tensor LayerNorm::forward(const In& x) const {
  return layer_norm(x, normalized_shape, weight, bias, options.eps);
}

Tensor RMSNorm::forward(const In& x) const {
  return rms_norm(x, normalized_shape, weight, options.eps);
}

static int64_t check_groups(int64_t groups, int64_t channels, At at) {
  if (groups < 1 || channels % groups != 0)
    fail<ValueError>(at, "GroupNorm: {} groups do not divide {} channels", groups, channels);
  return groups;
}
GroupNorm::GroupNorm(int64_t groups_, int64_t channels, const GroupNormOptions& o, At at)
    : Normalization({channels}, o.affine, o.affine && o.bias, at),
      groups(check_groups(groups_, channels, at)),
      options(o) {}

Tensor GroupNorm::forward(const In& x) const {
  return group_norm(x, groups, weight, bias, options.eps);
}

Tensor InstanceNorm2d::forward(const In& x) const {
  check_input("InstanceNorm2d", x);
  if (x.dim() != 3 && x.dim() != 4)
    fail<ShapeError>(x.at, "InstanceNorm2d: x {} has rank {}: need [N, C, H, W] or [C, H, W]",
                     x.shape(), x.dim());
  if (x.dim() == 4) return instance_norm(x, weight, bias, options.eps);
  return squeeze(instance_norm({unsqueeze(x, 0), x.at}, weight, bias, options.eps), 0);
}

}}  // namespace descent::nn
