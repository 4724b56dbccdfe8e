#include <cstring>
#include <doctest/doctest.h>
#include <exception>
#include <optional>
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <thread>

#include "descent/core/autograd/backward.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/arithmetic.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/indexing.hpp"
#include "descent/core/ops/join.hpp"
#include "descent/core/ops/matmul.hpp"
#include "descent/core/ops/pointwise.hpp"
#include "descent/core/ops/reduction.hpp"
#include "descent/core/ops/view.hpp"
#include "descent/nn/loss.hpp"

using namespace descent;

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(thread_sanitizer) || __has_feature(address_sanitizer);
#else
constexpr bool sanitized = false;
#endif

using Doubles = std::vector<double>;
Doubles doubles(const Tensor& x) { return x.to_vector<double>(); }

Tensor leaf(std::initializer_list<double> values) { return tensor(values).requires_grad_(); }

/// The text of the E that f throws, without its place.
template <class E, class F> std::string refusal(F f) {
  try {
    f();
  } catch (const E& e) {
    const std::string text = e.what();
    return text.substr(0, text.rfind(" (test_graph.cpp:"));
  }
  return "nothing was thrown";
}

/// x, by an op called "mine" whose derivative is `f`.
template <class F> Tensor mine(const In& x, F f) {
  return record("mine", map("mine", x, [](auto v) { return v; }), wrt(x, f));
}

struct Live {
  int64_t nodes = memory_stats().live_nodes, storages = memory_stats().live_storages,
          bytes = memory_stats().live_bytes;
  bool operator==(const Live&) const = default;
};

/// Runs f in a thread with a stack of 256 KiB, and 16 KiB more under a sanitizer.
void on_small_stack(const std::function<void()>& f) {
  struct Call {
    const std::function<void()>& f;
    std::exception_ptr error = nullptr;
  } call{f};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, (256 + (sanitized ? 16 : 0)) * 1024);
  auto run = [](void* argument) -> void* {
    auto* c = static_cast<Call*>(argument);
    try {
      c->f();
    } catch (...) { c->error = std::current_exception(); }
    return nullptr;
  };
  pthread_t thread;
  REQUIRE(pthread_create(&thread, &attributes, run, &call) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  if (call.error) std::rethrow_exception(call.error);
}

Tensor chain(Tensor y, int64_t length) {
  while (length-- > 0) y = y + 1.0;
  return y;
}
constexpr int64_t kLong = 100'000;  // any recursion overflows: below 3 bytes of stack per op

Tensor tree(const Tensor& x, int levels) {
  return levels == 0 ? x * 1.0 : tree(x, levels - 1) + tree(x, levels - 1);
}

}  // namespace

TEST_CASE("gradients accumulate over backwards until they are forgotten") {
  const Tensor x = leaf({1, 2});
  CHECK_FALSE(x.grad().defined());
  (x * x).sum().backward();
  CHECK(doubles(x.grad()) == Doubles{2, 4});
  (x * 3).sum().backward();
  CHECK(doubles(x.grad()) == Doubles{5, 7});
  x.zero_grad();
  CHECK_FALSE(x.grad().defined());
  x.set_grad(tensor({1., 1.}));
  x.backward(tensor({10., 20.}));
  CHECK(doubles(x.grad()) == Doubles{11, 21});
}

TEST_CASE("a diamond sums what comes down both sides, once") {
  const Tensor x = leaf({1, 2});
  const Tensor a = x * 2, b = a * a, c = a + b;
  int seen = 0;
  a.register_hook([&](const Tensor& g) {
    ++seen;
    CHECK(doubles(g) == Doubles{5, 9});
    return Tensor();
  });
  c.sum().backward();
  CHECK(seen == 1);
  CHECK(doubles(x.grad()) == Doubles{10, 18});
}

TEST_CASE("gradients of two leaves never share elements, nor with the outer gradient") {
  const Tensor x = leaf({1, 2}), y = leaf({3, 4}), outer = tensor({1., 1.});
  (x + y).backward(outer);
  x.grad() *= 2;
  CHECK(doubles(x.grad()) == Doubles{2, 2});
  CHECK(doubles(y.grad()) == Doubles{1, 1});
  CHECK(doubles(outer) == Doubles{1, 1});
  const Tensor z = leaf({1, 2, 3});
  z.sum().backward();  // on its way this gradient is expanded
  z.grad() += tensor({0., 1., 2.});
  CHECK(doubles(z.grad()) == Doubles{1, 2, 3});
}

