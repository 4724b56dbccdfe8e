#include "descent/core/kernels/window.hpp"

#include <algorithm>

#include "descent/core/base/checked.hpp"

namespace [[gnu::visibility("default")]] descent {

std::string str(Size2d size) { return str(Shape{size.h, size.w}); }

namespace detail {
namespace {

void check_least(const char* op, const char* name, Size2d size, int64_t least, At at) {
  if (size.h < least || size.w < least)
    fail<ValueError>(at, "{}: {} is {}: need at least {}", op, name, size, least);
}

/// The window's places along one axis, 0 if it has none.
int64_t places(const char* op, int64_t in, int64_t kernel, int64_t& stride, int64_t padding,
               int64_t& dilation, bool ceil_mode, At at) {
  if (kernel == 1) dilation = 1;
  const int64_t padded = checked_add(in, checked_mul(2, padding, op, at), op, at);
  const int64_t room = padded - checked_mul(dilation, kernel - 1, op, at) - 1;
  if (room < 0 && (!ceil_mode || -room >= stride)) return 0;
  int64_t last = room / stride;
  if (ceil_mode) last = std::min(last + (room % stride > 0), (in + padding - 1) / stride);
  if (last == 0) stride = std::min(stride, padded);
  return last + 1;
}

}  // namespace

Size2d count_places(const char* op, const In& x, Window& window) {
  const auto [kernel, stride, padding, dilation, ceil_mode] = window;  // as passed
  check(op, x);
  if (x.dim() != 3 && x.dim() != 4)
    fail<ShapeError>(x.at, "{}: x {} has rank {}: need [N, C, H, W] or [C, H, W]", op, x.shape(),
                     x.dim());
  check_least(op, "kernel", kernel, 1, x.at);
  check_least(op, "stride", stride, 1, x.at);
  check_least(op, "padding", padding, 0, x.at);
  check_least(op, "dilation", dilation, 1, x.at);
  const int64_t h = x.shape()[-2], w = x.shape()[-1];
  if (h == 0 || w == 0)
    fail<ShapeError>(x.at, "{}: x {} has images without pixels: need H and W of at least 1", op,
                     x.shape());
  Size2d &step = window.stride, &apart = window.dilation;
  const Size2d out{places(op, h, kernel.h, step.h, padding.h, apart.h, ceil_mode, x.at),
                   places(op, w, kernel.w, step.w, padding.w, apart.w, ceil_mode, x.at)};
  if (out.h == 0 || out.w == 0)
    fail<ShapeError>(x.at,
                     "{}: kernel {} with dilation {} does not fit into x {} with padding {}: need "
                     "dilation (kernel - 1) + 1 <= size + 2 padding",
                     op, kernel, dilation, x.shape(), padding);
  return out;
}

}
}  // namespace descent::detail
