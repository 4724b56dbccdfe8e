#include <algorithm>

#include "paths.hpp"

namespace paths {
namespace {

/// The class of each row, how much it counts, and what the losses are divided by.
struct Labels {
  Labels(const Case& c, DType dtype, Random& random) : n(c["rows"]), k(c["classes"]) {
    weights.assign(static_cast<std::size_t>(k), 1);
    if (c["weights"] != 0) {
      for (double& w : weights) w = 1 + random.uniform();
      if (dtype == float32)
        for (double& w : weights) w = static_cast<double>(static_cast<float>(w));
      if (c["weights"] == 2 && k > 1) weights.back() = 0;
      weight = tensor(weights, {k}, dtype);
    }
    std::vector<int64_t> stored;
    for (int64_t i = 0; i < n; ++i) {
      // Row 0 always counts, or the mean would be one of nothing.
      const bool skip = c["ignored"] != 0 && i > 0 && random.below(3) == 0;
      label.push_back(skip ? ignored : random.below(i == 0 && k > 1 ? k - 1 : k));
      stored.insert(stored.end(), {label.back(), 0});
    }
    target = c["layout of target"] == 0 ? tensor(label, {n}) : tensor(stored, {n, 2}).select(1, 0);
    reduction = static_cast<nn::Reduction>(c["reduction"]);
    if (reduction == nn::Reduction::mean) {
      total = 0;
      for (const int64_t of : label) total += of == ignored ? 0 : weights.data()[of];
    }
  }
  Shape shape() const { return reduction == nn::Reduction::none ? Shape{n} : Shape{}; }
  /// Which element of the result row i is part of.
  int64_t to(int64_t i) const { return reduction == nn::Reduction::none ? i : 0; }

