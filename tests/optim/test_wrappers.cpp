#include <algorithm>
#include <bit>
#include <cmath>
#include <doctest/doctest.h>
#include <numeric>
#include <string>
#include <vector>

#include "optim.hpp"

using namespace descent;

namespace {

bool close(const Values& found, const Values& expected, double rtol = 1e-12) {
  if (found.size() != expected.size()) return false;
  for (std::size_t i = 0; i < found.size(); ++i)
    if (!(std::abs(found[i] - expected[i]) <= rtol * std::max(1.0, std::abs(expected[i])))) {
      MESSAGE("element " << i << " is " << found[i] << ", expected " << expected[i]);
      return false;
    }
  return true;
}
bool same_bits(const Values& a, const Values& b) {
  const auto bits = [](double x, double y) {
    return std::bit_cast<uint64_t>(x) == std::bit_cast<uint64_t>(y);
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), bits);
}
void write(const Tensor& p, const Values& v) {
  NoGradGuard no_grad;
  p.copy_(tensor(v, p.shape(), p.dtype()));
}
/// All of them, one after the other.
Values joined(const NamedTensors& tensors) {
  Values all;
  for (const auto& [name, x] : tensors)
    for (double v : values(x)) all.push_back(v);
  return all;
}
/// Three parameters, the last one without a gradient.
struct Three {
  explicit Three(DType dtype = float64)
      : a(leaf({0, 0, 0}, dtype)),
        b(zeros({2, 2}, dtype).requires_grad_()),
        c(leaf({1}, dtype)),
        all{{"a", a}, {"b", b}, {"c", c}} {
    set_gradient(a, ga);
    set_gradient(b, gb);
  }
  const Values ga{3, -4, 0.5}, gb{1, -2, 0.25, 6};
  Tensor a, b, c;
  NamedTensors all;
};

/// Collects what an optimizer reports.
struct Reports {
  explicit Reports(optim::OptimizerBase& opt) {
    opt.on_report([this](const std::string& text) { all.push_back(text); });
  }
  std::vector<std::string> all;
};

}  // namespace

// ---- clipping

TEST_CASE("clip_grad_norm gives PyTorch's norms and gradients") {
  // torch 2.15.0: clip_grad_norm_([a, b], 2.5, norm_type=p), in float64
  struct Golden {
    double p, norm;
    Values a, b;
  };
  const Golden golden[] = {
      {1,
       16.75,
       {0.44776116729784077, -0.5970148897304544, 0.0746268612163068},
       {0.1492537224326136, -0.2985074448652272, 0.0373134306081534, 0.8955223345956815}},
      {2,
       8.143248737451165,
       {0.9210082266674409, -1.2280109688899212, 0.15350137111124015},
       {0.3070027422224803, -0.6140054844449606, 0.07675068555562008, 1.8420164533348817}},
      {3,
       6.81229483432292,
       {1.1009504258773035, -1.467933901169738, 0.18349173764621726},
       {0.3669834752924345, -0.733966950584869, 0.09174586882310863, 2.201900851754607}},
      {INFINITY,
       6.0,
       {1.2499997916667014, -1.6666663888889353, 0.2083332986111169},
       {0.4166665972222338, -0.8333331944444676, 0.10416664930555845, 2.4999995833334028}}};
  for (const Golden& g : golden) {
    CAPTURE(g.p);
    const Three x, narrow(float32);
    CHECK(optim::clip_grad_norm(x.all, 2.5, {.p = g.p}) == doctest::Approx(g.norm).epsilon(1e-15));
    CHECK(close(values(x.a.grad()), g.a, 1e-15));
    CHECK(close(values(x.b.grad()), g.b, 1e-15));
    CHECK(!x.c.grad().defined());
    // the gradients are exact in float32, so their norm is no less precise
    CHECK(optim::clip_grad_norm(narrow.all, 2.5, {.p = g.p}) ==
          doctest::Approx(g.norm).epsilon(1e-15));
    CHECK(close(values(narrow.b.grad()), g.b, 1e-7));
  }
}

