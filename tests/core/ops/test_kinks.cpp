#include <cmath>

#include "support.hpp"

using namespace descent;

namespace {

Tensor leaf(const Values& v, const Shape& shape) {
  return tensor(v, shape, float64).requires_grad_();
}
Tensor leaf(const Values& v) { return leaf(v, {static_cast<int64_t>(v.size())}); }

/// The gradients of sum(g f(x)) with respect to all of x.
template <class F> std::vector<Values> gradients(F f, const std::vector<Tensor>& x, double g = 1) {
  const Tensor y = f(x);
  std::vector<Values> result;
  for (const Tensor& dx : grad({y}, x, {}, {full_like(y, g)})) result.push_back(values(dx));
  return result;
}
template <class F> Values gradient(F f, const Values& x, double g = 1) {
  return gradients([f](const std::vector<Tensor>& in) { return f(in[0]); }, {leaf(x)}, g)[0];
}

/// The same numbers, and the same signs of zeros; NaN where NaN is wanted.
bool same(const Values& a, const Values& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(b[i]) ? !std::isnan(a[i]) : a[i] != b[i]) return false;
    if (b[i] == 0 && std::signbit(a[i]) != std::signbit(b[i])) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a gradient passes where the choice was NaN, as in PyTorch") {
  CHECK(gradient([](const In& x) { return relu(x); }, {kNan, -1, 0, 1}) == Values{1, 0, 0, 1});
  for (auto choose : {static_cast<Tensor (*)(const In&, const In&)>(maximum),
                      static_cast<Tensor (*)(const In&, const In&)>(minimum)}) {
    const auto d = gradients([&](const auto& in) { return choose(in[0], in[1]); },
                             {leaf({kNan, 1, kNan, 1}), leaf({1, kNan, kNan, 1})});
    CHECK(d[0] == Values{1, 1, 1, 0.5});
    CHECK(d[1] == Values{1, 1, 1, 0.5});
  }
  CHECK(gradient([](const In& x) { return max(x); }, {1, kNan, 3, kNan}) == Values{0, 0.5, 0, 0.5});
  CHECK(gradient([](const In& x) { return norm(x, {}, {.p = kInf}); }, {kNan, 1}) == Values{0, 0});
}

TEST_CASE("the gradient of a step is 0 whatever comes back to it") {
  for (double g : {1., kInf, kNan}) {
    CAPTURE(g);
    CHECK(gradient([](const In& x) { return floor(x); }, {0.2, 1}, g) == Values{0, 0});
    CHECK(gradient([](const In& x) { return ceil(x); }, {0.2, 1}, g) == Values{0, 0});
    CHECK(gradient([](const In& x) { return round(x); }, {0.2, 1}, g) == Values{0, 0});
    CHECK(gradient([](const In& x) { return sign(x); }, {0.2, 0}, g) == Values{0, 0});
    CHECK(gradient([](const In& x) { return pow(x, 0); }, {0.2, 0}, g) == Values{0, 0});
    CHECK(gradient([](const In& x) { return pow(x, zeros({2}, float64)); }, {0.2, 0}, g) ==
          Values{0, 0});
    CHECK(gradient([](const In& x) { return relu(x); }, {-2, 0}, g) == Values{0, 0});
  }
  CHECK(gradient([](const In& x) { return 1 / floor(x); }, {0.2, 1}) == Values{0, 0});
  const Tensor x = leaf({-1, 2});
  const Tensor d = grad({sum(relu(x))}, {x}, {.create_graph = true})[0];
  CHECK(values(grad({d}, {x}, {}, {full({2}, kInf, float64)})[0]) == Values{0, 0});
}

TEST_CASE("clamp's gradient is 0 at its bounds, and an infinite end is none") {
  auto clamped = [](double low, double high) {
    return [=](const In& x) { return clamp(x, low, high); };
  };
  CHECK(gradient(clamped(-0.5, 0.2), {-0.5, 0.2, 0, 0.7, -0.7, kNan}) == Values{0, 0, 1, 0, 0, 0});
  CHECK(gradient(clamped(-kInf, 0.2), {-kInf, -5, 0.2}) == Values{1, 1, 0});
  CHECK(gradient(clamped(0.2, kInf), {kInf, 5, 0.2}) == Values{1, 1, 0});
  CHECK(gradient(clamped(-1, 1), {0.5, 2}, kInf) == Values{kInf, 0});
}

