#include "graph.hpp"

using namespace descent;

TEST_CASE("hooks see, replace and follow gradients") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * 3;
  Values seen;
  y.register_hook([&](const Tensor& g) { return g * 2; });
  y.register_hook([&](const Tensor& g) {
    seen = values(g);
    return Tensor();
  });
  std::vector<Values> after;
  x.register_post_accumulate_grad_hook([&](const Tensor& self) {
    after.push_back(values(self.grad()));
    NoGradGuard no_grad;
    self -= self.grad();
    self.zero_grad();
  });
  y.sum().backward();
  CHECK(seen == Values{2, 2});
  CHECK(after == std::vector<Values>{{6, 6}});
  CHECK(values(x) == Values{-5, -4});
  CHECK_FALSE(x.grad().defined());

  const Tensor z = x * 2;
  z.register_hook([](const Tensor&) { return zeros({3}); });
  CHECK(refusal<GraphError>([&] { z.sum().backward(); }) ==
        "mul: a hook returned a gradient float32 [3] for a tensor float32 [2]");
  CHECK(refusal<GraphError>([&] { x.detach().register_hook(nullptr); }) ==
        "register_hook: the tensor requires no gradient");
  CHECK(refusal<GraphError>([&] { z.register_post_accumulate_grad_hook(nullptr); }) ==
        "register_post_accumulate_grad_hook: only a leaf accumulates");
}

TEST_CASE("a hook may change the gradient it sees, and nobody else's") {
  const Tensor a = leaf({1, 2}), b = leaf({3, 4}), outer = tensor({1., 1.});
  a.register_hook([](const Tensor& g) {
    g *= 10;
    return Tensor();
  });
  (a + b).backward(outer);
  CHECK(values(a.grad()) == Values{10, 10});
  CHECK(values(b.grad()) == Values{1, 1});
  CHECK(values(outer) == Values{1, 1});
  (a + b).sum().backward();
  CHECK(values(a.grad()) == Values{20, 20});
}

TEST_CASE("a hook may add hooks to its own tensor, or end its part in the graph") {
  const Tensor a = leaf({1, 2});
  int later = 0, now = 0;
  a.register_post_accumulate_grad_hook([&](const Tensor& self) {
    for (int i = 0; i < 20; ++i)
      self.register_post_accumulate_grad_hook([&](const Tensor&) { ++later; });
  });
  a.register_hook([&](const Tensor&) {
    for (int i = 0; i < 20; ++i) a.register_hook([&](const Tensor&) { return ++now, Tensor(); });
    return Tensor();
  });
  a.backward(tensor({1., 1.}));
  CHECK((later == 0 && now == 0));
  const Tensor b = leaf({1, 2});
  b.register_hook([&](const Tensor&) {
    b.requires_grad_(false);
    return Tensor();
  });
  b.backward(tensor({1., 1.}));
  CHECK_FALSE(b.requires_grad());
}

TEST_CASE("a hook on a leaf outlives a change of its dtype") {
  const Tensor a = leaf({1, 2});
  int calls = 0;
  a.register_post_accumulate_grad_hook([&](const Tensor& self) {
    CHECK(self.dtype() == float64);
    ++calls;
  });
  a.set_data(a.detach().to(float64));
  (a * 2).sum().backward();
  CHECK(calls == 1);
}

TEST_CASE("a hook or a derivative may run a backward of its own") {
  const Tensor a = leaf({1, 2}), u = leaf({5, 6});
  const Tensor v = a * a, w = v * 5 + u;
  Values inside;
  v.register_hook([&](const Tensor&) {
    EnableGradGuard enable;
    inside = values(grad({(u * u).sum()}, {u})[0]);  // u waits in the outer one meanwhile
    return Tensor();
  });
  w.sum().backward();
  CHECK(inside == Values{10, 12});
  CHECK(values(a.grad()) == Values{10, 20});
  CHECK(values(u.grad()) == Values{1, 1});

  // A checkpoint: the forward once more, recorded, in the derivative.
  const Tensor x = leaf({2, 3}), weight = leaf({4, 5});
  auto body = [&](const Tensor& in) { return in * in * weight; };
  Tensor value;
  {
    NoGradGuard no_grad;
    value = body(x);
  }
  Tensor y = record("checkpoint", value, wrt(In(x), [&](const Tensor& g) {
                      EnableGradGuard enable;
                      const Tensor in = x.detach().requires_grad_();
                      body(in).backward(g);
                      return in.grad();
                    }));
  (y + weight).sum().backward();  // the leaf `weight` waits in the outer one meanwhile
  CHECK(values(x.grad()) == Values{16, 30});
  CHECK(values(weight.grad()) == Values{5, 10});
}
