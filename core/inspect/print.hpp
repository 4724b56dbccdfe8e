#pragma once
/// @file
/// Tensors as text.

#include <iosfwd>
#include <string>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// What a person can read: nested brackets with aligned columns, then a line with dtype and shape.
///     [[ 0.5,  1.0],
///      [ inf, -2.0]]
///     float32 [2, 2]
/// Floats have at most 4 decimals, as many in all elements, and an exponent where that would hide
/// their size: the largest is 1e8 or more or below 1e-3, or one that is not zero would read 0.0000.
/// Of a tensor with more than 1000 elements, 3 at each end of each axis are shown. Scalars and
/// empty tensors take one line, `3.5  float32 []`; an undefined tensor is "undefined". Ends in no
/// newline; the locale does not matter.
[[nodiscard]] std::string str(const Tensor& x);
/// Writes str(x), or str of the shape or dtype.
std::ostream& operator<<(std::ostream& out, const Tensor& x);
std::ostream& operator<<(std::ostream& out, const Shape& shape);
std::ostream& operator<<(std::ostream& out, DType dtype);

}  // namespace descent
