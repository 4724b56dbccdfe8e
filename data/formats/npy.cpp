#include "descent/data/formats/npy.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fmt/format.h>
#include <functional>
#include <set>
#include <zlib.h>

#include "descent/core/kernels/element.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/data/formats/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

/// Numbers as they are in files: the lowest byte first.
template <class T> T get(std::string_view from, std::size_t offset) {
  T value;
  std::memcpy(&value, from.data() + offset, sizeof value);
  return value;
}
template <class... T> void put(std::string& to, T... values) {
  (to.append(reinterpret_cast<const char*>(&values), sizeof values), ...);
}

// ---- NPY

constexpr std::size_t kLongestHeaderBytes = 64 << 10;
// Version 1.0 and a header of 'v' bytes, which is 118. NumPy fills its headers up to a multiple of
// 64 bytes in the file, after leaving room for a size to grow: 128 for all shapes of tensors.
constexpr std::string_view kBegin("\x93NUMPY\1\0v\0", 10);
// In the order of Element. No text in a header has both quotes, which stand for bfloat16.
constexpr std::string_view kTypes[] = {"b1", "u1", "i1", "i2", "u2", "f2", "'\"",
                                       "i4", "u4", "f4", "f8", "i8", "u8"};

/// Reads the array in an NPY file, which may be a part of another file, from front to back.
struct NpyReader {
  std::string name;  // "OP: PATH" for errors
  At at;
  std::size_t most_bytes;  // there are no more than these
  // Reads the next `count` bytes; returns how many there were: fewer only at the end.
  std::function<std::size_t(void* to, std::size_t count)> read;

  std::string text = {}, type = {};  // of the header, and of the elements in there
  std::size_t start = 0;             // how many bytes were read: where the elements begin
  std::size_t token = 0, next = 0;   // in the text: its part that was read last, and its rest
  Element element = Element::boolean;
  std::endian order = std::endian::native;
  bool fortran_order = false;
  Shape shape = {};

  Tensor read_array(const ConvertOptions& options) {
    read_header();
    const DType dtype = dtype_for(element);
    if (!is_native(element) && !options.convert)
      fail<DtypeError>(at, "{}: type \"{}\" is no dtype: {.convert = true} makes it {}", name, type,
                       dtype);
    const std::size_t left = most_bytes - std::min(most_bytes, start);
    const std::optional<std::size_t> bytes = extent_in_bytes(element, shape, INT64_MAX / 8);
    if (!bytes || *bytes > left)
      refuse(start, fmt::format("shape {} is too large: there are at most {} bytes of elements",
                                str(shape), left));
    Shape sizes;
    Dims back{};
    for (int d = 0; d < shape.rank(); ++d) {
      sizes.push_back(shape[fortran_order ? -1 - d : d]);
      back.push_back(-1 - d);
    }
    const Tensor out = empty(sizes, dtype, at);
    // What is to be converted is read to the end of `out`, where it is not overwritten too early.
    char* raw = bytes_of(out) + byte_count(out) - *bytes;
    char more = 0;
    const std::size_t have = read(raw, *bytes), rest = read(&more, 1);
    if (have + rest != *bytes)
      refuse(start + have,
             fmt::format("shape {} needs {} bytes of elements, there are {}", str(shape), *bytes,
                         rest > 0 ? "more" : fmt::to_string(have)));
    const bool truth = element == Element::boolean;
    const bool ready = is_native(element) && !truth && order == std::endian::native;
    if (const int64_t bad = ready ? -1 : decode(element, raw, order, out); bad >= 0)
      refuse(start + static_cast<std::size_t>(bad) * item_size(element),
             truth ? "a bool that is neither 0 nor 1" : "a uint64 that int64 cannot hold");
    return fortran_order ? out.permute(back, at).contiguous(at) : out;
  }

  std::string read_text(std::size_t count) {
    std::string bytes(count, '\0');
    const std::size_t have = read(bytes.data(), count);
    start += have;
    if (have < count) refuse(start, "the file ends in its header");
    return bytes;
  }

