#include <cstdio>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// Losses against PyTorch's, and at the ends of what they accept.

namespace {

nn::Reduction reduction_of(const GoldenCase& c) {
  const std::string reduction = c.option("reduction", "mean");
  return reduction == "sum"         ? nn::Reduction::sum
         : reduction == "none"      ? nn::Reduction::none
         : reduction == "batchmean" ? nn::Reduction::batchmean
                                    : nn::Reduction::mean;
}

/// Compares all cases of `op`, called as f(case, first, second).
using Call = std::function<Tensor(const GoldenCase&, const Tensor&, const Tensor&)>;
void compare(const std::string& op, int cases, const Call& f, const char* first = "input",
             const char* second = "target") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases(op, "losses")) {
    const Tensor a = c.leaf(first);
    const bool both = c.tensors.count(std::string("grad_") + second) != 0;
    const Tensor b = both ? c.leaf(second) : c.tensor(second);
    tally.add(c, f(c, a, b), {{first, a}, {second, both ? b : Tensor()}});
  }
  CHECK(tally.cases == 2 * cases);
  std::printf("golden: %s, %d cases, off by %.1e in float64, %.1f ulp in float32\n", op.c_str(),
              tally.cases, tally.exact, tally.single);
}
Tensor optional(const GoldenCase& c, const char* key) {
  return c.tensors.count(key) ? c.tensor(key) : Tensor();
}

}  // namespace

TEST_CASE("losses of pairs of elements are PyTorch's, and so are their gradients") {
  compare("mse_loss", 12, [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::mse_loss(a, b, {reduction_of(c)});
  });
  compare("l1_loss", 12, [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::l1_loss(a, b, {reduction_of(c)});
  });
  compare("huber_loss", 16, [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::huber_loss(a, b, {c.number("delta", 1), reduction_of(c)});
  });
  compare("smooth_l1_loss", 20, [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::smooth_l1_loss(a, b, {c.number("beta", 1), reduction_of(c)});
  });
  compare("binary_cross_entropy", 16, [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::binary_cross_entropy(a, b, {optional(c, "weight"), reduction_of(c)});
  });
  compare("binary_cross_entropy_with_logits", 20,
          [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
            return nn::binary_cross_entropy_with_logits(
                a, b, {optional(c, "weight"), optional(c, "pos_weight"), reduction_of(c)});
          });
  compare("soft_margin_loss", 12, [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::soft_margin_loss(a, b, {reduction_of(c)});
  });
  compare("hinge_embedding_loss", 16, [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::hinge_embedding_loss(a, b, {c.number("margin", 1), reduction_of(c)});
  });
  compare("kl_div", 17, [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::kl_div(a, b, {c.flag("log_target", false), reduction_of(c)});
  });
  compare("poisson_nll_loss", 24, [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::poisson_nll_loss(
        a, b,
        {c.flag("log_input", true), c.flag("full", false), c.number("eps", 1e-8), reduction_of(c)});
  });
}

TEST_CASE("losses of three tensors are PyTorch's, and so are their gradients") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("gaussian_nll_loss", "losses")) {
    const Tensor a = c.leaf("input"), b = c.leaf("target"), var = c.leaf("var");
    const nn::GaussianNllOptions o{c.flag("full", false), c.number("eps", 1e-6), reduction_of(c)};
    tally.add(c, nn::gaussian_nll_loss(a, b, var, o), {{"input", a}, {"target", b}, {"var", var}});
  }
  CHECK(tally.cases == 2 * 20);
  for (const GoldenCase& c : golden_cases("triplet_margin_loss", "losses")) {
    const Tensor a = c.leaf("anchor"), b = c.leaf("positive"), far = c.leaf("negative");
    const nn::TripletMarginOptions o{c.number("margin", 1), c.number("p", 2), c.number("eps", 1e-6),
                                     c.flag("swap", false), reduction_of(c)};
    tally.add(c, nn::triplet_margin_loss(a, b, far, o),
              {{"anchor", a}, {"positive", b}, {"negative", far}});
  }
  CHECK(tally.cases == 2 * (20 + 14));
  std::printf("golden: gaussian_nll_loss, triplet_margin_loss, %d cases, off by %.1e in float64\n",
              tally.cases, tally.exact);
  compare(
      "margin_ranking_loss", 16,
      [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
        return nn::margin_ranking_loss(a, b, c.tensor("target"),
                                       {c.number("margin", 0), reduction_of(c)});
      },
      "input1", "input2");
  compare(
      "cosine_embedding_loss", 12,
      [](const GoldenCase& c, const Tensor& a, const Tensor& b) {
        return nn::cosine_embedding_loss(a, b, c.tensor("target"),
                                         {c.number("margin", 0), reduction_of(c)});
      },
      "input1", "input2");
}

