#pragma once
/// @file
/// IDX, the format of MNIST and its family (Y. LeCun, "The MNIST database of handwritten digits"):
/// two zero bytes, the elements' type, the rank, the sizes as big-endian uint32, then the elements
/// in row-major order, big-endian. Whatever its name is, a file may be compressed by gzip.

#include <optional>
#include <string>

#include "descent/core/kernels/element.hpp"
#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// The content of an IDX file.
struct Idx {
  std::string path;   ///< the path that was given
  int type;           ///< 0x08 uint8, 0x09 int8, 0x0b int16, 0x0c int32, 0x0d float32, 0x0e float64
  Shape shape;        ///< rank 1 to 8
  std::string bytes;  ///< the elements as they are in the file

  /// The elements converted to `dtype`. In bool, only zero becomes false; in float32, a float64 out
  /// of range becomes infinite. DtypeError if floating elements are to become int64; ValueError if
  /// type, shape and bytes, which anybody can set, do not fit together.
  [[nodiscard]] Tensor to(DType dtype, At at = At::here()) const;
};

/// Reads an IDX file of rank 1 to 8 with at most 4 GiB of elements.
///
/// The file must be exactly as long as its sizes say. A gzip file must be complete and have the
/// right checksums. Memory grows with the bytes that have been read. IoError if the file cannot be
/// read; FormatError with the path and the offset of the byte.
[[nodiscard]] Idx load_idx(const std::string& path, At at = At::here());

/// The elements of an IDX file: load_idx(path).to(dtype), with the errors of both.
[[nodiscard]] Tensor read_idx(const std::string& path, DType dtype = descent::float32,
                              At at = At::here());

/// Writes a tensor of rank 1 to 8 as an IDX file: float32 and float64 as they are, bool as uint8,
/// and int64 as `element`, which is uint8, int8, int16 or int32. Other programs see the old file or
/// the new one, never a part. (`read_idx` reads at most 4 GiB.)
/// DtypeError if int64 has no `element`, or others have one; ValueError that names the first
/// element that does not fit, or if x is undefined; ShapeError for a scalar and for sizes above
/// 2^32 - 1; IoError if the file cannot be written.
void write_idx(const std::string& path, const Tensor& x,
               std::optional<Element> element = std::nullopt, At at = At::here());

}}  // namespace descent::data
