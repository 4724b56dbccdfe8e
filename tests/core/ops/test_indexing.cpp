#include <cmath>

#include "support.hpp"

using namespace descent;

namespace {

/// An index tensor of `shape` with values in [0, bound), all of them in turn, shuffled.
Tensor some_index(const Shape& shape, int64_t bound) {
  Tensor x = zeros(shape, int64);
  for (int64_t i = 0; i < x.numel(); ++i) x.mutable_data<int64_t>()[i] = (i * 7 + i / 3) % bound;
  return x;
}

/// Calls f(index, position) for every element of `shape` in row-major order.
template <class F> void each(const Shape& shape, F f) {
  const auto n = static_cast<std::size_t>(zeros(shape).numel());
  for (std::size_t position = 0; position < n; ++position) f(index_of(position, shape), position);
}

const Shape shapes[] = {{5}, {4, 3}, {2, 3, 4}, {1, 3}, {3, 1, 2}, {2, 0, 3}, {2, 2, 1, 3}};

}  // namespace

TEST_CASE("cat copies the tensors one after the other along any axis, whatever their strides") {
  for (const Shape& shape : shapes)
    for (Placement placement : placements)
      for (int dim = 0; dim < shape.rank(); ++dim) {
        Shape wide = shape, joined = shape;
        wide[dim] += 2;
        joined[dim] += wide[dim];
        const Tensor a = numbered(shape, placement), b = numbered(wide, placement) + 100.0;
        const Tensor y = cat({a, b}, dim - shape.rank());
        REQUIRE(y.shape() == joined);
        const Values u = values(a), v = values(b), w = values(y);
        each(joined, [&](Shape at, std::size_t i) {
          const bool first = at[dim] < shape[dim];
          if (!first) at[dim] -= shape[dim];
          CHECK(w[i] == (first ? u[position_of(at, shape)] : v[position_of(at, wide)]));
        });
      }
  CHECK(cat({tensor({true, false}), tensor({true})}).to_vector<bool>() == Bools{true, false, true});
  CHECK(ints(cat({tensor({1}), tensor({2, 3}), empty({0}, int64)})) == Ints{1, 2, 3});
}

TEST_CASE("stack makes a new axis, and split, chunk and select take it apart") {
  const Tensor a = numbered({2, 3}), b = a + 10.0;
  for (int dim = -3; dim <= 2; ++dim) {
    const Tensor y = stack({a, b}, dim);
    CHECK(y.size(dim) == 2);
    CHECK(values(y.select(dim, 0)) == values(a));
    CHECK(values(y.select(dim, 1)) == values(b));
  }
  CHECK(ints(stack({tensor(1), tensor(2)})) == Ints{1, 2});

  const Tensor x = numbered({5, 2});
  auto sizes = [](const std::vector<Tensor>& parts, int dim) {
    Ints s;
    for (const Tensor& part : parts) s.push_back(part.size(dim));
    return s;
  };
  CHECK(sizes(split(x, 2), 0) == Ints{2, 2, 1});
  CHECK(sizes(split(x, 2, 1), 1) == Ints{2});
  CHECK(sizes(split(x, Ints{0, 4, 1}), 0) == Ints{0, 4, 1});
  CHECK(sizes(split(zeros({0, 2}), 3), 0) == Ints{0});
  CHECK(values(cat(split(x, Ints{1, 3, 1}))) == values(x));
  CHECK(values(split(x, 2)[1]) == Values{4, 5, 6, 7});
  split(x, 2)[0].fill_(-1);  // views
  CHECK(values(x.select(1, 0)) == Values{-1, -1, 4, 6, 8});
}

TEST_CASE("the gradients of cat, stack and split are the parts of the outer gradient") {
  const Tensor a = numbered({2, 2}).requires_grad_(), b = numbered({2, 1}).requires_grad_();
  const Tensor g = numbered({2, 5});
  cat({a, b, a}, 1).backward(g);
  CHECK(values(a.grad()) == Values{0 + 3, 1 + 4, 5 + 8, 6 + 9});
  CHECK(values(b.grad()) == Values{2, 7});
  a.zero_grad();
  stack({a, a}, 1).backward(numbered({2, 2, 2}));
  CHECK(values(a.grad()) == Values{0 + 2, 1 + 3, 4 + 6, 5 + 7});
  a.zero_grad();
  (split(a, 1)[1] * 3.0).sum().backward();
  CHECK(values(a.grad()) == Values{0, 0, 3, 3});
}

