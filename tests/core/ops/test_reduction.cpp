#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "support.hpp"

using namespace descent;

namespace {

/// Numbers in [-2, 2) in steps of 1/64, so that extremes have ties.
Tensor with_ties(const Shape& shape, DType dtype, unsigned seed = 1) {
  std::mt19937 random(seed);
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  std::vector<double> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<int>(random() % 256) / 64.0 - 2);
  return tensor(values, shape, float64).to(dtype);
}

/// The elements behind one element of a result, in the type of the reference.
using Group = std::vector<long double>;

/// The elements behind each element of the result of a reduction over the axes in `mask`.
std::vector<Group> groups(const Tensor& x, unsigned mask) {
  const std::vector<double> flat = values(x);
  std::vector<Group> result;
  int64_t results = 1;
  for (int d = 0; d < x.dim(); ++d)
    if (!(mask >> d & 1)) results *= x.shape()[d];
  result.resize(static_cast<std::size_t>(results));
  for (std::size_t i = 0; i < flat.size(); ++i) {
    auto rest = static_cast<int64_t>(i);
    int64_t group = 0, step = 1;
    for (int d = x.dim() - 1; d >= 0; --d) {
      const int64_t index = rest % x.shape()[d];
      rest /= x.shape()[d];
      if (mask >> d & 1) continue;
      group += index * step;
      step *= x.shape()[d];
    }
    result[static_cast<std::size_t>(group)].push_back(flat[i]);
  }
  return result;
}

Dims dims_of(unsigned mask, int rank) {
  Dims dims{};
  for (int d = 0; d < rank; ++d)
    if (mask >> d & 1) dims.push_back(d % 2 == 0 ? d : d - rank);
  return dims;
}

Shape reduced_shape(const Shape& shape, unsigned mask, bool keepdim) {
  Shape result;
  for (int d = 0; d < shape.rank(); ++d) {
    if (!(mask >> d & 1)) result.push_back(shape[d]);
    else if (keepdim) result.push_back(1);
  }
  return result;
}

using X = const Tensor&;
using D = const Dims&;
using V = const Group&;

long double power_sum(V v, long double p) {
  long double s = 0;
  for (long double x : v) s += std::pow(std::abs(x), p);
  return s;
}
long double sum_of(V v) { return std::accumulate(v.begin(), v.end(), 0.0L); }
long double mean_of(V v) { return sum_of(v) / static_cast<long double>(v.size()); }
long double largest(V v) { return *std::max_element(v.begin(), v.end()); }
long double smallest(V v) { return *std::min_element(v.begin(), v.end()); }
long double variance(V v, double correction) {
  const long double mean = mean_of(v);
  long double s = 0;
  for (long double x : v) s += (x - mean) * (x - mean);
  return s / std::max(0.0L, static_cast<long double>(v.size()) - correction);
}
long double log_sum_exp(V v) {
  long double s = 0;
  for (long double x : v) s += std::exp(x);
  return std::log(s);
}

struct Case {
  const char* name;
  Tensor (*computed)(X x, D dims, bool keepdim);
  long double (*expected)(V v);
  bool needs_elements;
};
constexpr Case kCases[] = {
    {"sum", [](X x, D d, bool k) { return sum(x, d, k); }, sum_of, false},
    {"mean", [](X x, D d, bool k) { return mean(x, d, k); }, mean_of, false},
    {"max", [](X x, D d, bool k) { return max(x, d, k); }, largest, true},
    {"min", [](X x, D d, bool k) { return min(x, d, k); }, smallest, true},
    {"var", [](X x, D d, bool k) { return var(x, d, k); }, [](V v) { return variance(v, 1); },
     true},
    {"var of the population", [](X x, D d, bool k) { return var(x, d, k, {.correction = 0}); },
     [](V v) { return variance(v, 0); }, true},
    {"2-norm", [](X x, D d, bool k) { return norm(x, d, k); },
     [](V v) { return std::sqrt(power_sum(v, 2)); }, false},
    {"1-norm", [](X x, D d, bool k) { return norm(x, d, k, {.p = 1}); },
     [](V v) { return power_sum(v, 1); }, false},
    {"2.5-norm", [](X x, D d, bool k) { return norm(x, d, k, {.p = 2.5}); },
     [](V v) { return std::pow(power_sum(v, 2.5L), 1 / 2.5L); }, false},
    {"largest norm", [](X x, D d, bool k) { return norm(x, d, k, {.p = kInf}); },
     [](V v) { return std::max(largest(v), -smallest(v)); }, true},
    {"logsumexp", [](X x, D d, bool k) { return logsumexp(x, d, k); }, log_sum_exp, false},
};

