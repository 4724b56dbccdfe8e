#include <stdexcept>
#include <thread>

#include "graph.hpp"

using namespace descent;

TEST_CASE("gradients accumulate over backwards until they are forgotten") {
  const Tensor x = leaf({1, 2});
  CHECK_FALSE(x.grad().defined());
  (x * x).sum().backward();
  CHECK(values(x.grad()) == Values{2, 4});
  (x * 3).sum().backward();
  CHECK(values(x.grad()) == Values{5, 7});
  x.zero_grad();
  CHECK_FALSE(x.grad().defined());
  x.set_grad(tensor({1., 1.}));
  x.backward(tensor({10., 20.}));
  CHECK(values(x.grad()) == Values{11, 21});
}

TEST_CASE("a diamond sums what comes down both sides, once") {
  const Tensor x = leaf({1, 2});
  const Tensor a = x * 2, b = a * a, c = a + b;
  int seen = 0;
  a.register_hook([&](const Tensor& g) {
    ++seen;
    CHECK(values(g) == Values{5, 9});
    return Tensor();
  });
  c.sum().backward();
  CHECK(seen == 1);
  CHECK(values(x.grad()) == Values{10, 18});
}

TEST_CASE("gradients of two leaves never share elements, nor with the outer gradient") {
  const Tensor x = leaf({1, 2}), y = leaf({3, 4}), outer = tensor({1., 1.});
  (x + y).backward(outer);
  x.grad() *= 2;
  CHECK(values(x.grad()) == Values{2, 2});
  CHECK(values(y.grad()) == Values{1, 1});
  CHECK(values(outer) == Values{1, 1});
  const Tensor z = leaf({1, 2, 3});
  z.sum().backward();  // on its way this gradient is expanded
  z.grad() += tensor({0., 1., 2.});
  CHECK(values(z.grad()) == Values{1, 2, 3});
}

TEST_CASE("detach shares the elements and cuts the graph") {
  const Tensor x = leaf({2, 3});
  const Tensor d = x.detach();
  CHECK_FALSE(d.requires_grad());
  CHECK(d.data<float>() == x.data<float>());
  (x * d).sum().backward();
  CHECK(values(x.grad()) == Values{2, 3});
  CHECK(refusal<GraphError>([&] { (x * 2).requires_grad_(); }) ==
        "requires_grad_: the result of an op is not a leaf: detach() it first");
  CHECK(refusal<DtypeError>([&] {
          tensor({1, 2}).requires_grad_();
        }) == "requires_grad_: a tensor of int64 has no gradient");
  CHECK(refusal<GraphError>([&] { d.set_grad(d); }) ==
        "set_grad: only a leaf that requires a gradient holds one");
  CHECK(refusal<ShapeError>([&] {
          x.set_grad(tensor({1., 2., 3.}));
        }) == "set_grad: gradient float32 [3] for a tensor float32 [2]: need the same");
}

TEST_CASE("NoGradGuard stops recording on its own thread, also when an exception ends it") {
  const Tensor x = leaf({1});
  try {
    NoGradGuard outer;
    { NoGradGuard inner; }
    CHECK_FALSE(grad_enabled());
    CHECK_FALSE((x * x).requires_grad());
    bool recorded = false;
    std::thread([&] { recorded = (x * x).requires_grad(); }).join();
    CHECK(recorded);
    throw std::runtime_error("out of here");
  } catch (const std::runtime_error&) {}
  CHECK(grad_enabled());
  CHECK((x * x).requires_grad());
  CHECK_THROWS_AS(mine(x, [](const Tensor&) -> Tensor { throw 1; }).sum().backward(), int);
  CHECK(grad_enabled());
}

TEST_CASE("backward says what it needs") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * x, loss = y.sum();
  CHECK(refusal<GraphError>([&] { y.backward(); }) ==
        "backward: tensor [2] is not a scalar: pass its outer gradient, or reduce it first");
  CHECK(
      refusal<GraphError>([&] { loss.detach().backward(); }) ==
      "backward: tensor [] has no graph: nothing that it was computed from requires a gradient, or "
      "it was computed under NoGradGuard");
  CHECK(refusal<ShapeError>([&] {
          y.backward(tensor({1., 1., 1.}));
        }) == "backward: gradient float32 [3] for a tensor float32 [2]: need the same");
  CHECK(refusal<ShapeError>([&] {
          y.backward(tensor({1., 1.}, float64));
        }) == "backward: gradient float64 [2] for a tensor float32 [2]: need the same");
  CHECK_FALSE(x.grad().defined());
  loss.backward({}, true);
  loss.backward();
  CHECK(values(x.grad()) == Values{4, 8});
  CHECK(refusal<GraphError>([&] { loss.backward(); }) ==
        "backward: a second time through mul, whose saved tensors are gone: pass retain_graph the "
        "first time, or detach() what one step hands to the next");
}

