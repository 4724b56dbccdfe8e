#include <cmath>
#include <doctest/doctest.h>

#include "optim.hpp"

// Averages of the parameters over the steps.

using namespace descent;

namespace {

/// Moves p as the golden series does: step t = 1, 2, ...
void move(const Tensor& p, int t) {
  Values v = values(p);
  for (int i = 0; i < 3; ++i) v[static_cast<std::size_t>(i)] += ((7 * t + 3 * i) % 11 - 5) / 8.0;
  set_values(p, v);
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
  set_values(q, {3});
  average.update();
  set_values(p, {1, 2, 3});
  average.update();
  set_values(p, odd);
  const Values mean = joined(average.averages());
  CHECK(close(mean, {0.5, 1.05, 1.5, 3}));
  q.set_grad(ones({1}, float64));
  try {
    optim::AverageGuard averaged(average);
    CHECK(joined({{"p", p}, {"q", q}}) == mean);
    CHECK(joined(average.averages()) == mean);
    set_values(p, {7, 8, 9});
    throw 1;
  } catch (int) {}
  CHECK(same_bits(values(p), odd));
  CHECK(values(q) == Values{3});
  CHECK(joined(average.averages()) == mean);
  CHECK(q.grad().item() == 1);
}

TEST_CASE("a model that was cast goes on with its averages") {
  nn::Linear model(2, 1);
  set_values(model.weight, {1, 2});
  set_values(model.bias, {3});
  optim::WeightAverage average(model.named_parameters(), {.decay = 0.5});
  average.update();
  model.to(float64);
  set_values(model.weight, {3, 4});
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
    const std::pair<NamedTensors, std::string> bad[] = {
        {without(saved, key),
         "load_state_dict: the state does not fit this average:\n"
         "  WeightAverage/p/average is missing\n"},
        {without(saved, count),
         "load_state_dict: the state does not fit this average:\n"
         "  WeightAverage/updates is missing\n"},
        {with(saved, key, zeros({2}, float64)),
         "load_state_dict: the state does not fit this average:\n"
         "  WeightAverage/p/average is float64 [3] here and float64 [2] there\n"},
        {with(saved, key, zeros({3}, float32)),
         "load_state_dict: the state does not fit this average:\n"
         "  WeightAverage/p/average is float64 [3] here and float32 [3] there\n"},
        {with(saved, key, Tensor()),
         "load_state_dict: the state does not fit this average:\n"
         "  WeightAverage/p/average is undefined there\n"},
        {with(saved, count, tensor(int64_t{-1})),
         "load_state_dict: WeightAverage/updates is -1: need a count up to 2^53"},
        {with(saved, "x", zeros({1})),
         "load_state_dict: the state does not fit this average:\n"
         "  x is unexpected\n"}};
    for (const auto& [state, why] : bad)
      CHECK(refusal<ValueError>([&, &wrong = state] { resumed.load_state_dict(wrong); }) == why);
    CHECK(joined(resumed.state_dict()) == now);
  }
}

TEST_CASE("averages of bad decay or of what cannot be averaged are refused") {
  const Tensor p = leaf(kStart);
  for (double bad : {-0.1, 1.1, double(NAN)})
    CHECK(refusal<ValueError>([&] {
            optim::WeightAverage({{"p", p}}, {.decay = bad});
          }) == "WeightAverage: decay is " + str(bad) + ": need [0, 1]");
  CHECK(refusal<DtypeError>([&] {
          optim::WeightAverage({{"n", arange(3)}});
        }) == "WeightAverage: n is int64: need a floating dtype");
}
