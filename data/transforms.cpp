#include "descent/data/transforms.hpp"

#include <algorithm>
#include <cmath>

#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

void check_image(const char* op, const Tensor& x, At at) {
  if (!x.defined() || x.dim() != 3)
    fail<ShapeError>(at, "{}: x {}: need an image [C, H, W]", op,
                     x.defined() ? str(x.shape()) : "undefined");
}

}  // namespace

Transform normalize(const std::vector<double>& mean, const std::vector<double>& std, At at) {
  bool good = !mean.empty() && mean.size() == std.size();
  for (std::size_t c = 0; good && c < mean.size(); ++c)
    good = std::isfinite(mean[c]) && std::isfinite(std[c]) && std[c] > 0;
  if (!good)
    fail<ValueError>(
        at, "normalize: mean {} and std {}: need finite ones, std above 0, of each channel", mean,
        std);
  return {[mean, std, at](Example e) -> Example {
    check_image("normalize", e.x, at);
    if (!is_floating(e.x.dtype()))
      fail<DtypeError>(at, "normalize: x is {}: need a floating dtype", e.x.dtype());
    const auto channels = static_cast<int64_t>(mean.size());
    if (e.x.size(0) != channels)
      fail<ShapeError>(at, "normalize: x {} for {} means: need as many channels [C, H, W]",
                       e.x.shape(), channels);
    const auto per_channel = [&](const std::vector<double>& list) {
      return tensor(list, e.x.dtype()).reshape({channels, 1, 1});
    };
    return {(e.x - per_channel(mean)) / per_channel(std), e.y};
  }};
}

Augmentation random_crop(int64_t size, int64_t padding, At at) {
  if (size < 1 || size > INT32_MAX || padding < 0 || padding > INT32_MAX)
    fail<ValueError>(at, "random_crop: size {}, padding {}: need at least 1 and 0", size, padding);
  return [size, padding, at](Example e, Generator& generator) -> Example {
    check_image("random_crop", e.x, at);
    const Shape& shape = e.x.shape();
    if (std::min(shape[1], shape[2]) + 2 * padding < size)
      fail<ShapeError>(at, "random_crop: x {} with padding {}: need at least size {}", shape,
                       padding, size);
    Tensor x = e.x;
    if (padding > 0) {
      x = zeros({shape[0], shape[1] + 2 * padding, shape[2] + 2 * padding}, e.x.dtype(), at);
      x.narrow(1, padding, shape[1]).narrow(2, padding, shape[2]).copy_(e.x);
    }
    for (int axis : {1, 2}) {
      const auto places = static_cast<uint64_t>(x.size(axis) - size + 1);
      x = x.narrow(axis, static_cast<int64_t>(generator.bounded(places)), size);
    }
    return {x, e.y};
  };
}

Augmentation random_horizontal_flip(double p, At at) {
  if (!(p >= 0 && p <= 1)) fail<ValueError>(at, "random_horizontal_flip: p {}: need 0 to 1", p);
  return [p, at](Example e, Generator& generator) -> Example {
    check_image("random_horizontal_flip", e.x, at);
    if (generator.uniform() >= p) return e;
    const int64_t width = e.x.size(2);
    return {index_select(e.x, 2, width - 1 - arange(width)), e.y};
  };
}

Augmentation gaussian_noise(double std, At at) {
  if (!(std >= 0 && std::isfinite(std)))
    fail<ValueError>(at, "gaussian_noise: std {}: need a finite number of at least 0", std);
  return [std, at](Example e, Generator& generator) -> Example {
    check_image("gaussian_noise", e.x, at);
    return {e.x + std * randn(e.x.shape(), e.x.dtype(), generator, at), e.y};
  };
}

}}  // namespace descent::data
