#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>

#include "optim.hpp"

// Options of groups of parameters, which patterns choose.

using namespace descent;

TEST_CASE("patterns match in a time that does not explode with their stars") {
  CHECK(matches("*", ""));
  CHECK(matches("**", "abc"));
  CHECK(matches("a*c?", "abbccd"));
  CHECK(matches("*.bias", "encoder.0.bias"));
  CHECK(!matches("*.bias", "encoder.0.bias2"));
  CHECK(matches("*ab*ab", "abxababab"));
  CHECK(!matches("a?", "a"));
  CHECK(!matches("", "a"));
  CHECK(matches("", ""));
  CHECK(!matches("?", ""));
  std::string pattern;
  for (int i = 0; i < 40; ++i) pattern += "*a";
  CHECK(!matches(pattern + "*b", std::string(1000, 'a')));  // recursion would never end
  CHECK(matches(std::string(2'000'000, 'a'), std::string(2'000'000, 'a')));
}

TEST_CASE("groups follow the defaults until they set an option, and the later pattern wins") {
  const Tensor w = leaf({1}), b = leaf({1}), c = leaf({1});
  optim::SGD opt({{"fc.weight", w}, {"fc.bias", b}, {"out.bias", c}}, {.lr = 0.5});
  auto step = [&] {
    Values moved;
    for (const Tensor& p : {w, b, c}) {
      NoGradGuard no_grad;
      p.fill_(1);
      p.set_grad(ones({1}, float64));
    }
    opt.step();
    for (const Tensor& p : {w, b, c}) moved.push_back(1 - p.item());
    return moved;
  };
  opt.options().lr = 0.25;
  CHECK(opt.group("*.bias").lr == 0.25);
  opt.group("*.bias").lr = 0.125;
  CHECK(step() == Values{0.25, 0.125, 0.125});
  opt.group("out.*").lr = 0.0625;
  CHECK(step() == Values{0.25, 0.125, 0.0625});
  opt.options().lr = 1;  // groups keep what they have set
  opt.group("*.bias").lr = 2;
  CHECK(step() == Values{1, 2, 0.0625});
  CHECK(refusal<ValueError>([&] { opt.group("head.*"); }) ==
        "SGD: no parameter matches \"head.*\"");
  CHECK(step() == Values{1, 2, 0.0625});
}

TEST_CASE("a schedule multiplies every group's own rate") {
  const Tensor a = leaf({0}), b = leaf({0});
  optim::SGD opt({{"a", a}, {"b", b}}, {.lr = 0.5});
  opt.group("b").lr = 2;
  optim::Scheduler sched(opt, [](int64_t step) { return step == 0 ? 0.25 : 1.0 / double(step); });
  CHECK(opt.lr() == 0.125);
  set_gradient(a, {1});
  set_gradient(b, {1});
  opt.step();
  CHECK(a.item() == -0.125);
  CHECK(b.item() == -0.5);
  for (int i = 0; i < 4; ++i) sched.step();
  CHECK(sched.current_step() == 4);
  CHECK(opt.lr_factor() == 0.25);
  CHECK(opt.options().lr == 0.5);

  optim::SGD resumed({{"a", a}}, {.lr = 0.5});
  optim::Scheduler again(resumed, [](int64_t step) { return 1.0 / double(step + 1); });
  again.set_step(7);
  CHECK(again.current_step() == 7);
  CHECK(resumed.lr() == 0.5 / 8);
  CHECK(refusal<ValueError>([&] { resumed.set_lr_factor(NAN); }) ==
        "optimizer: the learning rate's factor is nan: need a number of at least 0");
  CHECK(resumed.lr() == 0.5 / 8);
}

namespace {
/// Four parameters, and the learning rate and the weight decay that SGD without momentum uses for
/// each: it steps from 1 with gradients of 0 and of 1.
struct Nets {
  std::vector<std::string> names{"0.weight", "0.bias", "1.weight", "1.bias"};
  NamedTensors all = [this] {
    NamedTensors made;
    for (const auto& name : names) made.emplace_back(name, leaf({1}));
    return made;
  }();
  std::vector<std::pair<double, double>> used(optim::SGD& opt) const {
    std::vector<std::pair<double, double>> found;
    Values without_gradient;
    for (double g : {0.0, 1.0}) {
      for (const auto& [name, p] : all) {
        NoGradGuard no_grad;
        p.fill_(1);
        set_gradient(p, {g});
      }
      opt.step();
      for (std::size_t i = 0; i < all.size(); ++i) {
        const double moved = 1 - all[i].second.item();  // lr (g + weight_decay)
        if (g == 0) without_gradient.push_back(moved);
        else {
          const double lr = moved - without_gradient[i];
          found.emplace_back(lr, without_gradient[i] / lr);
        }
      }
    }
    return found;
  }
};
using Used = std::vector<std::pair<double, double>>;
}  // namespace