TEST_CASE("detach shares the elements and cuts the graph") {
  const Tensor x = leaf({2, 3});
  const Tensor d = x.detach();
  CHECK_FALSE(d.requires_grad());
  CHECK(d.data<float>() == x.data<float>());
  (x * d).sum().backward();
  CHECK(doubles(x.grad()) == Doubles{2, 3});
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
  CHECK(doubles(x.grad()) == Doubles{4, 8});
  CHECK(refusal<GraphError>([&] { loss.backward(); }) ==
        "backward: a second time through mul, whose saved tensors are gone: pass retain_graph the "
        "first time, or detach() what one step hands to the next");
}

TEST_CASE("grad leaves the leaves' own gradients alone") {
  const Tensor x = leaf({1, 2}), other = leaf({1, 2}), constant = tensor({1., 2.});
  x.set_grad(tensor({7., 7.}));
  const Tensor y = x * x, z = (y * 3).sum();
  const auto g = grad({z}, {y, x}, {.retain_graph = true});
  CHECK(doubles(g[0]) == Doubles{3, 3});
  CHECK(doubles(g[1]) == Doubles{6, 12});
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
  CHECK(doubles(grad({y, z}, {x}, {}, {tensor({1., 0.}), tensor(1.)})[0]) == Doubles{8, 12});
  CHECK_THROWS_AS(grad({z}, {x}), GraphError);
  CHECK(doubles(x.grad()) == Doubles{7, 7});
  CHECK_FALSE(other.grad().defined());
  CHECK(grad({(x * x).sum()}, {}).empty());
}

