#include "descent/core/ops/conv.hpp"

#include <algorithm>

#include "descent/core/base/checked.hpp"
#include "descent/core/base/paths.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/conv/convolve.hpp"
#include "descent/core/kernels/copy.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {
using detail::Conv;

// ---- the three products, each the derivative of the others (see convolve.hpp)

/// A new tensor made by compute(elements); zeros if there are no images.
template <class F>
Tensor make_output(const Conv& c, const Shape& shape, const In& like, F compute) {
  Tensor out = detail::empty("conv2d", shape, like.dtype(), like.at);
  visit<Kinds::floating>("conv2d", like.dtype(), like.at, [&](auto zero) {
    if (c.images == 0) out.fill_(0);
    else compute(elements_of<decltype(zero)>(out));
  });
  return out;
}

Tensor input_grad(const Conv& c, const In& g, const In& weight);
Tensor weight_grad(const Conv& c, const In& x, const In& g);

Tensor forward(const Conv& c, const In& x, const In& weight, const In& bias = Tensor()) {
  const Tensor x_ = detail::pack(x), w_ = detail::pack(weight);
  const Tensor b_ = bias.defined() ? detail::pack(bias) : Tensor();
  const Shape shape{c.images, c.groups * c.out, c.geometry.rows, c.geometry.columns};
  Tensor y = make_output(c, shape, x, [&]<class T>(T* to) {
    detail::convolve<T>(c, elements_of<T>(x_), elements_of<T>(w_),
                        b_.defined() ? elements_of<T>(b_) : nullptr, to);
  });
  return record(
      "conv2d", std::move(y),
      wrt(x, [c, weight = saved(weight)](const Tensor& g) { return input_grad(c, g, weight); }),
      wrt(weight, [c, x = saved(x)](const Tensor& g) { return weight_grad(c, x, g); }),
      wrt(bias, [](const Tensor& g) {
        return sum(g, {0, 2, 3});
      }));
}

Tensor input_grad(const Conv& c, const In& g, const In& weight) {
  detail::check("conv2d", weight);
  const Tensor g_ = detail::pack(g), w_ = detail::pack(weight);
  const Shape shape{c.images, c.groups * c.in, c.geometry.height, c.geometry.width};
  Tensor dx = make_output(c, shape, g, [&]<class T>(T* to) {
    detail::convolve_input<T>(c, elements_of<T>(g_), elements_of<T>(w_), to);
  });
  return record(
      "conv2d_input", std::move(dx),
      wrt(g, [c, weight = saved(weight)](const Tensor& h) { return forward(c, h, weight); }),
      wrt(weight, [c, g = saved(g)](const Tensor& h) { return weight_grad(c, h, g); }));
}

Tensor weight_grad(const Conv& c, const In& x, const In& g) {
  detail::check("conv2d", x);
  const Tensor x_ = detail::pack(x), g_ = detail::pack(g);
  const auto [height, width] = c.geometry.kernel;
  Tensor dw = make_output(c, {c.groups * c.out, c.in, height, width}, x, [&]<class T>(T* to) {
    detail::convolve_weight<T>(c, elements_of<T>(x_), elements_of<T>(g_), to);
  });
  return record("conv2d_weight", std::move(dw),
                wrt(x, [c, g = saved(g)](const Tensor& h) { return input_grad(c, g, h); }),
                wrt(g, [c, x = saved(x)](const Tensor& h) { return forward(c, x, h); }));
}

// ---- checks

/// ValueError unless the groups divide the channels of x and those of the result.
void check_groups(const char* op, const In& x, const In& weight, int64_t in, int64_t out,
                  int64_t groups) {
  if (groups < 1) fail<ValueError>(x.at, "{}: groups is {}: need at least 1", op, groups);
  if (in == 0 || out == 0)
    fail<ShapeError>(x.at, "{}: x {} with weight {}: need at least one channel of each", op,
                     x.shape(), weight.shape());
  if (in % groups != 0 || out % groups != 0)
    fail<ShapeError>(x.at, "{}: groups {} do not divide the channels of x {} and weight {}", op,
                     groups, x.shape(), weight.shape());
}

