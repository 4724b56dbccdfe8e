#include <cmath>
#include <doctest/doctest.h>
#include <functional>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// Functions of one and two elements, products, and elements that are moved or repeated, against
// PyTorch's, and what they refuse.

namespace {

using Function = std::function<Tensor(const GoldenCase& c, const Tensor& x, const Tensor& other)>;

int64_t whole(const GoldenCase& c, const std::string& key) {
  return static_cast<int64_t>(c.number(key, 0));
}
Shape list(const GoldenCase& c, const std::string& key) { return golden_shape(c.option(key, "")); }
Dims axes(const GoldenCase& c, const std::string& key) {
  Dims dims{};
  for (const int64_t d : list(c, key)) dims.push_back(d);
  return dims;
}

/// Compares all cases of `op`, whose second argument has this name.
void check_cases(const char* op, int count, const Function& f,
                 const std::string& second = "other") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases(op, "functions")) {
    auto argument = [&c](const std::string& name) {
      if (c.tensors.count("grad_" + name) == 1) return c.leaf(name);
      return c.tensors.count(name) == 1 ? c.tensor(name) : Tensor();
    };
    const Tensor x = argument("input"), other = argument(second);
    std::map<std::string, Tensor> leaves;
    if (x.requires_grad()) leaves["input"] = x;
    if (other.defined() && other.requires_grad()) leaves[second] = other;
    tally.add(c, f(c, x, other), leaves);
  }
  tally.print(op, count);
}

}  // namespace

TEST_CASE("functions of one element are PyTorch's, and so are their gradients") {
  const std::pair<const char*, Tensor (*)(const In&)> functions[] = {
      {"rsqrt", rsqrt}, {"tan", tan},   {"asin", asin}, {"acos", acos},
      {"atan", atan},   {"sinh", sinh}, {"cosh", cosh}};
  for (const auto& entry : functions)
    check_cases(entry.first, 4, [&](auto&, auto& x, auto&) { return entry.second(x); });
  check_cases("isinf", 1, [](auto&, auto& x, auto&) { return isinf(x); });
}

TEST_CASE("functions of two elements are PyTorch's, and so are their gradients") {
  check_cases("atan2", 4, [](auto&, auto& y, auto& x) { return atan2(y, x); });
  check_cases("logical_xor", 1, [](auto&, auto& a, auto& b) { return logical_xor(a, b); });
  check_cases("remainder", 7, [](auto& c, auto& a, auto& b) {
    return b.defined() ? remainder(a, b) : remainder(a, c.number("by", 0));
  });
  check_cases("floor_divide", 7, [](auto& c, auto& a, auto& b) {
    return b.defined() ? floor_divide(a, b) : floor_divide(a, c.number("by", 0));
  });
  check_cases("lerp", 12, [](auto& c, auto& a, auto& b) {
    if (c.tensors.count("weight") == 0) return lerp(a, b, c.number("weight", 0));
    const Tensor weight = c.leaf("weight");
    GoldenTally own;
    own.add(c, lerp(a.detach(), b.detach(), weight), {{"weight", weight}});
    return lerp(a, b, c.tensor("weight"));
  });
}

TEST_CASE("products of two tensors are PyTorch's, and so are their gradients") {
  check_cases("einsum", 9,
              [](auto& c, auto& a, auto& b) { return einsum(c.option("equation", ""), a, b); });
  check_cases("outer", 3, [](auto&, auto& a, auto& b) { return outer(a, b); });
  check_cases("bmm", 3, [](auto&, auto& a, auto& b) { return bmm(a, b); });
  check_cases("cosine_similarity", 6, [](auto& c, auto& a, auto& b) {
    return cosine_similarity(a, b, whole(c, "dim"), c.number("eps", 0));
  });
}