TEST_CASE("cat, stack and split name what does not fit") {
  const Tensor a = zeros({2, 3}), b = zeros({2, 4});
  CHECK(refusal<ValueError>([] { cat({}); }) == "cat: the list of tensors is empty");
  CHECK(refusal<ValueError>([] { stack({}); }) == "stack: the list of tensors is empty");
  CHECK(refusal<ValueError>([&] { cat({a, Tensor()}); }) == "cat: tensors[1] is undefined");
  CHECK(refusal<ValueError>([&] { stack({Tensor(), a}); }) == "stack: tensors[0] is undefined");
  CHECK(refusal<ShapeError>([&] {
          cat({a, a, b});
        }) ==
        "cat: tensors[2] is [2, 4], but tensors[0] is [2, 3]: need equal sizes but for dim 0");
  CHECK(refusal<ShapeError>([&] {
          cat({a, zeros({2})}, 1);
        }) == "cat: tensors[1] is [2], but tensors[0] is [2, 3]: need equal sizes but for dim 1");
  CHECK(refusal<ShapeError>([&] {
          stack({a, b});
        }) == "stack: tensors[1] is [2, 4], but tensors[0] is [2, 3]: need equal sizes");
  CHECK(refusal<ShapeError>([] {
          cat({tensor(1.), tensor(2.)});
        }) == "cat: tensors[0] is a scalar, which has no axis: use stack");
  CHECK(refusal<DtypeError>([&] {
          cat({a, zeros({2, 3}, int64)});
        }) == "cat: tensors[1] is int64, but tensors[0] is float32: need one dtype (use to())");
  CHECK(refusal<IndexError>([&] {
          cat({a, a}, 2);
        }) == "cat: dim 2 is out of range for rank 2: need -2..1");
  CHECK(refusal<IndexError>([&] {
          stack({a, a}, 3);
        }) == "stack: dim 3 is out of range for rank 3: need -3..2");
  CHECK(refusal<ValueError>([&] { split(a, 0); }) == "split: size 0: need at least 1");
  CHECK(refusal<ShapeError>([&] {
          split(a, Ints{1, 2});
        }) == "split: sizes [1, 2] do not add up to dim 0 of [2, 3]");
  CHECK(refusal<ShapeError>([&] {
          split(a, Ints{3, -1});
        }) == "split: sizes [3, -1] do not add up to dim 0 of [2, 3]");
  CHECK(refusal<IndexError>([&] { split(tensor(1.), 1); }) ==
        "split: dim 0 of a scalar: it has no axes");
}

TEST_CASE("index_select picks what a loop picks") {
  for (const Shape& shape : shapes)
    for (Placement placement : placements)
      for (int dim = 0; dim < shape.rank(); ++dim)
        for (int64_t count : {0, 1, 4, 50}) {
          if (shape[dim] == 0 && count > 0) continue;
          const Tensor x = numbered(shape, placement);
          const Tensor index = some_index({count}, std::max<int64_t>(shape[dim], 1));
          const Tensor y = index_select(x, dim - shape.rank(), index);
          Shape expected = shape;
          expected[dim] = count;
          REQUIRE(y.shape() == expected);
          const Values u = values(x), v = values(y);
          const Ints place = ints(index);
          each(expected, [&](Shape at, std::size_t i) {
            at[dim] = place[static_cast<std::size_t>(at[dim])];
            CHECK(v[i] == u[position_of(at, shape)]);
          });
        }
  const Tensor twos = tensor({1, 1, 0}), rows = tensor({{true, false}, {false, false}});
  CHECK(index_select(rows, 0, twos).to_vector<bool>() ==
        Bools{false, false, false, false, true, false});
  CHECK(ints(index_select(tensor({{1, 2}, {3, 4}}), 1, slice(tensor({0, 9, 1}), 0, 0, 3, 2))) ==
        Ints{1, 2, 3, 4});
}

TEST_CASE("gather and scatter_add do what a loop does, with smaller and strided indices too") {
  for (const Shape& shape : shapes)
    for (Placement placement : placements)
      for (int dim = 0; dim < shape.rank(); ++dim)
        for (int64_t count : {0, 1, 5, 40}) {
          if (shape[dim] == 0 && count > 0) continue;
          Shape smaller = shape;
          smaller[dim] = count;
          const int other = shape.rank() - 1 - dim;
          if (other != dim && smaller[other] > 1) --smaller[other];
          const Tensor x = numbered(shape, placement);
          Tensor index = some_index(smaller, std::max<int64_t>(shape[dim], 1));
          if (placement == Placement::reversed_axes)
            index = index.transpose(0, -1).clone().transpose(0, -1);
          const Tensor src = numbered(smaller, placement) + 0.5;
          const Tensor y = gather(x, dim, index), z = scatter_add(x, dim, index, src);
          REQUIRE(y.shape() == smaller);
          REQUIRE(z.shape() == shape);

          const Values u = values(x), v = values(y), w = values(src);
          const Ints place = ints(index);
          Values sums = u;
          each(smaller, [&](Shape at, std::size_t i) {
            at[dim] = place[i];
            CHECK(v[i] == u[position_of(at, shape)]);
            sums[position_of(at, shape)] += w[i];
          });
          CHECK(values(z) == sums);
        }
}