TEST_CASE("square roots written as powers are square roots, at -inf and -0 too") {
  const Tensor x = tensor(Values{-kInf, -0., 0, 4, kInf}, float64);
  CHECK(same(values(pow(x, 0.5)), {kNan, -0., 0, 2, kInf}));
  CHECK(same(values(pow(x, -0.5)), {kNan, -kInf, kInf, 0.5, 0}));
  CHECK(same(values(pow(x.to(float32), 0.5)), {kNan, -0., 0, 2, kInf}));
  CHECK(same(values(pow(x.to(float32), -0.5)), {kNan, -kInf, kInf, 0.5, 0}));
  CHECK(gradient([](const In& v) { return pow(v, 0.5); }, {4}) == Values{0.25});
}

TEST_CASE("what dropout drops is 0, whatever it was, and so is its gradient") {
  for (double p : {0.5, 1.})
    for (double value : {kInf, -kInf, kNan}) {
      CAPTURE(p);
      CAPTURE(value);
      const Tensor x = full({1, 10, 8, 8}, value).requires_grad_();
      const nn::Dropout elements(p);
      const nn::Dropout2d channels(p);
      for (const Tensor& y : {elements(x), channels(x)}) {
        x.zero_grad();
        y.backward(full_like(y, value));
        const Values out = values(y), d = values(x.grad());
        std::size_t dropped = 0;
        for (std::size_t i = 0; i < out.size(); ++i) {
          dropped += out[i] == 0;
          CHECK((out[i] == 0) == (d[i] == 0));
          CHECK((out[i] == 0 || std::isnan(value) == std::isnan(out[i])));
          if (out[i] != 0 && !std::isnan(value)) CHECK(out[i] == value);
        }
        CHECK(dropped >= (p == 1 ? out.size() : 1));
        CHECK((p == 1 || dropped < out.size()));
      }
    }
}

TEST_CASE("a row that cross_entropy ignores may hold anything, to second order") {
  for (double value : {kInf, -kInf, kNan}) {
    const Tensor x = leaf({1, 2, 3, value, 0, value}, {2, 3}), target = tensor({1, -100});
    for (double smoothing : {0., 0.1}) {
      const Tensor y = nn::cross_entropy(x, target, {.label_smoothing = smoothing});
      CHECK(std::isfinite(y.item()));
      const Tensor d = grad({y}, {x}, {.create_graph = true})[0];
      const Values first = values(d), second = values(grad({sum(square(d))}, {x})[0]);
      for (std::size_t i = 0; i < 6; ++i) {
        CHECK((i < 3 ? std::isfinite(first[i]) && first[i] != 0 : first[i] == 0));
        CHECK((i < 3 ? std::isfinite(second[i]) && second[i] != 0 : second[i] == 0));
      }
    }
    const Tensor y = nn::nll_loss(x, target);
    CHECK(y.item() == -2);
    CHECK(values(grad({y}, {x})[0]) == Values{0, -1, 0, 0, 0, 0});
  }
}

TEST_CASE("a mean loss is right where the sum of the losses is not representable") {
  const Tensor x = full({4}, 1e19), y = full({4}, -5e18);
  CHECK(nn::mse_loss(x, y).item() == doctest::Approx(2.25e38).epsilon(1e-6));
  const Tensor scores = full({4, 2}, 2e38);
  CHECK(nn::nll_loss(-scores, tensor({0, 1, 0, 1})).item() == doctest::Approx(2e38).epsilon(1e-6));
  const Tensor logits = tensor({{0., 2e38}, {2e38, 0.}});
  CHECK(nn::cross_entropy(logits, tensor({0, 1})).item() == doctest::Approx(2e38).epsilon(1e-6));
}
