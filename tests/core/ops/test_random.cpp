#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <thread>

#include "support.hpp"

using namespace descent;
using detail::PhiloxBlock;

namespace {

/// A group of 64 random words makes that many pairs of normal numbers: the first of each, then the
/// second of each.
template <class T> constexpr size_t pairs = 128 / sizeof(T);

template <class T> std::vector<T> uniforms(Generator& gen, int64_t n) {
  return rand({n}, dtype_of<T>(), gen).template to_vector<T>();
}
template <class T> std::vector<T> normals(Generator& gen, int64_t n) {
  return randn({n}, dtype_of<T>(), gen).template to_vector<T>();
}
std::vector<int> coins(Generator& gen, int64_t n, double p) {
  return bernoulli({n}, p, gen).to_vector<int>();
}
std::vector<int64_t> permutation(int64_t n, Generator& gen = default_generator()) {
  return randperm(n, gen).to_vector<int64_t>();
}

/// The mean of f(value), in double.
template <class T, class F> double average(const std::vector<T>& values, F f) {
  double sum = 0;
  for (const T value : values) sum += f(static_cast<double>(value));
  return sum / static_cast<double>(values.size());
}

/// Kolmogorov & Smirnov's statistic sqrt(n) * max |F_n - F|: above 1.95 once in a thousand samples.
template <class T, class F> double kolmogorov_smirnov(std::vector<T> values, F distribution) {
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  double distance = 0, i = 0;
  for (const T value : values) {
    const double expected = distribution(static_cast<double>(value));
    distance = std::max({distance, expected - i / n, (i + 1) / n - expected});
    ++i;
  }
  return distance * std::sqrt(n);
}

}  // namespace

TEST_CASE("a coin shows true where its word is below p, and never for p = 0") {
  for (std::size_t i = 0; i < 64; ++i) {  // in a group the words of sixteen blocks stand by number
    const double word = detail::philox(uint64_t{9}, i % 16)[i / 16];
    for (const double above : {0., 1.}) {
      Generator gen(9);
      CHECK(coins(gen, 64, (word + above) * 0x1p-32)[i] == above);
    }
  }
}