TEST_CASE("options overlay: each comes from the last pattern that has set it") {
  const Nets nets;
  optim::SGD opt(nets.all, {.lr = 0.5, .weight_decay = 0.25});
  opt.group("1.*").lr = 0.125;
  opt.group("*.bias").weight_decay = 0;
  CHECK(nets.used(opt) == Used{{0.5, 0.25}, {0.5, 0}, {0.125, 0.25}, {0.125, 0}});
  CHECK(opt.group("1.*").weight_decay == 0.25);
  CHECK(opt.group("1.bias").lr == 0.125);
  CHECK(opt.group("1.bias").weight_decay == 0);
  CHECK(opt.group("*.bias").lr == 0.5);  // that of options()
  CHECK(opt.group("*.weight").lr == 0.5);

  opt.options().lr = 0.25;  // which no pattern has set for layer 0
  opt.group("1.*").lr *= 2;
  CHECK(nets.used(opt) == Used{{0.25, 0.25}, {0.25, 0}, {0.25, 0.25}, {0.25, 0}});
  opt.group("*.weight").lr = 0.25;  // the value that it has already: it is set all the same
  opt.options().lr = 1;
  opt.group("1.*").lr = 0.5;
  CHECK(nets.used(opt) == Used{{0.25, 0.25}, {1, 0}, {0.25, 0.25}, {0.5, 0}});
  opt.group("*").weight_decay = 0.125;
  CHECK(nets.used(opt) == Used{{0.25, 0.125}, {1, 0.125}, {0.25, 0.125}, {0.5, 0.125}});

  const Tensor late = leaf({1});
  opt.add({{"1.late.bias", late}});
  set_gradient(late, {1});
  opt.step();
  CHECK(late.item() == 1 - 0.5 * (1 + 0.125));
}

TEST_CASE("flags and choices overlay, and a state is made where an overlay asks for it") {
  const Tensor p = leaf({1}), q = leaf({1});
  optim::SGD opt({{"p", p}, {"q", q}}, {.lr = 0.5, .momentum = 0.5});
  opt.group("q").maximize = true;
  CHECK(bool(opt.group("q").maximize));
  CHECK(!opt.group("p").maximize);
  CHECK(!opt.group("q").nesterov);
  opt.options().nesterov = true;
  CHECK(bool(opt.group("q").nesterov));
  opt.group("q").nesterov = false;
  for (int t = 0; t < 2; ++t) {
    set_gradient(p, {1});
    set_gradient(q, {1});
    opt.step();
  }
  CHECK(p.item() == 1 - 0.5 * 1.5 - 0.5 * 1.75);
  CHECK(q.item() == 1 + 0.5 + 0.5 * 1.5);
  opt.set_momentum(0.25);
  CHECK(opt.group("q").momentum == 0.25);
  optim::Muon muon({{"m", matrix(2, 2, 0)}, {"n", matrix(2, 2, 0)}});
  muon.group("n").adjust_lr = optim::MuonScale::spectral_unclamped;
  CHECK(muon.group("n").adjust_lr == optim::MuonScale::spectral_unclamped);
  CHECK(muon.group("m").adjust_lr == optim::MuonScale::original);
  CHECK(muon.group("n").ns_steps == 5);
  optim::Adam adam({{"p", leaf({1})}, {"q", leaf({1})}});
  adam.group("q").amsgrad = true;
  walk(adam, 1, 1);
  int kept = 0;
  for (const auto& [key, t] : adam.state_dict()) kept += key.ends_with("/v_max");
  CHECK(kept == 1);
}

TEST_CASE("an explanation shows the options that held") {
  const Nets nets;
  optim::SGD opt(nets.all, {.lr = 0.5, .weight_decay = 0.25});
  optim::Ledger ledger;
  opt.trace(ledger);
  opt.group("1.*").lr = 0.125;
  opt.group("*.bias").weight_decay = 0;
  nets.used(opt);
  CHECK(ledger.explain("1.bias[0]", 1)
            .find("lr = 0.125, momentum = 0, dampening = 0, "
                  "weight_decay = 0,") != std::string::npos);
}

