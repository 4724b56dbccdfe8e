#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>
#include <functional>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// Activation functions, other functions of one element, and their layers.

namespace {

Approximate approximate_of(const GoldenCase& c) {
  return c.option("approximate", "none") == "tanh" ? Approximate::tanh : Approximate::none;
}
int64_t dim_of(const GoldenCase& c) { return static_cast<int64_t>(c.number("dim", -1)); }

/// Compares a function, and the layer of the same function in both modes.
void compare(const std::string& op, int cases,
             const std::function<Tensor(const GoldenCase&, const Tensor&)>& f,
             const std::function<nn::Sequential::Step(const GoldenCase&)>& layer) {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases(op, "activation")) {
    const Tensor x = c.leaf("input"), y = c.leaf("input");
    tally.add(c, f(c, x), {{"input", x}});
    nn::Sequential net;
    net.push_back(layer(c));
    for (const bool training : {true, false}) {
      net.train(training);
      CHECK(same_bits(net(y), f(c, x)));
    }
  }
  CHECK(tally.cases == 2 * cases);
  std::printf("golden: %s, %d cases, off by %.1e in float64, %.1f ulp in float32\n", op.c_str(),
              tally.cases, tally.exact, tally.single);
}

/// The gradients of f at some numbers, for the gradient 1.
Values slopes(const std::function<Tensor(const Tensor&)>& f, const Values& at,
              DType dtype = float64) {
  const Tensor x = tensor(at, dtype).requires_grad_();
  const Tensor y = f(x);
  y.backward(ones_like(y));
  return values(x.grad());
}

/// The same numbers; NaN where NaN is wanted.
bool same(const Values& a, const Values& b) {
  for (std::size_t i = 0; i < b.size(); ++i)
    if (!(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))) return false;
  return a.size() == b.size();
}

}  // namespace

TEST_CASE("activation functions and their layers are PyTorch's, and so are their gradients") {
#define PLAIN(f, Layer)                                               \
  compare(                                                            \
      #f, 4, [](const GoldenCase&, const Tensor& x) { return f(x); }, \
      [](const GoldenCase&) { return nn::Layer(); })
  PLAIN(relu, ReLU);
  PLAIN(relu6, ReLU6);
  PLAIN(sigmoid, Sigmoid);
  PLAIN(logsigmoid, LogSigmoid);
  PLAIN(tanh, Tanh);
  PLAIN(silu, SiLU);
  PLAIN(mish, Mish);
  PLAIN(selu, SELU);
  PLAIN(hardsigmoid, Hardsigmoid);
  PLAIN(hardswish, Hardswish);
  PLAIN(softsign, Softsign);
  compare(
      "gelu", 8, [](const GoldenCase& c, const Tensor& x) { return gelu(x, approximate_of(c)); },
      [](const GoldenCase& c) { return nn::GELU(approximate_of(c)); });
  compare(
      "elu", 12, [](const GoldenCase& c, const Tensor& x) { return elu(x, c.number("alpha", 1)); },
      [](const GoldenCase& c) { return nn::ELU(c.number("alpha", 1)); });
  compare(
      "celu", 12,
      [](const GoldenCase& c, const Tensor& x) { return celu(x, c.number("alpha", 1)); },
      [](const GoldenCase& c) { return nn::CELU(c.number("alpha", 1)); });
  compare(
      "leaky_relu", 12,
      [](const GoldenCase& c, const Tensor& x) {
        return leaky_relu(x, c.number("negative_slope", 0.01));
      },
      [](const GoldenCase& c) { return nn::LeakyReLU(c.number("negative_slope", 0.01)); });
  compare(
      "softplus", 16,
      [](const GoldenCase& c, const Tensor& x) {
        return softplus(x, c.number("beta", 1), c.number("threshold", 20));
      },
      [](const GoldenCase& c) {
        return nn::Softplus(c.number("beta", 1), c.number("threshold", 20));
      });
  compare(
      "hardtanh", 12,
      [](const GoldenCase& c, const Tensor& x) {
        return hardtanh(x, c.number("min_val", -1), c.number("max_val", 1));
      },
      [](const GoldenCase& c) {
        return nn::Hardtanh(c.number("min_val", -1), c.number("max_val", 1));
      });
  compare(
      "glu", 12, [](const GoldenCase& c, const Tensor& x) { return glu(x, dim_of(c)); },
      [](const GoldenCase& c) { return nn::GLU(dim_of(c)); });
  compare(
      "softmax", 3, [](const GoldenCase& c, const Tensor& x) { return softmax(x, dim_of(c)); },
      [](const GoldenCase& c) { return nn::Softmax(dim_of(c)); });
  compare(
      "log_softmax", 3,
      [](const GoldenCase& c, const Tensor& x) { return log_softmax(x, dim_of(c)); },
      [](const GoldenCase& c) { return nn::LogSoftmax(dim_of(c)); });
}