bool same(double a, long double b, double tolerance) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == static_cast<double>(b) || std::abs(a - b) <= tolerance;
}

void check_case(const Case& c, const Tensor& x, unsigned mask, bool keepdim) {
  const auto expected = groups(x, mask);
  const Dims dims = dims_of(mask, x.dim());
  CAPTURE(c.name);
  CAPTURE(str(x.shape()));
  CAPTURE(str(x.strides()));
  CAPTURE(str(dims));
  const std::size_t n = expected.empty() ? 0 : expected[0].size();
  if (n == 0 && c.needs_elements) return;
  const Tensor y = c.computed(x, dims, keepdim);
  REQUIRE(y.shape() == reduced_shape(x.shape(), mask, keepdim));
  REQUIRE(y.dtype() == x.dtype());
  const std::vector<double> values = y.to_vector<double>();
  REQUIRE(values.size() == expected.size());
  const double eps = x.dtype() == float64 ? 2.3e-16 : 1.2e-7;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const long double want = c.expected(expected[i]);
    const double scale = c.expected == sum_of ? static_cast<double>(power_sum(expected[i], 1)) : 2;
    const double tolerance = 8 * eps * std::max(1.0, std::log2(n)) *
                             std::max(scale, static_cast<double>(std::abs(want)));
    if (!same(values[i], want, tolerance)) {
      FAIL_CHECK("element " << i << " is " << values[i] << ", want " << static_cast<double>(want));
      return;
    }
  }
}

/// The tensor itself and other layouts of such a shape: transposed, every other element, repeated.
std::vector<Tensor> layouts(const Shape& shape, DType dtype) {
  std::vector<Tensor> result{with_ties(shape, dtype)};
  if (shape.rank() < 2) return result;
  Shape turned = shape;
  std::swap(turned[0], turned[shape.rank() - 1]);
  result.push_back(with_ties(turned, dtype, 2).transpose(0, -1));
  Shape wide = shape;
  wide[shape.rank() - 1] *= 2;
  result.push_back(slice(with_ties(wide, dtype, 3), -1, 0, INT64_MAX, 2));
  Shape thin = shape;
  thin[1] = 1;
  result.push_back(with_ties(thin, dtype, 4).expand(shape));
  return result;
}

}  // namespace

TEST_CASE("every reduction over every choice of axes of every layout equals a plain loop") {
  for (const Shape& shape : {Shape{},
                             {1},
                             {0},
                             {5},
                             {31},
                             {32},
                             {33},
                             {97},
                             {3, 4},
                             {1, 7},
                             {7, 1},
                             {2, 3, 4},
                             {2, 0, 3},
                             {4, 1, 3, 2},
                             {2, 3, 2, 3, 2},
                             {3, 130},
                             {70, 40}})
    for (DType dtype : {float32, float64})
      for (const Tensor& x : layouts(shape, dtype))
        for (unsigned mask = shape.rank() == 0 ? 0 : 1; mask < 1U << shape.rank(); ++mask)
          for (const Case& c : kCases) check_case(c, x, mask, mask % 2 == 0);
}

