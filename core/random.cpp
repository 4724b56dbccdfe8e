#include "descent/core/random.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numbers>
#include <numeric>
#include <utility>

#include "descent/core/simd.hpp"
#include "descent/core/threads.hpp"
#include "descent/core/vmath.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

__extension__ using uint128 = unsigned __int128;

// Blocks are computed sixteen at a time, a group, so that their rounds fill vector registers.
constexpr int kGroupBlocks = 16, kGroupWords = 4 * kGroupBlocks;
struct Group {
  alignas(64) uint32_t words[kGroupWords];
};

[[gnu::always_inline]] inline void compute(Group& group, Generator::State at) {
  for (int i = 0; i < kGroupBlocks; ++i) {
    const detail::PhiloxBlock block = detail::philox(at.seed, at.offset + static_cast<uint64_t>(i));
    group.words[i] = block.x0;
    group.words[i + kGroupBlocks] = block.x1;
    group.words[i + kGroupBlocks * 2] = block.x2;
    group.words[i + kGroupBlocks * 3] = block.x3;
  }
}

/// How many values of T one group makes: float and bool use 32 random bits each, double 64.
template <class T> constexpr int kGroupValues = sizeof(T) == 8 ? kGroupWords / 2 : kGroupWords;

/// Fills out[0, n) with make(group, values), which turns one group into kGroupValues<T> values. To
/// be compiled for each instruction set, `make` has to be inlined, whatever its size.
template <class T, class Make> void fill(T* out, int64_t n, Generator& gen, Make make) {
  constexpr int64_t kValues = kGroupValues<T>, kTile = 16384;
  const int64_t groups = (n + kValues - 1) / kValues;
  const Generator::State first = gen.reserve(static_cast<uint64_t>(groups) * kGroupBlocks);
  parallel_for((n + kTile - 1) / kTile, [&](int64_t tile) {
    simd::call([&] {
      const Make make_values = make;  // a copy here, which stores to out cannot change
      Group group;
      const int64_t end = std::min(n, (tile + 1) * kTile);
      for (int64_t i = tile * kTile; i < end; i += kValues) {
        compute(group,
                {first.seed, first.offset + static_cast<uint64_t>(i / kValues) * kGroupBlocks});
        if (end - i >= kValues) {
          make_values(group, out + i);
        } else {
          T values[kValues];
          make_values(group, values);
          std::copy(values, values + (end - i), out + i);
        }
      }
    });
  });
}

/// Number i of a group's kGroupValues<T> uniform ones in [0, 1): a multiple of 2^-24 or 2^-53.
template <class T> [[gnu::always_inline]] inline T uniform(const Group& group, int i) {
  if constexpr (sizeof(T) == 4) {
    return static_cast<float>(static_cast<int32_t>(group.words[i] >> 8)) * 0x1p-24f;
  } else {
    const auto high = static_cast<int32_t>(group.words[i] >> 5);
    const auto low = static_cast<int32_t>(group.words[i + kGroupWords / 2] >> 6);
    return (high * 0x1p26 + low) * 0x1p-53;
  }
}

/// The Taylor series of sine and cosine, nested; for |x| <= pi/4 the terms left out are far below
/// the last bit of a double.
template <class T> [[gnu::always_inline]] inline T sine(T x) {
  T sum = 1;
#pragma GCC unroll 8
  for (int n = 16; n > 0; n -= 2) sum = 1 - x * x * (T(1) / static_cast<T>(n * (n + 1))) * sum;
  return x * sum;
}
template <class T> [[gnu::always_inline]] inline T cosine(T x) {
  T sum = 1;
#pragma GCC unroll 8
  for (int n = 16; n > 0; n -= 2) sum = 1 - x * x * (T(1) / static_cast<T>(n * (n - 1))) * sum;
  return sum;
}

