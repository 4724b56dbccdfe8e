#include <cmath>
#include <limits>

#include "support.hpp"

using namespace descent;

namespace {

constexpr int64_t kOdd = (int64_t{1} << 53) + 1;  // the first whole number that no double holds
constexpr int64_t kMax = INT64_MAX, kMin = INT64_MIN;

/// What every operation says of 1e300 beside a float32 tensor.
const std::string too_large =
    ": a float32 tensor with 1e+300: need at most 3.4028235e38 in size (use to(float64))";

}  // namespace

TEST_CASE("a whole number beside an int64 tensor keeps its value beyond 2^53") {
  const Tensor zero = zeros({1}, int64), odd = tensor({kOdd});
  CHECK(ints(zero + kOdd) == Ints{kOdd});
  CHECK(ints(kOdd + zero) == Ints{kOdd});
  CHECK(ints(zero - kOdd) == Ints{-kOdd});
  CHECK(ints(kOdd - zero) == Ints{kOdd});
  CHECK(ints(ones({1}, int64) * kOdd) == Ints{kOdd});
  CHECK(ints(kOdd * ones({1}, int64)) == Ints{kOdd});
  CHECK(ints(full({1}, kOdd, int64)) == Ints{kOdd});
  CHECK(ints(full_like(zero, kOdd)) == Ints{kOdd});
  CHECK(ints(zeros({1}, int64).fill_(kMax)) == Ints{kMax});
  CHECK(ints(zeros({1}, int64) += kOdd) == Ints{kOdd});
  CHECK(ints(zeros({1}, int64) -= kOdd) == Ints{-kOdd});
  CHECK(ints(ones({1}, int64) *= kMin) == Ints{kMin});
  CHECK(ints(where(tensor({true, false}), kOdd, tensor({1, 2}))) == Ints{kOdd, 2});
  CHECK(ints(where(tensor({true, false}), tensor({1, 2}), kOdd)) == Ints{1, kOdd});
  CHECK(ints(masked_fill(tensor({1, 2}), tensor({true, false}), kOdd)) == Ints{kOdd, 2});
  CHECK(bools(odd == kOdd) == Bools{true});
  CHECK(bools(odd == kOdd - 1) == Bools{false});
  CHECK(bools(odd != kOdd - 1) == Bools{true});
  CHECK(bools(odd > kOdd - 1) == Bools{true});
  CHECK(bools(odd >= kOdd + 1) == Bools{false});
  CHECK(bools(odd < kOdd + 1) == Bools{true});
  CHECK(bools(odd <= kOdd - 1) == Bools{false});
  const Tensor constant = zeros({1}, int64);
  nn::init::constant_(constant, kOdd);
  CHECK(ints(constant) == Ints{kOdd});
  CHECK(ints(zero + uint64_t{kMax}) == Ints{kMax});
  CHECK(ints(full({1}, 0x1p60, int64)) == Ints{int64_t{1} << 60});
  CHECK(str(tensor({kOdd})) == "[9007199254740993]\nint64 [1]");
}

TEST_CASE("arange and linspace of whole numbers are exact to the ends of int64") {
  CHECK(ints(arange(kOdd, kOdd + 3)) == Ints{kOdd, kOdd + 1, kOdd + 2});
  CHECK(ints(arange(kMax - 2, kMax)) == Ints{kMax - 2, kMax - 1});
  CHECK(ints(arange(kMin + 2, kMin, -1)) == Ints{kMin + 2, kMin + 1});
  CHECK(ints(arange(kMin, kMax, kMax)) == Ints{kMin, -1, kMax - 1});
  CHECK(ints(arange(kMax - 1, uint64_t{kMax} + 1)) == Ints{kMax - 1, kMax});
  CHECK(ints(arange(kOdd, static_cast<double>(kOdd + 3), 1, int64)) ==
        Ints{kOdd, kOdd + 1, kOdd + 2});
  CHECK(ints(arange(-2, 2.5, 2, int64)) == Ints{-2, 0, 2});
  CHECK(ints(arange(2, -2.5, -2, int64)) == Ints{2, 0, -2});
  CHECK(arange(kOdd, kOdd + 3, 1, float64).numel() == 3);
  CHECK(arange(4, 4).numel() == 0);
  CHECK(arange(0).numel() == 0);
  CHECK(ints(linspace(kOdd, kOdd + 4, 5, int64)) ==
        Ints{kOdd, kOdd + 1, kOdd + 2, kOdd + 3, kOdd + 4});
  CHECK(ints(linspace(kMin, kMax, 2, int64)) == Ints{kMin, kMax});
  CHECK(ints(linspace(-10, 0, 4, int64)) == Ints{-10, -6, -3, 0});
  CHECK(ints(linspace(kOdd, 0, 1, int64)) == Ints{kOdd});
  CHECK(values(linspace(-1e308, 1e308, 3, float64)) == Values{-1e308, 0, 1e308});
}