TEST_CASE("clip_grad_norm leaves short gradients as they are") {
  const Three x;
  CHECK(optim::clip_grad_norm(x.all, 100) == doctest::Approx(8.143248737451165));
  CHECK(optim::clip_grad_norm(x.all, INFINITY) == doctest::Approx(8.143248737451165));
  CHECK(same_bits(values(x.a.grad()), x.ga));
  CHECK(same_bits(values(x.b.grad()), x.gb));
  CHECK(optim::clip_grad_norm(x.all, 0) > 8);
  CHECK(values(x.b.grad()) == Values{0, 0, 0, 0});
  CHECK(optim::clip_grad_norm({{"c", x.c}}, 1) == 0);
  CHECK(optim::clip_grad_norm({{"c", x.c}}, 1, {.p = INFINITY}) == 0);
}

TEST_CASE("clip_grad_value brings every element into its range") {
  const Three x;
  x.b.set_grad(tensor(Values{6, 1, -2, NAN}, float64).reshape({2, 2}).t());
  optim::clip_grad_value(x.all, 1.5);
  CHECK(values(x.a.grad()) == Values{1.5, -1.5, 0.5});
  const Values b = values(x.b.grad());
  CHECK(Values(b.begin(), b.begin() + 3) == Values{1.5, -1.5, 1});
  CHECK(std::isnan(b[3]));
  CHECK(!x.c.grad().defined());
}

TEST_CASE("clipping leaves handles on a gradient as they are") {
  const Three x;
  const Tensor kept = x.a.grad(), given = tensor(Values{6, 1, -2, 4}, float64).reshape({2, 2}).t();
  x.b.set_grad(given);
  optim::clip_grad_norm(x.all, 0.5);
  CHECK(values(kept) == x.ga);
  const Tensor between = x.a.grad();
  const Values once = values(between);
  optim::clip_grad_value(x.all, 1e-3);
  CHECK(values(between) == once);
  CHECK(values(given) == Values{6, -2, 1, 4});
  CHECK(values(x.b.grad()) == Values{1e-3, -1e-3, 1e-3, 1e-3});
}

TEST_CASE("gradients that are not finite are an error, or what PyTorch makes of them") {
  const Three x;
  set_gradient(x.a, {INFINITY, -4, 0.5});
  CHECK_THROWS_WITH_AS(optim::clip_grad_norm(x.all, 2.5, {.error_if_nonfinite = true}),
                       doctest::Contains("the gradients' norm is inf"), NumericError);
  CHECK(values(x.a.grad()) == Values{INFINITY, -4, 0.5});
  CHECK(values(x.b.grad()) == x.gb);
  CHECK(optim::clip_grad_norm(x.all, 2.5) == INFINITY);
  CHECK(std::isnan(values(x.a.grad())[0]));
  CHECK(values(x.b.grad()) == Values{0, 0, 0, 0});
  for (double p : {1.0, 3.0, double(INFINITY)}) {
    const Three y;
    set_gradient(y.a, {NAN, -4, 0.5});
    CHECK_THROWS_AS(optim::clip_grad_norm(y.all, 2.5, {.p = p, .error_if_nonfinite = true}),
                    NumericError);
    CHECK(values(y.b.grad()) == y.gb);
    CHECK(std::isnan(optim::clip_grad_norm(y.all, 2.5, {.p = p})));
    CHECK(std::isnan(values(y.b.grad())[3]));
  }
}

TEST_CASE("bad limits are refused, and nothing is clipped") {
  const Three x;
  for (double bad : {-1.0, double(NAN)}) {
    CHECK_THROWS_WITH_AS(optim::clip_grad_norm(x.all, bad), doctest::Contains("max_norm is"),
                         ValueError);
    CHECK_THROWS_WITH_AS(optim::clip_grad_norm(x.all, 1, {.p = bad}),
                         doctest::Contains("clip_grad_norm: p is"), ValueError);
    CHECK_THROWS_WITH_AS(optim::clip_grad_value(x.all, bad), doctest::Contains("limit is"),
                         ValueError);
  }
  CHECK_THROWS_AS(optim::clip_grad_norm(x.all, 1, {.p = 0}), ValueError);
  CHECK(values(x.a.grad()) == x.ga);
  CHECK(values(x.b.grad()) == x.gb);
}

