#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>
#include <functional>
#include <thread>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// Pooling and the losses of classes against PyTorch's, and the layers that pool and drop channels.

namespace {

void print(const char* op, const GoldenTally& tally) {
  std::printf("golden: %s, %d cases, off by %.1e in float64, %.1f ulp in float32\n", op,
              tally.cases, tally.exact, tally.single);
}

nn::Reduction reduction_of(const GoldenCase& c) {
  const std::string reduction = c.option("reduction", "mean");
  return reduction == "sum"    ? nn::Reduction::sum
         : reduction == "none" ? nn::Reduction::none
                               : nn::Reduction::mean;
}

}  // namespace

TEST_CASE("max_pool2d is PyTorch's, and so are its gradients: ties, NaN and infinities too") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("max_pool2d")) {
    const Tensor x = c.leaf("input");
    const MaxPool2dOptions options{.stride = c.size("stride", {}),
                                   .padding = c.size("padding", 0),
                                   .dilation = c.size("dilation", 1),
                                   .ceil_mode = c.flag("ceil_mode", false)};
    tally.add(c, max_pool2d(x, c.size("kernel", {}), options), {{"input", x}});
  }
  CHECK(tally.cases == 2 * 20);
  CHECK(tally.exact == 0);
  print("max_pool2d", tally);
}

TEST_CASE("avg_pool2d is PyTorch's, and so are its gradients") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("avg_pool2d")) {
    const Tensor x = c.leaf("input");
    const AvgPool2dOptions options{.stride = c.size("stride", {}),
                                   .padding = c.size("padding", 0),
                                   .ceil_mode = c.flag("ceil_mode", false),
                                   .count_include_pad = c.flag("count_include_pad", true)};
    tally.add(c, avg_pool2d(x, c.size("kernel", {}), options), {{"input", x}});
  }
  CHECK(tally.cases == 2 * 14);
  print("avg_pool2d", tally);
}

TEST_CASE("nll_loss and cross_entropy are PyTorch's, and so are their gradients") {
  GoldenTally nll, entropy;
  for (const GoldenCase& c : golden_cases("nll_loss")) {
    const Tensor x = c.leaf("input");
    const auto weight = c.tensors.count("class_weight") ? c.tensor("class_weight") : Tensor();
    const nn::NllOptions options{weight, static_cast<int64_t>(c.number("ignore_index", -100)),
                                 reduction_of(c)};
    nll.add(c, nn::nll_loss(x, c.tensor("target"), options), {{"input", x}});
  }
  for (const GoldenCase& c : golden_cases("cross_entropy")) {
    const Tensor x = c.leaf("input");
    const auto weight = c.tensors.count("class_weight") ? c.tensor("class_weight") : Tensor();
    const nn::CrossEntropyOptions options{weight,
                                          static_cast<int64_t>(c.number("ignore_index", -100)),
                                          c.number("label_smoothing", 0), reduction_of(c)};
    entropy.add(c, nn::cross_entropy(x, c.tensor("target"), options), {{"input", x}});
  }
  CHECK(nll.cases == 2 * 10);
  CHECK(entropy.cases == 2 * 15);
  print("nll_loss", nll);
  print("cross_entropy", entropy);
}

TEST_CASE("nll_loss of log_softmax is cross_entropy, bit for bit") {
  manual_seed(3);
  for (DType dtype : {float32, float64})
    for (int64_t k : {3, 40, 1000}) {
      const Tensor x = randn({70, k}, dtype) * 3, target = randint(0, k, {70});
      const Tensor weight = rand({k}, dtype) + 0.1;
      for (auto reduction : {nn::Reduction::mean, nn::Reduction::sum, nn::Reduction::none})
        CHECK(values(nn::nll_loss(log_softmax(x, 1), target, {weight, 0, reduction})) ==
              values(nn::cross_entropy(x, target, {weight, 0, 0, reduction})));
    }
}

TEST_CASE("losses read any layout, and record one node") {
  manual_seed(4);
  const Tensor x = randn({6, 4}, float64), target = randint(0, 4, {12});
  const Tensor across = x.t().contiguous().t().requires_grad_(),
               strided = slice(target, 0, 0, 12, 2);
  const Tensor plain = x.clone().requires_grad_();
  CHECK_FALSE(across.is_contiguous());
  const int64_t before = memory_stats().live_nodes;
  Tensor loss = nn::cross_entropy(across, strided);
  CHECK(memory_stats().live_nodes == before + 1);
  loss.backward();
  nn::cross_entropy(plain, strided.contiguous()).backward();
  CHECK(values(across.grad()) == values(plain.grad()));
  plain.zero_grad(), across.zero_grad();
  loss = nn::nll_loss(across, strided);
  loss.backward();
  nn::nll_loss(plain, strided.contiguous()).backward();
  CHECK(values(across.grad()) == values(plain.grad()));
}

