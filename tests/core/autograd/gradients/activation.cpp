#include "table.hpp"

using namespace gradients;

namespace {

void activations(Tally& t) {
  // The samples are in +-[0.3, 2]: factors bring them to both sides of every kink.
  unary(t, "softplus", [](const In& x) { return softplus(x); });
  unary(t, "softplus beta", [](const In& x) { return softplus(x, 2.5, 1.7); });
  unary(t, "softplus below", [](const In& x) { return softplus(x, -0.5, 100); });
  unary(t, "logsigmoid", logsigmoid), unary(t, "silu", silu), unary(t, "mish", mish);
  unary(t, "gelu", [](const In& x) { return gelu(x); });
  unary(t, "gelu tanh", [](const In& x) { return gelu(x, Approximate::tanh); });
  unary(t, "elu", [](const In& x) { return elu(x); });
  unary(t, "elu alpha", [](const In& x) { return elu(x, 0.3); });
  unary(t, "selu", selu), unary(t, "softsign", softsign);
  unary(t, "celu", [](const In& x) { return celu(x); });
  unary(t, "celu alpha", [](const In& x) { return celu(x, 0.4); });
  unary(t, "celu below", [](const In& x) { return celu(x, -1.5); });
  unary(t, "leaky_relu", [](const In& x) { return leaky_relu(x); });
  unary(t, "leaky_relu slope", [](const In& x) { return leaky_relu(x, -0.3); });
  unary(t, "hardtanh", [](const In& x) { return hardtanh(x * 0.77); });
  unary(t, "hardtanh limits", [](const In& x) { return hardtanh(x, -0.9, 1.1); });
  unary(t, "relu6", [](const In& x) { return relu6(x * 4.21); });
  unary(t, "hardsigmoid", [](const In& x) { return hardsigmoid(x * 2.53); });
  unary(t, "hardswish", [](const In& x) { return hardswish(x * 2.53); });
}

void slopes(Tally& t) {
  const std::pair<Shape, Shape> pairs[] = {
      {{}, {}},      {{}, {1}},        {{5}, {1}},       {{3, 4}, {4}},       {{3, 4}, {}},
      {{3, 4}, {1}}, {{2, 3, 4}, {3}}, {{2, 3, 1}, {3}}, {{2, 1, 3}, {1}},    {{1, 4}, {4}},
      {{0, 3}, {3}}, {{2, 0}, {0}},    {{2, 3, 0}, {3}}, {{2, 3, 2, 2}, {3}}, {{0}, {1}}};
  auto f = [](const Tensors& x) { return prelu(x[0], x[1]); };
  for (const auto& [x, weight] : pairs)
    for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
      t.run("prelu", f, {input(x, layout, false, 1), input(weight, layout, false, 2)});
}

void halves(Tally& t) {
  for (const auto& [dim, shapes] :
       {std::pair<int64_t, std::vector<Shape>>{-1, {{2}, {4}, {0}, {3, 4}, {1, 2}, {0, 4}}},
        {0, {{2}, {2, 3}, {4, 1}, {2, 0}}},
        {1, {{2, 4}, {3, 2, 2}, {2, 6, 1}, {2, 2, 2, 3}}}})
    any_of(
        t, "glu", [dim = dim](const Tensors& x) { return glu(x[0], dim); }, shapes);
}

const Family kActivations(activations);
const Family kSlopes(slopes);
const Family kHalves(halves);

}  // namespace