TEST_CASE("losses of classes take positions and probabilities as PyTorch does") {
  auto ignored = [](const GoldenCase& c) {
    return static_cast<int64_t>(c.number("ignore_index", -100));
  };
  compare("nll_loss", 5, [&](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::nll_loss(a, b, {optional(c, "class_weight"), ignored(c), reduction_of(c)});
  });
  compare("cross_entropy", 15, [&](const GoldenCase& c, const Tensor& a, const Tensor& b) {
    return nn::cross_entropy(
        a, b,
        {optional(c, "class_weight"), ignored(c), c.number("label_smoothing", 0), reduction_of(c)});
  });
}

TEST_CASE("a loss of logits of any size is finite, and so is its gradient") {
  for (const DType dtype : {float32, float64}) {
    const Tensor x = tensor({1e30, -1e30, 1e30, -1e30, 40., -40.}, dtype).requires_grad_();
    const Tensor y = tensor({1., 0., 0., 1., 1., 0.}, dtype);
    const Values each =
        values(nn::binary_cross_entropy_with_logits(x, y, {.reduction = nn::Reduction::none}));
    CHECK(each[0] == 0);
    CHECK(each[1] == 0);
    CHECK(each[2] == doctest::Approx(1e30));
    CHECK(each[3] == doctest::Approx(1e30));
    CHECK(each[4] == doctest::Approx(4.248354255291589e-18));  // nothing cancels
    CHECK(each[5] == doctest::Approx(4.248354255291589e-18));
    nn::binary_cross_entropy_with_logits(x, y, {.reduction = nn::Reduction::sum}).backward();
    CHECK(values(x.grad()) == Values{0, 0, 1, -1, x.grad()[4].item(), x.grad()[5].item()});
    CHECK(values(nn::soft_margin_loss(x, y * 2 - 1, {nn::Reduction::none}))[2] ==
          doctest::Approx(1e30));
    const Tensor p = tensor({{1., 0.}, {0., 1.}, {0., 1.}}, dtype);
    CHECK(nn::cross_entropy(reshape(x, {3, 2}), p).item() == doctest::Approx((1e30 + 1e30) / 3));
  }
}

TEST_CASE("gradients at kinks and ends are those that the docstrings name") {
  auto slope = [](const std::function<Tensor(const Tensor&)>& f, const Values& at) {
    const Tensor x = tensor(at, float64).requires_grad_();
    sum(f(x)).backward();
    return values(x.grad());
  };
  const auto none = nn::Reduction::none;
  const Tensor zero = zeros({3}, float64);
  CHECK(slope([&](const Tensor& x) { return nn::l1_loss(x, zero, {none}); }, {0, 2, -2}) ==
        Values{0, 1, -1});
  CHECK(slope(
            [&](const Tensor& x) {
              return nn::huber_loss(x, zero, {2, none});
            },
            {2, -2, 3}) == Values{2, -2, 2});
  CHECK(slope(
            [&](const Tensor& x) {
              return nn::smooth_l1_loss(x, zero, {0, none});
            },
            {0, 2, -2}) == Values{0, 1, -1});
  CHECK(slope(
            [&](const Tensor& x) {
              return nn::huber_loss(x, zero, {2, none});
            },
            {kInf, -kInf, 0}) == Values{2, -2, 0});
  CHECK(slope(
            [](const Tensor& x) {
              return nn::hinge_embedding_loss(x, -ones({3}, float64), {1, nn::Reduction::none});
            },
            {1, 0, 2}) == Values{0, -1, 0});
  CHECK(slope(
            [&](const Tensor& x) {
              return nn::margin_ranking_loss(x, zero, zero + 1, {0, none});
            },
            {0, 1, -1}) == Values{0, 0, -1});
  // Second derivatives: 1 inside, also at 0, and 0 at delta and beyond.
  const Tensor x = tensor({0., 1., 2., 3.}, float64).requires_grad_();
  const Tensor loss = sum(nn::huber_loss(x, zeros({4}, float64), {2, none}));
  const Tensor first = grad({loss}, {x}, {.create_graph = true})[0];
  sum(first).backward();
  CHECK(values(x.grad()) == Values{1, 1, 0, 0});

  const Tensor p = tensor({0., 0., 1., 1.}, float64), y = tensor({0., 1., 0., 1.}, float64);
  CHECK(values(nn::binary_cross_entropy(p, y, {.reduction = none})) == Values{0, 100, 100, 0});
  CHECK(slope(
            [&](const Tensor& v) {
              return nn::binary_cross_entropy(v, y, {{}, none});
            },
            {0, 0, 1, 1}) == Values{0, -1e12, 1e12, 0});
  CHECK(slope(
            [&](const Tensor& v) {
              return nn::binary_cross_entropy(p, v, {{}, none});
            },
            {0, 1, 0, 1}) == Values{100, 100, -100, -100});
  CHECK(slope(
            [&](const Tensor& v) {
              return nn::kl_div(zero - 1, v, {false, none});
            },
            {0, 1, 1}) == Values{1, 2, 2});
  CHECK(slope([&](const Tensor& v) { return nn::gaussian_nll_loss(zero, zero, v); }, {0, 0, 0}) ==
        Values(3, 0.5 / 1e-6 / 3));
  CHECK(slope(
            [&](const Tensor& v) {
              return nn::poisson_nll_loss(zero, v, {.full = true, .reduction = none});
            },
            {0, 1, -1}) == Values{0, 0, 0});
}

