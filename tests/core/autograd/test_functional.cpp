#include <cmath>

#include "support.hpp"

using namespace descent;
using Tensors = std::vector<Tensor>;

namespace {

Tensor draw(const Shape& shape, uint64_t seed) { return noise(shape, seed, float64); }

/// A function of two inputs, smooth in both, with a value [2].
Tensor curve(const Tensors& x) { return matmul(tanh(x[0]), exp(x[1] * 0.5)) * sum(x[1]); }
/// One of one element.
Tensor valley(const Tensors& x) { return sum(square(curve(x))) + sum(sin(x[0])); }

/// (f(x + h v) - f(x - h v)) / 2 h, extrapolated: for smooth f right to about 1e-10.
Tensor slope_along(const std::function<Tensor(const Tensors&)>& f, const Tensors& x,
                   const Tensors& v) {
  const auto difference = [&](double h) {
    Tensors up, down;
    for (std::size_t i = 0; i < x.size(); ++i) {
      up.push_back(x[i] + v[i] * h);
      down.push_back(x[i] - v[i] * h);
    }
    return ((f(up) - f(down)) / (2 * h)).detach();
  };
  return (difference(5e-4) * 4.0 - difference(1e-3)) / 3.0;
}

double distance(const Tensor& a, const Tensor& b) { return max(abs(a - b)).item(); }

const Tensors kPoint = {draw({2, 3}, 1), draw({3}, 2)}, kAlong = {draw({2, 3}, 3), draw({3}, 4)};

}  // namespace

TEST_CASE("products with the Jacobian are derivatives along a direction") {
  const Tangent forward = jvp(curve, kPoint, kAlong);
  CHECK(same_bits(forward.value, curve(kPoint)));
  CHECK(distance(forward.tangent, slope_along(curve, kPoint, kAlong)) < 1e-9);
  const Tensor v = draw({2}, 5);
  const Products backward = vjp(curve, kPoint, v);
  CHECK(same_bits(backward.value, curve(kPoint)));
  // v^T (J w) = (v^T J) w
  const double one = sum(v * forward.tangent).item(),
               other =
                   (sum(backward.products[0] * kAlong[0]) + sum(backward.products[1] * kAlong[1]))
                       .item();
  CHECK(std::abs(one - other) < 1e-13);
  CHECK_FALSE(forward.tangent.requires_grad());
  CHECK_FALSE(backward.products[0].requires_grad());
}

TEST_CASE("products with the Hessian are derivatives of the gradient along a direction") {
  const Products product = hvp(valley, kPoint, kAlong);
  CHECK(same_bits(product.value, valley(kPoint)));
  for (std::size_t i = 0; i < 2; ++i) {
    const auto gradient = [i](const Tensors& x) {
      return vjp(valley, x, ones({}, float64)).products[i];
    };
    CHECK(distance(product.products[i], slope_along(gradient, kPoint, kAlong)) < 1e-8);
  }
}

TEST_CASE("the Jacobian and the Hessian hold all derivatives") {
  const std::vector<Tensor> j = jacobian(curve, kPoint);
  CHECK(j[0].shape() == Shape{2, 2, 3});
  CHECK(j[1].shape() == Shape{2, 3});
  const Tensor along = sum(j[0] * kAlong[0], {1, 2}) + matmul(j[1], kAlong[1]);
  CHECK(distance(along, jvp(curve, kPoint, kAlong).tangent) < 1e-13);

  // Of sum x^3 it is diagonal, 6 x; of x^T A x it is A + A^T.
  const auto cubes = [](const Tensors& x) { return sum(pow(x[0], 3)); };
  const Tensor x = draw({2, 2}, 6);
  const Tensor h = hessian(cubes, x);
  CHECK(h.shape() == Shape{2, 2, 2, 2});
  const Tensor diagonal = eye(4, float64) * x.reshape({4}) * 6.0;
  CHECK(distance(h.reshape({4, 4}), diagonal) < 1e-13);
  const Tensor a = draw({3, 3}, 7);
  const auto form = [&](const Tensors& y) { return matmul(matmul(y[0], a), y[0]); };
  CHECK(distance(hessian(form, draw({3}, 8)), a + a.t()) < 1e-13);

  CHECK(
      jacobian([](const Tensors& y) { return y[0].narrow(0, 0, 0); }, {draw({3}, 1)})[0].shape() ==
      Shape{0, 3});
}

TEST_CASE("what f does not depend on has derivatives 0, and a linear function a Hessian of 0") {
  const auto first = [](const Tensors& x) { return x[0] * 2.0; };
  CHECK(values(jacobian(first, {draw({2}, 1), draw({2}, 2)})[1]) == Values(4, 0));
  CHECK(values(hvp([](const Tensors& x) { return sum(x[0]); }, {draw({3}, 1)}, {draw({3}, 2)})
                   .products[0]) == Values(3, 0));
  CHECK(
      values(jvp([](const Tensors&) { return ones({2}, float64); }, {draw({3}, 1)}, {draw({3}, 2)})
                 .tangent) == Values(2, 0));
}

