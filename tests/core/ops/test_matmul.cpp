#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "support.hpp"

using namespace descent;

namespace {

// ---- operands

/// Numbers in [-1, 1), the same ones for the same seed.
Tensor numbers(const Shape& shape, DType dtype, uint64_t seed) {
  Tensor t = empty(shape, float64);
  double* p = t.mutable_data<double>();
  uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  for (int64_t i = 0; i < t.numel(); ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    p[i] = static_cast<double>(static_cast<int64_t>(state) >> 20) / static_cast<double>(1LL << 43);
  }
  return to(t, dtype);
}

Shape swapped(Shape s) {
  if (s.rank() > 1) std::swap(s[s.rank() - 1], s[s.rank() - 2]);
  return s;
}
/// `shape` with another last size.
Shape with_last(Shape shape, int64_t size) {
  shape[shape.rank() - 1] = size;
  return shape;
}

// Ways for a tensor of `shape` to lie in memory.
using Layout = Tensor (*)(const Shape& shape, DType, uint64_t seed);

Tensor transposed(const Shape& shape, DType dtype, uint64_t seed) {
  const Tensor x = numbers(swapped(shape), dtype, seed);
  return x.dim() > 1 ? x.transpose(-1, -2) : x;
}
Tensor gapped(const Shape& shape, DType dtype, uint64_t seed) {
  return numbers(with_last(shape, shape.back() + 3), dtype, seed).narrow(-1, 1, shape.back());
}
Tensor gapped_transposed(const Shape& shape, DType dtype, uint64_t seed) {
  const Tensor x = gapped(swapped(shape), dtype, seed);
  return x.dim() > 1 ? x.transpose(-1, -2) : x;
}
Tensor every_second(const Shape& shape, DType dtype, uint64_t seed) {
  return slice(numbers(with_last(shape, 2 * shape.back()), dtype, seed), -1, 0, INT64_MAX, 2);
}
Tensor reversed(const Shape& shape, DType dtype, uint64_t seed) {
  Shape back = shape;
  Dims axes{};
  for (int i = shape.rank() - 1; i >= 0; --i) axes.push_back(i);
  std::reverse(&back[0], &back[0] + back.rank());
  return numbers(back, dtype, seed).permute(axes);
}
Tensor repeated(const Shape& shape, DType dtype, uint64_t seed) {
  return numbers(with_last(shape, std::min<int64_t>(shape.back(), 1)), dtype, seed).expand(shape);
}
constexpr Layout kLayouts[] = {numbers,      transposed, gapped,  gapped_transposed,
                               every_second, reversed,   repeated};

// ---- the reference: the definition, in long double

struct Array {
  Shape shape;
  std::vector<double> v;
  std::vector<double> scale;  // sum |a| |b| of a product
};
Array array(const Tensor& t) { return {t.shape(), t.to_vector<double>(), {}}; }

/// Where the matrix lies that serves the i-th of `batch`, which x's own batch axes broadcast to.
int64_t matrix_start(const Shape& x, const Shape& batch, int64_t i) {
  int64_t start = 0, step = x[x.rank() - 1] * x[x.rank() - 2];
  for (int d = batch.rank() - 1, own = x.rank() - 3; own >= 0; --d, --own) {
    if (x[own] != 1) start += i % batch[d] * step;
    step *= x[own];
    i /= batch[d];
  }
  return start;
}

Array reference(Array a, Array b) {
  const bool row = a.shape.rank() == 1, column = b.shape.rank() == 1;
  if (row) a.shape.insert(0, 1);
  if (column) b.shape.push_back(1);
  Shape batch;
  int64_t count = 1;
  for (int back = std::max(a.shape.rank(), b.shape.rank()); back > 2; --back) {
    const int64_t x = back <= a.shape.rank() ? a.shape[a.shape.rank() - back] : 1;
    const int64_t y = back <= b.shape.rank() ? b.shape[b.shape.rank() - back] : 1;
    batch.push_back(x == 1 ? y : x);
    count *= batch.back();
  }
  const int64_t n = a.shape[a.shape.rank() - 2], k = a.shape.back(), m = b.shape.back();
  Array c{batch, {}, {}};
  if (!row) c.shape.push_back(n);
  if (!column) c.shape.push_back(m);
  for (int64_t i = 0; i < count; ++i) {
    const double* x = a.v.data() + matrix_start(a.shape, batch, i);
    const double* y = b.v.data() + matrix_start(b.shape, batch, i);
    for (int64_t r = 0; r < n; ++r)
      for (int64_t s = 0; s < m; ++s) {
        long double sum = 0, scale = 0;
        for (int64_t l = 0; l < k; ++l) {
          const long double term = static_cast<long double>(x[r * k + l]) * y[l * m + s];
          sum += term;
          scale += std::abs(term);
        }
        c.v.push_back(static_cast<double>(sum));
        c.scale.push_back(static_cast<double>(scale));
      }
  }
  return c;
}

/// The worst error; infinite if one exceeds what rounding allows, (k + 1) eps sum |a| |b|.
double worst_error(const Tensor& got, const Array& want, int64_t k) {
  REQUIRE(got.shape() == want.shape);
  const double eps = got.dtype() == float32 ? std::numeric_limits<float>::epsilon()
                                            : std::numeric_limits<double>::epsilon();
  const std::vector<double> v = got.to_vector<double>();
  double worst = 0;
  for (std::size_t i = 0; i < v.size(); ++i) {
    const double error = std::abs(v[i] - want.v[i]);
    if (!(error <= static_cast<double>(k + 1) * eps * want.scale[i])) worst = INFINITY;
    worst = std::max(worst, error);
  }
  return worst;
}

double distance(const Tensor& a, const Tensor& b) {
  const std::vector<double> v = b.to_vector<double>();
  return worst_error(a, {b.shape(), v, std::vector<double>(v.size(), 1e9)}, 1);
}

int64_t checks = 0;

/// One product, in both dtypes.
void check_product(const Shape& sa, Layout la, const Shape& sb, Layout lb) {
  for (const DType dtype : {float32, float64}) {
    const Tensor a = la(sa, dtype, 1), b = lb(sb, dtype, 2);
    const double worst = worst_error(matmul(a, b), reference(array(a), array(b)), sa.back());
    INFO("a ", str(sa), " by ", str(a.strides()), ", b ", str(sb), " by ", str(b.strides()));
    CHECK(worst < (dtype == float64 ? 1e-13 : 1e-4));
    ++checks;
  }
}

Tensor leaf(const Shape& shape, uint64_t seed) {
  return numbers(shape, float64, seed).requires_grad_();
}

}  // namespace