TEST_CASE("an optimizer clips all that it has, and its ledger knows what was there") {
  const Three x, y;
  optim::SGD opt(x.all, {.lr = 0.5});
  const Reports reports(opt);  // c has no gradient
  optim::Ledger ledger;
  opt.trace(ledger);
  CHECK(opt.clip_grad_norm(2.5, {.p = 1}) == 16.75);
  optim::clip_grad_norm(y.all, 2.5, {.p = 1});
  CHECK(values(x.a.grad()) == values(y.a.grad()));
  opt.step();
  CHECK(ledger.entries()[0].elements[1].raw_gradient == -4);
  CHECK(ledger.entries()[0].elements[1].before.g == values(y.a.grad())[1]);
  set_gradient(x.a, {3, -4, 0.5});
  opt.clip_grad_value(1);
  opt.step();
  CHECK(ledger.entries()[2].elements[1].raw_gradient == -4);
  CHECK(ledger.entries()[2].elements[1].before.g == -1);
}

TEST_CASE("clipping hides neither a forgotten zero_grad nor a forgotten backward") {
  for (bool by_norm : {true, false}) {
    const Tensor w = leaf({1, 2, 3});
    optim::SGD opt({{"w", w}}, {.lr = 1e-3});
    Reports reports(opt);
    auto clip = [&] {
      if (by_norm) opt.clip_grad_norm(0.5);
      else opt.clip_grad_value(0.1);
    };
    for (int t = 0; t < 4; ++t) {  // as it should be
      opt.zero_grad();
      (w * w).sum().backward();
      (w * w).sum().backward();
      clip();
      opt.step();
    }
    CHECK(reports.all.empty());
    clip();
    opt.step();  // no backward
    REQUIRE(reports.all.size() == 1);
    CHECK(reports.all[0].find("no gradient is new") != std::string::npos);
    (w * w).sum().backward();  // no zero_grad
    clip();
    opt.step();
    REQUIRE(reports.all.size() == 2);
    CHECK(reports.all[1].find("zero_grad") != std::string::npos);
  }
}

// ---- accumulation

namespace {

/// A small model in float64 with 23 examples.
struct Regression {
  Regression() {
    model.to(float64);
    write(model.weight, {0.5, -0.25, 0.125});
    write(model.bias, {0.75});
  }
  Tensor loss(int64_t from, int64_t count) {
    return nn::mse_loss(tanh(model(x.narrow(0, from, count))), y.narrow(0, from, count));
  }
  Values theta() { return joined(model.named_parameters()); }
  Tensor x = sin(arange(69, float64)).reshape({23, 3}),
         y = cos(arange(23, float64)).reshape({23, 1});
  nn::Linear model{3, 1};
};

/// Batches of these sizes, one after the other: their starts.
std::vector<int64_t> starts(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> at(sizes.size());
  std::exclusive_scan(sizes.begin(), sizes.end(), at.begin(), int64_t{0});
  return at;
}

}  // namespace

TEST_CASE("accumulated micro-batches step as the large batch does, the last window too") {
  // ten batches in windows of four; sizes differ, and so do the windows' sums 10, 11 and 2
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{3, 1, 4, 2, 5, 2, 1, 3, 1, 1}, std::vector<int64_t>(10, 2)}) {
    Regression small, large;
    optim::Adam opt(small.model.named_parameters(), {.lr = 0.05});
    optim::Adam reference(large.model.named_parameters(), {.lr = 0.05});
    Reports reports(opt);
    Values told, losses;
    optim::Accumulate accumulate(opt, 4, [&](const Tensor& loss) {
      told.push_back(loss.item());
      opt.step(loss);
    });
    const auto from = starts(sizes);
    for (int epoch = 0; epoch < 3; ++epoch) {
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        const bool stepped = accumulate.backward(small.loss(from[i], sizes[i]), sizes[i]);
        CHECK(stepped == (i % 4 == 3));
        CHECK(accumulate.pending() == static_cast<int64_t>((i + 1) % 4));
      }
      CHECK(accumulate.flush());
      CHECK(!accumulate.flush());
      for (std::size_t i = 0; i < sizes.size(); i += 4) {
        const std::size_t last = std::min(i + 4, sizes.size()) - 1;
        reference.zero_grad();
        const Tensor loss = large.loss(from[i], from[last] + sizes[last] - from[i]);
        losses.push_back(loss.item());
        loss.backward();
        reference.step();
      }
      CHECK(close(small.theta(), large.theta()));
      CHECK(close(values(small.model.weight.grad()), values(large.model.weight.grad())));
    }
    CHECK(opt.steps() == 9);
    CHECK(close(told, losses));
    CHECK(reports.all.empty());
  }
}