  void read_header() {
    const std::string begin = read_text(8);
    if (!begin.starts_with(kBegin.substr(0, 6)) || begin[6] < 1 || begin[6] > 3 || begin[7] != 0)
      refuse(0, "not how an NPY file begins: need \\x93NUMPY and version 1.0, 2.0 or 3.0");
    const uint32_t length =
        begin[6] == 1 ? get<uint16_t>(read_text(2), 0) : get<uint32_t>(read_text(4), 0);
    if (length > kLongestHeaderBytes) refuse(8, "the header is longer than 64 KiB");
    text = read_text(length);

    need("{");
    std::set<std::string_view> keys = {"descr", "fortran_order", "shape"};
    while (!keys.empty()) {
      const std::string_view key = read_string();
      if (keys.erase(key) == 0)
        refuse_token("need the keys descr, fortran_order and shape, each once");
      need(":");
      if (key == "descr") read_type();
      else if (key == "shape") read_shape();
      else if (take("True")) fortran_order = true;
      else need("False");
      if (!take(",") && !keys.empty()) need(",");
    }
    need("}");
    take("");
    if (next < text.size()) refuse_token("the header goes on after its dictionary");
  }

  void read_type() {
    type = read_string();
    const auto* found = std::ranges::find(kTypes, std::string_view(type).substr(!type.empty()));
    const std::string_view orders = type.ends_with('1') ? "<>=|" : "<>=";  // bytes need none
    if (found == std::end(kTypes) || orders.find(type[0]) == orders.npos)
      refuse_token(
          fmt::format("elements of type {} are not supported: need < > = or, for single bytes, |; "
                      "then b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 or f8",
                      quote(type)));
    element = static_cast<Element>(found - kTypes);
    if (type[0] == '>') order = std::endian::big;
  }

  void read_shape() {
    for (need("("); !take(")");) {
      int64_t size = -1;
      token = next;
      const char* end = std::from_chars(&text[next], text.data() + text.size(), size).ptr;
      next = static_cast<std::size_t>(end - text.data());
      if (size < 0 || (text[token] == '0' && next > token + 1))
        refuse_token("need a size: decimal, not negative, below 2^63");
      if (shape.rank() == kMaxRank) refuse_token("the shape has more than 8 axes");
      shape.push_back(size);
      if (take(",")) continue;
      need(shape.rank() == 1 ? "," : ")");  // (n) is a number and no shape
      break;
    }
  }

  std::string_view read_string() {
    if (!take("\"")) need("'");
    token = next;
    next = std::min(text.find(text[token - 1], next), text.size());
    if (next == text.size()) refuse_token("a text without an end");
    return std::string_view(text).substr(token, next++ - token);
  }

  bool take(std::string_view word) {  // after blanks
    token = next = std::min(text.find_first_not_of(" \t\r\n", next), text.size());
    const bool there = std::string_view(text).substr(next).starts_with(word);
    if (there) next += word.size();
    return there;
  }
  void need(std::string_view word) {
    if (!take(word)) refuse_token(fmt::format("need {} in the header", word));
  }

  [[noreturn]] void refuse_token(const std::string& what) const {
    refuse(start - text.size() + token, what);
  }
  [[noreturn]] void refuse(std::size_t offset, const std::string& what) const {
    fail<FormatError>(at, "{}: byte {}: {}", name, offset, what);
  }
};

/// What an NPY file has in front of the elements of a contiguous tensor.
std::string npy_header(const Tensor& x) {
  const std::string text = fmt::format(
      "{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}{}), }}",
      x.dtype() == boolean ? '|' : '<', kTypes[static_cast<std::size_t>(element_of(x.dtype()))],
      fmt::join(x.shape().begin(), x.shape().end(), ", "), x.dim() == 1 ? "," : "");
  return fmt::format("{}{:117}\n", kBegin, text);
}

}  // namespace

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
  const char* inflated = file.compressed() ? " (inflated)" : "";
  return NpyReader{"read_npy: " + path + inflated, at, file.most_bytes(), read}.read_array(options);
}

