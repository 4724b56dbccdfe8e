#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "optim.hpp"

using namespace descent;
using optim::Schedule;

/// A rule with neither momentum nor beta1.
template <class S = double> struct PlainRule {
  S lr = 1;
  static constexpr const char* name = "Plain";
  static constexpr optim::Names hyper{"lr"}, state{};
  template <class T> void update(T& theta, T g, S) const { theta -= lr * g; }
};

namespace {

int64_t whole(double x) { return static_cast<int64_t>(x); }

Values factors(const Schedule& schedule, int64_t steps) {
  Values all;
  for (int64_t n = 0; n < steps; ++n) all.push_back(schedule(n));
  return all;
}

/// Within 1e-12 of the expected value, or within 1e-15 where that is less (the cosine at pi).
bool precise(const Values& found, const Values& expected) {
  return close(found, expected, 1e-12, 1e-15);
}

// ---- golden series

/// "name numbers | numbers | ...", where "x*n" stands for n times x.
struct Line {
  std::string name;
  std::vector<Values> parts;
};
std::vector<Line> golden() {
  std::ifstream file(DESCENT_ROOT "/tests/golden/schedules.txt");
  std::vector<Line> lines;
  for (std::string text; std::getline(file, text);) {
    if (text[0] == '#') continue;
    std::istringstream words(text);
    Line& line = lines.emplace_back();
    words >> line.name;
    line.parts.emplace_back();
    for (std::string word; words >> word;) {
      const std::size_t star = word.find('*');
      if (word == "|") line.parts.emplace_back();
      else
        line.parts.back().insert(line.parts.back().end(),
                                 star == word.npos ? 1 : std::stoul(word.substr(star + 1)),
                                 std::strtod(word.c_str(), nullptr));
    }
  }
  return lines;
}

optim::Cycle one_cycle_of(const Values& o) {
  return optim::schedule::one_cycle(
      whole(o[0]),
      {.pct_start = o[1],
       .anneal = o[2] != 0 ? optim::schedule::Anneal::linear : optim::schedule::Anneal::cosine,
       .div_factor = o[3],
       .final_div_factor = o[4],
       .three_phase = o[5] != 0,
       .base_momentum = o[6],
       .max_momentum = o[7]});
}
optim::Cycle cyclic_of(const Values& o) {
  return optim::schedule::cyclic(o[0], whole(o[1]),
                                 {.down = whole(o[2]),
                                  .mode = static_cast<optim::schedule::CyclicMode>(whole(o[3])),
                                  .gamma = o[4],
                                  .base_momentum = o[5],
                                  .max_momentum = o[6]});
}
optim::schedule::DecayOptions decay_of(const Values& o) {
  return {.period = whole(o[1]), .staircase = o[2] != 0, .floor = o[3]};
}
std::vector<int64_t> milestones_of(const Values& o) { return {o.begin() + 1, o.end()}; }

const std::map<std::string, std::function<Schedule(const Values&)>> kSchedules{
    {"constant", [](auto& o) { return optim::schedule::constant(o[0], whole(o[1])); }},
    {"step", [](auto& o) { return optim::schedule::step(whole(o[0]), o[1]); }},
    {"multi_step", [](auto& o) { return optim::schedule::multi_step(milestones_of(o), o[0]); }},
    {"exponential", [](auto& o) { return optim::schedule::exponential(o[0]); }},
    {"exponential_options",
     [](auto& o) { return optim::schedule::exponential(o[0], decay_of(o)); }},
    {"inverse_time", [](auto& o) { return optim::schedule::inverse_time(o[0], decay_of(o)); }},
    {"linear", [](auto& o) { return optim::schedule::linear(o[0], o[1], whole(o[2])); }},
    {"warmup", [](auto& o) { return optim::schedule::warmup(whole(o[0])); }},
    {"inverse_sqrt", [](auto& o) { return optim::schedule::inverse_sqrt(whole(o[0])); }},
    {"polynomial", [](auto& o) { return optim::schedule::polynomial(whole(o[0]), o[1]); }},
    {"polynomial_end",
     [](auto& o) { return optim::schedule::polynomial(whole(o[0]), o[1], o[2]); }},
    {"cosine", [](auto& o) { return optim::schedule::cosine(whole(o[0]), {.floor = o[1]}); }},
    {"cosine_cyclic",
     [](auto& o) { return optim::schedule::cosine(whole(o[0]), {.floor = o[1], .cyclic = true}); }},
    {"warm_restarts",
     [](auto& o) { return optim::schedule::warm_restarts(whole(o[0]), whole(o[1]), o[2]); }},
    {"one_cycle.rate", [](auto& o) { return one_cycle_of(o).rate; }},
    {"one_cycle.momentum", [](auto& o) { return one_cycle_of(o).momentum; }},
    {"cyclic.rate", [](auto& o) { return cyclic_of(o).rate; }},
    {"cyclic.momentum", [](auto& o) { return cyclic_of(o).momentum; }},
    {"constant_exponential",
     [](auto& o) {
       return optim::schedule::constant(o[0]).then(whole(o[2]), optim::schedule::exponential(o[1]));
     }},
    {"linear_cosine",
     [](auto& o) {
       return optim::schedule::linear(o[0], 1, whole(o[1]))
           .then(whole(o[1]),
                 optim::schedule::cosine(whole(o[2]), {.floor = o[3], .cyclic = true}));
     }},
    {"step_polynomial_linear",
     [](auto& o) {
       return optim::schedule::step(3, o[0])
           .then(whole(o[1]), optim::schedule::polynomial(whole(o[2]), o[3]))
           .then(whole(o[5]), optim::schedule::linear(o[4], 1, 30));
     }},
    {"linear_times_exponential",
     [](auto& o) {
       return optim::schedule::linear(o[0], 1, whole(o[1])) * optim::schedule::exponential(o[2]);
     }},
    {"constant_times_step",
     [](auto& o) {
       return optim::schedule::constant(o[0], whole(o[1])) *
              optim::schedule::step(whole(o[2]), o[3]);
     }},
    {"multi_step_times_polynomial",
     [](auto& o) {
       return optim::schedule::multi_step({whole(o[1]), whole(o[2])}, o[0]) *
              optim::schedule::polynomial(whole(o[3]), o[4]);
     }},
};

// ---- optimizers

struct Fixture {
  Tensor p = zeros({1}, float64).requires_grad_();
  optim::SGD opt{{{"p", p}}, {.lr = 1, .momentum = 0.5}};
};

Values run(optim::Plateau& plateau, const optim::OptimizerBase& opt, const Values& metrics) {
  Values all;
  for (double metric : metrics) {
    plateau.step(metric);
    all.push_back(opt.lr_factor());
  }
  return all;
}

NamedTensors plateau_state(const Values& x) {
  return {{"Plateau/best", tensor(x[0], float64)},
          {"Plateau/bad_steps", tensor(static_cast<int64_t>(x[1]))},
          {"Plateau/cooldown", tensor(static_cast<int64_t>(x[2]))},
          {"Plateau/factor", tensor(x[3], float64)}};
}
double number(const optim::Plateau& plateau, const std::string& name) {
  return entry(plateau.state_dict(), "Plateau/" + name).item();
}

// ---- refusals

optim::SGD& any() {
  static Fixture f;
  return f.opt;
}

namespace refused {
using namespace optim;
using namespace optim::schedule;
void load(double best, double bad_steps, double cooldown, double factor) {
  Plateau(any()).load_state_dict(plateau_state({best, bad_steps, cooldown, factor}));
}
const std::vector<std::pair<std::string, std::function<void()>>> kCalls{
    {"schedule: step is -1: need at least 0", [] { constant(1)(-1); }},
    {"schedule: step is -1: need at least 0", [] { (constant(1) * constant(1))(-1); }},
    {"schedule: step is -1: need at least 0", [] { constant(1).then(3, constant(1))(-1); }},
    {"then: step is -1: need at least 0", [] { constant(1).then(-1, constant(1)); }},
    {"constant: factor is -1: need a number of at least 0", [] { constant(-1); }},
    {"constant: factor is nan: need a number of at least 0", [] { constant(NAN); }},
    {"constant: steps is -1: need at least 0", [] { constant(1, -1); }},
    {"step: period is 0: need at least 1", [] { step(0); }},
    {"step: gamma is 0: need a number above 0", [] { step(1, 0); }},
    {"multi_step: a milestone is -2: need at least 0",
     [] {
       multi_step(std::vector<int64_t>{3, -2});
     }},
    {"multi_step: gamma is inf: need a number above 0", [] { multi_step({3}, INFINITY); }},
    {"exponential: rate is 0: need a number above 0", [] { exponential(0); }},
    {"exponential: period is 0: need at least 1", [] { exponential(0.5, {.period = 0}); }},
    {"exponential: floor is 1.5: need [0, 1]", [] { exponential(0.5, {.floor = 1.5}); }},
    {"inverse_time: rate is -0.5: need a number above 0", [] { inverse_time(-0.5); }},
    {"inverse_time: period is 0: need at least 1", [] { inverse_time(0.5, {.period = 0}); }},
    {"inverse_time: floor is -1: need [0, 1]", [] { inverse_time(0.5, {.floor = -1}); }},
    {"linear: start is -1: need a number of at least 0", [] { linear(-1, 1, 5); }},
    {"linear: end is nan: need a number of at least 0", [] { linear(1, NAN, 5); }},
    {"linear: steps is 0: need at least 1", [] { linear(1, 1, 0); }},
    {"warmup: steps is 0: need at least 1", [] { warmup(0); }},
    {"inverse_sqrt: warmup is 0: need at least 1", [] { inverse_sqrt(0); }},
    {"polynomial: steps is 0: need at least 1", [] { polynomial(0); }},
    {"polynomial: power is 0: need a number above 0", [] { polynomial(5, 0); }},
    {"polynomial: end is -1: need a number of at least 0", [] { polynomial(5, 1, -1); }},
    {"cosine: steps is 0: need at least 1", [] { cosine(0); }},
    {"cosine: floor is 2: need [0, 1]", [] { cosine(5, {.floor = 2}); }},
    {"warm_restarts: period is 0: need at least 1", [] { warm_restarts(0); }},
    {"warm_restarts: mult is 0: need at least 1", [] { warm_restarts(5, 0); }},
    {"warm_restarts: floor is 2: need [0, 1]", [] { warm_restarts(5, 1, 2); }},
    {"one_cycle: steps is 0: need at least 1", [] { one_cycle(0); }},
    {"one_cycle: pct_start is 1.5: need [0, 1], [0, 0.5] with three phases",
     [] { one_cycle(5, {.pct_start = 1.5}); }},
    {"one_cycle: pct_start is 0.6: need [0, 1], [0, 0.5] with three phases",
     [] { one_cycle(5, {.pct_start = 0.6, .three_phase = true}); }},
    {"one_cycle: div_factor is 0: need a number above 0", [] { one_cycle(5, {.div_factor = 0}); }},
    {"one_cycle: final_div_factor is -1: need a number above 0",
     [] { one_cycle(5, {.final_div_factor = -1}); }},
    {"one_cycle: base_momentum is -1: need [0, 1]", [] { one_cycle(5, {.base_momentum = -1}); }},
    {"one_cycle: max_momentum is 1.5: need [0, 1]", [] { one_cycle(5, {.max_momentum = 1.5}); }},
    {"cyclic: floor is 2: need [0, 1]", [] { cyclic(2, 5); }},
    {"cyclic: up is 0: need at least 1", [] { cyclic(0, 0); }},
    {"cyclic: down is -1: need at least 0", [] { cyclic(0, 5, {.down = -1}); }},
    {"cyclic: gamma is 0: need a number above 0", [] { cyclic(0, 5, {.gamma = 0}); }},
    {"cyclic: base_momentum is 2: need [0, 1]", [] { cyclic(0, 5, {.base_momentum = 2}); }},
    {"cyclic: max_momentum is nan: need [0, 1]", [] { cyclic(0, 5, {.max_momentum = NAN}); }},
    {"set_step: step is -1: need at least 0", [] { Scheduler(any(), constant(1)).set_step(-1); }},
    {"Plateau: factor is 1: need [0, 1)", [] { Plateau(any(), {.factor = 1}); }},
    {"Plateau: patience is -1: need at least 0", [] { Plateau(any(), {.patience = -1}); }},
    {"Plateau: threshold is -1: need at least 0, and below 1 as a share",
     [] { Plateau(any(), {.threshold = -1}); }},
    {"Plateau: threshold is 1: need at least 0, and below 1 as a share",
     [] { Plateau(any(), {.threshold = 1}); }},
    {"Plateau: cooldown is -1: need at least 0", [] { Plateau(any(), {.cooldown = -1}); }},
    {"Plateau: min_factor is nan: need a number of at least 0",
     [] { Plateau(any(), {.min_factor = NAN}); }},
    {"Plateau: eps is -1: need a number of at least 0", [] { Plateau(any(), {.eps = -1}); }},
    {"optimizer: the learning rate's factor is -2: need a number of at least 0",
     [] { load(1, 0, 0, -2); }},
    {"load_state_dict: Plateau/bad_steps is -1: need a count up to 2^53",
     [] { load(1, -1, 0, 1); }},
    {"load_state_dict: Plateau/cooldown is -1: need a count up to 2^53", [] { load(1, 0, -1, 1); }},
    {"Plateau: best is nan: need a number", [] { load(NAN, 0, 0, 1); }},
    {"plot: steps is 0: need at least 1", [] { plot(constant(1), 0); }},
    {"plot: width is 19: need [20, 1000]", [] { plot(constant(1), 5, {.width = 19}); }},
    {"plot: height is 1: need [2, 1000]", [] { plot(constant(1), 5, {.height = 1}); }},
    {"plot: a value is nan: need a number", [] { plot([](int64_t) { return double(NAN); }, 5); }},
};
}  // namespace refused

}  // namespace

