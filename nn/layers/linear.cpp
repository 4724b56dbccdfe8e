#include "descent/nn/layers/linear.hpp"

#include "descent/core/ops/matmul.hpp"
#include "descent/nn/layers/parameter.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

Linear::Linear(int64_t in, int64_t out, LinearOptions options, At at)
    : weight(
          register_parameter("weight", initial({out, check_features("Linear", in, out, at)}, at))),
      bias(options.bias ? register_parameter("bias", initial({out}, at, weight)) : Tensor()) {}

Tensor Linear::forward(const In& x) const { return linear(x, weight, bias); }

}}  // namespace descent::nn
