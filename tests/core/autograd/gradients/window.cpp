#include "table.hpp"

using namespace gradients;

namespace {

/// By the product and one channel at a time.
void convolutions(Tally& t) {
  struct Case {
    Shape x, weight;
    Conv2dOptions options;
  };
  const Case cases[] = {{{2, 2, 4, 5}, {3, 2, 3, 2}, {}},
                        {{2, 3, 4}, {2, 2, 1, 1}, {}},
                        {{2, 4, 5, 4}, {2, 2, 3, 3}, {.stride = {2, 1}, .padding = 1, .groups = 2}},
                        {{1, 2, 6, 5}, {1, 2, 2, 3}, {.padding = {0, 2}, .dilation = {3, 2}}},
                        {{2, 3, 4, 5}, {3, 1, 3, 3}, {.padding = 1, .groups = 3}},
                        {{0, 2, 4, 4}, {2, 2, 3, 3}, {}}};
  for (const auto& [images, weight, o] : cases) {
    const Tensors in = {input(images, Layout::plain, false, 1),
                        input(weight, Layout::plain, false, 2),
                        input({weight[0]}, Layout::plain, false, 3)};
    t.run(
        "conv2d", [o = o](const Tensors& x) { return conv2d(x[0], x[1], x[2], o); }, in);
    t.run("conv2d without bias", [o = o](const Tensors& x) { return conv2d(x[0], x[1], o); },
          {in[0], in[1]});
  }
}

void pooling(Tally& t) {
  const std::vector<Shape> images = {{2, 2, 4, 6}, {3, 5, 5}, {1, 1, 4, 5}};
  const MaxPool2dOptions largest[] = {{},
                                      {.stride = 1, .padding = 1},
                                      {.stride = {2, 1}, .ceil_mode = true},
                                      {.stride = 3, .padding = {0, 1}, .dilation = 2}};
  for (const MaxPool2dOptions& o : largest)
    for (const Size2d& kernel : {Size2d(2), Size2d(2, 3)})
      any_of(
          t, "max_pool2d", [=](const Tensors& x) { return max_pool2d(x[0], kernel, o); }, images);
  const AvgPool2dOptions means[] = {
      {},
      {.stride = 1, .padding = 1},
      {.stride = {2, 1}, .ceil_mode = true},
      {.padding = {1, 0}, .ceil_mode = true, .count_include_pad = false}};
  for (const AvgPool2dOptions& o : means)
    for (const Size2d& kernel : {Size2d(2), Size2d(2, 3)})
      any_of(
          t, "avg_pool2d", [=](const Tensors& x) { return avg_pool2d(x[0], kernel, o); }, images);
}

const Family kConvolutions(convolutions);
const Family kPooling(pooling);

}  // namespace