TEST_CASE("a scheduler or a plateau at the last step that can be counted stays there") {
  Fixture fixture;
  optim::SGD& opt = fixture.opt;
  optim::Scheduler scheduler(opt, optim::schedule::constant(1));
  scheduler.set_step(INT64_MAX);
  CHECK(refusal<SizeError>([&] { scheduler.step(); }) ==
        "step: 9223372036854775807 + 1 is too large: sizes end at 9223372036854775807");
  CHECK(scheduler.current_step() == INT64_MAX);
  constexpr int64_t most = int64_t{1} << 53;
  optim::Plateau plateau(opt, {.patience = most});
  plateau.load_state_dict(plateau_state({0, double(most), 0, 1}));
  plateau.step(1);  // the reduction that was due
  CHECK(opt.lr_factor() == 0.1);
}

TEST_CASE("schedules equal PyTorch's, and formulas, computed with 50 digits") {
  std::map<std::string, int> sets;
  std::size_t series = 0, values = 0;
  for (const Line& line : golden()) {
    if (line.name == "plateau") continue;
    CAPTURE(line.name);
    CAPTURE(str(line.parts[0]));
    const Schedule schedule = kSchedules.at(line.name)(line.parts[0]);
    CHECK(line.parts[1].size() == 60);
    CHECK(precise(factors(schedule, 60), line.parts[1]));
    ++series;
    ++sets[line.name];
    values += line.parts[1].size();
  }
  MESSAGE(series, " series of ", kSchedules.size(), " schedules, ", values, " values compared");
  CHECK(series == 600);
  CHECK(values == 36'000);
  CHECK(sets.size() == kSchedules.size());
}

TEST_CASE("plateaus reduce the rate where PyTorch's do") {
  std::size_t plateaus = 0, values = 0;
  for (const Line& line : golden()) {
    if (line.name != "plateau") continue;
    const Values& o = line.parts[0];
    CAPTURE(str(o));
    Fixture f;
    optim::Plateau plateau(f.opt, {.maximize = o[0] != 0,
                                   .factor = o[1],
                                   .patience = whole(o[2]),
                                   .threshold = o[3],
                                   .absolute = o[4] != 0,
                                   .cooldown = whole(o[5]),
                                   .min_factor = o[6],
                                   .eps = o[7]});
    CHECK(run(plateau, f.opt, line.parts[1]) == line.parts[2]);
    ++plateaus;
    values += line.parts[2].size();
  }
  CHECK(plateaus == 30);
  CHECK(values == 1800);
}

TEST_CASE("long schedules lose no precision towards their end") {
  // sin^2(pi / 2e6) and so on, with 50 digits.
  CHECK(
      precise({1e3 * optim::schedule::cosine(1'000'000)(999'999)}, {1e3 * 2.4674011002703056e-12}));
  CHECK(precise({1e3 * optim::schedule::warm_restarts(1'000'000)(1'999'999)},
                {1e3 * 2.4674011002703056e-12}));
  CHECK(precise({optim::schedule::linear(1, 1e-12, 1'000'000)(999'999) * 1e6},
                {1.0000000000000001 + 1e-6 - 1e-12}));
  CHECK(precise({optim::schedule::polynomial(1'000'000, 2)(999'999) * 1e12}, {1}));
  CHECK(optim::schedule::exponential(0.999999)(1'000'000) ==
        doctest::Approx(0.367879257).epsilon(1e-9));
}

TEST_CASE("what ends stays at its end exactly, and the peaks are exactly 1") {
  const auto ends = [](const Schedule& s, int64_t last, double start, double end) {
    CHECK(s(0) == start);
    for (int64_t n : {last, last + 1, 2 * last, 1000 * last, INT64_MAX}) CHECK(s(n) == end);
    CHECK(s(last - 1) != end);
  };
  ends(optim::schedule::constant(0.3, 7), 7, 0.3, 1);
  ends(optim::schedule::linear(0.2, 0.9, 7), 7, 0.2, 0.9);
  ends(optim::schedule::warmup(7), 7, 0, 1);
  ends(optim::schedule::polynomial(7, 2, 0.1), 7, 1, 0.1);
  ends(optim::schedule::polynomial(7), 7, 1, 0);
  ends(optim::schedule::cosine(7), 7, 1, 0);
  ends(optim::schedule::cosine(7, {.floor = 0.3}), 7, 1, 0.3);
  const auto cycle = optim::schedule::one_cycle(10, {.pct_start = 0.5, .div_factor = 4});
  ends(cycle.rate, 9, 0.25, 0.25 / 1e4);
  ends(cycle.momentum, 9, 0.95, 0.95);
  CHECK(cycle.rate(4) == 1);
  CHECK(cycle.momentum(4) == 0.85);
  CHECK(optim::schedule::constant(0.3)(INT64_MAX - 1) == 0.3);
  CHECK(optim::schedule::constant(0.3, 0)(0) == 1);

  const Schedule climbing = optim::schedule::cosine(7, {.floor = 0.3, .cyclic = true});
  for (int64_t period = 0; period < 5; ++period) {
    CHECK(climbing(14 * period) == 1);
    CHECK(climbing(14 * period + 7) == 0.3);
    CHECK(climbing(14 * period + 5) == climbing(14 * period + 9));
  }
  const Schedule restarts = optim::schedule::warm_restarts(3, 2);
  for (int64_t n : {0, 3, 9, 21, 45}) CHECK(restarts(n) == 1);
  CHECK(restarts(44) < 0.01);
  CHECK(restarts(INT64_MAX) >= 0);
  CHECK(optim::schedule::warm_restarts(3)(INT64_MAX) <= 1);
  CHECK(optim::schedule::inverse_sqrt(100)(0) == 0);
  CHECK(optim::schedule::inverse_sqrt(100)(100) == 1);
  CHECK(optim::schedule::inverse_sqrt(100)(400) == 0.5);
}

TEST_CASE("one cycle leaves out phases without length, where PyTorch divides by zero") {
  CHECK(optim::schedule::one_cycle(4, {.pct_start = 0.25}).rate(0) == 1);
  CHECK(factors(optim::schedule::one_cycle(1).rate, 3) == Values(3, 1 / 25. / 1e4));
  const Schedule rising = optim::schedule::one_cycle(4, {.pct_start = 1}).rate;
  CHECK(rising(3) == 1);
  CHECK(rising(4) == 1);
  const Schedule symmetric =
      optim::schedule::one_cycle(10, {.pct_start = 0.5, .three_phase = true}).rate;
  CHECK(symmetric(4) == 1);
  CHECK(symmetric(8) == 1 / 25.);
  CHECK(symmetric(9) == 1 / 25. / 1e4);
}

TEST_CASE("schedules follow each other at a step, and multiply") {
  const Schedule count = [](int64_t n) { return static_cast<double>(n); };
  CHECK(factors(count.then(3, count), 6) == Values{0, 1, 2, 0, 1, 2});
  CHECK(factors(count.then(0, optim::schedule::constant(5)), 2) == Values{5, 5});
  CHECK(factors(count.then(2, count.then(2, count)), 6) == Values{0, 1, 0, 1, 0, 1});
  CHECK(factors(count.then(4, optim::schedule::constant(9)).then(2, optim::schedule::constant(7)),
                6) == Values{0, 1, 7, 7, 7, 7});
  CHECK(factors(count * count, 4) == Values{0, 1, 4, 9});
  CHECK(factors(
            count * optim::schedule::constant(0.5) * [](int64_t) { return 3.0; }, 3) ==
        Values{0, 1.5, 3});
  CHECK(factors(optim::schedule::warmup(2) * optim::schedule::step(2, 0.5), 5) ==
        Values{0, 0.5, 0.5, 0.5, 0.25});
}

TEST_CASE("options out of range are refused by name") {
  for (const auto& [message, call] : refused::kCalls) {
    CHECK(refusal<ValueError>(call) == message);
  }
  CHECK(any().lr_factor() == 1);
  CHECK_NOTHROW(optim::Plateau(any(), {.threshold = 3, .absolute = true}));
}

TEST_CASE("a scheduler that is given a rate and a momentum sets both") {
  Fixture f;
  f.opt.group("p").momentum = 0.25;
  optim::Scheduler sched(f.opt, optim::schedule::one_cycle(10, {.pct_start = 0.5}));
  CHECK(f.opt.lr_factor() == 1 / 25.);
  CHECK(f.opt.options().momentum == 0.95);
  CHECK(f.opt.group("p").momentum == 0.95);
  for (int i = 0; i < 4; ++i) sched.step();
  CHECK(sched.current_step() == 4);
  CHECK(f.opt.lr_factor() == 1);
  CHECK(f.opt.group("p").momentum == 0.85);
  sched.set_step(1'000'000);
  CHECK(f.opt.lr_factor() == 1 / 25. / 1e4);
  CHECK(f.opt.options().momentum == 0.95);

  optim::Adam adam({{"p", f.p}});
  optim::Scheduler own(adam,
                       {optim::schedule::constant(0.5), optim::schedule::linear(0.5, 0.75, 2)});
  own.step();
  CHECK(adam.lr_factor() == 0.5);
  CHECK(adam.options().beta1 == 0.625);

  optim::Optimizer<PlainRule> plain({{"p", f.p}});
  CHECK(refusal<ValueError>([&] { optim::Scheduler(plain, optim::schedule::cyclic(0.1, 5)); }) ==
        "set_momentum: Plain has neither momentum nor beta1");
  CHECK(plain.lr_factor() == 1);
  optim::Scheduler rate(plain, optim::schedule::cyclic(0.25, 5).rate);
  CHECK(plain.lr_factor() == 0.25);
}

TEST_CASE("a plateau waits, reduces, cools down and goes on from its state") {
  const optim::PlateauOptions o{.factor = 0.5, .patience = 1, .cooldown = 2, .min_factor = 0.2};
  const Values metrics{3, NAN, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 5, 4, 5, 5, 5};
  const Values expected{1,    1,    0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25,
                        0.25, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2,  0.2};
  Fixture f;
  optim::Plateau plateau(f.opt, o);
  CHECK(run(plateau, f.opt, metrics) == expected);
  CHECK(number(plateau, "best") == 2);

  for (auto split = metrics.begin(); split != metrics.end(); ++split) {
    Fixture before, after;
    optim::Plateau first(before.opt, o), resumed(after.opt, o);
    Values all = run(first, before.opt, {metrics.begin(), split});
    resumed.load_state_dict(first.state_dict());
    const Values rest = run(resumed, after.opt, {split, metrics.end()});
    all.insert(all.end(), rest.begin(), rest.end());
    CHECK(all == expected);
    CHECK(number(resumed, "best") == 2);
    CHECK(number(resumed, "bad_steps") == number(plateau, "bad_steps"));
    CHECK(refusal<ValueError>([&] {
            resumed.load_state_dict(plateau_state({1, 2, 3, NAN}));
          }) == "optimizer: the learning rate's factor is nan: need a number of at least 0");
    CHECK(number(resumed, "best") == 2);
  }
}

TEST_CASE("a plot shows the curve, its range and its steps") {
  CHECK(optim::plot(optim::schedule::linear(0, 1, 9), 10, {.width = 22, .height = 3}) ==
        "         1 ┤       ▃▅█\n"
        "           │   ▁▃▆████\n"
        "         0 ┤▁▄▆███████\n"
        "           └──────────\n"
        "            0        9\n");
  CHECK(optim::plot(optim::schedule::constant(0.5), 1, {.width = 20, .height = 3}) ==
        "           │\n"
        "       0.5 ┤▄▄▄▄▄▄▄▄\n"
        "           │████████\n"
        "           └────────\n"
        "            0      0\n");
  CHECK(optim::plot(optim::schedule::linear(0, 1, 2), 3, {.width = 20, .height = 2}) ==
        "         1 ┤  ▁▁▁▁██\n"
        "         0 ┤▁▁██████\n"
        "           └────────\n"
        "            0      2\n");
  const std::string curve = optim::plot(optim::schedule::cosine(100'000), 100'001);
  std::istringstream lines(curve);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto columns =
        std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; });
    CHECK(columns <= 72);
    CHECK(line.back() != ' ');
    if (count == 0) CHECK(line == "         1 ┤███▇▇▆▆▅▄▃▁");
    if (count == 13) CHECK(line == "            0" + std::string(53, ' ') + "100000");
  }
  CHECK(count == 14);
  CHECK(curve == optim::plot(optim::schedule::cosine(100'000), 100'001));
}
