#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>
#include <functional>

#include "golden.hpp"
#include "support.hpp"

using namespace descent;

// Functions and layers that normalise against PyTorch's, their running statistics, and what they
// refuse.

namespace {

void print(const char* op, const GoldenTally& tally) {
  std::printf("golden: %s, %d cases, off by %.1e in float64, %.1f ulp in float32\n", op,
              tally.cases, tally.exact, tally.single);
}

/// Compares all cases of `op`, called as f(case, x, weight, bias).
using Call = std::function<Tensor(const GoldenCase&, const Tensor&, const Tensor&, const Tensor&)>;
void compare(const char* op, int cases, const Call& f) {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases(op, "normalization")) {
    const Tensor x = c.leaf("input"), w = c.leaf("weight"), b = c.leaf("bias");
    tally.add(c, f(c, x, w, b), {{"input", x}, {"weight", w}, {"bias", b}});
  }
  CHECK(tally.cases == 2 * cases);
  print(op, tally);
}
double eps_of(const GoldenCase& c) { return c.number("eps", 1e-5); }
Shape shape_of(const GoldenCase& c) { return golden_shape(c.option("shape", "")); }
Tensor copy_of(const GoldenCase& c, const char* key) {
  return c.tensors.count(key) ? c.tensor(key).clone() : Tensor();
}

/// Compares a layer in both modes, once it has loaded the state of the case by name.
template <class Layer>
void compare_layer(const char* op, int cases, const std::function<Layer(const GoldenCase&)>& make) {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases(op, "normalization")) {
    CAPTURE(c.name);
    Layer layer = make(c);
    layer.to(c.dtype);
    NamedTensors state;
    for (const auto& [name, t] : c.tensors)
      if (name != "input" && !name.starts_with("output") && !name.starts_with("grad_"))
        state.emplace_back(name, t);
    CHECK(layer.state_dict().size() == state.size());
    layer.load_state_dict(state);
    layer.train(c.option("mode", "") == "train");
    const Tensor x = c.leaf("input");
    std::vector<Tensor> outputs = {layer(x)};
    for (const auto& [name, t] : layer.named_buffers()) outputs.push_back(t);
    std::map<std::string, Tensor> leaves = {{"input", x}};
    for (const auto& [name, p] : layer.named_parameters()) leaves[name] = p;
    tally.add(c, outputs, leaves);
  }
  CHECK(tally.cases == 2 * cases);
  print(op, tally);
}
nn::BatchNormLayerOptions batch_options(const GoldenCase& c) {
  nn::BatchNormLayerOptions o{.eps = eps_of(c),
                              .affine = c.flag("affine", true),
                              .track_running_stats = c.flag("track_running_stats", true),
                              .bias = c.flag("bias", true)};
  if (c.option("momentum", "") == "None") o.momentum = {};
  else o.momentum = c.number("momentum", 0.1);
  return o;
}

}  // namespace

TEST_CASE("functions that normalise are PyTorch's, and so are their gradients") {
  compare("layer_norm", 9, [](auto& c, auto& x, auto& w, auto& b) {
    return layer_norm(x, shape_of(c), w, b, eps_of(c));
  });
  compare("rms_norm", 9, [](auto& c, auto& x, auto& w, auto&) {
    if (eps_of(c) < 1e-6) return rms_norm(x, shape_of(c), w);  // PyTorch's default
    return rms_norm(x, shape_of(c), w, eps_of(c));
  });
  compare("group_norm", 7, [](auto& c, auto& x, auto& w, auto& b) {
    return group_norm(x, static_cast<int64_t>(c.number("groups", 0)), w, b, eps_of(c));
  });
  compare("instance_norm", 5,
          [](auto& c, auto& x, auto& w, auto& b) { return instance_norm(x, w, b, eps_of(c)); });
}