TEST_CASE("matmul of matrices is the sum of products, for all sizes and ways to lie in memory") {
  checks = 0;
  for (const int64_t n : {0, 1, 2, 3, 17, 64})
    for (const int64_t k : {0, 1, 2, 3, 17, 64})
      for (const int64_t m : {0, 1, 2, 3, 17, 64})
        for (const Layout la : kLayouts)
          for (const Layout lb : kLayouts) check_product({n, k}, la, {k, m}, lb);
  CHECK(checks == 6 * 6 * 6 * 7 * 7 * 2);
}

TEST_CASE("matmul broadcasts the axes before the matrices'") {
  const std::vector<std::pair<Shape, Shape>> batches = {
      {{3}, {3}},       {{3}, {}},        {{}, {3}},     {{1}, {3}},       {{3}, {1}},
      {{2, 3}, {3}},    {{2}, {3, 2}},    {{2, 3}, {}},  {{}, {2, 3}},     {{2, 1}, {1, 3}},
      {{2, 3}, {2, 3}}, {{2, 3}, {2, 1}}, {{2, 1}, {3}}, {{1, 3}, {2, 3}}, {{0}, {1}},
      {{0}, {}},        {{2, 0}, {2, 1}}, {{1, 1}, {}},  {{17}, {17}},     {{64}, {}}};
  const std::vector<std::array<int64_t, 3>> sizes = {{2, 3, 17}, {1, 3, 2}, {3, 1, 1}, {3, 3, 2},
                                                     {17, 2, 3}, {2, 0, 3}, {0, 3, 2}};
  checks = 0;
  for (const auto& [x, y] : batches)
    for (const auto& [n, k, m] : sizes)
      for (const Layout la : kLayouts)
        for (const Layout lb : kLayouts) {
          Shape sa = x, sb = y;
          for (const int64_t size : {n, k}) sa.push_back(size);
          for (const int64_t size : {k, m}) sb.push_back(size);
          check_product(sa, la, sb, lb);
        }
  CHECK(checks == 20 * 7 * 7 * 7 * 2);
}