/// Checks the bias, if it is defined, of a convolution with so many channels.
void check_bias(const char* op, const In& x, const In& weight, const In& bias, int64_t channels) {
  if (!bias.defined()) return;
  check_inputs(op, x, bias, "x", "bias");
  if (!(bias.shape() == Shape{channels}))
    fail<ShapeError>(x.at, "{}: bias {} does not fit weight {}: need [{}]", op, bias.shape(),
                     weight.shape(), channels);
}

Conv plan_conv(const In& x, const In& weight, const In& bias, const Conv2dOptions& o) {
  check_inputs("conv2d", x, weight, "x", "weight");
  const Shape& w = weight.shape();
  if (w.rank() != 4)
    fail<ShapeError>(x.at, "conv2d: weight {} has rank {}: need [O, C / groups, KH, KW]", w,
                     w.rank());
  detail::Window window{{w[2], w[3]}, o.stride, o.padding, o.dilation};
  const Size2d places = detail::count_places("conv2d", x, window);
  const Shape& shape = x.shape();
  const int64_t channels = shape[-3];
  check_groups("conv2d", x, weight, channels, w[0], o.groups);
  if (w[1] != channels / o.groups)
    fail<ShapeError>(x.at,
                     "conv2d: x {} and weight {} do not fit with groups {}: need x [N, C, H, W] "
                     "and weight [O, C / groups, KH, KW]",
                     shape, w, o.groups);
  check_bias("conv2d", x, weight, bias, w[0]);
  const detail::Geometry geometry{shape[-2],      shape[-1],       window.kernel, window.stride,
                                  window.padding, window.dilation, places.h,      places.w};
  return {x.dim() == 4 ? shape[0] : 1, o.groups, w[1], w[0] / o.groups, geometry};
}

/// Leaves out the taps at the ends of one axis that are outside the image at all places. Returns
/// how many it left out in front.
int64_t drop_taps(detail::Geometry& w, int64_t Size2d::*axis, int64_t size, int64_t places) {
  const int64_t step = (places - 1) * w.stride.*axis, apart = w.dilation.*axis;
  int64_t &kernel = w.kernel.*axis, &padding = w.padding.*axis;
  const int64_t first = detail::ceil_div(std::max<int64_t>(padding - step, 0), apart);
  const int64_t taps = std::min(kernel, detail::ceil_div(size + padding, apart)) - first;
  const int64_t rest = padding - first * apart;  // of the padding
  const bool fits = rest >= 0 && taps > 0 && step + (taps - 1) * apart < size + 2 * rest;
  if (!fits || taps == kernel || !detail::take("conv taps")) return 0;
  kernel = taps, padding = rest;
  return first;
}

Tensor convolve_images(const In& x, Conv c, const In& all_taps, const In& bias) {
  detail::Geometry& w = c.geometry;
  const int64_t top = drop_taps(w, &Size2d::h, w.height, w.rows),
                left = drop_taps(w, &Size2d::w, w.width, w.columns);
  Tensor taps = all_taps;
  if (w.kernel.h < taps.size(2)) taps = narrow({taps, x.at}, 2, top, w.kernel.h);
  if (w.kernel.w < taps.size(3)) taps = narrow({taps, x.at}, 3, left, w.kernel.w);
  const In weight(taps, x.at);
  if (x.dim() == 4) return forward(c, x, weight, bias);
  return squeeze(forward(c, {unsqueeze(x, 0), x.at}, weight, bias), 0);
}

/// The size of conv_transpose2d's result along one axis, of which x has `in` pixels.
int64_t transposed_size(const In& x, int64_t in, int64_t kernel, int64_t Size2d::*axis,
                        const ConvTranspose2dOptions& o) {
  const char* op = "conv_transpose2d";
  const int64_t stride = o.stride.*axis, padding = o.padding.*axis, more = o.output_padding.*axis,
                dilation = o.dilation.*axis;
  if (kernel < 1 || stride < 1 || dilation < 1 || padding < 0 || more < 0 || more >= stride)
    fail<ValueError>(
        x.at,
        "{}: kernel {}, stride {}, padding {}, output_padding {}, dilation {}: need at "
        "least 1, 1, 0, 0 and 1, and an output_padding below the stride",
        op, kernel, stride, padding, more, dilation);
  const int64_t reach = checked_mul(dilation, kernel - 1, op, x.at) + more + 1;
  const int64_t size = checked_add(checked_mul(in - 1, stride, op, x.at), reach, op, x.at) -
                       checked_mul(2, padding, op, x.at);
  if (in < 1 || size < 1)
    fail<ShapeError>(x.at, "{}: x {} becomes {} pixels along an axis: need at least one", op,
                     x.shape(), size);
  return size;
}

}  // namespace

