#include <cstdio>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

namespace {

/// The sum of conv2d's own definition, in float64.
Tensor by_definition(const Tensor& x, const Tensor& weight, const Conv2dOptions& o,
                     const Shape& y) {
  const std::vector<double> xs = values(x), ws = values(weight);
  const Shape &sx = x.shape(), &sw = weight.shape();
  std::vector<double> ys;
  auto cell = [&](int64_t n, int64_t c, int64_t row, int64_t column) {
    if (row < 0 || row >= sx[2] || column < 0 || column >= sx[3]) return 0.0;
    return xs[static_cast<std::size_t>(((n * sx[1] + c) * sx[2] + row) * sx[3] + column)];
  };
  for (int64_t i = 0; i < y[0] * y[1] * y[2] * y[3]; ++i) {
    const int64_t column = i % y[3], row = i / y[3] % y[2], out = i / (y[3] * y[2]) % y[1];
    const int64_t n = i / (y[3] * y[2] * y[1]), first = out / (y[1] / o.groups) * sw[1];
    double sum = 0;
    for (int64_t w = 0; w < sw[1] * sw[2] * sw[3]; ++w) {
      const int64_t l = w % sw[3], k = w / sw[3] % sw[2], c = w / (sw[3] * sw[2]);
      sum += ws[static_cast<std::size_t>(out * sw[1] * sw[2] * sw[3] + w)] *
             cell(n, first + c, row * o.stride.h - o.padding.h + k * o.dilation.h,
                  column * o.stride.w - o.padding.w + l * o.dilation.w);
    }
    ys.push_back(sum);
  }
  return tensor(ys, y, float64);
}
double largest(const Tensor& x) { return abs(x).max().item(); }

struct Case {
  Shape x, weight;
  Conv2dOptions options;
};
// Each way of computing, with images in one piece and in several, and tiles that do not fill up.
const Case cases[] = {{{3, 5, 40, 33}, {7, 5, 5, 3}, {.stride = {2, 3}, .padding = {3, 1}}},
                      {{20, 6, 6, 7}, {4, 3, 3, 3}, {.padding = 1, .dilation = 2, .groups = 2}},
                      {{9, 4, 12, 12}, {6, 4, 1, 1}, {}},
                      {{9, 4, 13, 12}, {6, 4, 1, 1}, {.stride = 2}},
                      {{2, 12, 30, 9}, {12, 1, 3, 5}, {.padding = {1, 0}, .groups = 12}},
                      {{17, 16, 26, 27}, {24, 16, 3, 3}, {}},
                      {{2, 8, 70, 75}, {16, 8, 3, 3}, {.padding = {2, 1}}},
                      {{70, 8, 4, 4}, {8, 8, 3, 3}, {.padding = 1}}};

}  // namespace

TEST_CASE("conv2d is PyTorch's, and so are its gradients") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("conv2d")) {
    const Tensor input = c.leaf("input"), weight = c.leaf("weight"), bias = c.leaf("bias");
    const Conv2dOptions options{.stride = c.size("stride", 1),
                                .padding = c.size("padding", 0),
                                .dilation = c.size("dilation", 1),
                                .groups = static_cast<int64_t>(c.number("groups", 1))};
    const Tensor output =
        bias.defined() ? conv2d(input, weight, bias, options) : conv2d(input, weight, options);
    tally.add(c, output, {{"input", input}, {"weight", weight}, {"bias", bias}});
  }
  CHECK(tally.cases == 2 * 21);
  std::printf("golden: conv2d, %d cases, off by %.1e in float64, %.1f ulp in float32\n",
              tally.cases, tally.exact, tally.single);
}

TEST_CASE("conv2d is its definition, its derivatives the adjoints, however it is computed") {
  for (const auto& [x_shape, weight_shape, o] : cases) {
    const std::string named = str(x_shape);
    CAPTURE(named);
    manual_seed(3);
    const Tensor x = randn(x_shape, float64).requires_grad_();
    const Tensor weight = randn(weight_shape, float64).requires_grad_();
    const Tensor y = conv2d(x, weight, o), g = randn(y.shape(), float64);
    y.backward(g);
    const double scale = largest(y.detach());
    CHECK(largest(y.detach() - by_definition(x, weight, o, y.shape())) < 1e-13 * scale);
    // <g, x' * weight> = <dx, x'> for any x', and so for the weight.
    auto same = [](double a, double b) { CHECK(a == doctest::Approx(b).epsilon(1e-11)); };
    const Tensor dx = randn(x_shape, float64), dw = randn(weight_shape, float64);
    same(sum(x.grad() * dx).item(), sum(g * by_definition(dx, weight, o, y.shape())).item());
    same(sum(weight.grad() * dw).item(), sum(g * by_definition(x, dw, o, y.shape())).item());
  }
}

