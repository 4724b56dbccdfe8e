#pragma once
/// @file
/// Reads images.

#include <string>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// Reads a PNG or JPEG file, whichever its first bytes say it is: float32 [channels, H, W] in
/// [0, 1]. `channels` is 3 for RGB or 1 for gray, to which the library that decodes converts.
///
/// A PNG may have a palette, 1 to 16 bits per number, interlaced rows; its transparency, its gamma
/// and its colour profile are ignored, and of a JPEG the orientation that Exif gives. ValueError
/// for other `channels`; IoError if the file cannot be read. FormatError (with the byte up to which
/// a PNG was read; byte 0 for the rest, where nobody knows) for any other file, and for one whose
/// library descent was built without; for one that is damaged, where the library that decodes would
/// only warn too; for a JPEG in CMYK; and if the pixels have more than 4 MiB and more than 256
/// times the bytes of the file. Needs memory of some 8 times the pixels' bytes.
[[nodiscard]] Tensor read_image(const std::string& path, int channels = 3, At at = At::here());

/// Whether descent was built with the library that decodes such files.
[[nodiscard]] bool reads_png();
[[nodiscard]] bool reads_jpeg();

}}  // namespace descent::data
