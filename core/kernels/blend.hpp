#pragma once
/// @file
/// A step from one tensor towards another.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// into += weight (from - into). It starts from the nearer of the two, so that a weight of 0 or 1
/// is exact (1 copies). Both have one shape and a floating dtype, not always the same one. It needs
/// no memory. The graph names `op` as what changed `into`.
void blend(const char* op, const Tensor& into, const Tensor& from, double weight);

}  // namespace descent