void write_npy(const std::string& path, const Tensor& x, At at) {
  if (!x.defined()) fail<ValueError>(at, "write_npy: the tensor is undefined");
  const Tensor elements = x.detach().contiguous(at);
  OutputFile file("write_npy", path, at);
  file.write(npy_header(elements));
  file.write(bytes_of(elements), byte_count(elements));
  file.commit();
}

// ---- NPZ

namespace {

// The records of a ZIP archive begin with these numbers and have at least so many bytes.
constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50,
                   kEnd64 = 0x06064b50, kLocator = 0x07064b50;
constexpr std::size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56,
                      kLocatorBytes = 20;
constexpr uint32_t kElsewhere = 0xffffffff;  // the number is in a record or a field of ZIP64
constexpr uint16_t kStored = 0, kDeflated = 8, kZip64 = 1, kUtf8 = 1 << 11, kSpeed = 3 << 1;
constexpr uint16_t kVersion = 45, kNone = 0;
constexpr uint32_t kTime = 0x21 << 16;            // 1980-01-01 00:00
constexpr std::size_t kLongestNameBytes = 65531;  // with ".npy", its length still has 16 bits
constexpr std::size_t kAtOnceBytes = 1 << 30;

uint16_t flags_for(std::string_view name) {
  return std::ranges::all_of(name, [](char c) { return (c & 0x80) == 0; }) ? 0 : kUtf8;
}

/// Adds the name of an array to `names`; what is wrong with it, null if nothing is.
const char* add_name(const std::string& name, std::set<std::string>& names) {
  if (name.size() > kLongestNameBytes) return "a name has at most 65531 bytes";
  if (!is_utf8(name)) return "a name is UTF-8";
  if (name.find_first_of({"\\\0", 2}) != name.npos) return "a name has no backslash or NUL byte";
  if (name.starts_with('/') || ("/" + name + "/").find("/../") != name.npos)
    return "a name has no '/' in front and no \"..\" between slashes";
  return names.insert(name).second ? nullptr : "no two arrays have one name";
}

/// What the directory, and again its own header, says of a member.
struct Member {
  std::string name;
  uint16_t flags, method;
  uint32_t crc;
  uint64_t stored, size, start;  // the bytes of its content, inflated; where its header is
  bool operator==(const Member&) const = default;

  /// The name of the array in the member NAME.npy.
  std::string array() const { return name.substr(0, name.size() - 4); }
  /// What is wrong with it, null if nothing is. Adds the name of the array to `names`.
  const char* fault(std::set<std::string>& names) const {
    if ((flags & ~(kUtf8 | kSpeed)) != 0) return "it is encrypted, or needs another feature";
    if (method != kStored && method != kDeflated)
      return "its compression method is neither 0 (stored) nor 8 (deflated)";
    if (!name.ends_with(".npy")) return "its name does not end in .npy";
    if ((flags_for(name) & ~flags) != 0) return "its name is not marked as UTF-8";
    return add_name(array(), names);
  }
};

/// Reads an NPZ file.
struct Archive {
  const std::string& path;
  At at;
  InputFile file{"read_npz", path, at};
  uint64_t directory = 0, count = 0, end = file.size();  // of the directory: start, entries, end

  NamedTensors read(const ConvertOptions& options) {
    find_directory();
    std::size_t most = most_inflated(file.size());  // of all deflated members together
    NamedTensors tensors;
    std::set<std::string> names;
    uint64_t next = directory, free = 0;  // the next entry; where the next member may begin
    for (uint64_t i = 0; i < count; ++i) {
      const auto [member, entry_end] = read_header(next, end, true);
      if (const char* fault = member.fault(names))
        file.refuse(next, fmt::format("member {}: {}", quote(member.name), fault));
      const auto [local, data] = read_header(member.start, directory, false);
      if (!(local == member))
        file.refuse(member.start, "the header of a member is not what the directory says");
      if (member.start < free || member.stored > directory - data)
        file.refuse(member.start, "members overlap, or do not have the directory's order");
      free = data + member.stored;
      next = entry_end;
      tensors.emplace_back(member.array(), read_member(member, data, most, options));
    }
    if (next != end) file.refuse(next, "the directory goes on after its last entry");
    return tensors;
  }

