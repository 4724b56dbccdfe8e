#include "descent/nn/layers/conv.hpp"

#include "descent/nn/layers/parameter.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

template <class Options>
static const Options& check_options(const char* layer, int64_t in, int64_t out, Size2d kernel,
                                    const Options& o, At at) {
  check_features(layer, in, out, at);
  if (kernel.h < 1 || kernel.w < 1)
    fail<ValueError>(at, "{}: kernel is {}: need at least 1", layer, kernel);
  if (o.groups < 1 || in % o.groups != 0 || out % o.groups != 0)
    fail<ValueError>(at, "{}: groups {} do not divide {} inputs and {} outputs", layer, o.groups,
                     in, out);
  return o;
}

Conv2d::Conv2d(int64_t in, int64_t out, Size2d kernel, const Conv2dOptions& o, At at)
    : options(check_options("Conv2d", in, out, kernel, o, at)),
      weight(register_parameter("weight", initial({out, in / o.groups, kernel.h, kernel.w}, at))),
      bias(o.bias ? register_parameter("bias", initial({out}, at, weight)) : Tensor()) {}
Tensor Conv2d::forward(const In& x) const { return conv2d(x, weight, bias, options); }

Conv1d::Conv1d(int64_t in, int64_t out, int64_t kernel, const Conv2dOptions& o, At at)
    : options(check_options("Conv1d", in, out, kernel, o, at)),
      weight(register_parameter("weight", initial({out, in / o.groups, kernel}, at))),
      bias(o.bias ? register_parameter("bias", initial({out}, at, weight)) : Tensor()) {}
Tensor Conv1d::forward(const In& x) const { return conv1d(x, weight, bias, options); }

ConvTranspose2d::ConvTranspose2d(int64_t in, int64_t out, Size2d kernel,
                                 const ConvTranspose2dOptions& o, At at)
    : options(check_options("ConvTranspose2d", in, out, kernel, o, at)),
      weight(register_parameter("weight", initial({in, out / o.groups, kernel.h, kernel.w}, at))),
      bias(o.bias ? register_parameter("bias", initial({out}, at, weight)) : Tensor()) {}
Tensor ConvTranspose2d::forward(const In& x) const {
  return conv_transpose2d(x, weight, bias, options);
}

ConvTranspose1d::ConvTranspose1d(int64_t in, int64_t out, int64_t kernel,
                                 const ConvTranspose2dOptions& o, At at)
    : options(check_options("ConvTranspose1d", in, out, kernel, o, at)),
      weight(register_parameter("weight", initial({in, out / o.groups, kernel}, at))),
      bias(o.bias ? register_parameter("bias", initial({out}, at, weight)) : Tensor()) {}
Tensor ConvTranspose1d::forward(const In& x) const {
  return conv_transpose1d(x, weight, bias, options);
}

}}  // namespace descent::nn