TEST_CASE("a vector is a row on the left and a column on the right, and its axis goes away") {
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{3}, {3}},          {{1}, {1}},          {{0}, {0}},    {{64}, {64}},     {{17}, {17, 3}},
      {{3, 17}, {17}},     {{0}, {0, 3}},       {{2, 3}, {3}}, {{3}, {2, 3, 5}}, {{2, 3, 5}, {5}},
      {{2, 3, 4, 5}, {5}}, {{4}, {2, 3, 4, 5}}, {{3}, {3, 0}}, {{0, 3}, {3}},    {{1, 1, 3}, {3}}};
  checks = 0;
  for (const auto& [sa, sb] : shapes)
    for (const Layout la : kLayouts)
      for (const Layout lb : kLayouts) check_product(sa, la, sb, lb);
  CHECK(checks == 15 * 7 * 7 * 2);
}

TEST_CASE("products that are cut into many tiles are right at every seam") {
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{64, 784}, {784, 128}},      {{128, 64}, {64, 784}},       {{1000, 70}, {70, 300}},
      {{1, 3000}, {3000, 999}},     {{5000, 70}, {70}},           {{7, 20011}, {20011, 9}},
      {{40001}, {40001}},           {{1001, 4, 5}, {5, 4}},       {{1001, 4, 5}, {1001, 5, 4}},
      {{2, 6, 9001}, {2, 9001, 5}}, {{3, 130, 90}, {3, 90, 140}}, {{700, 33}, {33, 1100}}};
  for (const auto& shape : shapes)
    for (const Layout layout : {numbers, transposed, every_second}) {
      const Tensor a = layout(shape.first, float64, 3), b = layout(shape.second, float64, 4);
      CAPTURE(str(shape.first));
      CHECK(worst_error(matmul(a, b), reference(array(a), array(b)), a.size(-1)) < 1e-11);
    }
}

TEST_CASE("a transposed or sliced view gives what a contiguous copy gives") {
  const Tensor w = numbers({128, 784}, float32, 1), x = numbers({64, 784}, float32, 2);
  const Tensor part = numbers({64, 800}, float32, 3).narrow(1, 5, 784);
  CHECK(distance(matmul(x, w.t()), matmul(x, w.t().contiguous())) < 784 * 1.2e-7);
  CHECK(distance(matmul(w, x.t()), matmul(w, x.t().contiguous())) < 784 * 1.2e-7);
  // The rows of a slice are read by the same kernel in the same order: the same bits.
  CHECK(same_bits(matmul(part, w.t()), matmul(part.contiguous(), w.t())));
  CHECK(same_bits(linear(part, w), linear(part.contiguous(), w)));
}

TEST_CASE("linear is x weight^T + bias, for any number of axes before the last") {
  checks = 0;
  for (const DType dtype : {float32, float64})
    for (const Shape& shape : {Shape{17}, Shape{3, 17}, Shape{2, 3, 17}, Shape{2, 1, 3, 17},
                               Shape{0, 17}, Shape{300, 17}, Shape{2, 0, 17}})
      for (const Layout lx : kLayouts)
        for (const Layout lw : kLayouts)
          for (const int64_t out : {1, 5, 300}) {
            const Tensor x = lx(shape, dtype, 1), w = lw({out, 17}, dtype, 2);
            const Tensor b = lx({out}, dtype, 3);
            Array want = reference(array(x), array(w.t()));
            CHECK(worst_error(linear(x, w), want, 17) < (dtype == float64 ? 1e-13 : 1e-4));
            const std::vector<double> bias = b.to_vector<double>();
            for (std::size_t i = 0; i < want.v.size(); ++i) {
              want.v[i] += bias[i % bias.size()];
              want.scale[i] += std::abs(bias[i % bias.size()]);
            }
            CHECK(worst_error(linear(x, w, b), want, 18) < (dtype == float64 ? 1e-13 : 1e-4));
            ++checks;
          }
  CHECK(checks == 2 * 7 * 7 * 7 * 3);
  CHECK(same_bits(linear(zeros({2, 0}), zeros({3, 0}), tensor({1., 2., 3.})),
                  tensor({{1., 2., 3.}, {1., 2., 3.}})));
  CHECK(same_bits(linear(zeros({2, 0}), zeros({3, 0})), zeros({2, 3})));
}