TEST_CASE("scatter_add cuts large problems along the axes that do not meet") {
  for (int dim : {0, 1, 2}) {
    const Shape shape{dim == 0 ? 7 : 70, dim == 1 ? 5 : 60, dim == 2 ? 3 : 130};
    Shape many = shape;
    many[dim] = 20;
    const Tensor index = some_index(many, shape[dim]),
                 src = numbered(many, Placement::contiguous, int64);
    Ints sums(static_cast<std::size_t>(zeros(shape).numel()));
    const Ints place = ints(index);
    each(many, [&](Shape at, std::size_t i) {
      at[dim] = place[i];
      sums[position_of(at, shape)] += static_cast<int64_t>(i);
    });
    CHECK(ints(scatter_add(zeros(shape, int64), dim, index, src)) == sums);
  }
}

TEST_CASE("index takes rows by an integer tensor of any shape") {
  for (const Shape& shape : {Shape{5}, Shape{4, 3}, Shape{3, 2, 2}, Shape{2, 0}})
    for (Placement placement : placements)
      for (const Shape& picks : {Shape{}, Shape{3}, Shape{2, 3}, Shape{0}, Shape{2, 1, 2}}) {
        const Tensor x = numbered(shape, placement), places = some_index(picks, shape[0]);
        const Tensor y = index(x, places);
        Shape expected = picks;
        for (int d = 1; d < shape.rank(); ++d) expected.push_back(shape[d]);
        REQUIRE(y.shape() == expected);
        Values rows;
        for (int64_t place : ints(places))
          for (double v : values(x.select(0, place))) rows.push_back(v);
        CHECK(values(y) == rows);
      }
}

TEST_CASE("index takes the rows where a mask of the leading axes holds") {
  const Tensor x = numbered({2, 3, 2}, Placement::reversed_axes);
  CHECK(values(index(x, tensor({false, true}))) == Values{6, 7, 8, 9, 10, 11});
  const Tensor y = index(x, tensor({{true, false, true}, {false, true, false}}));
  CHECK(y.shape() == Shape{3, 2});
  CHECK(values(y) == Values{0, 1, 4, 5, 8, 9});
  CHECK(values(index(x, x > 9.0)) == Values{10, 11});
  CHECK(index(x, tensor(true)).shape() == Shape{1, 2, 3, 2});
  CHECK(index(x, tensor(false)).shape() == Shape{0, 2, 3, 2});
  CHECK(values(index(tensor(4.), tensor(true))) == Values{4});
}

TEST_CASE("masked_fill broadcasts both sides") {
  const Tensor x = numbered({2, 3}, Placement::reversed_axes), even = tensor({true, false, true});
  CHECK(values(masked_fill(x, even, -1)) == Values{-1, 1, -1, -1, 4, -1});
  CHECK(values(masked_fill(tensor({1., 2.}), tensor({{true}, {false}}), 9)) == Values{9, 9, 1, 2});
  CHECK(ints(masked_fill(tensor({1, 2}), tensor({true, false}), 7)) == Ints{7, 2});
}

TEST_CASE("nonzero lists the indices in row-major order") {
  const Tensor x = tensor({{0., 3.}, {0., 0.}, {-0., std::nan("")}});
  CHECK(nonzero(x).shape() == Shape{2, 2});
  CHECK(ints(nonzero(x)) == Ints{0, 1, 2, 1});
  CHECK(ints(nonzero(x.t())) == Ints{1, 0, 1, 2});
  CHECK(nonzero(tensor(5)).shape() == Shape{1, 0});
  CHECK(nonzero(zeros({2, 0, 3})).shape() == Shape{0, 3});
  CHECK(ints(nonzero(tensor({true, false, true}))) == Ints{0, 2});
}

