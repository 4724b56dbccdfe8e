#include "descent/core/ops/random.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/core/tensor/state.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

__extension__ using uint128 = unsigned __int128;

// Sixteen blocks, called a group, are computed together, so that their rounds fill vector
// registers.
constexpr int kGroupBlocks = 16, kGroupWords = 4 * kGroupBlocks;
struct Group {
  alignas(64) uint32_t words[kGroupWords];
};

[[gnu::always_inline]] inline void compute(Group& group, Generator::State at) {
  for (int i = 0; i < kGroupBlocks; ++i) {
    const detail::PhiloxBlock block = detail::philox(at.seed, at.offset + static_cast<uint64_t>(i));
    for (std::size_t word = 0; word < 4; ++word)
      group.words[static_cast<std::size_t>(i) + kGroupBlocks * word] = block[word];
  }
}

/// How many values of T one group makes: float and bool use 32 random bits each, double 64.
template <class T> constexpr int kGroupValues = sizeof(T) == 8 ? kGroupWords / 2 : kGroupWords;

/// A new tensor of T, filled by make(group, values), which turns one group into kGroupValues<T>
/// values. `make` must be inlined, whatever its size, so that it is compiled for each instruction
/// set.
template <class T, class Make>
Tensor draw_tensor(const char* op, const Shape& shape, Generator& generator, At at, Make make) {
  Tensor out = detail::empty(op, shape, dtype_of<T>(), at);
  T* const to = elements_of<T>(out);
  constexpr int64_t kValues = kGroupValues<T>, kTile = 16384;
  const int64_t n = out.numel();
  const auto groups = static_cast<uint64_t>(detail::ceil_div(n, kValues));
  const Generator::State first = generator.reserve(groups * kGroupBlocks);
  parallel_for(detail::ceil_div(n, kTile), [&](int64_t tile) {
    simd::call([&] {
      const Make make_values = make;  // a local copy, which stores to `to` cannot change
      Group group;
      const int64_t end = std::min(n, (tile + 1) * kTile);
      for (int64_t i = tile * kTile; i < end; i += kValues) {
        compute(group,
                {first.seed, first.offset + static_cast<uint64_t>(i / kValues) * kGroupBlocks});
        if (end - i >= kValues) {
          make_values(group, to + i);
        } else {
          T values[kValues];
          make_values(group, values);
          std::copy(values, values + (end - i), to + i);
        }
      }
    });
  });
  return out;
}

/// Number i of the kGroupValues<T> uniform numbers in [0, 1) that a group makes: a multiple of
/// 2^-24 (float) or 2^-53 (double).
template <class T> [[gnu::always_inline]] inline T uniform(const Group& group, int i) {
  if constexpr (sizeof(T) == 4) {
    return static_cast<float>(static_cast<int32_t>(group.words[i] >> 8)) * 0x1p-24f;
  } else {
    const auto high = static_cast<int32_t>(group.words[i] >> 5);
    const auto low = static_cast<int32_t>(group.words[i + kGroupWords / 2] >> 6);
    return (high * 0x1p26 + low) * 0x1p-53;
  }
}

/// The series 1 - x^2 / (2 (2 + d)) + x^4 / (2 (2 + d) 4 (4 + d)) - ..., computed from its end:
/// cos(x) for d = -1, sin(x) / x for d = 1. For |x| <= pi/4 the terms that are left out are far
/// below the last bit of a double.
template <class T> [[gnu::always_inline]] inline T taylor(T x, int d) {
  T sum = 1;
#pragma GCC unroll 8
  for (int n = 16; n > 0; n -= 2) sum = 1 - x * x * (T(1) / static_cast<T>(n * (n + d))) * sum;
  return sum;
}

/// Box & Muller: from two uniform numbers in [0, 1), two independent normal ones.
template <class T> [[gnu::always_inline]] inline std::pair<T, T> normals(T u, T turn) {
  constexpr T kStep = sizeof(T) == 8 ? T(0x1p-53) : T(0x1p-24);
  T radius = vmath::sqrt(-2 * vmath::log(u + kStep));  // u + kStep is in (0, 1]
  // The series needs an angle within pi/4 of 0, and reaches it without rounding: half a turn
  // changes the signs of sine and cosine, a quarter of a turn exchanges them.
  const bool second_half = turn >= T(0.5);
  radius = vmath::where(second_half, -radius, radius);
  const T half = 2 * turn - vmath::where(second_half, T(1), T(0));
  const bool second_quarter = half >= T(0.5);
  const T quarter = 2 * half - vmath::where(second_quarter, T(1), T(0));
  const T angle = (quarter - T(0.5)) * (std::numbers::pi_v<T> / 2);
  const T s = radius * (angle * taylor(angle, 1)), c = radius * taylor(angle, -1);
  return {vmath::where(second_quarter, s, c), vmath::where(second_quarter, c, s)};
}

}  // namespace

// With these builtins several threads may draw at once; a std::atomic would do that too, but then
// Generator could not be copied.
Generator::State Generator::state() const {
  return {state_.seed, __atomic_load_n(&state_.offset, __ATOMIC_RELAXED)};
}

NamedTensors Generator::state_dict() const { return saved_state(state()); }
Commit Generator::prepare_load(NamedTensors state, At at) {
  return prepare_state(state_, std::move(state), "Generator", at);
}

Generator::State Generator::reserve(uint64_t blocks) {
  return {state_.seed, __atomic_fetch_add(&state_.offset, blocks, __ATOMIC_RELAXED)};
}

