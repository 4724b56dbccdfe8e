#include <cmath>
#include <doctest/doctest.h>

#include "optim.hpp"

// Gradients that are clipped.

using namespace descent;

TEST_CASE("clip_grad_norm gives PyTorch's norms and gradients") {
  // torch 2.15.0: clip_grad_norm_([a, b], 2.5, norm_type=p), in float64
  struct Golden {
    double p, norm;
    Values a, b;
  };
  const Golden golden[] = {
      {1,
       16.75,
       {0.44776116729784077, -0.5970148897304544, 0.0746268612163068},
       {0.1492537224326136, -0.2985074448652272, 0.0373134306081534, 0.8955223345956815}},
      {2,
       8.143248737451165,
       {0.9210082266674409, -1.2280109688899212, 0.15350137111124015},
       {0.3070027422224803, -0.6140054844449606, 0.07675068555562008, 1.8420164533348817}},
      {3,
       6.81229483432292,
       {1.1009504258773035, -1.467933901169738, 0.18349173764621726},
       {0.3669834752924345, -0.733966950584869, 0.09174586882310863, 2.201900851754607}},
      {INFINITY,
       6.0,
       {1.2499997916667014, -1.6666663888889353, 0.2083332986111169},
       {0.4166665972222338, -0.8333331944444676, 0.10416664930555845, 2.4999995833334028}}};
  for (const Golden& g : golden) {
    CAPTURE(g.p);
    const Three x, narrow(float32);
    CHECK(optim::clip_grad_norm(x.all, 2.5, {.p = g.p}) == doctest::Approx(g.norm).epsilon(1e-15));
    CHECK(close(values(x.a.grad()), g.a, 1e-15));
    CHECK(close(values(x.b.grad()), g.b, 1e-15));
    CHECK(!x.c.grad().defined());
    // the gradients are exact in float32, so their norm is no less precise
    CHECK(optim::clip_grad_norm(narrow.all, 2.5, {.p = g.p}) ==
          doctest::Approx(g.norm).epsilon(1e-15));
    CHECK(close(values(narrow.b.grad()), g.b, 1e-7));
  }
}

TEST_CASE("clip_grad_norm leaves short gradients as they are") {
  const Three x;
  CHECK(optim::clip_grad_norm(x.all, 100) == doctest::Approx(8.143248737451165));
  CHECK(optim::clip_grad_norm(x.all, INFINITY) == doctest::Approx(8.143248737451165));
  CHECK(same_bits(values(x.a.grad()), x.ga));
  CHECK(same_bits(values(x.b.grad()), x.gb));
  CHECK(optim::clip_grad_norm(x.all, 0) > 8);
  CHECK(values(x.b.grad()) == Values{0, 0, 0, 0});
  CHECK(optim::clip_grad_norm({{"c", x.c}}, 1) == 0);
  CHECK(optim::clip_grad_norm({{"c", x.c}}, 1, {.p = INFINITY}) == 0);
}

TEST_CASE("clip_grad_value brings every element into its range") {
  const Three x;
  x.b.set_grad(tensor(Values{6, 1, -2, NAN}, float64).reshape({2, 2}).t());
  optim::clip_grad_value(x.all, 1.5);
  CHECK(values(x.a.grad()) == Values{1.5, -1.5, 0.5});
  const Values b = values(x.b.grad());
  CHECK(Values(b.begin(), b.begin() + 3) == Values{1.5, -1.5, 1});
  CHECK(std::isnan(b[3]));
  CHECK(!x.c.grad().defined());
}

TEST_CASE("clipping leaves handles on a gradient as they are") {
  const Three x;
  const Tensor kept = x.a.grad(), given = tensor(Values{6, 1, -2, 4}, float64).reshape({2, 2}).t();
  x.b.set_grad(given);
  optim::clip_grad_norm(x.all, 0.5);
  CHECK(values(kept) == x.ga);
  const Tensor between = x.a.grad();
  const Values once = values(between);
  optim::clip_grad_value(x.all, 1e-3);
  CHECK(values(between) == once);
  CHECK(values(given) == Values{6, -2, 1, 4});
  CHECK(values(x.b.grad()) == Values{1e-3, -1e-3, 1e-3, 1e-3});
}