TEST_CASE("Philox gives its authors' known answers") {
  CHECK(detail::philox({0, 0, 0, 0}, 0, 0) ==
        PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const uint32_t ones = 0xffffffff;
  CHECK(detail::philox({ones, ones, ones, ones}, ones, ones) ==
        PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(detail::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0) ==
        PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("every number of a fill is made of one block, known from seed, offset and index") {
  const Generator::State start{0x123456789abcdef,
                               0xfffffff0};  // crosses into the counter's high word
  Generator gen;
  gen.set_state(start);
  const std::vector<float> values = uniforms<float>(gen, 1000);
  gen.set_state(start);
  const std::vector<double> doubles = uniforms<double>(gen, 1000);
  const auto word = [&](uint64_t i) {  // number i of the stream of 32-bit words
    const uint64_t group = i / 64, lane = i % 16;
    const PhiloxBlock b = detail::philox(start.seed, start.offset + 16 * group + lane);
    return std::array{b[0], b[1], b[2], b[3]}[i % 64 / 16];
  };
  for (size_t i = 0; i < values.size(); ++i) {
    REQUIRE(values[i] == static_cast<float>(word(i) >> 8) / 16777216.0f);
    const size_t first = i / 32 * 64 + i % 32;
    const uint64_t high = word(first) >> 5, low = word(first + 32) >> 6;
    REQUIRE(doubles[i] == std::ldexp(static_cast<double>(high << 26 | low), -53));
  }
}

TEST_CASE_TEMPLATE("uniform numbers have the moments and the distribution of [0, 1)", T, float,
                   double) {
  constexpr int64_t n = 1'000'000;
  Generator gen(2024);
  const std::vector<T> values = uniforms<T>(gen, n);
  const double step = sizeof(T) == 4 ? 0x1p24 : 0x1p53;
  CHECK(std::ranges::all_of(values, [&](T value) {
    const double multiple = static_cast<double>(value) * step;
    return value >= 0 && value < 1 && multiple == std::floor(multiple);
  }));
  const auto centred = [](int power) {
    return [power](double x) { return std::pow(x - 0.5, power); };
  };
  const double root = std::sqrt(double(n));  // bounds: four standard deviations of each mean
  CHECK(std::abs(average(values, centred(1))) < 4 * std::sqrt(1 / 12.0) / root);
  CHECK(std::abs(average(values, centred(2)) - 1 / 12.0) < 4 * std::sqrt(1 / 180.0) / root);
  CHECK(std::abs(average(values, centred(3))) < 4 * std::sqrt(1 / 448.0) / root);
  CHECK(kolmogorov_smirnov(values, [](double x) { return x; }) < 1.95);
}

TEST_CASE_TEMPLATE("neighbours and the words of a block are uncorrelated", T, float, double) {
  constexpr size_t n = 1'000'000;
  Generator gen(5);
  const std::vector<T> values = uniforms<T>(gen, n);
  for (const size_t lag : std::initializer_list<size_t>{1, 2, 16, 32, 64, 16384}) {
    double sum = 0;
    for (size_t i = lag; i < n; ++i)
      sum += (static_cast<double>(values[i]) - 0.5) * (static_cast<double>(values[i - lag]) - 0.5);
    CHECK(std::abs(sum * 12 / std::sqrt(double(n - lag))) < 4);
  }
}

TEST_CASE_TEMPLATE("normal numbers have the moments and the distribution of N(0, 1)", T, float,
                   double) {
  constexpr int64_t n = 1'000'000;
  Generator gen(99);
  const std::vector<T> values = normals<T>(gen, n);
  const auto power = [](int p) { return [p](double x) { return std::pow(x, p); }; };
  const double root = std::sqrt(double(n));
  CHECK(std::abs(average(values, power(1))) < 4 / root);
  CHECK(std::abs(average(values, power(2)) - 1) < 4 * std::sqrt(2.0) / root);
  CHECK(std::abs(average(values, power(3))) < 4 * std::sqrt(15.0) / root);
  CHECK(std::abs(average(values, power(4)) - 3) < 4 * std::sqrt(96.0) / root);
  CHECK(kolmogorov_smirnov(values, [](double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }) <
        1.95);
  double products = 0;  // the two numbers of a pair are independent
  for (size_t i = 0; i + 2 * pairs<T> <= values.size(); i += 2 * pairs<T>)
    for (size_t j = i; j < i + pairs<T>; ++j)
      products += static_cast<double>(values[j]) * static_cast<double>(values[j + pairs<T>]);
  CHECK(std::abs(products) < 4 * std::sqrt(double(n) / 2));
}

TEST_CASE_TEMPLATE("normal numbers are Box and Muller's transform of the uniform ones", T, float,
                   double) {
  constexpr size_t n = 2 * pairs<T> * 500;
  Generator gen(31), same(31);
  const std::vector<T> z = normals<T>(gen, n), u = uniforms<T>(same, n);
  const double step = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
  const auto close = [](T value, double expected) {
    return std::abs(static_cast<double>(value) - expected) <=
           8 * std::numeric_limits<T>::epsilon() * std::abs(expected);
  };
  for (size_t i = 0; i < n; i += 2 * pairs<T>) {
    for (size_t j = i; j < i + pairs<T>; ++j) {
      const double radius = std::sqrt(-2 * std::log(static_cast<double>(u[j]) + step));
      const double quarters = 4 * static_cast<double>(u[j + pairs<T>]),
                   whole = std::floor(quarters);
      const double rest = (quarters - whole - 0.5) * std::numbers::pi / 2;
      double x = radius * std::cos(rest), y = radius * std::sin(rest);
      if (whole == 1 || whole == 3) std::swap(x, y);
      if (whole >= 2) x = -x, y = -y;
      REQUIRE(close(z[j], x));
      REQUIRE(close(z[j + pairs<T>], y));
    }
  }
}

TEST_CASE("the smallest and the largest uniform number make finite normal ones") {
  Generator gen;
  gen.set_state({1, 16'902'731});  // the first word of this block starts with 24 zeros
  CHECK(uniforms<float>(gen, 1)[0] == 0);
  gen.set_state({1, 16'902'731});
  const std::vector<float> far = normals<float>(gen, 64);
  CHECK(std::hypot(far[0], far[32]) ==
        doctest::Approx(std::sqrt(48 * std::log(2.0))).epsilon(1e-6));
  gen.set_state({1, 8'418'514});  // and of this one with 24 ones
  CHECK(uniforms<float>(gen, 1)[0] == 1 - 0x1p-24f);
  gen.set_state({1, 8'418'514});
  const std::vector<float> near = normals<float>(gen, 64);
  CHECK(std::hypot(near[0], near[32]) == 0);
}

TEST_CASE("bernoulli keeps its probability, and 0 and 1 are certain") {
  constexpr int64_t n = 1'000'000;
  Generator gen(8);
  for (const double p : {0.5, 0.1, 0.999, 1e-4}) {
    const double deviation = std::sqrt(p * (1 - p) / double(n));
    CHECK(std::abs(average(coins(gen, n, p), [](double x) { return x; }) - p) < 4 * deviation);
  }
  CHECK(coins(gen, n, 0) == std::vector<int>(n, 0));
  CHECK(coins(gen, n, 1) == std::vector<int>(n, 1));
}

TEST_CASE("the numbers are the same for any number of threads") {
  const auto everything = [](int threads) {
    const NumThreads guard(threads);
    Generator gen(77);
    constexpr int64_t n = 100'003;  // several tiles, the last one partly filled
    const std::vector<double> d = normals<double>(gen, n);
    const std::vector<float> f = normals<float>(gen, n);
    std::vector<double> all = uniforms<double>(gen, n);
    all.insert(all.end(), d.begin(), d.end());
    all.insert(all.end(), f.begin(), f.end());
    for (const float u : uniforms<float>(gen, n)) all.push_back(u);
    for (const int coin : coins(gen, n, 0.3)) all.push_back(coin);
    return all;
  };
  const std::vector<double> one = everything(1);
  for (const int threads : {2, 3, 8}) CHECK(same_bits(everything(threads), one));
}

TEST_CASE("the numbers are the same on every instruction set") {
  const auto everything = [] {
    Generator gen(78);
    constexpr int64_t n = 10'003;
    std::vector<double> all = normals<double>(gen, n);
    for (const float z : normals<float>(gen, n)) all.push_back(z);
    for (const double u : uniforms<double>(gen, n)) all.push_back(u);
    for (const float u : uniforms<float>(gen, n)) all.push_back(u);
    return all;
  };
  const simd::Isa before = simd::isa();
  const std::vector<double> widest = everything();
  for (const simd::Isa lower : {simd::Isa::avx2, simd::Isa::baseline}) {
    if (lower >= before) continue;
    simd::detail::current_isa = lower;
    CHECK(same_bits(everything(), widest));
  }
  simd::detail::current_isa = before;
}

TEST_CASE("state and set_state replay exactly, also halfway") {
  Generator gen(12);
  uniforms<float>(gen, 77);
  const Generator::State saved = gen.state();
  const auto draw = [](Generator& from) {
    std::vector<double> all = normals<double>(from, 1001);
    all.push_back(from.uniform());
    all.push_back(static_cast<double>(from.bounded(1000)));
    for (const int64_t i : permutation(50, from)) all.push_back(static_cast<double>(i));
    for (const int coin : coins(from, 33, 0.5)) all.push_back(coin);
    return all;
  };
  const std::vector<double> first = draw(gen);
  const Generator::State after = gen.state();
  Generator other;
  other.set_state(saved);
  CHECK(draw(other) == first);
  CHECK(other.state() == after);
  CHECK(draw(other) != first);
  gen.seed(12);
  CHECK(gen.state() == Generator::State{12, 0});
}

TEST_CASE("consecutive draws share nothing, and seeds make different streams") {
  Generator gen(6), other(7);
  std::vector<double> all;
  for (const int64_t n : {1000, 1, 33, 0, 64, 20'000})
    for (const double value : uniforms<double>(gen, n)) all.push_back(value);
  for (const double value : uniforms<double>(other, 1000)) all.push_back(value);
  for (int i = 0; i < 100; ++i) all.push_back(gen.uniform());
  std::sort(all.begin(), all.end());
  CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());

  Generator copy = gen;
  CHECK(copy.next() == gen.next());
  const uint64_t offset = gen.state().offset;
  const PhiloxBlock block = detail::philox(6, offset);
  CHECK(gen.next() == (uint64_t{block[0]} << 32 | block[1]));
  CHECK(gen.state().offset == offset + 1);
}

TEST_CASE("a shorter fill is the beginning of a longer one") {
  for (const int64_t n : {1, 31, 64, 65, 16'384, 16'390}) {
    Generator a(3), b(3);
    const std::vector<float> part = normals<float>(a, n), whole = normals<float>(b, 40'000);
    CHECK(std::equal(part.begin(), part.end(), whole.begin()));
  }
}

TEST_CASE("no block is lost or given twice when eight threads draw from one generator") {
  constexpr uint64_t draws = 1'000'000;  // long enough for the threads to meet
  Generator shared;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (uint64_t i = 0; i < draws; ++i) shared.reserve(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(shared.state().offset == 8 * draws);
}

TEST_CASE("bounded is uniform below its bound, without the bias of a plain product") {
  Generator gen(14);
  std::array<int, 3> thirds{};  // without rejection every third number would be twice as likely
  constexpr int n = 30'000;
  for (int i = 0; i < n; ++i) {
    const uint64_t value = gen.bounded(uint64_t{3} << 62);
    REQUIRE(value < uint64_t{3} << 62);
    ++thirds[value % 3];
  }
  for (const int count : thirds) CHECK(std::abs(count - n / 3) < 4 * std::sqrt(n * 2 / 9.0));
  std::array<int, 5> fifths{};
  for (int i = 0; i < n; ++i) ++fifths[gen.bounded(5)];
  for (const int count : fifths) CHECK(std::abs(count - n / 5) < 4 * std::sqrt(n * 4 / 25.0));
  CHECK(gen.bounded(1) == 0);
}

TEST_CASE("a permutation has each number once, and every order is equally likely") {
  Generator gen(15);
  CHECK(permutation(0, gen).empty());
  CHECK(permutation(1, gen) == std::vector<int64_t>{0});
  std::vector<int64_t> order = permutation(10'000, gen), sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> expected(10'000);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(sorted == expected);
  CHECK(order != expected);

  constexpr int samples = 48'000, orders = 24;
  std::array<int, 4 * 4 * 4 * 4> counts{};
  for (int i = 0; i < samples; ++i) {
    size_t key = 0;
    for (const int64_t index : permutation(4, gen)) key = key * 4 + static_cast<size_t>(index);
    ++counts[key];
  }
  double chi_square = 0;
  for (const int count : counts)
    if (count > 0) chi_square += std::pow(count - samples / orders, 2) * orders / samples;
  CHECK(std::count(counts.begin(), counts.end(), 0) == 256 - orders);
  CHECK(chi_square < 49.7);  // 23 degrees of freedom: exceeded once in a thousand
}

TEST_CASE("manual_seed restarts the default generator, which is one for the process") {
  manual_seed(123);
  const std::vector<int64_t> order = permutation(20);
  CHECK(default_generator().state().offset > 0);
  std::thread([] { default_generator().next(); }).join();
  const uint64_t after = default_generator().state().offset;
  manual_seed(123);
  CHECK(default_generator().state() == Generator::State{123, 0});
  CHECK(permutation(20) == order);
  default_generator().next();
  CHECK(default_generator().state().offset == after);
}

TEST_CASE("impossible parameters are refused before anything is drawn") {
  Generator gen(1);
  for (const double p : {-0.1, 1.1, kNan, kInf})
    CHECK_THROWS_AS(bernoulli({2}, p, gen), ValueError);
  CHECK(refusal<DtypeError>([&] { rand({2}, int64, gen); }) ==
        "rand: the input is int64: need float32 or float64 (use to())");
  CHECK(refusal<ShapeError>([&] { randn({-1}, float32, gen); }) ==
        "randn: shape [-1] has a negative size");
  CHECK(refusal<ValueError>([&] { randint(2, 2, {3}, gen); }) ==
        "randint: [2, 2) is empty: need low < high");
  CHECK(refusal<ValueError>([&] { gen.bounded(0); }) ==
        "bounded: n is 0: there is no number below it");
  CHECK(refusal<ValueError>([&] { bernoulli({2}, 1.5, gen); }) ==
        "bernoulli: p is 1.5: need 0 <= p <= 1");
  CHECK(refusal<ValueError>([&] { randperm(-1, gen); }) == "randperm: n is -1: need n >= 0");
  CHECK(gen.state() == Generator::State{1, 0});
}
