#pragma once
/// @file
/// Tensors in files that PyTorch and others read too: safetensors. After 8 bytes with its length
/// comes a header in JSON that names each tensor, then the elements, little-endian and row-major.
/// Source: the README and the reference reader of huggingface/safetensors.

#include <unordered_map>

#include "descent/core/kernels/element.hpp"
#include "descent/core/tensor/named.hpp"
#include "descent/data/formats/convert.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// What a file holds beside its tensors: texts with names.
using Metadata = std::unordered_map<std::string, std::string>;

/// What `save` writes beside the tensors.
struct SaveOptions {
  /// Add a CRC-32C of each tensor and one of the header, as texts "descent.crc32c.<name>" and
  /// "descent.crc32c" beside "descent.format". Without them and other texts, the file has the bytes
  /// that the reference writer gives it.
  bool checksums = true;
  Metadata metadata = {};  ///< texts to save, under names of your own
};

/// How `load` reads.
struct LoadOptions {
  bool convert = false;  ///< read other element types too: see ConvertOptions
  /// Do not copy the elements: the tensors are the pages of the file, which are read when they are
  /// needed. Changing a tensor does not change the file, but a program that writes into the file
  /// changes the tensors, and one that shortens it kills this process (`save` does neither). Bools
  /// and what is not aligned in the file are copied.
  bool map = false;
};

/// The content of a safetensors file.
struct SafeTensors : NamedTensors {
  /// Its tensors, in the order of the file.
  using NamedTensors::NamedTensors;
  Metadata metadata;      ///< its texts, without the checksums
  bool verified = false;  ///< whether it had checksums; if so, they were right
};

/// Writes tensors to a safetensors file, from which PyTorch loads them under the same names:
/// `save("weights.safetensors", model.state_dict())`.
///
/// The file is replaced as a whole or, after an error, not at all. ValueError for a name that is
/// used twice, is not UTF-8, has a NUL byte or more than 1,024 bytes, or is "__metadata__" (for a
/// text: one of the names above), for a text that is not UTF-8, and for an undefined tensor.
/// IoError if the file cannot be written.
void save(const std::string& path, const NamedTensors& tensors, const SaveOptions& options = {},
          At at = At::here());

/// Reads a safetensors file: `model.load_state_dict(load("weights.safetensors"))`.
///
/// The header must obey every rule of the format: no tensor may overlap another one or leave a gap,
/// sizes must be right, names may not repeat. If the file has checksums, all of them are verified.
/// It takes the memory of the tensors, and that of the header a few times over. IoError if the file
/// cannot be read; FormatError with the path and the offset of the byte; DtypeError for an element
/// type that is no dtype, unless `options` say that it shall be converted.
[[nodiscard]] SafeTensors load(const std::string& path, const LoadOptions& options = {},
                               At at = At::here());

}}  // namespace descent::data

namespace [[gnu::visibility("default")]] descent {
// As in torch.save and torch.load.
using data::load, data::save;
}  // namespace descent
