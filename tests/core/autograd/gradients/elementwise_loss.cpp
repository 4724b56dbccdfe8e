#include "table.hpp"

using namespace gradients;

namespace {

constexpr nn::Reduction reductions[] = {nn::Reduction::mean, nn::Reduction::sum,
                                        nn::Reduction::none, nn::Reduction::batchmean};

using Loss = std::function<Tensor(const Tensor& prediction, const Tensor& target)>;

void pairs(Tally& t, const std::string& name, const std::function<Loss(nn::Reduction)>& make,
           bool positive = false, int order = 2) {
  auto run = [&](nn::Reduction reduction, const Shape& shape, Layout layout) {
    t.run(
        name, [f = make(reduction)](const Tensors& x) { return f(x[0], x[1]); },
        {input(shape, layout, positive, 1), input(shape, Layout::plain, positive, 2)}, order);
  };
  for (const nn::Reduction reduction : reductions)
    for (const Layout layout : {Layout::plain, Layout::transposed, Layout::strided})
      run(reduction, {3, 4}, layout);
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{5}, Shape{2, 1, 3}})
    run(nn::Reduction::mean, shape, Layout::plain);
  for (const Shape& shape : {Shape{0}, Shape{2, 0, 3}})
    for (const nn::Reduction reduction : {nn::Reduction::sum, nn::Reduction::none})
      run(reduction, shape, Layout::plain);
}

/// 1 where x is above 0, else -1.
Tensor sign_of(const Tensor& x) { return sign(x.detach()); }

void elementwise_losses(Tally& t) {
  pairs(t, "mse_loss", [](nn::Reduction r) -> Loss {
    return [=](const Tensor& a, const Tensor& b) { return nn::mse_loss(a, b, {r}); };
  });
  pairs(t, "l1_loss", [](nn::Reduction r) -> Loss {
    return [=](const Tensor& a, const Tensor& b) { return nn::l1_loss(a, b, {r}); };
  });
  for (const double delta : {1.0, 0.4}) {
    pairs(t, "huber_loss", [=](nn::Reduction r) -> Loss {
      return [=](const Tensor& a, const Tensor& b) { return nn::huber_loss(a, b, {delta, r}); };
    });
    pairs(t, "smooth_l1_loss", [=](nn::Reduction r) -> Loss {
      return [=](const Tensor& a, const Tensor& b) { return nn::smooth_l1_loss(a, b, {delta, r}); };
    });
  }
  pairs(t, "smooth_l1_loss without a square", [](nn::Reduction r) -> Loss {
    return [=](const Tensor& a, const Tensor& b) { return nn::smooth_l1_loss(a, b, {0, r}); };
  });
  for (const Tensor& weight : {Tensor(), tensor(1.5, kNumber)}) {
    pairs(
        t, "binary_cross_entropy",
        [=](nn::Reduction r) -> Loss {
          return [=](const Tensor& a, const Tensor& b) {
            return nn::binary_cross_entropy(a * 0.4, b * 0.3, {weight, r});
          };
        },
        true);
    pairs(t, "binary_cross_entropy_with_logits", [=](nn::Reduction r) -> Loss {
      return [=](const Tensor& a, const Tensor& b) {
        return nn::binary_cross_entropy_with_logits(a, b, {weight, weight, r});
      };
    });
  }
  t.run("binary_cross_entropy_with_logits and gradients of the weights",
        [](const Tensors& x) {
          return nn::binary_cross_entropy_with_logits(x[0], x[1], {x[2], x[3]});
        },
        {input({3, 4}, Layout::plain, false, 1), input({3, 4}, Layout::plain, false, 2),
         input({3, 1}, Layout::plain, true, 3), input({4}, Layout::plain, true, 4)});
  pairs(t, "soft_margin_loss", [](nn::Reduction r) -> Loss {
    return [=](const Tensor& a, const Tensor& b) { return nn::soft_margin_loss(a, b, {r}); };
  });
  for (const double margin : {1.0, 0.1})
    pairs(t, "hinge_embedding_loss", [=](nn::Reduction r) -> Loss {
      return [=](const Tensor& a, const Tensor& b) {
        return nn::hinge_embedding_loss(a * b, sign_of(b), {margin, r});
      };
    });
  pairs(
      t, "kl_div",
      [](nn::Reduction r) -> Loss {
        return [=](const Tensor& a, const Tensor& b) { return nn::kl_div(a, b, {.reduction = r}); };
      },
      true);
  pairs(t, "kl_div of logarithms", [](nn::Reduction r) -> Loss {
    return [=](const Tensor& a, const Tensor& b) { return nn::kl_div(a, b, {true, r}); };
  });
  for (const bool log_input : {false, true})
    for (const bool full : {false, true})
      pairs(
          t, "poisson_nll_loss",
          [=](nn::Reduction r) -> Loss {
            return [=](const Tensor& a, const Tensor& b) {
              return nn::poisson_nll_loss(a, b, {log_input, full, 0.1, r});
            };
          },
          true);
}

