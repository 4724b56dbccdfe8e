#pragma once
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
