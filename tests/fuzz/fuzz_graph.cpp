#include "fuzz.hpp"

// The input is a graph of up to 30 operations on tiny tensors, whose values stay within [-1, 1] and
// away from kinks. The gradient along a random direction is that of differences.

using namespace descent;

namespace {

constexpr int64_t kMostOps = 30, kMostElements = 24;
constexpr double kTolerance = 1e-6, kStep = 1e-3, kLeastGradient = 1e-4;
constexpr int64_t kRunsPerCheck = 50;  // after each so many, enough must have been compared

/// True for about half of the elements.
Tensor mask_for(const Tensor& x) {
  return sin(arange(x.numel(), float64) * 2).reshape(x.shape()) > 0;
}

/// b, or a scalar made of it if it does not broadcast to the shape of a.
Tensor fit(const Tensor& b, const Tensor& a) {
  bool fits = b.dim() <= a.dim();
  for (int i = 1; fits && i <= b.dim(); ++i)
    fits = b.shape()[-i] == 1 || b.shape()[-i] == a.shape()[-i];
  return fits ? b : mean(b);
}

/// Two of x, along a new axis.
Tensor repeated(const Tensor& x) {
  Shape shape = x.shape();
  shape.insert(0, 2);
  return expand(x, shape);
}

/// x as a matrix.
Tensor rows(const Tensor& x) {
  return x.dim() > 1 ? x.reshape({-1, x.shape().back()}) : x.reshape({1, -1});
}

Tensor pointwise(Input& in, const Tensor& a, const Tensor& b) {
  switch (in.below(20)) {
    case 0: return tanh(a + b);
    case 1: return a * b;
    case 2: return tanh(a - b);
    case 3: return a / (square(b) + 2);
    case 4: return sin(a);
    case 5: return cos(a);
    case 6: return sigmoid(a);
    case 7: return sqrt(a + 1.5) * 0.6;
    case 8: return exp(a) * 0.35;
    case 9: return log(a + 2.5) * 0.75;
    case 10: return erf(a);
    case 11: return tanh(pow(a + 1.5, b));
    case 12: return expm1(a) * 0.5;
    case 13: return log1p(a * 0.5);
    case 14: return reciprocal(a + 2.5);
    case 15: return neg(tanh(a));
    case 16: return where(mask_for(a), a, b);
    case 17: return masked_fill(a, mask_for(a), 0.5);
    case 18: return tanh(pow(b + 2, 1.5) * a);
    default: return tanh(maximum(a, a - 2.5) + minimum(b, b + 2.5));  // never at a tie
  }
}

Tensor reduced(Input& in, const Tensor& a) {
  const bool keepdim = in.below(2) == 1;
  Dims dims{};
  if (a.dim() > 0 && in.below(3) > 0) dims = Dims(in.below(a.dim()));
  const int64_t last = a.dim() == 0 ? 0 : in.below(a.dim());
  switch (in.below(8)) {
    case 0: return tanh(sum(a, dims, keepdim));
    case 1: return mean(a, dims, keepdim);
    case 2: return var(a, dims, keepdim, {.correction = 0});
    case 3: return norm(a + 2, dims, keepdim) / 15;
    case 4: return tanh(logsumexp(a, dims, keepdim));
    case 5: return softmax(a, last);
    case 6: return tanh(log_softmax(a, last));
    default: return tanh(sum_to(a, a.dim() > 0 ? Shape{a.shape().back()} : Shape{}));
  }
}

Tensor moved(Input& in, const Tensor& a, const Tensor& b) {
  const Tensor flat = a.reshape({-1});
  const int64_t n = flat.numel(), dim = a.dim() == 0 ? 0 : in.below(a.dim());
  const Tensor index = tensor({in.below(n), in.below(n), in.below(n)});
  switch (in.below(12)) {
    case 0: return n % 2 == 0 ? a.reshape({2, n / 2}) : a.reshape({n, 1});
    case 1: return a.dim() < 2 ? unsqueeze(a, 0) : transpose(a, 0, dim);
    case 2: return slice(flat, 0, in.below(n), INT64_MAX, 1 + in.below(2));
    case 3: return cat({flat, b.reshape({-1}), flat});
    case 4: return a.dim() < 3 ? stack({a, a * a}, in.below(a.dim() + 1)) : flat;
    case 5: return index_select(flat, 0, index);
    case 6: return gather(flat, 0, index);
    case 7: return tanh(scatter_add(flat, 0, index, narrow(cat({flat, flat, flat}), 0, 0, 3)));
    case 8: return a.dim() < 3 ? repeated(a) : clone(a);
    case 9: return a.dim() > 0 ? select(a, dim, 0) : a.reshape({1});
    case 10: return descent::index(rows(a), tensor({int64_t{0}, int64_t{0}}));
    default: return split(flat, (n + 1) / 2).back();
  }
}

Tensor multiplied(Input& in, const Tensor& a, const Tensor& b) {
  const Tensor x = rows(a), y = rows(b);
  const Tensor other = y.shape()[1] == x.shape()[1] ? y : x;
  const auto k = static_cast<double>(x.shape()[1]);
  const Tensor image = x.reshape({1, 1, x.shape()[0], x.shape()[1]});
  const Tensor kernel = narrow(cat({y.reshape({-1}), y.reshape({-1})}), 0, 0, 2);
  switch (in.below(5)) {
    case 0: return matmul(x, other.t()) / k;
    case 1: return matmul(x.t(), x) / static_cast<double>(x.shape()[0]);
    case 2:
      return tanh(
          linear(x, other, narrow(cat({other.t()[0], other.t()[0]}), 0, 0, other.shape()[0])));
    case 3: return tanh(conv2d(image, kernel.reshape({1, 1, 1, 2}), {.padding = {0, 1}}));
    default: return avg_pool2d(image, {1, 2}, {.stride = 1, .padding = {0, 1}});
  }
}

/// The value of the graph that `in` describes, in which every operation plays a part.
Tensor value(Input in, const std::vector<Tensor>& leaves) {
  std::vector<Tensor> nodes = leaves;
  Tensor total = tensor(0., float64);
  for (int64_t n = 1 + in.below(kMostOps); n > 0; --n) {
    const Tensor a = nodes[static_cast<std::size_t>(in.below(std::ssize(nodes)))],
                 b = nodes[static_cast<std::size_t>(in.below(std::ssize(nodes)))];
    const int64_t kind = in.below(4);
    Tensor y = kind == 0   ? pointwise(in, a, fit(b, a))
               : kind == 1 ? reduced(in, a)
               : kind == 2 ? moved(in, a, b)
                           : multiplied(in, a, b);
    if (y.numel() > kMostElements) y = narrow(y.reshape({-1}), 0, 1, kMostElements);
    if (y.dim() > 3) y = y.reshape({-1, y.shape().back()});
    total = total + mean(sin(y + static_cast<double>(n)));
    nodes.push_back(y);
  }
  return total;
}

Tensor leaf(Input& in) {
  Shape shape;
  for (int64_t n = in.below(4); n > 0; --n) shape.push_back(1 + in.below(3));
  return tanh(noise(shape, in.byte(), float64)).detach();
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  static int64_t runs = 0, compared = 0;
  Input in(data, size);
  std::vector<Tensor> leaves{leaf(in), leaf(in), leaf(in)}, directions;
  for (Tensor& x : leaves) {
    x.requires_grad_();
    directions.push_back(noise(x.shape(), directions.size(), float64));
  }
  const auto slopes = grad({value(in, leaves)}, leaves, {.allow_unused = true});
  double analytic = 0, scale = kLeastGradient;
  for (std::size_t i = 0; i < slopes.size(); ++i) {
    if (!slopes[i].defined()) continue;
    analytic += sum(slopes[i] * directions[i]).item();
    scale += sum(abs(slopes[i] * directions[i])).item();
  }
  const NoGradGuard no_grad;
  const auto difference = [&](double h) {
    const auto at = [&](double step) {
      std::vector<Tensor> moved_leaves;
      for (std::size_t i = 0; i < leaves.size(); ++i)
        moved_leaves.push_back(leaves[i] + directions[i] * step);
      return value(in, moved_leaves).item();
    };
    return (at(h) - at(-h)) / (2 * h);
  };
  const double numeric = (4 * difference(kStep / 2) - difference(kStep)) / 3;
  must(std::abs(analytic - numeric) <= kTolerance * scale, "the gradient is that of differences");
  compared += scale > 2 * kLeastGradient;
  must(++runs % kRunsPerCheck != 0 || 10 * compared >= 9 * runs, "nearly all runs are compared");
  return 0;
}
