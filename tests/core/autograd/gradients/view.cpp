#include "table.hpp"

using namespace gradients;

namespace {

void views(Tally& t) {
  const std::vector<Shape> s = {{2, 3, 4}, {2, 3, 1}, {1, 3, 2}};
  any_of(
      t, "reshape",
      [](const Tensors& x) {
        return reshape(x[0], {-1, 2}) * 2.0;
      },
      s);
  any_of(
      t, "flatten", [](const Tensors& x) { return flatten(x[0], 1); }, s);
  any_of(
      t, "permute",
      [](const Tensors& x) {
        return permute(x[0], {2, 0, 1});
      },
      s);
  any_of(
      t, "transpose", [](const Tensors& x) { return transpose(x[0], 0, -1); }, s);
  any_of(t, "t", [](const Tensors& x) { return descent::t(x[0]); }, {{3, 4}, {1, 3}, {5}, {0, 2}});
  any_of(
      t, "narrow", [](const Tensors& x) { return narrow(x[0], 1, 1, 2); }, s);
  any_of(
      t, "slice", [](const Tensors& x) { return slice(x[0], 1, 0, 3, 2); }, s);
  any_of(
      t, "slice of nothing", [](const Tensors& x) { return slice(x[0], 1, 2, 1); }, s);
  any_of(
      t, "select", [](const Tensors& x) { return select(x[0], 1, -1); }, s);
  any_of(
      t, "squeeze", [](const Tensors& x) { return squeeze(x[0]) * 3.0; }, s);
  any_of(
      t, "squeeze dim", [](const Tensors& x) { return squeeze(x[0], 2); }, s);
  any_of(
      t, "unsqueeze", [](const Tensors& x) { return unsqueeze(x[0], 1); }, s);
  any_of(t, "expand",
         [](const Tensors& x) {
           return expand(x[0], {2, 5, 3, -1});
         },
         {{3, 1}, {1, 4}, {5, 3, 2}});
}

void joins(Tally& t) {
  const Tensors three = {input({2, 3}, Layout::plain, false, 1),
                         input({2, 3}, Layout::transposed, false, 2),
                         input({2, 3}, Layout::strided, false, 3)};
  for (int64_t dim : {0, 1, -1}) {
    t.run(
        "cat", [=](const Tensors& x) { return cat(x, dim); }, three);
    t.run(
        "cat of itself",
        [=](const Tensors& x) {
          return cat({x[0], x[1], x[0]}, dim) * 2.0;
        },
        three);
    t.run(
        "stack", [=](const Tensors& x) { return stack(x, dim); }, three);
  }
  any_of(t, "split",
         [](const Tensors& x) { return split(x[0], 2, 1)[1] * split(x[0], 1, 0)[0].sum(); },
         {{2, 3}, {3, 4}, {2, 3, 3}, {2, 4, 1}});
  const Tensor rows = tensor({2, 0, 2}), cells = tensor({{1, 0, 1, 2}, {2, 2, 0, 0}});
  const Tensor mask = sample({3, 4}, false, 7) > 0;
  const std::vector<Shape> s = {{3, 4}};
  const Tensor columns = tensor({{3, 0}, {1, 1}, {2, 3}});
  any_of(t, "index_select", [=](const Tensors& x) { return index_select(x[0], 0, rows); },
         {{3, 4}, {3}, {3, 0}, {3, 2, 2}});
  any_of(
      t, "index_select dim", [=](const Tensors& x) { return index_select(x[0], 1, rows); }, s);
  any_of(
      t, "gather", [=](const Tensors& x) { return gather(x[0], 0, cells); }, s);
  any_of(
      t, "gather along rows", [=](const Tensors& x) { return gather(x[0], -1, columns); }, s);
  any_of(t, "gather of a vector", [=](const Tensors& x) { return gather(square(x[0]), 0, rows); },
         {{3}, {4}});
  any_of(t, "index of rows", [=](const Tensors& x) { return index(x[0], rows); },
         {{3}, {3, 0}, {4, 2, 2}});
  any_of(
      t, "index", [=](const Tensors& x) { return index(x[0], rows) * 2.0; }, s);
  any_of(
      t, "index by mask", [=](const Tensors& x) { return index(x[0], mask); }, s);
  for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
    t.run("scatter_add", [=](const Tensors& x) { return scatter_add(x[0], 0, cells, x[1]); },
          {input({3, 4}, layout, false, 1), input({2, 4}, layout, false, 2)});
  for (const Shape& shape : {Shape{3, 4}, Shape{3, 5}})
    t.run("scatter_add along rows",
          [=](const Tensors& x) { return scatter_add(x[0], 1, columns, x[1]); },
          {input(shape, Layout::plain, false, 1), input({3, 2}, Layout::strided, false, 2)});
}

const Family kViews(views);
const Family kJoins(joins);

}  // namespace
