#include "descent/core/autograd/gradcheck.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "descent/core/autograd/functional.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/core/ops/random.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

double& element(const Tensor& x, int64_t flat) {
  const Shape at = detail::indices_of(flat, x.shape());
  auto* p = reinterpret_cast<double*>(Peek::header(x)->data);
  for (int d = 0; d < x.dim(); ++d) p += at[d] * x.strides()[d];
  return *p;
}

/// Moves one element of an input and computes f there. Restores the element when it is destroyed.
struct Probe {
  const Function& f;
  const std::vector<Tensor>& inputs;
  const Tensor& moved;
  double& place;
  const double home = place;

  ~Probe() { place = home; }
  double operator()(double by) const {
    {
      NoGradGuard no_grad;
      will_write("gradcheck", moved, At::unknown());
    }
    place = home + by;
    return f(inputs).item();
  }
};

struct Slope {
  double value;  // extrapolated, with an error of O(h^4)
  bool kink;     // whether the one-sided slopes differ, and hardly less at half the distance
};

Slope slope(const Probe& f, double step) {
  const double h = step * std::max(1.0, std::abs(f.home));
  const double right = f(h), left = f(-h), near_right = f(h / 2), near_left = f(-h / 2),
               here = f(0);
  const double wide = (right - left) / (2 * h), narrow = (near_right - near_left) / h;
  const double bend = std::abs((right - here) - (here - left)) / h;
  const double near_bend = std::abs((near_right - here) - (here - near_left)) / (h / 2);
  return {(4 * narrow - wide) / 3,
          near_bend > 0.75 * bend && bend > 1e-5 * std::max(1.0, std::abs(wide))};
}

std::string cause(double analytic, const Slope& numeric) {
  if (numeric.kink)
    return "the slopes left and right of it differ: a kink is crossed; move the input";
  if (!std::isfinite(analytic) || !std::isfinite(numeric.value)) return "a value is not finite";
  if (analytic == 0) return "the derivative is missing";
  if (std::abs(analytic + numeric.value) < 1e-6 * std::abs(numeric.value))
    return "the sign is wrong";
  return fmt::format("the derivative is off by a factor of {:.6g}", analytic / numeric.value);
}

/// Compares `analytic`, the gradients of the scalar function f at `inputs`, with numeric slopes,
/// and updates `result`.
void compare(const Function& f, const std::vector<Tensor>& inputs,
             const std::vector<Tensor>& analytic, const char* what, double tolerance, double step,
             GradcheckResult& result) {
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    if (!inputs[k].requires_grad()) continue;
    ++result.checks;
    for (int64_t i = 0; i < inputs[k].numel(); ++i) {
      const Probe probe{f, inputs, inputs[k], element(inputs[k], i)};
      const Slope numeric = slope(probe, step);
      const double a = analytic[k].defined() ? element(analytic[k], i) : 0;
      const double error = std::abs(a - numeric.value) / std::max(1.0, std::abs(numeric.value));
      if (error <= result.worst) continue;
      result.worst = std::isnan(error) ? INFINITY : error;
      if (error <= tolerance) continue;
      result.ok = false;
      result.message = fmt::format(
          "gradcheck: {}, input {} {}, element {} = {:.17g}: analytic {:.17g}, numeric {:.17g} "
          "(error {:.2g}, allowed {:.2g}): {}",
          what, k, str(inputs[k].shape()), str(detail::indices_of(i, inputs[k].shape())),
          probe.home, a, numeric.value, result.worst, tolerance, cause(a, numeric));
    }
  }
}

}  // namespace

GradcheckResult gradcheck(const Function& f, const std::vector<Tensor>& inputs,
                          GradcheckOptions options, At at) {
  const Frame frame(at);
  const EnableGradGuard enable_grad;
  bool any = false;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& x = inputs[i];
    if (!x.requires_grad()) continue;
    any = true;
    if (x.dtype() != float64)
      fail<DtypeError>(at, "gradcheck: inputs[{}] is {}: need float64", i, x.dtype());
    if (!x.is_leaf()) fail<GraphError>(at, "gradcheck: inputs[{}] is not a leaf: detach() it", i);
  }
  if (!any) fail<ValueError>(at, "gradcheck: no input requires a gradient");

  Generator generator(options.seed);
  const Tensor probe = f(inputs);
  std::vector<Tensor> all = inputs;  // and last the outer gradient, an input in order 2
  all.push_back(randn(probe.shape(), float64, generator));
  const std::size_t outer = all.size() - 1;
  const Function scalar = [&](const std::vector<Tensor>& x) {
    return sum(f(std::vector<Tensor>(x.begin(), x.end() - 1)) * x[outer]);
  };
  GradcheckResult result;
  compare(scalar, all, detail::gradients(scalar(all), all, {}, false, at), "first order",
          options.tolerance, options.step, result);
  if (options.order < 2 || !result.ok) return result;

  all[outer].requires_grad_();
  std::vector<Tensor> weight;
  for (const Tensor& x : inputs) weight.push_back(randn(x.shape(), float64, generator));
  const Function directional = [&](const std::vector<Tensor>& x) {
    const std::vector<Tensor> g = detail::gradients(scalar(x), x, {}, true, at);
    Tensor total = zeros({}, float64);
    for (std::size_t k = 0; k < weight.size(); ++k)
      if (g[k].defined()) total = total + sum(g[k] * weight[k]);
    return total;
  };
  const double first = std::exchange(result.worst, 0);
  compare(directional, all, detail::gradients(directional(all), all, {}, false, at), "second order",
          options.tolerance2, options.step, result);
  result.worst = std::max(result.worst, first);
  return result;
}

}  // namespace descent
