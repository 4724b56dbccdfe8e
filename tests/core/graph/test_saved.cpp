#include <optional>
#include <string>

#include "graph.hpp"

using namespace descent;

// What a derivative keeps until it is called, and what it returns.

template <class X>
concept Versioned = requires(X x) {
  wrt(x, [](const Tensor& g) { return g; });
};

TEST_CASE("an argument that its own function changed is not called a saved tensor") {
  auto f = [](const In& x) {
    x *= 2.0;
    return relu(x);
  };
  CHECK(refusal<GraphError>([&] {
          f(tensor({1., 2.}));
        }) ==
        "relu: an argument [2] was changed in place by mul_ (it is at version 1, passed at 0): "
        "clone() it first");
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
    CHECK(values(x.grad()) == Values{3});
    const Tensor y = times(x, constant);
    constant += 1;
    CHECK(refusal<GraphError>([&] { y.backward(); }) ==
          "times: a saved tensor [1] was changed in place by add_ (it is at version 1, saved at "
          "0): clone() it first, or change it after backward");
  }
}

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
  CHECK(values(square_of(w.detach())) == Values{4, 9});  // nothing is kept of it
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
  CHECK(values(w.grad()) == Values{2, 2});
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
  CHECK(values(x) == Values{1, 2});
  CHECK(values(c) == Values{1, 1});
  NoGradGuard no_grad;
  x -= c;
  CHECK(values(x) == Values{0, 1});
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
  CHECK(values(x.grad()) == Values{4, 4});
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
  CHECK(values(x.grad()) == Values{6, 5});
}
