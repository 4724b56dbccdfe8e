#pragma once
#include "descent/core/tensor/tensor.hpp"

// Copies in row-major order, outside the graph.

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// A copy with elements of `dtype`. ValueError for one that int64 does not hold.
[[nodiscard]] Tensor convert(const char* op, const In& x, DType dtype);
/// x itself, or a copy if its elements do not lie in row-major order: to be read.
[[nodiscard]] Tensor pack(const In& x);

}}  // namespace descent::detail