TEST_CASE("nll_loss refuses what cross_entropy refuses, and neither takes a weight to train") {
  const Tensor none = zeros({0, 3}), no_label = zeros({0}, int64), two = zeros({2, 3});
  CHECK(refusal<ShapeError>([&] { nn::nll_loss(none, no_label); }) ==
        "nll_loss: log_probs [0, 3] are an empty batch: it has no mean");
  CHECK(nn::nll_loss(none, no_label, {.reduction = nn::Reduction::sum}).item() == 0);
  CHECK(refusal<ShapeError>([&] {
          nn::nll_loss(two, tensor({-100, -100}));
        }) == "nll_loss: every target is ignored or weighs nothing: there is no mean");
  CHECK(refusal<IndexError>([&] {
          nn::nll_loss(two, tensor({0, 3}));
        }) == "nll_loss: target[1] is 3, but log_probs [2, 3] allow 0..2");
  CHECK(refusal<DtypeError>([&] {
          nn::nll_loss(two, tensor({0., 1.}));
        }) == "nll_loss: target is float32: need int64 class numbers");
  CHECK(refusal<ShapeError>([&] { nn::nll_loss(two, tensor({0})); }) ==
        "nll_loss: log_probs [2, 3] with target [1]: need [N, K, d1, ..] and [N, d1, ..]");
  CHECK(refusal<ShapeError>([&] {
          nn::nll_loss(two, tensor({0, 1}), {.weight = ones({2})});
        }) == "nll_loss: weight is float32 [2]: need float32 [3]");
  CHECK(refusal<ShapeError>([&] {
          nn::nll_loss(two, tensor({0, 1}), {.weight = ones({3}, float64)});
        }) == "nll_loss: weight is float64 [3]: need float32 [3]");
  CHECK(refusal<DtypeError>([&] {
          nn::nll_loss(zeros({2, 3}, int64), tensor({0, 1}));
        }) == "nll_loss: the input is int64: need float32 or float64 (use to())");
  const Tensor weight = ones({3}).requires_grad_();
  CHECK(refusal<GraphError>([&] {
          nn::nll_loss(two, tensor({0, 1}), {.weight = weight});
        }) ==
        "nll_loss: weight requires a gradient, which this loss does not compute: detach() it");
  CHECK(refusal<GraphError>([&] {
          nn::cross_entropy(two, tensor({0, 1}), {.weight = weight});
        }) ==
        "cross_entropy: weight requires a gradient, which this loss does not compute: detach() it");
}

TEST_CASE("pooling refuses windows that do not fit") {
  const Tensor x = zeros({1, 2, 4, 5});
  auto pool = [&](Size2d kernel, const MaxPool2dOptions& o) {
    return [=] { max_pool2d(x, kernel, o); };
  };
  CHECK(refusal<ShapeError>([] {
          avg_pool2d(zeros({4, 5}), 2);
        }) == "avg_pool2d: x [4, 5] has rank 2: need [N, C, H, W] or [C, H, W]");
  CHECK(refusal<ShapeError>([] {
          max_pool2d(zeros({1, 2, 0, 5}), 1);
        }) == "max_pool2d: x [1, 2, 0, 5] has images without pixels: need H and W of at least 1");
  CHECK(refusal<ShapeError>(pool({2, 6}, {})) ==
        "max_pool2d: kernel [2, 6] with dilation [1, 1] does not fit into x [1, 2, 4, 5] with "
        "padding [0, 0]: need dilation (kernel - 1) + 1 <= size + 2 padding");
  CHECK(refusal<ShapeError>(pool(3, {.dilation = 2})) ==
        "max_pool2d: kernel [3, 3] with dilation [2, 2] does not fit into x [1, 2, 4, 5] with "
        "padding [0, 0]: need dilation (kernel - 1) + 1 <= size + 2 padding");
  CHECK(refusal<ValueError>(pool({0, 2}, {})) == "max_pool2d: kernel is [0, 2]: need at least 1");
  CHECK(refusal<ValueError>(pool(2, {.stride = {1, 0}})) ==
        "max_pool2d: stride is [1, 0]: need at least 1");
  CHECK(refusal<ValueError>(pool(2, {.dilation = -1})) ==
        "max_pool2d: dilation is [-1, -1]: need at least 1");
  CHECK(refusal<ValueError>(pool(2, {.padding = {0, -1}})) ==
        "max_pool2d: padding is [0, -1]: need at least 0");
  CHECK(refusal<ValueError>(pool({2, 3}, {.padding = {1, 2}})) ==
        "max_pool2d: padding [1, 2] with kernel [2, 3]: need at most half of it");
  CHECK(refusal<ValueError>([] {
          max_pool2d(zeros({1, 1, 2}), {1, 2}, {.padding = {0, 1}, .dilation = {1, 3}});
        }) ==
        "max_pool2d: dilation [1, 3] steps over x [1, 1, 2] with padding: need at most its "
        "size");
  CHECK(refusal<DtypeError>([&] {
          max_pool2d(zeros({1, 4, 4}, int64), 2);
        }) == "max_pool2d: the input is int64: need float32 or float64 (use to())");
  CHECK(refusal<DtypeError>([&] {
          avg_pool2d(zeros({1, 4, 4}, boolean), 2);
        }) == "avg_pool2d: the input is bool: need float32 or float64 (use to())");
  CHECK(refusal<ValueError>([&] { max_pool2d(Tensor(), 2); }) ==
        "max_pool2d: an input is an undefined tensor (as a gradient is before backward())");
  const int64_t huge = int64_t{1} << 40;
  CHECK(refusal<SizeError>([&] { max_pool2d(x, INT64_MAX, {.padding = INT64_MAX / 2}); }) ==
        "max_pool2d: 4 + 9223372036854775806 is too large: sizes end at 9223372036854775807");
  CHECK(refusal<SizeError>([&] {
          max_pool2d(x, {huge, 1}, {.padding = {huge / 2, 0}});
        }) ==
        "max_pool2d: kernel [1099511627776, 1] spans too much of x [1, 2, 4, 5]: need less than "
        "2^31 pixels");
  // The largest window that is allowed, for which there is no memory, and one that is larger.
  const int64_t columns = (int64_t{1} << 30) + 10, kernel = (int64_t{1} << 30) - 10;
  const Tensor wide = zeros({1, 1, 1, 1}).expand({1, 1, 2, columns});
  set_memory_limit(memory_stats().system_bytes + (1 << 20));
  CHECK_THROWS_AS(max_pool2d(wide, {2, kernel}), OutOfMemory);
  set_memory_limit(0);
  CHECK(refusal<SizeError>([&] {
          max_pool2d(wide, {2, kernel + 1});
        }) ==
        "max_pool2d: kernel [2, 1073741815] spans too much of x [1, 1, 2, 1073741834]: need less "
        "than 2^31 pixels");
  CHECK(max_pool2d(zeros({0, 2, 4, 4}), 2).shape() == Shape{0, 2, 2, 2});
  CHECK(avg_pool2d(zeros({3, 0, 4, 4}), 2).shape() == Shape{3, 0, 2, 2});
}