/// All three products of x, weight and g in a dtype, as float64.
std::vector<Tensor> products(const Tensor& x, const Tensor& weight, const Tensor& g,
                             const Conv2dOptions& o, DType dtype) {
  const Tensor x_ = x.to(dtype).clone().requires_grad_(),
               w_ = weight.to(dtype).clone().requires_grad_();
  const Tensor y = conv2d(x_, w_, o);
  y.backward(g.to(dtype));
  return {y.detach().to(float64), x_.grad().to(float64), w_.grad().to(float64)};
}

TEST_CASE("float32 convolutions by the plain sum are within 4 eps of the sum of |terms|") {
  set_winograd(false);
  for (const auto& [x_shape, weight_shape, o] : cases) {
    const std::string named = str(x_shape);
    CAPTURE(named);
    manual_seed(4);
    const Tensor x = randn(x_shape), weight = randn(weight_shape);
    const Tensor g = randn(conv2d(x, weight, o).shape());
    const std::vector<Tensor> single = products(x, weight, g, o, float32),
                              exact = products(x, weight, g, o, float64),
                              terms = products(abs(x), abs(weight), abs(g), o, float64);
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(largest((single[i] - exact[i]) / (terms[i] + 1e-300)) < 4 * 0x1p-23);
  }
  set_winograd(true);
}

/// [N, C, down, across]: the largest magnitudes in the squares of size x size pixels of x, 4 apart,
/// the first of them beginning in the padding.
Tensor tile_maxima(const Tensor& x, int64_t size, int64_t padding, int64_t down, int64_t across) {
  const Shape& s = x.shape();
  const Tensor image = zeros({s[0], s[1], 4 * down + 2, 4 * across + 2}, float64);
  image.narrow(2, padding, s[2]).narrow(3, padding, s[3]).copy_(abs(x.to(float64)));
  return max_pool2d(image, size, {.stride = 4});
}

/// How far float32's products are off, in units of what conv2d says bounds their rounding.
std::vector<double> in_units_of_tiles(const Tensor& x, const Tensor& weight, const Tensor& g,
                                      int64_t padding) {
  const std::vector<Tensor> single = products(x, weight, g, {.padding = padding}, float32),
                            exact = products(x, weight, g, {.padding = padding}, float64);
  const int64_t out = weight.size(0), in = weight.size(1);
  const Tensor taps = max(abs(weight.to(float64)).reshape({out, in, 9}), 2);
  auto worst = [](const Tensor& error, const Tensor& unit) {
    return (error / (unit * 0x1p-23 + 1e-300)).max().item();
  };
  auto of_places = [&](std::size_t i, const Tensor& from, const Tensor& maxima, int64_t pad) {
    const int64_t down = (exact[i].size(2) + 3) / 4, across = (exact[i].size(3) + 3) / 4;
    return worst(tile_maxima(single[i] - exact[i], 4, 0, down, across),
                 conv2d(tile_maxima(from, 6, pad, down, across),
                        maxima.contiguous().reshape({maxima.size(0), maxima.size(1), 1, 1})));
  };
  const int64_t down = (g.size(2) + 3) / 4, across = (g.size(3) + 3) / 4;
  auto by_channel = [](const Tensor& maxima) {
    return maxima.transpose(0, 1).contiguous().reshape({maxima.size(1), -1});
  };
  const Tensor pairs = matmul(by_channel(tile_maxima(g, 4, 0, down, across)),
                              by_channel(tile_maxima(x, 6, padding, down, across)).t());
  const Tensor off = max(abs(single[2] - exact[2]).reshape({out, in, 9}), 2);
  return {of_places(0, x, taps, padding), of_places(1, g, taps.t(), 2 - padding),
          worst(off, pairs)};
}

