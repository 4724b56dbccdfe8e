#include "table.hpp"

using namespace gradients;

namespace {

void pointwise(Tally& t) {
  unary(t, "rsqrt", rsqrt, true), unary(t, "atan", atan), unary(t, "sinh", sinh);
  unary(t, "cosh", cosh);
  unary(t, "tan", [](const In& x) { return tan(x * 0.7); });  // away from its poles
  unary(t, "asin", [](const In& x) { return asin(x * 0.45); });
  unary(t, "acos", [](const In& x) { return acos(x * 0.45); });
  binary(t, "atan2", atan2), same_twice(t, "atan2", atan2, true);
  // A quotient far from the next whole number.
  binary(t, "remainder", [](const In& a, const In& b) { return remainder(a * 0.1, b) * a; });
  binary(t, "remainder negative", [](const In& a, const In& b) { return remainder(a * 0.1, -b); });
  unary(t, "remainder number", [](const In& x) { return remainder(x * 0.2, -0.75); });
  binary(t, "floor_divide", [](const In& a, const In& b) { return floor_divide(a * 0.1, b) * a; });
  unary(t, "floor_divide number", [](const In& x) { return floor_divide(x * 0.2, 3) * x; });
  for (const double weight : {-0.75, 0.25, 0.5, 1.5})
    t.run("lerp number", [=](const Tensors& x) { return lerp(x[0], x[1], weight) * x[0]; },
          {input({3, 4}, Layout::plain, false, 1), input({4}, Layout::strided, false, 2)});
  for (const Shape& shape : {Shape{3, 4}, Shape{4}, Shape{}, Shape{2, 3, 4}})
    t.run("lerp", [](const Tensors& x) { return lerp(x[0], x[1], x[2]); },
          {input({3, 4}, Layout::transposed, false, 1), input({4}, Layout::plain, false, 2),
           input(shape, Layout::plain, false, 3)});
}

void products(Tally& t) {
  struct Case {
    const char* equation;
    Shape a, b;
  };
  for (const Case& c :
       {Case{"ik,kj->ij", {3, 4}, {4, 2}}, Case{"nik,njk->nij", {2, 3, 2}, {2, 2, 2}},
        Case{"i,j->ji", {3}, {4}}, Case{"i,i->", {5}, {5}}, Case{"iab,a->bi", {2, 3, 2}, {3}},
        Case{"ab,cd->da", {2, 3}, {2, 2}}, Case{"ij,jk->ik", {2, 0}, {0, 3}}})
    for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
      t.run("einsum", [&c](const Tensors& x) { return einsum(c.equation, x[0], x[1]); },
            {input(c.a, layout, false, 1), input(c.b, Layout::plain, false, 2)});
  for (const auto& [n, m] : {std::pair{3, 4}, std::pair{1, 2}, std::pair{0, 3}})
    for (Layout layout : {Layout::plain, Layout::strided}) {
      t.run("outer", [](const Tensors& x) { return outer(x[0], x[1]); },
            {input({n}, layout, false, 1), input({m}, Layout::plain, false, 2)});
      t.run("bmm", [](const Tensors& x) { return bmm(x[0], x[1]); },
            {input({2, n, 3}, layout, false, 1), input({2, 3, m}, Layout::plain, false, 2)});
    }
  for (int64_t dim : {0, 1, -1})
    for (double eps : {1e-8, 1e-3})
      t.run("cosine_similarity",
            [=](const Tensors& x) { return cosine_similarity(x[0], x[1], dim, eps); },
            {input({3, 4}, Layout::transposed, false, 1), input({3, 4}, Layout::plain, false, 2)});
}

void moves(Tally& t) {
  const std::vector<Shape> cubes = {{2, 3, 4}, {4, 1, 3}, {2, 0, 3}};
  any_of(
      t, "roll",
      [](const Tensors& x) {
        return roll(x[0], {1, -5}, {2, 0});
      },
      cubes);
  any_of(
      t, "roll flat", [](const Tensors& x) { return roll(x[0], -7); }, cubes);
  any_of(
      t, "repeat",
      [](const Tensors& x) {
        return repeat(x[0], {2, 1, 1, 2});
      },
      cubes);
  any_of(
      t, "repeat none",
      [](const Tensors& x) {
        return repeat(x[0], {2, 0, 1});
      },
      cubes);
  any_of(
      t, "tile",
      [](const Tensors& x) {
        return tile(x[0], {3, 2});
      },
      cubes);
  any_of(t, "tile of a vector", [](const Tensors& x) { return tile(x[0], {2, 3}); }, {{5}, {0}});
  for (int64_t diagonal : {-1, 0, 2, 9}) {
    any_of(t, "diag", [=](const Tensors& x) { return diag(x[0], diagonal); },
           {{3, 5}, {4, 2}, {1, 1}});
    any_of(t, "diag of a vector", [=](const Tensors& x) { return diag(x[0], diagonal); },
           {{3}, {1}, {0}});
  }
  const Tensor some = tensor({1, 0, 1}), none = zeros({0}, int64);
  for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
    for (int64_t dim : {0, 1, -1}) {
      Shape shape{2, 3, 4};
      shape[static_cast<int>(dim)] = 3;
      t.run("index_add", [=](const Tensors& x) { return index_add(x[0], dim, some, x[1]); },
            {input({2, 3, 4}, layout, false, 1), input(shape, Layout::plain, false, 2)});
    }
  t.run("index_add of none", [&](const Tensors& x) { return index_add(x[0], 0, none, x[1]); },
        {input({2, 3}, Layout::plain, false, 1), input({0, 3}, Layout::plain, false, 2)});
  any_of(t, "index", [](const Tensors& x) { return x[0](1, slice(1, 9, 2), all); },
         {{2, 3, 4}, {4, 1, 3}});
  any_of(t, "index from the back", [](const Tensors& x) { return x[0](all, -1); },
         {{2, 3, 4}, {4, 1, 3}});
}

const Family kPointwise(pointwise);
const Family kProducts(products);
const Family kMoves(moves);

}  // namespace
