#include <cmath>
#include <doctest/doctest.h>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// The loss of a sequence of labels whose times are not known.

namespace {

/// -log of the sum of the probabilities of all paths of `steps` classes that give the labels.
double sum_of_paths(const Values& log_probs, int64_t steps, int64_t k, const Ints& labels,
                    int64_t blank) {
  double total = 0;
  int64_t paths = 1;
  for (int64_t t = 0; t < steps; ++t) paths *= k;
  for (int64_t path = 0; path < paths; ++path) {
    Ints given;
    double log_p = 0;
    int64_t before = blank;
    for (int64_t t = 0, rest = path; t < steps; ++t, rest /= k) {
      const int64_t own = rest % k;
      log_p += log_probs[static_cast<std::size_t>(t * k + own)];
      if (own != blank && own != before) given.push_back(own);
      before = own;
    }
    if (given == labels) total += std::exp(log_p);
  }
  return -std::log(total);
}

}  // namespace

TEST_CASE("ctc_loss is PyTorch's behind log_softmax, and so is its gradient") {
  // The logarithms of probabilities are several nats large, and their rounding becomes that of
  // shares.
  GoldenTally tally{.most = 16};
  for (const GoldenCase& c : golden_cases("ctc_loss", "ctc")) {
    const std::string reduction = c.option("reduction", "mean");
    const nn::CtcOptions options{.blank = static_cast<int64_t>(c.number("blank", 0)),
                                 .reduction = reduction == "none"  ? nn::Reduction::none
                                              : reduction == "sum" ? nn::Reduction::sum
                                                                   : nn::Reduction::mean,
                                 .zero_infinity = c.flag("zero_infinity", false)};
    const Tensor x = c.leaf("input");
    tally.add(c,
              nn::ctc_loss(log_softmax(x, 2), c.tensor("targets"), c.tensor("steps"),
                           c.tensor("lengths"), options),
              {{"input", x}});
  }
  tally.print("ctc_loss", 33);
}

TEST_CASE("ctc_loss is the sum over all paths, also of numbers that are no logarithms of shares") {
  for (const Ints& labels : {Ints{1, 2}, Ints{1, 1}, Ints{2}, Ints{}})
    for (const int64_t blank : {0, 3})
      for (const int64_t steps : {1, 2, 3, 4}) {
        const Tensor x = randn({steps, 1, 4}, float64);
        const double right = sum_of_paths(values(x), steps, 4, labels, blank);
        const auto n = static_cast<int64_t>(labels.size());
        const Tensor targets = pad(tensor(labels, {1, n}, int64), {0, 3 - n}, {.value = -7});
        const double loss = nn::ctc_loss(x, targets, tensor({steps}), tensor({n}),
                                         {.blank = blank, .reduction = nn::Reduction::sum})
                                .item();
        CAPTURE(steps);
        CAPTURE(labels.size());
        CHECK((loss == right || std::abs(loss - right) < 1e-12 * std::abs(right)));
      }
}

TEST_CASE("a target without a path has an infinite loss, or none, and no gradient") {
  const Tensor targets = tensor({{1, 1}}), steps = tensor({2}), lengths = tensor({2});
  for (const bool zero : {false, true}) {
    const Tensor x = randn({2, 1, 3}).requires_grad_();
    const Tensor loss = nn::ctc_loss(x, targets, steps, lengths, {.zero_infinity = zero});
    CHECK(loss.item() == (zero ? 0 : kInf));
    loss.backward();
    CHECK(values(x.grad()) == Values(6, 0));
  }
  const Tensor never = full({2, 1, 3}, -kInf).requires_grad_();  // nor has one of probability 0
  nn::ctc_loss(never, tensor({{1}}), steps, tensor({1})).backward();
  CHECK(values(never.grad()) == Values(6, 0));
}