TEST_CASE("prelu is PyTorch's, and a model with PReLU takes its state by name") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("prelu", "activation")) {
    const Tensor x = c.leaf("input"), weight = c.leaf("weight");
    tally.add(c, prelu(x, weight), {{"input", x}, {"weight", weight}});
  }
  CHECK(tally.cases == 2 * 6);
  for (const GoldenCase& c : golden_cases("PReLU", "activation")) {
    nn::Sequential net{nn::Linear(4, 3), nn::PReLU(c.tensor("1.weight").numel()), nn::GELU(),
                       nn::Linear(3, 2), nn::PReLU()};
    net.to(c.dtype);
    NamedTensors state;
    for (const auto& entry : c.tensors)
      if (std::isdigit(entry.first[0])) state.push_back(entry);
    net.load_state_dict(state);
    const Tensor x = c.leaf("input");
    std::map<std::string, Tensor> leaves{{"input", x}};
    for (const auto& [name, parameter] : net.named_parameters()) leaves[name] = parameter;
    tally.add(c, net(x), leaves);
  }
  CHECK(tally.cases == 2 * 8);
  std::printf("golden: prelu, %d cases, off by %.1e in float64, %.1f ulp in float32\n", tally.cases,
              tally.exact, tally.single);
  CHECK(values(nn::PReLU().weight) == Values{0.25});
  CHECK(values(nn::PReLU(2, 0.5).weight) == Values{0.5, 0.5});
  CHECK(nn::PReLU().named_parameters()[0].first == "weight");
}

TEST_CASE("an activation of numbers of any size is finite, and so is its gradient") {
  const std::pair<const char*, Tensor (*)(const In&)> all[] = {
      {"sigmoid", sigmoid},
      {"logsigmoid", logsigmoid},
      {"tanh", tanh},
      {"relu", relu},
      {"silu", silu},
      {"mish", mish},
      {"relu6", relu6},
      {"hardsigmoid", hardsigmoid},
      {"hardswish", hardswish},
      {"selu", selu},
      {"softsign", softsign},
      {"softplus", [](const In& x) { return softplus(x); }},
      {"gelu", [](const In& x) { return gelu(x); }},
      {"gelu tanh", [](const In& x) { return gelu(x, Approximate::tanh); }},
      {"hardtanh", [](const In& x) { return hardtanh(x); }},
      {"leaky_relu", [](const In& x) { return leaky_relu(x); }},
      {"elu", [](const In& x) { return elu(x); }},
      {"celu", [](const In& x) { return celu(x); }}};
  for (const auto& one : all)
    for (const DType dtype : {float32, float64}) {
      const auto& f = one.second;
      CAPTURE(one.first);
      CAPTURE(str(dtype));
      const Values at{0, -1e30, 1e30, -1e5, 1e5, -87, 87, -750, 750, -30, 30, -1e-30, 1e-30};
      const Tensor x = tensor(at, dtype).requires_grad_(), y = f(x);
      const Tensor d = grad({sum(y)}, {x}, {.create_graph = true})[0];
      const Tensor second = d.requires_grad() ? grad({sum(d)}, {x})[0] : d;  // straight pieces
      for (const Tensor& t : {y, d, second}) CHECK(descent::all(isfinite(t)).item<bool>());
      const Tensor nan = tensor({kNan, 1.}, dtype);
      CHECK(std::isnan(values(f(nan))[0]));
      CHECK(f(zeros({2, 0, 3}, dtype)).shape() == Shape{2, 0, 3});
    }
  CHECK(values(softplus(tensor({-1e30, 1e30}))) == Values{0, values(tensor({1e30}))[0]});
  CHECK(values(logsigmoid(tensor({-50., 50.}, float64)))[1] ==
        doctest::Approx(-1.9287498479639178e-22).epsilon(1e-14));  // nothing cancels
  CHECK(values(softplus(tensor({-50.}, float64)))[0] ==
        doctest::Approx(1.9287498479639178e-22).epsilon(1e-14));
  CHECK(slopes([](const Tensor& x) { return softsign(x); }, {1e8})[0] ==
        doctest::Approx(1 / (1e8 + 1) / (1e8 + 1)).epsilon(1e-14));
}