TEST_CASE("windows of one batch are an ordinary loop, bit for bit") {
  Regression ours, plain;
  optim::SGD opt(ours.model.named_parameters(), {.lr = 0.1});
  optim::SGD reference(plain.model.named_parameters(), {.lr = 0.1});
  ours.loss(5, 7).backward();  // what was there before does not count
  optim::Accumulate accumulate(opt, 1);
  for (int64_t n : {7, 3, 11}) {
    CHECK(accumulate.backward(ours.loss(0, n), n));
    reference.zero_grad();
    plain.loss(0, n).backward();
    reference.step();
  }
  CHECK(!accumulate.flush());
  CHECK(same_bits(ours.theta(), plain.theta()));
}

TEST_CASE("a window's gradient is clipped whole, and Polyak's rule is told its loss") {
  Regression ours, plain;
  optim::Polyak opt(ours.model.named_parameters(), {.lr = 1e9});
  optim::Polyak reference(plain.model.named_parameters(), {.lr = 1e9});
  optim::Accumulate accumulate(opt, 3, [&](const Tensor& loss) {
    opt.clip_grad_norm(0.125);
    opt.step(loss);
  });
  for (int64_t i : {0, 1, 2}) accumulate.backward(ours.loss(i * 5, 5), 5);
  const Tensor loss = plain.loss(0, 15);
  loss.backward();
  CHECK(reference.clip_grad_norm(0.125) > 0.125);
  reference.step(loss);
  CHECK(close(ours.theta(), plain.theta()));
  optim::Accumulate simple(opt, 2);  // tells it, too
  simple.backward(ours.loss(0, 2), 2);
  CHECK(simple.backward(ours.loss(2, 2), 2));
}

TEST_CASE("what Accumulate cannot use is refused, and the window stays as it was") {
  Regression ours, plain;
  optim::SGD opt(ours.model.named_parameters(), {.lr = 0.1});
  CHECK_THROWS_WITH_AS(optim::Accumulate(opt, 0), doctest::Contains("batches is 0"), ValueError);
  optim::Accumulate accumulate(opt, 2);
  accumulate.backward(ours.loss(0, 3), 3);
  const Values before = values(ours.model.weight.grad());
  CHECK_THROWS_WITH_AS(accumulate.backward(ours.loss(0, 3), 0), doctest::Contains("examples is 0"),
                       ValueError);
  CHECK_THROWS_AS(accumulate.backward(ours.model(ours.x), 23), ShapeError);
  CHECK(values(ours.model.weight.grad()) == before);
  CHECK(accumulate.pending() == 1);

  const Values start = ours.theta();
  CHECK_THROWS_AS(accumulate.backward(ours.loss(3, 3) * INFINITY, 3), NumericError);  // the step
  CHECK_THROWS_AS(accumulate.backward(tensor(1.0), 3), GraphError);  // the backward
  CHECK(ours.theta() == start);
  CHECK(values(ours.model.weight.grad()) == before);
  CHECK(accumulate.pending() == 1);
  CHECK(accumulate.backward(ours.loss(3, 5), 5));
  optim::SGD reference(plain.model.named_parameters(), {.lr = 0.1});
  plain.loss(0, 8).backward();
  reference.step();
  CHECK(close(ours.theta(), plain.theta()));
}

// ---- averages

namespace {

/// Moves p as the golden series does: step t = 1, 2, ...
void move(const Tensor& p, int t) {
  Values v = values(p);
  for (int i = 0; i < 3; ++i) v[static_cast<std::size_t>(i)] += ((7 * t + 3 * i) % 11 - 5) / 8.0;
  write(p, v);
}
const Values kStart{0.7, -1.3, 2.1};

}  // namespace