TEST_CASE("ctc_loss of many steps and of logits of 1e30 is finite") {
  const Tensor long_x = log_softmax(randn({2000, 1, 3}), 2).requires_grad_();
  const Tensor loss = nn::ctc_loss(long_x, tensor({{1, 2}}), tensor({2000}), tensor({2}));
  loss.backward();
  CHECK(std::isfinite(loss.item()));
  CHECK(all(isfinite(long_x.grad())).item<bool>());
  const Tensor huge = tensor({1e30, 0., 0., 0., 1e30, 0.}, float32).reshape({2, 1, 3});
  CHECK(nn::ctc_loss(log_softmax(huge, 2), tensor({{1}}), tensor({2}), tensor({1})).item() == 0);
  const Tensor small = full({3, 1, 2}, -1e30);
  CHECK(nn::ctc_loss(small, tensor({{1}}), tensor({3}), tensor({1})).item() ==
        doctest::Approx(3e30));
  // The gradient of float32 is as precise as its result.
  const Tensor x = randn({300, 2, 5}), targets = randint(1, 5, {2, 40}), n = tensor({40, 40});
  Values slopes[2];
  for (const DType dtype : {float32, float64}) {
    const Tensor z = x.detach().to(dtype).detach().requires_grad_();
    nn::ctc_loss(log_softmax(z, 2), targets, tensor({300, 300}), n).backward();
    slopes[dtype == float64] = values(z.grad());
  }
  double off = 0, largest = 0;
  for (std::size_t i = 0; i < slopes[0].size(); ++i) {
    off = std::max(off, std::abs(slopes[0][i] - slopes[1][i]));
    largest = std::max(largest, std::abs(slopes[1][i]));
  }
  CHECK(off < 64 * 0x1p-23 * largest);
}

TEST_CASE("ctc_loss says what it refuses") {
  const Tensor x = zeros({3, 2, 4}), targets = tensor({{1, 2}, {3, 1}}), two = tensor({2, 2});
  CHECK(refusal<ShapeError>([&] { nn::ctc_loss(x[0], targets, two, two); }) ==
        "ctc_loss: log_probs [2, 4] with targets int64 [2, 2]: need [T, N, K], int64 [N, S] and T "
        "> 0");
  CHECK(refusal<ShapeError>([&] {
          nn::ctc_loss(zeros({0, 2, 4}), targets, two, two);
        }) ==
        "ctc_loss: log_probs [0, 2, 4] with targets int64 [2, 2]: need [T, N, K], int64 [N, S] and "
        "T > 0");
  CHECK(refusal<ShapeError>([&] { nn::ctc_loss(x, targets.to(float32), two, two); }) ==
        "ctc_loss: log_probs [3, 2, 4] with targets float32 [2, 2]: need [T, N, K], int64 [N, S] "
        "and T > 0");
  CHECK(refusal<ShapeError>([&] { nn::ctc_loss(x, targets, tensor({3}), two); }) ==
        "ctc_loss: input_lengths are int64 [1]: need int64 [2]");
  CHECK(refusal<ValueError>([&] {
          nn::ctc_loss(x, targets, tensor({4, 3}), two);
        }) == "ctc_loss: input_lengths are [4, 3]: need 1 to 3");
  CHECK(refusal<ValueError>([&] {
          nn::ctc_loss(x, targets, two, tensor({-1, 3}));
        }) == "ctc_loss: target_lengths are [-1, 3]: need 0 to 2");
  CHECK(refusal<ValueError>([&] { nn::ctc_loss(x, targets, two, two, {.blank = 4}); }) ==
        "ctc_loss: blank is 4: need 0 to 3");
  CHECK(refusal<IndexError>([&] { nn::ctc_loss(x, targets, two, two, {.blank = 3}); }) ==
        "ctc_loss: targets[1, 0] is 3: need 0 to 3, but not the blank, 3");
  CHECK(refusal<IndexError>([&] {
          nn::ctc_loss(x, tensor({{1, 2}, {1, 4}}), two, two);
        }) == "ctc_loss: targets[1, 1] is 4: need 0 to 3, but not the blank, 0");
  CHECK(refusal<DtypeError>([&] { nn::ctc_loss(x.to(int64), targets, two, two); }) ==
        "ctc_loss: the input is int64: need float32 or float64 (use to())");
  CHECK(refusal<ShapeError>([&] {
          const Tensor none = zeros({0}, int64);
          nn::ctc_loss(zeros({3, 0, 4}), zeros({0, 2}, int64), none, none);
        }) == "ctc_loss: the losses have the shape [0]: there is no mean");
}
