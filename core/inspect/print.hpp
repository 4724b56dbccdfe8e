#pragma once
/// @file
/// Tensors as text.

#include <iosfwd>
#include <string>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The tensor as text: nested brackets with aligned columns, then a line with dtype and shape.
///     [[ 0.5,  1.0],
///      [ inf, -2.0]]
///     float32 [2, 2]
/// Floating-point numbers have at most 4 decimals, the same number in all elements. They have an
/// exponent if decimals alone would hide their size: if the largest is 1e8 or more or below 1e-3,
/// or if one that is not zero would read 0.0000. Of a tensor with more than 1000 elements, 3 at
/// each end of each axis are shown. Scalars and empty tensors take one line, `3.5  float32 []`; an
/// undefined tensor is "undefined". There is no newline at the end, and no locale changes the text.
[[nodiscard]] std::string str(const Tensor& x);
/// Writes str(x), or str of the shape or dtype.
std::ostream& operator<<(std::ostream& out, const Tensor& x);
std::ostream& operator<<(std::ostream& out, const Shape& shape);
std::ostream& operator<<(std::ostream& out, DType dtype);

}  // namespace descent