TEST_CASE("averages are PyTorch's") {
  // torch 2.15.0: AveragedModel with get_ema_multi_avg_fn(0.9) and get_swa_multi_avg_fn(), float64,
  // after updates 1, 2 and 5
  const Values ema[] = {{0.95, -0.675, 1.725},
                        {0.9249999999999999, -0.6625000000000001, 1.7750000000000001},
                        {1.01965, -0.6386375000000001, 1.83945}};
  const Values swa[] = {{0.95, -0.675, 1.725},
                        {0.825, -0.6125, 1.975},
                        {1.0999999999999999, -0.6000000000000001, 2.0}};
  for (bool equal : {false, true}) {
    const Tensor p = leaf(kStart);
    optim::WeightAverage average({{"p", p}}, {.decay = 0.9, .equal = equal});
    CHECK(average.updates() == 0);
    CHECK(joined(average.averages()) == kStart);
    for (int t = 1, k = 0; t <= 5; ++t) {
      move(p, t);
      average.update();
      CHECK(average.updates() == t);
      if (t == 1 || t == 2 || t == 5)
        CHECK(close(joined(average.averages()), (equal ? swa : ema)[k++], 1e-15));
    }
  }
}

TEST_CASE("averages equal their formulas, in float32 to its precision") {
  for (DType dtype : {float64, float32})
    for (bool equal : {false, true}) {
      const Tensor p = leaf(kStart, dtype), q = leaf({5, 6, 7}, dtype);
      optim::WeightAverage average({{"p", p}, {"q", q}}, {.decay = 0.75, .equal = equal});
      std::vector<Values> path;
      for (int t = 1; t <= 20; ++t) {
        move(p, t);
        move(q, t + 3);
        average.update();
        path.push_back(joined({{"p", p}, {"q", q}}));
      }
      Values expected = equal ? Values(6) : path[0];
      for (std::size_t t = 0; t < path.size(); ++t)
        for (std::size_t i = 0; i < 6; ++i) {
          if (equal) expected[i] += path[t][i] / 20;  // the mean
          else if (t > 0) expected[i] = 0.75 * expected[i] + 0.25 * path[t][i];
        }
      CHECK(average.averages()[1].first == "q");
      CHECK(close(joined(average.averages()), expected, dtype == float64 ? 1e-14 : 1e-6));
    }
}

TEST_CASE("a guard lends the averages to the model and takes them back, bit for bit") {
  const Values odd{-0.0, 0.1, 5e-324};
  const Tensor p = leaf(odd), q = leaf({1});
  optim::WeightAverage average({{"p", p}, {"q", q}}, {.equal = true});
  write(q, {3});
  average.update();
  write(p, {1, 2, 3});
  average.update();
  write(p, odd);
  const Values mean = joined(average.averages());
  CHECK(close(mean, {0.5, 1.05, 1.5, 3}));
  q.set_grad(ones({1}, float64));
  try {
    optim::AverageGuard averaged(average);
    CHECK(joined({{"p", p}, {"q", q}}) == mean);
    CHECK(joined(average.averages()) == mean);
    write(p, {7, 8, 9});
    throw 1;
  } catch (int) {}
  CHECK(same_bits(values(p), odd));
  CHECK(values(q) == Values{3});
  CHECK(joined(average.averages()) == mean);
  CHECK(q.grad().item() == 1);
}

TEST_CASE("a model that was cast goes on with its averages") {
  nn::Linear model(2, 1);
  write(model.weight, {1, 2});
  write(model.bias, {3});
  optim::WeightAverage average(model.named_parameters(), {.decay = 0.5});
  average.update();
  model.to(float64);
  write(model.weight, {3, 4});
  average.update();
  CHECK(joined(average.averages()) == Values{2, 3, 3});
  {
    optim::AverageGuard averaged(average);
    CHECK(values(model.weight) == Values{2, 3});
    CHECK(model.weight.dtype() == float64);
  }
  CHECK(values(model.weight) == Values{3, 4});
}