TEST_CASE("a NaN gives NaN, and batchmean divides by the first axis alone") {
  const Tensor x = tensor({{1., kNan}, {2., 3.}}, float64), y = ones({2, 2}, float64);
  for (const Tensor& loss :
       {nn::mse_loss(x, y), nn::l1_loss(x, y), nn::huber_loss(x, y), nn::smooth_l1_loss(x, y),
        nn::soft_margin_loss(x, y), nn::kl_div(x, y), nn::poisson_nll_loss(x, y),
        nn::hinge_embedding_loss(x, y), nn::hinge_embedding_loss(x, -y),
        nn::binary_cross_entropy_with_logits(x, y), nn::gaussian_nll_loss(x, y, y),
        nn::margin_ranking_loss(x, y, y)})
    CHECK(std::isnan(loss.item()));
  const auto batchmean = nn::Reduction::batchmean;
  CHECK(nn::mse_loss(y * 3, y, {batchmean}).item() == 8);
  CHECK(nn::l1_loss(y * 3, y, {batchmean}).item() == 4);
  const Tensor z = zeros({2, 3, 5}), target = zeros({2, 5}, int64);
  const double each = std::log(3.0);
  CHECK(nn::cross_entropy(z, target, {.reduction = batchmean}).item() == doctest::Approx(5 * each));
  CHECK(nn::nll_loss(log_softmax(z, 1), target, {.reduction = batchmean}).item() ==
        doctest::Approx(5 * each));
}