TEST_CASE("moved, repeated and added elements are PyTorch's, and so are the gradients") {
  check_cases("roll", 5, [](auto& c, auto& x, auto&) {
    if (c.options.count("shift") == 1) return roll(x, whole(c, "shift"));
    return roll(x, axes(c, "shifts"), axes(c, "dims"));
  });
  check_cases("repeat", 3, [](auto& c, auto& x, auto&) { return repeat(x, list(c, "counts")); });
  check_cases("tile", 3, [](auto& c, auto& x, auto&) { return tile(x, list(c, "counts")); });
  check_cases("diag", 12, [](auto& c, auto& x, auto&) { return diag(x, whole(c, "diagonal")); });
  check_cases(
      "index_add", 3,
      [](auto& c, auto& x, auto& source) {
        return index_add(x, whole(c, "dim"), c.tensor("index"), source);
      },
      "source");
}

TEST_CASE("several indices in parentheses are those of Python") {
  const Tensor x = arange(24).reshape({2, 3, 4});
  CHECK(ints(x(1)) == ints(x[1]));
  CHECK(ints(x[slice(1, 2)]) == ints(x.narrow(0, 1, 1)));
  CHECK(x(1, 2, 3).item<int64_t>() == 23);
  CHECK(x(1, slice(1, 9, 2), all).shape() == Shape{1, 4});
  CHECK(ints(x(1, slice(1, 9, 2), all)) == Ints{16, 17, 18, 19});
  CHECK(ints(x(all, -1, slice(-2))) == Ints{10, 11, 22, 23});
  CHECK(x(slice(0, 0)).shape() == Shape{0, 3, 4});
  const Tensor y = x.clone();
  y(0, all, 1) += 100;  // a view
  CHECK(ints(y(0, all, 1)) == Ints{101, 105, 109});
  CHECK(refusal<IndexError>([&] { (void)x(0, 0, 0, 0); }) ==
        "index: 4 indices for [2, 3, 4]: need at most one for each axis");
  CHECK(refusal<IndexError>([&] { (void)x(all, 3); }) ==
        "select: index 3 for dim 1 of [2, 3, 4]: need -3 to 2");
  CHECK(refusal<ValueError>([&] { (void)x(slice(0, 2, 0)); }) == "slice: step 0: need at least 1");
}

TEST_CASE("quotients and remainders of int64 are exact, and refuse a divisor of 0") {
  const Tensor x = tensor({INT64_MIN, INT64_MAX});
  CHECK(ints(floor_divide(x, -1)) == Ints{INT64_MIN, -INT64_MAX});
  CHECK(ints(remainder(x, -1)) == Ints{0, 0});
  CHECK(ints(floor_divide(x, 10)) == Ints{INT64_MIN / 10 - 1, INT64_MAX / 10});
  CHECK(ints(remainder(x, 10)) == Ints{2, 7});
  CHECK(refusal<ValueError>([&] { remainder(x, 0); }) ==
        "remainder: an element of b is 0: need another divisor in int64");
  CHECK(refusal<ValueError>([&] {
          floor_divide(x, tensor({1, 0}));
        }) == "floor_divide: an element of b is 0: need another divisor in int64");
  CHECK(remainder(zeros({0}, int64), zeros({0}, int64)).numel() == 0);
}

TEST_CASE("elements of any dtype are moved and repeated") {
  const Tensor flags = tensor({true, false, false}), numbers = tensor({5, 6, 7});
  CHECK(bools(roll(flags, 1)) == Bools{false, true, false});
  CHECK(ints(roll(numbers, INT64_MIN)) == Ints{7, 5, 6});  // 2^63 = 2 (mod 3)
  CHECK(bools(tile(flags, {2})) == Bools{true, false, false, true, false, false});
  CHECK(ints(repeat(tensor(3), {2, 2})) == Ints{3, 3, 3, 3});
  CHECK(ints(diag(numbers)) == Ints{5, 0, 0, 0, 6, 0, 0, 0, 7});
  CHECK(bools(diag(flags.reshape({3, 1}), -2)) == Bools{false});
  CHECK(diag(zeros({2, 3}), INT64_MIN).shape() == Shape{0});
  CHECK(diag(zeros({0})).shape() == Shape{0, 0});
  CHECK(ints(index_add(numbers, 0, tensor({2, 2}), tensor({1, 1}))) == Ints{5, 6, 9});
  CHECK(roll(zeros({2, 0}), {3}, {1}).shape() == Shape{2, 0});
}