TEST_CASE("no leaf's gradient changes, and wrong arguments are refused") {
  const Tensor w = ones({3}, float64).requires_grad_();
  const auto f = [&](const Tensors& x) { return sum(x[0] * w); };
  (void)hvp(f, {draw({3}, 1)}, {draw({3}, 2)});
  (void)vjp(f, {w}, ones({}, float64));
  CHECK_FALSE(w.grad().defined());

  const Tensors x{draw({3}, 1)};
  CHECK(refusal<ValueError>([&] { (void)vjp(f, {}, w); }) == "vjp: there are no inputs");
  CHECK(refusal<ShapeError>([&] { (void)vjp(f, x, ones({2}, float64)); }) ==
        "vjp: v[0] is [2] for an input []: need the same");
  CHECK(refusal<ShapeError>([&] { (void)jvp(f, x, {}); }) == "jvp: 0 tensors v for 1 inputs");
  CHECK(refusal<DtypeError>([&] { (void)jvp(f, x, {ones({3})}); }) != kNothingThrown);
  CHECK(refusal<ShapeError>([&] {
          (void)hvp([](const Tensors& y) { return y[0] * 1.0; }, x, x);
        }) == "hvp: f returned [3]: need one element");
  CHECK(refusal<DtypeError>([&] {
          (void)jacobian(f, {tensor({1, 2})});
        }) == "requires_grad_: a tensor of int64 has no gradient");
  const NoGradGuard off;
  CHECK(refusal<GraphError>([&] { (void)jacobian(f, x); }) ==
        "jacobian: recording is off here (NoGradGuard)");
}

// ---- checkpoint

namespace {

struct Block : nn::Module {
  nn::Linear a = register_module("a", nn::Linear(8, 16)),
             b = register_module("b", nn::Linear(16, 8));
  nn::Dropout drop = register_module("drop", nn::Dropout(0.3));
  Tensor forward(const In& x) const override { return drop(b(tanh(a(x)))) + x; }
};

/// Three steps of training two blocks, of which `saving` ones are computed again.
NamedTensors train(bool saving) {
  manual_seed(1);
  Block first, second;
  NamedTensors all;
  for (const auto& [name, p] : first.named_parameters()) all.emplace_back("first." + name, p);
  for (const auto& [name, p] : second.named_parameters()) all.emplace_back("second." + name, p);
  optim::SGD opt(all, {.lr = 0.1});
  const auto call = [&](const Block& block, const Tensor& x) {
    return saving ? checkpoint([&](const Tensors& in) { return block(in[0]); }, {x}) : block(x);
  };
  for (int step = 0; step < 3; ++step) {
    opt.zero_grad();
    const Tensor x = noise({5, 8}, static_cast<uint64_t>(step));
    square(call(second, call(second, call(first, x)))).mean().backward();
    opt.step();
  }
  all.emplace_back("next random number", rand({1}));
  return all;
}

}  // namespace

TEST_CASE("training with checkpoints has the same bits, dropout included") {
  CHECK(same_bits(train(false), train(true)));
}

TEST_CASE("a checkpoint keeps only its inputs, so that memory falls") {
  const auto peak = [](bool saving) {
    Tensor x = noise({100, 100}, 1).requires_grad_();
    const auto chain = [](const Tensors& in) {
      Tensor y = in[0];
      for (int i = 0; i < 20; ++i) y = tanh(y * 1.1);
      return y;
    };
    Tensor y = x;
    for (int i = 0; i < 5; ++i) y = saving ? checkpoint(chain, {y}) : chain({y});
    return memory_stats().live_bytes;
  };
  const int64_t all = peak(false), few = peak(true);
  MESSAGE("checkpoint: ", few, " bytes are kept in place of ", all);
  CHECK(few * 5 < all);
}

TEST_CASE("grad goes through a checkpoint to inputs and to parameters that it uses") {
  const Tensor x = draw({3}, 1).requires_grad_(), w = draw({3}, 2).requires_grad_();
  const Tensor unused = draw({3}, 3).requires_grad_(), places = tensor({2, 0});
  const auto f = [&](const Tensors& in) { return index_select(sin(in[0] * w), 0, in[1]); };
  const Tensor plain = sum(f({x, places})), saving = sum(checkpoint(f, {x, places, unused}));
  const Tensors wanted = grad({plain}, {x, w}), found = grad({saving}, {x, w});
  CHECK(same_bits(wanted[0], found[0]));
  CHECK(same_bits(wanted[1], found[1]));
}

TEST_CASE("a second walk computes a checkpoint again for its own gradient") {
  const Tensor x = draw({3}, 1).requires_grad_();
  const Tensor y = checkpoint([](const Tensors& in) { return in[0] * in[0]; }, {x});
  y.backward(ones({3}, float64), true);
  const Values once = values(x.grad());
  x.set_grad({});
  y.backward(full({3}, 3.0, float64));
  for (std::size_t i = 0; i < 3; ++i) CHECK(values(x.grad())[i] == 3 * once[i]);
}

TEST_CASE("a checkpoint refuses what would give other gradients") {
  Tensor x = draw({3}, 1).requires_grad_();
  const auto squares = [](const Tensors& in) { return in[0] * in[0]; };
  CHECK(refusal<GraphError>([&] {
          (void)grad({sum(checkpoint(squares, {x}))}, {x}, {.create_graph = true});
        }) == "checkpoint: it has no second derivative: call the function itself");
  Tensor scale = ones({3}, float64);
  Tensor y = sum(checkpoint([&](const Tensors& in) { return in[0] * scale; }, {x}));
  scale += 1;
  CHECK(refusal<GraphError>([&] {
          y.backward();
        }).starts_with("checkpoint: the function gave other bits in backward than before"));
  y = sum(checkpoint(squares, {x}));
  {
    const NoGradGuard off;
    x += 1;
  }
  CHECK(refusal<GraphError>([&] { y.backward(); }).find("was changed in place") !=
        std::string::npos);
  const NoGradGuard off;
  CHECK_FALSE(checkpoint(squares, {x}).requires_grad());
}
