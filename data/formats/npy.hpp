#pragma once
/// @file
/// NPY and NPZ, the formats of NumPy ("NEP 1: A Simple File Format for NumPy Arrays"). An NPY file
/// has one array: a version, a header that is a Python dictionary, then the elements. An NPZ file
/// is a ZIP archive ("APPNOTE.TXT: .ZIP File Format Specification") of files NAME.npy.

#include <string>

#include "descent/core/tensor/named.hpp"
#include "descent/data/formats/convert.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// Reads an NPY file of version 1.0, 2.0 or 3.0 with an array of rank 0 to 8, in either byte order;
/// the tensor is contiguous, also if the file has Fortran's order. Whatever its name is, the file
/// may be compressed by gzip.
///
/// Elements are bool, int8 to int64, uint8 to uint64, float16, float32 or float64. They become a
/// tensor of their own type, or as `options` say; uint64 values end below 2^63. The file must be
/// exactly as long as its header says. Memory grows to at most 8 times the bytes that the file can
/// hold (8 is for uint8 as int64), and twice as much in Fortran's order; float32, float64 and int64
/// in C's order need no more than the tensor.
/// IoError if the file cannot be read; DtypeError if the elements' type is no dtype and is not to
/// be converted; FormatError with the path and the offset of the byte for everything else,
/// such as complex numbers, texts, objects and structures.
[[nodiscard]] Tensor read_npy(const std::string& path, const ConvertOptions& options = {},
                              At at = At::here());

/// Writes a tensor as an NPY file of version 1.0: the bytes that NumPy's `save` writes. Other
/// programs see the old file or the new one, never a part.
/// ValueError if x is undefined; IoError if the file cannot be written.
void write_npy(const std::string& path, const Tensor& x, At at = At::here());

/// Reads the arrays of an NPZ file, stored or compressed, in the order of its directory. Their
/// names are those of the archive without ".npy", and may be any UTF-8 without a backslash, a NUL
/// byte, a '/' in front or ".." between slashes. They are never used as paths.
///
/// Arrays are read as `read_npy` reads them, with the same errors. The archive must be whole and
/// unambiguous: checksums are right, members do not overlap, names differ, and both headers of a
/// member agree. Encrypted archives and those of several parts are refused. A compressed member
/// may be 256 times as large as its compressed bytes (or 4 MiB), which are in memory meanwhile, and
/// so may all of them together.
[[nodiscard]] NamedTensors read_npz(const std::string& path, const ConvertOptions& options = {},
                                    At at = At::here());

/// Writes tensors as an NPZ file, uncompressed, which NumPy's `load` reads. The records are those
/// of ZIP64, whatever the sizes. Other programs see the old file or the new one, never a part.
/// ValueError for a tensor that is undefined, for a name that `read_npz` does not accept, that is
/// longer than 65531 bytes or that two tensors have; IoError if the file cannot be written.
void write_npz(const std::string& path, const NamedTensors& tensors, At at = At::here());

}}  // namespace descent::data