TEST_CASE("gradients of activations at kinks and at NaN are PyTorch's") {
  const auto check = [](const char* name, const std::function<Tensor(const Tensor&)>& f,
                        const Values& at, const Values& wanted) {
    CAPTURE(name);
    const Values d = slopes(f, at);
    CHECK(d.size() == wanted.size());
    for (std::size_t i = 0; i < d.size(); ++i) {
      CAPTURE(at[i]);
      CHECK((std::isnan(wanted[i]) ? std::isnan(d[i]) : d[i] == doctest::Approx(wanted[i])));
    }
  };
  check("relu6", [](auto& x) { return relu6(x); }, {0, 6, 3, kNan}, {0, 0, 1, 1});
  check("hardtanh", [](auto& x) { return hardtanh(x); }, {-1, 1, 0, kNan}, {0, 0, 1, 1});
  check("hardsigmoid", [](auto& x) { return hardsigmoid(x); }, {-3, 3, 0, kNan}, {0, 0, 1. / 6, 0});
  check("hardswish", [](auto& x) { return hardswish(x); }, {-3, 3, 0, kNan, 4, -kInf},
        {0, 1, 0.5, 1, 1, 0});
  check("leaky_relu", [](auto& x) { return leaky_relu(x, 0.2); }, {0, kNan, 1}, {0.2, 0.2, 1});
  check("elu", [](auto& x) { return elu(x, 2); }, {0, kNan, 1, -kInf}, {2, 1, 1, 0});
  check("celu", [](auto& x) { return celu(x, 2); }, {0, kNan, 1, -kInf}, {1, 1, 1, 0});
  check("selu", [](auto& x) { return selu(x); }, {0, kNan, 1},
        {1.7580993408473766, 1.0507009873554805, 1.0507009873554805});
  check("softplus", [](auto& x) { return softplus(x); }, {20, 20.5, kNan, kInf, -kInf},
        {0.9999999979388464, 1, kNan, 1, 0});
  check("logsigmoid", [](auto& x) { return logsigmoid(x); }, {0, kNan, kInf, -kInf},
        {0.5, kNan, 0, 1});
  check("gelu", [](auto& x) { return gelu(x); }, {0, kNan}, {0.5, kNan});
  check("silu", [](auto& x) { return silu(x); }, {0, kNan}, {0.5, kNan});
  check("mish", [](auto& x) { return mish(x); }, {0, kNan}, {0.6, kNan});
  check("softsign", [](auto& x) { return softsign(x); }, {0, kNan, 1e200}, {1, kNan, 0});
  const Tensor w = tensor({0.25}, float64).requires_grad_();
  check("prelu", [&](auto& x) { return prelu(x, w); }, {0, kNan, -1, 1}, {0.25, 0.25, 0.25, 1});
  CHECK(std::isnan(w.grad()[0].item()));
  // What a limit stops is 0 whatever comes back to it.
  const Tensor x = tensor({-2., 2.}, float64).requires_grad_();
  CHECK(values(grad({hardtanh(x)}, {x}, {}, {full({2}, kInf, float64)})[0]) == Values{0, 0});
  CHECK(same(values(hardtanh(tensor({-kInf, kInf, kNan}))), {-1, 1, kNan}));
  CHECK(same(values(relu6(tensor({-kInf, kInf, kNan}))), {0, 6, kNan}));
  CHECK(values(hardtanh(tensor({-2., 2.}), 1, 1)) == Values{1, 1});
  CHECK(same(values(hardtanh(tensor({-2., 2.}), -kInf, kInf)), {-2, 2}));
}

