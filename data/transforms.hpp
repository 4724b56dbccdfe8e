#pragma once
/// @file
/// Functions that prepare and vary images, for `map` and `augment`. x is one image, [C, H, W]; y
/// stays as it is. Errors name the line that made the function.

#include <functional>

#include "descent/data/dataset.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// A function for `map`, and one for `augment`, whose random numbers are those of the generator.
/// Several follow each other in calls around one another, `augment(augment(data, crop, 1), flip,
/// 2)`, or in one function, `[=](Example e, Generator& g) { return flip(crop(e, g), g); }`.
using Transform = std::function<Example(Example)>;
using Augmentation = std::function<Example(Example, Generator&)>;

/// (x - mean[c]) / std[c] for each channel c. ValueError unless there are as many finite deviations
/// above 0 as finite means, one or more; ShapeError unless x [C, H, W] has as many channels;
/// DtypeError unless x is floating.
[[nodiscard]] Transform normalize(const std::vector<double>& mean, const std::vector<double>& std,
                                  At at = At::here());

/// A square of `size` by `size` pixels from anywhere in x, to all sides of which `padding` pixels
/// of 0 are added before: [C, size, size]. All places are equally likely. Draws two numbers.
/// ValueError unless size is at least 1 and padding at least 0, both below 2^31; ShapeError unless
/// x [C, H, W] is large enough with its padding.
[[nodiscard]] Augmentation random_crop(int64_t size, int64_t padding = 0, At at = At::here());

/// x with left and right exchanged, with probability p. Draws one number. ValueError unless
/// 0 <= p <= 1; ShapeError unless x is [C, H, W].
[[nodiscard]] Augmentation random_horizontal_flip(double p = 0.5, At at = At::here());

/// x plus normal noise of this standard deviation, which may take it out of [0, 1]. Draws as
/// `randn` does. ValueError unless std is finite and at least 0; ShapeError unless x is [C, H, W];
/// DtypeError unless x is floating.
[[nodiscard]] Augmentation gaussian_noise(double std, At at = At::here());

}}  // namespace descent::data