TEST_CASE("losses refuse what they do not accept, and say which element is wrong") {
  const Tensor a = zeros({2, 3}), b = zeros({3, 2}), none = zeros({0, 3}), one = ones({2, 3});
  CHECK(refusal<ShapeError>([&] { nn::l1_loss(a, b); }) ==
        "l1_loss: prediction [2, 3] with target [3, 2]: need one shape");
  CHECK(refusal<ShapeError>([&] { nn::huber_loss(none, none); }) ==
        "huber_loss: prediction [0, 3] is empty: it has no mean");
  CHECK(refusal<ShapeError>([&] {
          nn::l1_loss(zeros({}), zeros({}), {nn::Reduction::batchmean});
        }) == "l1_loss: the losses have the shape []: there is no mean");
  CHECK(refusal<DtypeError>([&] { nn::kl_div(a, a.to(float64)); }) ==
        "kl_div: prediction is float32 and target is float64: need one dtype (use to())");
  CHECK(refusal<DtypeError>([&] { nn::l1_loss(zeros({2}, int64), zeros({2}, int64)); }) ==
        "l1_loss: the input is int64: need float32 or float64 (use to())");
  CHECK(refusal<ValueError>([&] { nn::huber_loss(a, a, {0}); }) ==
        "huber_loss: delta is 0: need a number above 0");
  CHECK(refusal<ValueError>([&] { nn::smooth_l1_loss(a, a, {kNan}); }) ==
        "smooth_l1_loss: beta is nan: need at least 0");
  CHECK(refusal<ValueError>([&] {
          nn::binary_cross_entropy(tensor({{0., 1.}, {1., 1.5}}), zeros({2, 2}));
        }) == "binary_cross_entropy: prediction[1, 1] is 1.5: need [0, 1]");
  CHECK(refusal<ValueError>([&] { nn::binary_cross_entropy(tensor(kNan), tensor(0.)); }) ==
        "binary_cross_entropy: prediction[] is nan: need [0, 1]");
  CHECK(refusal<ValueError>([&] { nn::binary_cross_entropy(one, -one); }) ==
        "binary_cross_entropy: target[0, 0] is -1: need [0, 1]");
  CHECK(refusal<ShapeError>([&] { nn::binary_cross_entropy(one, one, {ones({2})}); }) ==
        "binary_cross_entropy: weight is float32 [2]: need float32 and a shape that broadcasts to "
        "[2, 3]");
  CHECK(refusal<ShapeError>([&] {
          nn::binary_cross_entropy_with_logits(one, one, {.pos_weight = ones({3}, float64)});
        }) ==
        "binary_cross_entropy_with_logits: pos_weight is float64 [3]: need float32 and a "
        "shape that broadcasts to [2, 3]");
  CHECK(refusal<ValueError>([&] { nn::hinge_embedding_loss(one, a); }) ==
        "hinge_embedding_loss: target[0, 0] is 0: need 1 or -1");
  CHECK(refusal<IndexError>([&] {
          nn::cross_entropy(zeros({2, 3, 2}), tensor({{0, 1}, {2, 3}}));
        }) == "cross_entropy: target[1, 1] is 3, but logits [2, 3, 2] allow 0..2");
  CHECK(refusal<DtypeError>([&] {
          nn::cross_entropy(a, zeros({2, 3}, float64));
        }) == "cross_entropy: logits is float32 and target is float64: need one dtype (use to())");
  CHECK(refusal<ShapeError>([&] { nn::cross_entropy(none, none); }) ==
        "cross_entropy: the losses have the shape [0]: there is no mean");
  CHECK(refusal<ShapeError>([&] { nn::gaussian_nll_loss(a, a, ones({3})); }) ==
        "gaussian_nll_loss: [3] beside [2, 3]: need [2, 3]");
  CHECK(refusal<ValueError>([&] { nn::gaussian_nll_loss(a, a, -one); }) ==
        "gaussian_nll_loss: a variance is below 0");
  CHECK(refusal<ValueError>([&] { nn::gaussian_nll_loss(a, a, one, {.eps = 0}); }) ==
        "gaussian_nll_loss: eps is 0: need a number above 0");
  CHECK(refusal<ShapeError>([&] { nn::margin_ranking_loss(a, a, zeros({2})); }) ==
        "margin_ranking_loss: [2] beside [2, 3]: need [2, 3]");
  CHECK(refusal<ShapeError>([&] { nn::cosine_embedding_loss(a, a, a); }) ==
        "cosine_embedding_loss: [2, 3] beside [2, 3]: need [2]");
  CHECK(refusal<ShapeError>([&] {
          nn::cosine_embedding_loss(zeros({1, 2, 3}), a, a);
        }) == "cosine_embedding_loss: a [1, 2, 3] has rank 3: need [N, D] or [D]");
  CHECK(refusal<ValueError>([&] { nn::triplet_margin_loss(a, a, a, {.margin = 0}); }) ==
        "triplet_margin_loss: margin is 0: need a number above 0");
  CHECK(refusal<ShapeError>([&] { nn::triplet_margin_loss(zeros({}), zeros({}), zeros({})); }) ==
        "triplet_margin_loss: anchor has rank 0: need [.., D]");
  CHECK(refusal<ShapeError>([&] { nn::triplet_margin_loss(a, a, b); }) ==
        "triplet_margin_loss: [3, 2] beside [2, 3]: need [2, 3]");
}