TEST_CASE("reductions that take several tiles equal a plain loop") {
  for (const Shape& shape : {Shape{70000},
                             {2, 33000},
                             {33000, 2},
                             {1500, 130},
                             {3, 1100, 5},
                             {1025, 2, 33},
                             {40, 7, 300},
                             {1, 32769, 1}})
    for (const Tensor& x : {with_ties(shape, float32), with_ties(shape, float64)})
      for (unsigned mask = 1; mask < 1U << shape.rank(); ++mask)
        for (const Case& c : kCases) check_case(c, x, mask, false);
}

TEST_CASE("a sum of many equal or alternating numbers keeps the stated error bound") {
  constexpr int64_t n = (1 << 24) + 12345;
  const double eps = std::numeric_limits<float>::epsilon(), bound = 8 * eps * std::log2(n);
  const Tensor tenths = full({n}, 0.1F);
  const double exact = n * static_cast<double>(0.1F);
  CHECK(std::abs(sum(tenths).item() - exact) <
        bound / 10 * exact);  // equal values are no worst case
  CHECK(std::abs(mean(tenths).item() - 0.1F) < bound / 10 * 0.1);
  const Tensor columns = sum(tenths.narrow(0, 0, n / 5 * 5).reshape({-1, 5}), 0);
  for (double column : values(columns))
    CHECK(std::abs(column - exact / 5) < bound / 10 * exact / 5);

  std::vector<float> alternating(static_cast<std::size_t>(n));
  long double sum_abs = 0, real = 0;
  for (std::size_t i = 0; i < alternating.size(); ++i) {
    alternating[i] = (i % 2 == 0 ? 1e8F : -1e8F) + static_cast<float>(i % 1000) * 8;
    real += alternating[i];
    sum_abs += std::abs(alternating[i]);
  }
  CHECK(std::abs(sum(tensor(alternating, float64)).item() - real) < bound * sum_abs);
}

TEST_CASE("whole numbers add up exactly, and bools are counted") {
  const Tensor x = with_ties({500, 130}, int64);
  CHECK(sum(x).dtype() == int64);
  CHECK(sum(x).item() == sum_of(groups(x, 3)[0]));
  CHECK(max(x).item() == 1);
  CHECK(min(x).item() == -2);
  const int64_t large = int64_t{1} << 60;
  CHECK(sum(tensor({large, int64_t{1}, -large})).item<int64_t>() == 1);

  const Tensor positive = with_ties({70, 300}, float32) > 0;
  CHECK(sum(positive).dtype() == int64);
  CHECK(sum(positive, 1).to_vector<int>() == sum(positive.to(int64), 1).to_vector<int>());
  CHECK(any(tensor({{0., 2.}, {0., 0.}}), 1).to_vector<bool>() == Bools{true, false});
  CHECK(all(tensor({{1., 2.}, {3., 0.}}), 1).to_vector<bool>() == Bools{true, false});
  CHECK(all(zeros({0})).item<bool>());
  CHECK_FALSE(any(zeros({0})).item<bool>());
}

TEST_CASE("sum_to counts bools to whole numbers, whether or not the shape changes") {
  const Tensor x = tensor({true, false, true});
  for (const Shape& shape : {Shape{3}, Shape{1}, Shape{}}) {
    CAPTURE(str(shape));
    CHECK(sum_to(x, shape).dtype() == int64);
  }
  CHECK(ints(sum_to(x, {3})) == Ints{1, 0, 1});
  CHECK(ints(sum_to(x, {1})) == Ints{2});
}

TEST_CASE("any number of threads gives the same bits") {
  const NumThreads restored(1);
  for (const Shape& shape : {Shape{200000}, {300, 700}, {70000, 3}, {40, 30, 50}, {2, 100000}}) {
    const Tensor x = with_ties(shape, float32) * 1.1;
    std::vector<Values> first;
    for (int threads : {1, 2, 3, 8}) {
      set_num_threads(threads);
      std::vector<Values> now;
      for (const Case& c : kCases)
        for (unsigned mask = 1; mask < 1U << shape.rank(); ++mask)
          now.push_back(c.computed(x, dims_of(mask, x.dim()), false).to_vector<double>());
      for (int d = 0; d < x.dim(); ++d) {
        now.push_back(argmax(x, d).to_vector<double>());
        now.push_back(softmax(x, d).to_vector<double>());
        now.push_back(log_softmax(x, d).to_vector<double>());
      }
      if (first.empty()) first = now;
      REQUIRE(now.size() == first.size());
      for (std::size_t i = 0; i < now.size(); ++i) CHECK(same_bits(now[i], first[i]));
    }
  }
}

