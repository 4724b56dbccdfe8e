#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>

#include "optim.hpp"

// Update rules where the ordinary numbers end: spikes, gradients of 0, eps of 0, rates of 0.

using namespace descent;

namespace {

Tensor state_of(const optim::OptimizerBase& opt, const std::string& name) {
  for (const auto& [key, t] : opt.state_dict())
    if (key.ends_with("/" + name) && key.find('[') == key.npos) return t;
  FAIL("no state " << name);
  return {};
}
/// The same options with eps, and Adafactor's eps1, of that size.
template <class Rule> Rule with_eps(Rule options, double eps) {
  if constexpr (requires { options.eps; }) options.eps = eps;
  if constexpr (requires { options.eps1; }) options.eps1 = eps;
  return options;
}
const DType floating[] = {float32, float64};

}  // namespace

TEST_CASE("a mean of the last gradient alone is that gradient, also after a spike") {
  auto check = []<class Opt>(Opt*, typename Opt::Rule options, const char* name,
                             const Values& wanted) {
    CAPTURE(std::string(Opt::Rule::name));
    options.lr = 1e-30;
    for (DType dtype : floating) {
      const Tensor p = tensor(Values{0.5, 2, -1, 3}, {2, 2}, dtype).requires_grad_();
      Opt opt({{"p", p}}, options);
      const double spike = dtype == float32 ? 1e9 : 1e18;
      for (const Values& g : {Values(4, spike), Values(4, -spike), Values{1, 2, -3, 0.5}}) {
        set_gradient(p, g);
        opt.step();
      }
      CHECK(values(state_of(opt, name)) == wanted);
    }
  };
  using namespace optim;
  const Values g{1, 2, -3, 0.5};
  check(static_cast<Adam*>(nullptr), {.beta1 = 0}, "m", g);
  check(static_cast<AdamW*>(nullptr), {.beta1 = 0}, "m", g);
  check(static_cast<Adamax*>(nullptr), {.beta1 = 0}, "m", g);
  check(static_cast<NAdam*>(nullptr), {.beta1 = 0}, "m", g);
  check(static_cast<RAdam*>(nullptr), {.beta1 = 0}, "m", g);
  check(static_cast<LAMB*>(nullptr), {.beta1 = 0}, "m", g);
  check(static_cast<RMSprop*>(nullptr), {.alpha = 0, .centered = true}, "g_avg", g);
  check(static_cast<Muon*>(nullptr), {.momentum = 0}, "b", g);
  check(static_cast<Adafactor*>(nullptr), {.beta2_decay = 0}, "r", {2.5, 4.625});
}

TEST_CASE("a mean with a small share of the past keeps every digit of the gradient") {
  for (DType dtype : floating) {
    const double spike = dtype == float32 ? 1e9 : 1e18, eps = dtype == float32 ? 0x1p-23 : 0x1p-52;
    for (double share : {1 / spike, 8 / spike, 0.25}) {
      const Tensor p = leaf({0}, dtype);
      optim::Adam opt({{"p", p}}, {.lr = 0, .beta1 = share});
      for (double g : {spike, 3.0}) {
        set_gradient(p, {g});
        opt.step();
      }
      const double wanted = 3 * (1 - share) + share * (1 - share) * spike;
      CHECK(std::abs(state_of(opt, "m").item() - wanted) <= 4 * eps * wanted);
    }
    const Tensor q = leaf({1e9}, dtype);
    optim::WeightAverage average({{"q", q}}, {.decay = 4e-9});
    for (double value : {1e9, 3.0}) {
      {
        NoGradGuard no_grad;
        q.fill_(value);
      }
      average.update();
    }
    CHECK(average.averages()[0].second.item() == doctest::Approx(7).epsilon(1e-6));
  }
}

TEST_CASE("centered RMSprop takes a variance below 0 for 0") {
  for (DType dtype : floating) {
    int below = 0;
    for (double g = 0.5343; g < 3; g += 0.1) {
      const Tensor w = leaf({1}, dtype);
      optim::RMSprop opt({{"w", w}}, {.lr = 1e-3, .alpha = 0.9, .centered = true});
      optim::Ledger ledger;
      opt.trace(ledger);
      for (int t = 1; t <= 400; ++t) {
        const double before = w.item();
        set_gradient(w, {g});
        opt.step();
        const Tensor v = state_of(opt, "v"), g_avg = state_of(opt, "g_avg");
        if ((v - g_avg * g_avg).item() > 0) continue;
        ++below;  // g / (0 + eps)
        const double moved = 1e-3 * w.grad().item() / 1e-8;
        CHECK((before - w.item()) == doctest::Approx(moved).epsilon(1e-3));
        CHECK(ledger.explain("w[0]", t).ends_with("These are the stored bits.\n"));
      }
    }
    CHECK(below > 100);
  }
}

