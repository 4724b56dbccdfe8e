#include "table.hpp"

using namespace gradients;

namespace {

void losses(Tally& t) {
  const Tensor target = tensor({2, 0, 1});
  const Tensor weight = tensor({1., 2., 0.5}, kNumber);
  for (nn::Reduction reduction : {nn::Reduction::mean, nn::Reduction::sum, nn::Reduction::none}) {
    any_of(t, "cross_entropy",
           [=](const Tensors& x) {
             return nn::cross_entropy(
                 x[0], target, {.weight = weight, .label_smoothing = 0.1, .reduction = reduction});
           },
           {{3, 3}});
    any_of(t, "cross_entropy",
           [=](const Tensors& x) {
             return nn::cross_entropy(x[0], target, {.ignore_index = 0, .reduction = reduction});
           },
           {{3, 3}, {3, 5}});
    any_of(t, "nll_loss",
           [=](const Tensors& x) {
             return nn::nll_loss(x[0], target,
                                 {.weight = weight, .ignore_index = 0, .reduction = reduction});
           },
           {{3, 3}});
    any_of(t, "cross_entropy ignoring, smoothed",
           [=](const Tensors& x) {
             return nn::cross_entropy(
                 x[0], target, {.ignore_index = 2, .label_smoothing = 0.3, .reduction = reduction});
           },
           {{3, 3}});
    t.run("mse_loss", [=](const Tensors& x) { return nn::mse_loss(x[0], x[1], {reduction}); },
          {input({3, 4}, Layout::plain, false, 1), input({3, 4}, Layout::transposed, false, 2)});
  }
}

void ctc(Tally& t) {
  const Tensor targets = tensor({{1, 2}, {3, 3}, {2, 0}}), lengths = tensor({2, 2, 0});
  for (const auto reduction : {nn::Reduction::mean, nn::Reduction::sum, nn::Reduction::none})
    for (const bool zero : {false, true})
      for (const Layout layout : {Layout::plain, Layout::transposed, Layout::strided}) {
        const nn::CtcOptions options{.reduction = reduction, .zero_infinity = zero};
        t.run("ctc_loss",
              [=](const Tensors& x) {
                return nn::ctc_loss(x[0], targets, tensor({5, 4, 3}), lengths, options);
              },
              {input({5, 3, 4}, layout, false, 1)});
      }
  for (const int64_t steps : {1, 2, 4})  // not a path, one path, and many
    t.run("ctc_loss of one",
          [=](const Tensors& x) {
            return nn::ctc_loss(x[0], tensor({{0, 1}}), tensor({steps}), tensor({2}),
                                {.blank = 2, .zero_infinity = true});
          },
          {input({4, 1, 3}, Layout::plain, false, 1)});
}

const Family kLosses(losses);
const Family kCtc(ctc);

}  // namespace
