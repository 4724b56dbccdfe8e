#include <cstdio>
#include <doctest/doctest.h>
#include <sstream>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// Padding, resizing, pooling and convolution of images and sequences against PyTorch's.

namespace {

PadMode pad_mode(const std::string& name) {
  return name == "reflect"     ? PadMode::reflect
         : name == "replicate" ? PadMode::replicate
         : name == "circular"  ? PadMode::circular
                               : PadMode::constant;
}

std::vector<int64_t> sizes_of(const GoldenCase& c) {
  std::vector<int64_t> sizes;
  std::istringstream text(c.option("sizes", ""));
  for (std::string size; std::getline(text, size, 'x');) sizes.push_back(std::stoll(size));
  return sizes;
}

Conv2dOptions conv_options(const GoldenCase& c) {
  return {.stride = c.size("stride", 1),
          .padding = c.size("padding", 0),
          .dilation = c.size("dilation", 1),
          .groups = static_cast<int64_t>(c.number("groups", 1)),
          .bias = c.flag("bias", true)};
}
ConvTranspose2dOptions transposed_options(const GoldenCase& c) {
  return {.stride = c.size("stride", 1),
          .padding = c.size("padding", 0),
          .output_padding = c.size("output_padding", 0),
          .dilation = c.size("dilation", 1),
          .groups = static_cast<int64_t>(c.number("groups", 1)),
          .bias = c.flag("bias", true)};
}

template <class F> void convolutions(const char* op, int cases, F f) {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases(op, "images")) {
    const Tensor x = c.leaf("input"), weight = c.leaf("weight"), bias = c.leaf("bias");
    tally.add(c, f(c, x, weight, bias), {{"input", x}, {"weight", weight}, {"bias", bias}});
  }
  tally.print(op, cases);
}

/// A layer with the parameters of a case, which it takes by their names.
template <class Layer> void add_layer(GoldenTally& tally, const GoldenCase& c, Layer layer) {
  const Tensor x = c.leaf("input");
  std::map<std::string, Tensor> leaves{{"input", x}};
  load_case(layer, c, leaves);
  tally.add(c, layer(x), leaves);
}

}  // namespace

TEST_CASE("pad is PyTorch's in every mode") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("pad", "images")) {
    const Tensor x = c.leaf("input");
    const PadOptions options{pad_mode(c.option("mode", "")), c.number("value", 0)};
    tally.add(c, pad(x, sizes_of(c), options), {{"input", x}});
  }
  CHECK(tally.exact == 0);
  tally.print("pad", 10);
}

TEST_CASE("interpolate is PyTorch's") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("interpolate", "images")) {
    const Tensor x = c.leaf("input");
    const InterpolateOptions options{
        c.size("size", {}), c.number("scale_factor", 0),
        c.option("mode", "") == "bilinear" ? InterpolateMode::bilinear : InterpolateMode::nearest,
        c.flag("align_corners", false)};
    tally.add(c, interpolate(x, options), {{"input", x}});
    CHECK(same_bits(nn::Upsample(options)(x), interpolate(x, options)));
  }
  tally.print("interpolate", 11);
}

TEST_CASE("pooling to a size, and of sequences, is PyTorch's") {
  GoldenTally images, sequences, max, avg;
  for (const GoldenCase& c : golden_cases("adaptive_avg_pool2d", "images")) {
    const Tensor x = c.leaf("input"), y = adaptive_avg_pool2d(x, c.size("size", {}));
    images.add(c, y, {{"input", x}});
    CHECK(same_bits(nn::AdaptiveAvgPool2d(c.size("size", {}))(x), y));
  }
  images.print("adaptive_avg_pool2d", 5);
  for (const GoldenCase& c : golden_cases("adaptive_avg_pool1d", "images")) {
    const Tensor x = c.leaf("input"), y = adaptive_avg_pool1d(x, c.size("size", {}).w);
    sequences.add(c, y, {{"input", x}});
    CHECK(same_bits(nn::AdaptiveAvgPool1d(c.size("size", {}).w)(x), y));
  }
  sequences.print("adaptive_avg_pool1d", 3);
  for (const GoldenCase& c : golden_cases("max_pool1d", "images")) {
    const MaxPool2dOptions o{c.size("stride", {}), c.size("padding", 0), c.size("dilation", 1),
                             c.flag("ceil_mode", false)};
    const int64_t kernel = c.size("kernel", {}).w;
    const Tensor x = c.leaf("input"), y = max_pool1d(x, kernel, o);
    max.add(c, y, {{"input", x}});
    CHECK(same_bits(nn::MaxPool1d(kernel, o)(x), y));
  }
  max.print("max_pool1d", 5);
  for (const GoldenCase& c : golden_cases("avg_pool1d", "images")) {
    const AvgPool2dOptions o{c.size("stride", {}), c.size("padding", 0), c.flag("ceil_mode", false),
                             c.flag("count_include_pad", true)};
    const int64_t kernel = c.size("kernel", {}).w;
    const Tensor x = c.leaf("input"), y = avg_pool1d(x, kernel, o);
    avg.add(c, y, {{"input", x}});
    CHECK(same_bits(nn::AvgPool1d(kernel, o)(x), y));
  }
  avg.print("avg_pool1d", 5);
}