TEST_CASE("without elements a sum is 0, a mean NaN, and an extreme an error") {
  const Tensor x = zeros({2, 0, 3});
  CHECK(sum(x).item() == 0);
  CHECK(sum(x, 1).to_vector<int>() == std::vector<int>(6, 0));
  CHECK(sum(x, 0).shape() == Shape{0, 3});
  CHECK(std::isnan(mean(x).item()));
  CHECK(std::isnan(values(mean(x, 1))[5]));
  CHECK(std::isnan(var(x).item()));
  CHECK(std::isnan(var(ones({1})).item()));
  CHECK(norm(x).item() == 0);
  CHECK(logsumexp(x, 1).to_vector<double>() == std::vector<double>(6, -kInf));
  CHECK(max(x, 0).shape() == Shape{0, 3});
  CHECK(argmax(x, 2).shape() == Shape{2, 0});
  const std::string rule = ": no element of [2, 0, 3] to choose from: need at least one";
  CHECK(refusal<ShapeError>([&] { max(x); }) == "max" + rule);
  CHECK(refusal<ShapeError>([&] { min(x, 1); }) == "min" + rule);
  CHECK(refusal<ShapeError>([&] { argmax(x); }) == "argmax" + rule);
  CHECK(refusal<ShapeError>([&] { argmin(x, 1); }) == "argmin" + rule);
  CHECK(refusal<ShapeError>([&] { norm(x, 1, {.p = kInf}); }) == "norm" + rule);
}

TEST_CASE("wrong axes, dtypes and options are named") {
  const Tensor x = zeros({2, 3});
  CHECK(refusal<ShapeError>([&] {
          sum(x, {1, -1});
        }) == "sum: dims [1, -1] of a tensor [2, 3] name an axis twice");
  CHECK(refusal<IndexError>([&] { mean(x, 2); }) ==
        "mean: dim 2 is out of range for rank 2: need -2..1");
  CHECK_THROWS_AS(argmax(x, -3), IndexError);
  CHECK_THROWS_AS(softmax(x, 2), IndexError);
  CHECK(refusal<DtypeError>([&] { mean(x.to(int64)); }) ==
        "mean: the input is int64: need float32 or float64 (use to())");
  CHECK_THROWS_AS(var(x.to(int64)), DtypeError);
  CHECK_THROWS_AS(norm(x.to(boolean)), DtypeError);
  CHECK_THROWS_AS(logsumexp(x.to(int64), 0), DtypeError);
  CHECK_THROWS_AS(softmax(x.to(int64)), DtypeError);
  CHECK(refusal<DtypeError>([&] { max(x.to(boolean)); }) ==
        "max: the input is bool: need float32, float64 or int64 (use to())");
  CHECK(refusal<ValueError>([&] { norm(x, 0, {.p = 0}); }) ==
        "norm: p is 0: need a number above 0");
  CHECK_THROWS_AS(norm(x, 0, {.p = kNan}), ValueError);
  CHECK(refusal<ShapeError>([&] { sum_to(x, {2}); }) ==
        "sum_to: [2] does not broadcast to [2, 3]: only axes of size 1 repeat");
  CHECK(refusal<ValueError>([&] { sum(Tensor()); }) ==
        "sum: an input is an undefined tensor (as a gradient is before backward())");
  CHECK(sum(tensor(3.), -1).item() == 3);
  CHECK(refusal<IndexError>([&] { sum(tensor(3.), 1); }) ==
        "sum: dim 1 is out of range for rank 0: need -1..0");
}

