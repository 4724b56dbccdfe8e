#include "paths.hpp"

namespace paths {
namespace {

/// A window along one axis.
struct Axis {
  int64_t in, kernel, stride, padding, dilation;
  bool ceil_mode;

  /// Its places: only one that starts in the image or in the padding before it counts.
  int64_t places() const {
    const int64_t way = in + 2 * padding - dilation * (kernel - 1) - 1;
    if (way < 0 && !(ceil_mode && way + stride > 0)) return 0;
    int64_t n = (ceil_mode ? (way + stride - 1) / stride : way / stride) + 1;
    if (ceil_mode && (n - 1) * stride >= in + padding) --n;
    return n;
  }
  int64_t at(int64_t place, int64_t tap) const { return place * stride - padding + tap * dilation; }
  bool inside(int64_t pixel) const { return pixel >= 0 && pixel < in; }
};

struct Pool {
  explicit Pool(const Case& c)
      : planes(c["batch"] * c["channels"]),
        h{c["height"],    c["kernel h"],   c["stride h"],
          c["padding h"], c["dilation h"], c["ceil"] != 0},
        w{c["width"],     c["kernel w"],   c["stride w"],
          c["padding w"], c["dilation w"], c["ceil"] != 0} {}
  int64_t pixels() const { return h.in * w.in; }
  int64_t places() const { return h.places() * w.places(); }
  /// f(plane's first pixel, plane's first place, row, column) for each place of each plane.
  template <class F> void each_place(F f) const {
    for (int64_t plane = 0; plane < planes; ++plane)
      for (int64_t row = 0; row < h.places(); ++row)
        for (int64_t column = 0; column < w.places(); ++column)
          f(plane * pixels(), plane * places() + row * w.places() + column, row, column);
  }
  int64_t planes;
  Axis h, w;
};

bool accepts(const Case& c) {
  const Pool p(c);
  auto good = [](const Axis& a) {
    return a.padding <= a.kernel / 2 && (a.padding == 0 || a.dilation <= a.in) && a.places() > 0;
  };
  return good(p.h) && good(p.w);
}

Shape images(const Case& c, int64_t height, int64_t width) {
  if (c["rank"] == 3) return {c["channels"], height, width};
  return {c["batch"], c["channels"], height, width};
}

/// The largest of the window's pixels; of equal ones the first, of NaN the last.
void compare_max(Tally& tally, const Case& c, DType dtype, Random& random) {
  const Pool p(c);
  const Operand x = operand(random, images(c, p.h.in, p.w.in), dtype, c["layout of x"], c["kind"]);
  const Shape shape = images(c, p.h.places(), p.w.places());
  const Operand g = operand(random, shape, dtype, c["layout of g"]);
  const Operand h = operand(random, x.tensor.shape(), dtype, c["layout of g"]);
  Expected y(shape), dx(x.tensor.shape()), picked(shape);
  p.each_place([&](int64_t plane, int64_t place, int64_t row, int64_t column) {
    double best = -INFINITY;
    int64_t where = -1;
    for (int64_t i = 0; i < p.h.kernel; ++i)
      for (int64_t j = 0; j < p.w.kernel; ++j) {
        const int64_t down = p.h.at(row, i), across = p.w.at(column, j);
        if (!p.h.inside(down) || !p.w.inside(across)) continue;
        const int64_t pixel = plane + down * p.w.in + across;
        const double v = x.values.data()[pixel];
        if (!(v > best || std::isnan(v))) continue;
        if (std::isnan(best) && !std::isnan(v)) continue;
        best = v;
        where = pixel;
      }
    y.add(place, best, 0);
    dx.add(where, g.values.data()[place]);
    picked.add(place, h.values.data()[where], 0);
  });

  const auto [stride_h, stride_w] = std::pair(p.h.stride, p.w.stride);
  const MaxPool2dOptions options{.stride = {stride_h, stride_w},
                                 .padding = {p.h.padding, p.w.padding},
                                 .dilation = {p.h.dilation, p.w.dilation},
                                 .ceil_mode = p.h.ceil_mode};
  Tensor result, slope;
  tally.compare(
      "max_pool2d", c,
      [&] {
        return result = max_pool2d(x.tensor, {p.h.kernel, p.w.kernel}, options);
      },
      y);
  tally.compare(
      "max_pool2d input", c,
      [&] { return slope = grad({result}, {x.tensor}, {.create_graph = true}, {g.tensor})[0]; },
      dx);
  tally.compare_gradients("max_pool2d input", c, slope, h.tensor.detach(),
                          {{"outer", g.tensor, picked}});
}

/// The mean of the pixels, or of the pixels and the padding, in the padded image.
void compare_avg(Tally& tally, const Case& c, DType dtype, Random& random) {
  const Pool p(c);
  const bool pad_counts = c["pad counts"] != 0;
  const Operand x = operand(random, images(c, p.h.in, p.w.in), dtype, c["layout of x"]);
  const Shape shape = images(c, p.h.places(), p.w.places());
  const Operand g = operand(random, shape, dtype, c["layout of g"]);
  const Operand h = operand(random, x.tensor.shape(), dtype, c["layout of g"]);
  Expected y(shape), dx(x.tensor.shape()), dg(shape);
  p.each_place([&](int64_t plane, int64_t place, int64_t row, int64_t column) {
    std::vector<int64_t> pixels;
    int64_t counted = 0;
    for (int64_t i = 0; i < p.h.kernel; ++i)
      for (int64_t j = 0; j < p.w.kernel; ++j) {
        const int64_t down = p.h.at(row, i), across = p.w.at(column, j);
        const bool inside = p.h.inside(down) && p.w.inside(across);
        if (inside) pixels.push_back(plane + down * p.w.in + across);
        const bool padded = down < p.h.in + p.h.padding && across < p.w.in + p.w.padding;
        counted += pad_counts ? padded : inside;
      }
    for (const int64_t pixel : pixels) {
      y.add(place, x.values.data()[pixel] / static_cast<double>(counted));
      dx.add(pixel, g.values.data()[place] / static_cast<double>(counted));
      dg.add(place, h.values.data()[pixel] / static_cast<double>(counted));
    }
  });

  const AvgPool2dOptions options{.stride = {p.h.stride, p.w.stride},
                                 .padding = {p.h.padding, p.w.padding},
                                 .ceil_mode = p.h.ceil_mode,
                                 .count_include_pad = pad_counts};
  Tensor result, slope;
  tally.compare(
      "avg_pool2d", c,
      [&] {
        return result = avg_pool2d(x.tensor, {p.h.kernel, p.w.kernel}, options);
      },
      y);
  tally.compare(
      "avg_pool2d input", c,
      [&] { return slope = grad({result}, {x.tensor}, {.create_graph = true}, {g.tensor})[0]; },
      dx);
  tally.compare_gradients("avg_pool2d input", c, slope, h.tensor.detach(),
                          {{"outer", g.tensor, dg}});
}

std::vector<Factor> factors_of(const std::vector<Factor>& others) {
  return with({{"rank", {3, 4}},
               {"batch", range(0, 5)},
               {"channels", range(1, 20)},
               {"height", range(1, 20)},
               {"width", range(1, 20)},
               {"kernel h", range(1, 7)},
               {"kernel w", range(1, 7)},
               {"stride h", range(1, 4)},
               {"stride w", range(1, 4)},
               {"padding h", range(0, 3)},
               {"padding w", range(0, 3)},
               {"dilation h", range(1, 3)},
               {"dilation w", range(1, 3)},
               {"ceil", {0, 1}},
               {"pad counts", {0, 1}},
               {"kind", {any_number, ties, some_nan}},
               {"layout of x", range(0, layouts - 1)},
               {"layout of g", range(0, layouts - 1)},
               {"squares", {kPays, kNever}}},
              others);
}

void sweep(Tally& tally, const char* name, const Cases& cases, int64_t impossible,
           void (*compare_one)(Tally&, const Case&, DType, Random&)) {
  Random random(cases.values.size());
  tally.sweep(name, cases, impossible, [&](const Case& c) {
    const Chosen a("max_pool2d squares", c["squares"]), b("max_pool2d route squares", c["squares"]),
        d("avg_pool2d squares", c["squares"]), e("avg_pool2d spread squares", c["squares"]);
    for (const DType dtype : {float32, float64}) compare_one(tally, c, dtype, random);
  });
}

}  // namespace

void compare_pooling(Tally& tally) {
  auto one_image = [](const Case& c) { return accepts(c) && (c["rank"] == 4 || c["batch"] == 1); };
  const Factor no_dilation_h{"dilation h", {1}}, no_dilation_w{"dilation w", {1}};
  sweep(tally, "max_pool2d", Cases(factors_of({}), one_image, 100, 21), 23, compare_max);
  sweep(tally, "avg_pool2d", Cases(factors_of({no_dilation_h, no_dilation_w}), one_image, 100, 22),
        23, compare_avg);

  // Windows of 2 by 2 pixels side by side, also of planes that take many vectors.
  std::vector<int64_t> sizes = range(1, 20), widths = sizes;
  for (const int64_t size : {31, 32, 33, 34, 47, 66, 70}) widths.push_back(size);
  const std::vector<Factor> squares = factors_of({{"width", widths},
                                                  {"kernel h", {2}},
                                                  {"kernel w", {2}},
                                                  {"stride h", {2}},
                                                  {"stride w", {2}},
                                                  {"padding h", {0}},
                                                  {"padding w", {0}},
                                                  no_dilation_h,
                                                  no_dilation_w,
                                                  {"squares", {kPays}}});
  sweep(tally, "max_pool2d of squares", Cases(squares, one_image, 500, 23), 7, compare_max);
  sweep(tally, "avg_pool2d of squares", Cases(squares, one_image, 500, 24), 7, compare_avg);

  const std::vector<Factor> large = factors_of({{"batch", {1, 7}},
                                                {"channels", {1, 3}},
                                                {"height", range(60, 150)},
                                                {"width", range(60, 150)}});
  sweep(tally, "max_pool2d of large images", Cases(large, one_image, 40, 25, false), 0,
        compare_max);
  auto undilated = [&](const Case& c) {
    return one_image(c) && c["dilation h"] == 1 && c["dilation w"] == 1;
  };
  sweep(tally, "avg_pool2d of large images", Cases(large, undilated, 40, 26, false), 0,
        compare_avg);
}

}  // namespace paths
