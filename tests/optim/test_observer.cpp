#include <cmath>
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "descent/optim/fused.hpp"

#include "optim.hpp"

// Observers of a step, and the parts that a step is made of: the examples in their headers.

using namespace descent;

namespace {

/// Writes down what it is told, and refuses one event.
struct Log : optim::StepObserver {
  void follow(const optim::OptimizerBase& opt, At at) override { note("follow", opt, at); }
  void leave() noexcept override { events += "leave "; }
  void before_clip(const optim::OptimizerBase& opt) override { note("before_clip", opt); }
  void before_step(const optim::OptimizerBase& opt) override { note("before_step", opt); }
  void after_prepare(const optim::OptimizerBase& opt) override { note("after_prepare", opt); }
  void after_step(const optim::OptimizerBase& opt) noexcept override {
    events += "after_step" + std::to_string(opt.steps()) + " ";
  }
  void note(const std::string& event, const optim::OptimizerBase& opt, At at = At::unknown()) {
    if (event == refused) fail<ValueError>(at, "no {}", event);
    events += event + std::to_string(opt.steps()) + " ";
  }
  std::string events, refused;
};

/// The step count alone, as observer.hpp shows.
struct Count : optim::StepObserver {
  void after_step(const optim::OptimizerBase& opt) noexcept override { steps = opt.steps(); }
  int64_t steps = 0;
};

/// As rule.hpp shows.
template <class S = double> struct MomentumRule {
  S lr = 0.1, momentum = 0.9;
  static constexpr auto name = "Momentum";
  static constexpr optim::Names hyper{"lr", "momentum"}, state{"b"};
  template <class T> void update(T& theta, T g, T& b, S) const {
    b = momentum * b + g;
    theta -= lr * b;
  }
};

}  // namespace

TEST_CASE("an observer is told of each part of a step, in its order") {
  const Tensor w = leaf({1, 2});
  optim::SGD opt({{"w", w}}, {.lr = 0.5});
  Log log;
  opt.trace(log);
  set_gradient(w, {3, 4});
  opt.clip_grad_norm(1);
  opt.step();
  CHECK(log.events == "follow0 before_clip0 before_step0 after_prepare0 after_step1 ");
  Count count;
  opt.trace(count);
  CHECK(log.events.ends_with("after_step1 leave "));
  opt.step();
  CHECK(count.steps == 2);
  opt.trace(nullptr);
  opt.step();
  CHECK(count.steps == 2);
  opt.set_nonfinite(optim::NonFinite::skip);
  opt.trace(log);
  log.events.clear();
  set_gradient(w, {NAN, 4});
  opt.step();
  CHECK(log.events.empty());  // a step that is skipped has none of these parts
}

TEST_CASE("what an observer throws keeps the optimizer from doing what it was about to do") {
  const Tensor w = leaf({1, 2});
  optim::Adam opt({{"w", w}}, {.lr = 0.5});
  Log log, other;
  opt.trace(log);
  other.refused = "follow";
  CHECK(refusal<ValueError>([&] { opt.trace(other); }) == "no follow");
  set_gradient(w, {3, 4});
  for (const char* event : {"before_clip", "before_step", "after_prepare"}) {
    log.refused = event;
    CHECK(full_refusal<ValueError>([&] {
            opt.clip_grad_value(1);
            opt.step();
          }) == std::string("no ") + event);
    CHECK(values(w) == Values{1, 2});
    CHECK(opt.steps() == 0);
  }
  CHECK(values(w.grad()) == Values{1, 1});  // the second call's clipping
  log.refused.clear();
  opt.step();
  CHECK(log.events.ends_with("before_step0 after_prepare0 after_step1 "));
  CHECK(other.events.empty());
}

TEST_CASE("a rule says its names, and the values that its options may have") {
  using Is = optim::detail::Traits<MomentumRule>;
  CHECK(std::string(Is::info.name) == "Momentum");
  CHECK(Is::info.hyper.count == 2);
  CHECK(Is::info.ranges[0] == optim::detail::Range::nonnegative);
  CHECK(Is::info.state.count == 1);
  CHECK(Is::info.required == 1);
  CHECK(Is::info.tensor_state.count + Is::info.fields.count + Is::info.quantities.count == 0);
  CHECK_FALSE(Is::has_direction);
}

TEST_CASE("a rule's loop updates a part of a parameter") {
  using Loop = optim::detail::Loop<MomentumRule>;
  optim::detail::Slot slot;
  slot.parameter = tensor({1.0, 2.0, 3.0, 4.0});
  slot.grad = tensor({1.0, 1.0, 2.0, 2.0});
  slot.state = {tensor({0.0, 10.0, 20.0, 0.0})};
  slot.step = 1;
  for (Tensor* t : {&slot.parameter, &slot.grad, &slot.state[0]}) *t = t->to(float64);
  Loop::update<double>({.lr = 0.5, .momentum = 0.5}, slot, {0, 1, 2});
  CHECK(values(slot.parameter) == Values{1, -1, -3, 4});
  CHECK(values(slot.state[0]) == Values{0, 6, 12, 0});
}

TEST_CASE("a recording scalar tells how it came about") {
  optim::Recording recording;
  optim::Recorded<double> m("m", 2, &recording), g("g", 4, &recording);
  m += 0.5 * (g - m);
  REQUIRE(recording.size() == 1);
  const auto& [expression, variable] = recording[0];
  CHECK(std::string(variable->name) == "m");
  CHECK(variable->value == 3);
  CHECK(std::string(expression->name) == "+");
  const optim::Line line = optim::lines_of(recording).at(0);
  CHECK(line.formula == "m + 0.5·(g - m)");
  CHECK(line.numbers == "2 + 0.5·(4 - 2)");
  CHECK(line.value == "3");
}

TEST_CASE("a rule's replay tells its formula and ends where the step does") {
  optim::Recording recording;
  optim::detail::Moment moment{.hyper = {0.5, 0.5},
                               .quantities = {},
                               .t = 1,
                               .theta = 2,
                               .g = 1,
                               .state = {10},
                               .fields = {}};
  optim::detail::replay<MomentumRule, MomentumRule<>, double>(moment, recording);
  CHECK(moment.theta == -1);
  CHECK(moment.state[0] == 6);
  const optim::Lines lines = optim::lines_of(recording);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].formula == "momentum·b + g");
  CHECK(lines[1].formula == "theta - lr·b");
}