TEST_CASE("averages resume with the same bits; what does not fit is refused") {
  for (bool equal : {false, true}) {
    const Tensor p = leaf(kStart);
    optim::WeightAverage average({{"p", p}}, {.decay = 0.9, .equal = equal});
    for (int t = 1; t <= 3; ++t) {
      move(p, t);
      average.update();
    }
    const NamedTensors saved = average.state_dict();
    const Values kept = joined(saved), then = values(p);
    for (int t = 4; t <= 6; ++t) {
      move(p, t);
      average.update();
    }
    CHECK(joined(saved) == kept);
    const Tensor p2 = leaf(then);
    optim::WeightAverage resumed({{"p", p2}}, {.decay = 0.9, .equal = equal});
    resumed.load_state_dict(saved);
    for (int t = 4; t <= 6; ++t) {
      move(p2, t);
      resumed.update();
    }
    CHECK(joined(saved) == kept);
    CHECK(resumed.updates() == 6);
    CHECK(same_bits(joined(resumed.averages()), joined(average.averages())));

    const std::string key = "WeightAverage/p/average", count = "WeightAverage/updates";
    const Values now = joined(resumed.state_dict());
    const std::pair<NamedTensors, const char*> bad[] = {
        {without(saved, key), "p/average is missing"},
        {without(saved, count), "updates is missing"},
        {with(saved, key, zeros({2}, float64)), "p/average"},
        {with(saved, key, zeros({3}, float32)), "p/average"},
        {with(saved, key, Tensor()), "p/average"},
        {with(saved, count, tensor(int64_t{-1})), "updates"},
        {with(saved, "x", zeros({1})), "x is unexpected"}};
    for (const auto& [state, why] : bad)
      CHECK_THROWS_WITH_AS(resumed.load_state_dict(state), doctest::Contains(why), ValueError);
    CHECK(joined(resumed.state_dict()) == now);
  }
}

TEST_CASE("averages of bad decay or of what cannot be averaged are refused") {
  const Tensor p = leaf(kStart);
  for (double bad : {-0.1, 1.1, double(NAN)})
    CHECK_THROWS_WITH_AS(optim::WeightAverage({{"p", p}}, {.decay = bad}),
                         doctest::Contains("decay is"), ValueError);
  CHECK_THROWS_WITH_AS(optim::WeightAverage({{"n", arange(3)}}), doctest::Contains("n is int64"),
                       DtypeError);
}

// ---- Lookahead

namespace {

/// A loss with gradients that are easily written out: sum of c p^4 / 4 + p, gradient c p^3 + 1.
Tensor quartic(const Tensor& p, double c) { return (0.25 * c * square(square(p)) + p).sum(); }
double slope(double p, double c) { return c * p * p * p + 1; }

/// Two parameters below one loss, and one that is frozen.
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
  write(p, {8});  // loaded, say
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
  write(late, {40});
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
  CHECK_THROWS_AS(step(NAN), NumericError);
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
  for (std::size_t i = 0; i < x.all.size(); ++i) write(y.all[i].second, values(x.all[i].second));
  step(x, opt, 6);
  CHECK(joined(saved) == kept);
  resumed.load_state_dict(saved);
  step(y, resumed, 6);
  CHECK(same_bits(x.theta(), y.theta()));
  CHECK(joined(saved) == kept);
  CHECK(same_bits(joined(opt.state_dict()), joined(resumed.state_dict())));

  const Values now = joined(resumed.state_dict());
  const std::pair<NamedTensors, const char*> bad[] = {
      {without(saved, "Lookahead/a/slow"), "a/slow is missing"},
      {without(saved, "Lookahead/steps"), "Lookahead/steps is missing"},
      {with(saved, "Lookahead/b/slow", zeros({2}, float64)), "b/slow"},
      {with(saved, "Lookahead/steps", tensor(int64_t{-1})), "Lookahead/steps"},
      {with(saved, "Lookahead/x", zeros({1})), "Lookahead/x is unexpected"},
      {without(saved, "SGD/steps"), "steps is missing"},
      {with(saved, "x", zeros({1})), "\n  x is unexpected"}};
  for (const auto& [state, why] : bad)
    CHECK_THROWS_WITH_AS(resumed.load_state_dict(state), doctest::Contains(why), ValueError);
  CHECK(same_bits(joined(resumed.state_dict()), now));

  const Pair z;  // before the first step the slow weights are the parameters
  auto third = make_sgd(z);
  optim::Lookahead fresh(third);
  const NamedTensors first = fresh.state_dict();
  const auto slow = std::find_if(first.begin(), first.end(), [](const auto& entry) {
    return entry.first == "Lookahead/a/slow";
  });
  REQUIRE(slow != first.end());
  CHECK(values(slow->second) == values(z.a));
  step(z, fresh, 1);
  CHECK(values(slow->second) != values(z.a));
}