TEST_CASE("convolutions of sequences and transposed ones are PyTorch's") {
  convolutions("conv1d", 3,
               [](const GoldenCase& c, auto&... t) { return conv1d(t..., conv_options(c)); });
  convolutions("conv_transpose2d", 10, [](const GoldenCase& c, auto&... t) {
    return conv_transpose2d(t..., transposed_options(c));
  });
  convolutions("conv_transpose1d", 3, [](const GoldenCase& c, auto&... t) {
    return conv_transpose1d(t..., transposed_options(c));
  });
}

TEST_CASE("layers that convolve take PyTorch's parameters by name, and give its numbers") {
  GoldenTally images, sequences, transposed, transposed_sequences;
  for (const GoldenCase& c : golden_cases("Conv2d", "images"))
    add_layer(
        images, c,
        nn::Conv2d(2, 3, 3,
                   {.padding = {1, 2}, .padding_mode = pad_mode(c.option("padding_mode", ""))}));
  for (const GoldenCase& c : golden_cases("Conv1d", "images")) {
    const PadMode mode = pad_mode(c.option("padding_mode", ""));
    add_layer(
        sequences, c,
        nn::Conv1d(2, 3, 3, {.padding = mode == PadMode::constant ? 0 : 2, .padding_mode = mode}));
  }
  for (const GoldenCase& c : golden_cases("ConvTranspose2d", "images"))
    add_layer(transposed, c,
              nn::ConvTranspose2d(4, 2, {3, 2},
                                  {.stride = 2,
                                   .padding = {1, 0},
                                   .output_padding = 1,
                                   .groups = 2,
                                   .bias = c.flag("bias", true)}));
  for (const GoldenCase& c : golden_cases("ConvTranspose1d", "images"))
    add_layer(transposed_sequences, c,
              nn::ConvTranspose1d(4, 2, 3,
                                  {.stride = 2,
                                   .padding = 1,
                                   .output_padding = 1,
                                   .groups = 2,
                                   .bias = c.flag("bias", true)}));
  images.print("Conv2d", 3);
  sequences.print("Conv1d", 4);
  transposed.print("ConvTranspose2d", 2);
  transposed_sequences.print("ConvTranspose1d", 2);
}

TEST_CASE("layers start as PyTorch's do") {
  const nn::ConvTranspose2d layer(6, 4, {2, 3}, {.groups = 2});
  const double bound = 1 / std::sqrt(2. * 6);  // out / groups and the taps
  CHECK(layer.weight.shape() == Shape{6, 2, 2, 3});
  CHECK(max(abs(layer.weight)).item() <= bound);
  CHECK(max(abs(layer.weight)).item() > 0.9 * bound);
  CHECK(max(abs(layer.bias)).item() <= bound);
  CHECK(nn::Conv1d(4, 6, 5, {.groups = 2}).weight.shape() == Shape{6, 2, 5});
  CHECK(nn::ConvTranspose1d(4, 6, 5, {.groups = 2}).weight.shape() == Shape{4, 3, 5});
}

TEST_CASE("Unflatten undoes Flatten, and Identity returns its input") {
  const Tensor x = randn({2, 3, 4});
  CHECK(same_bits(nn::Unflatten(1, {3, -1})(nn::Flatten()(x)), x));
  CHECK(nn::Unflatten(-1, {2, 2})(x).shape() == Shape{2, 3, 2, 2});
  CHECK(same_bits(nn::Identity()(x), x));
  CHECK(refusal<IndexError>([&] { nn::Unflatten(3, {1})(x); }) ==
        "Unflatten: dim 3 of [2, 3, 4]: need -3 to 2");
}

TEST_CASE("a convolution leaves out taps that never touch the image") {
  const Tensor x = randn({1, 2, 1, 1}), weight = randn({3, 2, 3, 3});
  weight.select(2, 0).fill_(INFINITY);
  const Tensor y = conv2d(x, weight, {.padding = 1});
  const Tensor centre = weight.narrow(2, 1, 1).narrow(3, 1, 1);
  CHECK(same_bits(y, conv2d(x, centre)));
}