TEST_CASE("a state's groups decide, whatever the optimizer's own were") {
  const Nets nets;
  optim::SGD opt(nets.all, {.lr = 0.5, .weight_decay = 0.25});
  opt.group("1.*").lr = 0.125;
  opt.group("*.bias").lr = 0.25;
  opt.set_lr_factor(0.5);
  const Used expected = nets.used(opt);
  CHECK(expected == Used{{0.25, 0.25}, {0.125, 0.25}, {0.0625, 0.25}, {0.125, 0.25}});
  NamedTensors state = opt.state_dict();
  for (int shuffled = 0; shuffled < 2; ++shuffled) {
    const Nets other;
    optim::SGD none(other.all), reordered(other.all), more(other.all);
    reordered.group("*.bias").lr = 1;
    reordered.group("1.*").lr = 2;
    auto& kept = more.group("0.*");
    kept.lr = 3;
    more.group("*").weight_decay = 1;
    for (optim::SGD* each : {&none, &reordered, &more}) {
      each->load_state_dict(state);
      CHECK(each->lr_factor() == 0.5);
      CHECK(other.used(*each) == expected);
      each->load_state_dict(state);  // the two steps, undone
      const NamedTensors again = each->state_dict();
      if (each != &more) CHECK(again.size() == state.size());
    }
    kept.lr = 1;  // a reference to a group stays valid
    CHECK(other.used(more)[0].first == 0.5);
    std::reverse(state.begin(), state.end());  // as a file may sort its entries
  }
}

TEST_CASE("a flag or a choice copied out of a group is set, as a number is") {
  const Tensor a = leaf({1}), b = leaf({1});
  const NamedTensors both{{"a", a}, {"b", b}};
  optim::SGD opt(both, {.momentum = 0.9, .nesterov = true});
  auto &of_a = opt.group("a"), &of_b = opt.group("b");
  of_a.momentum = of_b.momentum;
  of_a.nesterov = of_b.nesterov;
  const optim::Flag copy = of_b.nesterov;
  opt.options().nesterov = false;
  opt.options().momentum = 0.5;
  CHECK(opt.group("a").momentum == 0.9);
  CHECK(bool(opt.group("a").nesterov));
  CHECK(entry(opt.state_dict(), "SGD/[1 a]/nesterov").item() == 1);
  CHECK(std::isnan(entry(opt.state_dict(), "SGD/[2 b]/nesterov").item()));
  opt.group("b").nesterov = copy;
  CHECK(entry(opt.state_dict(), "SGD/[2 b]/nesterov").item() == 1);
  for (int i = 0; i < 4; ++i) opt.options().maximize = opt.group("b").maximize;
  CHECK(!opt.options().maximize);
  CHECK(entry(opt.state_dict(), "SGD/[*]/maximize").item() == 0);
  of_b = of_a;  // all of them
  CHECK(entry(opt.state_dict(), "SGD/[2 b]/lr").item() == 1e-3);
  CHECK(entry(opt.state_dict(), "SGD/[2 b]/maximize").item() == 0);
  const optim::SGD from(both, {.lr = 1, .momentum = 0.9, .maximize = opt.group("a").maximize});
  CHECK(entry(from.state_dict(), "SGD/[*]/maximize").item() == 0);

  optim::Muon muon({{"m", matrix(2, 2, 0)}, {"n", matrix(2, 2, 0)}});
  muon.options().adjust_lr = optim::MuonScale::spectral_unclamped;
  muon.group("m").adjust_lr = muon.group("n").adjust_lr;
  muon.options() = {.adjust_lr = muon.group("n").adjust_lr};
  CHECK(entry(muon.state_dict(), "Muon/[*]/adjust_lr").item() == 2);
  muon.options().adjust_lr = optim::MuonScale::original;
  CHECK(muon.group("m").adjust_lr == optim::MuonScale::spectral_unclamped);
  CHECK(muon.group("n").adjust_lr == optim::MuonScale::original);
}

TEST_CASE("Polyak's step is that of all parameters with the same options, whoever gave them") {
  auto moved = [](auto change) {
    const Tensor a = leaf({1}), b = leaf({1}), c = leaf({1});
    optim::Polyak opt({{"a", a}, {"b", b}, {"c", c}}, {.lr = 10});
    opt.group("c").lr = 0.125;
    change(opt);
    for (const Tensor& p : {a, b, c}) set_gradient(p, {1});
    opt.step(tensor(1.0, float64));
    return Values{1 - a.item(), 1 - b.item(), 1 - c.item()};
  };
  const Values expected{0.5, 0.5, 0.125};
  CHECK(moved([](auto&) {}) == expected);
  CHECK(moved([](auto& opt) { CHECK(opt.group("a").lr == 10); }) == expected);
  CHECK(moved([](auto& opt) { opt.group("b").lr = 10; }) == expected);
  CHECK(moved([](auto& opt) {
          const NamedTensors state = opt.state_dict();
          opt.group("b").lr = 3;
          opt.load_state_dict(state);
        }) == expected);
  CHECK(moved([](auto& opt) { opt.group("b").lr = 0.25; }) == Values{1, 0.25, 0.125});
}