TEST_CASE("the derivatives of x^3 are 3 x^2, 6 x and 6") {
  const Tensor x = leaf({2, -1});
  const Tensor first = grad({(x * x * x).sum()}, {x}, {.create_graph = true})[0];
  const Tensor second = grad({first.sum()}, {x}, {.create_graph = true})[0];
  const Tensor third = grad({second.sum()}, {x})[0];
  CHECK(doubles(first) == Doubles{12, 3});
  CHECK(doubles(second) == Doubles{12, -6});
  CHECK(doubles(third) == Doubles{6, 6});
  CHECK_FALSE(third.requires_grad());
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("a derivative made with create_graph may be used twice, beside the loss itself") {
  const Tensor x = leaf({2, -1});
  const Tensor loss = (x * x * x).sum();
  const Tensor g = grad({loss}, {x}, {.create_graph = true})[0];
  (loss + (g * g).sum() + g.sum()).backward();  // 3 x^2 + 36 x^3 + 6 x
  CHECK(doubles(x.grad()) == Doubles{12 + 288 + 12, 3 - 36 - 6});
}

TEST_CASE("hooks see, replace and follow gradients") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * 3;
  Doubles seen;
  y.register_hook([&](const Tensor& g) { return g * 2; });
  y.register_hook([&](const Tensor& g) {
    seen = doubles(g);
    return Tensor();
  });
  std::vector<Doubles> after;
  x.register_post_accumulate_grad_hook([&](const Tensor& self) {
    after.push_back(doubles(self.grad()));
    NoGradGuard no_grad;
    self -= self.grad();
    self.zero_grad();
  });
  y.sum().backward();
  CHECK(seen == Doubles{2, 2});
  CHECK(after == std::vector<Doubles>{{6, 6}});
  CHECK(doubles(x) == Doubles{-5, -4});
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
  CHECK(doubles(a.grad()) == Doubles{10, 10});
  CHECK(doubles(b.grad()) == Doubles{1, 1});
  CHECK(doubles(outer) == Doubles{1, 1});
  (a + b).sum().backward();
  CHECK(doubles(a.grad()) == Doubles{20, 20});
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

TEST_CASE("the chain rule in two stages, either one first") {
  const Tensor x = leaf({1, 2});
  const Tensor y = x * x, z = (y * y).sum();
  y.backward(grad({z}, {y})[0]);  // the op behind y has not been used up
  CHECK(doubles(x.grad()) == Doubles{4, 32});
  const Tensor u = x * x, w = (u * u).sum();
  u.backward(tensor({1., 1.}));
  CHECK(doubles(grad({w}, {u})[0]) == Doubles{2, 8});
}

TEST_CASE("an op that saved nothing serves any number of backwards") {
  const Tensor w = leaf({1, 2});
  const Tensor shared = (w + 1).reshape({2, 1}).t();
  for (int i = 1; i <= 3; ++i) {
    (shared * 2).sum().backward();
    CHECK(doubles(w.grad()) == Doubles{2.0 * i, 2.0 * i});
  }
}

TEST_CASE("a grad that finds an input unreached leaves the graph as it was") {
  const Tensor x = leaf({1, 2}), other = leaf({3});
  const Tensor y = (x * x).sum();
  CHECK_THROWS_AS(grad({y}, {x, other}), GraphError);
  y.backward();
  CHECK(doubles(x.grad()) == Doubles{2, 4});
}

TEST_CASE("a hook or a derivative may run a backward of its own") {
  const Tensor a = leaf({1, 2}), u = leaf({5, 6});
  const Tensor v = a * a, w = v * 5 + u;
  Doubles inside;
  v.register_hook([&](const Tensor&) {
    EnableGradGuard enable;
    inside = doubles(grad({(u * u).sum()}, {u})[0]);  // u waits in the outer one meanwhile
    return Tensor();
  });
  w.sum().backward();
  CHECK(inside == Doubles{10, 12});
  CHECK(doubles(a.grad()) == Doubles{10, 20});
  CHECK(doubles(u.grad()) == Doubles{1, 1});

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
  CHECK(doubles(x.grad()) == Doubles{16, 30});
  CHECK(doubles(weight.grad()) == Doubles{5, 10});
}

TEST_CASE("an argument that its own function changed is not called a saved tensor") {
  auto f = [](const In& x) {
    x *= 2.0;
    return relu(x);
  };
  CHECK(refusal<GraphError>([&] {
          f(tensor({1., 2.}));
        }).starts_with("relu: an argument [2] was changed in place by mul_ (it is at version"));
}

TEST_CASE("a saved tensor that was changed in place is refused, by whatever way it was changed") {
  const Tensor w = leaf({1, 2}), x = tensor({3., 4.});
  auto changed = [](const char* by) {
    return std::string("mul: a saved tensor [2] was changed in place by ") + by +
           " (it is at version 1, saved at 0): clone() it first, or change it after backward";
  };
  auto after = [&](auto change) {
    const Tensor fresh = x.clone(), loss = (fresh * w).sum();
    change(fresh);
    return refusal<GraphError>([&] { loss.backward(); });
  };
  CHECK(after([](const Tensor& s) { s += 1; }) == changed("add_"));
  CHECK(after([](const Tensor& s) { s.narrow(0, 1, 1).fill_(0); }) == changed("fill_"));
  CHECK(after([](const Tensor& s) { s.detach() *= s; }) == changed("mul_"));
  CHECK(after([](const Tensor& s) { s.mutable_data<float>()[0] = 9; }) == changed("mutable_data"));
  CHECK_FALSE(w.grad().defined());

  const Tensor y = exp(w), loss = y.sum();
  y.detach() *= 2;
  CHECK(refusal<GraphError>([&] { loss.backward(); }) ==
        "exp: its output [2] was changed in place by mul_ (it is at version 1, saved at 0): "
        "clone() it first, or change it after backward");
}

TEST_CASE("a derivative that reads a saved tensor after its change is refused, however it reads") {
  struct Reader {
    const char* name;
    Tensor (*read)(const Saved&, const Tensor&);
  };
  const Reader readers[] = {
      {"data", [](const Saved& x, const Tensor& g) { return g * x->data<float>()[0]; }},
      {"item", [](const Saved& x, const Tensor& g) { return g * x->item(); }},
      {"to_vector", [](const Saved& x, const Tensor& g) { return g * x->to_vector<float>()[0]; }},
      {"detach", [](const Saved& x, const Tensor& g) { return g * x->detach(); }},
      {"clone", [](const Saved& x, const Tensor& g) { return g * x->clone(); }},
      {"reshape", [](const Saved& x, const Tensor& g) { return g * x->reshape({1}); }},
      {"sum", [](const Saved& x, const Tensor& g) { return g * x->sum(); }},
      {"narrow", [](const Saved& x, const Tensor& g) { return g * x->narrow(0, 0, 1); }},
      {"an op", [](const Saved& x, const Tensor& g) { return g * x; }}};
  for (const Reader& reader : readers) {
    CAPTURE(reader.name);
    const auto times = [read = reader.read](const In& x, const In& constant) {
      return record("times", map("times", x, [](auto v) { return v * 3; }),
                    wrt(x, [read, constant = saved(constant)](const Tensor& g) {
                      return read(constant, g);
                    }));
    };
    const Tensor x = leaf({1}), constant = tensor({3.});
    times(x, constant).backward();
    CHECK(doubles(x.grad()) == Doubles{3});
    const Tensor y = times(x, constant);
    constant += 1;
    CHECK(refusal<GraphError>([&] { y.backward(); })
              .starts_with("times: a saved tensor [1] was changed in place by add_ (it is at "
                           "version 1, saved at 0)"));
  }
}

template <class X>
concept Versioned = requires(X x) {
  wrt(x, [](const Tensor& g) { return g; });
};

TEST_CASE("what a derivative cannot keep is refused where the op is recorded") {
  static_assert(Versioned<const In&> && Versioned<In>);
  static_assert(!Versioned<const Tensor&> && !Versioned<Tensor>);
  const auto square_of = [](const In& x) {
    return record("mine", map("mine", x, [](auto v) { return v * v; }),
                  wrt(x, [&x](const Tensor& g) { return g * x * 2.0; }));
  };
  const auto product = [](const In& a, const In& b) {
    return record("product", zip("product", a, b, [](auto u, auto v) { return u * v; }),
                  wrt(a, [b = saved(b)](const Tensor& g) { return g * b; }),
                  wrt(b, [&](const Tensor& g) { return g * a; }));
  };
  const Tensor w = leaf({2, 3});
  const std::string rule =
      ": its derivative captures an argument [2] by reference, which is gone when it is called: "
      "capture it by value ([x = saved(x)])";
  CHECK(refusal<GraphError>([&] { square_of(w * 1.0); }) == "mine" + rule);
  CHECK(refusal<GraphError>([&] { product(w, w * 1.0); }) == "product" + rule);
  CHECK(doubles(square_of(w.detach())) == Doubles{4, 9});  // nothing is kept of it
  for (int i = 0; i < 100; ++i) {  // bytes that nobody has written may look like anything
    const auto by_name = [](const In& x, const std::string& mode, std::optional<double> scale) {
      return record("named", map("named", x, [](auto v) { return v; }),
                    wrt(x, [mode, scale](const Tensor& g) { return g * scale.value_or(1); }));
    };
    by_name(w, "sum", {}).sum().backward();
  }
  w.zero_grad();
  int calls = 0;  // what outlives the op may be referred to
  mine(w,
       [&calls](const Tensor& g) {
         ++calls;
         return g;
       })
      .sum()
      .backward();
  CHECK(calls == 1);
}

TEST_CASE("an op that does not need a value does not mind that it changes") {
  const Tensor w = leaf({1, 2}), x = tensor({3., 4.});
  const Tensor y = w + x, loss = (y * 2).sum();
  x += 1;
  y.detach().fill_(0);
  loss.backward();
  CHECK(doubles(w.grad()) == Doubles{2, 2});
}

TEST_CASE("a tensor that requires a gradient is changed in place only under NoGradGuard") {
  const Tensor x = leaf({1, 2}), c = tensor({1., 1.});
  const std::string rule =
      ": a tensor [2] that requires a gradient is changed in place: do it under NoGradGuard, or on "
      "detach()";
  CHECK(refusal<GraphError>([&] { x += 1; }) == "add_" + rule);
  CHECK(refusal<GraphError>([&] { x.copy_(c); }) == "copy_" + rule);
  CHECK(refusal<GraphError>([&] { x.mutable_data<float>(); }) == "mutable_data" + rule);
  CHECK(refusal<GraphError>([&] { c -= x; }) ==
        "sub_: the right side requires a gradient, which a change in place would lose: use "
        "NoGradGuard or detach()");
  CHECK(doubles(x) == Doubles{1, 2});
  CHECK(doubles(c) == Doubles{1, 1});
  NoGradGuard no_grad;
  x -= c;
  CHECK(doubles(x) == Doubles{0, 1});
}

TEST_CASE("a wrong gradient from a user's derivative names the op") {
  const Tensor x = leaf({1, 2});
  auto of = [&](auto f) { return refusal<GraphError>([&] { mine(x, f).sum().backward(); }); };
  CHECK(of([](const Tensor&) { return zeros({3}); }) ==
        "mine: its derivative returned a gradient float32 [3] for an input float32 [2]");
  CHECK(of([](const Tensor& g) { return g.to(float64); }) ==
        "mine: its derivative returned a gradient float64 [2] for an input float32 [2]");
  CHECK(of([](const Tensor&) { return Tensor(); }) ==
        "mine: its derivative returned no gradient for an input [2]");
  CHECK(of([](const Tensor& g) { return g.expand({4, 2}); }) == "nothing was thrown");
  CHECK(doubles(x.grad()) == Doubles{4, 4});
}

TEST_CASE("an op's value may be its input, or a view of it") {
  const Tensor x = leaf({1, 2});
  const Tensor same = record("same", x, wrt(In(x), [](const Tensor& g) { return g * 5; }));
  const Tensor view = record("first", x.detach().narrow(0, 0, 1), wrt(In(x), [](const Tensor& g) {
                               return cat({g, g * 0});
                             }));
  CHECK(x.is_leaf());
  CHECK_FALSE(same.is_leaf());
  CHECK(same.data<float>() == x.data<float>());
  (same.sum() + view.sum()).backward();
  CHECK(doubles(x.grad()) == Doubles{6, 5});
}

TEST_CASE("a million ops, one after the other or side by side, need no deep stack") {
  const Live before;
  on_small_stack([] {
    const Tensor x = tensor(1.).requires_grad_();
    chain(x, 1'000'000).backward();
    CHECK(x.grad().item() == 1);
    const Tensor sum = tree(x, 20);
    CHECK(sum.item() == 1 << 20);
    x.zero_grad();
    sum.backward();
    CHECK(x.grad().item() == 1 << 20);
  });
  on_small_stack([] {
    const Tensor x = tensor(1.).requires_grad_();
    Tensor total = x * 1.0;
    for (int i = 1; i < 1'000'000; ++i) total = total + x * 1.0;
    total.backward();
    CHECK(x.grad().item() == 1'000'000);
    x.zero_grad();
    std::vector<Tensor> siblings;
    for (int64_t i = 0; i < kLong; ++i) siblings.push_back(x * 1.0);
    stack(siblings).sum().backward();
    CHECK(x.grad().item() == kLong);
  });
  CHECK(Live() == before);
}

TEST_CASE("a long chain dies flat whoever held it last") {
  const Live before;
  on_small_stack([] {
    const Tensor x = leaf({1}), w = leaf({1});
    Tensor link = x * 1.0;  // each link is held by the next one's saved tensor alone
    for (int64_t i = 0; i < kLong; ++i)
      link = mine(w, [link](const Tensor& g) { return link.defined() ? g : Tensor(); });
    link = {};
    {
      const Tensor hooked = w * 1.0;
      hooked.register_hook([y = chain(x, kLong)](const Tensor&) { return y * 0; });
    }
    std::vector<Tensor> kept{x * 1.0};
    for (int64_t i = 0; i < kLong; ++i) kept.push_back(kept.back() + 1.0);
    kept.clear();
  });
  CHECK(Live() == before);
}

TEST_CASE("every op gives back its nodes, storages and bytes") {
  using Op = Tensor (*)(const Tensor&);
  const Op ops[] = {
      [](const Tensor& x) { return x + x; },
      [](const Tensor& x) { return x / (x + 1.0); },
      [](const Tensor& x) { return exp(x) * log(x) + tanh(relu(x)); },
      [](const Tensor& x) { return matmul(x, x.t()); },
      [](const Tensor& x) { return linear(x, x); },
      [](const Tensor& x) { return log_softmax(x, 0) + softmax(x.t(), 1).t(); },
      [](const Tensor& x) {
        return cat({x, x.narrow(0, 1, 1)});
      },
      [](const Tensor& x) {
        return stack({x.select(0, 0), mean(x, 0)});
      },
      [](const Tensor& x) {
        return index_select(x, 1, tensor({1, 0, 1}));
      },
      [](const Tensor& x) { return where(x > 2.0, x, x * 2); },
      [](const Tensor& x) {
        return x.expand({5, 2, 3}).permute({1, 0, 2}).reshape({-1});
      },
      [](const Tensor& x) { return var(x, 1) + norm(x, 1) + max(x, 1) + logsumexp(x, 1); },
      [](const Tensor& x) {
        return nn::cross_entropy(x, tensor({0, 2}));
      },
      [](const Tensor& x) { return grad({(x * x * x).sum()}, {x}, {.create_graph = true})[0]; },
  };
  const Tensor x = tensor({{1., 2., 3.}, {4., 5., 6.}}).requires_grad_();
  for (const Op& op : ops) {
    CAPTURE(&op - ops);
    const Live before;
    op(x);
    CHECK(Live() == before);
    op(x).sum().backward();
    x.zero_grad();
    CHECK(Live() == before);
  }
}

TEST_CASE("an exception amid forward or backward leaves nothing behind") {
  const Tensor x = leaf({1, 2});
  const Live before;
  CHECK_THROWS_AS(exp(x * x) + log(x).reshape({3}), ShapeError);
  CHECK(Live() == before);
  auto failing = [](const Tensor& g) -> Tensor {
    if (g.numel() == 2) throw std::runtime_error("in a derivative");
    return g;
  };
  for (bool first : {true, false}) {
    const Tensor side = exp(x) * x, broken = mine(x * x, failing);
    CHECK_THROWS_AS((first ? broken + side : side + broken).sum().backward(), std::runtime_error);
  }
  x.zero_grad();
  CHECK(Live() == before);
  (x * x).sum().backward();  // and the leaf is free again
  CHECK(doubles(x.grad()) == Doubles{2, 4});
}