/// Box & Muller: from two uniform numbers in [0, 1), two independent normal ones.
template <class T> [[gnu::always_inline]] inline std::pair<T, T> normals(T u, T turn) {
  constexpr T kStep = sizeof(T) == 8 ? T(0x1p-53) : T(0x1p-24);
  T radius = vmath::sqrt(-2 * vmath::log(u + kStep));  // u + kStep is in (0, 1]
  // The angle is brought to within pi/4 of 0, without rounding: half a turn changes the signs of
  // sine and cosine, a quarter exchanges them.
  const bool second_half = turn >= T(0.5);
  radius = vmath::where(second_half, -radius, radius);
  const T half = 2 * turn - vmath::where(second_half, T(1), T(0));
  const bool second_quarter = half >= T(0.5);
  const T quarter = 2 * half - vmath::where(second_quarter, T(1), T(0));
  const T angle = (quarter - T(0.5)) * (std::numbers::pi_v<T> / 2);
  const T s = radius * sine(angle), c = radius * cosine(angle);
  return {vmath::where(second_quarter, s, c), vmath::where(second_quarter, c, s)};
}

/// A random number below n, given a source of 64 random bits: Lemire 2019, "Fast random integer
/// generation in an interval", algorithm 5.
template <class Next> uint64_t below(uint64_t n, Next next) {
  uint128 product = static_cast<uint128>(next()) * n;
  if (static_cast<uint64_t>(product) < n) {
    const uint64_t threshold = (0 - n) % n;
    while (static_cast<uint64_t>(product) < threshold) product = static_cast<uint128>(next()) * n;
  }
  return static_cast<uint64_t>(product >> 64);
}

uint64_t join(uint32_t high, uint32_t low) { return uint64_t{high} << 32 | low; }

}  // namespace

// The builtins make drawing safe for several threads and leave Generator copyable.
Generator::State Generator::state() const {
  return {state_.seed, __atomic_load_n(&state_.offset, __ATOMIC_RELAXED)};
}

Generator::State Generator::reserve(uint64_t blocks) {
  return {state_.seed, __atomic_fetch_add(&state_.offset, blocks, __ATOMIC_RELAXED)};
}

uint64_t Generator::next() {
  const auto [seed, offset] = reserve(1);
  const detail::PhiloxBlock block = detail::philox(seed, offset);
  return join(block.x0, block.x1);
}

double Generator::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

uint64_t Generator::bounded(uint64_t n, At at) {
  if (n == 0) throw ValueError("bounded: n is 0: there is no number below it", at);
  return below(n, [this] { return next(); });
}

Generator& default_generator() {
  static Generator generator;
  return generator;
}

void manual_seed(uint64_t seed) { default_generator().seed(seed); }

std::vector<int64_t> permutation(int64_t n, Generator& gen, At at) {
  if (n < 0) throw ValueError(fmt::format("permutation: n is {}: need n >= 0", n), at);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  Group group;
  int used = kGroupWords;
  const auto next = [&] {
    if (used == kGroupWords) {
      const Generator::State first = gen.reserve(kGroupBlocks);
      simd::call([&] { compute(group, first); });
      used = 0;
    }
    used += 2;
    return join(group.words[used - 2], group.words[used - 1]);
  };
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[below(i, next)]);
  return order;
}

template <class T>
void detail::fill_uniform(T* out, int64_t n, double lo, double hi, Generator& gen, At at) {
  const T low = static_cast<T>(lo), high = static_cast<T>(hi), width = high - low;
  if (!(lo <= hi && std::isfinite(width)))
    throw ValueError(fmt::format("uniform: from {} to {}: need a finite, ordered range", lo, hi),
                     at);
  // low + u * width may round up to high, which does not belong to the range.
  const T last = low < high ? std::nextafter(high, low) : low;
  const auto make = [=](const Group& group, T* values) __attribute__((always_inline)) {
    for (int i = 0; i < kGroupValues<T>; ++i) {
      const T value = low + uniform<T>(group, i) * width;
      values[i] = value < last ? value : last;
    }
  };
  fill(out, n, gen, make);
}