TEST_CASE("argmax and argmin give the first of equal extremes") {
  for (const Shape& shape :
       {Shape{}, {1}, {97}, {3, 4}, {40, 50}, {2, 33000}, {33000, 2}, {5, 40, 6}})
    for (const Tensor& x : layouts(shape, shape.rank() == 1 ? int64 : float32)) {
      const std::vector<Group> flat = groups(x, (1U << shape.rank()) - 1);
      auto first = [](const Group& v, int sign) {
        std::size_t best = 0;
        for (std::size_t i = 1; i < v.size(); ++i)
          if (sign * v[i] > sign * v[best]) best = i;
        return static_cast<int64_t>(best);
      };
      CHECK(argmax(x).item<int64_t>() == first(flat[0], 1));
      CHECK(argmin(x).item<int64_t>() == first(flat[0], -1));
      for (int d = 0; d < shape.rank(); ++d) {
        std::vector<int64_t> largest_at, smallest_at;
        for (const Group& v : groups(x, 1U << d)) {
          largest_at.push_back(first(v, 1));
          smallest_at.push_back(first(v, -1));
        }
        CHECK(argmax(x, d).to_vector<int64_t>() == largest_at);
        CHECK(argmin(x, d - shape.rank(), true).to_vector<int64_t>() == smallest_at);
        CHECK(argmin(x, d, true).shape() == reduced_shape(shape, 1U << d, true));
      }
    }
}

TEST_CASE("one NaN anywhere makes an extreme NaN, and argmax finds it") {
  for (int64_t n : {1, 2, 31, 32, 33, 64, 100, 1100})
    for (int64_t at = 0; at<n; at += n> 100 ? 37 : 1)
      for (double last : {-kInf, kNan}) {
        Values elements(static_cast<std::size_t>(n), 1);
        elements.front() = kInf;
        elements.back() = last;
        elements[static_cast<std::size_t>(at)] = kNan;
        const Tensor row = tensor(elements, {1, n}, float64),
                     column = tensor(elements, {n, 1}, float64).expand({n, 40});
        for (const Tensor& y : {max(row, 1), min(row, 1), max(column, 0), min(column, 0)})
          for (double v : values(y)) CHECK(std::isnan(v));
        CHECK(argmax(row).item<int64_t>() == at);
        CHECK(argmin(column, 0).to_vector<int64_t>() == std::vector<int64_t>(40, at));
      }
}

TEST_CASE("sum_to undoes every broadcast, and its own gradient is the broadcast") {
  for (const Shape& shape : {Shape{}, {1}, {4}, {3, 1}, {1, 4}, {2, 1, 4}, {2, 3, 4}, {1, 1, 1}}) {
    const Tensor x = with_ties({2, 3, 4}, float64).requires_grad_();
    unsigned mask = 0;
    const int in_front = 3 - shape.rank();
    for (int d = 0; d < 3; ++d)
      if (d < in_front || shape[d - in_front] == 1) mask |= 1U << d;
    const Tensor y = sum_to(x, shape);
    CHECK(y.shape() == shape);
    const auto expected = groups(x, mask);
    const std::vector<double> values = y.to_vector<double>();
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == sum_of(expected[i]));
    const Tensor g = with_ties(shape, float64, 5);
    CHECK(grad({y}, {x}, {}, {g})[0].to_vector<double>() ==
          g.expand({2, 3, 4}).to_vector<double>());
  }
}

