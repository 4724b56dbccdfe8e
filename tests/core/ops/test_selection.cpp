#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>
#include <functional>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// Totals, orders and choices of elements against PyTorch's, and what they refuse.

namespace {

using Function = std::function<std::vector<Tensor>(const GoldenCase& c, const Tensor& x)>;

int64_t whole(const GoldenCase& c, const std::string& key, double otherwise = 0) {
  return static_cast<int64_t>(c.number(key, otherwise));
}
std::vector<Tensor> both(const ValuesAndIndices& y) { return {y.values, y.indices}; }

/// Compares all cases of `op`, whose gradient flows to the argument `leaf`.
void check_cases(const char* op, int count, const Function& f, const char* leaf = "input") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases(op, "selection")) {
    const bool trains = c.tensors.count(std::string("grad_") + leaf) == 1;
    const Tensor x = trains ? c.leaf(leaf) : c.tensor(leaf);
    tally.add(c, f(c, x), {{leaf, trains ? x : Tensor()}});
  }
  CHECK(tally.cases == 2 * count);
  std::printf("golden: %s, %d cases, off by %.1e in float64, %.1f ulp in float32\n", op,
              tally.cases, tally.exact, tally.single);
}

}  // namespace

TEST_CASE("std, prod, cumsum and count_nonzero are PyTorch's, and so are their gradients") {
  auto dim = [](const GoldenCase& c) { return Dims(whole(c, "dim")); };
  auto keep = [](const GoldenCase& c) { return KeepDim(c.flag("keepdim", false)); };
  check_cases("std", 31, [&](auto& c, auto& x) -> std::vector<Tensor> {
    return {descent::std(x, dim(c), keep(c), {c.number("correction", 1)})};
  });
  check_cases("prod", 33,
              [&](auto& c, auto& x) -> std::vector<Tensor> { return {prod(x, dim(c), keep(c))}; });
  check_cases("cumsum", 9, [&](auto& c, auto& x) -> std::vector<Tensor> {
    return {cumsum(x, whole(c, "dim"))};
  });
  check_cases("count_nonzero", 16,
              [&](auto& c, auto& x) -> std::vector<Tensor> { return {count_nonzero(x, dim(c))}; });
}

TEST_CASE("sorted elements, extremes, medians and quantiles are PyTorch's, with ties and NaN") {
  auto keep = [](const GoldenCase& c) { return KeepDim(c.flag("keepdim", false)); };
  check_cases("sort", 20, [](auto& c, auto& x) {
    const SortOptions options{.descending = c.flag("descending", false)};
    CHECK(ints(argsort(x, whole(c, "dim"), options)) == ints(c.tensor("output2")));
    return both(sort(x, whole(c, "dim"), options));
  });
  check_cases("topk", 16, [](auto& c, auto& x) {
    return both(topk(x, whole(c, "k"), whole(c, "dim"), {.largest = c.flag("largest", true)}));
  });
  check_cases("max_with_indices", 20, [&](auto& c, auto& x) {
    return both(max_with_indices(x, whole(c, "dim"), keep(c)));
  });
  check_cases("min_with_indices", 20, [&](auto& c, auto& x) {
    return both(min_with_indices(x, whole(c, "dim"), keep(c)));
  });
  check_cases("median", 20,
              [&](auto& c, auto& x) { return both(median(x, whole(c, "dim"), keep(c))); });
  check_cases("quantile", 82, [&](auto& c, auto& x) -> std::vector<Tensor> {
    return {quantile(x, c.number("q", 0), whole(c, "dim"), keep(c))};
  });
  check_cases("unique", 5, [](auto&, auto& x) -> std::vector<Tensor> {
    const Unique u = unique(x);
    return {u.values, u.inverse, u.counts};
  });
}

