#pragma once
#include <functional>
#include <string>

#include "descent/core/kernels/element.hpp"
#include "descent/data/formats/convert.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// The content of an NPY file, which may be a part of another file, from front to back.
struct NpyContent {
  std::string name;        ///< "OP: PATH" for errors
  const char* unit;        ///< what follows the offset of a byte in errors
  At at;                   ///< the call of the reader
  std::size_t most_bytes;  ///< there are no more than these
  /// Reads the next `count` bytes; returns how many there were: fewer only at the end.
  std::function<std::size_t(void* to, std::size_t count)> read;

  /// Throws a FormatError that says what is wrong at this byte of the content.
  [[noreturn]] void refuse(std::size_t offset, const std::string& what) const;
};

/// The array in an NPY file: see `read_npy`.
[[nodiscard]] Tensor read_array(const NpyContent& content, const ConvertOptions& options);

/// What an NPY file has in front of the elements of a contiguous tensor.
[[nodiscard]] std::string npy_header(const Tensor& x);

}}  // namespace descent::data