TEST_CASE("batch_norm and the running statistics that it leaves are PyTorch's") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("batch_norm", "normalization")) {
    const Tensor x = c.leaf("input"), w = c.leaf("weight"), b = c.leaf("bias");
    const Tensor mean = copy_of(c, "running_mean"), var = copy_of(c, "running_var");
    std::vector<Tensor> outputs = {batch_norm(
        x, mean, var, w, b, {c.flag("training", false), c.number("momentum", 0.1), eps_of(c)})};
    if (mean.defined()) outputs.push_back(mean), outputs.push_back(var);
    tally.add(c, outputs, {{"input", x}, {"weight", w}, {"bias", b}});
  }
  CHECK(tally.cases == 2 * 13);
  print("batch_norm", tally);
}

TEST_CASE("layers that normalise load PyTorch's state dicts by name and give its outputs") {
  compare_layer<nn::BatchNorm1d>("BatchNorm1d", 10, [](const GoldenCase& c) {
    return nn::BatchNorm1d(c.tensor("input").size(1), batch_options(c));
  });
  compare_layer<nn::BatchNorm2d>("BatchNorm2d", 10, [](const GoldenCase& c) {
    return nn::BatchNorm2d(c.tensor("input").size(1), batch_options(c));
  });
  compare_layer<nn::LayerNorm>("LayerNorm", 8, [](const GoldenCase& c) {
    const bool two = c.name.starts_with("LayerNorm/two");
    return nn::LayerNorm(two ? Dims{3, 2} : Dims{c.tensor("input").size(-1)},
                         {.eps = eps_of(c),
                          .elementwise_affine = c.flag("elementwise_affine", true),
                          .bias = c.flag("bias", true)});
  });
  compare_layer<nn::RMSNorm>("RMSNorm", 6, [](const GoldenCase& c) {
    const bool two = c.name.starts_with("RMSNorm/two");
    nn::RMSNormOptions o{.elementwise_affine = c.flag("elementwise_affine", true)};
    if (two) o.eps = eps_of(c);
    return nn::RMSNorm(two ? Dims{3, 2} : Dims{c.tensor("input").size(-1)}, o);
  });
  compare_layer<nn::GroupNorm>("GroupNorm", 8, [](const GoldenCase& c) {
    const int64_t groups = c.name.starts_with("GroupNorm/plain")   ? 2
                           : c.name.starts_with("GroupNorm/image") ? 1
                                                                   : 3;
    return nn::GroupNorm(
        groups, c.tensor("input").size(1),
        {.eps = eps_of(c), .affine = c.flag("affine", true), .bias = c.flag("bias", true)});
  });
  compare_layer<nn::InstanceNorm2d>("InstanceNorm2d", 8, [](const GoldenCase& c) {
    return nn::InstanceNorm2d(
        c.tensor("input").size(-3),
        {.eps = eps_of(c), .affine = c.flag("affine", false), .bias = c.flag("bias", true)});
  });
}

TEST_CASE("layers with parametrized weights load PyTorch's state dicts and give its outputs") {
  const auto layer_of = [](const GoldenCase& c) -> nn::Weighted {
    if (c.name.find("conv2d") != std::string::npos)
      return nn::Conv2d(4, 2, {2, 1}, {.stride = 2, .padding = 1, .groups = 2});
    return nn::Linear(3, 2, {.bias = c.tensors.count("bias") != 0});
  };
  compare_layer<nn::Parametrized>("weight_norm", 12, [=](const GoldenCase& c) {
    if (c.option("dim", "") == "None") return weight_norm(layer_of(c), {.dim = {}});
    return weight_norm(layer_of(c), {.dim = static_cast<int64_t>(c.number("dim", 0))});
  });
  compare_layer<nn::Parametrized>("spectral_norm", 8, [=](const GoldenCase& c) {
    return spectral_norm(
        layer_of(c), {.n_power_iterations = static_cast<int64_t>(c.number("n_power_iterations", 1)),
                      .eps = c.number("eps", 1e-12)});
  });
}

