#include <cmath>

#include "support.hpp"

using namespace descent;

// Windows of all sizes that an int64_t can hold, on small images: what has few places is computed
// as the definition says, in little memory; all else is refused.

namespace {

__extension__ typedef __int128 Wide;  // holds what the options multiply to

/// One axis of a window that moves over an image.
struct Axis {
  int64_t size, kernel, stride, padding, dilation;
  bool ceil_mode = false;

  Wide places() const {
    const Wide room = size + 2 * Wide(padding) - Wide(dilation) * (kernel - 1) - 1;
    const Wide way = ceil_mode ? room + stride - 1 : room;
    if (way < 0) return 0;
    const Wide last = way / stride;
    return ceil_mode && last * stride >= Wide(size) + padding ? last : last + 1;
  }
  /// The pixel under a tap at a place, or -1.
  int64_t pixel(int64_t place, int64_t tap) const {
    const Wide at = Wide(place) * stride - padding + Wide(tap) * dilation;
    return at < 0 || at >= size ? -1 : static_cast<int64_t>(at);
  }
  /// Whether the padded image and the kernel's span are numbers that sizes can be.
  bool sizes_fit() const {
    return size + 2 * Wide(padding) <= INT64_MAX && Wide(dilation) * (kernel - 1) <= INT64_MAX;
  }
};

/// f(channel, pixel, place) for what a tap at (i, k) sees.
template <class F>
void for_each_seen(const Axis& h, const Axis& w, int64_t planes, int64_t i, int64_t k, F f) {
  const auto rows = static_cast<int64_t>(h.places()), columns = static_cast<int64_t>(w.places());
  for (int64_t plane = 0; plane < planes; ++plane)
    for (int64_t place = 0; place < rows * columns; ++place) {
      const int64_t y = h.pixel(place / columns, i), x = w.pixel(place % columns, k);
      if (y >= 0 && x >= 0)
        f(static_cast<std::size_t>((plane * h.size + y) * w.size + x),
          static_cast<std::size_t>(plane * rows * columns + place));
    }
}

/// Whole numbers, whose sums are exact.
Tensor numbers(const Shape& shape, DType dtype, std::size_t seed) {
  const Tensor x = empty(shape, dtype);
  Values v(static_cast<std::size_t>(x.numel()));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>((i * 7 + seed) % 5) - 2;
  return tensor(v, shape, dtype);
}

struct Tally {
  int64_t computed = 0, refused = 0;

