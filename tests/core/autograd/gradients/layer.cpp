#include "table.hpp"

namespace gradients { namespace {

void rows(Tally& t) {
  for (const bool bias : {true, false})
    layer(t, "Linear", nn::Linear(4, 3, {.bias = bias}), {{4}, {2, 4}, {0, 4}, {2, 3, 4}});
  const nn::Conv2dOptions options[] = {{.stride = {2, 1}, .padding = {1, 0}},
                                       {.dilation = 2, .groups = 2, .bias = false}};
  for (const nn::Conv2dOptions& o : options)
    layer(t, "Conv2d", nn::Conv2d(4, 2, {3, 2}, o), {{4, 5, 4}, {2, 4, 5, 4}, {0, 4, 5, 4}});
  for (const MaxPool2dOptions& o : {MaxPool2dOptions{}, {.stride = 1, .padding = 1}})
    layer(t, "MaxPool2d", nn::MaxPool2d({2, 3}, o),
          {{2, 4, 6}, {1, 2, 5, 6}, {0, 2, 4, 6}, {3, 1, 4, 3}});
  for (const AvgPool2dOptions& o : {AvgPool2dOptions{}, {.stride = 1, .padding = 1}})
    layer(t, "AvgPool2d", nn::AvgPool2d({2, 3}, o),
          {{2, 4, 6}, {1, 2, 5, 6}, {0, 2, 4, 6}, {3, 1, 4, 3}});
  for (const double p : {0.3, 1.0}) {
    any_of(t, "dropout",
           [=](const Tensors& x) {
             manual_seed(1);
             return nn::dropout(square(x[0]), p);
           },
           {{5}, {3, 4}, {2, 0}, {2, 3, 4}});
    layer(t, "Dropout", nn::Dropout(p), {{5}, {3, 4}, {2, 0}, {2, 3, 4}, {1}, {}});
    layer(t, "Dropout2d", nn::Dropout2d(p),
          {{3, 2, 2}, {2, 3, 2, 2}, {0, 3, 2, 2}, {2, 1, 3, 1}, {4, 1, 1}});
  }
  layer(t, "Flatten", nn::Flatten(), {{2, 3}, {2, 3, 4}, {0, 3, 4}, {2, 3, 1, 2}});
  layer(t, "Flatten", nn::Flatten(0, -2), {{2, 3}, {2, 3, 4}, {0, 3, 4}, {2, 3, 1, 2}});
  layer(t, "Flatten", nn::Flatten(-2), {{2, 3}, {2, 3, 4}});
  layer(t, "Sequential", nn::Sequential{nn::Linear(3, 2), tanh, nn::Linear(2, 3)},
        {{3}, {2, 3}, {0, 3}});
}

const Family kLayers(rows);

}  // namespace
}  // namespace gradients
