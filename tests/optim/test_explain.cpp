#include <bit>
#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>

#include "support.hpp"

// What an explanation says is what the step did, bit for bit. This file is built twice: with the
// flags of the other tests, and for this machine, where the compiler may fuse multiply and add.

using namespace descent;

namespace {

/// The same rule under another name, so that its loops are compiled here, with this file's flags.
template <template <class> class R> struct Here {
  template <class S = double> struct Rule : R<S> {};
};

int64_t explained = 0;

/// Replaces every state tensor by random numbers (positive where the rule's are).
void randomize(optim::OptimizerBase& opt, int64_t step) {
  NamedTensors state = opt.state_dict();
  for (auto& [key, t] : state) {
    const std::string last = key.substr(key.rfind('/') + 1);
    if (last == "step") t = tensor(step);
    else if (key.find('[') != std::string::npos || t.dim() != 2 || t.numel() != 1000) continue;
    else if (last == "v" || last == "s" || last == "u" || last == "eta" || last == "v_max")
      t = (randn(t.shape(), t.dtype()) * 0.5).clone() * (randn(t.shape(), t.dtype()) * 0.5);
    else t = where(rand(t.shape(), t.dtype()) < 0.1, -0.0, randn(t.shape(), t.dtype()));
    if (last == "v" || last == "s" || last == "u" || last == "eta" || last == "v_max") t = abs(t);
  }
  opt.load_state_dict(state);
}

/// 1,000 random states of one rule: each element's explanation ends at its stored bits.
template <template <class> class R, class Change>
void explain_random_states(DType dtype, Change change) {
  using Opt = optim::Optimizer<R>;
  typename Opt::Rule options;
  options.lr = 0.01;
  change(options);
  const Tensor p = randn({20, 50}, dtype).requires_grad_();
  Opt opt({{"p", p}}, options);
  opt.on_report([](const std::string&) {});
  p.set_grad(randn({20, 50}, dtype));
  opt.step(tensor(1.5));
  randomize(opt, 1 + randint(0, 30, {}).template item<int64_t>());
  // Special cases: a gradient of 0, one of -0 or a denormal number, a parameter that is -0.
  const Tensor g = where(rand({20, 50}, dtype) < 0.05, 0.0, randn({20, 50}, dtype));
  const Tensor odd = randn({20, 50}, dtype) * (dtype == float32 ? 1e-39 : 1e-309);
  p.set_grad(where(rand({20, 50}) < 0.1, odd, g).clone());
  p.detach().copy_(where(rand({20, 50}) < 0.1, -0.0, p.detach()));
  optim::Ledger ledger;
  opt.trace(ledger);
  opt.step(tensor(0.75));
  const auto& entry = ledger.entries().at(0);
  CHECK(entry.elements.size() == 1000);
  int64_t equal = 0;
  const Values after = values(p);
  for (const auto& element : entry.elements) {
    const auto [lines, same] = ledger.replay(entry, element);
    const auto moved = [&](const optim::Line& line) { return line.name == "theta"; };
    const auto last = std::find_if(lines.rbegin(), lines.rend(), moved);
    const double theta = last == lines.rend() ? element.before.theta : last->number;
    const double stored = after[static_cast<std::size_t>(element.index)];
    equal += same && std::bit_cast<int64_t>(theta) == std::bit_cast<int64_t>(stored);
  }
  CHECK(equal == 1000);
  explained += equal;
}

template <template <class> class R, class Change = void (*)(R<double>&)>
void check_rule(Change change = [](R<double>&) {}) {
  CAPTURE(std::string(R<double>::name));
  for (DType dtype : {float32, float64}) {
    explain_random_states<R>(dtype, change);
    explain_random_states<Here<R>::template Rule>(
        dtype, [&](auto& rule) { change(static_cast<R<double>&>(rule)); });
  }
}

}  // namespace