TEST_CASE("Winograd's tiles round as conv2d says, whatever the numbers are distributed like") {
  using Draw = Tensor (*)(const Shape&);
  const Draw normal = [](const Shape& s) { return randn(s); };
  const Draw wide = [](const Shape& s) { return randn(s) * exp(randn(s) * 2.0); };
  const std::pair<Draw, Draw> kinds[] = {
      // x's and g's, the weight's
      {normal, normal},
      {[](const Shape& s) { return relu(randn(s)); }, normal},
      {[](const Shape& s) { return exp(randn(s) * 2.0); }, normal},
      {[](const Shape& s) { return randn(s) + 10.0; }, normal},
      {[](const Shape& s) { return rand(s); }, [](const Shape& s) { return rand(s); }},
      {[](const Shape& s) { return ones(s); }, [](const Shape& s) { return ones(s); }},
      {[](const Shape& s) { return randn(s) * bernoulli(s, 0.01).to(float32); }, normal},
      {normal, wide},
      {wide, wide}};
  int compared = 0;
  double most = 0;
  manual_seed(11);
  for (const auto& [draw, draw_weight] : kinds)
    for (const int64_t in : {8, 24, 64})
      for (const int64_t size : {6, 13, 20})
        for (const int64_t padding : {0, 1, 2}) {
          const int64_t out = in == 24 ? 10 : 16, places = size + 2 * padding - 2;
          const Tensor x = draw({2, in, size, size}), g = draw({2, out, places, places});
          for (double error : in_units_of_tiles(x, draw_weight({out, in, 3, 3}), g, padding)) {
            CHECK(error < 256);
            most = std::max(most, error);
            ++compared;
          }
        }
  CHECK(compared == 9 * 27 * 3);
  CHECK(most > 20);  // or no tile was computed
  std::printf("Winograd: %d products, off by at most %.0f eps of their tiles' largest\n", compared,
              most);
}

TEST_CASE(
    "each output channel's weights have their own gradient, however many channels there are") {
  int compared = 0;
  for (const int64_t out : {8, 9, 10, 11, 12, 13, 15})
    for (const int64_t size : {7, 8, 9, 10, 11, 14}) {
      const int64_t places = size - 2;
      const std::string named = str(Shape{out, size});
      CAPTURE(named);
      // Ones see each place once: sums of whole numbers, right to a few roundings.
      const Tensor weight = zeros({out, 16, 3, 3}).requires_grad_();
      conv2d(ones({2, 16, size, size}), weight).sum().backward();
      CHECK(largest(weight.grad() - static_cast<double>(2 * places * places)) < 0.01);
      // And each channel its own: g is the channel's number.
      const Tensor numbers = arange(out).to(float32).reshape({1, out, 1, 1});
      weight.zero_grad();
      (conv2d(ones({2, 16, size, size}), weight) * numbers).sum().backward();
      CHECK(largest(weight.grad() - numbers.reshape({out, 1, 1, 1}) *
                                        static_cast<double>(2 * places * places)) < 0.1);
      ++compared;
    }
  CHECK(compared == 42);
}

TEST_CASE("what is huge or not finite changes only what sees it, in all three products") {
  int compared = 0;
  for (const double special : {double(NAN), double(INFINITY), -double(INFINITY), 1e30, 1e8, -1e8})
    for (const int where : {0, 1, 2})  // x, weight, g
      for (const int64_t at : {0, 5, 13 * 5 + 6, 13 * 13 - 1}) {
        CAPTURE(special);
        CAPTURE(where);
        CAPTURE(at);
        manual_seed(static_cast<uint64_t>(at));
        Tensor in[] = {randn({2, 16, 13, 13}), randn({16, 16, 3, 3}), randn({2, 16, 13, 13})};
        const Tensor& set = in[where];
        const int64_t image = where == 1 ? 0 : at % 2, plane = where == 1 ? 9 : 169;
        const int64_t element = (16 * image + 3) * plane + at % plane;
        set.reshape({-1}).narrow(0, element, 1).fill_(special);
        auto results = [&](auto transform) {
          auto as = [&](const Tensor& t) { return transform(t.to(float64)); };
          const Tensor x = as(in[0]).requires_grad_(), w = as(in[1]).requires_grad_();
          const Tensor y = conv2d(x, w, {.padding = 1});
          y.backward(as(in[2]));
          return std::vector<Values>{values(y), values(x.grad()), values(w.grad())};
        };
        const Tensor x = in[0].clone().requires_grad_(), w = in[1].clone().requires_grad_();
        const Tensor y = conv2d(x, w, {.padding = 1});
        y.backward(in[2]);
        const std::vector<Values> single{values(y), values(x.grad()), values(w.grad())},
            exact = results([](const Tensor&t) { return t.clone(); }),
            terms = results([](const Tensor&t) { return abs(t).clone(); });
        for (std::size_t i = 0; i < 3; ++i) {
          std::size_t wrong = 0;
          for (std::size_t j = 0; j < exact[i].size(); ++j) {
            const double a = single[i][j], b = exact[i][j];
            double sum = terms[i][j];
            if (sum > 1e3) {  // what sees it shares its rounding: all channels, or taps
              const std::size_t n = i == 2 ? 9 : 16, step = i == 2 ? 1 : 169,
                                first = i == 2 ? j / 9 * 9 : j / (16 * 169) * 16 * 169 + j % 169;
              for (std::size_t k = 0; k < n; ++k) sum = std::max(sum, terms[i][first + k * step]);
            }
            const bool same = std::isfinite(b) ? std::abs(a - b) <= 1e-5 * sum
                                               : a == b || (std::isnan(a) && std::isnan(b));
            wrong += !same;
          }
          CAPTURE(i);
          CHECK(wrong == 0);
          ++compared;
        }
      }
  CHECK(compared == 6 * 3 * 4 * 3);
}

