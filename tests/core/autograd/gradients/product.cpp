#include "table.hpp"

using namespace gradients;

namespace {

void products(Tally& t) {
  const std::pair<Shape, Shape> pairs[] = {{{3}, {3}},
                                           {{2, 3}, {3}},
                                           {{3}, {3, 2}},
                                           {{2, 3}, {3, 4}},
                                           {{1, 3}, {3, 1}},
                                           {{0, 3}, {3, 2}},
                                           {{2, 0}, {0, 3}},
                                           {{2, 3, 4}, {4, 2}},
                                           {{3, 4}, {2, 4, 2}},
                                           {{2, 3, 4}, {2, 4, 2}},
                                           {{2, 1, 3, 2}, {3, 2, 2}},
                                           {{2, 3, 4}, {4}}};
  for (const auto& [a, b] : pairs)
    for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
      t.run("matmul", [](const Tensors& x) { return matmul(x[0], x[1]); },
            {input(a, layout, false, 1), input(b, layout, false, 2)});
  t.run("matmul of itself", [](const Tensors& x) { return matmul(x[0], x[0].t()); },
        {input({3, 2}, Layout::plain, false, 1)});
  for (const Shape& shape : {Shape{4}, Shape{3, 4}, Shape{2, 3, 4}, Shape{0, 4}}) {
    const Tensors in = {input(shape, Layout::plain, false, 1),
                        input({2, 4}, Layout::plain, false, 2),
                        input({2}, Layout::plain, false, 3)};
    t.run(
        "linear", [](const Tensors& x) { return linear(x[0], x[1], x[2]); }, in);
    t.run(
        "linear without bias", [](const Tensors& x) { return linear(x[0], x[1]) * x[2]; }, in);
  }
}

const Family kProducts(products);

}  // namespace
