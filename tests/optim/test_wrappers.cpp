#include <cmath>
#include <doctest/doctest.h>
#include <memory>

#include "optim.hpp"

// Lookahead and SAM, which wrap an optimizer, and what they do when it has been destroyed.

using namespace descent;

namespace {

/// A loss with gradients that are easily written out: sum of c p^4 / 4 + p, gradient c p^3 + 1.
Tensor quartic(const Tensor& p, double c) { return (0.25 * c * square(square(p)) + p).sum(); }
double slope(double p, double c) { return c * p * p * p + 1; }

/// Two parameters of one loss, and one that is frozen.
struct Pair {
  Tensor a = leaf({0.9, -1.1}), b = leaf({0.3, 0.7, -0.2}), idle = tensor(Values{4}, float64);
  NamedTensors all{{"a", a}, {"b", b}, {"idle", idle}};
  Tensor loss() const { return quartic(a, 1) + quartic(b, 2); }
  Values theta() const { return joined(all); }
};
const Values kCurve{1, 1, 2, 2, 2};  // c of each element of a and b
double loss_at(const Values& theta) {
  double loss = 0;
  for (std::size_t i = 0; i < 5; ++i) loss += kCurve[i] * std::pow(theta[i], 4) / 4 + theta[i];
  return loss;
}

optim::SGD make_sgd(const Pair& x) { return optim::SGD(x.all, {.lr = 0.05, .momentum = 0.8}); }

}  // namespace

TEST_CASE("Lookahead is Algorithm 1, written out") {
  const Pair x;
  auto sgd = make_sgd(x);
  optim::Lookahead opt(sgd, {.k = 3, .alpha = 0.4});
  Values fast = x.theta(), slow = fast, velocity(5);
  for (int t = 1; t <= 11; ++t) {
    double loss = 0;
    switch (t % 3) {  // each way of stepping
      case 0:
        loss = opt.step([&] {
          opt.zero_grad();
          const Tensor l = x.loss();
          l.backward();
          return l;
        });
        CHECK(loss == doctest::Approx(loss_at(fast)).epsilon(1e-13));
        break;
      case 1:
        opt.zero_grad();
        x.loss().backward();
        opt.step();
        break;
      default:
        opt.zero_grad();
        const Tensor l = x.loss();
        l.backward();
        opt.step(l);
    }
    for (std::size_t i = 0; i < 5; ++i) {
      const double g = slope(fast[i], kCurve[i]);
      velocity[i] = t == 1 ? g : 0.8 * velocity[i] + g;
      fast[i] -= 0.05 * velocity[i];
      if (t % 3 == 0) fast[i] = slow[i] += 0.4 * (fast[i] - slow[i]);
    }
    CHECK(close(x.theta(), fast, 1e-13));
  }
  CHECK(&opt.inner() == &sgd);
}

TEST_CASE("Lookahead with alpha = 1 is its inner optimizer, bit for bit") {
  const Pair x, y;
  auto inner = make_sgd(x), plain = make_sgd(y);
  optim::Lookahead opt(inner, {.k = 2, .alpha = 1});
  for (int t = 0; t < 5; ++t) {
    opt.zero_grad();
    plain.zero_grad();
    x.loss().backward();
    y.loss().backward();
    opt.step();
    plain.step();
  }
  CHECK(same_bits(x.theta(), y.theta()));
}

TEST_CASE("Lookahead starts from what the parameters are at its first step, late ones too") {
  const Tensor p = leaf({100}), late = leaf({100});
  optim::SGD sgd({{"p", p}}, {.lr = 1});
  optim::Lookahead opt(sgd, {.k = 2, .alpha = 0.5});
  set_values(p, {8});  // as loading does
  auto step = [&] {
    for (const auto& [name, x] : sgd.parameters()) set_gradient(x, {1});
    opt.step();
  };
  step();
  CHECK(p.item() == 7);
  step();
  CHECK(p.item() == 7);  // halfway from 8 to 6
  step();
  sgd.add({{"late", late}});
  set_values(late, {40});
  step();
  CHECK(p.item() == 6);
  CHECK(late.item() == 39.5);
}

