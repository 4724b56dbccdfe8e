#include <algorithm>
#include <doctest/doctest.h>
#include <numeric>

#include "optim.hpp"

// Gradients of several batches, added up for one step.

using namespace descent;

namespace {

/// A small model in float64 with 23 examples.
struct Regression {
  Regression() {
    model.to(float64);
    set_values(model.weight, {0.5, -0.25, 0.125});
    set_values(model.bias, {0.75});
  }
  Tensor loss(int64_t from, int64_t count) {
    return nn::mse_loss(tanh(model(x.narrow(0, from, count))), y.narrow(0, from, count));
  }
  Values theta() { return joined(model.named_parameters()); }
  Tensor x = sin(arange(69, float64)).reshape({23, 3}),
         y = cos(arange(23, float64)).reshape({23, 1});
  nn::Linear model{3, 1};
};

/// Where each batch starts when batches of these sizes follow one another.
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
  optim::Accumulate simple(opt, 2);  // passes the loss on, too
  simple.backward(ours.loss(0, 2), 2);
  CHECK(simple.backward(ours.loss(2, 2), 2));
}

TEST_CASE("what Accumulate cannot use is refused, and the window stays as it was") {
  Regression ours, plain;
  optim::SGD opt(ours.model.named_parameters(), {.lr = 0.1});
  CHECK(refusal<ValueError>([&] { optim::Accumulate(opt, 0); }) ==
        "Accumulate: batches is 0: need at least 1");
  optim::Accumulate accumulate(opt, 2);
  accumulate.backward(ours.loss(0, 3), 3);
  const Values before = values(ours.model.weight.grad());
  CHECK(refusal<ValueError>([&] { accumulate.backward(ours.loss(0, 3), 0); }) ==
        "Accumulate: examples is 0: need at least 1");
  CHECK(refusal<ShapeError>([&] { accumulate.backward(ours.model(ours.x), 23); }) ==
        "item: tensor [23, 1] has 23 elements: need one");
  CHECK(values(ours.model.weight.grad()) == before);
  CHECK(accumulate.pending() == 1);

  const Values start = ours.theta();
  CHECK(refusal<NumericError>([&] {  // at the place of this call
          accumulate.backward(ours.loss(3, 3) * INFINITY, 3);
        })
            .ends_with("set_nonfinite() chooses what happens"));
  CHECK(refusal<GraphError>([&] { accumulate.backward(tensor(1.0), 3); }) ==
        "backward: tensor [] has no graph: nothing that it was computed from requires a gradient, "
        "or it was computed under NoGradGuard");
  CHECK(ours.theta() == start);
  CHECK(values(ours.model.weight.grad()) == before);
  CHECK(accumulate.pending() == 1);
  CHECK(accumulate.backward(ours.loss(3, 5), 5));
  optim::SGD reference(plain.model.named_parameters(), {.lr = 0.1});
  plain.loss(0, 8).backward();
  reference.step();
  CHECK(close(ours.theta(), plain.theta()));
}