TEST_CASE("what cannot be padded, resized or convolved is refused") {
  const Tensor x = zeros({2, 3, 4}), w = zeros({3, 2, 2, 2});
  auto shape = [](auto f) { return refusal<ShapeError>(f); };
  auto value = [](auto f) { return refusal<ValueError>(f); };
  CHECK(shape([&] {
          pad(x, {1, 1, 1});
        }) == "pad: 3 sizes for [2, 3, 4]: need two for each padded axis");
  CHECK(shape([&] {
          pad(x, {1, 1, 1, 1, 1, 1, 1, 1});
        }) == "pad: 8 sizes for [2, 3, 4]: need two for each padded axis");
  CHECK(shape([&] {
          pad(x, {4, 0}, {.mode = PadMode::reflect});
        }) == "pad: 4 and 0 elements more at an axis of 4 do not fit in this mode");
  CHECK(shape([&] {
          pad(x, {0, 5}, {.mode = PadMode::circular});
        }) == "pad: 0 and 5 elements more at an axis of 4 do not fit in this mode");
  CHECK(shape([&] {
          pad(zeros({0}), {0, 1}, {.mode = PadMode::replicate});
        }) == "pad: 0 and 1 elements more at an axis of 0 do not fit in this mode");
  CHECK(shape([&] {
          pad(x, {-3, -2});
        }) == "pad: -3 and -2 elements more at an axis of 4 do not fit in this mode");
  CHECK(shape([&] {
          interpolate(zeros({4, 4}), {.size = 2});
        }) ==
        "interpolate: x [4, 4] to 2 pixels along an axis: need [N, C, H, W] or [C, H, W] with at "
        "least one, and at least one");
  CHECK(value([&] { interpolate(x, {}); }) ==
        "interpolate: size [-9223372036854775808, -9223372036854775808] and scale_factor 0: need "
        "one of them");
  CHECK(refusal<DtypeError>([&] {
          interpolate(x.to(int64), {.size = 2, .mode = InterpolateMode::bilinear});
        }).starts_with("interpolate: "));
  CHECK(shape([&] { adaptive_avg_pool2d(x, 0); }) ==
        "adaptive_avg_pool2d: x [2, 3, 4] to [0, 0]: need [N, C, H, W] or [C, H, W] with pixels, "
        "and a size of at least 1");
  CHECK(
      shape([&] {
        adaptive_avg_pool2d(zeros({1, 1, 3, 0}), 2);
      }) ==
      "adaptive_avg_pool2d: x [1, 1, 3, 0] to [2, 2]: need [N, C, H, W] or [C, H, W] with pixels, "
      "and a size of at least 1");
  CHECK(adaptive_avg_pool2d(zeros({1, 3, 4}), 2).shape() == Shape{1, 2, 2});  // 3 is no multiple
  CHECK(shape([&] { max_pool1d(zeros({4}), 2); }) ==
        "max_pool1d: x [4] has rank 1: need [N, C, L] or [C, L]");
  CHECK(shape([&] { conv1d(zeros({4}), w); }) ==
        "conv1d: x [4] and weight [3, 2, 2, 2]: need x [N, C, L] or [C, L] and weight of rank 3");
  CHECK(shape([&] { conv_transpose2d(x, w); }) ==
        "conv_transpose2d: x [2, 3, 4] and weight [3, 2, 2, 2] do not fit: need x [N, C, H, W] or "
        "[C, H, W] and weight [C, O / groups, KH, KW]");
  const Tensor y = zeros({3, 3, 4});
  CHECK(shape([&] { conv_transpose2d(y, w, zeros({3})); }) ==
        "conv_transpose2d: bias [3] does not fit weight [3, 2, 2, 2]: need [2]");
  CHECK(value([&] { conv_transpose2d(y, w, Tensor(), {.output_padding = 1}); }) ==
        "conv_transpose2d: kernel 2, stride 1, padding 0, output_padding 1, dilation 1: need at "
        "least 1, 1, 0, 0 and 1, and an output_padding below the stride");
  CHECK(shape([&] { conv_transpose2d(y, w, Tensor(), {.padding = 2}); }) ==
        "conv_transpose2d: x [3, 3, 4] becomes 0 pixels along an axis: need at least one");
  CHECK(shape([&] { conv_transpose2d(y, w, Tensor(), {.groups = 2}); }) ==
        "conv_transpose2d: groups 2 do not divide the channels of x [3, 3, 4] and weight [3, 2, 2, "
        "2]");
  CHECK(value([&] { conv_transpose2d(y, w, Tensor(), {.groups = 0}); }) ==
        "conv_transpose2d: groups is 0: need at least 1");
  CHECK(value([] { nn::ConvTranspose1d(3, 4, 2, {.groups = 2}); }) ==
        "ConvTranspose1d: groups 2 do not divide 3 inputs and 4 outputs");
}
