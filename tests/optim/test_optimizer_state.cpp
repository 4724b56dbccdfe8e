#include <cmath>
#include <doctest/doctest.h>

#include "optim.hpp"

// An optimizer's state dict: what it holds, what goes on from it, and what it refuses.

using namespace descent;

TEST_CASE("every rule goes on from its state dict with the same bits") {
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    const Tensor p = matrix(3, 4, -0.5), q = matrix(4, 2, 0.25);
    Opt opt({{"p", p}, {"q", q}}, options);
    opt.group("q").lr = 0.02;
    walk(opt, 1, 5);
    const NamedTensors state = opt.state_dict();
    const Tensor p2 = p.detach().clone().requires_grad_(), q2 = q.detach().clone().requires_grad_();
    Opt other({{"q", q2}, {"p", p2}});
    other.load_state_dict(state);
    CHECK(other.steps() == 5);
    walk(opt, 6, 9);
    walk(other, 6, 9);
    CHECK(values(p) == values(p2));
    CHECK(values(q) == values(q2));
  });
}

TEST_CASE("a state dict says what it holds") {
  const Tensor p = matrix(2, 2, 0);
  optim::NAdam opt({{"fc.weight", p}}, {.lr = 0.5});
  opt.group("fc.*").weight_decay = 0.25;
  opt.set_lr_multiplier("*", 2);
  walk(opt, 1, 3);
  std::string keys;
  for (const auto& [key, t] : opt.state_dict()) keys += key + " ";
  CHECK(keys ==
        "NAdam/steps NAdam/lr_factor NAdam/[*]/lr NAdam/[*]/beta1 NAdam/[*]/beta2 NAdam/[*]/eps "
        "NAdam/[*]/weight_decay NAdam/[*]/momentum_decay NAdam/[*]/decoupled_weight_decay "
        "NAdam/[*]/maximize NAdam/[1 fc.*]/lr NAdam/[1 fc.*]/beta1 NAdam/[1 fc.*]/beta2 "
        "NAdam/[1 fc.*]/eps NAdam/[1 fc.*]/weight_decay NAdam/[1 fc.*]/momentum_decay "
        "NAdam/[1 fc.*]/decoupled_weight_decay NAdam/[1 fc.*]/maximize NAdam/fc.weight/step "
        "NAdam/fc.weight/lr_multiplier NAdam/fc.weight/shape NAdam/fc.weight/m NAdam/fc.weight/v "
        "NAdam/fc.weight/mu_product ");
  optim::NAdam other({{"fc.weight", matrix(2, 2, 0)}});
  other.load_state_dict(opt.state_dict());
  CHECK(other.options().lr == 0.5);
  CHECK(other.group("fc.*").weight_decay == 0.25);
  CHECK(entry(other.state_dict(), "NAdam/fc.weight/step").item<int64_t>() == 3);
}

TEST_CASE("a group that one holds reads what holds after a state is loaded, as before") {
  const Tensor a = leaf({1}), b = leaf({1});
  const NamedTensors both{{"a", a}, {"b", b}};
  optim::SGD opt(both, {.lr = 0.5, .momentum = 0.25, .nesterov = true});
  const NamedTensors before = opt.state_dict();
  auto& held = opt.group("a");
  opt.group("*").weight_decay = 0.125;
  for (bool own : {true, false}) {  // its own state has the group, the other one does not
    held.momentum = 0.75;
    opt.load_state_dict(own ? opt.state_dict() : before);
    CHECK(held.lr == 0.5);
    CHECK(held.momentum == (own ? 0.75 : 0.25));
    CHECK(held.weight_decay == (own ? 0.125 : 0));
    CHECK(bool(held.nesterov));
    CHECK(std::isnan(entry(opt.state_dict(), "SGD/[1 a]/lr").item()));
  }
  held.lr *= 0.5;
  opt.options() = {.lr = 0.5};
  for (const Tensor& p : {a, b}) set_gradient(p, {1});
  opt.step();
  CHECK(a.item() == 0.75);
  CHECK(b.item() == 0.5);
}

