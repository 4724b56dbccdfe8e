#include <cmath>
#include <functional>

#include "support.hpp"

using namespace descent;

namespace {

/// Whether out has `shape` and, at each index i, the element of numbered(from) at source(i).
bool is_view(const Tensor& out, const Shape& shape, const Shape& from,
             const std::function<Shape(const Shape&)>& source) {
  if (!(out.shape() == shape)) return false;
  const Values elements = values(out);
  for (std::size_t k = 0; k < elements.size(); ++k)
    if (elements[k] != static_cast<double>(position_of(source(index_of(k, shape)), from)))
      return false;
  return true;
}

}  // namespace

TEST_CASE("data and shape are never confused") {
  CHECK(tensor({2., 3.}).shape() == Shape{2});
  CHECK(zeros({2, 3}).shape() == Shape{2, 3});
  CHECK(tensor(5.).shape() == Shape{});
  CHECK(tensor({{1., 2., 3.}, {4., 5., 6.}}).shape() == Shape{2, 3});
  CHECK(values(tensor({{1., 2.}, {3., 4.}})) == Values{1, 2, 3, 4});
  CHECK(tensor(Values{1, 2}).dtype() == float32);  // as in a literal
  CHECK(tensor(Values{0.1}, float64).item() == 0.1);
  CHECK(tensor(Values{1, 2}, {2, 1}, int64).dtype() == int64);
  CHECK(refusal<DtypeError>([&] { tensor(Values{1.5}, int64); }) ==
        "tensor: an int64 tensor with 1.5: need a whole number from -2^63 to 2^63 - 1 (use to())");
  CHECK(tensor(std::vector<int32_t>{1, 2}).dtype() == int64);
  CHECK(tensor(std::vector<float>{1, 2, 3, 4}, {2, 2}).shape() == Shape{2, 2});
  CHECK(tensor({1., 2.}).dtype() == float32);
  CHECK(tensor({1, 2}).dtype() == int64);
  CHECK(tensor({true, false}).dtype() == boolean);
  CHECK(tensor({1, 2}, float64).dtype() == float64);
}