TEST_CASE("a huge number of the last of many channels does not change taps that do not see it") {
  const Tensor x = randn({1, 64, 12, 12}), g = randn({1, 64, 12, 12});
  g(0, 40, 0, 0).fill_(1e8);  // under the first row of taps there is padding
  const Tensor w = randn({64, 64, 3, 3}).requires_grad_();
  const Tensor exact = w.detach().to(float64).requires_grad_();
  conv2d(x, w, {.padding = 1}).backward(g);
  conv2d(x.to(float64), exact, {.padding = 1}).backward(g.to(float64));
  CHECK(max(abs(w.grad()(40, all, 0).to(float64) - exact.grad()(40, all, 0))).item() < 1e-3);
}

TEST_CASE("numbers whose tiles overflow convolve as the sum does") {
  const Tensor x = full({1, 16, 12, 12}, 1e37).requires_grad_();
  const Tensor weight = full({16, 16, 3, 3}, 1e-4);
  const Tensor y = conv2d(x, weight);
  CHECK(largest(y.detach() / 1.44e35 - 1) < 1e-5);
  y.backward(full(y.shape(), 1e37));
  CHECK(x.grad().narrow(2, 5, 1).narrow(3, 5, 1).max().item() ==
        doctest::Approx(1.44e35).epsilon(1e-5));
}

TEST_CASE("set_winograd(false) gives the sum's rounding") {
  CHECK(winograd());
  manual_seed(9);
  const Tensor x = randn({2, 16, 20, 20}), w = randn({16, 16, 3, 3});
  auto error = [&] {
    return largest(conv2d(x, w).to(float64) - conv2d(x.to(float64), w.to(float64)));
  };
  const double tiles = error();
  set_winograd(false);
  CHECK(!winograd());
  const double plain = error();
  set_winograd(true);
  CHECK(plain < 0.2 * tiles);
  CHECK(error() == tiles);
}

TEST_CASE("convolutions have the same bits for any number of threads") {
  for (const auto& [x_shape, weight_shape, o] : cases) {
    manual_seed(5);
    const Tensor x = randn(x_shape).requires_grad_(), weight = randn(weight_shape).requires_grad_();
    const Tensor g = randn(conv2d(x, weight, o).shape());
    x.detach().reshape({-1}).narrow(0, x.numel() / 2, 1).fill_(1e8);  // spoils a tile: see Winograd
    g.reshape({-1}).narrow(0, g.numel() / 2, 1).fill_(1e8);
    same_with_threads([&, o = o]() -> std::vector<Tensor> {
      x.zero_grad();
      weight.zero_grad();
      const Tensor y = conv2d(x, weight, o);
      y.backward(g);
      return {y.detach(), x.grad(), weight.grad()};
    });
  }
}