TEST_CASE("a state dict of something else is refused, and nothing changes") {
  const Tensor p = matrix(2, 3, 0.5);
  optim::Adam opt({{"p", p}}, {.lr = 0.25});
  walk(opt, 1, 2);
  const NamedTensors state = opt.state_dict();
  auto refused = [&](const NamedTensors& wrong, const std::string& why) {
    CHECK(refusal<ValueError>([&] { opt.load_state_dict(wrong); }) == why);
    const NamedTensors now = opt.state_dict();
    REQUIRE(now.size() == state.size());
    for (std::size_t i = 0; i < now.size(); ++i)
      CHECK(values(now[i].second) == values(state[i].second));
  };
  optim::AdamW adamw({{"p", matrix(2, 3, 0.5)}});
  walk(adamw, 1, 2);
  refused(adamw.state_dict(),
          "load_state_dict: this is the state of AdamW, and the optimizer is Adam");
  auto unfit = [&](const NamedTensors& wrong, const std::string& lines) {
    refused(wrong, "load_state_dict: the state does not fit Adam:\n" + lines);
  };
  optim::Adam named({{"q", matrix(2, 3, 0.5)}});
  walk(named, 1, 2);
  unfit(named.state_dict(),
        "  Adam/p/step is missing\n"
        "  Adam/p/lr_multiplier is missing\n"
        "  Adam/p/shape is missing\n"
        "  Adam/p/m is missing\n"
        "  Adam/p/v is missing\n"
        "  Adam/q/lr_multiplier is unexpected\n"
        "  Adam/q/m is unexpected\n"
        "  Adam/q/shape is unexpected\n"
        "  Adam/q/step is unexpected\n"
        "  Adam/q/v is unexpected\n");
  optim::Adam shaped({{"p", matrix(3, 2, 0.5)}});
  unfit(shaped.state_dict(),
        "  Adam/p/m is float64 [2, 3] here and float64 [3, 2] there\n"
        "  Adam/p/v is float64 [2, 3] here and float64 [3, 2] there\n");
  refused(with(state, "Adam/p/shape", tensor(std::vector<int64_t>{3, 2})),
          "load_state_dict: p is [2, 3] here and [3, 2] in the state");
  unfit(without(state, "Adam/p/shape"), "  Adam/p/shape is missing\n");
  optim::Adam single({{"p", matrix(2, 3, 0.5, float32)}});
  walk(single, 1, 2);
  unfit(single.state_dict(),
        "  Adam/p/m is float64 [2, 3] here and float32 [2, 3] there\n"
        "  Adam/p/v is float64 [2, 3] here and float32 [2, 3] there\n");
  unfit(without(state, "Adam/p/v"), "  Adam/p/v is missing\n");
  unfit(without(state, "Adam/[*]/eps"), "  Adam/[*]/eps is missing\n");
  refused(with(state, "Adam/p/step", tensor(int64_t{-1})),
          "load_state_dict: Adam/p/step is -1: need a count up to 2^53");
  unfit(with(state, "Adam/p/step", tensor(2.0, float64)),
        "  Adam/p/step is int64 [] here and float64 [] there\n");
  unfit(with(state, "Adam/p/m", Tensor()), "  Adam/p/m is undefined there\n");
  std::string all_missing;
  for (const auto& [key, t] : state) all_missing += "  " + key + " is missing\n";
  unfit({}, all_missing);
  NamedTensors grouped = state;
  const std::string all = "Adam/[*]";
  for (const auto& [key, t] : state)
    if (key.starts_with(all)) grouped.emplace_back("Adam/[1 q*]" + key.substr(all.size()), t);
  refused(grouped, "Adam: no parameter matches \"q*\"");
  for (double bad : {double(NAN), double(INFINITY), -1.0}) {
    const Tensor number = tensor(bad, float64);
    const std::string rule = ": need a number of at least 0";
    refused(with(state, "Adam/p/lr_multiplier", number),
            "load_state_dict: lr_multiplier of p is " + str(bad) + rule);
    refused(with(state, "Adam/lr_factor", number),
            "optimizer: the learning rate's factor is " + str(bad) + rule);
    refused(with(state, "Adam/[*]/lr", number), "Adam: lr is " + str(bad) + ": need at least 0");
  }
  refused(with(state, "Adam/[*]/beta1", tensor(1.0, float64)), "Adam: beta1 is 1: need [0, 1)");
  refused(with(state, "Adam/p/step", tensor(INT64_MAX)),
          "load_state_dict: Adam/p/step is 9223372036854775807: need a count up to 2^53");
  refused(with(state, "Adam/steps", tensor(INT64_MAX)),
          "load_state_dict: Adam/steps is 9223372036854775807: need a count up to 2^53");
}

TEST_CASE("a state with a choice that does not exist is refused, and nothing changes") {
  optim::Muon opt({{"m", matrix(2, 2, 0)}}, {.adjust_lr = optim::MuonScale::match_rms_adamw});
  opt.group("m").adjust_lr = optim::MuonScale::spectral_unclamped;
  opt.group("*").momentum = 0.5;
  const NamedTensors state = opt.state_dict();
  for (const std::string group : {"*", "1 m", "2 *"})
    for (double bad : {3.0, 7.0, 1e300, double(INFINITY), -1.0, -3.0, 0.5, 0.25, 1.25}) {
      auto refused = [&](const std::string& choice, const std::string& rule) {
        CAPTURE(group);
        CAPTURE(bad);
        const NamedTensors wrong =
            with(state, "Muon/[" + group + "]/" + choice, tensor(bad, float64));
        const std::string why = "Muon: " + choice + " is " + str(bad) + ": need " + rule;
        CHECK(refusal<ValueError>([&] { opt.load_state_dict(wrong); }) == why);
      };
      refused("adjust_lr", "a whole number from 0 to 2");
      refused("nesterov", "a whole number from 0 to 1");
    }
  CHECK(opt.options().adjust_lr == optim::MuonScale::match_rms_adamw);
  CHECK(entry(opt.state_dict(), "Muon/[1 m]/adjust_lr").item() == 2);
  opt.load_state_dict(with(state, "Muon/[2 *]/adjust_lr", tensor(1.0, float64)));
  CHECK(entry(opt.state_dict(), "Muon/[2 *]/adjust_lr").item() == 1);
  opt.group("*").adjust_lr = static_cast<optim::MuonScale>(3);
  set_gradients(opt.parameters(), 1);
  CHECK(refusal<ValueError>([&] { opt.step(); }) ==
        "Muon: adjust_lr is 3: need a whole number from 0 to 2");

  optim::LBFGS lbfgs({{"p", leaf({1})}});
  const NamedTensors kept = lbfgs.state_dict();
  CHECK(refusal<ValueError>([&] {
          lbfgs.load_state_dict(with(kept, "LBFGS/[*]/strong_wolfe", tensor(0.5, float64)));
        }) == "LBFGS: strong_wolfe is 0.5: need a whole number from 0 to 1");
}
