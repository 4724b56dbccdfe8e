#pragma once
#include <string>

#include "values.hpp"

// What tests of optimizers share.

inline descent::Tensor leaf(const Values& values, descent::DType dtype = descent::float64) {
  return descent::tensor(values).to(dtype).requires_grad_();
}
inline void set_gradient(const descent::Tensor& p, const Values& g) {
  p.set_grad(descent::tensor(g, p.shape()).to(p.dtype()));
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