TEST_CASE("weight_norm begins with the weight of its layer, and spectral_norm divides it") {
  manual_seed(5);
  nn::Linear linear(7, 5);
  const Tensor w = linear.weight.detach().clone();
  const nn::Parametrized normed = weight_norm(linear);
  CHECK(norm(normed.weight() - w).item() < 1e-6);
  CHECK(same_bits(normed.get_parameter("bias"), linear.bias));
  nn::Parametrized divided = spectral_norm(nn::Conv2d(3, 4, {2, 2}));
  for (int i = 0; i < 100; ++i) (void)divided(ones({1, 3, 2, 2}));
  divided.eval();
  const auto state = divided.state_dict();
  const Tensor whole = to(divided.weight().detach().reshape({4, 12}), float64);
  Tensor v = ones({12}, float64);  // the largest singular value, by power iterations
  for (int i = 0; i < 1000; ++i) v = matmul(whole.t(), matmul(whole, v / norm(v)));
  CHECK(std::sqrt(norm(v).item()) == doctest::Approx(1).epsilon(1e-5));
  CHECK(same_bits(divided.state_dict(), state));  // evaluation changes no vector
  struct Net : nn::Module {
    nn::Parametrized fc = register_module("fc", weight_norm(nn::Linear(3, 2), {.dim = {}}));
    Tensor forward(const In& x) const override { return fc(x); }
  };
  Net net;
  CHECK(net.get_parameter("fc.parametrizations.weight.original0").shape() == Shape{});
  net.to(float64);
  CHECK(net(ones({1, 3}, float64)).dtype() == float64);
  nn::Linear wide(3, 2);
  wide.to(float64);
  CHECK(spectral_norm(wide)(ones({1, 3}, float64)).dtype() == float64);
  CHECK(refusal<IndexError>([] { weight_norm(nn::Linear(3, 2), {.dim = 2}); }) ==
        "size: dim 2 is out of range for rank 2: need -2..1");
  CHECK(standard_error([&] { net(ones({1, 3}, float64)); }) == "");
}

TEST_CASE("two calls of a layer with spectral_norm may be differentiated together") {
  manual_seed(6);
  const nn::Parametrized layer = spectral_norm(nn::Linear(3, 2));
  const Tensor first = layer(ones({1, 3})), second = layer(full({1, 3}, 2));
  (sum(first) + sum(second)).backward();
  CHECK(layer.get_parameter("parametrizations.weight.original").grad().defined());
}

TEST_CASE("parameters and buffers of layers that normalise start as PyTorch's") {
  const auto names = [](const NamedTensors& all) {
    std::string text;
    for (const auto& [name, t] : all)
      text += name + str(t.shape()) + str(t.dtype()) + "=" + str(values(t)) + " ";
    return text;
  };
  CHECK(names(nn::BatchNorm1d(2).state_dict()) ==
        "weight[2]float32=[1, 1] bias[2]float32=[0, 0] running_mean[2]float32=[0, 0] "
        "running_var[2]float32=[1, 1] num_batches_tracked[]int64=[0] ");
  CHECK(nn::BatchNorm2d(2, {.affine = false, .track_running_stats = false}).state_dict().empty());
  CHECK(names(nn::LayerNorm({1, 2}).named_parameters()) ==
        "weight[1, 2]float32=[1, 1] bias[1, 2]float32=[0, 0] ");
  CHECK(names(nn::RMSNorm(2).named_parameters()) == "weight[2]float32=[1, 1] ");
  CHECK(names(nn::GroupNorm(1, 2).named_parameters()) ==
        "weight[2]float32=[1, 1] bias[2]float32=[0, 0] ");
  CHECK(nn::InstanceNorm2d(2).state_dict().empty());
}

TEST_CASE("equal numbers become exactly the bias, and numbers far from 0 lose nothing") {
  const Tensor w = tensor({3., -2., 0.5}), b = tensor({0.1, 7., -1.});
  for (double v : {0.1, 1e30, -3e-30}) {
    CHECK(values(layer_norm(full({2, 3}, v), {3}, w, b))[4] == 7);
    const Values y =
        values(batch_norm(full({40, 3}, v), Tensor(), Tensor(), w, b, {.training = true}));
    CHECK(y[5] == -1);
    CHECK(values(group_norm(full({2, 3, 70}, v), 1, w, b))[80] == 7);
    CHECK(values(instance_norm(full({2, 3, 70}, v), w, b))[150] == -1);
  }
  const Tensor x = noise({4, 1}, 1).requires_grad_();  // a group of one element
  const Tensor y = layer_norm(x, {1}, ones({1}), full({1}, 7));
  CHECK(values(y) == Values{7, 7, 7, 7});
  CHECK(values(grad({y}, {x}, {}, {noise({4, 1}, 2)})[0]) == Values{0, 0, 0, 0});
  // float32 holds these whole numbers, but not their mean.
  const Tensor far = tensor({16777216., 16777218., 16777222., 16777226.}),
               near = tensor({0., 2., 6., 10.});
  CHECK(same_bits(layer_norm(far, {4}), layer_norm(near, {4})));
  CHECK(same_bits(instance_norm(far.reshape({1, 1, 4})), instance_norm(near.reshape({1, 1, 4}))));
}

