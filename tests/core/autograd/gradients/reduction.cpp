#include "table.hpp"

using namespace gradients;

namespace {

void reductions(Tally& t) {
  const std::vector<Shape> full = {{1}, {5}, {3, 4}, {1, 7}, {7, 1}, {2, 3, 4}};
  std::vector<Shape> all = full;
  all.push_back({}), all.push_back({0}), all.push_back({2, 0, 3});
  any_of(
      t, "sum", [](const Tensors& x) { return sum(x[0]); }, all);
  any_of(
      t, "mean", [](const Tensors& x) { return mean(x[0]); }, full);
  any_of(
      t, "max", [](const Tensors& x) { return max(x[0]); }, full);
  any_of(
      t, "min", [](const Tensors& x) { return min(x[0]); }, full);
  any_of(t, "var", [](const Tensors& x) { return var(x[0]); }, {{5}, {3, 4}, {2, 3, 4}});
  any_of(
      t, "norm", [](const Tensors& x) { return norm(x[0]); }, full);
  for (bool keepdim : {false, true}) {
    for (const Dims& dims : {Dims{0}, Dims{-1}, Dims{1}, Dims{0, 2}, Dims{2, 1, 0}}) {
      const std::vector<Shape> shapes = {{2, 3, 4}, {4, 1, 3}};
      const std::string at = " over " + str(dims);
      any_of(
          t, "sum" + at, [=](const Tensors& x) { return sum(x[0], dims, keepdim); }, shapes);
      any_of(
          t, "mean" + at, [=](const Tensors& x) { return mean(x[0], dims, keepdim); }, shapes);
      any_of(
          t, "max" + at, [=](const Tensors& x) { return max(x[0], dims, keepdim); }, shapes);
      any_of(
          t, "min" + at, [=](const Tensors& x) { return min(x[0], dims, keepdim); }, shapes);
      any_of(t, "var" + at, [=](const Tensors& x) { return var(x[0], dims, keepdim, {0}); },
             {{2, 3, 4}});
      any_of(
          t, "logsumexp" + at, [=](const Tensors& x) { return logsumexp(x[0], dims, keepdim); },
          shapes);
      for (double p : {1.0, 2.0, 3.0, static_cast<double>(INFINITY)})
        any_of(t, "norm" + at, [=](const Tensors& x) { return norm(x[0], dims, keepdim, {p}); },
               {{2, 3, 4}});
    }
  }
  for (const Shape& to : {Shape{3, 1}, Shape{4}, Shape{}, Shape{1, 1, 4}})
    for (Layout layout : {Layout::plain, Layout::strided})
      t.run("sum_to", [=](const Tensors& x) { return sum_to(x[0], to); },
            {input({2, 3, 4}, layout, false, 1)});
  for (int64_t dim : {0, 1, -1}) {
    any_of(t, "softmax dim", [=](const Tensors& x) { return softmax(x[0], dim); },
           {{2, 3, 4}, {3, 1, 4}});
    any_of(t, "log_softmax dim", [=](const Tensors& x) { return log_softmax(x[0], dim); },
           {{2, 3, 4}, {3, 1, 4}});
  }
}

const Family kReductions(reductions);

}  // namespace
