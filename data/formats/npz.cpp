#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <set>
#include <zlib.h>

#include "descent/data/formats/file.hpp"
#include "descent/data/formats/npy.hpp"
#include "descent/data/formats/npy_content.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

// The records of a ZIP archive begin with these numbers and have at least so many bytes.
constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50,
                   kEnd64 = 0x06064b50, kLocator = 0x07064b50;
constexpr std::size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56,
                      kLocatorBytes = 20;
constexpr uint64_t kElsewhere = 0xffffffff;  // the number is in an extra field
constexpr uint16_t kStored = 0, kDeflated = 8, kZip64 = 1, kUtf8 = 1 << 11, kSpeed = 3 << 1;
constexpr uint16_t kVersion = 45, kUnix = 3 << 8 | kVersion, kMost16 = 0xffff;
constexpr uint32_t kPermissions = 0600 << 16;
constexpr std::size_t kLongestNameBytes = 65531;  // with ".npy", its length still has 16 bits
constexpr std::size_t kAtOnceBytes = 1 << 30;

/// Numbers as they are in the file: the lowest byte first.
template <class T> T get(std::string_view from, std::size_t offset) {
  T value;
  std::memcpy(&value, from.data() + offset, sizeof value);
  return value;
}
template <class... T> void put(std::string& to, T... values) {
  (to.append(reinterpret_cast<const char*>(&values), sizeof values), ...);
}

uint16_t flags_for(std::string_view name) {
  return std::ranges::all_of(name, [](char c) { return (c & 0x80) == 0; }) ? 0 : kUtf8;
}

/// Adds the name of an array to `names`; what is wrong with it, null if nothing is.
const char* add_name(const std::string& name, std::set<std::string>& names) {
  if (name.size() > kLongestNameBytes) return "a name has at most 65531 bytes";
  if (!is_utf8(name)) return "a name is UTF-8";
  if (name.find_first_of({"\\\0", 2}) != name.npos)
    return "a name has no backslash and no NUL byte";
  if (name.starts_with('/') || ("/" + name + "/").find("/../") != name.npos)
    return "a name has no '/' in front and no \"..\" between slashes";
  return names.insert(name).second ? nullptr : "no two arrays have one name";
}

/// The name of the array in the member NAME.npy.
std::string array_name(const std::string& member) { return member.substr(0, member.size() - 4); }

/// What the directory, and again its own header, says of a member.
struct Member {
  std::string name;
  uint16_t flags, method;
  uint32_t crc;
  uint64_t stored, size, start;  // the bytes of its content, inflated; where its header is
  bool operator==(const Member&) const = default;
};

struct Inflation : z_stream, Pinned {
  Inflation() : z_stream{} {
    if (inflateInit2(this, -MAX_WBITS) != Z_OK) throw std::bad_alloc();
  }
  ~Inflation() { inflateEnd(this); }
};

class Archive {
 public:
  Archive(const std::string& path, At at)
      : file_("read_npz", path, at), op_("read_npz: " + path), at_(at), end_(file_.size()) {}

  NamedTensors read(const ConvertOptions& options) {
    const auto [directory, count] = find_directory();
    std::size_t most = most_inflated(file_.size());  // of all deflated members together
    NamedTensors tensors;
    std::set<std::string> names;
    uint64_t next = directory, free = 0;  // the next entry; where the next member may begin
    for (uint64_t i = 0; i < count; ++i) {
      auto [member, entry_end] = header(next, end_, true);
      check(member, next, names);
      const auto [local, data] = header(member.start, directory, false);
      if (!(local == member))
        file_.refuse(member.start, "the header of a member is not what the directory says");
      if (member.start < free || member.stored > directory - data)
        file_.refuse(member.start, "members overlap, or do not have the directory's order");
      free = data + member.stored;
      next = entry_end;
      tensors.emplace_back(array_name(member.name), read_member(member, data, most, options));
    }
    if (next != end_) file_.refuse(next, "the directory goes on after its last entry");
    return tensors;
  }

 private:
  /// Bytes of a record, which are in front of `end`.
  std::string bytes(uint64_t offset, uint64_t count, uint64_t end) const {
    if (offset > end || count > end - offset)
      file_.refuse(std::min(offset, end), fmt::format("need {} bytes of a record", count));
    std::string text(count, '\0');
    file_.read_at(offset, text.data(), count);
    return text;
  }

