#pragma once
#include <cstddef>
#include <cstdint>

namespace [[gnu::visibility("default")]] descent {

/// The CRC-32C (Castagnoli) of some bytes, or of all bytes so far if `crc` is that of the bytes in
/// front of them. It uses the processor's instruction if there is one.
[[nodiscard]] uint32_t crc32c(const void* bytes, std::size_t count, uint32_t crc = 0);

/// The CRC-32C of a text whose first part has the CRC-32C `first`, and whose second part, of
/// `second_bytes` bytes, has `second`.
[[nodiscard]] uint32_t crc32c_of_both(uint32_t first, uint32_t second, std::size_t second_bytes);

/// The same as crc32c, from tables: what a processor without the instruction runs.
[[nodiscard]] uint32_t crc32c_by_table(const void* bytes, std::size_t count, uint32_t crc = 0);

}  // namespace descent