TEST_CASE("einsum sums over what only one tensor has before the product, and takes empty axes") {
  CHECK(values(einsum("ij,jk->k", ones({2, 3}), ones({3, 2}))) == Values{6, 6});
  CHECK(values(einsum("ia,b->b", ones({2, 3}), ones({2}))) == Values{6, 6});
  CHECK(einsum("ij,jk->ik", ones({2, 0}), ones({0, 3})).shape() == Shape{2, 3});
  CHECK(einsum(" n i , i -> n ", ones({0, 3}), ones({3})).shape() == Shape{0});
  CHECK(einsum(",->", tensor(2.), tensor(3.)).item() == 6);
}

TEST_CASE("a vector near zero has the cosine 0, and no gradient that is not finite") {
  const Tensor a = zeros({1, 3}).requires_grad_(), b = ones({1, 3});
  const Tensor y = cosine_similarity(a, b);
  CHECK(values(y) == Values{0});
  y.backward(ones({1}));
  CHECK(all(isfinite(a.grad())).item<bool>());
}

TEST_CASE("a vector as short as eps is still divided by its length, and its gradient knows that") {
  const Tensor a = tensor({3., 4.}, float64).requires_grad_(), b = tensor({10., 0.}, float64);
  cosine_similarity(a, b, 0, 5).backward();
  CHECK(std::abs(a.grad()[0].item() - 0.128) < 1e-15);
  CHECK(std::abs(a.grad()[1].item() + 0.096) < 1e-15);
}

TEST_CASE("numbers drawn by their weights come as often as these are large") {
  Generator generator(1);
  const Tensor weights = tensor({1., 0., 2., 5.}),
               drawn = multinomial(weights, 8000, true, generator);
  const Values share = values(bincount(drawn, 4).to(float64) / 8000);
  const Values right{0.125, 0, 0.25, 0.625};
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(share[i] - right[i]) < 0.02);
  const Tensor rows = stack({weights, tensor({0., 3., 3., 1e-30})}), each = multinomial(rows, 3);
  CHECK(each.shape() == Shape{2, 3});
  CHECK(ints(sort(each, 1).values) == Ints{0, 2, 3, 1, 2, 3});
  CHECK(multinomial(weights, 0).shape() == Shape{0});
  CHECK(multinomial(zeros({0, 3}), 2).shape() == Shape{0, 2});
  // The first of two without replacement is drawn as with it, and the second from what is left.
  int64_t first = 0, second = 0;
  for (int i = 0; i < 4000; ++i) {
    const Tensor two = multinomial(tensor({1., 3., 4.}), 2, false, generator);
    first += two[0].item<int64_t>() == 2;
    second += two[0].item<int64_t>() == 2 && two[1].item<int64_t>() == 1;
  }
  CHECK(std::abs(static_cast<double>(first) / 4000 - 0.5) < 0.03);
  CHECK(std::abs(static_cast<double>(second) / static_cast<double>(first) - 0.75) < 0.04);
}

TEST_CASE("multinomial refuses weights that are none, and draws nothing then") {
  Generator generator(3);
  const Generator::State before = generator.state();
  const std::string need = ": need weights of at least 0 with a finite sum, ";
  for (const Values& weights : {Values{1, -1}, Values{1, kNan}, Values{kInf, 1}, Values{0, 0}})
    CHECK(refusal<ValueError>([&] { multinomial(tensor(weights), 1, true, generator); }) ==
          "multinomial: weights [2] for 1 numbers" + need + "one in each row above 0");
  CHECK(refusal<ValueError>([&] {
          multinomial(tensor({1., 0.}), 2, false, generator);
        }) == "multinomial: weights [2] for 2 numbers" + need + "as many in each row above 0");
  CHECK(refusal<ShapeError>([&] {
          multinomial(zeros({2, 2, 2}), 1);
        }) == "multinomial: weights [2, 2, 2], count 1: need [N, K] or [K], and at least 0");
  CHECK(refusal<DtypeError>([&] {
          multinomial(tensor({1, 2}), 1);
        }) == "multinomial: the input is int64: need float32 or float64 (use to())");
  CHECK(generator.state().offset == before.offset);
}