  /// f() where there are few places, and that it is refused where there are none or too many.
  template <class F> void run(const Axis& h, const Axis& w, F f) {
    const Shape sizes{h.kernel,  w.kernel,  h.stride,   w.stride,
                      h.padding, w.padding, h.dilation, w.dilation};
    const std::string named = str(sizes);
    CAPTURE(named);
    constexpr Wide many = 10'000'000;
    const Wide places = std::min(h.places(), many) * std::min(w.places(), many);
    const bool fit = h.sizes_fit() && w.sizes_fit();
    if (fit && places >= 3000 && places < many) return;  // might do, but takes long
    if (fit && places > 0 && places < 3000) {
      f();
      ++computed;
    } else {
      bool refuses = false;
      try {
        f();
      } catch (const Error&) { refuses = true; } catch (const std::bad_alloc&) {
        refuses = true;
      }
      CHECK(refuses);
      ++refused;
    }
  }
};

/// While it lives, there are only so many more bytes.
struct MemoryLimit {
  explicit MemoryLimit(int64_t bytes) {
    trim();
    set_memory_limit(memory_stats().system_bytes + bytes);
  }
  ~MemoryLimit() { set_memory_limit(0); }
};

constexpr int64_t kSizes[] = {1,        2, 3, 7, 1000, 1L << 31, 1L << 32, 1L << 62, INT64_MAX - 1,
                              INT64_MAX};

/// conv2d of 2 images of `groups` channels to as many, depthwise or not, against its definition.
void check_conv(const Axis& h, const Axis& w, int64_t groups, DType dtype) {
  const int64_t in = groups == 1 ? 2 : 1, channels = in * groups, out = groups == 1 ? 3 : groups;
  const Tensor x = numbers({2, channels, h.size, w.size}, dtype, 1).requires_grad_();
  const Tensor weight = numbers({out, in, h.kernel, w.kernel}, dtype, 3).requires_grad_();
  const Tensor y = conv2d(x, weight,
                          {.stride = {h.stride, w.stride},
                           .padding = {h.padding, w.padding},
                           .dilation = {h.dilation, w.dilation},
                           .groups = groups});
  const auto rows = static_cast<int64_t>(h.places()), columns = static_cast<int64_t>(w.places());
  REQUIRE(y.shape() == Shape{2, out, rows, columns});
  const Tensor g = numbers(y.shape(), dtype, 2);
  y.backward(g);

  const Values xs = values(x), ws = values(weight), gs = values(g);
  Values ys(gs.size()), dxs(xs.size()), dws(ws.size());
  for (int64_t o = 0; o < out; ++o)
    for (int64_t tap = 0; tap < in * h.kernel * w.kernel; ++tap) {
      const int64_t channel = groups == 1 ? tap / (h.kernel * w.kernel) : o;
      const auto at = static_cast<std::size_t>(o * in * h.kernel * w.kernel + tap);
      for_each_seen(
          h, w, 2, tap / w.kernel % h.kernel, tap % w.kernel,
          [&](std::size_t pixel, std::size_t place) {
            const auto plane = static_cast<std::size_t>(h.size * w.size);
            const auto spots = static_cast<std::size_t>(rows * columns);
            const std::size_t image = pixel / plane;
            const std::size_t from =
                (image * static_cast<std::size_t>(channels) + static_cast<std::size_t>(channel)) *
                    plane +
                pixel % plane;
            const std::size_t to =
                (image * static_cast<std::size_t>(out) + static_cast<std::size_t>(o)) * spots +
                place % spots;
            ys[to] += xs[from] * ws[at];
            dxs[from] += gs[to] * ws[at];
            dws[at] += gs[to] * xs[from];
          });
    }
  CHECK(values(y) == ys);
  CHECK(values(x.grad()) == dxs);
  CHECK(values(weight.grad()) == dws);
}

/// max_pool2d and avg_pool2d against their definitions.
void check_pool(const Axis& h, const Axis& w, DType dtype) {
  const Tensor x = numbers({1, 2, h.size, w.size}, dtype, 1).requires_grad_();
  const Size2d kernel(h.kernel, w.kernel), stride(h.stride, w.stride), pad(h.padding, w.padding);
  const Tensor most = max_pool2d(x, kernel,
                                 {.stride = stride,
                                  .padding = pad,
                                  .dilation = {h.dilation, w.dilation},
                                  .ceil_mode = h.ceil_mode});
  const auto rows = static_cast<int64_t>(h.places()), columns = static_cast<int64_t>(w.places());
  REQUIRE(most.shape() == Shape{1, 2, rows, columns});
  const Tensor g = numbers(most.shape(), dtype, 2);
  most.backward(g);
  const Values xs = values(x), gs = values(g);
  Values best(gs.size(), -INFINITY), dxs(xs.size()), sums(gs.size()), counts(gs.size());
  std::vector<std::size_t> where(gs.size());
  for (int64_t i = 0; i < std::min<int64_t>(h.kernel, 40); ++i)
    for (int64_t k = 0; k < std::min<int64_t>(w.kernel, 40); ++k)
      for_each_seen(h, w, 2, i, k, [&](std::size_t pixel, std::size_t place) {
        if (xs[pixel] > best[place]) best[place] = xs[pixel], where[place] = pixel;
        sums[place] += xs[pixel];
        ++counts[place];
      });
  for (std::size_t i = 0; i < gs.size(); ++i) dxs[where[i]] += gs[i];
  CHECK(values(most) == best);
  CHECK(values(x.grad()) == dxs);
  if (h.dilation != 1 || w.dilation != 1) return;
  const Values means = values(avg_pool2d(
      x.detach(), kernel,
      {.stride = stride, .padding = pad, .ceil_mode = h.ceil_mode, .count_include_pad = false}));
  for (std::size_t i = 0; i < gs.size(); ++i)
    CHECK(means[i] == doctest::Approx(sums[i] / counts[i]).epsilon(1e-6));
}

}  // namespace