TEST_CASE("a NaN or an infinity spoils its own group alone") {
  for (double bad : {kNan, kInf, -kInf}) {
    const Tensor x = noise({2, 3, 20}, 1);
    x.narrow(0, 1, 1).narrow(1, 2, 1).narrow(2, 5, 1).fill_(bad);
    auto spoilt = [](const Tensor& y) {
      Ints rows;
      for (int64_t i = 0; i < y.size(0); ++i)
        for (int64_t j = 0; j < y.size(1); ++j)
          rows.push_back(isnan(y[i][j]).sum().item<int64_t>());
      return rows;
    };
    CHECK(spoilt(layer_norm(x, {20})) == Ints{0, 0, 0, 0, 0, 20});
    CHECK(spoilt(layer_norm(x, {3, 20})) == Ints{0, 0, 0, 20, 20, 20});
    CHECK(spoilt(instance_norm(x)) == Ints{0, 0, 0, 0, 0, 20});
    CHECK(spoilt(group_norm(x, 3)) == Ints{0, 0, 0, 0, 0, 20});
    CHECK(spoilt(batch_norm(x, Tensor(), Tensor(), Tensor(), Tensor(), {.training = true})) ==
          Ints{0, 0, 20, 0, 0, 20});
  }
}

TEST_CASE("values and gradients are those of the definition, for any shape and layout") {
  enum Op { batch, batch_given, instance, group, last, root };
  int compared = 0;
  double worst = 0;
  const std::vector<Shape> shapes = {
      {2, 3, 16},  {33, 2, 16}, {70, 1, 33}, {3, 2, 1025}, {2, 1, 2100}, {40, 3, 2}, {1100, 2, 1},
      {7, 40, 15}, {17, 4, 31}, {50, 2, 8},  {16, 2, 64},  {1, 6, 2050}, {5, 8, 7},  {2, 64, 40}};
  for (const Shape& shape : shapes)
    for (const Op op : {batch, batch_given, instance, group, last, root})
      for (const bool turned : {false, true})
        for (const DType dtype : {float32, float64}) {
          if (op == instance && shape[2] == 1) continue;
          CAPTURE(str(shape));
          CAPTURE(op);
          CAPTURE(str(dtype));
          const bool rows = op == last || op == root;
          const Shape each{shape[rows ? 2 : 1]};
          const Tensor exact = noise(shape, 1).to(float64) + 3, g = noise(shape, 2).to(float64),
                       w = noise(each, 3).to(float64), b = noise(each, 4).to(float64),
                       mean = noise(each, 5).to(float64), var = square(mean) + 0.5;
          auto ours = [&](const Tensor& x, const Tensor& weight, const Tensor& bias) {
            if (rows)
              return op == last ? layer_norm(x, each, weight, bias)
                                : rms_norm(x, each, weight) + bias;
            if (op == instance) return instance_norm(x, weight, bias);
            if (op == group) return group_norm(x, each[0] % 2 == 0 ? 2 : 1, weight, bias);
            return batch_norm(x, mean.to(dtype), var.to(dtype), weight, bias,
                              {.training = op == batch});
          };
          auto plain = [&](const Tensor& x, const Tensor& weight, const Tensor& bias) {
            const Shape view = rows ? each : Shape{each[0], 1};
            const Dims dims = rows ? Dims{2} : op == batch ? Dims{0, 2} : Dims{-1};
            const Tensor v = op == group ? x.reshape({shape[0], each[0] % 2 == 0 ? 2 : 1, -1}) : x;
            const Tensor middle = op == root          ? zeros({}, float64)
                                  : op == batch_given ? mean.to(dtype).to(float64).reshape(view)
                                                      : descent::mean(v, dims, true);
            const double eps = op == root ? (dtype == float32 ? 0x1p-23 : 0x1p-52) : 1e-5;
            const Tensor spread = op == batch_given ? var.to(dtype).to(float64).reshape(view)
                                                    : descent::mean(square(v - middle), dims, true);
            const Tensor y = ((v - middle) / sqrt(spread + eps)).reshape(shape);
            return y * weight.reshape(view) + bias.reshape(view);
          };
          auto results = [&](auto f, DType as, bool turn) {
            Tensor x = exact.to(as).clone();
            if (turn) x = x.transpose(0, 2).clone().transpose(0, 2);
            x = x.detach().requires_grad_();
            const Tensor weight = w.to(as).clone().requires_grad_(),
                         bias = b.to(as).clone().requires_grad_();
            const Tensor y = f(x, weight, bias);
            std::vector<Tensor> all = grad({y}, {x, weight, bias}, {}, {g.to(as)});
            all.push_back(y.detach());
            return all;
          };
          const auto found = results(ours, dtype, turned), right = results(plain, float64, false);
          for (std::size_t i = 0; i < found.size(); ++i) {
            // A gradient of a parameter is a sum; the scale of its rounding is that of the terms.
            const double terms =
                             i == 1 || i == 2 ? static_cast<double>(exact.numel() / each[0]) : 1,
                         scale = max(abs(right[i])).item() + std::sqrt(terms);
            const double off = max(abs(found[i].to(float64) - right[i])).item() / scale;
            const double ulp = off / (dtype == float32 ? 0x1p-23 : 0x1p-52);
            CHECK(ulp <= 64);
            worst = std::max(worst, ulp);
            ++compared;
          }
        }
  std::printf("normalization: %d comparisons with the definition, off by %.1f ulp of 64\n",
              compared, worst);
}