TEST_CASE("what indices, masks and diagonals choose is PyTorch's, and so are the gradients") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("scatter", "selection")) {
    const Tensor x = c.leaf("input"), src = c.leaf("src");
    tally.add(c, scatter(x, whole(c, "dim"), c.tensor("index"), src), {{"input", x}, {"src", src}});
  }
  CHECK(tally.cases == 2 * 3);
  std::printf("golden: scatter, %d cases, off by %.1e in float64, %.1f ulp in float32\n",
              tally.cases, tally.exact, tally.single);
  check_cases(
      "embedding", 5,
      [](auto& c, auto& x) -> std::vector<Tensor> {
        EmbeddingOptions options;
        if (c.options.count("padding") == 1) options.padding_idx = whole(c, "padding");
        return {embedding(c.tensor("index"), x, options)};
      },
      "weight");
  check_cases("masked_select", 3, [](auto& c, auto& x) -> std::vector<Tensor> {
    return {masked_select(x, c.tensor("mask"))};
  });
  check_cases("tril", 9, [](auto& c, auto& x) -> std::vector<Tensor> {
    return {tril(x, whole(c, "diagonal"))};
  });
  check_cases("triu", 9, [](auto& c, auto& x) -> std::vector<Tensor> {
    return {triu(x, whole(c, "diagonal"))};
  });
  check_cases("flip", 3, [](auto& c, auto& x) -> std::vector<Tensor> {
    Dims dims{};
    for (const int64_t d : golden_shape(c.option("dims", ""))) dims.push_back(d);
    return {flip(x, dims)};
  });
  check_cases("chunk", 5, [](auto& c, auto& x) { return chunk(x, whole(c, "count"), 1); });
  check_cases("one_hot", 3, [](auto& c, auto& x) -> std::vector<Tensor> {
    return {one_hot(x, whole(c, "classes"))};
  });
  check_cases("bincount", 3, [](auto& c, auto& x) -> std::vector<Tensor> {
    return {bincount(x, whole(c, "minlength"))};
  });
}

TEST_CASE("of elements that a scatter puts in one place, the last one stays and has the gradient") {
  const Tensor x = zeros({3}).requires_grad_(), src = tensor({1., 2., 3., 4.}).requires_grad_();
  const Tensor y = scatter(x, 0, tensor({2, 0, 2, 2}), src);
  CHECK(values(y) == Values{2, 0, 4});
  y.backward(tensor({10., 20., 30.}));
  CHECK(values(x.grad()) == Values{0, 20, 0});
  CHECK(values(src.grad()) == Values{0, 10, 0, 30});
}

TEST_CASE("totals and orders of integers and bools keep to their dtype, and int64 wraps around") {
  const Tensor flags = tensor({{true, false}, {true, true}});
  CHECK(ints(prod(flags, 1)) == Ints{0, 1});
  CHECK(ints(cumsum(flags, 0)) == Ints{1, 0, 2, 1});
  CHECK(ints(count_nonzero(flags)) == Ints{3});
  CHECK(bools(sort(flags, 1).values) == Bools{false, true, true, true});
  CHECK(ints(prod(tensor({INT64_MAX, int64_t{2}}))) == Ints{-2});
  CHECK(ints(cumsum(tensor({INT64_MAX, int64_t{1}}), 0)) == Ints{INT64_MAX, INT64_MIN});
  CHECK(ints(median(tensor({4, 1, 3, 2}), 0).values) == Ints{2});
  CHECK(ints(topk(tensor({5, 7, 7, 1}), 3).indices) == Ints{1, 2, 0});
  CHECK(ints(unique(tensor({{3, 1}, {1, 2}})).inverse) == Ints{2, 0, 0, 1});
  CHECK(bools(tril(flags)) == Bools{true, false, true, true});
  CHECK(unique(zeros({0})).counts.shape() == Shape{0});
  CHECK(prod(zeros({0})).item() == 1);
  CHECK(ints(bincount(zeros({0}, int64), 2)) == Ints{0, 0});
  CHECK(one_hot(zeros({0}, int64), 3).shape() == Shape{0, 3});
  CHECK(chunk(zeros({0, 2}), 3).size() == 3);
}

TEST_CASE("an infinite neighbour gives an infinite quantile, and equal infinities are kept") {
  CHECK(quantile(tensor({1., kInf}), 0.5, 0).item() == kInf);
  CHECK(quantile(tensor({kInf, kInf, 1.}), 0.5, 0).item() == kInf);
  CHECK(std::isnan(quantile(tensor({-kInf, kInf}), 0.5, 0).item()));
}

TEST_CASE("a running total of many float32 is as precise as float32") {
  const Tensor x = full({1 << 20}, 0.1);
  const double last = cumsum(x, 0).select(0, -1).item(), exact = 0.1F * double(1 << 20);
  CHECK(std::abs(last - exact) < exact * 0x1p-23);
}