void losses_of_three(Tally& t) {
  auto leaf = [](const Shape& shape, uint64_t seed, bool positive = false,
                 Layout layout = Layout::plain) { return input(shape, layout, positive, seed); };
  for (const nn::Reduction reduction : reductions)
    for (const Layout layout : {Layout::plain, Layout::transposed, Layout::strided}) {
      for (const Shape& var : {Shape{3, 4}, Shape{3, 1}})
        t.run("gaussian_nll_loss",
              [=](const Tensors& x) {
                return nn::gaussian_nll_loss(x[0], x[1], x[2],
                                             {.full = true, .eps = 0.1, .reduction = reduction});
              },
              {leaf({3, 4}, 1, false, layout), leaf({3, 4}, 2), leaf(var, 3, true)});
      t.run("margin_ranking_loss",
            [=](const Tensors& x) {
              return nn::margin_ranking_loss(x[0], x[1], x[2], {0.2, reduction});
            },
            {leaf({3, 4}, 1, false, layout), leaf({3, 4}, 2), leaf({3, 4}, 3)});
      t.run("cosine_embedding_loss",
            [=](const Tensors& x) {
              return nn::cosine_embedding_loss(x[0], x[1], tensor({1., -1., 1.}, kNumber),
                                               {0.05, reduction});
            },
            {leaf({3, 4}, 1, false, layout), leaf({3, 4}, 2)});
      for (const double p : {2.0, 3.0})
        for (const bool swap : {false, true})
          t.run("triplet_margin_loss",
                [=](const Tensors& x) {
                  return nn::triplet_margin_loss(
                      x[0], x[1], x[2],
                      {.margin = 2.5, .p = p, .swap = swap, .reduction = reduction});
                },
                {leaf({3, 4}, 1, false, layout), leaf({3, 4}, 2), leaf({3, 4}, 3)});
    }
  t.run("triplet_margin_loss of vectors",
        [](const Tensors& x) { return nn::triplet_margin_loss(x[0], x[1], x[2], {.margin = 3}); },
        {leaf({5}, 1), leaf({5}, 2), leaf({5}, 3)});
  t.run("cosine_embedding_loss of vectors",
        [](const Tensors& x) { return nn::cosine_embedding_loss(x[0], x[1], tensor(1., kNumber)); },
        {leaf({5}, 1), leaf({5}, 2)});
  for (const nn::Reduction reduction : {nn::Reduction::sum, nn::Reduction::none}) {
    t.run("triplet_margin_loss of nothing",
          [=](const Tensors& x) {
            return nn::triplet_margin_loss(x[0], x[1], x[2], {.reduction = reduction});
          },
          {leaf({0, 3}, 1), leaf({0, 3}, 2), leaf({0, 3}, 3)});
    t.run("cosine_embedding_loss of nothing",
          [=](const Tensors& x) {
            return nn::cosine_embedding_loss(x[0], x[1], zeros({0}, kNumber), {0, reduction});
          },
          {leaf({0, 3}, 1), leaf({0, 3}, 2)});
  }
}

void losses_of_classes(Tally& t) {
  const Tensor weight = tensor({1., 2., 0.5}, kNumber);
  const Tensor target = tensor({{2, 0}, {1, 1}, {0, 2}, {1, 0}});
  for (const nn::Reduction reduction : reductions)
    for (const int64_t ignored : {-100, 1}) {
      any_of(t, "cross_entropy of positions",
             [=](const Tensors& x) {
               return nn::cross_entropy(x[0], target, {weight, ignored, 0.2, reduction});
             },
             {{4, 3, 2}});
      any_of(
          t, "nll_loss of positions",
          [=](const Tensors& x) {
            return nn::nll_loss(x[0], reshape(target, {2, 2, 1, 2}), {weight, ignored, reduction});
          },
          {{2, 3, 2, 1, 2}});
    }
  for (const nn::Reduction reduction : reductions)
    for (const Shape& shape : {Shape{2, 3}, Shape{2, 3, 4}, Shape{1, 3, 2, 1}})
      for (const Tensor& some : {Tensor(), weight})
        t.run(
            "cross_entropy of probabilities",
            [=](const Tensors& x) {
              return nn::cross_entropy(x[0], x[1], {some, 0, some.defined() ? 0.1 : 0, reduction});
            },
            {input(shape, Layout::transposed, false, 1), input(shape, Layout::plain, true, 2)});
}

const Family kElementwiseLosses(elementwise_losses), kLossesOfThree(losses_of_three),
    kLossesOfClasses(losses_of_classes);

}  // namespace
