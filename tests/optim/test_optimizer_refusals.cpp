#include <cmath>
#include <doctest/doctest.h>
#include <utility>

#include "optim.hpp"

// Options, parameters and gradients that an optimizer refuses.

using namespace descent;

TEST_CASE("options out of range are refused, and nothing moves") {
  const Tensor a = leaf({1}), b = leaf({2});
  const NamedTensors both{{"a", a}, {"b", b}};
  using optim::Adam, optim::SGD;
  CHECK(refusal<ValueError>([&] { SGD(both, {.lr = -1}); }) == "SGD: lr is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { SGD(both, {.lr = NAN}); }) == "SGD: lr is nan: need at least 0");
  CHECK(refusal<ValueError>([&] { SGD(both, {.momentum = -0.1}); }) ==
        "SGD: momentum is -0.1: need at least 0");
  CHECK(refusal<ValueError>([&] { SGD(both, {.weight_decay = -1}); }) ==
        "SGD: weight_decay is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { SGD(both, {.nesterov = true}); }) ==
        "SGD: nesterov is 1: need momentum above 0 and dampening 0 beside it");
  CHECK(refusal<ValueError>([&] {
          SGD(both, {.momentum = 0.9, .dampening = 0.1, .nesterov = 1});
        }) == "SGD: nesterov is 1: need momentum above 0 and dampening 0 beside it");
  CHECK(refusal<ValueError>([&] { Adam(both, {.beta1 = 1}); }) == "Adam: beta1 is 1: need [0, 1)");
  CHECK(refusal<ValueError>([&] { Adam(both, {.beta2 = -0.1}); }) ==
        "Adam: beta2 is -0.1: need [0, 1)");
  CHECK(refusal<ValueError>([&] { Adam(both, {.eps = -1}); }) ==
        "Adam: eps is -1: need at least 0");

  SGD opt(both, {.lr = 0.1});
  opt.group("b").lr = -1;
  for (const auto& [name, p] : both) set_gradient(p, {1});
  CHECK(refusal<ValueError>([&] { opt.step(); }) == "SGD: lr is -1: need at least 0");
  CHECK(a.item() == 1);
  CHECK(b.item() == 2);
}

TEST_CASE("a flag may be a variable, and each rule refuses what it cannot mean") {
  const NamedTensors p{{"p", matrix(2, 2, 0)}};
  bool nesterov = p.size() == 1;
  optim::SGD opt(p, {.momentum = 0.9, .nesterov = nesterov});
  CHECK(opt.options().nesterov);
  using namespace optim;
  CHECK(refusal<ValueError>([&] { Adagrad(p, {.lr_decay = -1}); }) ==
        "Adagrad: lr_decay is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { Adagrad(p, {.initial_accumulator_value = -1}); }) ==
        "Adagrad: initial_accumulator_value is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { RMSprop(p, {.alpha = -0.5}); }) ==
        "RMSprop: alpha is -0.5: need at least 0");
  CHECK(refusal<ValueError>([&] { Adadelta(p, {.rho = 1.5}); }) ==
        "Adadelta: rho is 1.5: need [0, 1]");
  CHECK(refusal<ValueError>([&] { Rprop(p, {.eta_minus = 1}); }) ==
        "Rprop: eta_minus is 1: need (0, 1)");
  CHECK(refusal<ValueError>([&] { Rprop(p, {.eta_plus = 1}); }) ==
        "Rprop: eta_plus is 1: need a number above 1");
  CHECK(refusal<ValueError>([&] { Rprop(p, {.step_min = 2, .step_max = 1}); }) ==
        "Rprop: step_min is 2: need at most step_max");
  CHECK(refusal<ValueError>([&] { ASGD(p, {.lambd = -1}); }) ==
        "ASGD: lambd is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { ASGD(p, {.alpha = -1}); }) ==
        "ASGD: alpha is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { Lion(p, {.beta2 = 1}); }) == "Lion: beta2 is 1: need [0, 1)");
  CHECK(refusal<ValueError>([&] { NAdam(p, {.momentum_decay = -1}); }) ==
        "NAdam: momentum_decay is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { LARS(p, {.trust_coefficient = -1}); }) ==
        "LARS: trust_coefficient is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { Adafactor(p, {.beta2_decay = 0.5}); }) ==
        "Adafactor: beta2_decay is 0.5: need at most 0");
  CHECK(refusal<ValueError>([&] { Adafactor(p, {.eps2 = -1}); }) ==
        "Adafactor: eps2 is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { Adafactor(p, {.d = 0.5}); }) ==
        "Adafactor: d is 0.5: need at least 1");
  CHECK(refusal<ValueError>([&] { Muon(p, {.ns_steps = 100}); }) ==
        "Muon: ns_steps is 100: need a whole number from 0 to 99");
  CHECK(refusal<ValueError>([&] { Muon(p, {.ns_steps = 2.5}); }) ==
        "Muon: ns_steps is 2.5: need a whole number from 0 to 99");
  CHECK(refusal<ValueError>([&] { Muon(p, {.eps = NAN}); }) == "Muon: eps is nan: need at least 0");
  CHECK(refusal<ValueError>([&] {
          Muon({{"fc.bias", zeros({3}).requires_grad_()}});
        }) == "Muon: parameter fc.bias is not a matrix: Muon updates matrices only");
}

TEST_CASE("parameters that cannot be optimized are refused by name") {
  const Tensor p = leaf({1, 2});
  using optim::SGD;
  CHECK(refusal<ValueError>([&] {
          SGD({{"x", p}, {"y", p}});
        }) == "SGD: x and y share elements: need parameters of their own");
  CHECK(refusal<ValueError>([&] {
          SGD({{"x", p}, {"x", leaf({1})}});
        }) == "SGD: two parameters are called x");
  CHECK(refusal<ValueError>([&] { SGD(NamedTensors{}); }) == "SGD: no parameters to optimize");
  CHECK(refusal<ValueError>([&] { SGD({{"x", Tensor()}}); }) == "SGD: parameter x is undefined");
  CHECK(refusal<GraphError>([&] {
          SGD({{"x", p * 2.0}});
        }) == "SGD: parameter x is the result of an op: need a leaf");
  CHECK(refusal<DtypeError>([&] {
          SGD({{"x", arange(3)}});
        }) == "SGD: parameter x is int64: need a floating dtype");
  CHECK(refusal<ValueError>([&] {
          SGD({{"x", zeros({2, 3}).t()}});
        }) == "SGD: parameter x is not contiguous: clone() it");
}

TEST_CASE("parameters that share elements are refused by name") {
  const Tensor base = ones({10}), a = base.narrow(0, 0, 6).detach().requires_grad_(),
               b = base.narrow(0, 4, 6).detach().requires_grad_(),
               c = base.narrow(0, 6, 4).detach().requires_grad_(),
               again = a.detach().requires_grad_();
  using optim::SGD;
  CHECK(refusal<ValueError>([&] {
          SGD({{"a", a}, {"b", b}});
        }) == "SGD: a and b share elements: need parameters of their own");
  CHECK(refusal<ValueError>([&] {
          SGD({{"a", a}, {"again", again}});
        }) == "SGD: a and again share elements: need parameters of their own");
  SGD opt({{"a", a}, {"c", c}});  // they do not overlap
  CHECK(refusal<ValueError>([&] {
          opt.add({{"b", b}});
        }) == "SGD: a and b share elements: need parameters of their own");
  CHECK(opt.parameters().size() == 2);
}

TEST_CASE("a parameter that changed its dtype after the optimizer was made is refused") {
  nn::Linear fc(40, 40);
  optim::Adam opt(fc.named_parameters());
  fc(ones({1, 40})).sum().backward();
  opt.step();
  fc.to(float64);
  const Values before = values(fc.weight);
  fc(ones({1, 40}, float64)).sum().backward();
  CHECK(refusal<DtypeError>([&] { opt.step(); }) ==
        "step: parameter weight is float64 [40, 40], its state float32 [40, 40]: convert a model "
        "before its optimizer is made");
  CHECK(values(fc.weight) == before);
}

TEST_CASE("a gradient of another dtype than its parameter is refused") {
  nn::Linear fc(64, 64);
  optim::SGD opt(fc.named_parameters(), {.lr = 1});
  bool once = false;
  fc.weight.register_hook([&](const Tensor&) -> Tensor {
    if (!std::exchange(once, true)) fc.to(float64);
    return {};
  });
  const Values before = values(fc.weight);
  CHECK(refusal<GraphError>([&] {
          fc(ones({1, 64})).sum().backward();
        }) ==
        "backward: a gradient float32 [64, 64] arrives at a leaf that has become float64 [64, 64] "
        "meanwhile: convert it before the forward pass");
  opt.step();
  CHECK(values(fc.weight) == before);
}
