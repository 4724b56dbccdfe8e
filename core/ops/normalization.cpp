#include "descent/core/ops/normalization.hpp"

#include "descent/core/graph/graph.hpp"
#include "descent/core/graph/joint_gradients.hpp"
#include "descent/core/kernels/copy.hpp"
#include "descent/core/kernels/normalize.hpp"
#include "descent/core/ops/blend.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

using detail::Groups;
using detail::Moment;

// ---- checks

/// Checks x and eps, and those of `vectors` that are defined, which have this shape.
void check_all(const char* op, const In& x, double eps, const Shape& shape,
               std::initializer_list<std::pair<const char*, const In*>> vectors) {
  check_floating(op, x);
  if (!(eps >= 0)) fail<ValueError>(x.at, "{}: eps is {}: need at least 0", op, eps);
  for (const auto& [name, v] : vectors) {
    if (!v->defined()) continue;
    check_inputs(op, x, *v, "x", name);
    if (!(v->shape() == shape))
      fail<ShapeError>(x.at, "{}: {} {} with x {}: need {}", op, name, v->shape(), x.shape(),
                       shape);
  }
}
/// The shape of a weight for each channel of x.
Shape channels_of(const char* op, const In& x) {
  detail::check(op, x);
  if (x.dim() >= 2) return {x.shape()[1]};
  fail<ShapeError>(x.at, "{}: x {} has rank {}: need [N, C, ..]", op, x.shape(), x.dim());
}
/// The sizes of the last `rank` axes of x.
Shape tail(const In& x, int rank) {
  Shape shape;
  for (int i = rank; i > 0; --i) shape.push_back(x.shape()[-i]);
  return shape;
}
/// The number of elements for each index of the first `axes` axes of x.
int64_t size_behind(int axes, const In& x) {
  return detail::numel("", tail(x, x.dim() - axes), x.at);
}

// ---- the passes

/// Gradient i by operations; w broadcasts to `each`, the shape of what one weight is for.
Tensor compose(std::size_t i, const Groups& p, const Shape& each, const In& x, const In& w,
               const In& g) {
  const Shape all{p.outer, p.batch, p.blocks, p.row};
  auto average = [&](const Tensor& v) { return mean(v, {0, 3}, true); };
  const Tensor v = reshape(x, all), outer = reshape(g, all);
  if (i == 2) return reshape(sum(outer, {0, 1}), each);
  const Tensor off = p.centered ? v - average(v) : v;
  const Tensor size = sqrt(average(square(off)) + p.eps), y = off / size;
  if (i == 1) return reshape(sum(outer * y, {0, 1}), each);
  const Tensor slope = outer * reshape(expand(w, each), {p.blocks, p.row});
  const Tensor dx = slope - y * average(slope * y);
  return reshape((p.centered ? dx - average(slope) : dx) / size, x.shape());
}

/// Normalises x. The weight and the bias, if they are defined, are reshaped to `view`, which
/// broadcasts to the last axes of x. `m` are the moments, [batch, blocks, 3].
Tensor normalize(const char* op, const Groups& p, const In& x, const Shape& view, const In& weight,
                 const In& bias, const Tensor& m) {
  const Frame frame(x.at);
  const In w(weight.defined() ? reshape(weight, view) : ones({1}, x.dtype()), x.at);
  const In b(bias.defined() ? reshape(bias, view) : zeros({1}, x.dtype()), x.at);
  const Shape each = tail(x, view.rank());
  auto spread = [each](const In& v) { return detail::pack(expand(v.detach(), each)); };
  Tensor y = detail::empty_like(op, x, x.dtype());
  const Tensor source = detail::pack(x), scales = spread(w), shifts = spread(b);
  visit<Kinds::floating>(op, x.dtype(), x.at, [&]<class T>(T) {
    if (x.numel() == 0) return;
    detail::normalize(p, elements_of<T>(source), elements_of<T>(scales), elements_of<T>(shifts),
                      elements_of<Moment>(m), elements_of<T>(y));
  });
  auto together = [=, x = saved(x), w = saved(w)](const Tensor& g) -> std::vector<Tensor> {
    const Tensor dx = detail::empty_like(op, x, g.dtype());
    const Tensor parts = zeros({p.parts(), 2, p.blocks * p.row}, g.dtype());
    visit<Kinds::floating>(op, g.dtype(), At::unknown(), [&]<class T>(T) {
      detail::normalize_back(p, elements_of<T>(detail::pack(x)), elements_of<T>(spread(w)),
                             elements_of<Moment>(m), elements_of<T>(detail::pack(g)),
                             elements_of<T>(dx), elements_of<T>(parts));
    });
    const Tensor total = sum(parts, 0);
    return {dx, reshape(total[0], each), reshape(total[1], each)};
  };
  auto gradient = [=, joint = std::make_shared<JointGradients>(), x = saved(x),
                   w = saved(w)](std::size_t i) {
    return [=](const Tensor& g) {
      if (detail::records(*x, *w, g) || g.numel() == 0) return compose(i, p, each, x, w, g);
      return joint->take(i, g, together);
    };
  };
  return record(op, std::move(y), wrt(x, gradient(0)), wrt(w, gradient(1)), wrt(b, gradient(2)));
}