TEST_CASE("linear adds the bias once to a deep product") {
  const Tensor x = numbers({3, 20011}, float64, 1), w = numbers({4, 20011}, float64, 2);
  const Tensor b = full({4}, 1000, float64);
  CHECK(distance(linear(x, w, b), linear(x, w) + b) < 1e-11);
}

namespace {

struct Case {
  const char* name;
  std::function<Tensor()> run;
};

std::vector<Case> tiled_cases() {
  std::vector<Case> cases;
  auto add = [&](const char* name, const Shape& a, const Shape& b, DType dtype) {
    const Tensor x = numbers(a, dtype, 1), y = numbers(b, dtype, 2);
    cases.push_back({name, [x, y] { return matmul(x, y); }});
  };
  add("a layer of the perceptron", {64, 784}, {784, 128}, float32);
  add("the same in float64", {64, 784}, {784, 128}, float64);
  add("a square", {300, 300}, {300, 300}, float32);
  add("a matrix and a vector", {4096, 1024}, {1024}, float32);
  add("small matrices", {3000, 8, 8}, {3000, 8, 8}, float32);
  add("large matrices", {3, 200, 150}, {3, 150, 170}, float64);
  const Tensor x = numbers({64, 784}, float32, 1), w = numbers({128, 784}, float32, 2);
  const Tensor b = numbers({128}, float32, 3), g = numbers({320, 64}, float32, 4);
  cases.push_back({"linear", [x, w, b] { return linear(x, w, b); }});
  cases.push_back({"its weight's gradient", [x, g] { return matmul(g, x); }});
  return cases;
}

}  // namespace

TEST_CASE("the bits do not depend on the number of threads") {
  for (const Case& c : tiled_cases()) {
    CAPTURE(c.name);
    same_with_threads([&]() -> std::vector<Tensor> { return {c.run()}; }, {2, 3, 8});
  }
}

TEST_CASE("a small product is one tile: the pool is not bothered") {
  const NumThreads two(2);
  detail::reset_pool_stats();
  matmul(numbers({64, 10}, float32, 1), numbers({10, 128}, float32, 2));
  matmul(numbers({4, 3, 5}, float32, 1), numbers({4, 5, 6}, float32, 2));
  CHECK(detail::pool_stats().jobs == 0);
}

TEST_CASE("a matrix that serves a whole batch makes one product of it, bit for bit") {
  const Tensor a = numbers({6, 50, 40}, float32, 1), b = numbers({40, 30}, float32, 2);
  CHECK(same_bits(matmul(a, b).reshape({300, 30}), matmul(a.reshape({300, 40}), b)));
}

TEST_CASE("gradients of matmul agree with differences, to the second order") {
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{2, 3}, {3, 4}},       {{3}, {3}},          {{3}, {3, 2}},
      {{2, 3}, {3}},          {{2, 2, 3}, {3, 2}}, {{2, 3}, {2, 3, 2}},
      {{1, 2, 3}, {2, 3, 2}}, {{2, 2, 3}, {3}},    {{3}, {2, 3, 2}},
      {{2, 2, 3}, {2, 3, 2}}, {{1, 1}, {1, 1}},    {{0, 3}, {3, 2}},
      {{2, 0}, {0, 3}},       {{2, 0, 3}, {3, 2}}, {{2, 3, 0}, {0, 2}}};
  int64_t total = 0;
  for (const auto& shape : shapes) {
    const GradcheckResult result =
        gradcheck([](const std::vector<Tensor>& x) { return matmul(x[0], x[1]); },
                  {leaf(shape.first, 1), leaf(shape.second, 2)}, {.order = 2});
    CHECK_MESSAGE(result, str(shape.first), str(shape.second), result.message);
    total += result.checks;
  }
  CHECK(total >= 15 * 2 * 2);
  const GradcheckResult twice =
      gradcheck([](const std::vector<Tensor>& x) { return matmul(x[0], x[0].t()); },
                {leaf({3, 2}, 1)}, {.order = 2});
  CHECK_MESSAGE(twice, twice.message);
}