TEST_CASE("gradients that are not finite are an error, or what PyTorch makes of them") {
  const Three x;
  set_gradient(x.a, {INFINITY, -4, 0.5});
  CHECK(refusal<NumericError>([&] {
          optim::clip_grad_norm(x.all, 2.5, {.error_if_nonfinite = true});
        }) == "clip_grad_norm: the gradients' norm is inf: nothing was clipped");
  CHECK(values(x.a.grad()) == Values{INFINITY, -4, 0.5});
  CHECK(values(x.b.grad()) == x.gb);
  CHECK(optim::clip_grad_norm(x.all, 2.5) == INFINITY);
  CHECK(std::isnan(values(x.a.grad())[0]));
  CHECK(values(x.b.grad()) == Values{0, 0, 0, 0});
  for (double p : {1.0, 3.0, double(INFINITY)}) {
    const Three y;
    set_gradient(y.a, {NAN, -4, 0.5});
    CHECK(refusal<NumericError>([&] {
            optim::clip_grad_norm(y.all, 2.5, {.p = p, .error_if_nonfinite = true});
          }) == "clip_grad_norm: the gradients' norm is nan: nothing was clipped");
    CHECK(values(y.b.grad()) == y.gb);
    CHECK(std::isnan(optim::clip_grad_norm(y.all, 2.5, {.p = p})));
    CHECK(std::isnan(values(y.b.grad())[3]));
  }
}

TEST_CASE("bad limits are refused, and nothing is clipped") {
  const Three x;
  for (double bad : {-1.0, double(NAN)}) {
    CHECK(refusal<ValueError>([&] { optim::clip_grad_norm(x.all, bad); }) ==
          "clip_grad_norm: max_norm is " + str(bad) + ": need at least 0");
    CHECK(refusal<ValueError>([&] { optim::clip_grad_norm(x.all, 1, {.p = bad}); }) ==
          "clip_grad_norm: p is " + str(bad) + ": need a number above 0");
    CHECK(refusal<ValueError>([&] { optim::clip_grad_value(x.all, bad); }) ==
          "clip_grad_value: limit is " + str(bad) + ": need at least 0");
  }
  CHECK(refusal<ValueError>([&] { optim::clip_grad_norm(x.all, 1, {.p = 0}); }) ==
        "clip_grad_norm: p is 0: need a number above 0");
  CHECK(values(x.a.grad()) == x.ga);
  CHECK(values(x.b.grad()) == x.gb);
}

TEST_CASE("an optimizer clips all that it has, and its ledger knows what was there") {
  const Three x, y;
  optim::SGD opt(x.all, {.lr = 0.5});
  Reports reports(opt);  // c has no gradient
  optim::Ledger ledger;
  opt.trace(ledger);
  CHECK(opt.clip_grad_norm(2.5, {.p = 1}) == 16.75);
  optim::clip_grad_norm(y.all, 2.5, {.p = 1});
  CHECK(values(x.a.grad()) == values(y.a.grad()));
  opt.step();
  CHECK(ledger.entries()[0].elements[1].raw_gradient == -4);
  CHECK(ledger.entries()[0].elements[1].before.g == values(y.a.grad())[1]);
  set_gradient(x.a, {3, -4, 0.5});
  opt.clip_grad_value(1);
  opt.step();
  CHECK(ledger.entries()[2].elements[1].raw_gradient == -4);
  CHECK(ledger.entries()[2].elements[1].before.g == -1);
}

TEST_CASE("clipping hides neither a forgotten zero_grad nor a forgotten backward") {
  for (bool by_norm : {true, false}) {
    const Tensor w = leaf({1, 2, 3});
    optim::SGD opt({{"w", w}}, {.lr = 1e-3});
    Reports reports(opt);
    auto clip = [&] {
      if (by_norm) opt.clip_grad_norm(0.5);
      else opt.clip_grad_value(0.1);
    };
    for (int t = 0; t < 4; ++t) {  // as it should be
      opt.zero_grad();
      (w * w).sum().backward();
      (w * w).sum().backward();
      clip();
      opt.step();
    }
    CHECK(reports.all.empty());
    clip();
    opt.step();  // no backward
    REQUIRE(reports.all.size() == 1);
    CHECK(reports.all[0] == "step: no gradient is new since the last step: was backward() called?");
    (w * w).sum().backward();  // no zero_grad
    clip();
    opt.step();
    REQUIRE(reports.all.size() == 2);
    CHECK(reports.all[1] ==
          "step: the gradient of w still holds what the last step used: call zero_grad() before "
          "backward()");
  }
}