TEST_CASE("losses of three tensors name themselves when they refuse integers") {
  const Tensor x = ones({2, 3}, int64), y = ones({2}, int64);
  const std::string rest = ": the input is int64: need float32 or float64 (use to())";
  CHECK(refusal<DtypeError>([&] { nn::gaussian_nll_loss(x, x, x); }) == "gaussian_nll_loss" + rest);
  CHECK(refusal<DtypeError>([&] { nn::margin_ranking_loss(x, x, x); }) ==
        "margin_ranking_loss" + rest);
  CHECK(refusal<DtypeError>([&] { nn::cosine_embedding_loss(x, x, y); }) ==
        "cosine_embedding_loss" + rest);
  CHECK(refusal<DtypeError>([&] { nn::triplet_margin_loss(x, x, x); }) ==
        "triplet_margin_loss" + rest);
}

TEST_CASE("losses of positions take sizes of 0 and 1 and any layout") {
  for (const Shape& shape : {Shape{0, 3, 5}, Shape{2, 3, 0}, Shape{2, 3, 1, 0}, Shape{1, 1, 1}}) {
    Shape rows{shape[0]};
    for (int d = 2; d < shape.rank(); ++d) rows.push_back(shape[d]);
    const Tensor x = zeros(shape).requires_grad_(), target = zeros(rows, int64);
    for (const bool probable : {false, true}) {
      const Tensor y = probable ? zeros(shape) : target;
      CHECK(nn::cross_entropy(x, y, {.reduction = nn::Reduction::none}).shape() == rows);
      const Tensor loss = nn::cross_entropy(x, y, {.reduction = nn::Reduction::sum});
      loss.backward();
      CHECK(loss.item() == 0);
    }
    CHECK(nn::nll_loss(x, target, {.reduction = nn::Reduction::sum}).item() == 0);
    if (x.numel() == 0) CHECK_THROWS_AS(nn::cross_entropy(x, target), ShapeError);
  }
  const Tensor z = noise({2, 3, 4}, 1), target = argmax(noise({2, 3, 4}, 2), 1);
  const Tensor turned = z.transpose(0, 2).contiguous().transpose(0, 2),
               other = target.t().contiguous().t();
  CHECK(same_bits(nn::cross_entropy(turned, other), nn::cross_entropy(z, target)));
  const Tensor rows = z.transpose(1, 2).reshape({8, 3}), label = target.reshape({8});
  CHECK(same_bits(nn::cross_entropy(z, target), nn::cross_entropy(rows, label)));
}

TEST_CASE("mse_loss records one node, and its gradient one kernel with the bits of three") {
  const Tensor a = noise({70, 50}, 1).requires_grad_(), b = noise({70, 50}, 2).requires_grad_();
  const int64_t before = memory_stats().live_nodes;
  const Tensor loss = nn::mse_loss(a, b);
  CHECK(memory_stats().live_nodes == before + 1);
  loss.backward();
  const Tensor u = a.detach().requires_grad_(), v = b.detach().requires_grad_();
  const Tensor plain = mean(square(u - v));
  plain.backward();
  CHECK(same_bits(loss, plain));
  CHECK(same_bits(a.grad(), u.grad()));
  CHECK(same_bits(b.grad(), v.grad()));
  const Tensor large = full({4}, 1e30);
  CHECK(std::isinf(nn::mse_loss(large, -large).item()));
  CHECK(nn::mse_loss(full({4}, 1.5e19), zeros({4})).item() == doctest::Approx(2.25e38));
}

TEST_CASE("losses have the same bits for any number of threads") {
  const Tensor x = noise({600, 600}, 1), y = sigmoid(noise({600, 600}, 2));
  const Tensor scores = noise({60, 10, 600}, 3), target = argmax(noise({60, 10, 600}, 4), 1);
  auto with_gradient = [](const Tensor& input, const std::function<Tensor(const Tensor&)>& f) {
    return [=]() -> std::vector<Tensor> {
      const Tensor leaf = input.detach().requires_grad_(), loss = f(leaf);
      loss.backward();
      return {loss.detach(), leaf.grad()};
    };
  };
  same_with_threads(with_gradient(x, [=](const Tensor& v) { return nn::mse_loss(v, y); }));
  same_with_threads(with_gradient(
      x, [=](const Tensor& v) { return nn::binary_cross_entropy_with_logits(v, y); }));
  same_with_threads(
      with_gradient(y, [=](const Tensor& v) { return nn::binary_cross_entropy(v, y); }));
  same_with_threads(
      with_gradient(scores, [=](const Tensor& v) { return nn::cross_entropy(v, target); }));
}
