#pragma once
/// @file
/// A step from one tensor towards another.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// into += weight (from - into), from the nearer of the two, so that a weight of 0 or 1 is exact
/// (1 copies). Of one shape, floating; `from` may have the other dtype. Needs no memory. `op` is
/// what the graph takes for the writer.
void blend(const char* op, const Tensor& into, const Tensor& from, double weight);

}  // namespace descent
