#include "descent/core/kernels/crc32c.hpp"

#include <array>
#include <cstring>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace [[gnu::visibility("default")]] descent {
namespace {

// A CRC is a polynomial over GF(2) modulo this one; the highest bit is the coefficient of x^0.
constexpr uint32_t kPolynomial = 0x82F63B78;

/// The product of a and x.
constexpr uint32_t times_x(uint32_t a) { return a & 1 ? a >> 1 ^ kPolynomial : a >> 1; }

/// The product of a and b.
constexpr uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (; a != 0; a <<= 1, b = times_x(b))
    if (a >> 31) product ^= b;
  return product;
}

/// x^(8 n), by which n bytes that follow multiply a CRC.
constexpr uint32_t shift_by(std::size_t n) {
  uint32_t power = uint32_t{1} << 31, square = uint32_t{1} << 23;  // x^0, x^8
  for (; n != 0; n >>= 1, square = multiply(square, square))
    if (n & 1) power = multiply(power, square);
  return power;
}

/// The CRC of each byte.
constexpr auto kTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    table[byte] = byte;
    for (int bit = 0; bit < 8; ++bit) table[byte] = times_x(table[byte]);
  }
  return table;
}();

uint64_t load(const unsigned char* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

#if defined(__x86_64__)
#define DESCENT_CRC_TARGET [[gnu::target("sse4.2")]]
#define DESCENT_CRC_WORD(crc, word) static_cast<uint32_t>(__builtin_ia32_crc32di(crc, word))
bool has_instruction() { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
#define DESCENT_CRC_TARGET [[gnu::target("+crc")]]
#define DESCENT_CRC_WORD(crc, word) __builtin_aarch64_crc32cx(crc, word)
bool has_instruction() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#endif

#if defined(DESCENT_CRC_TARGET)
/// The whole blocks of a text; moves p behind them. The instruction takes three cycles, and one can
/// begin in each cycle, so three parts of a block run side by side.
DESCENT_CRC_TARGET uint32_t crc_of_blocks(const unsigned char*& p, std::size_t& count,
                                          uint32_t crc) {
  constexpr std::size_t kPartBytes = 1 << 14;
  static const uint32_t one_part = shift_by(kPartBytes), two_parts = shift_by(2 * kPartBytes);
  for (; count >= 3 * kPartBytes; count -= 3 * kPartBytes, p += 3 * kPartBytes) {
    uint32_t second = 0, third = 0;
    for (std::size_t i = 0; i < kPartBytes; i += 8) {
      crc = DESCENT_CRC_WORD(crc, load(p + i));
      second = DESCENT_CRC_WORD(second, load(p + kPartBytes + i));
      third = DESCENT_CRC_WORD(third, load(p + 2 * kPartBytes + i));
    }
    crc = multiply(crc, two_parts) ^ multiply(second, one_part) ^ third;
  }
  for (; count >= 8; count -= 8, p += 8) crc = DESCENT_CRC_WORD(crc, load(p));
  return crc;
}
#endif

}  // namespace

uint32_t crc32c_by_table(const void* bytes, std::size_t count, uint32_t crc) {
  const auto* p = static_cast<const unsigned char*>(bytes);
  crc = ~crc;
  for (; count > 0; --count, ++p) crc = crc >> 8 ^ kTable[(crc ^ *p) & 255];
  return ~crc;
}

uint32_t crc32c(const void* bytes, std::size_t count, uint32_t crc) {
  const auto* p = static_cast<const unsigned char*>(bytes);
#if defined(DESCENT_CRC_TARGET)
  static const bool hardware = has_instruction();
  if (hardware) crc = ~crc_of_blocks(p, count, ~crc);
#endif
  return crc32c_by_table(p, count, crc);
}

uint32_t crc32c_of_both(uint32_t first, uint32_t second, std::size_t second_bytes) {
  return multiply(first, shift_by(second_bytes)) ^ second;
}

}  // namespace descent
