#include "table.hpp"

namespace gradients { namespace {

const std::vector<Shape> kImages = {{2, 4, 5}, {1, 2, 3, 4}, {0, 2, 4, 3}, {2, 1, 3, 3}};
const std::vector<Shape> kSequences = {{2, 5}, {1, 2, 4}, {0, 2, 4}, {2, 2, 6}};

void sizes(Tally& t) {
  for (PadMode mode : {PadMode::constant, PadMode::reflect, PadMode::replicate, PadMode::circular})
    any_of(t, "pad",
           [=](const Tensors& x) {
             return pad(square(x[0]), {2, 1, 0, 2}, {.mode = mode, .value = 3});
           },
           {{3, 4}, {2, 3, 4}});
  any_of(t, "pad away",
         [](const Tensors& x) {
           return pad(x[0], {-1, 2, 1, -1});
         },
         {{3, 4}, {2, 3, 4}, {2, 0, 3, 2}});
  for (bool align : {false, true})
    for (auto mode : {InterpolateMode::nearest, InterpolateMode::bilinear}) {
      any_of(
          t, "interpolate",
          [=](const Tensors& x) {
            return interpolate(x[0], {{5, 3}, 0, mode, align});
          },
          kImages);
      any_of(
          t, "interpolate by a factor",
          [=](const Tensors& x) {
            return interpolate(x[0], {{}, 1.7, mode, align});
          },
          kImages);
    }
  for (const Size2d size : {Size2d(1), Size2d(2, 3), Size2d(4, 5)})
    any_of(
        t, "adaptive_avg_pool2d",
        [=](const Tensors& x) { return adaptive_avg_pool2d(square(x[0]), size); }, kImages);
  for (int64_t size : {1, 2, 5})
    any_of(
        t, "adaptive_avg_pool1d",
        [=](const Tensors& x) { return adaptive_avg_pool1d(square(x[0]), size); }, kSequences);
  for (const MaxPool2dOptions& o : {MaxPool2dOptions{}, {.stride = 1, .padding = 1}})
    any_of(
        t, "max_pool1d", [=](const Tensors& x) { return max_pool1d(x[0], 2, o); }, kSequences);
  for (const AvgPool2dOptions& o :
       {AvgPool2dOptions{}, {.stride = 1, .padding = 1, .count_include_pad = false}})
    any_of(
        t, "avg_pool1d", [=](const Tensors& x) { return avg_pool1d(square(x[0]), 2, o); },
        kSequences);
}

void convolutions(Tally& t) {
  struct Case {
    Shape x, weight;
    ConvTranspose2dOptions options;
  };
  const Case cases[] = {{{2, 2, 3, 4}, {2, 3, 3, 2}, {}},
                        {{2, 3, 3}, {2, 1, 1, 1}, {.stride = 2, .output_padding = 1}},
                        {{2, 4, 2, 3}, {4, 1, 3, 2}, {{2, 3}, {1, 0}, {1, 2}, {1, 2}, 2}},
                        {{0, 2, 3, 3}, {2, 2, 2, 2}, {}}};
  for (const auto& [images, weight, o] : cases) {
    const Tensors in = {input(images, Layout::plain, false, 1),
                        input(weight, Layout::transposed, false, 2),
                        input({weight[1] * o.groups}, Layout::plain, false, 3)};
    t.run(
        "conv_transpose2d",
        [o = o](const Tensors& x) { return conv_transpose2d(x[0], x[1], x[2], o); }, in);
    t.run("conv_transpose2d without bias",
          [o = o](const Tensors& x) { return conv_transpose2d(x[0], x[1], Tensor(), o); },
          {in[0], in[1]});
  }
  for (int64_t stride : {1, 2}) {
    const Tensors in = {input({2, 4, 5}, Layout::strided, false, 1),
                        input({4, 2, 3}, Layout::plain, false, 2),
                        input({4}, Layout::plain, false, 3)};
    for (bool bias : {true, false}) {
      const Tensors used(in.begin(), in.begin() + (bias ? 3 : 2));
      t.run(
          "conv1d",
          [=](const Tensors& x) {
            return conv1d(x[0], x[1], bias ? In(x[2]) : In(Tensor()),
                          {.stride = stride, .padding = 1, .groups = 2});
          },
          used);
      t.run(
          "conv_transpose1d",
          [=](const Tensors& x) {
            return conv_transpose1d(x[0], x[1], bias ? In(x[2]) : In(Tensor()),
                                    {.stride = stride, .padding = 1, .groups = 1});
          },
          bias ? Tensors{in[0], in[1], input({2}, Layout::plain, false, 3)} : used);
    }
  }
  for (PadMode mode : {PadMode::reflect, PadMode::replicate, PadMode::circular})
    layer(t, "Conv2d", nn::Conv2d(2, 1, {3, 2}, {.padding = {2, 1}, .padding_mode = mode}),
          {{2, 4, 3}, {1, 2, 3, 4}});
}

void layers(Tally& t) {
  const std::vector<Shape> images = {{2, 3, 4}, {1, 2, 4, 3}, {0, 2, 3, 3}};
  for (const bool bias : {true, false}) {
    layer(t, "Conv1d", nn::Conv1d(2, 4, 3, {.padding = 2, .groups = 2, .bias = bias}), kSequences);
    layer(t, "ConvTranspose1d",
          nn::ConvTranspose1d(2, 4, 3, {.stride = 2, .output_padding = 1, .bias = bias}),
          kSequences);
    layer(t, "ConvTranspose2d",
          nn::ConvTranspose2d(2, 2, {2, 3}, {.padding = 1, .groups = 2, .bias = bias}), images);
  }
  for (int64_t kernel : {2, 3}) {
    layer(t, "MaxPool1d", nn::MaxPool1d(kernel, {.stride = 1}), kSequences);
    layer(t, "AvgPool1d", nn::AvgPool1d(kernel, {.stride = 1}), kSequences);
    layer(t, "AdaptiveAvgPool1d", nn::AdaptiveAvgPool1d(kernel), kSequences);
    layer(t, "AdaptiveAvgPool2d", nn::AdaptiveAvgPool2d(kernel), kImages);
    layer(t, "Upsample", nn::Upsample({.scale_factor = static_cast<double>(kernel)}), kImages);
    layer(t, "Upsample", nn::Upsample({.size = kernel, .mode = InterpolateMode::bilinear}),
          kImages);
  }
  layer(t, "Identity", nn::Identity(), kShapes);
  layer(t, "Unflatten", nn::Unflatten(1, {2, 2}), {{2, 4}, {1, 4}, {3, 4, 2}, {0, 4}, {1, 4, 1}});
  layer(t, "Unflatten", nn::Unflatten(-1, {2}), {{2}, {3, 2}, {1, 2, 2}, {0, 2}});
}

const Family kSizes(sizes);
const Family kConvolutions(convolutions);
const Family kLayers(layers);

}  // namespace
}  // namespace gradients