TEST_CASE("conv2d reads any layout, and refuses what does not fit") {
  const Tensor x = randn({2, 6, 5, 4}), weight = randn({3, 4, 3, 2});
  CHECK(values(conv2d(x.transpose(1, 3), weight)) ==
        values(conv2d(x.transpose(1, 3).contiguous(), weight)));
  auto refused = [&](const Tensor& images, const Tensor& kernel, const Conv2dOptions& o) {
    return refusal<ShapeError>([&] { conv2d(images, kernel, o); });
  };
  CHECK(refused(x, weight, {}) ==
        "conv2d: x [2, 6, 5, 4] and weight [3, 4, 3, 2] do not fit with groups 1: need x "
        "[N, C, H, W] and weight [O, C / groups, KH, KW]");
  CHECK(refused(x, randn({4, 2, 3, 3}), {.groups = 3}) ==
        "conv2d: groups 3 do not divide the channels of x [2, 6, 5, 4] and weight [4, 2, 3, 3]");
  CHECK(refused(x, randn({2, 6, 6, 1}), {}) ==
        "conv2d: kernel [6, 1] with dilation [1, 1] does not fit into x [2, 6, 5, 4] with padding "
        "[0, 0]: need dilation (kernel - 1) + 1 <= size + 2 padding");
  CHECK(refused(x, randn({2, 6, 3}), {}) ==
        "conv2d: weight [2, 6, 3] has rank 3: need [O, C / groups, KH, KW]");
  CHECK(refused(randn({2, 0, 5, 4}), randn({2, 0, 3, 3}), {}) ==
        "conv2d: x [2, 0, 5, 4] with weight [2, 0, 3, 3]: need at least one channel of each");
  CHECK(refusal<ShapeError>([&] {
          conv2d(x, randn({0, 6, 3, 3}));
        }) == "conv2d: x [2, 6, 5, 4] with weight [0, 6, 3, 3]: need at least one channel of each");
  const Tensor good = randn({3, 6, 3, 2});
  CHECK(refusal<ShapeError>([&] { conv2d(x, good, randn({2})); }) ==
        "conv2d: bias [2] does not fit weight [3, 6, 3, 2]: need [3]");
  CHECK(refusal<ValueError>([&] { conv2d(x, good, {.stride = 0}); }) ==
        "conv2d: stride is [0, 0]: need at least 1");
  CHECK(refusal<ValueError>([&] {
          conv2d(x, good, {.dilation = {1, 0}});
        }) == "conv2d: dilation is [1, 0]: need at least 1");
  CHECK(refusal<ValueError>([&] { conv2d(x, good, {.padding = -1}); }) ==
        "conv2d: padding is [-1, -1]: need at least 0");
  CHECK(refusal<ValueError>([&] { conv2d(x, good, {.groups = 0}); }) ==
        "conv2d: groups is 0: need at least 1");
  CHECK(refusal<DtypeError>([&] { conv2d(x, good.to(float64)); }) ==
        "conv2d: x is float32 and weight is float64: need one dtype (use to())");
  CHECK(refusal<DtypeError>([&] {
          conv2d(ones({1, 6, 5, 4}, int64), ones({3, 6, 3, 2}, int64));
        }) == "conv2d: the input is int64: need float32 or float64 (use to())");
  CHECK(refusal<ValueError>([&] { nn::Conv2d(6, 4, 3, {.groups = 4}); }) ==
        "Conv2d: groups 4 do not divide 6 inputs and 4 outputs");
  CHECK(refusal<ValueError>([&] { nn::Conv2d(6, 4, 0); }) ==
        "Conv2d: kernel is [0, 0]: need at least 1");
  CHECK_THROWS_AS(nn::Conv2d(6, 4, {int64_t{1} << 32, int64_t{1} << 32}), SizeError);
  CHECK(conv2d(zeros({0, 6, 5, 4}), good).shape() == Shape{0, 3, 3, 3});
}

TEST_CASE("nn::Conv2d has PyTorch's shapes, names and first values") {
  manual_seed(6);
  const nn::Conv2d layer(4, 6, {3, 5}, {.stride = 2, .padding = {1, 2}, .groups = 2});
  CHECK(layer.weight.shape() == Shape{6, 2, 3, 5});
  CHECK(layer.bias.shape() == Shape{6});
  const double bound = 1 / std::sqrt(30.0);
  CHECK(largest(layer.weight.detach()) <= bound);
  CHECK(largest(layer.weight.detach()) > 0.9 * bound);
  CHECK(layer(randn({2, 4, 8, 9})).shape() == Shape{2, 6, 4, 5});
  CHECK(layer(randn({4, 8, 9})).shape() == Shape{6, 4, 5});
  CHECK(!nn::Conv2d(4, 6, 3, {.bias = false}).bias.defined());
}

TEST_CASE("kernels with empty taps let nothing through that does not pass them") {
  Generator generator(3);
  const Tensor x = randn({1, 16, 16, 16}, float32, generator),
               pixel = x.narrow(2, 7, 1).narrow(3, 6, 1);
  const Tensor weight = randn({16, 16, 3, 3}, float32, generator);
  weight.narrow(2, 1, 2).fill_(0);  // a place sees the row above it alone
  for (const double huge : {1e4, 1e8}) {
    CAPTURE(huge);
    pixel.fill_(huge);
    const Tensor y = conv2d(x, weight, {.padding = 1});
    pixel.fill_(0);
    const Tensor without = conv2d(x.to(float64), weight.to(float64), {.padding = 1});
    // All but row 8, the one below the pixel.
    for (const auto& [start, rows] : {std::pair<int64_t, int64_t>(0, 8), {9, 7}}) {
      const Tensor off = y.narrow(2, start, rows).to(float64) - without.narrow(2, start, rows);
      CHECK(abs(off).max().item() < 1e-4);
    }
  }
}