TEST_CASE("Lookahead and SAM refuse bad options") {
  const Pair x;
  auto sgd = make_sgd(x);
  CHECK_THROWS_WITH_AS(optim::Lookahead(sgd, {.k = 0}), doctest::Contains("k is 0"), ValueError);
  for (double bad : {-0.1, 1.5, double(NAN)})
    CHECK_THROWS_WITH_AS(optim::Lookahead(sgd, {.alpha = bad}), doctest::Contains("alpha is"),
                         ValueError);
  for (double bad : {-0.1, double(INFINITY), double(NAN)})
    CHECK_THROWS_WITH_AS(optim::SAM(sgd, {.rho = bad}), doctest::Contains("rho is"), ValueError);
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
  CHECK_THROWS_AS(opt.step([&] {
    if (++calls == 2) throw NumericError("no");
    return closure_of(x)();
  }),
                  NumericError);
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
  opt.step(closure);  // g is 0: decay alone
  CHECK(values(p) == Values{0.75, 1.5});
  CHECK(seen == Values{1, 2, 1, 2});
  for (double bad : {double(NAN), double(INFINITY)}) {
    write(weight, {bad, 1});
    seen.clear();
    CHECK_THROWS_AS(opt.step(closure), NumericError);
    CHECK(values(p) == Values{0.75, 1.5});
    CHECK(seen == Values{0.75, 1.5, 0.75, 1.5});
  }
  CHECK_THROWS_AS(opt.step([&] { return Tensor(); }), ValueError);
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
  set_gradient(q, {8});  // at 4, with loss 16
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
  for (std::size_t i = 0; i < x.all.size(); ++i) write(y.all[i].second, values(x.all[i].second));
  resumed.load_state_dict(saved);
  for (int t = 0; t < 3; ++t) {
    opt.step(closure_of(x));
    resumed.step(closure_of(y));
  }
  CHECK(same_bits(x.theta(), y.theta()));
  CHECK_THROWS_AS(resumed.load_state_dict(without(saved, "SGD/steps")), ValueError);
  opt.zero_grad();
  CHECK(!x.a.grad().defined());
}

// ---- who goes first

TEST_CASE("a ledger that goes before its optimizer is left alone") {
  const Three x;
  optim::SGD opt(x.all, {.lr = 0.5});
  const Reports reports(opt);
  {
    optim::Ledger first;
    opt.trace(first);
    opt.step();
    CHECK(first.entries().size() == 2);
  }
  const std::vector<char> other(sizeof(optim::Ledger), 1);  // where it was, as like as not
  opt.clip_grad_norm(1);
  opt.step();
  CHECK(opt.steps() == 2);
  optim::Ledger second;
  opt.trace(second);
  opt.step();
  CHECK(second.entries().size() == 2);
  CHECK(second.explain("a[0]", 3).starts_with("SGD, step 3"));
}

TEST_CASE("what stands around an optimizer that has gone says so, and keeps what it knew") {
  const Three x;
  auto opt = std::make_unique<optim::SGD>(x.all, optim::SGD::Rule{.lr = 0.5});
  const Reports reports(*opt);
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
    CHECK_THROWS_WITH_AS(f(),
                         doctest::Contains((std::string(who) + ": its optimizer has gone").c_str()),
                         ValueError);
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
  next.trace(ledger);  // it is free for another one, of the same rule
}

TEST_CASE("a ledger follows one optimizer at a time, and holds the steps of one rule") {
  const Three x, y;
  optim::SGD sgd(x.all);
  optim::Adam adam(y.all);
  const Reports reports(sgd);
  optim::Ledger ledger, other;
  sgd.trace(ledger);
  CHECK_THROWS_WITH_AS(adam.trace(ledger), doctest::Contains("follows another optimizer, SGD"),
                       ValueError);
  optim::SGD second(y.all);
  CHECK_THROWS_AS(second.trace(ledger), ValueError);  // both would have a step 1
  sgd.step();
  sgd.trace(other);
  CHECK_THROWS_WITH_AS(adam.trace(ledger), doctest::Contains("holds steps of SGD"), ValueError);
  second.trace(ledger);
  second.trace(nullptr);
  sgd.trace(ledger);
  CHECK(ledger.explain("a[0]", 1).starts_with("SGD, step 1 of a[0]"));
}