TEST_CASE("pooling and losses have the same bits for any number of threads") {
  manual_seed(6);
  const Tensor x = randn({24, 16, 40, 42}), scores = randn({3000, 100}),
               target = randint(0, 100, {3000});
  auto with_gradient = [](const Tensor& input, const std::function<Tensor(const Tensor&)>& f) {
    return [=]() -> std::vector<Tensor> {
      const Tensor leaf = input.detach().requires_grad_();
      const Tensor y = f(leaf);
      sum(y * y).backward();
      return {y.detach(), leaf.grad()};
    };
  };
  for (const Size2d& kernel : {Size2d(2), Size2d(3)}) {
    same_with_threads([&]() -> std::vector<Tensor> { return {max_pool2d(x, kernel)}; });
    same_with_threads([&]() -> std::vector<Tensor> { return {avg_pool2d(x, kernel)}; });
    same_with_threads(with_gradient(x, [=](const Tensor& v) { return max_pool2d(v, kernel); }));
    same_with_threads(with_gradient(x, [=](const Tensor& v) { return avg_pool2d(v, kernel); }));
  }
  same_with_threads(
      with_gradient(scores, [=](const Tensor& v) { return nn::cross_entropy(v, target); }));
}

TEST_CASE("pooling layers pool, and Dropout2d drops whole channels") {
  manual_seed(9);
  const Tensor x = randn({2, 3, 6, 6});
  CHECK(values(nn::MaxPool2d(3, {.stride = 2})(x)) == values(max_pool2d(x, 3, {.stride = 2})));
  CHECK(values(nn::AvgPool2d({2, 3})(x)) == values(avg_pool2d(x, {2, 3})));
  nn::Sequential net{nn::MaxPool2d(2), nn::Dropout2d(0.5), nn::Flatten()};
  CHECK(net(x).shape() == Shape{2, 27});

  nn::Dropout2d drop(0.25);
  for (const Shape& shape : {Shape{50, 40, 2, 3}, Shape{2000, 2, 3}}) {
    const Values y = values(drop(ones(shape)));
    int64_t dropped = 0;
    for (std::size_t i = 0; i < y.size(); i += 6) {
      for (std::size_t j = 0; j < 6; ++j) CHECK(y[i + j] == y[i]);
      CHECK((y[i] == 0 || y[i] == doctest::Approx(1 / 0.75)));
      dropped += y[i] == 0;
    }
    CHECK(std::abs(static_cast<double>(dropped) - 500) < 100);  // 5 standard deviations
  }
  drop.eval();
  CHECK(values(drop(x)) == values(x));
  CHECK(refusal<ShapeError>([&] {
          drop(zeros({2, 3}));
        }) == "Dropout2d: x [2, 3] has rank 2: need [N, C, H, W] or [C, H, W]");
  CHECK(refusal<ValueError>([&] { nn::Dropout2d(1.5); }) == "Dropout2d: p is 1.5: need [0, 1]");
}