TEST_CASE("activations refuse shapes and options that do not fit") {
  CHECK(refusal<ValueError>([] { hardtanh(zeros({2}), 1, -1); }) ==
        "hardtanh: low 1 and high -1: need low <= high");
  CHECK(refusal<ValueError>([] { celu(zeros({2}), 0); }) ==
        "celu: alpha is 0: need another number");
  CHECK(refusal<ShapeError>([] {
          glu(zeros({2, 3}));
        }) == "glu: dim -1 of x [2, 3] has no two halves: need an even size");
  CHECK(refusal<ShapeError>([] { glu(zeros({})); }) ==
        "glu: dim -1 of x [] has no two halves: need an even size");
  CHECK(refusal<IndexError>([] {
          glu(zeros({2, 4}), 2);
        }) == "glu: dim 2 is out of range for rank 2: need -2..1");
  const std::string rest = ": need one slope or ";
  CHECK(refusal<ShapeError>([] {
          prelu(zeros({2, 3}), zeros({2}));
        }) == "prelu: x [2, 3] with weight [2]" + rest + "3, one for each channel");
  CHECK(refusal<ShapeError>([] { prelu(zeros({3}), zeros({3})); }) ==
        "prelu: x [3] with weight [3]" + rest + "1, one for each channel");
  CHECK(refusal<ShapeError>([] {
          prelu(zeros({2, 3}), zeros({1, 1}));
        }) == "prelu: x [2, 3] with weight [1, 1]" + rest + "3, one for each channel");
  CHECK(refusal<DtypeError>([] { prelu(zeros({3}), zeros({1}, float64)); }) ==
        "prelu: x is float32 and weight is float64: need one dtype (use to())");
  CHECK(refusal<ValueError>([] { nn::PReLU(0); }) == "PReLU: 0 slopes: need at least one");
  CHECK(refusal<ValueError>([] { nn::PReLU(-2); }) == "PReLU: -2 slopes: need at least one");
}

TEST_CASE("derivatives of one kernel record one node each, and give the bits of the chain") {
  const Tensor x = noise({70, 50}, 1).requires_grad_(), g = noise({70, 50}, 2);
  const int64_t before = memory_stats().live_nodes;
  for (auto f :
       {static_cast<Tensor (*)(const In&)>(tanh), static_cast<Tensor (*)(const In&)>(silu),
        static_cast<Tensor (*)(const In&)>(sigmoid), static_cast<Tensor (*)(const In&)>(square)}) {
    const Tensor y = f(x);
    CHECK(memory_stats().live_nodes == before + 1);
    const Tensor d = grad({y}, {x}, {.create_graph = true}, {g})[0];
    CHECK(memory_stats().live_nodes == before + 2);
  }
  auto slope = [&](auto f) {
    const Tensor y = f(x);
    return grad({y}, {x}, {}, {g})[0];
  };
  const Tensor plain = x.detach(), t = tanh(plain), s = sigmoid(plain);
  CHECK(same_bits(slope([](auto& v) { return tanh(v); }), g * (1 - t * t)));
  CHECK(same_bits(slope([](auto& v) { return sigmoid(v); }), g * s * (1 - s)));
  CHECK(same_bits(slope([](auto& v) { return square(v); }), g * (plain * 2)));
}

TEST_CASE("activations have the same bits for any number of threads and any layout") {
  const Tensor x = noise({600, 600}, 1);
  auto with_gradient = [](const Tensor& input, const std::function<Tensor(const Tensor&)>& f) {
    return [=]() -> std::vector<Tensor> {
      const Tensor leaf = input.detach().requires_grad_(), y = f(leaf);
      sum(y * y).backward();
      return {y.detach(), leaf.grad()};
    };
  };
  for (auto f :
       {static_cast<Tensor (*)(const In&)>(tanh), static_cast<Tensor (*)(const In&)>(silu),
        static_cast<Tensor (*)(const In&)>(mish), static_cast<Tensor (*)(const In&)>(hardswish)}) {
    same_with_threads(with_gradient(x, [=](const Tensor& v) { return f(v); }));
    CHECK(same_bits(f(x.t()), f(x).t().contiguous()));
  }
  same_with_threads(with_gradient(x, [](const Tensor& v) { return gelu(v); }));
  same_with_threads(with_gradient(x, [](const Tensor& v) { return prelu(v, full({600}, 0.1)); }));
}

TEST_CASE("layers of activations name themselves, and keep their options") {
  CHECK(nn::ReLU().type() == "ReLU");
  CHECK(nn::GELU().type() == "GELU");
  CHECK(nn::Softmax(1).type() == "Softmax");
  CHECK(nn::LeakyReLU(0.2).option == 0.2);
  CHECK(nn::GELU(Approximate::tanh).option == Approximate::tanh);
  CHECK(nn::Softplus(2, 3).beta == 2);
  CHECK(nn::Softplus(2, 3).threshold == 3);
  CHECK(nn::Hardtanh(-2, 3).high == 3);
  nn::Sequential net{nn::Linear(3, 4), nn::ReLU(), nn::PReLU(4), nn::Softmax()};
  CHECK(net.state_dict().size() == 3);
  CHECK(values(sum(net(noise({2, 3}, 1)), -1))[0] == doctest::Approx(1));
}
