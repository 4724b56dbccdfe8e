#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "support.hpp"

// What tests of optimizers share.

inline descent::Tensor leaf(const Values& values, descent::DType dtype = descent::float64) {
  return descent::tensor(values, dtype).requires_grad_();
}
inline void set_gradient(const descent::Tensor& p, const Values& g) {
  p.set_grad(descent::tensor(g, p.shape(), p.dtype()));
}

/// f.operator()<Opt>(): for every rule, with options that use all of its state.
template <class F> void for_every_rule(F f) {
  using namespace descent::optim;
  auto run = [&]<class Opt>(Opt*, typename Opt::Rule options) {
    options.lr = 0.01;
    CAPTURE(std::string(Opt::Rule::name));
    f.template operator()<Opt>(options);
  };
  auto none = []<class Opt>() { return static_cast<Opt*>(nullptr); };
  run(none.template operator()<SGD>(), {.momentum = 0.9, .dampening = 0.1});
  run(none.template operator()<Adagrad>(), {});
  run(none.template operator()<RMSprop>(), {.momentum = 0.5, .centered = true});
  run(none.template operator()<Adadelta>(), {});
  run(none.template operator()<Rprop>(), {});
  run(none.template operator()<ASGD>(), {.t0 = 2});
  run(none.template operator()<Lion>(), {});
  run(none.template operator()<Adam>(), {.amsgrad = true});
  run(none.template operator()<AdamW>(), {.weight_decay = 0});
  run(none.template operator()<Adamax>(), {});
  run(none.template operator()<NAdam>(), {});
  run(none.template operator()<RAdam>(), {});
  run(none.template operator()<LARS>(), {});
  run(none.template operator()<LAMB>(), {});
  run(none.template operator()<Adafactor>(), {});
  run(none.template operator()<Muon>(), {.weight_decay = 0});
  run(none.template operator()<Polyak>(), {});
}

inline descent::Tensor matrix(int64_t n, int64_t m, double from,
                              descent::DType dtype = descent::float64) {
  return descent::linspace(from, from + 1, n * m, dtype).reshape({n, m}).clone().requires_grad_();
}
/// Gradients that differ by step, element and size.
inline void set_gradients(const descent::NamedTensors& parameters, int t, double sign = 1) {
  for (const auto& [name, p] : parameters) {
    Values g;
    for (int64_t i = 0; i < p.numel(); ++i)
      g.push_back(sign * static_cast<double>((17 * i + 5 * t) % 23 - 11) / 8);
    p.set_grad(descent::tensor(g, p.shape(), p.dtype()));
  }
}

/// A state dict without one entry; with another in its place, or with one more.
inline descent::NamedTensors without(descent::NamedTensors state, const std::string& key) {
  std::erase_if(state, [&](const auto& entry) { return entry.first == key; });
  return state;
}
inline descent::NamedTensors with(descent::NamedTensors state, const std::string& key,
                                  const descent::Tensor& value) {
  for (auto& [name, t] : state) {
    if (name != key) continue;
    t = value;
    return state;
  }
  state.emplace_back(key, value);
  return state;
}
/// The entry of this name.
inline descent::Tensor entry(const descent::NamedTensors& state, const std::string& key) {
  for (const auto& [name, t] : state)
    if (name == key) return t;
  FAIL("there is no ", key);
  return {};
}

/// Steps from..to along set_gradients, each with a loss of its own.
inline void walk(descent::optim::OptimizerBase& opt, int from, int to, double sign = 1) {
  for (int t = from; t <= to; ++t) {
    set_gradients(opt.parameters(), t, sign);
    opt.step(descent::tensor(sign * (1 + t % 3), descent::float64));
  }
}

/// Collects what an optimizer reports.
struct Reports : descent::Pinned {
  explicit Reports(descent::optim::OptimizerBase& opt) {
    opt.on_report([this](const std::string& text) { all.push_back(text); });
  }
  std::vector<std::string> all;
};

/// Three parameters, the last one without a gradient.
struct Three {
  explicit Three(descent::DType dtype = descent::float64)
      : a(leaf({0, 0, 0}, dtype)),
        b(descent::zeros({2, 2}, dtype).requires_grad_()),
        c(leaf({1}, dtype)),
        all{{"a", a}, {"b", b}, {"c", c}} {
    set_gradient(a, ga);
    set_gradient(b, gb);
  }
  const Values ga{3, -4, 0.5}, gb{1, -2, 0.25, 6};
  descent::Tensor a, b, c;
  descent::NamedTensors all;
};

inline void set_values(const descent::Tensor& p, const Values& v) {
  const descent::NoGradGuard no_grad;
  p.copy_(descent::tensor(v, p.shape(), p.dtype()));
}
/// The values of all of them, one after the other.
inline Values joined(const descent::NamedTensors& tensors) {
  Values all;
  for (const auto& [name, x] : tensors)
    for (double v : values(x)) all.push_back(v);
  return all;
}

/// Whether |found - expected| <= max(rtol |expected|, atol) for all.
inline bool close(const Values& found, const Values& expected, double rtol, double atol) {
  if (found.size() != expected.size()) return false;
  for (std::size_t i = 0; i < found.size(); ++i)
    if (!(std::abs(found[i] - expected[i]) <= std::max(rtol * std::abs(expected[i]), atol))) {
      MESSAGE("element " << i << " is " << found[i] << ", expected " << expected[i]);
      return false;
    }
  return true;
}
inline bool close(const Values& found, const Values& expected, double tolerance = 1e-12) {
  return close(found, expected, tolerance, tolerance);
}
inline bool same_bits(const Values& a, const Values& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](double x, double y) {
    return std::bit_cast<uint64_t>(x) == std::bit_cast<uint64_t>(y);
  });
}
