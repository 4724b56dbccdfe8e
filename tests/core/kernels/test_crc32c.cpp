#include <string>

#include "descent/core/kernels/crc32c.hpp"

#include "support.hpp"

using namespace descent;

namespace {

/// Bit by bit, as the definition has it.
uint32_t definition(const std::string& text) {
  uint32_t crc = ~uint32_t{0};
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78 : crc >> 1;
  }
  return ~crc;
}

std::string noise_bytes(std::size_t count) {
  std::string text(count, 0);
  uint32_t x = 1;
  for (char& c : text) c = static_cast<char>((x = x * 1664525 + 1013904223) >> 24);
  return text;
}

}  // namespace

TEST_CASE("CRC-32C has the known values") {
  // RFC 3720, appendix B.4, and the value of "123456789" in catalogues of CRCs.
  const std::string ascending = [] {
    std::string text;
    for (char c = 0; c < 32; ++c) text += c;
    return text;
  }();
  const std::pair<std::string, uint32_t> known[] = {{"", 0},
                                                    {"123456789", 0xE3069283},
                                                    {std::string(32, '\0'), 0x8A9136AA},
                                                    {std::string(32, '\xff'), 0x62A8AB43},
                                                    {ascending, 0x46DD794E}};
  for (const auto& [text, crc] : known) {
    CHECK(crc32c(text.data(), text.size()) == crc);
    CHECK(crc32c_by_table(text.data(), text.size()) == crc);
    CHECK(definition(text) == crc);
  }
}

TEST_CASE("CRC-32C of any length, start and division is that of the definition") {
  const std::string text = noise_bytes(200'000);
  for (const std::size_t count : {1U, 7U, 8U, 9U, 63U, 1000U, 49'151U, 49'152U, 49'160U, 147'459U})
    for (const std::size_t start : {0U, 1U, 5U}) {
      const char* p = text.data() + start;
      const uint32_t right = definition(text.substr(start, count));
      CHECK(crc32c(p, count) == right);
      CHECK(crc32c_by_table(p, count) == right);
      for (const std::size_t part : {std::size_t{0}, count / 3, count}) {
        const uint32_t first = crc32c(p, part), second = crc32c(p + part, count - part);
        CHECK(crc32c(p + part, count - part, first) == right);
        CHECK(crc32c_of_both(first, second, count - part) == right);
      }
    }
}