TEST_CASE("a range that never arrives, or that the dtype cannot hold, is refused") {
  CHECK(refusal<ValueError>([] { arange(4, 9, -2); }) ==
        "arange: from 4 to 9 by -2: the step leads away from the end");
  CHECK_THROWS_AS(arange(3, 1), ValueError);
  CHECK_THROWS_AS(arange(-1), ValueError);
  CHECK(refusal<ValueError>([&] { arange(0, kInf, 1); }) ==
        "arange: from 0 to inf by 1: need finite ends and a step that is not 0");
  CHECK_THROWS_AS(arange(kNan), ValueError);
  CHECK(refusal<ValueError>([&] { arange(0, 1e30, 1e18, int64); }) ==
        "arange: from 0 to 1e+30 by 1e+18: int64 ends before the last element");
  CHECK_THROWS_AS(arange(0, uint64_t{kMax} + 2, int64_t{1} << 62, int64), ValueError);
  CHECK(refusal<ValueError>([&] { arange(0, 1e39, 1e38, float32); }) ==
        "arange: a float32 tensor with 9e+38: need at most 3.4028235e38 in size (use to(float64))");
  CHECK_THROWS_AS(arange(kMin, kMax), Error);
  CHECK(refusal<SizeError>([] { arange(0, 9e18, 1.); }) ==
        "arange: 9000000000000000000 * 4 is too large: sizes end at 9223372036854775807");
  CHECK(refusal<SizeError>([] { arange(0, 9.1e18, 1.); }) ==
        "arange: 9.1e+18 elements: sizes end at 9223372036854775807");
  CHECK(refusal<ValueError>([] { linspace(-kInf, -1, 3); }) ==
        "linspace: from -inf to -1: need finite ends");
  CHECK(refusal<ValueError>([&] { linspace(0, 1e300, 3); }) == "linspace" + too_large);
  CHECK(refusal<DtypeError>([&] { linspace(0, 1e30, 3, int64); }) ==
        "linspace: an int64 tensor with 1e+30: need a whole number from -2^63 to 2^63 - 1 (use "
        "to())");
}