TEST_CASE("convolutions of any stride, padding and dilation are the definition's, or refused") {
  const MemoryLimit limit(int64_t{32} << 20);
  Tally tally;
  for (const int64_t stride : kSizes)
    for (const int64_t padding : kSizes)
      for (const int64_t dilation : kSizes)
        for (const int64_t kernel : {1, 2, 3}) {
          const Axis odd{5, kernel, stride, padding - 1, dilation}, plain{4, 2, 1, 1, 1};
          for (const int64_t groups : {1, 2}) {
            const DType dtype = kernel == 2 ? float64 : float32;
            tally.run(odd, plain, [&] { check_conv(odd, plain, groups, dtype); });
            tally.run(plain, odd, [&] { check_conv(plain, odd, groups, dtype); });
            tally.run(odd, odd, [&] { check_conv(odd, odd, groups, dtype); });
          }
        }
  std::printf("convolutions: %ld computed, %ld refused\n", tally.computed, tally.refused);
  CHECK(tally.computed > 3000);
  CHECK(tally.refused > 3000);
}

TEST_CASE("pooling of any stride, kernel and dilation is the definition's, or refused") {
  const MemoryLimit limit(int64_t{32} << 20);
  Tally tally;
  for (const int64_t stride : kSizes)
    for (const int64_t dilation : kSizes)
      for (const int64_t kernel : {1L, 2L, 3L, 1L << 40, INT64_MAX})
        for (const bool padded : {false, true})
          for (const bool ceil_mode : {false, true}) {
            const int64_t padding = padded ? std::min<int64_t>(kernel / 2, 1) : 0;
            if (padding > 0 && dilation > 4) continue;  // is refused for a reason of its own
            const Axis odd{4, kernel, stride, padding, dilation, ceil_mode};
            const Axis plain{3, 2, 1, 0, 1, ceil_mode};
            const DType dtype = kernel == 2 ? float64 : float32;
            tally.run(odd, plain, [&] { check_pool(odd, plain, dtype); });
            tally.run(plain, odd, [&] { check_pool(plain, odd, dtype); });
          }
  std::printf("pooling: %ld computed, %ld refused\n", tally.computed, tally.refused);
  CHECK(tally.computed > 500);
  CHECK(tally.refused > 100);
}

TEST_CASE("sizes of layers and of batches without images are checked as others are") {
  CHECK_THROWS_AS(nn::Conv2d(2, 2, {1L << 62, 3}), SizeError);
  CHECK_THROWS_AS(nn::Conv2d(1L << 40, 1, 1L << 20), SizeError);
  CHECK_THROWS_AS(nn::Conv2d(INT64_MAX, INT64_MAX, INT64_MAX), SizeError);
  CHECK_THROWS_AS(nn::Linear(INT64_MAX, 2), SizeError);
  const Tensor none = zeros({0, 1, 1, 1L << 62}, float64);
  CHECK(avg_pool2d(none, 1).shape() == none.shape());
  CHECK(max_pool2d(none, 1).shape() == none.shape());
  CHECK(conv2d(none, ones({1, 1, 1, 1}, float64)).shape() == none.shape());
  CHECK_THROWS_AS(conv2d(none, ones({3, 1, 1, 1}, float64)), SizeError);
}

TEST_CASE("a stride that is given along one axis only is refused") {
  const Tensor x = zeros({1, 1, 4, 4});
  Size2d stride;
  CHECK_FALSE(stride.has_value());
  stride.w = 1;
  CHECK(stride.has_value());
  CHECK(refusal<ValueError>([&] {
          (void)max_pool2d(x, 2, {.stride = stride});
        }).starts_with("max_pool2d: "));
}
