#include "descent/data/transforms.hpp"

#include <algorithm>
#include <cmath>

#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

/// `channels`: how many, or "C" for any number.
void check_image(const char* op, const Tensor& x, At at, const std::string& channels = "C") {
  if (!x.defined() || x.dim() != 3 || (channels != "C" && channels != str(x.size(0))))
    fail<ShapeError>(at, "{}: x {}: need an image [{}, H, W]", op,
                     x.defined() ? str(x.shape()) : "undefined", channels);
}

}  // namespace

Transform normalize(const std::vector<double>& mean, const std::vector<double>& std, At at) {
  bool good = !mean.empty() && mean.size() == std.size();
  for (std::size_t c = 0; good && c < mean.size(); ++c)
    good = std::isfinite(mean[c]) && std::isfinite(std[c]) && std[c] > 0;
  if (!good)
    fail<ValueError>(at, "normalize: mean {}, std {}: need as many, finite, std above 0", mean,
                     std);
  const Tensor center = tensor(mean, float64).reshape({-1, 1, 1});
  const Tensor scale = tensor(std, float64).reshape({-1, 1, 1});
  return [center, scale, at](Example e) -> Example {
    check_image("normalize", e.x, at, str(center.size(0)));
    if (!is_floating(e.x.dtype()))
      fail<DtypeError>(at, "normalize: x is {}: need a floating dtype", e.x.dtype());
    return {(e.x - center.to(e.x.dtype())) / scale.to(e.x.dtype()), e.y};
  };
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
    return {index_select(e.x, 2, e.x.size(2) - 1 - arange(e.x.size(2))), e.y};
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
