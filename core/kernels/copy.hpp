#pragma once
#include "descent/core/tensor/tensor.hpp"

// Copies in row-major order, outside the graph.

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// A copy with elements of `dtype`. ValueError if `dtype` is int64 and does not hold an element.
[[nodiscard]] Tensor convert(const char* op, const In& x, DType dtype);
/// x itself if its elements lie in row-major order, otherwise a copy in that order. It is for
/// reading only, because it may share elements with x.
[[nodiscard]] Tensor pack(const In& x);

}}  // namespace descent::detail
