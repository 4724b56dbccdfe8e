#pragma once
#include <functional>
#include <string>
#include <vector>

#include "descent/data/formats/safetensors.hpp"

// The header of a safetensors file, as text and as a list.

namespace [[gnu::visibility("default")]] descent { namespace data {

/// The longest header that the format allows.
inline constexpr std::size_t kLongestHeaderBytes = 100'000'000;

/// A tensor of the file.
struct Entry {
  std::string name;
  Element element = Element::float32;
  Shape shape;
  std::size_t source = 0;          // its index in the list that is written
  std::size_t begin = 0, end = 0;  // where its bytes are, counted from the end of the header
  [[nodiscard]] std::size_t bytes() const { return end - begin; }
};
/// The type of its elements, as the file calls it.
const char* type_of(const Entry& e);

struct Header {
  std::vector<Entry> entries;  // in the order of their bytes
  Metadata metadata;
};

/// The header that this text describes, in front of `bytes` bytes of elements. Calls `refuse`,
/// which throws, with an offset in the text and what is wrong there.
Header parse_header(std::string_view text, std::size_t bytes,
                    const std::function<void(std::size_t at, const std::string& what)>& refuse);

/// ValueError if a file cannot hold a tensor or a text of this name.
void check_name(const std::string& name, const char* op, const char* what, At at);

/// Puts the entries in the order of the reference writer, which aligns their elements, and fills in
/// `begin` and `end`.
void arrange(Header& header, const char* op, At at);

/// The text of a header, filled up with spaces to a multiple of 8 bytes.
std::string write_header(const Header& header);

}}  // namespace descent::data
