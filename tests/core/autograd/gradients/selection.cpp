#include "table.hpp"

using namespace gradients;

namespace {

const std::vector<Shape> kCubes = {{2, 3, 4}, {4, 1, 3}, {2, 0, 3}};

void totals(Tally& t) {
  any_of(t, "std", [](const Tensors& x) { return descent::std(x[0]); },
         {{5}, {3, 4}, {1, 7}, {2, 3, 4}});
  any_of(t, "prod", [](const Tensors& x) { return prod(x[0]); },
         {{}, {1}, {5}, {0}, {3, 4}, {1, 7}, {7, 1}, {2, 3, 4}});
  for (bool keepdim : {false, true})
    for (const Dims& dims : {Dims{0}, Dims{-1}, Dims{1}, Dims{0, 2}, Dims{2, 1, 0}}) {
      any_of(
          t, "prod dims", [=](const Tensors& x) { return prod(x[0], dims, keepdim); }, kCubes);
      any_of(t, "std dims",
             [=](const Tensors& x) { return descent::std(x[0], dims, keepdim, {.correction = 0}); },
             {{2, 3, 4}});
    }
  // Products that are right where elements are 0: one, two, and all of them.
  for (const Ints& zero : {Ints{0}, Ints{1, 3}, Ints{0, 1, 2, 3, 4}}) {
    const Tensor x = sample({5}, false, 3);
    for (int64_t i : zero) x.select(0, i).fill_(0);
    t.run("prod with zeros", [](const Tensors& in) { return prod(in[0]); }, {x.requires_grad_()});
  }
  for (int64_t dim : {0, 1, -1})
    any_of(t, "cumsum", [=](const Tensors& x) { return cumsum(x[0], dim); },
           {{2, 3, 4}, {3, 1}, {2, 0, 3}, {5, 2}});
  any_of(t, "cumsum of a vector", [](const Tensors& x) { return cumsum(x[0] * x[0], 0); },
         {{5}, {1}, {0}});
}

void orders(Tally& t) {
  for (int64_t dim : {0, 1, -1}) {
    for (bool largest : {false, true}) {
      any_of(
          t, "sort",
          [=](const Tensors& x) { return sort(x[0], dim, {.descending = largest}).values; },
          kCubes);
      any_of(t, "topk",
             [=](const Tensors& x) { return topk(x[0], 2, dim, {.largest = largest}).values; },
             {{2, 3, 4}, {2, 2, 5}});
    }
    for (bool keepdim : {false, true}) {
      any_of(t, "max_with_indices",
             [=](const Tensors& x) { return max_with_indices(x[0], dim, keepdim).values; },
             {{2, 3, 4}, {4, 1, 3}});
      any_of(t, "min_with_indices",
             [=](const Tensors& x) { return min_with_indices(x[0], dim, keepdim).values; },
             {{2, 3, 4}, {4, 1, 3}});
      any_of(t, "median", [=](const Tensors& x) { return median(x[0], dim, keepdim).values; },
             {{2, 3, 4}, {4, 1, 3}});
      for (double q : {0., 0.3, 0.5, 1.})
        any_of(t, "quantile", [=](const Tensors& x) { return quantile(x[0], q, dim, keepdim); },
               {{2, 3, 4}, {4, 1, 3}});
    }
  }
  any_of(t, "topk of a vector", [](const Tensors& x) { return topk(square(x[0]), 0).values; },
         {{5}, {1}});
}

void picks(Tally& t) {
  const Tensor cells = tensor({{1, 0, 1, 2}, {2, 2, 0, 0}});
  const Tensor same = tensor({{1, 0, 1, 2}, {1, 2, 1, 0}});  // the second row overwrites the first
  for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
    for (const Tensor& index : {cells, same, same.t().contiguous().t()}) {
      const auto squares = [=](const Tensors& x) { return square(scatter(x[0], 0, index, x[1])); };
      t.run("scatter", [=](const Tensors& x) { return scatter(x[0], 0, index, x[1]); },
            {input({3, 4}, layout, false, 1), input({2, 4}, layout, false, 2)});
      t.run("scatter squared", squares,
            {input({3, 4}, layout, false, 1), input({2, 4}, layout, false, 2)});
    }
  t.run("scatter dim", [=](const Tensors& x) { return scatter(x[0], -1, cells.t(), x[1]); },
        {input({5, 3}, Layout::plain, false, 1), input({4, 2}, Layout::plain, false, 2)});
  t.run("scatter nothing",
        [=](const Tensors& x) {
          return scatter(x[0], 1, zeros({3, 0}, int64), x[1]);
        },
        {input({3, 4}, Layout::plain, false, 1), input({3, 0}, Layout::plain, false, 2)});
  for (const Tensor& index :
       {tensor({2, 0, 2}), tensor({{0, 1}, {2, 1}}), tensor(1), zeros({2, 0}, int64)})
    for (const auto& padding : {std::optional<int64_t>(), std::optional<int64_t>(2)})
      any_of(t, "embedding",
             [=](const Tensors& x) {
               // What the padding row gives has no gradient, so it must not count.
               const Tensor y = embedding(index, x[0], {.padding_idx = padding});
               return padding ? y * (index != *padding).unsqueeze(-1).to(kNumber) : y;
             },
             {{3, 4}, {4, 1}, {3, 0}});
  const Tensor mask = sample({3, 4}, false, 7) > 0;
  any_of(t, "masked_select", [=](const Tensors& x) { return masked_select(x[0], mask) * 2.0; },
         {{3, 4}, {3, 1}, {4}, {1, 4}, {}, {2, 3, 4}, {0, 3, 4}});
  any_of(t, "masked_select narrow mask",
         [](const Tensors& x) {
           return masked_select(x[0], tensor({true, false, true}));
         },
         {{4, 3}, {1}});
  for (int64_t diagonal : {-5, -1, 0, 1, 2}) {
    any_of(t, "tril", [=](const Tensors& x) { return tril(x[0], diagonal); },
           {{3, 4}, {4, 3}, {2, 3, 3}, {0, 2}});
    any_of(t, "triu", [=](const Tensors& x) { return triu(square(x[0]), diagonal); },
           {{3, 4}, {4, 3}, {2, 3, 3}, {0, 2}});
  }
  for (const Dims& dims : {Dims{}, Dims{0}, Dims{-1, 0}, Dims{2, 1, 0}})
    any_of(
        t, "flip", [=](const Tensors& x) { return flip(x[0], dims); }, kCubes);
  for (int64_t count : {1, 2, 3, 7})
    any_of(t, "chunk",
           [=](const Tensors& x) {
             return chunk(x[0], count, 1).back() * chunk(x[0], count, 1)[0].sum();
           },
           {{2, 3, 4}, {1, 5}, {3, 1}});
  any_of(t, "chunk of nothing", [](const Tensors& x) { return chunk(x[0], 3)[2]; }, {{0, 2}});
}

const Family kTotals(totals);
const Family kOrders(orders);
const Family kPicks(picks);

}  // namespace
