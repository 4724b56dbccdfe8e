#include "descent/nn/layers/pool.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

Tensor MaxPool2d::forward(const In& x) const { return max_pool2d(x, kernel, options); }
Tensor AvgPool2d::forward(const In& x) const { return avg_pool2d(x, kernel, options); }

}}  // namespace descent::nn
