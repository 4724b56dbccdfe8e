#pragma once
#include "support.hpp"

// What tests of the graph share.

inline descent::Tensor leaf(std::initializer_list<double> values) {
  return descent::tensor(values).requires_grad_();
}

/// x, by an op called "mine" whose derivative is `f`.
template <class F> descent::Tensor mine(const descent::In& x, F f) {
  return record("mine", map("mine", x, [](auto v) { return v; }), wrt(x, f));
}

/// How much of what the graph needs is in use.
struct Live {
  int64_t nodes = descent::memory_stats().live_nodes,
          storages = descent::memory_stats().live_storages,
          bytes = descent::memory_stats().live_bytes;
  bool operator==(const Live&) const = default;
};