TEST_CASE("every rule's explanation reproduces the stored bits, for 1,000 random states") {
  using namespace optim;
  manual_seed(3);
  check_rule<SGDRule>();
  check_rule<SGDRule>([](auto& o) { o.momentum = 0.9, o.weight_decay = 0.1, o.dampening = 0.2; });
  check_rule<SGDRule>([](auto& o) { o.momentum = 0.9, o.nesterov = true, o.maximize = true; });
  check_rule<AdagradRule>([](auto& o) { o.lr_decay = 0.1, o.weight_decay = 0.1; });
  check_rule<RMSpropRule>();
  check_rule<RMSpropRule>([](auto& o) { o.centered = true, o.momentum = 0.5; });
  check_rule<AdadeltaRule>([](auto& o) { o.weight_decay = 0.1; });
  check_rule<RpropRule>();
  check_rule<ASGDRule>([](auto& o) { o.t0 = 2, o.weight_decay = 0.1; });
  check_rule<LionRule>([](auto& o) { o.weight_decay = 0.1; });
  check_rule<AdamRule>();
  check_rule<AdamRule>([](auto& o) { o.amsgrad = true, o.weight_decay = 0.1, o.maximize = true; });
  check_rule<AdamWRule>();
  check_rule<AdamaxRule>();
  check_rule<NAdamRule>();
  check_rule<NAdamRule>([](auto& o) { o.decoupled_weight_decay = true, o.weight_decay = 0.1; });
  check_rule<RAdamRule>();
  check_rule<LARSRule>([](auto& o) { o.weight_decay = 0.1, o.nesterov = true; });
  check_rule<LAMBRule>([](auto& o) { o.weight_decay = 0.1; });
  check_rule<AdafactorRule>([](auto& o) { o.weight_decay = 0.1; });
  check_rule<MuonRule>();
  check_rule<PolyakRule>();
  std::printf("explained: %ld elements' steps, all to the stored bits\n", explained);
  CHECK(explained == 22 * 4 * 1000);
}

TEST_CASE("an explanation shows the rule with its names and with its numbers") {
  const Tensor b = tensor({0.25, 0.5}, float64).requires_grad_();
  optim::Adam opt({{"fc1.bias", b}}, {.lr = 0.1, .weight_decay = 0.5});
  optim::Ledger ledger;
  opt.trace(ledger);
  b.set_grad(tensor({1.0, -2.0}, float64));
  opt.step();
  CHECK(ledger.explain("fc1.bias[1]", 1) ==
        "Adam, step 1 of fc1.bias[1] (float64)\n"
        "  lr = 0.1, beta1 = 0.9, beta2 = 0.999, eps = 1e-08, weight_decay = 0.5, amsgrad = 0, "
        "maximize = 0\n"
        "  t = 1, theta = 0.5, g = -2, m = 0, v = 0\n"
        "g = g + weight_decay·theta\n"
        "  = -2 + 0.5·0.5 = -1.75\n"
        "m = m + (1 - beta1)·(g - m)\n"
        "  = 0 + (1 - 0.9)·(-1.75 - 0) = -0.17499999999999996\n"
        "v = beta2·v + (1 - beta2)·g·g\n"
        "  = 0.999·0 + (1 - 0.999)·(-1.75)·(-1.75) = 0.0030625000000000027\n"
        "theta = theta - lr/(1 - beta1^t)·m/(sqrt(v)/sqrt(1 - beta2^t) + eps)\n"
        "      = 0.5 - 0.1/(1 - 0.9^1)·(-0.17499999999999996)/(sqrt(0.0030625000000000027)/sqrt(1 "
        "- 0.999^1) + 1e-08) = 0.5999999994285714\n"
        "These are the stored bits.\n");
}

TEST_CASE("quantities of the whole tensor are shown with their values") {
  const Tensor w = tensor({3.0, 4.0}, float64).requires_grad_();
  optim::LARS opt({{"w", w}}, {.lr = 1, .momentum = 0, .trust_coefficient = 0.5});
  optim::Ledger ledger;
  opt.trace(ledger);
  w.set_grad(tensor({0.0, 2.0}, float64));
  opt.step();
  const std::string text = ledger.explain("w[1]", 1);
  CHECK(text.find("of the whole: norm_theta = 5, norm_g = 2") != std::string::npos);
  CHECK(text.find("trust = trust_coefficient·norm_theta/(norm_g + weight_decay·norm_theta)\n"
                  "      = 0.5·5/(2 + 0·5) = 1.25\n") != std::string::npos);
  CHECK(values(w) == Values{3, 1.5});
}

