#include "table.hpp"

using namespace gradients;

namespace {

void pointwise(Tally& t) {
  unary(t, "exp", exp), unary(t, "expm1", expm1), unary(t, "log", log, true);
  unary(t, "log1p", log1p, true), unary(t, "sqrt", sqrt, true), unary(t, "square", square);
  unary(t, "reciprocal", reciprocal), unary(t, "abs", abs), unary(t, "sign", sign);
  unary(t, "sin", sin), unary(t, "cos", cos), unary(t, "tanh", tanh), unary(t, "erf", erf);
  unary(t, "sigmoid", sigmoid), unary(t, "relu", relu), unary(t, "floor", floor);
  unary(t, "ceil", ceil), unary(t, "round", round), unary(t, "neg", neg), unary(t, "clone", clone);
  unary(t, "contiguous", contiguous);
  unary(t, "softmax", [](const In& x) { return softmax(x); });
  unary(t, "log_softmax", [](const In& x) { return log_softmax(x); });
  unary(t, "add scalar", [](const In& x) { return 2.0 + x + 3.0; });
  unary(t, "sub scalar", [](const In& x) { return 2.0 - (x - 3.0); });
  unary(t, "mul scalar", [](const In& x) { return 2.0 * x * 3.0; });
  unary(t, "div scalar", [](const In& x) { return 2.0 / x + x / 3.0; });
  unary(t, "pow 3", [](const In& x) { return pow(x, 3.0); });
  unary(
      t, "pow -1.5", [](const In& x) { return pow(x, -1.5); }, true);
  unary(t, "pow 0", [](const In& x) { return pow(x, 0.0); });
  unary(t, "clamp", [](const In& x) { return clamp(x, -0.9, 1.1); });
  unary(t, "to", [](const In& x) { return x.to(float64).to(x.dtype()); });
}

void arithmetic(Tally& t) {
  binary(t, "add", add), binary(t, "sub", sub), binary(t, "mul", mul), binary(t, "div", div);
  binary(t, "pow", pow, true), binary(t, "maximum", maximum), binary(t, "minimum", minimum);
  same_twice(t, "add", add, false), same_twice(t, "sub", sub, false),
      same_twice(t, "mul", mul, false);
  same_twice(t, "div", div, false), same_twice(t, "pow", pow, true);
  const Tensor mask = sample({3, 4}, false, 7) > 0, row = sample({4}, false, 8) > 0;
  for (const Tensor& c : {mask, row}) {
    const Tensors ab = {input({3, 4}, Layout::plain, false, 1),
                        input({4}, Layout::plain, false, 2)};
    t.run(
        "where", [&](const Tensors& x) { return where(c, x[0], x[1]); }, ab);
    t.run(
        "where scalar", [&](const Tensors& x) { return where(c, x[0], 2.0) * where(c, 1.5, x[1]); },
        ab);
    t.run(
        "masked_fill", [&](const Tensors& x) { return masked_fill(x[0], c, 2.0) * x[1]; }, ab);
  }
  any_of(t, "masked_fill of a number",
         [](const Tensors& x) { return masked_fill(square(x[0]), x[0] > 0, -1); },
         {{}, {5}, {3, 4}, {2, 0}});
}

const Family kPointwise(pointwise);
const Family kArithmetic(arithmetic);

}  // namespace
