#include "descent/core/ops/conv.hpp"

#include <algorithm>

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

template <class... Bias>
Tensor forward(const Conv& c, const In& x, const In& weight, const Bias&... bias) {
  const Tensor x_ = detail::pack(x), w_ = detail::pack(weight);
  const Shape shape{c.images, c.groups * c.out, c.geometry.rows, c.geometry.columns};
  Tensor y = make_output(c, shape, x, [&]<class T>(T* to) {
    const T* b = nullptr;
    Tensor b_;
    ((b = elements_of<T>(b_ = detail::pack(bias))), ...);
    detail::convolve<T>(c, elements_of<T>(x_), elements_of<T>(w_), b, to);
  });
  return record(
      "conv2d", std::move(y),
      wrt(x, [c, weight = saved(weight)](const Tensor& g) { return input_grad(c, g, weight); }),
      wrt(weight, [c, x = saved(x)](const Tensor& g) { return weight_grad(c, x, g); }),
      wrt(bias, [](const Tensor& g) {
        return sum(g, {0, 2, 3});
      })...);
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

Conv plan_conv(const In& x, const In& weight, const In* bias, const Conv2dOptions& o) {
  check_inputs("conv2d", x, weight, "x", "weight");
  if (bias) check_inputs("conv2d", x, *bias, "x", "bias");
  const Shape& w = weight.shape();
  if (w.rank() != 4)
    fail<ShapeError>(x.at, "conv2d: weight {} has rank {}: need [O, C / groups, KH, KW]", w,
                     w.rank());
  detail::Window window{{w[2], w[3]}, o.stride, o.padding, o.dilation};
  const Size2d places = detail::count_places("conv2d", x, window);
  const Shape& shape = x.shape();
  const int64_t channels = shape[-3];
  if (o.groups < 1) fail<ValueError>(x.at, "conv2d: groups is {}: need at least 1", o.groups);
  if (channels == 0 || w[0] == 0)
    fail<ShapeError>(x.at, "conv2d: x {} with weight {}: need at least one channel of each", shape,
                     w);
  if (channels % o.groups != 0 || w[0] % o.groups != 0)
    fail<ShapeError>(x.at, "conv2d: groups {} do not divide the channels of x {} and weight {}",
                     o.groups, shape, w);
  if (w[1] != channels / o.groups)
    fail<ShapeError>(x.at,
                     "conv2d: x {} and weight {} do not fit with groups {}: need x [N, C, H, W] "
                     "and weight [O, C / groups, KH, KW]",
                     shape, w, o.groups);
  if (bias && !(bias->shape() == Shape{w[0]}))
    fail<ShapeError>(x.at, "conv2d: bias {} does not fit weight {}: need [{}]", bias->shape(), w,
                     w[0]);
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

template <class... Bias>
Tensor convolve_images(const In& x, Conv c, const In& all_taps, const Bias&... bias) {
  detail::Geometry& w = c.geometry;
  const int64_t top = drop_taps(w, &Size2d::h, w.height, w.rows),
                left = drop_taps(w, &Size2d::w, w.width, w.columns);
  Tensor taps = all_taps;
  if (w.kernel.h < taps.size(2)) taps = narrow({taps, x.at}, 2, top, w.kernel.h);
  if (w.kernel.w < taps.size(3)) taps = narrow({taps, x.at}, 3, left, w.kernel.w);
  const In weight(taps, x.at);
  if (x.dim() == 4) return forward(c, x, weight, bias...);
  return squeeze(forward(c, {unsqueeze(x, 0), x.at}, weight, bias...), 0);
}

}  // namespace

Tensor conv2d(const In& x, const In& weight, const In& bias, const Conv2dOptions& o) {
  return convolve_images(x, plan_conv(x, weight, &bias, o), weight, bias);
}
Tensor conv2d(const In& x, const In& weight, const Conv2dOptions& o) {
  return convolve_images(x, plan_conv(x, weight, nullptr, o), weight);
}

void set_winograd(bool on) { detail::winograd_on = on; }
bool winograd() { return detail::winograd_on; }

}  // namespace descent
