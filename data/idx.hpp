#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "descent/core/tensor.hpp"

// IDX, the format of MNIST and its family (Y. LeCun, "The MNIST database of handwritten digits"):
// two zero bytes, the elements' type, the rank, the sizes as big-endian uint32, then the elements
// in row-major order, big-endian. A file may be gzip-compressed, whatever its name.

namespace [[gnu::visibility("default")]] descent { namespace data {

/// The types of IDX elements, by the byte that stands for them in a file.
enum class IdxType : uint8_t {
  uint8 = 0x08,
  int8 = 0x09,
  int16 = 0x0B,
  int32 = 0x0C,
  float32 = 0x0D,
  float64 = 0x0E
};

/// What is in an IDX file.
struct Idx {
  Shape shape;
  IdxType type;
  std::vector<unsigned char> bytes;  ///< the elements as they are in the file
  uint32_t crc;                      ///< CRC-32 of the file's (inflated) content, as in gzip
};

/// Reads an IDX file, at most 4 GiB of elements and rank 1 to 8.
///
/// The file must be exactly as long as its sizes say, and a gzip stream must be whole, with its
/// checksums right and nothing behind it. Memory is taken only for what has been read.
/// IoError if it cannot be read; FormatError with the path and the byte's offset.
Idx load_idx(const std::string& path, At at = At::here());

/// The elements of an IDX file, converted to `dtype` (to bool: whether they are not zero; a float64
/// beyond the range of float32 becomes infinite).
/// Errors as load_idx; DtypeError for int64 from a file of floating numbers.
Tensor read_idx(const std::string& path, DType dtype = descent::float32, At at = At::here());

}}  // namespace descent::data