TEST_CASE("an element whose gradients' scale is 0 stays where it is, whatever eps") {
  for_every_rule([]<class Opt>(const typename Opt::Rule& given) {
    for (DType dtype : floating) {
      for (double eps : {0.0, dtype == float32 ? 1e-60 : 0x1p-1074}) {
        typename Opt::Rule options = with_eps(given, eps);
        if constexpr (requires { options.lambd; }) options.lambd = 0;
        const Tensor p = tensor(Values{1, -2, 3, 4}, {2, 2}, dtype).requires_grad_();
        Opt opt({{"p", p}}, options);
        optim::Ledger ledger;
        opt.trace(ledger);
        for (int t = 1; t <= 3; ++t) {
          set_gradient(p, Values(4, 0));
          opt.step(tensor(0.5));
          CHECK(values(p) == Values{1, -2, 3, 4});
          CHECK(ledger.explain("p[0, 1]", t).ends_with("These are the stored bits.\n"));
        }
        set_gradient(p, {0.5, 0, 0, -1});
        opt.step(tensor(0.5));
        for (double v : values(p)) CHECK(std::isfinite(v));
        CHECK(ledger.explain("p[0, 1]", 4).ends_with("These are the stored bits.\n"));
      }
    }
  });
}

TEST_CASE("finite gradients of any size leave every parameter finite") {
  int64_t steps = 0;
  for_every_rule([&]<class Opt>(const typename Opt::Rule& given) {
    for (DType dtype : floating) {
      const double huge = dtype == float32 ? 1e30 : 1e250, tiny = 1 / huge;
      const double small = dtype == float32 ? 1e-23 : 1e-160, large = 1 / small;
      const Values sizes[] = {{0, 0, 0, 0, tiny, 0},    {huge, huge, -huge, huge, 1, 0},
                              {0, huge, 0, 0, huge, 0}, {huge, tiny, tiny, 1, 1, 1},
                              {1, 0, 1, tiny, tiny, 0}, {small, small, -small, 0, large, 1},
                              {large, 0, small, large}, {tiny, tiny, -tiny, tiny, huge}};
      for (double eps : {0.0, 1e-8}) {
        for (const Values& walk : sizes) {
          CAPTURE(walk[0]);
          CAPTURE(walk[1]);
          CAPTURE(str(dtype));
          const Tensor p = tensor(Values{1, -2, 0, 4}, {2, 2}, dtype).requires_grad_();
          typename Opt::Rule options = with_eps(given, eps);
          // A step is lr g, or lr g / |g|^2: let it fit.
          if constexpr (std::is_same_v<Opt, optim::SGD>) options.lr = 1e-8;
          Opt opt({{"p", p}}, options);
          Reports reports(opt);
          for (double g : walk) {
            set_gradient(p, {g, -g, g / 2, 0});
            opt.step(tensor(0.5));
            ++steps;
            for (double v : values(p)) REQUIRE(std::isfinite(v));
          }
        }
      }
    }
  });
  std::printf("corners: %ld steps of extreme gradients, all parameters finite\n", steps);
}

TEST_CASE("a rate of 0 moves no parameter, by multiplier, factor or option") {
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    for (DType dtype : floating) {
      for (int how = 0; how < 3; ++how) {
        const Tensor p = tensor(Values{1, -2, 3, 4}, {2, 2}, dtype).requires_grad_();
        Opt opt({{"p", p}}, options);
        Reports reports(opt);
        auto set_rate = [&](double rate) {
          if (how == 0) opt.set_lr_multiplier("p", rate);
          if (how == 1) opt.set_lr_factor(rate);
          if (how == 2) opt.options().lr = rate;
        };
        auto step = [&](double g) {
          set_gradient(p, {g, -g, 0, 2 * g});
          opt.step(tensor(1.0));
        };
        for (int start = 0; start < 2; ++start) {  // at first, and in motion
          const Values before = values(p);
          set_rate(0);
          for (double g : {1.0, 1.0, -1.0, 0.5}) step(g);
          CHECK(values(p) == before);
          set_rate(0.25);
          step(1);
          step(1);
          CHECK(values(p) != before);
        }
      }
    }
  });
}