Tensor conv2d(const In& x, const In& weight, const In& bias, const Conv2dOptions& options) {
  const Conv c = plan_conv(x, weight, bias, options);
  if (options.padding_mode == PadMode::constant) return convolve_images(x, c, weight, bias);
  Conv2dOptions o = options;
  const auto [h, w] = std::exchange(o.padding, 0);
  const Tensor padded = pad(x, {w, w, h, h}, {.mode = std::exchange(o.padding_mode, {})});
  return conv2d({padded, x.at}, weight, bias, o);
}
Tensor conv2d(const In& x, const In& weight, const Conv2dOptions& o) {
  return conv2d(x, weight, Tensor(), o);
}

Tensor conv_transpose2d(const In& x, const In& weight, const In& bias,
                        const ConvTranspose2dOptions& o) {
  const char* op = "conv_transpose2d";
  check_inputs(op, x, weight, "x", "weight");
  const Shape &s = x.shape(), &w = weight.shape();
  if ((s.rank() != 3 && s.rank() != 4) || w.rank() != 4 || s[-3] != w[0])
    fail<ShapeError>(x.at,
                     "{}: x {} and weight {} do not fit: need x [N, C, H, W] or [C, H, W] and "
                     "weight [C, O / groups, KH, KW]",
                     op, s, w);
  check_groups(op, x, weight, w[0], w[1], 1);
  const int64_t channels = checked_mul(w[1], std::max<int64_t>(o.groups, 1), op, x.at);
  check_groups(op, x, weight, w[0], channels, o.groups);
  check_bias(op, x, weight, bias, channels);
  const int64_t height = transposed_size(x, s[-2], w[2], &Size2d::h, o),
                width = transposed_size(x, s[-1], w[3], &Size2d::w, o);
  const detail::Geometry geometry{height,    width,      {w[2], w[3]}, o.stride,
                                  o.padding, o.dilation, s[-2],        s[-1]};
  const Frame frame(x.at);
  const Tensor images = x.dim() == 4 ? Tensor(x) : unsqueeze(x, 0);
  Tensor y =
      input_grad({images.size(0), o.groups, w[1], w[0] / o.groups, geometry}, images, weight);
  if (bias.defined()) y = y + reshape(bias, {channels, 1, 1});
  return x.dim() == 4 ? y : squeeze(y, 0);
}

// ---- along one axis: images of one row

namespace {
/// Calls f with x and the weight as images.
template <class F> Tensor as_rows(const char* op, const In& x, const In& weight, F f) {
  check_inputs(op, x, weight, "x", "weight");
  if ((x.dim() != 2 && x.dim() != 3) || weight.dim() != 3)
    fail<ShapeError>(x.at,
                     "{}: x {} and weight {}: need x [N, C, L] or [C, L] and weight of rank 3", op,
                     x.shape(), weight.shape());
  return squeeze({f(In(unsqueeze(x, -2), x.at), In(unsqueeze(weight, 2), x.at)), x.at}, -2);
}
}  // namespace

Tensor conv1d(const In& x, const In& weight, const In& bias, const Conv2dOptions& options) {
  Conv2dOptions o = options;
  o.stride.h = o.dilation.h = 1, o.padding.h = 0;
  return as_rows("conv1d", x, weight, [&](const In& images, const In& kernel) {
    return conv2d(images, kernel, bias, o);
  });
}
Tensor conv_transpose1d(const In& x, const In& weight, const In& bias,
                        const ConvTranspose2dOptions& options) {
  ConvTranspose2dOptions o = options;
  o.stride.h = o.dilation.h = 1, o.padding.h = o.output_padding.h = 0;
  return as_rows("conv_transpose1d", x, weight, [&](const In& images, const In& kernel) {
    return conv_transpose2d(images, kernel, bias, o);
  });
}

void set_winograd(bool on) { detail::winograd_on = on; }
bool winograd() { return detail::winograd_on; }

}  // namespace descent
