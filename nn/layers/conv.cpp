#include "descent/nn/layers/conv.hpp"

#include "descent/nn/layers/parameter.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

static const Conv2dOptions& check_options(int64_t in, int64_t out, Size2d kernel,
                                          const Conv2dOptions& o, At at) {
  check_features("Conv2d", in, out, at);
  if (kernel.h < 1 || kernel.w < 1)
    fail<ValueError>(at, "Conv2d: kernel is {}: need at least 1", kernel);
  if (o.groups < 1 || in % o.groups != 0 || out % o.groups != 0)
    fail<ValueError>(at, "Conv2d: groups {} do not divide {} inputs and {} outputs", o.groups, in,
                     out);
  return o;
}

Conv2d::Conv2d(int64_t in, int64_t out, Size2d kernel, const Conv2dOptions& o, At at)
    : options(check_options(in, out, kernel, o, at)),
      weight(register_parameter("weight", initial({out, in / o.groups, kernel.h, kernel.w}, at))),
      bias(o.bias ? register_parameter("bias", initial({out}, at, weight)) : Tensor()) {}

Tensor Conv2d::forward(const In& x) const {
  return options.bias ? conv2d(x, weight, bias, options) : conv2d(x, weight, options);
}

}}  // namespace descent::nn
