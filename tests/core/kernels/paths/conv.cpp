#include "paths.hpp"

namespace paths {
namespace {

/// A convolution: sizes of x [n, groups in, h, w] and the weight [groups out, in, kh, kw].
struct Sizes {
  int64_t n, groups, in, out, h, w, kh, kw;
  Conv2dOptions o;

  explicit Sizes(const Case& c)
      : n(c["batch"]),
        groups(c["groups"]),
        in(c["in"]),
        out(c["out"]),
        h(c["height"]),
        w(c["width"]),
        kh(c["kernel h"]),
        kw(c["kernel w"]),
        o{.stride = {c["stride h"], c["stride w"]},
          .padding = {c["padding h"], c["padding w"]},
          .dilation = {c["dilation h"], c["dilation w"]},
          .groups = groups} {}
  /// Where the kernel no longer fits.
  int64_t room_h() const { return h + 2 * o.padding.h - o.dilation.h * (kh - 1); }
  int64_t room_w() const { return w + 2 * o.padding.w - o.dilation.w * (kw - 1); }
  int64_t rows() const { return (room_h() - 1) / o.stride.h + 1; }
  int64_t columns() const { return (room_w() - 1) / o.stride.w + 1; }
  Shape x() const { return {n, groups * in, h, w}; }
  Shape weight() const { return {groups * out, in, kh, kw}; }
  Shape y() const { return {n, groups * out, rows(), columns()}; }
};

struct Results {
  Expected y, dx, dweight, dbias;
};

/// All of them by the one sum that each is a derivative of.
Results by_definition(const Sizes& s, const std::vector<double>& x,
                      const std::vector<double>& weight, const double* bias,
                      const std::vector<double>& g) {
  Results r{Expected(s.y()), Expected(s.x()), Expected(s.weight()),
            Expected(Shape{s.groups * s.out})};
  const int64_t rows = s.rows(), columns = s.columns();
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t o = 0; o < s.groups * s.out; ++o) {
      const int64_t first_y = (n * s.groups * s.out + o) * rows * columns;
      for (int64_t i = 0; i < rows * columns; ++i) {
        if (bias) r.y.add(first_y + i, bias[o]);
        r.dbias.add(o, g.data()[first_y + i]);
      }
      for (int64_t c = 0; c < s.in; ++c) {
        const int64_t first_x = (n * s.groups * s.in + o / s.out * s.in + c) * s.h * s.w;
        for (int64_t kh = 0; kh < s.kh; ++kh)
          for (int64_t kw = 0; kw < s.kw; ++kw) {
            const int64_t tap = ((o * s.in + c) * s.kh + kh) * s.kw + kw;
            const double factor = weight.data()[tap];
            for (int64_t i = 0; i < rows; ++i) {
              const int64_t row = i * s.o.stride.h - s.o.padding.h + kh * s.o.dilation.h;
              if (row < 0 || row >= s.h) continue;
              for (int64_t j = 0; j < columns; ++j) {
                const int64_t column = j * s.o.stride.w - s.o.padding.w + kw * s.o.dilation.w;
                if (column < 0 || column >= s.w) continue;
                const int64_t to = first_y + i * columns + j, from = first_x + row * s.w + column;
                r.y.add(to, factor * x.data()[from]);
                r.dx.add(from, factor * g.data()[to]);
                r.dweight.add(tap, x.data()[from] * g.data()[to]);
              }
            }
          }
      }
    }
  return r;
}

void compare_one(Tally& tally, const Case& c, DType dtype, Random& random) {
  const Sizes s(c);
  const Operand x = operand(random, s.x(), dtype, c["layout of x"]);
  const Operand weight = operand(random, s.weight(), dtype, c["layout of weight"]);
  const Operand bias = operand(random, {s.groups * s.out}, dtype, c["layout of weight"]);
  const Operand g = operand(random, s.y(), dtype, c["layout of g"]);
  const bool with_bias = c["bias"] != 0;
  const Results r =
      by_definition(s, x.values, weight.values, with_bias ? bias.values.data() : nullptr, g.values);
  Tensor y;
  tally.compare(
      "conv2d", c,
      [&] {
        y = with_bias ? conv2d(x.tensor, weight.tensor, bias.tensor, s.o)
                      : conv2d(x.tensor, weight.tensor, s.o);
        return y;
      },
      r.y);
  std::vector<Tally::Gradient> gradients{{"input", x.tensor, r.dx},
                                         {"weight", weight.tensor, r.dweight}};
  if (with_bias) gradients.push_back({"bias", bias.tensor, r.dbias});
  tally.compare_gradients("conv2d", c, y, g.tensor.detach(), gradients);
}

/// The factors of all convolutions, but for what `fixed` says instead.
std::vector<Factor> factors_of(const std::vector<Factor>& others) {
  return with({{"in", range(1, 20)},
               {"out", range(1, 20)},
               {"height", range(1, 20)},
               {"width", range(1, 20)},
               {"kernel h", range(1, 7)},
               {"kernel w", range(1, 7)},
               {"stride h", range(1, 3)},
               {"stride w", range(1, 3)},
               {"padding h", range(0, 3)},
               {"padding w", range(0, 3)},
               {"dilation h", range(1, 3)},
               {"dilation w", range(1, 3)},
               {"groups", range(1, 3)},
               {"batch", range(0, 5)},
               {"layout of x", range(0, layouts - 1)},
               {"layout of weight", range(0, layouts - 1)},
               {"layout of g", range(0, layouts - 1)},
               {"bias", {0, 1}},
               {"few", {kPays, kAlways}},
               {"images", {kPays, kAlways}},
               {"rows", {kPays, kAlways}},
               {"accumulated", {kPays, kAlways}},
               {"cells", {kPays, kAlways}}},
              others);
}

bool fits(const Case& c) {
  const Sizes s(c);
  return s.room_h() > 0 && s.room_w() > 0;
}

/// A sweep where the method is im2col unless one of the others is to serve.
void sweep(Tally& tally, const char* name, const Cases& cases, int64_t impossible,
           const std::vector<DType>& dtypes, Choice winograd, Choice depthwise) {
  Random random(cases.values.size());
  const Chosen a("winograd forward", winograd), b("winograd input", winograd),
      c("winograd weight", winograd);
  const Chosen d("depthwise forward", depthwise), e("depthwise input", depthwise),
      f("depthwise weight", depthwise);
  tally.sweep(name, cases, impossible, [&](const Case& one) {
    const Chosen few("conv few channels", one["few"]), images("conv images", one["images"]),
        rows("conv rows", one["rows"]), accumulated("conv accumulated", one["accumulated"]),
        cells("im2col cells", one["cells"]);
    for (const DType dtype : dtypes) compare_one(tally, one, dtype, random);
  });
}

}  // namespace

