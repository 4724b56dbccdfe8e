#include <cmath>
#include <doctest/doctest.h>

#include "optim.hpp"

// How a ledger and its optimizer come together, go on and part.

using namespace descent;

TEST_CASE("a ledger follows an optimizer that is set to another step") {
  const Tensor p = matrix(1, 2, 1);
  optim::SGD opt({{"p", p}}, {.lr = 0.5});
  optim::Ledger ledger;
  opt.trace(ledger);
  auto step = [&](double loss) {
    set_gradient(p, {1, 1});
    opt.step(tensor(loss, float64));
  };
  const NamedTensors start = opt.state_dict();
  const int64_t far = int64_t{1} << 40;
  step(8);
  step(5);
  opt.load_state_dict(with(start, "SGD/steps", tensor(far)));
  step(3);
  step(2);
  CHECK(ledger.real_decrease(1) == 3);
  CHECK(std::isnan(ledger.real_decrease(2)));
  CHECK(ledger.real_decrease(far + 1) == 1);
  opt.load_state_dict(start);  // the steps are repeated
  step(7);
  step(1);
  CHECK(ledger.real_decrease(1) == 6);
  CHECK(std::isnan(ledger.real_decrease(far + 1)));
}

TEST_CASE("a ledger that is full says what to choose, and the run goes on") {
  const Tensor p = zeros({1000}).requires_grad_();
  optim::SGD opt({{"p", p}}, {.lr = 0.5});
  Reports reports(opt);
  optim::Ledger ledger({.max_bytes = 1 << 20}), narrow({.elements = {3}, .max_bytes = 1 << 20});
  opt.trace(ledger);
  for (int i = 0; i < 8; ++i) {
    p.set_grad(ones({1000}));
    opt.step();
  }
  CHECK(opt.steps() == 8);
  REQUIRE(reports.all.size() == 1);
  CHECK(reports.all[0].starts_with("step: the ledger is full: step "));
  CHECK(reports.all[0].ends_with(
      " and it records no more: choose parameters by a pattern, elements, or every n-th step"));
  const auto recorded = static_cast<int64_t>(ledger.entries().size());
  CHECK(recorded >= 2);
  CHECK(recorded < 8);
  CHECK(ledger.explain("p[3]", recorded).starts_with("SGD"));
  CHECK(refusal<ValueError>([&] { ledger.explain("p[3]", 8); }) ==
        "explain: nothing was recorded of p in step 8: the ledger was full");
  opt.trace(narrow);
  for (int i = 0; i < 100; ++i) {
    p.set_grad(ones({1000}));
    opt.step();
  }
  CHECK(narrow.entries().size() == 100);
}

TEST_CASE("a ledger that was full records again after a way back to where it was not") {
  const Tensor p = zeros({1000}).requires_grad_();
  optim::SGD opt({{"p", p}}, {.lr = 0.5});
  Reports reports(opt);
  optim::Ledger ledger({.max_bytes = 1 << 20});
  opt.trace(ledger);
  const NamedTensors start = opt.state_dict();
  auto steps = [&](int count) {
    for (int i = 0; i < count; ++i) {
      p.set_grad(ones({1000}));
      opt.clip_grad_norm(1);
      opt.step();
    }
    return ledger.entries().size();
  };
  const std::size_t room = steps(8);
  REQUIRE(room < 8);
  opt.load_state_dict(start);
  CHECK(steps(1) == 1);
  CHECK(reports.all.size() == 1);
  CHECK(steps(7) == room);
  CHECK(reports.all.size() == 2);
  for (std::size_t i = 0; i < room; ++i)
    CHECK(ledger.entries()[i].step == static_cast<int64_t>(i) + 1);
}

TEST_CASE("a ledger that goes before its optimizer is left alone") {
  const Three x;
  optim::SGD opt(x.all, {.lr = 0.5});
  Reports reports(opt);
  {
    optim::Ledger first;
    opt.trace(first);
    opt.step();
    CHECK(first.entries().size() == 2);
  }
  const std::vector<char> other(sizeof(optim::Ledger), 1);  // probably where the ledger was
  opt.clip_grad_norm(1);
  opt.step();
  CHECK(opt.steps() == 2);
  optim::Ledger second;
  opt.trace(second);
  opt.step();
  CHECK(second.entries().size() == 2);
  CHECK(second.explain("a[0]", 3).starts_with("SGD, step 3"));
}

TEST_CASE("a ledger follows one optimizer at a time, and holds the steps of one rule") {
  const Three x, y;
  optim::SGD sgd(x.all);
  optim::Adam adam(y.all);
  Reports reports(sgd);
  optim::Ledger ledger, other;
  sgd.trace(ledger);
  CHECK(refusal<ValueError>([&] { adam.trace(ledger); }) ==
        "trace: this ledger follows another optimizer, SGD: take one for each, or trace(nullptr) "
        "there");
  optim::SGD second(y.all);
  CHECK(refusal<ValueError>([&] { second.trace(ledger); }) ==
        "trace: this ledger follows another optimizer, SGD: take one for each, or trace(nullptr) "
        "there");  // both would have a step 1
  sgd.step();
  sgd.trace(other);
  CHECK(refusal<ValueError>([&] { adam.trace(ledger); }) ==
        "trace: this ledger holds steps of SGD: take another one for Adam");
  second.trace(ledger);
  second.trace(nullptr);
  sgd.trace(ledger);
  CHECK(ledger.explain("a[0]", 1).starts_with("SGD, step 1 of a[0]"));
}