TEST_CASE("an index out of range is named by position, value and bound") {
  const Tensor x = zeros({10, 4});
  Tensor index18 = zeros({20}, int64);
  index18.narrow(0, 17, 1).fill_(10);
  CHECK(refusal<IndexError>([&] { index_select(x, 0, index18); }) ==
        "index_select: index[17] is 10, but dim 0 of [10, 4] allows 0..9");
  CHECK(refusal<IndexError>([&] {
          index_select(x, -1, tensor({3, -1}));
        }) == "index_select: index[1] is -1, but dim 1 of [10, 4] allows 0..3");
  CHECK(refusal<IndexError>([&] {
          index_select(zeros({0, 2}), 0, tensor({0}));
        }) == "index_select: index[0] is 0, but dim 0 of [0, 2] has none");
  CHECK(refusal<IndexError>([&] {
          gather(x, 1, tensor({{0, 1}, {2, 4}}));
        }) == "gather: index[1, 1] is 4, but dim 1 of [10, 4] allows 0..3");
  CHECK(refusal<IndexError>([&] {
          scatter_add(x, 0, tensor({{0, 10}}), zeros({1, 2}));
        }) == "scatter_add: index[0, 1] is 10, but dim 0 of [10, 4] allows 0..9");
  CHECK(refusal<IndexError>([&] {
          index(x, tensor({{0, 1}, {2, -3}}).t());
        }) == "index: index[1, 1] is -3, but dim 0 of [10, 4] allows 0..9");
  CHECK(refusal<IndexError>([&] { index(x, tensor(12)); }) ==
        "index: index is 12, but dim 0 of [10, 4] allows 0..9");
  CHECK(refusal<IndexError>([&] { index_select(x, 2, tensor({0})); }) ==
        "index_select: dim 2 is out of range for rank 2: need -2..1");
  CHECK(refusal<IndexError>([&] { gather(tensor(1.), 0, tensor(0)); }) ==
        "gather: dim 0 of a scalar: it has no axes");
  CHECK(refusal<IndexError>([&] { index(tensor(1.), tensor({0})); }) ==
        "index: dim 0 of a scalar: it has no axes");
}

TEST_CASE("shapes and dtypes that do not fit are refused") {
  const Tensor x = zeros({4, 3}), one = zeros({1, 1}, int64);
  CHECK(refusal<DtypeError>([&] { index_select(x, 0, zeros({1})); }) ==
        "index_select: index is float32: need int64 (use to())");
  CHECK(refusal<ShapeError>([&] { index_select(x, 0, one); }) ==
        "index_select: index [1, 1] has rank 2: need a vector");
  CHECK(
      refusal<ShapeError>([&] { gather(x, 0, zeros({2}, int64)); }) ==
      "gather: index [2] does not fit x [4, 3]: need its rank, and no larger sizes but for dim 0");
  CHECK(refusal<ShapeError>([&] {
          gather(x, 0, zeros({2, 4}, int64));
        }) ==
        "gather: index [2, 4] does not fit x [4, 3]: need its rank, and no larger sizes but for "
        "dim 0");
  CHECK(refusal<ShapeError>([&] {
          scatter_add(x, 0, one, zeros({1, 2}));
        }) == "scatter_add: src [1, 2] and index [1, 1] differ: need one shape");
  CHECK(refusal<DtypeError>([&] {
          scatter_add(x, 0, one, zeros({1, 1}, float64));
        }) == "scatter_add: src is float64 and x is float32: need one dtype (use to())");
  const Tensor flags = zeros({1, 1}, boolean);
  CHECK(refusal<DtypeError>([&] { scatter_add(flags, 0, one, flags); }) ==
        "scatter_add: the input is bool: need float32, float64 or int64 (use to())");
  CHECK(refusal<ShapeError>([&] { index(x, zeros({3}, boolean)); }) ==
        "index: mask [3] does not fit x [4, 3]: need the sizes of its leading axes");
  CHECK(refusal<ShapeError>([&] {
          index(x, zeros({4, 3, 0}, boolean));
        }) == "index: mask [4, 3, 0] does not fit x [4, 3]: need the sizes of its leading axes");
  CHECK(refusal<DtypeError>([&] { index(x, zeros({3})); }) ==
        "index: index is float32: need int64 (use to())");
  CHECK(refusal<DtypeError>([&] { masked_fill(x, one, 0); }) ==
        "masked_fill: mask is int64: need bool (use to())");
  CHECK_THROWS_AS(masked_fill(x, zeros({2}, boolean), 0), ShapeError);
  CHECK(refusal<ValueError>([&] { nonzero(Tensor()); }) ==
        "nonzero: an input is an undefined tensor (as a gradient is before backward())");
}