  /// Bytes of a record, which are in front of `limit`.
  std::string bytes(uint64_t offset, uint64_t size, uint64_t limit) const {
    if (offset > limit || size > limit - offset)
      file.refuse(std::min(offset, limit), fmt::format("need {} bytes of a record", size));
    std::string text(size, '\0');
    file.read_at(offset, text.data(), size);
    return text;
  }

  /// Finds out where the directory is and how many entries it has.
  void find_directory() {
    end -= std::min(end, kEndBytes);
    const std::string last = bytes(end, kEndBytes, file.size());
    if (get<uint32_t>(last, 0) != kEnd || get<uint16_t>(last, 20) != 0)
      file.refuse(end, "need the end of a ZIP archive in the last 22 bytes, without a comment");
    uint64_t parts = get<uint32_t>(last, 4), here = get<uint16_t>(last, 8);
    uint64_t length = get<uint32_t>(last, 12);
    count = get<uint16_t>(last, 10), directory = get<uint32_t>(last, 16);
    const uint64_t before = end - std::min(end, kLocatorBytes);
    const std::string locator = bytes(before, end - before, end);
    if (locator.size() == kLocatorBytes && get<uint32_t>(locator, 0) == kLocator) {
      end = get<uint64_t>(locator, 8);
      const std::string last64 = bytes(end, kEnd64Bytes, before);
      if (get<uint32_t>(last64, 0) != kEnd64 || get<uint64_t>(last64, 4) != before - end - 12)
        file.refuse(end, "need the end record of ZIP64");
      parts = get<uint64_t>(last64, 16) | get<uint32_t>(locator, 4);
      here = get<uint64_t>(last64, 24), length = get<uint64_t>(last64, 40);
      count = get<uint64_t>(last64, 32), directory = get<uint64_t>(last64, 48);
    }
    if (parts != 0 || here != count) file.refuse(end, "an archive of several parts");
    if (directory > end || length != end - directory) file.refuse(end, "not the directory's end");
  }

  /// An entry of the directory, or the header of a member; and where it ends.
  std::pair<Member, uint64_t> read_header(uint64_t offset, uint64_t limit, bool central) const {
    const std::size_t fixed = central ? kCentralBytes : kLocalBytes;
    const std::string text = bytes(offset, fixed, limit);
    if (get<uint32_t>(text, 0) != (central ? kCentral : kLocal))
      file.refuse(offset, central ? "need an entry of the directory" : "need a member's header");
    if (central && get<uint16_t>(text, 34) != 0) file.refuse(offset, "an archive of several parts");
    const std::string_view h = std::string_view(text).substr(central ? 6 : 4);  // what both have
    const auto u16 = [h](std::size_t i) { return get<uint16_t>(h, i); };
    const auto u32 = [h](std::size_t i) { return get<uint32_t>(h, i); };
    const std::size_t name = u16(22), extra = u16(24);
    Member m{{}, u16(2), u16(4), u32(10), u32(14), u32(18), offset};
    m.name = bytes(offset + fixed, name, limit);
    if (central) m.start = get<uint32_t>(text, 42);
    const std::string fields = bytes(offset + fixed + name, extra, limit);
    for (std::string_view rest = fields; !rest.empty();) {
      const std::size_t length = rest.size() < 4 ? rest.size() : get<uint16_t>(rest, 2);
      if (length + 4 > rest.size()) file.refuse(offset, "a damaged extra field");
      std::string_view field = rest.substr(4, length);
      for (uint64_t* number : {&m.size, &m.stored, &m.start})
        if (get<uint16_t>(rest, 0) == kZip64 && *number == kElsewhere && field.size() >= 8) {
          *number = get<uint64_t>(field, 0);
          field.remove_prefix(8);
        }
      rest.remove_prefix(length + 4);
    }
    return {m, offset + fixed + name + extra + (central ? get<uint16_t>(text, 32) : 0)};
  }

