#include "descent/data/formats/npy.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fmt/format.h>
#include <memory>

#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/view.hpp"
#include "descent/data/formats/file.hpp"
#include "descent/data/formats/npy_content.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kLongestHeaderBytes = 64 << 10, kDecodedAtOnceBytes = 1 << 20;
// numpy fills its headers up to a multiple of 64 bytes, after leaving room for a size to grow: this
// is what it makes of every shape that a tensor can have.
constexpr std::size_t kHeaderBytes = 128;
constexpr std::string_view kMagic("\x93NUMPY", 6);
// In the order of Element. No text in a header has the line feed, which stands for bfloat16.
constexpr std::string_view kTypes[] = {"b1", "u1", "i1", "i2", "u2", "f2", "\n",
                                       "i4", "u4", "f4", "f8", "i8", "u8"};

struct Header {
  std::string type;  // of the elements, as it is written there
  Element element = Element::boolean;
  bool big_endian = false, fortran_order = false;
  Shape shape = {};
  std::size_t start = 0, bytes = 0;  // where the elements begin, and how many bytes they have
};

/// Reads the text of a header: a dictionary, as a literal of Python.
struct HeaderParser {
  const NpyContent& content;
  std::string_view text;
  std::size_t start;                // of the text in the file
  std::size_t next = 0, token = 0;  // of the rest and of the last part of it, in the text

  Header parse() {
    Header header;
    need("{");
    for (unsigned seen = 0; seen != 7;) {
      const std::string_view key = string();
      const unsigned bit = key == "descr" ? 1 : key == "shape" ? 2 : key == "fortran_order" ? 4 : 8;
      if ((bit & (seen | 8)) != 0)
        refuse("need the keys descr, fortran_order and shape, each once");
      seen |= bit;
      need(":");
      if (bit == 1) read_type(header);
      else if (bit == 2) header.shape = shape();
      else if (take("True")) header.fortran_order = true;
      else need("False");
      if (!take(",") && seen != 7) need(",");
    }
    need("}");
    take("");  // blanks
    if (next < text.size()) refuse("the header goes on after its dictionary");
    header.start = start + text.size();
    header.bytes = item_size(header.element);  // `shape` makes sure that nothing overflows
    for (const int64_t size : header.shape) header.bytes *= static_cast<std::size_t>(size);
    return header;
  }

  void read_type(Header& header) {
    header.type = string();
    const std::string_view name = std::string_view(header.type).substr(!header.type.empty());
    const auto* found = std::ranges::find(kTypes, name);
    const std::string_view orders = name.ends_with('1') ? "<>=|" : "<>=";  // single bytes need none
    if (found == std::end(kTypes) || orders.find(header.type[0]) == orders.npos)
      refuse(
          fmt::format("elements of type {} are not supported: need < > = or, for single bytes, "
                      "|; then b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 or f8",
                      quote(header.type)));
    header.element = static_cast<Element>(found - kTypes);
    header.big_endian = header.type[0] == '>';
  }

  Shape shape() {
    Shape shape;
    std::size_t extent = sizeof(int64_t);  // in bytes, of the largest elements
    for (need("("); !take(")");) {
      std::size_t size = 0;
      token = next;
      const auto [end, error] =
          std::from_chars(text.data() + next, text.data() + text.size(), size);
      next = static_cast<std::size_t>(end - text.data());
      if (next == token || (text[token] == '0' && next > token + 1))
        refuse("need a size, decimal and not negative");
      if (shape.rank() == kMaxRank) refuse("the shape has more than 8 axes");
      if (error != std::errc{} || size > INT64_MAX / extent)
        refuse(fmt::format("the size of axis {} is too large", shape.rank()));
      extent *= std::max<std::size_t>(size, 1);  // a 0 must not hide other sizes that are too large
      shape.push_back(static_cast<int64_t>(size));
      if (next < text.size() && text[next] == 'L') ++next;  // long integers of Python 2
      if (take(",")) continue;
      need(shape.rank() == 1 ? "," : ")");  // (n) is a number and no shape
      break;
    }
    return shape;
  }

  std::string_view string() {
    const char quote = take("\"") ? '"' : '\'';
    if (quote == '\'') need("'");
    token = next;
    next = std::min(text.find_first_of("'\"\\\n", next), text.size());
    if (next == text.size() || text[next] != quote) refuse("a text without an end");
    return text.substr(token, next++ - token);
  }

  bool take(std::string_view word) {  // after blanks
    token = next = std::min(text.find_first_not_of(" \t\r\n", next), text.size());
    const bool there = text.substr(next).starts_with(word);
    if (there) next += word.size();
    return there;
  }
  void need(std::string_view word) {
    if (!take(word)) refuse(fmt::format("need {} in the header", word));
  }
  [[noreturn]] void refuse(const std::string& what) const { content.refuse(start + token, what); }
};