TEST_CASE("each input takes its gradient of the same backward, whatever happened before") {
  const Tensor x = noise({6, 5}, 1, float64).requires_grad_();
  const Tensor w = noise({5}, 2, float64).requires_grad_(), b = w.detach().clone().requires_grad_();
  const Tensor y = layer_norm(x, {5}, w, b), g = noise({6, 5}, 3, float64);
  auto expected = [&](const Tensor& outer) {
    const Tensor off = x - mean(x, 1, true);
    const Tensor plain = off / sqrt(mean(square(off), 1, true) + 1e-5) * w + b;
    return grad({sum(plain * outer)}, {x, w, b});
  };
  auto close = [](const std::vector<Tensor>& found, const std::vector<Tensor>& right) {
    REQUIRE(found.size() == right.size());
    for (std::size_t i = 0; i < right.size(); ++i)
      CHECK(norm(found[i] - right[i]).item() < 1e-12 * (1 + norm(right[i]).item()));
  };
  const GradOptions keep{.retain_graph = true};
  close(grad({y}, {x, w, b}, keep, {g}), expected(g));
  close(grad({y}, {x, w, b}, keep, {g}), expected(g));  // the same gradient again
  close(grad({y}, {x}, keep, {g}), {expected(g)[0]});
  const Tensor before = expected(g)[1];
  g *= 3;  // in place: nothing of before may be used
  close(grad({y}, {w}, keep, {g}), {before * 3});
  close(grad({y}, {b}, keep, {g}), {expected(g)[2]});
  close(grad({y}, {b, w, x}, {.create_graph = true, .retain_graph = true}, {g}),
        {expected(g)[2], expected(g)[1], expected(g)[0]});
  close(grad({y}, {b, w, x}, keep, {g}), {expected(g)[2], expected(g)[1], expected(g)[0]});
  {
    const NoGradGuard constant;
    x *= 2;
  }
  CHECK(full_refusal<GraphError>([&] { grad({y}, {w}, keep, {g}); }).find("changed") !=
        std::string::npos);
}