TEST_CASE("totals and orders have the same bits for any number of threads") {
  const Tensor x = noise({600, 700}, 1);
  same_with_threads([&]() -> std::vector<Tensor> { return {cumsum(x, 1)}; });
  same_with_threads([&]() -> std::vector<Tensor> { return {sort(x, 1).values}; });
  same_with_threads([&]() -> std::vector<Tensor> { return {topk(x, 5, 0).indices}; });
  same_with_threads([&]() -> std::vector<Tensor> { return {prod(x, 0)}; });
}

TEST_CASE("functions that choose elements say what they refuse") {
  const Tensor x = zeros({2, 3}), none = zeros({2, 0}), labels = tensor({1, 7});
  CHECK(refusal<ValueError>([&] { topk(x, 4); }) ==
        "topk: k is 4, but dim 1 of [2, 3] allows 0..3");
  CHECK(refusal<ShapeError>([&] { median(none, 1); }) ==
        "median: no element of [2, 0] to choose from: need at least one");
  CHECK(refusal<DtypeError>([&] { median(x > 0, 1); }) ==
        "median: the input is bool: need float32, float64 or int64 (use to())");
  CHECK(refusal<ShapeError>([&] { max_with_indices(none, 1); }) ==
        "max_with_indices: no element of [2, 0] to choose from: need at least one");
  CHECK(refusal<ValueError>([&] { quantile(x, 1.5, 0); }) == "quantile: q is 1.5: need [0, 1]");
  CHECK(refusal<ValueError>([&] { quantile(x, kNan, 0); }) == "quantile: q is nan: need [0, 1]");
  CHECK(refusal<DtypeError>([&] { quantile(labels, 0.5, 0); }) ==
        "quantile: the input is int64: need float32 or float64 (use to())");
  CHECK(refusal<IndexError>([] { sort(tensor(1.)); }) ==
        "sort: dim -1 of a scalar: it has no axes");
  CHECK(refusal<DtypeError>([&] { bincount(zeros({2})); }) == "bincount: x is float32: need int64");
  CHECK(refusal<ShapeError>([&] {
          bincount(zeros({1, 2}, int64));
        }) == "bincount: x [1, 2]: need a vector");
  CHECK(refusal<ValueError>([&] {
          bincount(tensor({1, -2}));
        }) == "bincount: least element -2, minlength 0: need at least 0");
  CHECK(refusal<SizeError>([&] { bincount(tensor({INT64_MAX})); }) ==
        "bincount: 9223372036854775807 + 1 is too large: sizes end at 9223372036854775807");
  CHECK(refusal<IndexError>([&] { one_hot(labels, 5); }) ==
        "one_hot: index[1] is 7, but dim 0 of [5] allows 0..4");
  CHECK(refusal<ValueError>([&] { one_hot(zeros({0}, int64)); }) ==
        "one_hot: x [0], num_classes -1: need at least 0");
  CHECK(refusal<DtypeError>([&] { one_hot(x); }) == "one_hot: x is float32: need int64 (use to())");
  CHECK(refusal<IndexError>([&] {
          embedding(labels, zeros({5, 3}));
        }) == "embedding: index[1] is 7, but dim 0 of [5, 3] allows 0..4");
  CHECK(refusal<ShapeError>([&] { embedding(labels, zeros({5})); }) ==
        "embedding: weight [5]: need [V, D]");
  CHECK(refusal<IndexError>([&] { embedding(tensor({1}), x, {.padding_idx = -3}); }) ==
        "embedding: padding_idx is -3: need -2 to 1");
  CHECK(refusal<ShapeError>([&] {
          scatter(x, 0, zeros({1, 2}, int64), x);
        }) == "scatter: src [2, 3] and index [1, 2] differ: need one shape");
  CHECK(refusal<IndexError>([&] {
          scatter(x, 1, tensor({{0, 3}}), zeros({1, 2}));
        }) == "scatter: index[0, 1] is 3, but dim 1 of [2, 3] allows 0..2");
  CHECK(refusal<DtypeError>([&] { masked_select(x, x); }) ==
        "masked_select: mask is float32: need bool (use to())");
  CHECK(refusal<ShapeError>([&] { triu(zeros({3})); }) == "triu: x [3]: need [.., n, m]");
  CHECK(refusal<ShapeError>([&] {
          flip(x, {0, -2});
        }) == "flip: dims [0, -2] of a tensor [2, 3] name an axis twice");
  CHECK(refusal<ValueError>([&] { chunk(x, 0); }) == "chunk: count 0: need at least 1");
}