TEST_CASE("numbers of several types between braces make the tensor that holds them all") {
  CHECK(tensor({1, 2.5}).dtype() == float32);
  CHECK(tensor({1, 2.5}).to_vector<double>() == Values{1, 2.5});
  CHECK(tensor({INFINITY, 1.}).to_vector<double>() == Values{INFINITY, 1});
  CHECK(tensor({{1, 2.5}, {3.f, 4}}).to_vector<double>() == Values{1, 2.5, 3, 4});
  CHECK(tensor({{1}, {2.5}}).shape() == Shape{2, 1});
  CHECK(tensor({0.1, 1}, float64).to_vector<double>() == Values{0.1, 1});
  CHECK(tensor({true, 2}).dtype() == int64);
  const int64_t beyond = (int64_t{1} << 53) + 1;  // a double's 53 bits
  CHECK(tensor({beyond, int64_t{1}}).to_vector<int64_t>() == Ints{beyond, 1});
  CHECK(tensor({1, beyond, INT64_MIN}).to_vector<int64_t>() == Ints{1, beyond, INT64_MIN});
  const Tensor cube = tensor({{{1, 2.}, {3, 4}}, {{5, 6}, {7, 8}}});
  CHECK(cube.shape() == Shape{2, 2, 2});
  CHECK(cube.to_vector<double>() == Values{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(tensor({}).shape() == Shape{0});
  CHECK(refusal<ShapeError>([&] {
          tensor({{1}, {2.5, 3}});
        }) == "tensor: row 1 has 2 elements, row 0 has 1: need equal rows");
  CHECK(refusal<ShapeError>([&] {
          tensor({1, {2.5, 3}});
        }) == "tensor: element 1 is a list, element 0 is a number: need all of a kind");
  CHECK(refusal<ShapeError>([&] {
          tensor({{1, 2}, 3});
        }) == "tensor: element 1 is a number, element 0 is a list: need all of a kind");
}

TEST_CASE("factories make what they say") {
  CHECK(values(ones({2, 2})) == Values{1, 1, 1, 1});
  CHECK(values(full({3}, -2.5)) == Values{-2.5, -2.5, -2.5});
  CHECK(zeros({3}, boolean).dtype() == boolean);
  CHECK(values(zeros_like(tensor({1., 2.}))) == Values{0, 0});
  CHECK(ones_like(tensor({1, 2})).dtype() == int64);
  CHECK(values(full_like(tensor({1., 2.}), 3)) == Values{3, 3});
  CHECK(ints(arange(4)) == Ints{0, 1, 2, 3});
  CHECK(ints(arange(5, 0, -2)) == Ints{5, 3, 1});
  CHECK(values(arange(0, 1, 0.25, float64)) == Values{0, 0.25, 0.5, 0.75});
  CHECK(values(linspace(0, 1, 5)) == Values{0, 0.25, 0.5, 0.75, 1});
  CHECK(linspace(0, 0.7, 50, float64).to_vector<double>().back() == 0.7);
  CHECK(values(eye(2)) == Values{1, 0, 0, 1});
}

TEST_CASE("item and to_vector convert") {
  CHECK(tensor(2.5).item() == 2.5);
  CHECK(tensor({{7}}).item<int>() == 7);
  CHECK(tensor(true).item<bool>());
  CHECK(tensor({{1., 0.}, {2., 3.}}).t().to_vector<int>() == std::vector<int>{1, 2, 0, 3});
  CHECK(bools(tensor({1., 0.})) == Bools{true, false});
  CHECK(zeros({2, 0}).to_vector<float>().empty());
  CHECK(tensor({{1., 2.}}).size(-1) == 2);
}

TEST_CASE("views share elements and version; copies do not") {
  const Tensor x = numbered({3, 4});
  const In before = x;
  const Tensor column = x.t().select(0, 1), whole = x.reshape({12}), copy = x.clone();
  column.fill_(-1);
  CHECK(values(whole) == Values{0, -1, 2, 3, 4, -1, 6, 7, 8, -1, 10, 11});
  CHECK(values(copy) == values(numbered({3, 4})));
  CHECK(In(x).version == before.version + 1);
  CHECK(In(whole).version == In(x).version);
  CHECK(In(copy).version == 0);
  const Tensor itself = x.contiguous(), still = x.to(float64);
  CHECK(itself.data<double>() == x.data<double>());
  CHECK(column.contiguous().is_contiguous());
  CHECK(still.data<double>() == x.data<double>());
  CHECK_FALSE(column.is_contiguous());
  CHECK(refusal<ShapeError>([&] { column.data<double>(); }) ==
        "data: tensor [3] with strides [4] is not contiguous: use contiguous()");
}

TEST_CASE("a function that passes on a tensor that it borrowed makes one more owner of it") {
  const auto owners = [](const Tensor& x) { return Peek::header(x)->refs; };
  const auto returned = [](const In& x) -> Tensor { return x; };
  const auto moved = [](const In& x) { return Tensor(std::move(x)); };
  const auto either = [](const In& x, bool negative) -> Tensor {
    if (!negative) return x;
    return -x;
  };
  const auto held = [](const In& x) -> Tensor {
    Tensor own = std::move(x);
    return own;
  };
  const auto collected = [](In x) {  // by value, too
    std::vector<Tensor> all;
    all.push_back(std::move(x));
    return all[0];
  };
  const auto assigned = [](const In& x) {
    Tensor y;
    y = std::move(x);
    return y;
  };
  const Tensor x = tensor({1., 2.});
  for (int i = 0; i < 3; ++i) {
    for (const Tensor& y :
         {returned(x), moved(x), either(x, false), held(x), collected(x), assigned(x)})
      CHECK(Peek::header(y) == Peek::header(x));
    CHECK(owners(x) == 1);
  }
  const Tensor y = returned(x + 1.0);  // one that was only an argument
  CHECK(owners(y) == 1);
  CHECK(values(y) == Values{2, 3});
}

// What refers to a tensor does not compile on one that nobody holds, or becomes a value.
template <class T>
concept GivesElements = requires(T x) {
  static_cast<T>(x).template data<float>();
};
template <class T>
concept GivesElementsToWrite = requires(T x) {
  static_cast<T>(x).template mutable_data<float>();
};

TEST_CASE("nothing refers to a tensor that nobody holds") {
  static_assert(GivesElements<const Tensor&> && GivesElementsToWrite<const Tensor&>);
  static_assert(!GivesElements<Tensor&&> && !GivesElementsToWrite<Tensor&&>);
  const Tensor& w = zeros({2}).requires_grad_();
  const Tensor& filled = zeros({2}).fill_(3);
  const Tensor& sum = zeros({2}) += filled;
  const Tensor& scaled = ones({2}) *= 4.0;
  const Tensor& copied = zeros({2}).copy_(filled);
  const Shape& shape = (ones({4, 2}) + 1.0).shape();
  const Strides& strides = (ones({4, 2}) + 1.0).strides();
  const Tensor other = full({2}, 777), more = other * 2.0;  // in the memory that is free again
  CHECK(w.requires_grad());
  CHECK(values(w) == Values{0, 0});
  for (const Tensor& three : {filled, sum, copied}) CHECK(values(three) == Values{3, 3});
  CHECK(values(scaled) == Values{4, 4});
  CHECK(shape == Shape{4, 2});
  CHECK(strides == Strides{2, 1});
  Shape sizes;
  for (const int64_t size : (ones({4, 2}) + 1.0).shape()) sizes.push_back(size);
  CHECK(sizes == shape);
  Tensor matrix = zeros({2, 2});
  matrix.select(0, 1) += 1.0;  // a view that nobody holds is still changed
  matrix.select(0, 0).fill_(2);
  CHECK(values(matrix) == Values{2, 2, 1, 1});
}

TEST_CASE("every view picks the right elements of a tensor with any strides") {
  const Shape from{2, 1, 6, 4};
  for (Placement placement : placements) {
    CAPTURE(static_cast<int>(placement));
    const Tensor x = numbered(from, placement);
    auto same = [](const Shape& i) { return i; };
    CHECK(is_view(x, from, from, same));
    CHECK(is_view(x.clone(), from, from, same));
    CHECK(is_view(x.contiguous(), from, from, same));
    CHECK(is_view(x.permute({3, 0, -2, 1}), {4, 2, 6, 1}, from, [](const Shape& i) {
      return Shape{i[1], i[3], i[2], i[0]};
    }));
    CHECK(is_view(x.transpose(0, -1), {4, 1, 6, 2}, from, [](const Shape& i) {
      return Shape{i[3], i[1], i[2], i[0]};
    }));
    CHECK(is_view(x.narrow(2, 1, 3), {2, 1, 3, 4}, from, [](const Shape& i) {
      return Shape{i[0], i[1], i[2] + 1, i[3]};
    }));
    CHECK(is_view(x.narrow(-1, -2, 2), {2, 1, 6, 2}, from, [](const Shape& i) {
      return Shape{i[0], i[1], i[2], i[3] + 2};
    }));
    CHECK(is_view(slice(x, 2, 1, 6, 2), {2, 1, 3, 4}, from, [](const Shape& i) {
      return Shape{i[0], i[1], 2 * i[2] + 1, i[3]};
    }));
    CHECK(is_view(slice(x, 2, -4, -1, 2), {2, 1, 2, 4}, from, [](const Shape& i) {
      return Shape{i[0], i[1], 2 * i[2] + 2, i[3]};
    }));
    CHECK(is_view(slice(x, 3, -9, 99, 3), {2, 1, 6, 2}, from, [](const Shape& i) {
      return Shape{i[0], i[1], i[2], 3 * i[3]};
    }));
    CHECK(slice(x, 3, 3, 1).shape() == Shape{2, 1, 6, 0});
    CHECK(is_view(x.select(2, -1), {2, 1, 4}, from, [](const Shape& i) {
      return Shape{i[0], i[1], 5, i[2]};
    }));
    CHECK(is_view(x.squeeze(), {2, 6, 4}, from, [](const Shape& i) {
      return Shape{i[0], 0, i[1], i[2]};
    }));
    CHECK(is_view(x.squeeze(1), {2, 6, 4}, from, [](const Shape& i) {
      return Shape{i[0], 0, i[1], i[2]};
    }));
    CHECK(is_view(x.squeeze(0), from, from, same));
    CHECK(is_view(x.unsqueeze(-1), {2, 1, 6, 4, 1}, from, [](const Shape& i) {
      return Shape{i[0], i[1], i[2], i[3]};
    }));
    CHECK(is_view(x.unsqueeze(0), {1, 2, 1, 6, 4}, from, [](const Shape& i) {
      return Shape{i[1], i[2], i[3], i[4]};
    }));
    CHECK(is_view(x.expand({3, 2, 5, -1, 4}), {3, 2, 5, 6, 4}, from, [](const Shape& i) {
      return Shape{i[1], 0, i[3], i[4]};
    }));
    CHECK(is_view(x.select(0, 1).squeeze().t(), {4, 6}, from, [](const Shape& i) {
      return Shape{1, 0, i[1], i[0]};
    }));
    for (const Shape& to : {Shape{48}, {2, 24}, {4, 3, 4}, {12, 2, 2}, {2, 6, 2, 2, 1}, {1, 8, 6}})
      CHECK(is_view(x.reshape(to), to, to, same));
    CHECK(is_view(x.reshape({6, -1}), {6, 8}, {6, 8}, same));
    CHECK(is_view(flatten(x, 1, 2), {2, 6, 4}, {2, 6, 4}, same));
    CHECK(is_view(flatten(x), {48}, {48}, same));
    CHECK(is_view(x.permute({2, 3, 0, 1}).reshape({24, 2}), {24, 2}, from, [](const Shape& i) {
      return Shape{i[1], 0, i[0] / 4, i[0] % 4};
    }));
  }
}

TEST_CASE("changes in place broadcast, keep to the window and leave the source alone") {
  const Tensor x = zeros({2, 3});
  x += tensor({1., 2., 3.});
  x.t() *= tensor({10., 100.});
  CHECK(values(x) == Values{10, 20, 30, 100, 200, 300});
  x.select(0, 1) -= tensor(100.);
  x /= 10;
  CHECK(values(x) == Values{1, 2, 3, 0, 10, 20});
  x.narrow(1, 0, 2).copy_(tensor({{7.}, {8.}}));
  CHECK(values(x) == Values{7, 7, 3, 8, 8, 20});
  slice(x, 1, 0, 3, 2).fill_(0);
  CHECK(values(x) == Values{0, 7, 0, 0, 8, 0});
  const Tensor n = tensor({5, -7});
  n *= 3;
  n -= tensor({1, 1});
  CHECK(ints(n) == Ints{14, -22});
}

TEST_CASE("a source that overlaps its destination is read as it was") {
  for (int64_t n : {10, 200'000}) {
    const Tensor x = arange(n, float64), y = arange(n, float64), z = arange(n, float64);
    x.narrow(0, 0, n - 1).copy_(x.narrow(0, 1, n - 1));
    y.narrow(0, 1, n - 1).copy_(y.narrow(0, 0, n - 1));
    z.narrow(0, 1, n - 1) += z.narrow(0, 0, n - 1);
    bool right = x.data<double>()[n - 1] == static_cast<double>(n - 1);
    for (int64_t i = 0; i + 1 < n; ++i) {
      right &= x.data<double>()[i] == static_cast<double>(i + 1);
      right &= y.data<double>()[i + 1] == static_cast<double>(i);
      right &= z.data<double>()[i + 1] == static_cast<double>(2 * i + 1);
    }
    CHECK(right);
  }
  const Tensor square = numbered({3, 3});
  square.copy_(square.t());
  CHECK(values(square) == Values{0, 3, 6, 1, 4, 7, 2, 5, 8});
}

TEST_CASE("an expanded tensor is not changed in place") {
  const Tensor x = tensor({1., 2.}), wide = x.expand({3, 2});
  const std::string rule =
      ": an expanded tensor [3, 2] is changed in place: several of its elements are one in memory: "
      "clone() it first";
  CHECK(refusal<ShapeError>([&] { wide += 1; }) == "add_" + rule);
  CHECK(refusal<ShapeError>([&] { wide.fill_(0); }) == "fill_" + rule);
  CHECK(refusal<ShapeError>([&] { wide.copy_(zeros({3, 2})); }) == "copy_" + rule);
  CHECK(values(x) == Values{1, 2});
}

TEST_CASE("dtypes convert as in C++, and to bool by not being zero") {
  const Tensor x = tensor({-1.75, 0., 2.5});
  CHECK(ints(x.to(int64)) == Ints{-1, 0, 2});
  CHECK(bools(x.to(boolean)) == Bools{true, false, true});
  CHECK(bools(tensor({0.25, kNan}).to(boolean)) == Bools{true, true});
  CHECK(values(tensor({true, false}).to(float64)) == Values{1, 0});
  CHECK(x.to(float64).dtype() == float64);
  CHECK(tensor({0.1}, float64).to(float32).item<double>() == static_cast<double>(0.1F));
  CHECK(ints(numbered({2, 3}).t().to(int64)) == Ints{0, 3, 1, 4, 2, 5});
}

TEST_CASE("whole numbers and bools compute in their own dtype") {
  const Tensor a = tensor({7, -3}), b = tensor({2, 5});
  CHECK(ints(a + b) == Ints{9, 2});
  CHECK(ints(a - b) == Ints{5, -8});
  CHECK(ints(a * b) == Ints{14, -15});
  CHECK(ints(-a) == Ints{-7, 3});
  CHECK(ints(10 - a * 2) == Ints{-4, 16});
  CHECK((a + 1).dtype() == int64);
  CHECK(ints(maximum(a, b)) == Ints{7, 5});
  const Tensor t = tensor({true, true, false, false}), u = tensor({true, false, true, false});
  CHECK(bools(logical_and(t, u)) == Bools{true, false, false, false});
  CHECK(bools(logical_or(t, u)) == Bools{true, true, true, false});
  CHECK(bools(logical_not(t)) == Bools{false, false, true, true});
  CHECK(bools(t == u) == Bools{true, false, false, true});
  CHECK(refusal<DtypeError>([&] { a / b; }) ==
        "div: the input is int64: need float32 or float64 (use to())");
}

TEST_CASE("comparisons make bools, and NaN is equal to nothing") {
  const Tensor a = tensor({1., 2., 3., kNan}), b = tensor({2., 2., 2., kNan});
  CHECK((a < b).dtype() == boolean);
  CHECK(bools(a < b) == Bools{true, false, false, false});
  CHECK(bools(a <= b) == Bools{true, true, false, false});
  CHECK(bools(a > b) == Bools{false, false, true, false});
  CHECK(bools(a >= b) == Bools{false, true, true, false});
  CHECK(bools(a == b) == Bools{false, true, false, false});
  CHECK(bools(a != b) == Bools{true, false, true, true});
  CHECK(bools(a >= 2) == Bools{false, true, true, false});
  CHECK(bools(a != 2) == Bools{true, false, true, true});
  CHECK((tensor({{1.}, {2.}}) < tensor({1., 2., 3.})).shape() == Shape{2, 3});
}

TEST_CASE("where chooses and does not let NaN through; clamp and maximum keep it") {
  const Tensor x = tensor({kNan, 2., 3.}), good = tensor({false, true, true});
  CHECK(values(where(good, x, zeros({3}))) == Values{0, 2, 3});
  CHECK(values(where(good, x, -1)) == Values{-1, 2, 3});
  CHECK(values(where(good, 5, zeros({3}))) == Values{0, 5, 5});
  CHECK(where(good.unsqueeze(1), x, zeros({3})).shape() == Shape{3, 3});
  const Values clamped = values(clamp(tensor({kNan, -5., 5., 0.5}), -1, 1));
  CHECK(std::isnan(clamped[0]));
  CHECK(Values(clamped.begin() + 1, clamped.end()) == Values{-1, 1, 0.5});
  const Tensor a = tensor({kNan, 1., 1., 3.}), b = tensor({1., kNan, 2., 2.});
  for (const Tensor& extreme : {maximum(a, b), minimum(a, b)}) {
    CHECK(std::isnan(values(extreme)[0]));
    CHECK(std::isnan(values(extreme)[1]));
  }
  CHECK(values(maximum(a, b).narrow(0, 2, 2)) == Values{2, 3});
  CHECK(values(minimum(a, b).narrow(0, 2, 2)) == Values{1, 2});
}

TEST_CASE("sizes that overflow are refused, and nothing times something huge is nothing") {
  const int64_t big = int64_t{1} << 62;
  CHECK(refusal<SizeError>([&] {
          empty({int64_t{1} << 31, int64_t{1} << 31, 4});
        }) ==
        "empty: shape [2147483648, 2147483648, 4] is too large: sizes end at 9223372036854775807");
  CHECK_THROWS_AS(empty({big, 4}), SizeError);
  // There may be that many elements, but not that many bytes.
  CHECK(refusal<SizeError>([&] { zeros({big}); }) ==
        "zeros: 4611686018427387904 * 4 is too large: sizes end at 9223372036854775807");
  CHECK(refusal<SizeError>([&] {
          tensor({1.}).expand({big, 4});
        }) ==
        "expand: shape [4611686018427387904, 4] is too large: sizes end at 9223372036854775807");
  CHECK(empty({0, big}).numel() == 0);
  CHECK(tensor({1.}).expand({big}).numel() == big);
  CHECK(refusal<SizeError>([&] { tensor({1.}).expand({big}).clone(); }) ==
        "clone: 4611686018427387904 * 4 is too large: sizes end at 9223372036854775807");
  CHECK(refusal<SizeError>([&] {
          zeros({0}).reshape({big, 4});
        }) == "reshape: 4611686018427387904 * 4 is too large: sizes end at 9223372036854775807");
}

TEST_CASE("slices and tiles of the longest axes there can be do not overflow on the way") {
  for (const int64_t step : {1, 2, 3, 1000}) {
    const Tensor x = zeros({0, INT64_MAX}).requires_grad_();
    slice(x, 1, 0, INT64_MAX, step).sum().backward();
    CHECK(x.grad().shape() == Shape{0, INT64_MAX});
  }
  const Tensor all = tensor({1.}).expand({INT64_MAX});
  CHECK(slice(all, 0, INT64_MIN, INT64_MAX, INT64_MAX).shape() == Shape{1});
  CHECK(slice(all, 0, -2, INT64_MAX, 2).shape() == Shape{1});
  CHECK(refusal<IndexError>([&] { all.narrow(0, INT64_MIN, 1); }) ==
        "narrow: start -9223372036854775808 and length 1 for dim 0 of [9223372036854775807]: need "
        "a part of the axis");
  CHECK_THROWS_AS(all.narrow(0, 1, INT64_MAX), IndexError);
  CHECK(detail::ceil_div(INT64_MAX, 1) == INT64_MAX);
  CHECK(detail::ceil_div(INT64_MAX, 2) == INT64_MAX / 2 + 1);
  CHECK(detail::ceil_div(INT64_MAX, INT64_MAX) == 1);
  CHECK(detail::ceil_div(0, 7) == 0);
  CHECK(detail::ceil_div(7, 7) == 1);
  CHECK(detail::ceil_div(8, 7) == 2);
}

TEST_CASE("a shape counts its axes from both ends, and has no others") {
  const Shape shape = zeros({5, 7}).shape();
  CHECK(shape[-1] == 7);
  CHECK(shape[-2] == 5);
  CHECK_THROWS_AS(static_cast<void>(shape[2]), IndexError);
  CHECK_THROWS_AS(static_cast<void>(shape[-3]), IndexError);
  CHECK_THROWS_AS(static_cast<void>(Shape().back()), IndexError);
}

TEST_CASE("arange has the dtype of its numbers, and no fraction becomes 0") {
  CHECK(arange(3).dtype() == int64);
  CHECK(values(arange(0, 1., 0.25)) == Values{0, 0.25, 0.5, 0.75});
  CHECK(values(arange(2.5)) == Values{0, 1, 2});
  CHECK(arange(2.5).dtype() == float32);
  CHECK(values(arange(5, 0, -2)) == Values{5, 3, 1});
  CHECK(refusal<DtypeError>([] { arange(0, 1, 0.25, int64); }) ==
        "arange: an int64 tensor with 0.25: need a whole number from -2^63 to 2^63 - 1 (use to())");
}

TEST_CASE("a number that the tensor's dtype cannot hold is refused, not changed") {
  const Tensor flags = tensor({true, false});
  CHECK(refusal<DtypeError>([&] { eq(flags, 2); }) ==
        "eq: a bool tensor with 2: need 0 or 1 (use to())");
  CHECK((flags == 1).to_vector<bool>() == Bools{true, false});
  CHECK(refusal<DtypeError>([&] { full({1}, 0x1p63, int64); }) ==
        "full: an int64 tensor with 9.223372036854776e+18: need a whole number from -2^63 to 2^63 "
        "- 1 (use to())");
  CHECK(refusal<DtypeError>([&] { zeros({1}, int64) += 0x1p63; }) ==
        "add_: an int64 tensor with 9.223372036854776e+18: need a whole number from -2^63 to 2^63 "
        "- 1 (use to())");
  CHECK(refusal<DtypeError>([] { full({2}, 0.5, int64); }) ==
        "full: an int64 tensor with 0.5: need a whole number from -2^63 to 2^63 - 1 (use to())");
}

TEST_CASE("any arithmetic type goes in and comes out") {
  CHECK(tensor(Bools{true, false}).to_vector<uint8_t>() == std::vector<uint8_t>{1, 0});
  CHECK(tensor(std::vector<uint32_t>{7, 8}).to_vector<int16_t>() == std::vector<int16_t>{7, 8});
  CHECK(tensor({3u}).item<std::size_t>() == 3);
}

TEST_CASE("an undefined tensor is named with the operation and the line") {
  const Tensor none;
  const std::string text = "this tensor is undefined (as a gradient is before backward())",
                    input = "an input is an undefined tensor (as a gradient is before backward())";
  CHECK(refusal<ValueError>([&] { none.item(); }) == "item: " + text);
  CHECK(refusal<ValueError>([&] { none.to_vector<float>(); }) == "to_vector: " + text);
  CHECK(refusal<ValueError>([&] { none.data<float>(); }) == "data: " + text);
  CHECK(refusal<ValueError>([&] { none.size(0); }) == "size: " + text);
  CHECK(refusal<ValueError>([&] { none.fill_(1); }) == "fill_: " + text);
  CHECK(refusal<ValueError>([&] { none.requires_grad_(); }) == "requires_grad_: " + text);
  CHECK(refusal<ValueError>([&] { none += 1; }) == "add_: " + input);
  CHECK(refusal<ValueError>([&] { none += ones({1}); }) == "add_: " + input);
  CHECK(refusal<ValueError>([&] { none.backward(); }) ==
        "backward: an output is an undefined tensor");
}

TEST_CASE("a ninth axis and a negative size are refused") {
  const Tensor x = zeros({1, 1, 1, 1, 1, 1, 1, 2});
  CHECK(x.dim() == 8);
  CHECK(values(x + 1.0) == Values{1, 1});
  CHECK(refusal<ShapeError>([&] { x.unsqueeze(0); }) ==
        "unsqueeze: the result has 9 axes: a tensor has at most 8");
  CHECK(refusal<ShapeError>([&] {
          stack({x, x});
        }) == "stack: the result has 9 axes: a tensor has at most 8");
  CHECK(refusal<ShapeError>([&] {
          descent::index(x, tensor({{0, 0}}));
        }) == "index: the result has 9 axes: a tensor has at most 8");
  CHECK_THROWS_AS(zeros({1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError);
  CHECK(refusal<ShapeError>([] { empty({3, -2}); }) == "empty: shape [3, -2] has a negative size");
  CHECK_THROWS_AS(zeros({2, 3}).reshape({-1, -1}), ShapeError);
  CHECK_THROWS_AS(zeros({2, 3}).reshape({-2, -3}), ShapeError);
  CHECK_THROWS_AS(zeros({2, 0}).reshape({-1, 0}), ShapeError);
}