TEST_CASE("what was picked twice gets both gradients, and what was not gets none") {
  const Tensor x = numbered({3, 2}).requires_grad_(), g = numbered({4, 2});
  auto gradient = [&](const Tensor& y, const Tensor& outer) {
    x.zero_grad();
    y.backward(outer);
    return values(x.grad());
  };
  CHECK(gradient(index_select(x, 0, tensor({2, 0, 2, 2})), g) ==
        Values{2, 3, 0, 0, 0 + 4 + 6, 1 + 5 + 7});
  CHECK(gradient(index(x, tensor({2, 0, 2, 2})), g) == Values{2, 3, 0, 0, 10, 13});
  CHECK(gradient(gather(x, 1, tensor({{1, 1}, {0, 1}})), numbered({2, 2}) + 1.0) ==
        Values{0, 3, 3, 4, 0, 0});
  CHECK(gradient(index(x, tensor({true, false, true})), numbered({2, 2})) ==
        Values{0, 1, 0, 0, 2, 3});
  CHECK(gradient(masked_fill(x, x > 2.0, 7), numbered({3, 2}) + 1.0) == Values{1, 2, 3, 0, 0, 0});
  CHECK(gradient(masked_fill(x, tensor({true, false}).reshape({2, 1, 1}), 7),
                 ones({2, 3, 2}, float64)) == Values{1, 1, 1, 1, 1, 1});

  const Tensor src = numbered({1, 2}).requires_grad_();
  CHECK(gradient(scatter_add(x, 0, tensor({{2, 0}}), src), numbered({3, 2})) ==
        Values{0, 1, 2, 3, 4, 5});
  CHECK(values(src.grad()) == Values{4, 1});
}

TEST_CASE("picking has second derivatives") {
  const Tensor x = numbered({3, 2}).requires_grad_();
  const Tensor places = tensor({2, 0, 2});
  Tensor y = index_select(x, 0, places);
  Tensor first = grad({(y * y * y).sum()}, {x}, {.create_graph = true})[0];
  Tensor second = grad({first.sum()}, {x})[0];
  CHECK(values(second) == Values{0, 6, 0, 0, 2 * 24, 2 * 30});

  const Tensor index = tensor({{0, 0}, {1, 0}});
  Tensor z = scatter_add(x * x, 0, index, narrow(x, 0, 0, 2));
  first = grad({(z * z).sum()}, {x}, {.create_graph = true})[0];
  CHECK(grad({first.sum()}, {x})[0].shape() == x.shape());
}

TEST_CASE("an index that changes between forward and backward is refused") {
  const Tensor x = zeros({3, 2}).requires_grad_(), places = tensor({1, 2});
  Tensor y = index_select(x, 0, places).sum();
  const Tensor corner = zeros({1, 1}, int64);
  Tensor z = scatter_add(zeros({3, 2}), 0, corner, narrow(x, 0, 0, 1).narrow(1, 0, 1)).sum();
  places.fill_(1000);
  corner.fill_(1000);
  CHECK(refusal<GraphError>([&] { y.backward(); }) ==
        "index_select: a saved tensor [2, 2] was changed in place by fill_ (it is at version 1, "
        "saved at 0): clone() it first, or change it after backward");
  CHECK(refusal<GraphError>([&] { z.backward(); }) ==
        "scatter_add: a saved tensor [1, 1] was changed in place by fill_ (it is at version 1, "
        "saved at 0): clone() it first, or change it after backward");
}

TEST_CASE("picking and adding give the same bits on any number of threads") {
  const NumThreads restored(1);
  const int64_t n = 3000, m = 500, d = 300;
  Tensor x = empty({m, d}), src = empty({n, d});
  for (int64_t i = 0; i < n * d; ++i)
    src.mutable_data<float>()[i] = 1.0F / static_cast<float>(i % 8191 + 3);
  for (int64_t i = 0; i < m * d; ++i) x.mutable_data<float>()[i] = static_cast<float>(i) * 0.37F;
  const Tensor rows = some_index({n}, m), places = some_index({n, d}, m);
  const Tensor columns = some_index({n, d}, d);
  std::vector<Tensor> results[3];
  const int counts[] = {1, 2, 8};
  for (int k = 0; k < 3; ++k) {
    set_num_threads(counts[k]);
    const Tensor leaf = x.clone().requires_grad_();
    index_select(leaf, 0, rows).backward(src);
    results[k] = {index_select(x, 0, rows),          gather(x, 0, places),
                  scatter_add(x, 0, places, src),    leaf.grad(),
                  scatter_add(src, 1, columns, src), cat({x, src, x})};
  }
  for (int k : {1, 2})
    for (std::size_t i = 0; i < results[0].size(); ++i) {
      CAPTURE(i);
      CHECK(same_bits(results[0][i], results[k][i]));
    }
}
