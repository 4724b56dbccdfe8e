#include "descent/nn/layers/pool.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

Tensor MaxPool2d::forward(const In& x) const { return max_pool2d(x, kernel, options); }
Tensor AvgPool2d::forward(const In& x) const { return avg_pool2d(x, kernel, options); }
Tensor MaxPool1d::forward(const In& x) const { return max_pool1d(x, kernel, options); }
Tensor AvgPool1d::forward(const In& x) const { return avg_pool1d(x, kernel, options); }
Tensor AdaptiveAvgPool2d::forward(const In& x) const { return adaptive_avg_pool2d(x, size); }
Tensor AdaptiveAvgPool1d::forward(const In& x) const { return adaptive_avg_pool1d(x, size); }
Tensor Upsample::forward(const In& x) const { return interpolate(x, options); }

}}  // namespace descent::nn