  static constexpr int64_t ignored = -100;
  int64_t n, k;
  std::vector<double> weights;
  Tensor weight;
  std::vector<int64_t> label;
  Tensor target;
  nn::Reduction reduction;
  double total = 1;
};

void compare_cross_entropy(Tally& tally, const Case& c, DType dtype, Random& random) {
  const Labels l(c, dtype, random);
  const double s = static_cast<double>(c["smoothing"]) / 10, share = s / static_cast<double>(l.k);
  const Operand z = operand(random, {l.n, l.k}, dtype, c["layout of x"], c["kind"],
                            static_cast<double>(c["size"]));
  const Operand g = operand(random, l.shape(), dtype, c["layout of g"]);
  Expected y(l.shape()), dz(z.tensor.shape());
  Sum all_weights;
  for (const double w : l.weights) all_weights += w;
  for (int64_t i = 0; i < l.n; ++i) {
    const int64_t target = l.label.data()[i];
    if (target == Labels::ignored) continue;
    const double* row = z.values.data() + i * l.k;
    const double top = *std::max_element(row, row + l.k);
    Sum sum;
    for (int64_t j = 0; j < l.k; ++j) sum += std::exp(row[j] - top);
    const double log_sum = std::log(sum);
    const double own = (1 - s) * l.weights.data()[target], mass = own + share * all_weights;
    const double outer = g.values.data()[l.to(i)] / l.total;
    for (int64_t j = 0; j < l.k; ++j) {
      const double weight = (j == target ? own : 0) + share * l.weights.data()[j];
      const double log_p = row[j] - top - log_sum, size = top - row[j] + log_sum + 1;
      y.add(l.to(i), -weight * log_p / l.total, weight * size / l.total);
      const double p = std::exp(log_p);
      dz.add(i * l.k + j, outer * mass * p, std::abs(outer) * mass * p * (1 + size));
      dz.add(i * l.k + j, -outer * weight);
    }
  }
  Tensor result;
  tally.compare(
      "cross_entropy", c,
      [&] {
        return result = nn::cross_entropy(
                   z.tensor, l.target,
                   {.weight = l.weight, .label_smoothing = s, .reduction = l.reduction});
      },
      y);
  tally.compare_gradients("cross_entropy", c, result, g.tensor.detach(),
                          {{"logits", z.tensor, dz}});
}

void compare_nll(Tally& tally, const Case& c, DType dtype, Random& random) {
  const Labels l(c, dtype, random);
  const Operand x = operand(random, {l.n, l.k}, dtype, c["layout of x"], c["kind"],
                            static_cast<double>(c["size"]));
  const Operand g = operand(random, l.shape(), dtype, c["layout of g"]);
  Expected y(l.shape()), dx(x.tensor.shape());
  for (int64_t i = 0; i < l.n; ++i) {
    const int64_t target = l.label.data()[i];
    if (target == Labels::ignored) continue;
    const double weight = l.weights.data()[target] / l.total;
    y.add(l.to(i), -weight * x.values.data()[i * l.k + target]);
    dx.add(i * l.k + target, -weight * g.values.data()[l.to(i)]);
  }
  Tensor result;
  tally.compare(
      "nll_loss", c,
      [&] {
        return result =
                   nn::nll_loss(x.tensor, l.target, {.weight = l.weight, .reduction = l.reduction});
      },
      y);
  tally.compare_gradients("nll_loss", c, result, g.tensor.detach(), {{"input", x.tensor, dx}});
}

void compare_mse(Tally& tally, const Case& c, DType dtype, Random& random) {
  const Shape whole{c["rows"], c["classes"]};
  const auto reduction = static_cast<nn::Reduction>(c["reduction"]);
  const bool each = reduction == nn::Reduction::none;
  const Operand a = operand(random, whole, dtype, c["layout of x"], c["kind"]);
  const Operand b = operand(random, whole, dtype, c["layout of target"]);
  const Operand g = operand(random, each ? whole : Shape{}, dtype, c["layout of g"]);
  Expected y(g.tensor.shape()), da(whole), db(whole);
  const double total = reduction == nn::Reduction::mean ? static_cast<double>(da.size()) : 1;
  for (int64_t i = 0; i < da.size(); ++i) {
    const double off = a.values.data()[i] - b.values.data()[i];
    const double slope = 2 * off * g.values.data()[each ? i : 0] / total;
    y.add(each ? i : 0, off * off / total);
    da.add(i, slope);
    db.add(i, -slope);
  }
  Tensor result;
  tally.compare(
      "mse_loss", c, [&] { return result = nn::mse_loss(a.tensor, b.tensor, {reduction}); }, y);
  tally.compare_gradients("mse_loss", c, result, g.tensor.detach(),
                          {{"prediction", a.tensor, da}, {"target", b.tensor, db}});
}

std::vector<Factor> factors_of(const std::vector<int64_t>& rows,
                               const std::vector<int64_t>& classes) {
  return {{"rows", rows},
          {"classes", classes},
          {"smoothing", {0, 1, 10}},  // tenths
          {"weights", {0, 1, 2}},
          {"ignored", {0, 1}},
          {"reduction", {0, 1, 2}},
          {"kind", {any_number, ties}},
          {"size", {1, 30}},
          {"layout of x", range(0, layouts - 1)},
          {"layout of target", {0, 1}},
          {"layout of g", range(0, layouts - 1)}};
}

}  // namespace

void compare_losses(Tally& tally) {
  auto any = [](const Case&) { return true; };
  auto few = [](const Case& c) { return c["rows"] * c["classes"] < 40'000; };
  const Cases small(factors_of(range(1, 20), range(1, 20)), any, 1400, 41);
  const Cases large(factors_of({1, 2, 300, 2000}, {1, 2, 10, 129, 1000}), few, 60, 42, false);
  Random random(41);
  auto sweep = [&](const char* name, void (*compare_one)(Tally&, const Case&, DType, Random&)) {
    for (const Cases* cases : {&small, &large})
      tally.sweep(name, *cases, 0, [&](const Case& c) {
        for (const DType dtype : {float32, float64}) compare_one(tally, c, dtype, random);
      });
  };
  sweep("cross_entropy", compare_cross_entropy);
  sweep("nll_loss", compare_nll);
  sweep("mse_loss", compare_mse);
}

}  // namespace paths