TEST_CASE("Lookahead counts no step that was skipped or refused") {
  const Tensor p = leaf({8});
  optim::SGD sgd({{"p", p}}, {.lr = 1});
  optim::Lookahead opt(sgd, {.k = 2, .alpha = 0.5});
  auto step = [&](double g) {
    set_gradient(p, {g});
    opt.step();
  };
  step(1);
  CHECK(refusal<NumericError>([&] { step(NAN); }) ==
        "step: the gradient of p is nan at element 0: nothing was updated; set_nonfinite() chooses "
        "what happens");
  CHECK(p.item() == 7);
  sgd.set_nonfinite(optim::NonFinite::skip);
  step(NAN);
  CHECK(p.item() == 7);
  step(1);
  CHECK(p.item() == 7);
  step(1);
  CHECK(p.item() == 6);
}

TEST_CASE("Lookahead resumes with the same bits; what does not fit is refused") {
  auto step = [](const Pair& x, optim::Lookahead& opt, int times) {
    for (int t = 0; t < times; ++t) {
      opt.zero_grad();
      x.loss().backward();
      opt.step();
    }
  };
  const Pair x, y;
  auto sgd = make_sgd(x), other = make_sgd(y);
  optim::Lookahead opt(sgd, {.k = 3}), resumed(other, {.k = 3});
  step(x, opt, 5);
  const NamedTensors saved = opt.state_dict();
  const Values kept = joined(saved);
  for (std::size_t i = 0; i < x.all.size(); ++i)
    set_values(y.all[i].second, values(x.all[i].second));
  step(x, opt, 6);
  CHECK(joined(saved) == kept);
  resumed.load_state_dict(saved);
  step(y, resumed, 6);
  CHECK(same_bits(x.theta(), y.theta()));
  CHECK(joined(saved) == kept);
  CHECK(same_bits(joined(opt.state_dict()), joined(resumed.state_dict())));

  const Values now = joined(resumed.state_dict());
  const std::pair<NamedTensors, std::string> bad[] = {
      {without(saved, "Lookahead/a/slow"),
       "load_state_dict: the state does not fit Lookahead:\n"
       "  Lookahead/a/slow is missing\n"},
      {without(saved, "Lookahead/steps"),
       "load_state_dict: the state does not fit Lookahead:\n"
       "  Lookahead/steps is missing\n"},
      {with(saved, "Lookahead/b/slow", zeros({2}, float64)),
       "load_state_dict: the state does not fit Lookahead:\n"
       "  Lookahead/b/slow is float64 [3] here and float64 [2] there\n"},
      {with(saved, "Lookahead/steps", tensor(int64_t{-1})),
       "load_state_dict: Lookahead/steps is -1: need a count up to 2^53"},
      {with(saved, "Lookahead/x", zeros({1})),
       "load_state_dict: the state does not fit Lookahead:\n"
       "  Lookahead/x is unexpected\n"},
      {without(saved, "SGD/steps"),
       "load_state_dict: the state does not fit SGD:\n"
       "  SGD/steps is missing\n"},
      {with(saved, "x", zeros({1})),
       "load_state_dict: the state does not fit SGD:\n"
       "  x is unexpected\n"}};
  for (const auto& [state, why] : bad)
    CHECK(refusal<ValueError>([&, &wrong = state] { resumed.load_state_dict(wrong); }) == why);
  CHECK(same_bits(joined(resumed.state_dict()), now));

  const Pair z;  // before the first step the slow weights are the parameters
  auto third = make_sgd(z);
  optim::Lookahead fresh(third);
  const NamedTensors first = fresh.state_dict();
  const Tensor slow = entry(first, "Lookahead/a/slow");
  CHECK(values(slow) == values(z.a));
  step(z, fresh, 1);
  CHECK(values(slow) != values(z.a));
}

// ---- SAM

namespace {

optim::Closure closure_of(const Pair& x) {
  return [&x] {
    const Tensor loss = x.loss();
    loss.backward();  // SAM has called zero_grad
    return loss;
  };
}

}  // namespace

