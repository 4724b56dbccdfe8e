#include <cmath>

#include "support.hpp"

using namespace descent;

namespace {

/// cross_entropy by its definition: what each row adds, and the weight of its class.
struct Row {
  double loss = 0, weight = 0;
};
Row cross_entropy_row(const double* z, int64_t target, const Values& weight, double smoothing) {
  const std::size_t k = weight.size();
  double top = z[0], total = 0;
  for (std::size_t j = 1; j < k; ++j) top = std::max(top, z[j]);
  for (std::size_t j = 0; j < k; ++j) total += std::exp(z[j] - top);
  Row row{0, weight[static_cast<std::size_t>(target)]};
  for (std::size_t j = 0; j < k; ++j) {
    const double on = static_cast<int64_t>(j) == target ? 1 - smoothing : 0;
    row.loss -=
        (on + smoothing / static_cast<double>(k)) * weight[j] * (z[j] - top - std::log(total));
  }
  return row;
}

}  // namespace

TEST_CASE("accuracy is the share of rows whose largest logit is at the target") {
  const Tensor logits = tensor({{1., 2., 0.}, {3., 1., 1.}, {0., 0., 5.}, {1., 0., 0.}});
  CHECK(nn::accuracy(logits, tensor({1, 0, 0, 2})) == 0.5);
  CHECK(refusal<ShapeError>([&] {
          nn::accuracy(logits, tensor({1, 0}));
        }) == "accuracy: logits [4, 3] with target [2]: need [N, K] and [N], N > 0");
  CHECK_THROWS_AS(nn::accuracy(zeros({0, 3}), zeros({0}, int64)), ShapeError);
}

TEST_CASE("cross_entropy equals its definition for every option") {
  const int64_t n = 7, k = 4;
  const std::vector<int64_t> labels{0, 3, 2, -1, 1, -1, 3};
  for (double scale : {1.0, 1e4}) {
    const Tensor logits = randn({n, k}, float64) * scale;
    const Values z = values(logits);
    for (double smoothing : {0.0, 0.1, 1.0})
      for (const Values& weight : {Values{1, 1, 1, 1}, Values{0.5, 2, 0, 1.5}}) {
        nn::CrossEntropyOptions o{.ignore_index = -1, .label_smoothing = smoothing};
        if (weight[0] != 1) o.weight = tensor(weight, float64);
        Values each;
        double total = 0, weights = 0;
        for (std::size_t i = 0; i < labels.size(); ++i) {
          const Row row =
              labels[i] < 0 ? Row{} : cross_entropy_row(&z[i * 4], labels[i], weight, smoothing);
          each.push_back(row.loss);
          total += row.loss;
          weights += row.weight;
        }
        auto loss = [&](nn::Reduction reduction) {
          o.reduction = reduction;
          return values(nn::cross_entropy(logits, tensor(labels), o));
        };
        const Values none = loss(nn::Reduction::none);
        for (std::size_t i = 0; i < each.size(); ++i)
          CHECK(none[i] == doctest::Approx(each[i]).epsilon(1e-12));
        CHECK(loss(nn::Reduction::sum)[0] == doctest::Approx(total).epsilon(1e-12));
        CHECK(loss(nn::Reduction::mean)[0] == doctest::Approx(total / weights).epsilon(1e-12));
      }
  }
}

TEST_CASE("an ignored row counts for nothing, whatever is in it") {
  const Tensor logits = tensor({{-HUGE_VAL, 0.}, {1., 2.}}, float64), target = tensor({-100, 1});
  for (double smoothing : {0.0, 0.1}) {
    const nn::CrossEntropyOptions o{.label_smoothing = smoothing};
    CHECK(nn::cross_entropy(logits, target, o).item() ==
          nn::cross_entropy(logits.narrow(0, 1, 1), tensor({1}), o).item());
  }
}