uint64_t Generator::next() {
  const auto [seed, offset] = reserve(1);
  const detail::PhiloxBlock block = detail::philox(seed, offset);
  return uint64_t{block[0]} << 32 | block[1];
}

double Generator::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

// Lemire 2019, "Fast random integer generation in an interval", algorithm 5.
uint64_t Generator::bounded(uint64_t n, At at) {
  if (n == 0) fail<ValueError>(at, "bounded: n is 0: there is no number below it");
  auto product = static_cast<uint128>(next()) * n;
  if (static_cast<uint64_t>(product) < n) {
    const uint64_t threshold = (0 - n) % n;
    while (static_cast<uint64_t>(product) < threshold) product = static_cast<uint128>(next()) * n;
  }
  return static_cast<uint64_t>(product >> 64);
}

Generator& default_generator() {
  static Generator generator;
  return generator;
}

void manual_seed(uint64_t seed) { default_generator().seed(seed); }

Tensor rand(const Shape& shape, DType dtype, Generator& generator, At at) {
  return visit<Kinds::floating>("rand", dtype, at, [&]<class T>(T) {
    auto make = [](const Group& group, T* values) __attribute__((always_inline)) {
      for (int i = 0; i < kGroupValues<T>; ++i) values[i] = uniform<T>(group, i);
    };
    return draw_tensor<T>("rand", shape, generator, at, make);
  });
}

Tensor randn(const Shape& shape, DType dtype, Generator& generator, At at) {
  return visit<Kinds::floating>("randn", dtype, at, [&]<class T>(T) {
    auto make = [](const Group& group, T* values) __attribute__((always_inline)) {
      constexpr int kPairs = kGroupValues<T> / 2;
      for (int i = 0; i < kPairs; ++i) {
        const auto [a, b] = normals(uniform<T>(group, i), uniform<T>(group, i + kPairs));
        values[i] = a;
        values[i + kPairs] = b;
      }
    };
    return draw_tensor<T>("randn", shape, generator, at, make);
  });
}

Tensor bernoulli(const Shape& shape, double p, Generator& generator, At at) {
  if (!(p >= 0 && p <= 1)) fail<ValueError>(at, "bernoulli: p is {}: need 0 <= p <= 1", p);
  const auto threshold = static_cast<uint64_t>(std::llround(p * 0x1p32));
  auto make = [=](const Group& group, bool* values) __attribute__((always_inline)) {
    for (int i = 0; i < kGroupWords; ++i) values[i] = group.words[i] < threshold;
  };
  return draw_tensor<bool>("bernoulli", shape, generator, at, make);
}

Tensor randint(int64_t low, int64_t high, const Shape& shape, Generator& generator, At at) {
  if (low >= high) fail<ValueError>(at, "randint: [{}, {}) is empty: need low < high", low, high);
  Tensor out = detail::empty("randint", shape, int64, at);
  auto* p = elements_of<int64_t>(out);
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  for (int64_t i = 0; i < out.numel(); ++i)
    p[i] = static_cast<int64_t>(static_cast<uint64_t>(low) + generator.bounded(range));
  return out;
}

Tensor randperm(int64_t n, Generator& generator, At at) {
  if (n < 0) fail<ValueError>(at, "randperm: n is {}: need n >= 0", n);
  Tensor out = arange(n, int64, at);
  auto* order = elements_of<int64_t>(out);
  for (int64_t i = n; i > 1; --i)
    std::swap(order[i - 1], order[generator.bounded(static_cast<uint64_t>(i))]);
  return out;
}

Tensor rand_like(const In& x, Generator& generator) {
  check_floating("rand_like", x);
  return rand(x.shape(), x.dtype(), generator, x.at);
}
Tensor randn_like(const In& x, Generator& generator) {
  check_floating("randn_like", x);
  return randn(x.shape(), x.dtype(), generator, x.at);
}

Tensor multinomial(const In& weights, int64_t count, bool replacement, Generator& generator) {
  const char* op = "multinomial";
  check_floating(op, weights);
  const Shape& shape = weights.shape();
  if (shape.rank() < 1 || shape.rank() > 2 || count < 0)
    fail<ShapeError>(weights.at, "{}: weights {}, count {}: need [N, K] or [K], and at least 0", op,
                     shape, count);
  const Frame frame(weights.at);
  const Tensor all = to(weights.detach(), float64).contiguous();
  const Tensor fit = logical_and(logical_and(all >= 0, isfinite(sum(all, -1, true))),
                                 sum(all > 0, -1, true) >= (replacement ? count > 0 : count));
  if (!descent::all(fit).item<bool>())
    fail<ValueError>(weights.at,
                     "{}: weights {} for {} numbers: need weights of at least 0 with a finite sum, "
                     "{} in each row above 0",
                     op, shape, count, replacement ? "one" : "as many");
  Shape drawn = shape;
  drawn[-1] = count;
  Tensor out = detail::empty(op, drawn, int64, weights.at);
  for (int64_t i = 0, k = shape.back(); i < out.numel(); ++i) {
    double* const row = elements_of<double>(all) + i / std::max<int64_t>(count, 1) * k;
    double left = generator.uniform() * std::accumulate(row, row + k, 0.0);
    int64_t pick = 0;
    for (int64_t j = 0; j < k && left >= 0; ++j) {
      if (row[j] > 0) pick = j;  // the last one, if rounding leaves something
      left -= row[j];
    }
    elements_of<int64_t>(out)[i] = pick;
    if (!replacement) row[pick] = 0;
  }
  return out;
}

}  // namespace descent