  /// Where the directory begins and how many entries it has. Sets `end_` to its end.
  std::pair<uint64_t, uint64_t> find_directory() {
    end_ -= std::min<uint64_t>(end_, kEndBytes);
    const std::string end = bytes(end_, kEndBytes, file_.size());
    if (get<uint32_t>(end, 0) != kEnd || get<uint16_t>(end, 20) != 0)
      file_.refuse(end_, "need the end of a ZIP archive in the last 22 bytes, without a comment");
    uint64_t parts = get<uint32_t>(end, 4), here = get<uint16_t>(end, 8);
    uint64_t count = get<uint16_t>(end, 10), length = get<uint32_t>(end, 12),
             start = get<uint32_t>(end, 16);
    const uint64_t before = end_ - std::min<uint64_t>(end_, kLocatorBytes);
    const std::string locator = bytes(before, end_ - before, end_);
    if (locator.size() == kLocatorBytes && get<uint32_t>(locator, 0) == kLocator) {
      end_ = get<uint64_t>(locator, 8);
      const std::string end64 = bytes(end_, kEnd64Bytes, before);
      if (get<uint32_t>(end64, 0) != kEnd64 || get<uint64_t>(end64, 4) != before - end_ - 12)
        file_.refuse(end_, "need the end record of ZIP64");
      parts = get<uint64_t>(end64, 16) | get<uint32_t>(locator, 4);
      here = get<uint64_t>(end64, 24), count = get<uint64_t>(end64, 32);
      length = get<uint64_t>(end64, 40), start = get<uint64_t>(end64, 48);
    }
    if (parts != 0 || here != count) file_.refuse(end_, "an archive of several parts");
    if (start > end_ || length != end_ - start)
      file_.refuse(end_, "the directory does not end here");
    return {start, count};
  }