TEST_CASE("functions that normalise have the same bits for any number of threads") {
  const Tensor image = noise({40, 8, 40, 41}, 1), rows = noise({3000, 130}, 2);
  auto check = [](const Tensor& input, int64_t features,
                  const std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>& f) {
    same_with_threads([&]() -> std::vector<Tensor> {
      const Tensor x = input.detach().requires_grad_(), w = noise({features}, 3).requires_grad_(),
                   b = noise({features}, 4).requires_grad_();
      const Tensor y = f(x, w, b);
      sum(y * y).backward();
      return {y.detach(), x.grad(), w.grad(), b.grad()};
    });
  };
  check(rows, 130, [](auto& x, auto& w, auto& b) { return layer_norm(x, {130}, w, b); });
  check(rows, 130, [](auto& x, auto& w, auto& b) { return rms_norm(x, {130}, w) + b; });
  check(image, 8, [](auto& x, auto& w, auto& b) { return group_norm(x, 4, w, b); });
  check(image, 8, [](auto& x, auto& w, auto& b) { return instance_norm(x, w, b); });
  for (const Tensor& x : {image, rows})
    check(x, x.size(1), [](auto& v, auto& w, auto& b) {
      return batch_norm(v, Tensor(), Tensor(), w, b, {.training = true});
    });
  check(noise({1, 1, 300000}, 5), 1,
        [](auto& x, auto& w, auto& b) { return group_norm(x, 1, w, b); });
}

TEST_CASE("long sums in gradients of weights are precise") {
  const int64_t n = 20000;
  const Tensor x = noise({n, 4}, 1), g = noise({n, 4}, 2) + 1;
  for (const bool rows : {true, false}) {
    auto gradient = [&](DType dtype) {
      const Tensor w = ones({4}, dtype).requires_grad_(), v = to(x, dtype);
      const Tensor y = rows ? layer_norm(v, {4}, w)
                            : batch_norm(v.reshape({n / 16, 4, 16}), Tensor(), Tensor(), w,
                                         Tensor(), {.training = true});
      return grad({y}, {w}, {}, {to(g, dtype).reshape(y.shape())})[0];
    };
    const Tensor exact = gradient(float64), off = to(gradient(float32), float64) - exact;
    CHECK(max(abs(off)).item() < 1e-6 * static_cast<double>(n));
  }
}

TEST_CASE("running statistics change only if the call succeeds, and not for an empty batch") {
  nn::BatchNorm1d layer(3);
  const auto state = layer.state_dict();
  layer(zeros({0, 3}));
  CHECK(same_bits(layer.running_var, ones({3})));
  CHECK(layer.num_batches_tracked.item() == 1);
  layer.load_state_dict(state);
  CHECK(refusal<ShapeError>([&] {
          layer(zeros({1, 3}));
        }) == "batch_norm: x [1, 3] has one element in each channel: need two or more");
  CHECK(refusal<ShapeError>([&] {
          layer(zeros({2, 4}));
        }) == "batch_norm: weight [3] with x [2, 4]: need [4]");
  const Tensor x = noise({64, 3, 70}, 1);
  trim();
  set_memory_limit(memory_stats().live_bytes + 100);
  CHECK_THROWS_AS(layer(x), OutOfMemory);
  set_memory_limit(0);
  CHECK(same_bits(layer.state_dict(), state));
  const Tensor one = ones({1}).expand({3}), mean = zeros({3});
  CHECK(refusal<ShapeError>([&] {
          batch_norm(x, mean, one, Tensor(), Tensor(), {.training = true});
        }).starts_with("batch_norm: "));
  CHECK(same_bits(mean, zeros({3})));
  layer.eval();
  layer(x);
  CHECK(same_bits(layer.state_dict(), state));
  layer.train();
  layer(x);
  CHECK_FALSE(same_bits(layer.state_dict(), state));
}

