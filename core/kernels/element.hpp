#pragma once
/// @file
/// The elements of tensors as they are in files.

#include <bit>
#include <cstddef>
#include <optional>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The types that elements have in files, in the order in which safetensors sorts them.
enum class Element : uint8_t {
  boolean,
  uint8,
  int8,
  int16,
  uint16,
  float16,
  bfloat16,
  int32,
  uint32,
  float32,
  float64,
  int64,
  uint64
};

/// The number of bytes per element.
[[nodiscard]] std::size_t item_size(Element element);
/// Whether the type is float16, bfloat16, float32 or float64.
[[nodiscard]] bool is_floating(Element element);
/// The number of bytes of contiguous elements of this shape; nothing if there are more than `most`,
/// or if only an axis of size 0 makes them fewer.
[[nodiscard]] std::optional<std::size_t> extent_in_bytes(Element element, const Shape& shape,
                                                         std::size_t most = INT64_MAX);
/// The smallest dtype that holds all values of the type: bool, int64, float32 or float64. (There is
/// none for uint64; int64 holds those below 2^63.)
[[nodiscard]] DType dtype_for(Element element);
/// The type that files have for the elements of a tensor.
[[nodiscard]] Element element_of(DType dtype);
/// Whether a tensor's elements can be read and written as they are: float32, float64, int64, bool.
[[nodiscard]] bool is_native(Element element);

/// Converts the elements that are at `bytes`, in this byte order, to those of `out`, which is
/// contiguous: as C++ does, so that in bool, only zero becomes false. They may be the last bytes of
/// `out` itself. Returns the index of the first element that is no value of its type (a boolean
/// that is neither 0 nor 1), or that int64 cannot hold; -1 if there is none.
[[nodiscard]] int64_t decode(Element element, const void* bytes, std::endian order,
                             const Tensor& out);

/// Converts the elements of a contiguous tensor to those of another type, which are not float16 or
/// bfloat16, and puts them at `bytes` in this byte order. Returns the index of the first element
/// that the type cannot hold; -1 if there is none. What is floating fits in floating types only.
[[nodiscard]] int64_t encode(const Tensor& tensor, Element element, std::endian order, void* bytes);

/// The elements of a contiguous tensor as bytes.
[[nodiscard]] char* bytes_of(const Tensor& tensor);
/// How many bytes the elements of a contiguous tensor have.
[[nodiscard]] std::size_t byte_count(const Tensor& tensor);

}  // namespace descent