TEST_CASE("SAM is Algorithm 1, written out, plain and adaptive") {
  for (bool adaptive : {false, true}) {
    const Pair x;
    auto sgd = make_sgd(x);
    Reports reports(sgd);
    optim::SAM opt(sgd, {.rho = 0.3, .adaptive = adaptive});
    Values theta = x.theta(), velocity(5);
    for (int t = 1; t <= 8; ++t) {
      const double loss = loss_at(theta);
      double norm2 = 0;
      for (std::size_t i = 0; i < 5; ++i) {
        const double scale = adaptive ? std::abs(theta[i]) : 1;
        norm2 += std::pow(scale * slope(theta[i], kCurve[i]), 2);
      }
      for (std::size_t i = 0; i < 5; ++i) {
        const double scale = adaptive ? theta[i] * theta[i] : 1;
        const double e = 0.3 * scale * slope(theta[i], kCurve[i]) / std::sqrt(norm2);
        const double g = slope(theta[i] + e, kCurve[i]);
        velocity[i] = t == 1 ? g : 0.8 * velocity[i] + g;
        theta[i] -= 0.05 * velocity[i];
      }
      CHECK(opt.step(closure_of(x)) == doctest::Approx(loss).epsilon(1e-13));
      CHECK(close(x.theta(), theta, 1e-13));
    }
    CHECK(x.idle.item() == 4);
    CHECK(!x.idle.grad().defined());
    CHECK(&opt.base() == &sgd);
    CHECK(reports.all.empty());
  }
}

TEST_CASE("SAM steps from where it was, bit for bit, though it has looked elsewhere") {
  const Pair x;
  optim::SGD still(x.all, {.lr = 0});
  optim::SAM opt(still, {.rho = 1e3, .adaptive = true});
  const Values before = x.theta();
  std::vector<Values> seen;
  opt.step([&] {
    seen.push_back(x.theta());
    return closure_of(x)();
  });
  CHECK(same_bits(x.theta(), before));
  REQUIRE(seen.size() == 2);
  CHECK(seen[0] == before);
  CHECK(std::abs(seen[1][0] - before[0]) > 1);
  CHECK(seen[1][5] == 4);

  int calls = 0;
  CHECK(refusal<NumericError>([&] {
          opt.step([&] {
            if (++calls == 2) throw NumericError("no");
            return closure_of(x)();
          });
        }) == "no");
  CHECK(same_bits(x.theta(), before));
  CHECK(still.steps() == 1);
}

TEST_CASE("SAM without a direction takes an ordinary step, and leaves NaN to its base") {
  const Tensor p = leaf({1, 2}), weight = leaf({0, 0});
  weight.requires_grad_(false);
  optim::SGD sgd({{"p", p}}, {.lr = 0.5, .weight_decay = 0.5});
  optim::SAM opt(sgd);
  Values seen;
  auto closure = [&] {
    for (double v : values(p)) seen.push_back(v);
    const Tensor loss = (weight * p * p).sum();
    loss.backward();
    return loss;
  };
  opt.step(closure);  // g is 0: only the weight decay moves p
  CHECK(values(p) == Values{0.75, 1.5});
  CHECK(seen == Values{1, 2, 1, 2});
  for (double bad : {double(NAN), double(INFINITY)}) {
    const std::string loss = std::isinf(bad) ? ", for the loss is inf" : "";
    set_values(weight, {bad, 1});
    seen.clear();
    CHECK(refusal<NumericError>([&] { opt.step(closure); }) ==
          "step: the gradient of p is " + str(bad) + " at element 0" + loss +
              ": nothing was updated; set_nonfinite() chooses what happens");
    CHECK(values(p) == Values{0.75, 1.5});
    CHECK(seen == Values{0.75, 1.5, 0.75, 1.5});
  }
  CHECK(refusal<ValueError>([&] { opt.step([&] { return Tensor(); }); }) ==
        "item: this tensor is undefined (as a gradient is before backward())");
  CHECK(values(p) == Values{0.75, 1.5});
}

TEST_CASE("SAM tells its base the loss of the gradients that it steps with") {
  const Tensor p = leaf({3}), q = leaf({3});
  optim::Polyak polyak({{"p", p}}), plain({{"q", q}});
  optim::SAM opt(polyak, {.rho = 1});
  CHECK(opt.step([&] {
    const Tensor loss = (p * p).sum();
    loss.backward();
    return loss;
  }) == 9);
  set_gradient(q, {8});  // the gradient at 4, where the loss is 16
  plain.step(tensor(16.0));
  CHECK(p.item() == q.item());
}

