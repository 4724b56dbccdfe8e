#pragma once
#include "descent/core/tensor/tensor.hpp"

// Matrix products of whole tensors, cut into tiles for the threads. BLAS multiplies each tile.

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// c = a b + bias, contiguous and of `shape`: [.., n, k] by [.., k, m], where a vector is a row and
/// the axes before the last two broadcast to those of `shape`. b is transposed first if `turned`;
/// `bias` [m] may be null. k is at least 1. The bits depend on the sizes and
/// strides, not on the number of threads.
template <class T>
void multiply(const Tensor& a, const Tensor& b, bool turned, const T* bias, const Shape& shape,
              T* c);

}}  // namespace descent::detail