TEST_CASE("a ledger keeps what was asked for, and the loss as predicted and as it was") {
  const Tensor w = tensor({1.0, 2.0, 3.0}, float64).requires_grad_();
  const Tensor b = tensor({1.0}, float64).requires_grad_();
  optim::SGD opt({{"w", w}, {"b", b}}, {.lr = 0.25});
  optim::Ledger ledger({.parameters = "w", .elements = {2}, .every = 2});
  opt.trace(ledger);
  for (int i = 0; i < 4; ++i) {
    opt.zero_grad();
    const Tensor loss = (w * w).sum() + (b * b).sum();
    loss.backward();
    opt.step(loss);
  }
  REQUIRE(ledger.entries().size() == 2);
  const auto& first = ledger.entries()[0];
  CHECK(ledger.entries()[1].step == 3);
  CHECK(first.parameter == "w");
  CHECK(first.elements.size() == 1);
  CHECK(first.elements[0].before.theta == 3);
  CHECK(first.elements[0].theta_after == 1.5);
  CHECK(first.loss == 15);
  CHECK(first.rate_min == 0.25);
  CHECK(first.rate_max == 0.25);
  CHECK(first.relative_update == doctest::Approx(0.5));
  CHECK(first.predicted_decrease == 14);  // |g|^2 / 4
  CHECK(ledger.real_decrease(1) == 15 - 15.0 / 4);
  CHECK(std::isnan(ledger.real_decrease(4)));
  CHECK(refusal<ValueError>([&] { ledger.explain("w[2]", 2); }) ==
        "explain: nothing was recorded of w in step 2");
  CHECK(refusal<ValueError>([&] { ledger.explain("w[1]", 1); }) ==
        "explain: element 1 of w was not recorded");
  CHECK(refusal<IndexError>([&] { ledger.explain("w[3]", 1); }) ==
        "explain: w [3] has no element [3]");
  CHECK(refusal<ValueError>([&] { ledger.explain("w[2", 1); }) ==
        "explain: cannot read \"w[2\": write a parameter and an element, w[2, 5]");
  CHECK(refusal<ValueError>([&] { ledger.explain("b", 1); }) ==
        "explain: nothing was recorded of b in step 1");
  CHECK(refusal<ValueError>([&] { optim::Ledger({.every = 0}); }) ==
        "Ledger: every is 0: need at least 1");
  const std::string csv = ledger.csv();
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 3);
  CHECK(csv.find("\n1,w,2,3,6,6,6,-1.5,1.5,0.25,0.25,0.25,") != std::string::npos);
  const std::string lines = ledger.json_lines();
  CHECK(lines.find("{\"step\":1,\"parameter\":\"w\",\"element\":2,\"rule\":\"SGD\",") == 0);
  CHECK(lines.find("\"predicted_decrease\":14.0,\"real_decrease\":11.25") != std::string::npos);
  opt.trace(nullptr);
  opt.step();
  CHECK(ledger.entries().size() == 2);
}

TEST_CASE("any name survives a ledger's tables, and is found again") {
  struct Case {
    std::string name, csv, json;
  };
  for (const Case& c : {Case{"w", "w", "w"}, Case{"", "", ""}, Case{"w[0]", "w[0]", "w[0]"},
                        Case{"a,b", "\"a,b\"", "a,b"}, Case{"a\"b", "\"a\"\"b\"", "a\\\"b"},
                        Case{"a\nb", "\"a\nb\"", "a\\nb"}, Case{"a\rb", "\"a\rb\"", "a\\rb"},
                        Case{"gr\xC3\xBC\xC3\x9F", "gr\xC3\xBC\xC3\x9F", "gr\xC3\xBC\xC3\x9F"},
                        Case{"gr\xFC\xDF.w", "gr\xFC\xDF.w", "gr\xEF\xBF\xBD\xEF\xBF\xBD.w"}}) {
    const Tensor w = tensor({1.0}, float64).requires_grad_();
    optim::SGD opt({{c.name, w}}, {.lr = 0.5});
    optim::Ledger ledger;
    opt.trace(ledger);
    w.set_grad(tensor({1.0}, float64));
    opt.step();
    CHECK(ledger.csv().find("\n1," + c.csv + ",0,1,1,1,1,-0.5,0.5,") != std::string::npos);
    CHECK(ledger.json_lines().find("\"parameter\":\"" + c.json + "\",\"element\":0,") !=
          std::string::npos);
    CHECK(ledger.explain(c.name + "[0]", 1).find("step 1 of " + c.name + "[0]") !=
          std::string::npos);
  }
}