/// Room for the moments of the groups.
Tensor moments(const Groups& p) { return empty({p.batch, p.blocks, 3}, float64); }

Tensor normalize_last(const char* op, const In& x, const Shape& shape, const In& weight,
                      const In& bias, std::optional<double> given, bool centered) {
  detail::check(op, x);
  const double eps = given.value_or(x.dtype() == float32 ? 0x1p-23 : 0x1p-52);
  check_all(op, x, eps, shape, {{"weight", &weight}, {"bias", &bias}});
  const int rank = shape.rank();
  if (rank == 0 || rank > x.dim() || !(tail(x, rank) == shape))
    fail<ShapeError>(x.at, "{}: x {} does not end with normalized_shape {}, of rank 1 or more", op,
                     x.shape(), shape);
  const int64_t row = size_behind(x.dim() - rank, x), rows = row == 0 ? 0 : x.numel() / row;
  const Groups p{1, rows, 1, row, eps, centered};
  return normalize(op, p, x, shape, weight, bias, moments(p));
}

Tensor normalize_groups(const char* op, const In& x, int64_t groups, const In& weight,
                        const In& bias, double eps) {
  const Shape channels = channels_of(op, x);
  check_all(op, x, eps, channels, {{"weight", &weight}, {"bias", &bias}});
  if (groups < 1 || channels[0] % groups != 0)
    fail<ShapeError>(x.at, "{}: {} groups do not divide the channels of x {}", op, groups,
                     x.shape());
  Shape view = Shape::filled(x.dim() - 1, 1);
  view[0] = channels[0];
  const Groups p{1, x.shape()[0], groups, size_behind(1, x) / groups, eps, true};
  return normalize(op, p, x, view, weight, bias, moments(p));
}

}  // namespace

Tensor layer_norm(const In& x, const Shape& normalized_shape, const In& weight, const In& bias,
                  double eps) {
  return normalize_last("layer_norm", x, normalized_shape, weight, bias, eps, true);
}
Tensor rms_norm(const In& x, const Shape& normalized_shape, const In& weight,
                std::optional<double> eps) {
  return normalize_last("rms_norm", x, normalized_shape, weight, Tensor(), eps, false);
}
Tensor group_norm(const In& x, int64_t groups, const In& weight, const In& bias, double eps) {
  return normalize_groups("group_norm", x, groups, weight, bias, eps);
}
Tensor instance_norm(const In& x, const In& weight, const In& bias, double eps) {
  const Shape channels = channels_of("instance_norm", x);
  if (size_behind(2, x) == 1)
    fail<ShapeError>(x.at, "instance_norm: x {} has images of one pixel: need two or more",
                     x.shape());
  return normalize_groups("instance_norm", x, std::max<int64_t>(channels[0], 1), weight, bias, eps);
}

Tensor batch_norm(const In& x, const In& running_mean, const In& running_var, const In& weight,
                  const In& bias, const BatchNormOptions& o) {
  const char* op = "batch_norm";
  const Frame frame(x.at);
  const Shape channels = channels_of(op, x);
  check_all(op, x, o.eps, channels,
            {{"weight", &weight},
             {"bias", &bias},
             {"running_mean", &running_mean},
             {"running_var", &running_var}});
  const bool known = running_mean.defined();
  if (known != running_var.defined() || (!known && !o.training))
    fail<ValueError>(x.at,
                     "batch_norm: need running_mean and running_var; in training, or neither");
  if (known && (running_mean.requires_grad() || running_var.requires_grad()))
    fail<GraphError>(x.at, "batch_norm: running statistics require a gradient: detach() them");
  const int64_t batch = x.shape()[0], span = size_behind(2, x), count = batch * span;
  if (o.training && count == 1)
    fail<ShapeError>(x.at, "batch_norm: x {} has one element in each channel: need two or more",
                     x.shape());
  Shape view = Shape::filled(x.dim() - 1, 1);
  view[0] = channels[0];
  if (!o.training) {
    Tensor scale = 1 / sqrt(running_var + o.eps);
    if (weight.defined()) scale = scale * weight;
    const Tensor y = (x - reshape(running_mean, view)) * reshape(scale, view);
    return bias.defined() ? y + reshape(bias, view) : y;
  }
  const bool turned = span < 16;  // so that each channel is one row, because short rows are slow
  if (turned) view.push_back(1);
  const Groups p{turned ? 1 : batch, 1, channels[0], turned ? count : span, o.eps, true};
  const Tensor m = moments(p);
  const In source(turned ? transpose(x, 0, 1) : Tensor(x), x.at);
  Tensor y = normalize(op, p, source, view, weight, bias, m);
  if (turned) y = contiguous(transpose(y, 0, 1));
  if (!known || x.numel() == 0) return y;
  const double n = static_cast<double>(count);
  const NamedTensors all{{"running_mean", running_mean}, {"running_var", running_var}};
  for (const auto& [name, old] : all) check_not_expanded(op, old, x.at);
  blend(op, all, NamedTensors{{"", select(m[0], 1, 0)}, {"", select(m[0], 1, 2) * (n / (n - 1))}},
        o.momentum);
  return y;
}

}  // namespace descent
