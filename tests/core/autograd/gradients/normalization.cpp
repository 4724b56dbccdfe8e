#include "table.hpp"

using namespace gradients;

namespace {

/// f of x, weight and bias, at all layouts of x; once each without the weight, and without both.
void affine(Tally& t, const std::string& name, const Function& f, const Shape& shape,
            const Shape& each, bool bias = true) {
  const Tensor w = input(each, Layout::strided, false, 4), b = input(each, Layout::plain, true, 5);
  for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided}) {
    Tensors all = {input(shape, layout, false, 1), w};
    if (bias) all.push_back(b);
    t.run(
        name,
        [=](const Tensors& x) {
          return f({x[0], x[1], bias ? x[2] : Tensor()});
        },
        all);
  }
  if (bias)
    t.run(name + " without weight",
          [=](const Tensors& x) {
            return f({x[0], Tensor(), x[1]});
          },
          {input(shape, Layout::plain, false, 2), b});
  t.run(name + " alone",
        [=](const Tensors& x) {
          return f({x[0], Tensor(), Tensor()});
        },
        {input(shape, Layout::plain, false, 3)});
  t.run(name + " of a constant",
        [=](const Tensors& x) {
          return f({sample(shape, false, 6), x[0], Tensor()});
        },
        {w});
}

/// A layer in evaluation mode, of x and all of its parameters; or in training mode, if it has
/// nothing that a call changes.
void normalizer(Tally& t, const std::string& name, nn::Module&& made, const Shape& shape,
                bool train) {
  made.to(kNumber);
  made.train(train);
  uint64_t seed = 3;
  NamedTensors state = made.state_dict();
  for (auto& [key, v] : state)
    if (v.dtype() == kNumber) v = sample(v.shape(), key.find("var") != std::string::npos, ++seed);
  made.load_state_dict(state);
  Tensors all = made.parameters();
  all.insert(all.begin(), Tensor());
  for (Layout layout : {Layout::plain, Layout::transposed, Layout::strided}) {
    all[0] = input(shape, layout, false, 1);
    t.run(
        name, [&](const Tensors& x) { return made(x[0]); }, all);
  }
}

void layers(Tally& t) {
  for (bool train : {true, false}) {
    const nn::BatchNormLayerOptions changed{.eps = 0.25, .momentum = {}, .affine = false};
    normalizer(t, "BatchNorm1d", nn::BatchNorm1d(3), {4, 3}, train);
    normalizer(t, "BatchNorm1d", nn::BatchNorm1d(2, changed), {3, 2, 4}, train);
    normalizer(t, "BatchNorm1d", nn::BatchNorm1d(2, {.track_running_stats = false}), {4, 2}, train);
    normalizer(t, "BatchNorm2d", nn::BatchNorm2d(2), {3, 2, 2, 3}, train);
    normalizer(t, "BatchNorm2d", nn::BatchNorm2d(2, changed), {2, 2, 4, 4}, train);
    normalizer(t, "LayerNorm", nn::LayerNorm(4), {2, 3, 4}, train);
    normalizer(t, "LayerNorm", nn::LayerNorm({3, 2}, {.eps = 0.25, .bias = false}), {2, 3, 2},
               train);
    normalizer(t, "LayerNorm", nn::LayerNorm(4, {.elementwise_affine = false}), {3, 4}, train);
    normalizer(t, "RMSNorm", nn::RMSNorm(4), {2, 3, 4}, train);
    normalizer(t, "RMSNorm", nn::RMSNorm({3, 2}, {.eps = 0.25}), {2, 3, 2}, train);
    normalizer(t, "RMSNorm", nn::RMSNorm(4, {.elementwise_affine = false}), {1, 4}, train);
    normalizer(t, "GroupNorm", nn::GroupNorm(2, 4), {2, 4, 3}, train);
    normalizer(t, "GroupNorm", nn::GroupNorm(1, 3, {.eps = 0.25, .affine = false}), {2, 3, 2},
               train);
    normalizer(t, "InstanceNorm2d", nn::InstanceNorm2d(2), {2, 2, 3, 2}, train);
    normalizer(t, "InstanceNorm2d", nn::InstanceNorm2d(2, {.eps = 0.25, .affine = true}), {2, 3, 3},
               train);
    for (std::optional<int64_t> dim : {std::optional<int64_t>(0), {1}, {-1}, {}}) {
      normalizer(t, "weight_norm", weight_norm(nn::Linear(4, 3), {dim}), {2, 4}, train);
      normalizer(t, "weight_norm", weight_norm(nn::Conv2d(2, 2, 2, {.bias = false}), {dim}),
                 {1, 2, 3, 3}, train);
    }
  }
  for (int64_t n : {1, 3}) {
    const nn::SpectralNormOptions o{.n_power_iterations = n};
    normalizer(t, "spectral_norm", spectral_norm(nn::Linear(4, 3), o), {2, 4}, false);
    normalizer(t, "spectral_norm", spectral_norm(nn::Linear(2, 2, {.bias = false}), o), {0, 2},
               false);
    normalizer(t, "spectral_norm", spectral_norm(nn::Conv2d(2, 2, 2), o), {1, 2, 3, 2}, false);
  }
}