TEST_CASE("gradients of linear agree with differences, to the second order") {
  int64_t total = 0;
  for (const Shape& shape : {Shape{3}, Shape{2, 3}, Shape{2, 2, 3}, Shape{0, 3}, Shape{2, 0, 3}}) {
    const GradcheckResult with =
        gradcheck([](const std::vector<Tensor>& x) { return linear(x[0], x[1], x[2]); },
                  {leaf(shape, 1), leaf({4, 3}, 2), leaf({4}, 3)}, {.order = 2});
    const GradcheckResult without =
        gradcheck([](const std::vector<Tensor>& x) { return linear(x[0].transpose(0, -1), x[1]); },
                  {leaf({3, 2, 3}, 1), leaf({4, 3}, 2)}, {.order = 2});
    CHECK_MESSAGE(with, str(shape), with.message);
    CHECK_MESSAGE(without, without.message);
    total += with.checks + without.checks;
  }
  CHECK(total >= 5 * (3 + 2) * 2);
}

TEST_CASE("a backward pass through linear is x^T, weight^T and the sum of rows") {
  const Tensor x = leaf({5, 3}, 1), w = leaf({4, 3}, 2), b = leaf({4}, 3);
  const Tensor g = numbers({5, 4}, float64, 4);
  linear(x, w, b).backward(g);
  CHECK(worst_error(x.grad(), reference(array(g), array(w)), 4) < 1e-13);
  CHECK(worst_error(w.grad(), reference(array(g.t()), array(x)), 5) < 1e-13);
  CHECK(worst_error(b.grad(), reference(array(ones({5}, float64)), array(g)), 5) < 1e-13);
}

TEST_CASE("an operand that changed after the product is not used by its gradient") {
  for (const int changed : {0, 1}) {
    const Tensor x = leaf({2, 3}, 1), w = leaf({3, 3}, 2);
    const Tensor product = matmul(x, w).sum(), layer = linear(x, w).sum();
    const std::string rule = ": a saved tensor " + str(changed == 0 ? x.shape() : w.shape()) +
                             " was changed in place by add_ (it is at version 2, saved at 1): "
                             "clone() it first, or change it after backward";
    {
      NoGradGuard no_grad;
      (changed == 0 ? x : w) += 1.0;
    }
    CHECK(refusal<GraphError>([&] { product.backward(); }) == "matmul" + rule);
    CHECK(refusal<GraphError>([&] { layer.backward(); }) == "linear" + rule);
  }
}

TEST_CASE("matmul refuses what does not chain, with the shapes as given and a hint") {
  auto message = [](const Shape& a, const Shape& b) {
    return refusal<ShapeError>([&] { matmul(zeros(a), zeros(b)); });
  };
  const std::string need = "need a [.., n, k] and b [.., k, m]";
  CHECK(message({64, 784}, {128, 784}) ==
        "matmul: a [64, 784] and b [128, 784] do not chain: " + need + " (did you mean b.t()?)");
  CHECK(message({64, 784}, {64, 10}) ==
        "matmul: a [64, 784] and b [64, 10] do not chain: " + need + " (did you mean a.t()?)");
  CHECK(message({2, 3}, {4, 5}) == "matmul: a [2, 3] and b [4, 5] do not chain: " + need);
  CHECK(message({7, 2, 3}, {7, 4, 3}) == "matmul: a [7, 2, 3] and b [7, 4, 3] do not chain: " +
                                             need + " (did you mean b.transpose(-1, -2)?)");
  CHECK(message({3}, {4}) == "matmul: a [3] and b [4] do not chain: need a [k] and b [k]");
  CHECK(message({3}, {2, 3}) ==
        "matmul: a [3] and b [2, 3] do not chain: need a [k] and b "
        "[.., k, m] (did you mean b.t()?)");
  CHECK(message({3, 2}, {3}) ==
        "matmul: a [3, 2] and b [3] do not chain: need a [.., n, k] and b "
        "[k] (did you mean a.t()?)");
  CHECK(message({0, 3}, {4, 0}) == "matmul: a [0, 3] and b [4, 0] do not chain: " + need);
  CHECK(message({0, 3}, {0, 4}) ==
        "matmul: a [0, 3] and b [0, 4] do not chain: " + need + " (did you mean a.t()?)");
  CHECK(message({2, 3, 4}, {5, 4, 6}) ==
        "matmul: cannot broadcast a [2, 3, 4] with b [5, 4, 6]: dim -3 is 2 vs 5: need one size, "
        "or 1, before the last two axes");
  CHECK(message({0, 3, 4}, {2, 4, 6}) ==
        "matmul: cannot broadcast a [0, 3, 4] with b [2, 4, 6]: dim -3 is 0 vs 2: need one size, "
        "or 1, before the last two axes");
  CHECK(message({}, {3}) ==
        "matmul: a [] and b [3]: a scalar has no axis to sum over: " + need + " (use * to scale)");
  CHECK(message({2, 3}, {}) == "matmul: a [2, 3] and b []: a scalar has no axis to sum over: " +
                                   need + " (use * to scale)");
}