TEST_CASE("functions and layers that normalise say what they refuse") {
  const Tensor x = zeros({2, 4, 3}), w = ones({4}), none;
  CHECK(refusal<ShapeError>([&] { layer_norm(x, {4}); }) ==
        "layer_norm: x [2, 4, 3] does not end with normalized_shape [4], of rank 1 or more");
  CHECK(refusal<ShapeError>([&] { rms_norm(x, {}); }) ==
        "rms_norm: x [2, 4, 3] does not end with normalized_shape [], of rank 1 or more");
  CHECK(refusal<ShapeError>([&] {
          layer_norm(zeros({3}), {4, 3});
        }) == "layer_norm: x [3] does not end with normalized_shape [4, 3], of rank 1 or more");
  CHECK(refusal<ShapeError>([&] { layer_norm(x, {3}, w); }) ==
        "layer_norm: weight [4] with x [2, 4, 3]: need [3]");
  CHECK(refusal<DtypeError>([&] { layer_norm(x, {3}, ones({3}), zeros({3}, float64)); }) ==
        "layer_norm: x is float32 and bias is float64: need one dtype (use to())");
  CHECK(refusal<ValueError>([&] { layer_norm(x, {3}, none, none, -1); }) ==
        "layer_norm: eps is -1: need at least 0");
  CHECK(refusal<ValueError>([&] { rms_norm(x, {3}, none, kNan); }) ==
        "rms_norm: eps is nan: need at least 0");
  CHECK(refusal<DtypeError>([&] {
          group_norm(zeros({2, 3}, int64), 1);
        }) == "group_norm: the input is int64: need float32 or float64 (use to())");
  CHECK(refusal<ShapeError>([&] { group_norm(x, 3); }) ==
        "group_norm: 3 groups do not divide the channels of x [2, 4, 3]");
  CHECK(refusal<ShapeError>([&] { group_norm(x, 0); }) ==
        "group_norm: 0 groups do not divide the channels of x [2, 4, 3]");
  CHECK(refusal<ShapeError>([&] { group_norm(zeros({4}), 1); }) ==
        "group_norm: x [4] has rank 1: need [N, C, ..]");
  CHECK(refusal<ShapeError>([&] {
          instance_norm(zeros({2, 3, 1, 1}));
        }) == "instance_norm: x [2, 3, 1, 1] has images of one pixel: need two or more");
  CHECK(refusal<ValueError>([&] { batch_norm(x, none, none); }) ==
        "batch_norm: need running_mean and running_var; in training, or neither");
  CHECK(refusal<ValueError>([&] { batch_norm(x, w, none, w, w, {.training = true}); }) ==
        "batch_norm: need running_mean and running_var; in training, or neither");
  CHECK(refusal<ShapeError>([&] { batch_norm(x, w, zeros({3})); }) ==
        "batch_norm: running_var [3] with x [2, 4, 3]: need [4]");
  CHECK(refusal<GraphError>([&] { batch_norm(x, ones({4}).requires_grad_(), w); }) ==
        "batch_norm: running statistics require a gradient: detach() them");
  CHECK(refusal<ShapeError>([] { nn::BatchNorm1d(3)(zeros({3})); }) ==
        "BatchNorm1d: x [3] has rank 1: need [N, C] or [N, C, T]");
  CHECK(refusal<ShapeError>([] {
          nn::BatchNorm2d(3)(zeros({2, 3, 4}));
        }) == "BatchNorm2d: x [2, 3, 4] has rank 3: need [N, C, H, W]");
  CHECK(refusal<ShapeError>([] {
          nn::InstanceNorm2d(3)(zeros({2, 3}));
        }) == "InstanceNorm2d: x [2, 3] has rank 2: need [N, C, H, W] or [C, H, W]");
  CHECK(refusal<ValueError>([] { nn::GroupNorm(2, 3); }) ==
        "GroupNorm: 2 groups do not divide 3 channels");
  CHECK(refusal<ShapeError>([] { nn::LayerNorm(-1); }) == "ones: shape [-1] has a negative size");
}

TEST_CASE("a call that fails leaves the vectors of spectral_norm as they were") {
  manual_seed(9);
  nn::Parametrized layer = nn::spectral_norm(nn::Linear(40, 30));
  const NamedTensors before = layer.state_dict();
  CHECK_THROWS_AS((void)layer(zeros({2, 5})), ShapeError);
  CHECK(same_bits(layer.state_dict(), before));
  (void)layer(zeros({2, 40}));
  CHECK_FALSE(same_bits(layer.state_dict(), before));
}