void compare_convolutions(Tally& tally) {
  const std::vector<DType> both{float32, float64}, single{float32};
  const Factor no_stride_h{"stride h", {1}}, no_stride_w{"stride w", {1}};
  const Factor no_dilation_h{"dilation h", {1}}, no_dilation_w{"dilation w", {1}};
  const Factor one_group{"groups", {1}};

  sweep(tally, "convolutions by im2col", Cases(factors_of({}), fits, 100, 1), 0, both,
        Choice::never, Choice::never);

  const std::vector<Factor> tiles = factors_of({{"kernel h", {3}},
                                                {"kernel w", {3}},
                                                no_stride_h,
                                                no_stride_w,
                                                no_dilation_h,
                                                no_dilation_w,
                                                {"padding h", range(0, 2)},
                                                {"padding w", range(0, 2)},
                                                one_group});
  auto in_vectors = [](const Case& c) { return fits(c) && c["in"] * c["out"] % 16 == 0; };
  sweep(tally, "convolutions by Winograd's tiles", Cases(tiles, in_vectors, 800, 2), 339, single,
        Choice::always, Choice::never);

  const std::vector<Factor> single_channels =
      factors_of({{"in", {1}},
                  {"out", {1}},
                  no_stride_h,
                  no_stride_w,
                  {"groups", range(1, 20)},
                  {"rows", {kPays}}});  // it never cuts a plane
  sweep(tally, "convolutions of single channels", Cases(single_channels, fits, 600, 3), 0, both,
        Choice::never, Choice::always);

  const std::vector<Factor> pixels = factors_of({{"kernel h", {1}},
                                                 {"kernel w", {1}},
                                                 {"padding h", {0}},
                                                 {"padding w", {0}},
                                                 no_stride_h,
                                                 no_stride_w,
                                                 no_dilation_h,
                                                 no_dilation_w});
  auto eight = [](const Case& c) { return fits(c) && Sizes(c).columns() == 8; };
  sweep(tally, "convolutions to rows of eight", Cases(factors_of({}), eight, 0, 5), 209, both,
        Choice::never, Choice::never);

  const std::vector<Factor> lying =
      factors_of({{"padding h", {0}}, {"padding w", {0}}, no_stride_h, no_stride_w});
  sweep(tally, "convolutions without padding and stride", Cases(lying, fits, 0, 6), 42, both,
        Choice::never, Choice::never);

  sweep(tally, "convolutions of pixels", Cases(pixels, fits, 300, 4), 0, both, Choice::never,
        Choice::never);

  const std::vector<Factor> tiny = factors_of({{"height", range(1, 3)},
                                               {"width", range(1, 3)},
                                               {"padding h", range(1, 3)},
                                               {"padding w", range(1, 3)}});
  sweep(tally, "convolutions of tiny images", Cases(tiny, fits, 300, 8), 16, both, Choice::never,
        Choice::never);

  // Rows of gathered windows that would begin at the same place of a page lie further apart.
  const std::vector<Factor> page = factors_of({{"in", {1, 2, 5}},
                                               {"out", {1, 3, 9}},
                                               {"height", {16, 18, 32}},
                                               {"width", {32, 34}},
                                               {"kernel h", {1, 3}},
                                               {"kernel w", {1, 3}},
                                               {"padding h", {0, 1}},
                                               {"padding w", {0, 1}},
                                               no_stride_h,
                                               no_stride_w,
                                               no_dilation_h,
                                               no_dilation_w,
                                               {"groups", {1, 2}},
                                               {"batch", {1, 2, 3}}});
  auto whole_pages = [](const Case& c) {
    const Sizes s(c);
    return fits(c) && s.rows() * s.columns() % 512 == 0;
  };
  sweep(tally, "convolutions of whole pages", Cases(page, whole_pages, 40, 9), 6, both,
        Choice::never, Choice::never);

  const std::vector<Factor> large = factors_of({{"in", {1, 8, 16, 20, 33}},
                                                {"out", {1, 8, 9, 16, 33}},
                                                {"height", range(10, 70)},
                                                {"width", range(10, 70)},
                                                {"kernel h", {1, 3, 3, 3, 5}},
                                                {"kernel w", {1, 3, 3, 3, 5}},
                                                no_dilation_h,
                                                no_dilation_w,
                                                {"batch", {1, 2, 12, 20}},
                                                {"images", {kPays}},
                                                {"rows", {kPays}}});
  auto not_too_large = [](const Case& c) {
    const Sizes s(c);
    const int64_t places = s.n * s.rows() * s.columns();
    return fits(c) && places > 400 && places * s.groups * s.out * s.in * s.kh * s.kw < 2'000'000;
  };
  sweep(tally, "large convolutions as they come", Cases(large, not_too_large, 60, 7, false), 0,
        both, Choice::what_pays, Choice::what_pays);
}

}  // namespace paths