template <class T>
void detail::fill_normal(T* out, int64_t n, double mean, double std, Generator& gen, At at) {
  const T shift = static_cast<T>(mean), scale = static_cast<T>(std);
  if (!(std >= 0 && std::isfinite(shift) && std::isfinite(scale)))
    throw ValueError(
        fmt::format("normal: mean {} and std {}: need both finite and std >= 0", mean, std), at);
  const auto make = [=](const Group& group, T* values) __attribute__((always_inline)) {
    constexpr int kPairs = kGroupValues<T> / 2;
    for (int i = 0; i < kPairs; ++i) {
      const auto [a, b] = normals(uniform<T>(group, i), uniform<T>(group, i + kPairs));
      values[i] = shift + scale * a;
      values[i + kPairs] = shift + scale * b;
    }
  };
  fill(out, n, gen, make);
}

void detail::fill_bernoulli(bool* out, int64_t n, double p, Generator& gen, At at) {
  if (!(p >= 0 && p <= 1))
    throw ValueError(fmt::format("bernoulli: p is {}: need 0 <= p <= 1", p), at);
  const auto threshold = static_cast<uint64_t>(std::llround(p * 0x1p32));
  const auto make = [=](const Group& group, bool* values) __attribute__((always_inline)) {
    for (int i = 0; i < kGroupWords; ++i) values[i] = group.words[i] < threshold;
  };
  fill(out, n, gen, make);
}

template void detail::fill_uniform(float*, int64_t, double, double, Generator&, At);
template void detail::fill_uniform(double*, int64_t, double, double, Generator&, At);
template void detail::fill_normal(float*, int64_t, double, double, Generator&, At);
template void detail::fill_normal(double*, int64_t, double, double, Generator&, At);

/// A new floating tensor, filled by fill(elements, n).
template <class F>
static Tensor drawn(const char* op, const Shape& shape, DType dtype, At at, F fill) {
  return detail::visit<Kinds::floating>(op, dtype, at, [&](auto zero) {
    Tensor out = detail::empty(op, shape, dtype, at);
    fill(reinterpret_cast<decltype(zero)*>(Peek::header(out)->data), out.numel());
    return out;
  });
}

Tensor rand(const Shape& shape, DType dtype, Generator& generator, At at) {
  return drawn("rand", shape, dtype, at,
               [&](auto* p, int64_t n) { detail::fill_uniform(p, n, 0, 1, generator, at); });
}

Tensor randn(const Shape& shape, DType dtype, Generator& generator, At at) {
  return drawn("randn", shape, dtype, at,
               [&](auto* p, int64_t n) { detail::fill_normal(p, n, 0, 1, generator, at); });
}

Tensor bernoulli(const Shape& shape, double p, Generator& generator, At at) {
  Tensor out = detail::empty("bernoulli", shape, boolean, at);
  detail::fill_bernoulli(reinterpret_cast<bool*>(Peek::header(out)->data), out.numel(), p,
                         generator, at);
  return out;
}

Tensor randint(int64_t low, int64_t high, const Shape& shape, Generator& generator, At at) {
  if (low >= high)
    throw ValueError(fmt::format("randint: [{}, {}) is empty: need low < high", low, high), at);
  Tensor out = detail::empty("randint", shape, int64, at);
  auto* p = reinterpret_cast<int64_t*>(Peek::header(out)->data);
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  for (int64_t i = 0; i < out.numel(); ++i)
    p[i] = static_cast<int64_t>(static_cast<uint64_t>(low) + generator.bounded(range, at));
  return out;
}

Tensor randperm(int64_t n, Generator& generator, At at) {
  const std::vector<int64_t> order = permutation(n, generator, at);
  Tensor out = detail::empty("randperm", {n}, int64, at);
  std::copy(order.begin(), order.end(), reinterpret_cast<int64_t*>(Peek::header(out)->data));
  return out;
}

}  // namespace descent