TEST_CASE("losses refuse what has no mean, labels out of range and shapes that differ") {
  const Tensor none = zeros({0, 3}), no_label = zeros({0}, int64), two = zeros({2, 3});
  CHECK(refusal<ShapeError>([&] { nn::cross_entropy(none, no_label); }) ==
        "cross_entropy: logits [0, 3] are an empty batch: it has no mean");
  CHECK(nn::cross_entropy(none, no_label, {.reduction = nn::Reduction::sum}).item() == 0);
  CHECK(refusal<ShapeError>([&] {
          nn::cross_entropy(two, tensor({-100, -100}));
        }) == "cross_entropy: every target is ignored or weighs nothing: there is no mean");
  CHECK(refusal<IndexError>([&] {
          nn::cross_entropy(two, tensor({0, 3}));
        }) == "cross_entropy: target[1] is 3, but logits [2, 3] allow 0..2");
  CHECK_THROWS_AS(nn::cross_entropy(two, tensor({0, -1})), IndexError);
  CHECK(refusal<DtypeError>([&] {
          nn::cross_entropy(two, tensor({0., 1.}));
        }) == "cross_entropy: target is float32: need int64 class numbers");
  CHECK(refusal<ShapeError>([&] { nn::cross_entropy(two, tensor({0})); }) ==
        "cross_entropy: logits [2, 3] with target [1]: need [N, K, d1, ..] and [N, d1, ..]");
  CHECK(refusal<ShapeError>([&] {
          nn::cross_entropy(two, tensor({0, 1}), {.weight = ones({2})});
        }) == "cross_entropy: weight is float32 [2]: need float32 [3]");
  CHECK(refusal<ValueError>([&] {
          nn::cross_entropy(two, tensor({0, 1}), {.label_smoothing = 2});
        }) == "cross_entropy: label_smoothing is 2: need [0, 1]");
  CHECK(refusal<ShapeError>([&] { nn::mse_loss(none, none); }) ==
        "mse_loss: prediction [0, 3] is empty: it has no mean");
  CHECK(refusal<ShapeError>([&] { nn::mse_loss(two, zeros({3})); }) ==
        "mse_loss: prediction [2, 3] with target [3]: need one shape");
  const Tensor a = tensor({1., 2., 3.}), b = tensor({1., 4., 0.});
  CHECK(nn::mse_loss(a, b).item() == doctest::Approx(13.0 / 3));
  CHECK(nn::mse_loss(a, b, {.reduction = nn::Reduction::sum}).item() == 13);
  CHECK(values(nn::mse_loss(a, b, {.reduction = nn::Reduction::none})) == Values{0, 4, 9});
}

TEST_CASE("the gradients of losses and layers are those of their values, to second order") {
  manual_seed(5);
  auto leaf = [](const Shape& shape) { return randn(shape, float64).requires_grad_(); };
  const Tensor target = tensor({2, -1, 0, 1}), weight = tensor(Values{0.5, 2, 1}, float64);
  nn::Linear fc(3, 2);
  fc.to(float64);
  const nn::Dropout drop(0.4);
  using Inputs = std::vector<Tensor>;
  auto check = [](auto f, const Inputs& inputs) {
    const GradcheckResult result = gradcheck(f, inputs, {.order = 2});
    CHECK_MESSAGE(result.ok, result.message);
    // Order 2 has one input more: the outer gradient.
    CHECK(result.checks == 2 * static_cast<int64_t>(inputs.size()) + 1);
  };
  for (auto reduction : {nn::Reduction::mean, nn::Reduction::sum, nn::Reduction::none}) {
    const nn::CrossEntropyOptions o{weight, -1, 0.1, reduction};
    check([&](const Inputs& in) { return nn::cross_entropy(in[0], target, o); }, {leaf({4, 3})});
    check([&](const Inputs& in) { return nn::mse_loss(in[0], in[1], {reduction}); },
          {leaf({2, 3}), leaf({2, 3})});
  }
  check([&](const Inputs& in) { return square(fc(in[0])); }, {leaf({4, 3}), fc.weight, fc.bias});
  check(
      [&](const Inputs& in) {
        manual_seed(8);
        return square(drop(in[0]));
      },
      {leaf({3, 4})});
}