TEST_CASE("rand_like and randn_like draw what rand and randn draw, in the tensor's dtype") {
  const Tensor x = zeros({3, 5}, float64);
  manual_seed(5);
  const Tensor a = rand_like(x), b = randn_like(x);
  manual_seed(5);
  CHECK(same_bits(a, rand({3, 5}, float64)));
  CHECK(same_bits(b, randn({3, 5}, float64)));
  CHECK(refusal<DtypeError>([] { rand_like(zeros({2}, int64)); }) ==
        "rand_like: the input is int64: need float32 or float64 (use to())");
}

TEST_CASE("functions of several tensors say what they refuse") {
  const Tensor x = zeros({2, 3}), v = zeros({3}), index = tensor({0, 1});
  const std::string lists =
      ": need three lists of letters, as in \"ik,kj->ij\", each letter once in a list, and those "
      "of "
      "the result in another one too";
  for (const char* equation : {"ij,jk", "ij->i", "ii,j->j", "...i,i->i", "ij,jk->iz", "ij,jk->ii",
                               "i,j,k->i", "i->j,k", ""})
    CHECK(refusal<ValueError>([&] { einsum(equation, x, x); }) ==
          std::string("einsum: \"") + equation + "\"" + lists);
  CHECK(refusal<ShapeError>([&] { einsum("ij,jk->ik", x, x); }) ==
        "einsum: a [2, 3] and b [2, 3] do not fit \"ij,jk->ik\": need a letter for each axis, and "
        "one size for each letter");
  CHECK(refusal<ShapeError>([&] { einsum("i,j->ij", x, v); }) ==
        "einsum: a [2, 3] and b [3] do not fit \"i,j->ij\": need a letter for each axis, and one "
        "size for each letter");
  CHECK(refusal<DtypeError>([&] { einsum("i,i->", index, index); }) ==
        "einsum: the input is int64: need float32 or float64 (use to())");
  CHECK(refusal<ShapeError>([&] { outer(x, v); }) == "outer: a [2, 3] and b [3]: need two vectors");
  CHECK(refusal<ShapeError>([&] {
          bmm(zeros({2, 3, 4}), zeros({1, 4, 3}));
        }) == "bmm: a [2, 3, 4] and b [1, 4, 3]: need [N, n, k] and [N, k, m]");
  CHECK(refusal<ValueError>([&] { cosine_similarity(x, x, 1, 0); }) ==
        "cosine_similarity: eps is 0: need above 0");
  CHECK(refusal<IndexError>([&] { cosine_similarity(v, v); }) ==
        "cosine_similarity: dim 1 is out of range for rank 1: need -1..0");
  CHECK(refusal<ShapeError>([&] {
          roll(x, {1, 2}, {0});
        }) == "roll: shifts [1, 2] and dims [0]: need one length");
  CHECK(refusal<ShapeError>([&] { repeat(x, {2}); }) ==
        "repeat: counts [2] of x [2, 3]: need at least 0, one for each axis");
  CHECK(refusal<ShapeError>([&] { tile(x, {-1}); }) ==
        "tile: counts [-1] of x [2, 3]: need at least 0");
  CHECK(refusal<ShapeError>([&] {
          diag(zeros({2, 2, 2}));
        }) == "diag: x [2, 2, 2]: need a vector or a matrix");
  CHECK(refusal<SizeError>([&] { diag(v, INT64_MIN); }).find("is too large") != std::string::npos);
  CHECK(refusal<ShapeError>([&] { index_add(x, 0, x.to(int64), x); }) ==
        "index_add: index [2, 3] has rank 2: need a vector");
  CHECK(refusal<ShapeError>([&] { index_add(x, 1, index, x); }) ==
        "index_add: source [2, 3]: need [2, 2]");
  CHECK(refusal<IndexError>([&] {
          index_add(x, 1, tensor({3}), zeros({2, 1}));
        }) == "index_add: index[0] is 3, but dim 1 of [2, 3] allows 0..2");
  CHECK(refusal<DtypeError>([&] { logical_xor(x, x); }) ==
        "logical_xor: the input is float32: need bool");
}