TEST_CASE("grad leaves the leaves' own gradients alone") {
  const Tensor x = leaf({1, 2}), other = leaf({1, 2}), constant = tensor({1., 2.});
  x.set_grad(tensor({7., 7.}));
  const Tensor y = x * x, z = (y * 3).sum();
  const auto g = grad({z}, {y, x}, {.retain_graph = true});
  CHECK(values(g[0]) == Values{3, 3});
  CHECK(values(g[1]) == Values{6, 12});
  CHECK(refusal<GraphError>([&] {
          grad({z}, {x, other}, {.retain_graph = true});
        }) ==
        "grad: the outputs do not depend on inputs[1] [2]: pass allow_unused if that is meant");
  CHECK_FALSE(grad({z}, {other}, {.retain_graph = true, .allow_unused = true})[0].defined());
  CHECK(refusal<GraphError>([&] { grad({z}, {constant}); }) ==
        "grad: inputs[0] does not require a gradient");
  CHECK(refusal<GraphError>([&] {
          grad({z, z}, {x}, {}, {tensor(1.)});
        }) == "grad: 1 grad_outputs for 2 outputs");
  CHECK(refusal<GraphError>([&] { grad({y}, {x}); }) ==
        "grad: tensor [2] is not a scalar: pass its outer gradient, or reduce it first");
  CHECK(values(grad({y, z}, {x}, {}, {tensor({1., 0.}), tensor(1.)})[0]) == Values{8, 12});
  CHECK(refusal<GraphError>([&] { grad({z}, {x}); }) ==
        "grad: a second time through mul, whose saved tensors are gone: pass retain_graph the "
        "first time, or detach() what one step hands to the next");
  CHECK(values(x.grad()) == Values{7, 7});
  CHECK_FALSE(other.grad().defined());
  CHECK(grad({(x * x).sum()}, {}).empty());
}

TEST_CASE("the derivatives of x^3 are 3 x^2, 6 x and 6") {
  const Tensor x = leaf({2, -1});
  const Tensor first = grad({(x * x * x).sum()}, {x}, {.create_graph = true})[0];
  const Tensor second = grad({first.sum()}, {x}, {.create_graph = true})[0];
  const Tensor third = grad({second.sum()}, {x})[0];
  CHECK(values(first) == Values{12, 3});
  CHECK(values(second) == Values{12, -6});
  CHECK(values(third) == Values{6, 6});
  CHECK_FALSE(third.requires_grad());
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("a derivative made with create_graph may be used twice, beside the loss itself") {
  const Tensor x = leaf({2, -1});
  const Tensor loss = (x * x * x).sum();
  const Tensor g = grad({loss}, {x}, {.create_graph = true})[0];
  (loss + (g * g).sum() + g.sum()).backward();  // 3 x^2 + 36 x^3 + 6 x
  CHECK(values(x.grad()) == Values{12 + 288 + 12, 3 - 36 - 6});
}

TEST_CASE("the chain rule holds in two stages, whichever of them comes first") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * x, z = (y * y).sum();
  y.backward(grad({z}, {y})[0]);  // the op behind y has not been used up
  CHECK(values(x.grad()) == Values{4, 32});
  const Tensor u = x * x, w = (u * u).sum();
  u.backward(tensor({1., 1.}));
  CHECK(values(grad({w}, {u})[0]) == Values{2, 8});
}

TEST_CASE("an op that saved nothing serves any number of backwards") {
  const Tensor w = leaf({1, 2});
  const Tensor shared = (w + 1).reshape({2, 1}).t();
  for (int i = 1; i <= 3; ++i) {
    (shared * 2).sum().backward();
    CHECK(values(w.grad()) == Values{2.0 * i, 2.0 * i});
  }
}

TEST_CASE("a grad that finds an input unreached leaves the graph as it was") {
  const Tensor x = leaf({1, 2}), other = leaf({3});
  const Tensor y = (x * x).sum();
  CHECK(refusal<GraphError>([&] {
          grad({y}, {x, other});
        }) ==
        "grad: the outputs do not depend on inputs[1] [1]: pass allow_unused if that is meant");
  y.backward();
  CHECK(values(x.grad()) == Values{2, 4});
}