TEST_CASE("a number that int64 does not hold is refused with its place, not changed") {
  CHECK(refusal<ValueError>([] {
          tensor({{1., 2.}, {kNan, 4.}}).to(int64);
        }) ==
        "to: element [1, 0] is nan: need a number from -9223372036854775808 to "
        "9223372036854775807");
  CHECK(refusal<ValueError>([] {
          tensor({1., 1e30}, float64).t().to(int64);
        }) ==
        "to: element [1] is 1e+30: need a number from -9223372036854775808 to 9223372036854775807");
  CHECK(refusal<ValueError>([&] { full({}, kInf).to(int64); }) ==
        "to: the element is inf: need a number from -9223372036854775808 to 9223372036854775807");
  CHECK_THROWS_AS(full({}, -0x1.000002p63).to(int64), ValueError);
  CHECK_THROWS_AS(full({2, 40000}, 0x1p63, float64).to(int64), ValueError);
  CHECK(ints(tensor({-0x1p63, 0x1.fffffep62}).to(int64)) == Ints{kMin, kMax - (1LL << 39) + 1});
  CHECK(refusal<ValueError>([] { full({}, 1e20).item<int64_t>(); }) ==
        "item: the element is 1.0000000200408773e+20: need a number from -9223372036854775808 to "
        "9223372036854775807");
  CHECK(refusal<ValueError>([] { tensor(3'000'000'000).item<int>(); }) ==
        "item: the element is 3000000000: need a number from -2147483648 to 2147483647");
  CHECK(refusal<ValueError>([&] { tensor(-1).item<std::size_t>(); }) ==
        "item: the element is -1: need a number from 0 to 18446744073709551615");
  CHECK_THROWS_AS(tensor(kNan).item<int>(), ValueError);
  CHECK(tensor(-128.9).item<int8_t>() == -128);
  CHECK_THROWS_AS(tensor(-129.).item<int8_t>(), ValueError);
  CHECK(tensor(-0.5).item<unsigned>() == 0);
  CHECK(tensor(-3).item<double>() == -3);
  CHECK(tensor(kNan).item<bool>());
  CHECK(refusal<ValueError>([] {
          tensor({{1., 2.}, {3., -kInf}}).t().to_vector<int64_t>();
        }) ==
        "to_vector: element [1, 1] is -inf: need a number from -9223372036854775808 to "
        "9223372036854775807");
  CHECK(refusal<ValueError>([] {
          tensor({1, 256}).to_vector<uint8_t>();
        }) == "to_vector: element [1] is 256: need a number from 0 to 255");
}

TEST_CASE("a literal that its dtype cannot hold is refused") {
  CHECK(refusal<DtypeError>([] {
          tensor({uint64_t{1}, UINT64_MAX});
        }) ==
        "tensor: an int64 tensor with 18446744073709551615: need a whole number from -2^63 to 2^63 "
        "- 1 (use to())");
  CHECK_THROWS_AS(tensor(std::vector<uint64_t>{UINT64_MAX}), DtypeError);
  CHECK(refusal<DtypeError>([&] { tensor(kNan, int64); }) ==
        "tensor: an int64 tensor with nan: need a whole number from -2^63 to 2^63 - 1 (use to())");
  CHECK_THROWS_AS(tensor({{1., 2.}, {1e30, 3.}}, int64), DtypeError);
  CHECK(refusal<DtypeError>([&] {
          tensor({2.5, -2.5}, int64);
        }) ==
        "tensor: an int64 tensor with 2.5: need a whole number from -2^63 to 2^63 - 1 (use to())");
  CHECK(refusal<DtypeError>([&] {
          tensor({0, 2}, boolean);
        }) == "tensor: a bool tensor with 2: need 0 or 1 (use to())");
  CHECK(refusal<ValueError>([&] { tensor({1e300, 1.}); }) == "tensor" + too_large);
  CHECK(ints(tensor({2., -3.}, int64)) == Ints{2, -3});
  CHECK(ints(tensor(std::vector<uint64_t>{5})) == Ints{5});
  CHECK(bools(tensor({0., 1.}, boolean)) == Bools{false, true});
}

TEST_CASE("a number beside a tensor is refused where the dtype cannot hold it") {
  const Tensor x = zeros({2}), i = zeros({2}, int64);
  CHECK(refusal<DtypeError>([&] { return i + UINT64_MAX; }) ==
        "add: an int64 tensor with 18446744073709551615: need a whole number from -2^63 to 2^63 - "
        "1 (use to())");
  CHECK(refusal<DtypeError>([&] { i + kNan; }) ==
        "add: an int64 tensor with nan: need a whole number from -2^63 to 2^63 - 1 (use to())");
  CHECK(refusal<DtypeError>([&] { eq(i, 1e30); }) ==
        "eq: an int64 tensor with 1e+30: need a whole number from -2^63 to 2^63 - 1 (use to())");
  CHECK(refusal<DtypeError>([&] { i.fill_(0x1p63); }) ==
        "fill_: an int64 tensor with 9.223372036854776e+18: need a whole number from -2^63 to 2^63 "
        "- 1 (use to())");
  CHECK(refusal<DtypeError>([&] { zeros({1}, boolean).fill_(UINT64_MAX); }) ==
        "fill_: a bool tensor with 18446744073709551615: need 0 or 1 (use to())");
  CHECK(refusal<ValueError>([&] { return x * 1e300; }) ==
        "mul: a float32 tensor with 1e+300: need at most 3.4028235e38 in size (use to(float64))");
  CHECK(refusal<ValueError>([&] {
          where(tensor({true, false}), 1e300, x);
        }) == "where" + too_large);
  CHECK_THROWS_AS(masked_fill(x, tensor({true, false}), -1e300), ValueError);
  CHECK(refusal<ValueError>([&] { full({2}, 1e300); }) == "full" + too_large);
  CHECK(refusal<ValueError>([&] { x += 1e300; }) == "add_" + too_large);
  CHECK(refusal<ValueError>([&] { x.fill_(1e300); }) == "fill_" + too_large);
  CHECK(refusal<ValueError>([&] { lt(x, 1e300); }) == "lt" + too_large);
  CHECK(refusal<ValueError>([&] { clamp(x, -1, 1e300); }) == "clamp" + too_large);
  CHECK(values(x) == Values{0, 0});  // untouched
  CHECK(values(x + kInf) == Values{kInf, kInf});
  CHECK(std::isnan(values(x + kNan)[0]));
  CHECK(values(x + 1e-300) == Values{0, 0});
  CHECK(values(x + 0x1.fffffefp127)[0] == std::numeric_limits<float>::max());  // rounds to it
  CHECK(values(x.to(float64) + 1e300) == Values{1e300, 1e300});
  CHECK(values(x + UINT64_MAX)[0] == 0x1p64);
}

TEST_CASE("int64 arithmetic wraps around at its ends") {
  const Tensor top = tensor({kMax}), bottom = tensor({kMin}), one = tensor({1});
  CHECK(ints(top + one) == Ints{kMin});
  CHECK(ints(top + 1) == Ints{kMin});
  CHECK(ints(bottom - one) == Ints{kMax});
  CHECK(ints(-2 - top) == Ints{kMax});
  CHECK(ints(top * top) == Ints{1});
  CHECK(ints(top * 2) == Ints{-2});
  CHECK(ints(-bottom) == Ints{kMin});
  CHECK(ints(abs(bottom)) == Ints{kMin});
  CHECK(ints(square(tensor({(int64_t{1} << 32) + 1}))) == Ints{(int64_t{1} << 33) + 1});
  CHECK(tensor({kMax, int64_t{1}}).sum().item<int64_t>() == kMin);
  CHECK(ints(sum(full({40, 70}, kMax, int64), 0)) == Ints(70, -40));
  CHECK(ints(sum_to(full({2, 3}, kMax, int64), {3})) == Ints(3, -2));
  CHECK(ints(top.clone() += one) == Ints{kMin});
  CHECK(ints(bottom.clone() -= 1) == Ints{kMax});
  CHECK(ints(top.clone() *= top) == Ints{1});
  CHECK(ints(scatter_add(top, 0, tensor({0}), one)) == Ints{kMin});
  CHECK(ints(scatter_add(full({1, 40}, kMax, int64), 0, zeros({1, 40}, int64),
                         ones({1, 40}, int64))) == Ints(40, kMin));
}

TEST_CASE("a number stands wherever a tensor can") {
  const Tensor x = tensor({-1., 0., 2.}, float64).requires_grad_();
  CHECK(maximum(x, 0.0).to_vector<double>() == Values{0, 0, 2});
  CHECK(minimum(x, 1).to_vector<double>() == Values{-1, 0, 1});
  CHECK(pow(2, x).to_vector<double>() == Values{0.5, 1, 4});
  maximum(x, 0.0).sum().backward();
  CHECK(values(x.grad()) == Values{0, 0.5, 1});
  x.zero_grad();
  pow(2, x).sum().backward();
  CHECK(x.grad()[2].item() == doctest::Approx(4 * std::log(2)));
  const Tensor positive = x > 0;
  CHECK(where(positive, 1, 0).dtype() == int64);
  CHECK(where(positive, 1.0, 0).dtype() == float32);
  CHECK(ints(where(positive, 1, 0)) == Ints{0, 0, 1});
  CHECK(refusal<DtypeError>([&] {
          maximum(tensor({1, 2}), 0.5);
        }) ==
        "maximum: an int64 tensor with 0.5: need a whole number from -2^63 to 2^63 - 1 (use to())");
  CHECK(refusal<ValueError>([&] { where(positive, 1e300, 0); }) == "where" + too_large);
}

TEST_CASE("methods are the functions of their names") {
  const Tensor x = tensor({{0.5, 0.25}, {1., 2.}});
  CHECK(str(x.exp()) == str(exp(x)));
  CHECK(str(x.log()) == str(log(x)));
  CHECK(str(x.sqrt()) == str(sqrt(x)));
  CHECK(str(x.square()) == str(square(x)));
  CHECK(str(x.abs()) == str(abs(x)));
  CHECK(str(x.sin()) == str(sin(x)));
  CHECK(str(x.cos()) == str(cos(x)));
  CHECK(str(x.tanh()) == str(tanh(x)));
  CHECK(str(x.sigmoid()) == str(sigmoid(x)));
  CHECK(str(x.relu()) == str(relu(x)));
  CHECK(str(x.pow(3)) == str(pow(x, 3)));
  CHECK(str(x.clamp(0.3, 1)) == str(clamp(x, 0.3, 1)));
  CHECK(str(x.min(0)) == str(min(x, 0)));
  CHECK(x[1][0].item() == 1);
  CHECK(x[-1].shape() == Shape{2});
  CHECK(refusal<IndexError>([&] { (void)x[2]; }) ==
        "select: index 2 for dim 0 of [2, 2]: need -2 to 1");
}