TEST_CASE("linear refuses what does not fit, by the names of its arguments") {
  auto message = [](const Shape& x, const Shape& weight, const Shape& bias) {
    return refusal<ShapeError>([&] { linear(zeros(x), zeros(weight), zeros(bias)); });
  };
  const std::string need = "need x [.., in] and weight [out, in]";
  CHECK(message({64, 783}, {128, 784}, {128}) ==
        "linear: x [64, 783] and weight [128, 784] do not chain: " + need);
  CHECK(message({8, 64, 784}, {784, 128}, {128}) ==
        "linear: x [8, 64, 784] and weight [784, 128] do not chain: " + need +
            " (did you mean weight.t()?)");
  CHECK(message({}, {4, 3}, {4}) == "linear: x [] and weight [4, 3] do not chain: " + need);
  CHECK(message({3}, {3}, {1}) == "linear: x [3] and weight [3] do not chain: " + need);
  CHECK(message({0, 3}, {4, 2}, {4}) == "linear: x [0, 3] and weight [4, 2] do not chain: " + need);
  CHECK(message({2, 3}, {4, 3}, {3}) ==
        "linear: bias [3] does not fit weight [4, 3]: need weight [out, in] and bias [out]");
  CHECK(message({2, 3}, {4, 3}, {1, 4}) ==
        "linear: bias [1, 4] does not fit weight [4, 3]: need weight [out, in] and bias [out]");
  CHECK(refusal<ShapeError>([] {
          linear(zeros({2, 3}), zeros({3, 4}));
        }) ==
        "linear: x [2, 3] and weight [3, 4] do not chain: " + need + " (did you mean weight.t()?)");
}

TEST_CASE("products refuse other dtypes, mixed dtypes and undefined tensors") {
  CHECK(refusal<DtypeError>([] {
          matmul(zeros({2, 2}), zeros({2, 2}, float64));
        }) == "matmul: a is float32 and b is float64: need one dtype (use to())");
  CHECK(refusal<DtypeError>([] {
          matmul(zeros({2, 0}, int64), zeros({0, 2}, int64));
        }) == "matmul: the input is int64: need float32 or float64 (use to())");
  CHECK(refusal<DtypeError>([] {
          linear(zeros({2, 2}), zeros({2, 2}, float64));
        }) == "linear: x is float32 and weight is float64: need one dtype (use to())");
  CHECK(refusal<DtypeError>([] {
          linear(zeros({2, 2}), zeros({2, 2}), zeros({2}, boolean));
        }) == "linear: x is float32 and bias is bool: need one dtype (use to())");
  CHECK(refusal<DtypeError>([] {
          linear(zeros({2}, boolean), zeros({2, 2}, boolean));
        }) == "linear: the input is bool: need float32 or float64 (use to())");
  CHECK(refusal<ValueError>([&] {
          matmul(Tensor(), zeros({2, 2}));
        }) == "matmul: an input is an undefined tensor (as a gradient is before backward())");
  CHECK(refusal<ValueError>([&] {
          linear(zeros({2, 2}), Tensor());
        }) == "linear: an input is an undefined tensor (as a gradient is before backward())");
}
