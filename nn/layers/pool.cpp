#include "descent/nn/layers/pool.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

Tensor AdaptiveAvgPool2d::forward(const In& x) const { return adaptive_avg_pool2d(x, size); }
Tensor AdaptiveAvgPool1d::forward(const In& x) const { return adaptive_avg_pool1d(x, size); }
Tensor Upsample::forward(const In& x) const { return interpolate(x, options); }

}}  // namespace descent::nn