  /// An entry of the directory, or the header of a member; and where it ends.
  std::pair<Member, uint64_t> header(uint64_t offset, uint64_t end, bool central) const {
    const std::size_t fixed = central ? kCentralBytes : kLocalBytes;
    const std::string text = bytes(offset, fixed, end);
    if (get<uint32_t>(text, 0) != (central ? kCentral : kLocal))
      file_.refuse(offset,
                   central ? "need an entry of the directory" : "need the header of a member");
    const std::string_view h = std::string_view(text).substr(central ? 6 : 4);  // what both have
    const std::size_t name = get<uint16_t>(h, 22), extra = get<uint16_t>(h, 24);
    Member m{bytes(offset + fixed, name, end),
             get<uint16_t>(h, 2),
             get<uint16_t>(h, 4),
             get<uint32_t>(h, 10),
             get<uint32_t>(h, 14),
             get<uint32_t>(h, 18),
             central ? get<uint32_t>(text, 42) : offset};
    if (central && get<uint16_t>(text, 34) != 0)
      file_.refuse(offset, "an archive of several parts");
    const std::string fields = bytes(offset + fixed + name, extra, end);
    for (std::string_view rest = fields; !rest.empty();) {
      const std::size_t length = rest.size() < 4 ? rest.size() : get<uint16_t>(rest, 2);
      if (length + 4 > rest.size()) file_.refuse(offset, "a damaged extra field");
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

  void check(const Member& m, uint64_t offset, std::set<std::string>& names) const {
    const auto refuse_if = [&](bool wrong, const std::string& what) {
      if (wrong) file_.refuse(offset, fmt::format("member {}: {}", quote(m.name), what));
    };
    refuse_if((m.flags & ~(kUtf8 | kSpeed)) != 0, "it is encrypted, or needs another feature");
    refuse_if(m.method != kStored && m.method != kDeflated,
              fmt::format("compression method {}: need 0 (stored) or 8 (deflated)", m.method));
    refuse_if(m.method == kStored && m.stored != m.size, "it is stored, but has two sizes");
    refuse_if(!m.name.ends_with(".npy"), "its name does not end in .npy");
    refuse_if((flags_for(m.name) & ~m.flags) != 0, "its name is not marked as UTF-8");
    const char* fault = add_name(array_name(m.name), names);
    refuse_if(fault != nullptr, fault ? fault : "");
  }

  /// The array of a member. Takes the bytes that it inflates from `most`.
  Tensor read_member(const Member& m, uint64_t data, std::size_t& most,
                     const ConvertOptions& options) const {
    const bool deflated = m.method == kDeflated;
    std::string packed = deflated ? bytes(data, m.stored, data + m.stored) : "";
    Inflation stream;
    stream.next_in = reinterpret_cast<unsigned char*>(packed.data());
    NpyContent content{fmt::format("{}: {}", op_, printable(m.name)), "", at_, m.stored, {}};
    if (deflated) content.most_bytes = std::min(most, most_inflated(m.stored));
    uint64_t done = 0;
    uLong crc = 0;
    int status = Z_OK;
    content.read = [&](void* to, std::size_t count) {
      std::size_t have = deflated ? 0 : std::min(count, m.stored - done);
      if (!deflated) file_.read_at(data + done, to, have);
      while (deflated && have < count && status == Z_OK) {
        stream.avail_in =
            static_cast<uInt>(std::min(packed.size() - stream.total_in, kAtOnceBytes));
        stream.next_out = static_cast<unsigned char*>(to) + have;
        stream.avail_out = static_cast<uInt>(std::min(count - have, kAtOnceBytes));
        status = inflate(&stream, Z_NO_FLUSH);
        if (status == Z_MEM_ERROR) throw std::bad_alloc();
        have = stream.total_out - done;
      }
      crc = crc32_z(crc, static_cast<unsigned char*>(to), have);
      done += have;
      if (deflated && have < count && (status != Z_STREAM_END || stream.total_in < packed.size()))
        content.refuse(done, "its deflate stream is damaged");
      return have;
    };
    Tensor x = read_array(content, options);
    if (done != m.size || crc != m.crc)
      content.refuse(0, "its size or checksum is not what the directory says");
    if (deflated) most -= done;
    return x;
  }

  InputFile file_;
  std::string op_;
  At at_;
  uint64_t end_;  // of the directory
};

}  // namespace

NamedTensors read_npz(const std::string& path, const ConvertOptions& options, At at) {
  return Archive(path, at).read(options);
}

void write_npz(const std::string& path, const NamedTensors& tensors, At at) {
  std::set<std::string> names;
  for (const auto& [name, x] : tensors) {
    if (const char* fault = add_name(name, names))
      fail<ValueError>(at, "write_npz: {}: {}", quote(name), fault);
    if (!x.defined()) fail<ValueError>(at, "write_npz: {} is undefined", quote(name));
  }
  OutputFile file("write_npz", path, at);
  std::string directory;
  uint64_t next = 0;  // the offset of the next member
  // As Python does, whose readers may take sizes of 32 bits for signed: no more than 31 bits.
  const auto here = [](uint64_t number) {
    return static_cast<uint32_t>(number > INT32_MAX ? kElsewhere : number);
  };
  for (const auto& [name, x] : tensors) {
    const Tensor elements = x.detach().contiguous(at);
    const std::string head = npy_header(elements), entry = name + ".npy";
    const std::size_t count = byte_count(elements);
    const uint64_t size = head.size() + count;
    const auto* data = reinterpret_cast<const unsigned char*>(bytes_of(elements));
    uLong crc = crc32_z(0, reinterpret_cast<const unsigned char*>(head.data()), head.size());
    crc = crc32_z(crc, data, count);
    const auto length = static_cast<uint16_t>(entry.size());

    std::string both, local, extra;  // both headers have the same time, 1980-01-01 00:00
    put(both, kVersion, flags_for(name), kStored, uint16_t{0}, uint16_t{0x21},
        static_cast<uint32_t>(crc));
    put(local, kLocal);
    put(local += both, ~0U, ~0U, length, uint16_t{20});
    put(local += entry, kZip64, uint16_t{16}, size, size);
    if (size > INT32_MAX) put(extra, size, size);
    if (next > INT32_MAX) put(extra, next);
    const auto extra_bytes = static_cast<uint16_t>(extra.size() + (extra.empty() ? 0 : 4));
    put(directory, kCentral, kUnix);
    put(directory += both, here(size), here(size), length, extra_bytes, uint16_t{0}, uint32_t{0},
        kPermissions, here(next));
    directory += entry;
    if (!extra.empty()) put(directory, kZip64, static_cast<uint16_t>(extra.size()));
    directory += extra;
    file.write(local);
    file.write(head);
    file.write(data, count);
    next += local.size() + size;
  }
  const uint64_t count = tensors.size(), length = directory.size();
  if (count > kMost16 || length > INT32_MAX || next > INT32_MAX) {
    put(directory, kEnd64, uint64_t{44}, kVersion, kVersion, uint64_t{0}, count, count, length,
        next);
    put(directory, kLocator, 0U, next + length, 1U);
  }
  const auto count16 = static_cast<uint16_t>(std::min<uint64_t>(count, kMost16));
  put(directory, kEnd, 0U, count16, count16);
  put(directory, static_cast<uint32_t>(std::min(length, kElsewhere)),
      static_cast<uint32_t>(std::min(next, kElsewhere)), uint16_t{0});
  file.write(directory);
  file.commit();
}

}}  // namespace descent::data
