#include "descent/core/ops/resize.hpp"

#include <algorithm>
#include <cmath>

#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

/// Which element of an axis of `size` stands at place i. Outside of 0..size - 1 there is none:
/// `size` stands for the number of PadMode::constant.
int64_t source(PadMode mode, int64_t i, int64_t size) {
  if (i >= 0 && i < size) return i;
  switch (mode) {
    case PadMode::constant: return size;
    case PadMode::reflect: return i < 0 ? -i : 2 * (size - 1) - i;
    case PadMode::replicate: return i < 0 && size > 0 ? 0 : size - 1;
    case PadMode::circular: break;
  }
  return i < 0 ? i + size : i - size;
}

/// Along axis d, what is at these places of x: an element, or a mean of the two beside the place.
Tensor look_up(const In& x, int d, const std::vector<double>& places, bool bilinear) {
  std::vector<int64_t> low, high;
  std::vector<double> share;
  for (double place : places) {
    low.push_back(static_cast<int64_t>(place));
    high.push_back(std::min(low.back() + 1, x.shape()[d] - 1));
    share.push_back(place - std::floor(place));
  }
  const Tensor near = index_select(x, d, tensor(low));
  if (!bilinear) return near;
  Shape shape = Shape::filled(x.dim(), 1);
  shape[d] = std::ssize(places);
  const Tensor part = tensor(share, shape, x.dtype());
  return near * (1 - part) + index_select(x, d, tensor(high)) * part;
}

}  // namespace

Tensor pad(const In& x, const std::vector<int64_t>& sizes, const PadOptions& o) {
  detail::check("pad", x);
  if (sizes.size() % 2 != 0 || std::ssize(sizes) > 2 * x.dim())
    fail<ShapeError>(x.at, "pad: {} sizes for {}: need two for each padded axis", sizes.size(),
                     x.shape());
  const bool constant = o.mode == PadMode::constant;
  std::vector<Tensor> tables;
  for (std::size_t k = 0; k < sizes.size(); k += 2) {
    const int64_t size = x.shape()[-1 - static_cast<int>(k / 2)];
    std::vector<int64_t> table;
    bool fits = size + sizes[k] + sizes[k + 1] >= 0;
    for (int64_t i = -sizes[k]; i < size + sizes[k + 1] && fits; ++i) {
      table.push_back(source(o.mode, i, size));
      fits = table.back() >= 0 && table.back() < size + constant;
    }
    if (!fits)
      fail<ShapeError>(x.at,
                       "pad: {} and {} elements more at an axis of {} do not fit in this mode",
                       sizes[k], sizes[k + 1], size);
    tables.push_back(tensor(table, {std::ssize(table)}));
  }
  const Frame frame(x.at);
  Tensor y = x;
  for (int d = x.dim() - 1; const Tensor& table : tables) {
    Shape edge = y.shape();
    edge[d] = 1;
    const Tensor all = constant ? cat({y, full(edge, o.value, x.dtype())}, d) : y;
    y = index_select(all, d--, table);
  }
  return y;
}

Tensor interpolate(const In& x, const InterpolateOptions& o) {
  detail::check("interpolate", x);
  const bool sized = o.size.has_value(), bilinear = o.mode == InterpolateMode::bilinear;
  const bool aligned = o.align_corners && bilinear;
  if (sized == (o.scale_factor > 0) || o.scale_factor > 1e9)
    fail<ValueError>(x.at, "interpolate: size {} and scale_factor {}: need one of them",
                     str(o.size), o.scale_factor);
  if (bilinear && !is_floating(x.dtype()))
    detail::refuse_dtype("interpolate", Kinds::floating, x.dtype(), x.at);
  std::vector<double> places[2];
  for (const int d : {0, 1}) {
    const double old = x.dim() == 3 || x.dim() == 4 ? double(x.shape()[d - 2]) : 0;
    const auto out = sized ? (d == 0 ? o.size.h : o.size.w) : int64_t(old * o.scale_factor);
    if (old < 1 || out < 1)
      fail<ShapeError>(x.at,
                       "interpolate: x {} to {} pixels along an axis: need [N, C, H, W] or [C, H, "
                       "W] with at least one, and at least one",
                       x.shape(), out);
    const double step = aligned ? (old - 1) / std::max(double(out - 1), 1.0)
                        : sized ? old / double(out)
                                : 1 / o.scale_factor;
    for (int64_t i = 0; i < out; ++i) {
      const double place = bilinear && !aligned ? (double(i) + 0.5) * step - 0.5 : double(i) * step;
      places[d].push_back(std::clamp(place, 0.0, old - 1));
    }
  }
  const Frame frame(x.at);
  const Tensor rows = look_up(x, x.dim() - 2, places[0], bilinear);
  return look_up(rows, x.dim() - 1, places[1], bilinear);
}

}  // namespace descent
