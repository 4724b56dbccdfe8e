#pragma once
/// @file
/// IDX, the format of MNIST and its family (Y. LeCun, "The MNIST database of handwritten digits"):
/// two zero bytes, the elements' type, the rank, the sizes as big-endian uint32, then the elements
/// in row-major order, big-endian. A file may be gzip-compressed, whatever its name.

#include <string>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// What is in an IDX file.
struct Idx {
  std::string path;   ///< as it was given
  int type;           ///< 0x08 uint8, 0x09 int8, 0x0b int16, 0x0c int32, 0x0d float32, 0x0e float64
  Shape shape;        ///< rank 1 to 8
  std::string bytes;  ///< the elements as they are in the file

  /// The elements converted to `dtype` (to bool: whether they are not zero; a float64 beyond the
  /// range of float32 becomes infinite). DtypeError for int64 from floating numbers.
  [[nodiscard]] Tensor to(DType dtype, At at = At::here()) const;
};

/// Reads an IDX file, at most 4 GiB of elements and rank 1 to 8.
///
/// The file must be exactly as long as its sizes say, and a gzip stream must be whole, with its
/// checksums right and nothing behind it. Memory is taken only for what has been read.
/// IoError if it cannot be read; FormatError with the path and the byte's offset.
[[nodiscard]] Idx load_idx(const std::string& path, At at = At::here());

/// The elements of an IDX file: load_idx(path).to(dtype), with the errors of both.
[[nodiscard]] Tensor read_idx(const std::string& path, DType dtype = descent::float32,
                              At at = At::here());

}}  // namespace descent::data