/// 1e-5 and 0.25, in turn.
double another_eps() {
  static double eps = 1e-5;
  return eps = eps == 0.25 ? 1e-5 : 0.25;
}

void normalizations(Tally& t) {
  using Pair = std::pair<Shape, Shape>;
  for (const auto& [shape, last] :
       {Pair{{4, 5}, {5}}, Pair{{2, 3, 4}, {4}}, Pair{{3, 2, 3}, {2, 3}}, Pair{{6}, {6}},
        Pair{{18, 2}, {2}}, Pair{{1, 4}, {1, 4}}, Pair{{0, 3}, {3}}}) {
    const Shape each = last;
    const double eps = another_eps();
    affine(
        t, "layer_norm", [=](const Tensors& x) { return layer_norm(x[0], each, x[1], x[2], eps); },
        shape, each);
    affine(
        t, "rms_norm", [=](const Tensors& x) { return rms_norm(x[0], each, x[1], eps); }, shape,
        each, false);
  }
  const std::pair<Shape, int64_t> grouped[] = {{{2, 4, 3}, 2}, {{3, 4, 2, 2}, 1}, {{2, 3, 2}, 3},
                                               {{3, 6}, 2},    {{1, 2, 1, 3}, 1}, {{0, 2, 3}, 1}};
  for (const auto& [shape, number] : grouped) {
    const int64_t groups = number;
    const double eps = another_eps();
    // Two elements become +-1, whatever they are, up to eps: terms above 1 cancel in the gradient.
    t.terms = shape == Shape{2, 3, 2} ? 1 : 0;
    affine(t, "group_norm",
           [=](const Tensors& x) { return group_norm(x[0], groups, x[1], x[2], eps); }, shape,
           {shape[1]});
  }
  for (const Shape& shape :
       {Shape{2, 3, 4}, Shape{1, 2, 3, 2}, Shape{3, 2, 2, 2, 1}, Shape{3, 1, 5}, Shape{0, 2, 3}}) {
    const double eps = another_eps();
    affine(t, "instance_norm",
           [=](const Tensors& x) { return instance_norm(x[0], x[1], x[2], eps); }, shape,
           {shape[1]});
  }
  for (bool training : {true, false})
    for (const Shape& shape : {Shape{5, 3}, Shape{2, 3, 4}, Shape{3, 2, 4, 4}, Shape{4, 1},
                               Shape{1, 2, 17}, Shape{2, 1, 16}, Shape{0, 2, 3}}) {
      const Tensor mean = sample({shape[1]}, false, 7), var = sample({shape[1]}, true, 8);
      const double eps = another_eps();
      affine(t, "batch_norm",
             [=](const Tensors& x) {
               return batch_norm(x[0], mean.clone(), var.clone(), x[1], x[2],
                                 {.training = training, .eps = eps});
             },
             shape, {shape[1]});
    }
  t.run("rms_norm with the default eps", [](const Tensors& x) { return rms_norm(x[0], {4}); },
        {input({3, 4}, Layout::plain, false, 1)});
  t.run("batch_norm without statistics",
        [](const Tensors& x) {
          return batch_norm(x[0], Tensor(), Tensor(), x[1], Tensor(), {.training = true});
        },
        {input({4, 2}, Layout::plain, false, 1), input({2}, Layout::plain, false, 2)});
}

const Family kNormalizations(normalizations), kLayers(layers);

}  // namespace