TEST_CASE("Rprop begins at its rate when that is first above 0, and grows no step at rest") {
  for (DType dtype : floating) {
    const Tensor w = leaf({1}, dtype);
    optim::Rprop opt({{"w", w}}, {.lr = 0.5, .step_min = 0.125});
    optim::Ledger ledger;
    opt.trace(ledger);
    auto step = [&](double rate, double g) {
      opt.set_lr_factor(rate);
      set_gradient(w, {g});
      const double before = w.item();
      opt.step();
      return before - w.item();
    };
    CHECK(step(0, 1) == 0);
    CHECK(step(0, 1) == 0);
    const double first = step(1, 1);
    CHECK(first == doctest::Approx(0.6));  // 0.5, and the sign stayed
    CHECK(step(0, 1) == 0);
    CHECK(step(0, 1) == 0);
    CHECK(step(1, 1) == doctest::Approx(0.72));
    for (int t = 1; t <= 6; ++t)
      CHECK(ledger.explain("w[0]", t).ends_with("These are the stored bits.\n"));
    // Without a least step, it halves as long as it can and never starts again at its rate.
    optim::Rprop small({{"w", w}}, {.lr = 0.5, .step_min = 0});
    double last = 1;
    for (int t = 0; t < 5000; ++t) {
      set_gradient(w, {t % 4 < 2 ? 1.0 : -1.0});
      small.options().eta_plus = 1 + 1e-9;
      small.step();
      const double eta = state_of(small, "eta").item();
      REQUIRE(eta <= last * 1.0001);
      last = eta;
    }
  }
}

TEST_CASE("momentum that begins late begins undamped, as PyTorch's") {
  for (DType dtype : floating) {
    const Tensor w = leaf({0, 0}, dtype), late = leaf({0, 0}, dtype);
    optim::SGD opt({{"w", w}, {"late", late}}, {.lr = 1, .dampening = 0.5});
    optim::Ledger ledger;
    opt.trace(ledger);
    auto step = [&](const Values& g, bool both) {
      opt.zero_grad();
      set_gradient(w, g);
      if (both) set_gradient(late, g);
      opt.step();
    };
    step({1, 2}, false);
    step({1, 2}, false);
    CHECK(values(w) == Values{-2, -4});
    opt.options().momentum = 0.5;
    step({4, 8}, false);  // b = g
    CHECK(values(state_of(opt, "w/b")) == Values{4, 8});
    step({2, 4}, true);  // b = 0.5 b + 0.5 g; for late it is the first: b = g
    CHECK(values(state_of(opt, "w/b")) == Values{3, 6});
    CHECK(values(state_of(opt, "late/b")) == Values{2, 4});
    CHECK(values(w) == Values{-9, -18});
    // Off and on again: the velocity is kept.
    opt.options().momentum = 0;
    step({1, 1}, true);
    opt.options().momentum = 0.5;
    step({1, 2}, true);
    CHECK(values(state_of(opt, "w/b")) == Values{2, 4});
    for (int t = 1; t <= 6; ++t)
      CHECK(ledger.explain("w[1]", t).ends_with("These are the stored bits.\n"));

    // A resumed run that has no velocity yet begins in the same way.
    optim::SGD plain({{"w", w}}, {.lr = 1, .dampening = 0.5});
    set_gradient(w, {1, 1});
    plain.step();
    optim::SGD resumed({{"w", w}});
    resumed.load_state_dict(plain.state_dict());
    resumed.options().momentum = 0.5;
    set_gradient(w, {4, 8});
    resumed.step();
    CHECK(values(state_of(resumed, "w/b")) == Values{4, 8});
    set_gradient(w, {2, 4});
    optim::SGD again({{"w", w}});
    again.load_state_dict(resumed.state_dict());
    again.step();
    CHECK(values(state_of(again, "w/b")) == Values{3, 6});
  }
}

TEST_CASE("Polyak's step meets the policy where its loss is not finite") {
  for (DType dtype : floating) {
    for (double loss : {double(INFINITY), double(-INFINITY), double(NAN)}) {
      const Tensor w = leaf({3, 4}, dtype);
      optim::Polyak opt({{"w", w}});
      Reports reports(opt);
      set_gradient(w, {1, 1});
      CHECK(refusal<NumericError>([&] { opt.step(tensor(loss)); }) ==
            "Polyak: the loss is " + str(loss) +
                ": nothing was updated; set_nonfinite() chooses what happens");
      CHECK(values(w) == Values{3, 4});
      CHECK(opt.steps() == 0);
      opt.set_nonfinite(optim::NonFinite::skip);
      opt.step(tensor(loss));
      CHECK(values(w) == Values{3, 4});
      CHECK(opt.skipped_steps() == 1);
    }
  }
  const Tensor w = leaf({3});
  optim::SGD sgd({{"w", w}}, {.lr = 1});
  set_gradient(w, {1});
  sgd.step(tensor(INFINITY));  // SGD does not read the loss
  CHECK(w.item() == 2);
}