  /// The array of a member. Takes the bytes that it inflates from `most`.
  Tensor read_member(const Member& m, uint64_t data, std::size_t& most,
                     const ConvertOptions& options) const {
    const bool deflated = m.method == kDeflated;
    std::string packed = deflated ? bytes(data, m.stored, data + m.stored) : "";
    z_stream stream{};
    const std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, inflateEnd);
    int status = deflated ? inflateInit2(&stream, -MAX_WBITS) : Z_STREAM_END;
    stream.next_in = reinterpret_cast<unsigned char*>(packed.data());
    const std::size_t most_bytes = deflated ? std::min(most, most_inflated(m.stored)) : m.stored;
    NpyReader npy{fmt::format("read_npz: {}: {}", path, printable(m.name)), at, most_bytes, {}};
    uint64_t done = 0;
    uLong crc = 0;
    npy.read = [&](void* to, std::size_t need) {
      std::size_t have = deflated ? 0 : std::min(need, m.stored - done);
      file.read_at(data + done, to, have);
      while (have < need && status == Z_OK) {
        stream.avail_in =
            static_cast<uInt>(std::min(packed.size() - stream.total_in, kAtOnceBytes));
        stream.next_out = static_cast<unsigned char*>(to) + have;
        stream.avail_out = static_cast<uInt>(std::min(need - have, kAtOnceBytes));
        status = inflate(&stream, Z_NO_FLUSH);
        have = stream.total_out - done;
      }
      if (status == Z_MEM_ERROR) throw std::bad_alloc();
      crc = crc32_z(crc, static_cast<unsigned char*>(to), have);
      done += have;
      if (have < need && (status != Z_STREAM_END || stream.total_in < packed.size()))
        npy.refuse(done, "its deflate stream is damaged");
      return have;
    };
    Tensor x = npy.read_array(options);
    if (done != m.size || crc != m.crc)
      npy.refuse(0, "its size or checksum is not what the directory says");
    if (deflated) most -= done;
    return x;
  }
};

}  // namespace

NamedTensors read_npz(const std::string& path, const ConvertOptions& options, At at) {
  return Archive{path, at}.read(options);
}

void write_npz(const std::string& path, const NamedTensors& tensors, At at) {
  std::set<std::string> names;
  for (const auto& [name, x] : tensors)
    if (const char* fault = x.defined() ? add_name(name, names) : "the tensor is undefined")
      fail<ValueError>(at, "write_npz: {}: {}", quote(name), fault);
  OutputFile file("write_npz", path, at);
  std::string directory;
  uint64_t next = 0;  // the offset of the next member
  for (const auto& [name, x] : tensors) {
    const Tensor elements = x.detach().contiguous(at);
    const std::string head = npy_header(elements), entry = name + ".npy";
    const std::string_view data(bytes_of(elements), byte_count(elements));
    uLong crc = 0;
    for (const std::string_view part : {std::string_view(head), data})
      crc = crc32_z(crc, reinterpret_cast<const unsigned char*>(part.data()), part.size());
    const uint64_t size = head.size() + data.size();

    std::string both, local;  // what both headers have; the one in front of the member
    put(both, kVersion, flags_for(name), kStored, kTime, static_cast<uint32_t>(crc), kElsewhere,
        kElsewhere, static_cast<uint16_t>(entry.size()));
    put(local, kLocal);
    put(local += both, uint16_t{20});
    put(local += entry, kZip64, uint16_t{16}, size, size);
    local += head;
    put(directory, kCentral, kVersion);
    put(directory += both, uint16_t{28}, kNone, kNone, kNone, uint32_t{0}, kElsewhere);
    put(directory += entry, kZip64, uint16_t{24}, size, size, next);
    file.write(local);
    file.write(data);
    next += local.size() + data.size();
  }
  const uint64_t count = tensors.size(), length = directory.size();
  // NumPy knows an archive without members by its first bytes, which have to be those of kEnd.
  const uint32_t here = count == 0 ? 0 : kElsewhere;
  if (count > 0)
    put(directory, kEnd64, uint64_t{44}, kVersion, kVersion, uint64_t{0}, count, count, length,
        next, kLocator, uint32_t{0}, next + length, uint32_t{1});
  put(directory, kEnd, uint32_t{0}, here, here, here, kNone);
  file.write(directory);
  file.commit();
}

}}  // namespace descent::data