TEST_CASE("softmax and log_softmax equal a plain loop along every axis of every layout") {
  for (const Shape& shape : {Shape{},
                             {1},
                             {0},
                             {5},
                             {3, 0},
                             {0, 3},
                             {3, 4},
                             {300, 10},
                             {7, 1},
                             {2, 3, 4},
                             {3, 130},
                             {2, 9000},
                             {9000, 2},
                             {5, 70, 3}})
    for (DType dtype : {float32, float64})
      for (const Tensor& x : layouts(shape, dtype))
        for (int d = 0; d < std::max(shape.rank(), 1); ++d) {
          CAPTURE(str(shape));
          CAPTURE(d);
          const Tensor y = softmax(x, d), z = log_softmax(x, d - std::max(shape.rank(), 1));
          REQUIRE(y.shape() == shape);
          REQUIRE(z.shape() == shape);
          REQUIRE(y.is_contiguous());
          const double eps = dtype == float64 ? 2.3e-16 : 1.2e-7;
          const auto rows = groups(x, 1U << d), logs = groups(z, 1U << d), p = groups(y, 1U << d);
          bool right = true;
          for (std::size_t r = 0; r < rows.size(); ++r) {
            const long double whole = rows[r].empty() ? 0 : log_sum_exp(rows[r]);
            for (std::size_t i = 0; i < rows[r].size(); ++i) {
              const long double want = rows[r][i] - whole;
              right &= std::abs(logs[r][i] - want) <= 8 * eps * std::max(1.0L, std::abs(want));
              right &= std::abs(p[r][i] / std::exp(want) - 1) <= 20 * eps;
            }
          }
          CHECK(right);
        }
  CHECK(softmax(tensor({0., 0.})).to_vector<double>() == Values{0.5, 0.5});
  CHECK(log_softmax(tensor({{0.}, {7.}})).to_vector<double>() == Values{0, 0});
}

TEST_CASE("huge logits give finite values and gradients; a row without a number gives NaN") {
  for (double huge : {88., 89., 1e4, 1e30}) {
    CAPTURE(huge);
    const Tensor x =
        tensor({{huge, -huge, 0.}, {huge, huge, -huge}, {-huge, -huge, -huge}}).requires_grad_();
    for (const Tensor& y : {softmax(x), exp(log_softmax(x))}) {
      const std::vector<double> values = y.to_vector<double>();
      CHECK(values[0] == 1);
      CHECK(values[3] == 0.5);
      CHECK(values[6] == doctest::Approx(1 / 3.).epsilon(1e-6));
      for (double g : grad({y}, {x}, {}, {y.detach()})[0].to_vector<double>())
        CHECK(std::isfinite(g));
    }
    CHECK(values(log_softmax(x))[4] == doctest::Approx(-std::log(2.)).epsilon(1e-6));
    CHECK(values(logsumexp(x, 1))[0] == doctest::Approx(huge).epsilon(1e-6));
    for (double g : grad({sum(logsumexp(x, 1))}, {x})[0].to_vector<double>())
      CHECK(std::isfinite(g));
  }
  const Tensor rows = tensor({{-kInf, -kInf}, {kInf, 0.}, {kNan, 0.}, {-kInf, 0.}});
  for (const Tensor& y : {softmax(rows), log_softmax(rows)})
    for (std::size_t i = 0; i < 6; ++i) CHECK((std::isnan(values(y)[i]) || i == 3));
  CHECK(values(softmax(rows))[6] == 0);
  CHECK(values(softmax(rows))[7] == 1);
  CHECK(values(log_softmax(rows))[6] == -kInf);
  CHECK(values(log_softmax(rows))[7] == 0);
  CHECK(values(logsumexp(rows, 1))[0] == -kInf);
  CHECK(values(logsumexp(rows, 1))[1] == kInf);
}

TEST_CASE("more than 2^31 elements are reduced right" * doctest::skip()) {  // 9 GB: --no-skip
  constexpr int64_t n = (int64_t{1} << 31) + 16;
  const Tensor x = full({n}, 0.5);
  x.mutable_data<float>()[n - 2] = 100;
  CHECK(sum(x).item() == doctest::Approx(0.5 * n).epsilon(1e-6));
  CHECK(max(x).item() == 100);
  CHECK(argmax(x).item<int64_t>() == n - 2);
  CHECK(sum(x.reshape({n / 8, 8}), 0).shape() == Shape{8});
}
