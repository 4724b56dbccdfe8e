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
  CHECK_THROWS_AS(SGD(both, {.lr = -1}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.lr = NAN}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.momentum = -0.1}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.weight_decay = -1}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.nesterov = true}), ValueError);
  CHECK_THROWS_AS(SGD(both, {.momentum = 0.9, .dampening = 0.1, .nesterov = 1}), ValueError);
  CHECK_THROWS_AS(Adam(both, {.beta1 = 1}), ValueError);
  CHECK_THROWS_AS(Adam(both, {.beta2 = -0.1}), ValueError);
  CHECK_THROWS_AS(Adam(both, {.eps = -1}), ValueError);

  SGD opt(both, {.lr = 0.1});
  opt.group("b").lr = -1;
  for (const auto& [name, p] : both) set_gradient(p, {1});
  CHECK_THROWS_WITH_AS(opt.step(), doctest::Contains("SGD: lr is -1: need at least 0"), ValueError);
  CHECK(a.item() == 1);
  CHECK(b.item() == 2);
}

TEST_CASE("a flag may be a variable, and each rule refuses what it cannot mean") {
  const NamedTensors p{{"p", matrix(2, 2, 0)}};
  bool nesterov = p.size() == 1;
  optim::SGD opt(p, {.momentum = 0.9, .nesterov = nesterov});
  CHECK(opt.options().nesterov);
  using namespace optim;
  CHECK_THROWS_AS(Adagrad(p, {.lr_decay = -1}), ValueError);
  CHECK_THROWS_AS(Adagrad(p, {.initial_accumulator_value = -1}), ValueError);
  CHECK_THROWS_AS(RMSprop(p, {.alpha = -0.5}), ValueError);
  CHECK_THROWS_AS(Adadelta(p, {.rho = 1.5}), ValueError);
  CHECK_THROWS_AS(Rprop(p, {.eta_minus = 1}), ValueError);
  CHECK_THROWS_AS(Rprop(p, {.eta_plus = 1}), ValueError);
  CHECK_THROWS_AS(Rprop(p, {.step_min = 2, .step_max = 1}), ValueError);
  CHECK_THROWS_AS(ASGD(p, {.lambd = -1}), ValueError);
  CHECK_THROWS_AS(ASGD(p, {.alpha = -1}), ValueError);
  CHECK_THROWS_AS(Lion(p, {.beta2 = 1}), ValueError);
  CHECK_THROWS_AS(NAdam(p, {.momentum_decay = -1}), ValueError);
  CHECK_THROWS_AS(LARS(p, {.trust_coefficient = -1}), ValueError);
  CHECK_THROWS_AS(Adafactor(p, {.beta2_decay = 0.5}), ValueError);
  CHECK_THROWS_AS(Adafactor(p, {.eps2 = -1}), ValueError);
  CHECK_THROWS_AS(Adafactor(p, {.d = 0.5}), ValueError);
  CHECK_THROWS_AS(Muon(p, {.ns_steps = 100}), ValueError);
  CHECK_THROWS_AS(Muon(p, {.eps = NAN}), ValueError);
  CHECK_THROWS_WITH_AS(Muon({{"fc.bias", zeros({3}).requires_grad_()}}),
                       doctest::Contains("parameter fc.bias is not a matrix"), ValueError);
}

TEST_CASE("parameters that cannot be optimized are refused by name") {
  const Tensor p = leaf({1, 2});
  using optim::SGD;
  CHECK_THROWS_WITH_AS(SGD({{"x", p}, {"y", p}}), doctest::Contains("x and y are the same tensor"),
                       ValueError);
  CHECK_THROWS_WITH_AS(SGD({{"x", p}, {"x", leaf({1})}}),
                       doctest::Contains("two parameters are called x"), ValueError);
  CHECK_THROWS_AS(SGD(NamedTensors{}), ValueError);
  CHECK_THROWS_AS(SGD({{"x", Tensor()}}), ValueError);
  CHECK_THROWS_AS(SGD({{"x", p * 2.0}}), GraphError);
  CHECK_THROWS_AS(SGD({{"x", arange(3)}}), DtypeError);
  CHECK_THROWS_AS(SGD({{"x", zeros({2, 3}).t()}}), ValueError);
}

TEST_CASE("parameters that share elements are refused by name") {
  const Tensor base = ones({10}), a = base.narrow(0, 0, 6).detach().requires_grad_(),
               b = base.narrow(0, 4, 6).detach().requires_grad_(),
               c = base.narrow(0, 6, 4).detach().requires_grad_(),
               again = a.detach().requires_grad_();
  using optim::SGD;
  CHECK_THROWS_WITH_AS(SGD({{"a", a}, {"b", b}}), doctest::Contains("a and b share elements"),
                       ValueError);
  CHECK_THROWS_WITH_AS(SGD({{"a", a}, {"again", again}}), doctest::Contains("share elements"),
                       ValueError);
  SGD opt({{"a", a}, {"c", c}});  // side by side
  CHECK_THROWS_AS(opt.add({{"b", b}}), ValueError);
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
  CHECK_THROWS_WITH_AS(opt.step(), doctest::Contains("weight"), DtypeError);
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
  try {  // backward may refuse it first
    fc(ones({1, 64})).sum().backward();
  } catch (const Error&) { return; }
  const Values before = values(fc.weight);
  CHECK_THROWS_AS(opt.step(), Error);
  CHECK(values(fc.weight) == before);
}