TEST_CASE("SAM in float32 with a tiny gradient goes the whole way") {
  const Tensor p = leaf({1}, float32);
  optim::SGD sgd({{"p", p}}, {.lr = 1});
  optim::SAM opt(sgd, {.rho = 0.5});
  Values seen;
  opt.step([&] {
    seen.push_back(p.item());
    const Tensor loss = (p * 1e-42).sum();
    loss.backward();
    return loss;
  });
  CHECK(seen == Values{1, 1.5});
}

TEST_CASE("SAM resumes with the same bits") {
  const Pair x, y;
  auto sgd = make_sgd(x), other = make_sgd(y);
  optim::SAM opt(sgd), resumed(other);
  for (int t = 0; t < 3; ++t) opt.step(closure_of(x));
  const NamedTensors saved = opt.state_dict();
  for (std::size_t i = 0; i < x.all.size(); ++i)
    set_values(y.all[i].second, values(x.all[i].second));
  resumed.load_state_dict(saved);
  for (int t = 0; t < 3; ++t) {
    opt.step(closure_of(x));
    resumed.step(closure_of(y));
  }
  CHECK(same_bits(x.theta(), y.theta()));
  CHECK(refusal<ValueError>([&] { resumed.load_state_dict(without(saved, "SGD/steps")); }) ==
        "load_state_dict: the state does not fit SGD:\n"
        "  SGD/steps is missing\n");
  opt.zero_grad();
  CHECK(!x.a.grad().defined());
}

// ---- Lookahead and SAM

TEST_CASE("Lookahead and SAM refuse bad options") {
  const Pair x;
  auto sgd = make_sgd(x);
  CHECK(refusal<ValueError>([&] { optim::Lookahead(sgd, {.k = 0}); }) ==
        "Lookahead: k is 0: need at least 1");
  for (double bad : {-0.1, 1.5, double(NAN)})
    CHECK(refusal<ValueError>([&] { optim::Lookahead(sgd, {.alpha = bad}); }) ==
          "Lookahead: alpha is " + str(bad) + ": need [0, 1]");
  for (double bad : {-0.1, double(INFINITY), double(NAN)})
    CHECK(refusal<ValueError>([&] { optim::SAM(sgd, {.rho = bad}); }) ==
          "SAM: rho is " + str(bad) + ": need at least 0, finite");
}

TEST_CASE("what stands around an optimizer that has gone says so, and keeps what it knew") {
  const Three x;
  auto opt = std::make_unique<optim::SGD>(x.all, optim::SGD::Rule{.lr = 0.5});
  Reports reports(*opt);
  optim::Ledger ledger;
  opt->trace(ledger);
  optim::Scheduler scheduler(*opt, optim::schedule::exponential(0.5));
  optim::Plateau plateau(*opt);
  optim::Accumulate accumulate(*opt, 1);
  optim::Lookahead lookahead(*opt);
  optim::SAM sam(*opt);
  optim::WeightAverage average(opt->parameters());
  opt->step();
  average.update();
  opt.reset();
  const auto gone = [](const char* who, auto f) {
    CHECK(full_refusal<ValueError>(f).starts_with(std::string(who) + ": its optimizer has gone"));
  };
  gone("Scheduler", [&] { scheduler.step(); });
  CHECK(scheduler.current_step() == 0);
  for (int i = 0; i < 20; ++i) gone("Plateau", [&] { plateau.step(1); });
  gone("Plateau", [&] { plateau.state_dict(); });
  gone("Accumulate", [&] { accumulate.backward(x.a.sum(), 1); });
  gone("Lookahead", [&] { lookahead.step(); });
  gone("Lookahead", [&] { lookahead.inner(); });
  gone("Lookahead", [&] { lookahead.state_dict(); });
  gone("SAM", [&] { sam.step([&] { return x.a.sum(); }); });
  average.update();
  CHECK(average.updates() == 2);
  CHECK(ledger.explain("a[0]", 1).starts_with("SGD, step 1 of a[0]"));
  optim::SGD next(x.all);
  next.trace(ledger);  // the ledger may follow another optimizer of the same rule
}