Header read_header(const NpyContent& content) {
  unsigned char head[12] = {};
  std::size_t have = content.read(head, 8);
  const bool magic = have == 8 && std::memcmp(head, kMagic.data(), kMagic.size()) == 0;
  if (!magic || head[6] < 1 || head[6] > 3 || head[7] != 0)
    content.refuse(0, "not how an NPY file begins: need \\x93NUMPY and version 1.0, 2.0 or 3.0");
  const std::size_t start = head[6] == 1 ? 10 : 12;  // the length has two bytes, later four
  have += content.read(head + 8, start - 8);
  uint32_t length = 0;
  std::memcpy(&length, head + 8, sizeof length);
  if (length > kLongestHeaderBytes) content.refuse(8, "the header is longer than 64 KiB");
  std::string text(length, '\0');
  if (have == start) have += content.read(text.data(), length);
  if (have < start + length) content.refuse(have, "the file ends in its header");
  return HeaderParser{content, text, start}.parse();
}

[[noreturn]] void refuse_count(const NpyContent& content, const Header& header, std::size_t have,
                               const std::string& there) {
  content.refuse(header.start + have,
                 fmt::format("shape {} needs {} bytes of elements, there are {}", str(header.shape),
                             header.bytes, there));
}

/// Reads the elements into `out`, which is contiguous and has the axes in the order of the file.
void read_elements(const NpyContent& content, const Header& header, const Tensor& out) {
  const auto read = [&](void* to, std::size_t count, std::size_t done) {
    const std::size_t have = done + content.read(to, count);
    if (have < done + count) refuse_count(content, header, have, fmt::to_string(have));
  };
  const bool truth = header.element == Element::boolean;
  if (is_native(header.element) && !truth && !header.big_endian)
    return read(bytes_of(out), header.bytes, 0);
  const auto buffer = std::make_unique<char[]>(std::min(header.bytes, kDecodedAtOnceBytes));
  const Tensor flat = out.reshape({out.numel()});
  const std::size_t item = item_size(header.element);
  for (std::size_t done = 0, count = 0; done < header.bytes; done += count) {
    count = std::min(header.bytes - done, kDecodedAtOnceBytes);
    read(buffer.get(), count, done);
    const int64_t bad = decode(
        header.element, buffer.get(), header.big_endian ? std::endian::big : std::endian::little,
        flat.narrow(0, static_cast<int64_t>(done / item), static_cast<int64_t>(count / item)));
    if (bad >= 0)
      content.refuse(header.start + done + static_cast<std::size_t>(bad) * item,
                     truth ? "a bool that is neither 0 nor 1" : "a uint64 that int64 cannot hold");
  }
}

}  // namespace

void NpyContent::refuse(std::size_t offset, const std::string& what) const {
  fail<FormatError>(at, "{}: byte {}{}: {}", name, offset, unit, what);
}

Tensor read_array(const NpyContent& content, const ConvertOptions& options) {
  const Header header = read_header(content);
  const DType dtype = dtype_for(header.element);
  if (!is_native(header.element) && !options.convert)
    fail<DtypeError>(content.at,
                     "{}: elements of type \"{}\" have no dtype: {.convert = true} makes them {}",
                     content.name, header.type, dtype);
  const std::size_t left = content.most_bytes - std::min(content.most_bytes, header.start);
  if (header.bytes > left) refuse_count(content, header, 0, fmt::format("at most {}", left));
  Shape shape;
  Dims back{};
  for (int d = 0; d < header.shape.rank(); ++d) {
    shape.push_back(header.shape[header.fortran_order ? -1 - d : d]);
    back.push_back(-1 - d);
  }
  const Tensor out = empty(shape, dtype, content.at);
  read_elements(content, header, out);
  char more = 0;
  if (content.read(&more, 1) > 0) refuse_count(content, header, header.bytes, "more");
  return header.fortran_order ? out.permute(back, content.at).contiguous(content.at) : out;
}

std::string npy_header(const Tensor& x) {
  std::string shape;
  for (const int64_t size : x.shape()) shape += (shape.empty() ? "" : ", ") + fmt::to_string(size);
  std::string text = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                 x.dtype() == boolean ? '|' : '<',
                                 kTypes[static_cast<std::size_t>(element_of(x.dtype()))], shape,
                                 x.dim() == 1 ? "," : "");
  text.resize(kHeaderBytes - kMagic.size() - 5, ' ');
  const std::size_t length = text.size() + 1;
  return fmt::format("{}\1{:c}{:c}{:c}{}\n", kMagic, 0, length, 0, text);
}

Tensor read_npy(const std::string& path, const ConvertOptions& options, At at) {
  InputFile file("read_npy", path, at);
  std::size_t next = 0;
  const auto read = [&](void* to, std::size_t count) {
    if (file.compressed()) return file.read(to, count);
    count = std::min(count, file.size() - next);
    file.read_at(next, to, count);
    next += count;
    return count;
  };
  const char* unit = file.compressed() ? " of the inflated content" : "";
  return read_array({"read_npy: " + path, unit, at, file.most_bytes(), read}, options);
}

void write_npy(const std::string& path, const Tensor& x, At at) {
  if (!x.defined()) fail<ValueError>(at, "write_npy: the tensor is undefined");
  const Tensor elements = x.detach().contiguous(at);
  OutputFile file("write_npy", path, at);
  file.write(npy_header(elements));
  file.write(bytes_of(elements), byte_count(elements));
  file.commit();
}

}}  // namespace descent::data
