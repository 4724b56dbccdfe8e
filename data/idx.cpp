#include "descent/data/idx.hpp"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <type_traits>
#include <zlib.h>

#include "descent/core/factory.hpp"
#include "descent/data/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr int64_t kLimit = int64_t{4} << 30;

/// A file's content, read from front to back: as it is or, if it begins like gzip, inflated.
class Content : detail::Pinned {
 public:
  Content(const std::string& path, At at) : at_(at), file_("read_idx", path, at) {
    unsigned char magic[2] = {};
    file_.read(0, magic, 2);
    gzip_ = magic[0] == 0x1f && magic[1] == 0x8b;
    if (gzip_ && inflateInit2(&stream_, MAX_WBITS + 16) != Z_OK) throw std::bad_alloc();
  }
  ~Content() {
    if (gzip_) inflateEnd(&stream_);
  }

  /// Reads on; returns how many bytes there were: fewer than `count` only at the end.
  std::size_t read(unsigned char* to, std::size_t count) {
    const std::size_t n = gzip_ ? inflated(to, count) : file_.read(offset_, to, count);
    offset_ += static_cast<int64_t>(n);
    if (n > 0) crc_ = static_cast<uint32_t>(crc32_z(crc_, to, n));  // a null `to` would reset it
    return n;
  }

  int64_t offset() const { return offset_; }
  uint32_t crc() const { return crc_; }

  [[noreturn]] void refuse(int64_t offset, const std::string& what) const {
    fail<FormatError>(at_, "read_idx: {}: byte {}{}: {}", file_.path(), offset,
                      gzip_ ? " of the inflated content" : "", what);
  }

 private:
  std::size_t inflated(unsigned char* to, std::size_t count) {
    std::size_t done = 0;
    while (done < count && !ended_) {
      if (stream_.avail_in == 0) refill();
      const auto room = static_cast<uInt>(std::min<std::size_t>(count - done, 1U << 30));
      stream_.next_out = to + done;
      stream_.avail_out = room;
      const int status = inflate(&stream_, Z_NO_FLUSH);
      done += room - stream_.avail_out;
      if (status == Z_STREAM_END) next_member();
      else if (status == Z_MEM_ERROR) throw std::bad_alloc();
      else if (status == Z_BUF_ERROR) refuse_gzip("the gzip stream ends too early");
      else if (status != Z_OK) refuse_gzip(stream_.msg ? stream_.msg : "not a gzip stream");
    }
    return done;
  }

  /// What follows the end of a gzip stream must be another one, which continues the content.
  void next_member() {
    if (stream_.avail_in == 0) refill();
    ended_ = stream_.avail_in == 0;
    if (ended_) return;
    if (*stream_.next_in != 0x1f) refuse_gzip("there are bytes after the end of the gzip stream");
    inflateReset(&stream_);
  }

  void refill() {
    const std::size_t n = file_.read(consumed_, buffer_, sizeof buffer_);
    consumed_ += static_cast<int64_t>(n);
    stream_.next_in = buffer_;
    stream_.avail_in = static_cast<uInt>(n);
  }

  [[noreturn]] void refuse_gzip(const char* what) const {
    fail<FormatError>(at_, "read_idx: {}: byte {} of the compressed file: {}", file_.path(),
                      consumed_ - stream_.avail_in, what);
  }

  At at_;
  InputFile file_;
  bool gzip_ = false, ended_ = false;
  int64_t offset_ = 0, consumed_ = 0;  // in the content, in the file
  uint32_t crc_ = 0;
  z_stream stream_ = {};
  unsigned char buffer_[1 << 16];
};

/// Bytes per element; 0 if no type has this byte.
int64_t size_of(unsigned char type) {
  constexpr int64_t sizes[] = {1, 1, 0, 2, 4, 4, 8};  // of types 0x08 to 0x0E
  return type >= 0x08 && type <= 0x0E ? sizes[type - 0x08] : 0;
}

/// An unsigned integer that is stored with its highest byte first.
template <class Bits> Bits big_endian(const unsigned char* bytes) {
  Bits bits = 0;
  for (std::size_t k = 0; k < sizeof bits; ++k) bits = static_cast<Bits>(bits << 8 | bytes[k]);
  return bits;
}

/// The type and the shape.
Idx read_header(Content& in) {
  unsigned char head[4 + 4 * kMaxRank];
  if (std::size_t n = in.read(head, 4); n < 4)
    in.refuse(static_cast<int64_t>(n), "the file ends in the 4 bytes that an IDX file begins with");
  const int64_t item = size_of(head[2]);
  const int rank = head[3];
  if (head[0] != 0 || head[1] != 0 || item == 0 || rank < 1 || rank > kMaxRank)
    in.refuse(0, fmt::format("{:02x} {:02x} {:02x} {:02x} is not how an IDX file begins: need 00 "
                             "00, a type (08, 09, 0b, 0c, 0d or 0e), a rank (01 to 08)",
                             head[0], head[1], head[2], head[3]));
  const std::size_t sizes = 4 * static_cast<std::size_t>(rank);
  if (in.read(head + 4, sizes) < sizes)
    in.refuse(in.offset(), fmt::format("the file ends in its header: need {} sizes", rank));

  Idx idx{{}, IdxType{head[2]}, {}, 0};
  int64_t extent = item;  // in bytes, an axis of 0 counted as 1: it must not hide sizes too large
  for (int d = 0; d < rank; ++d) {
    const int64_t size = big_endian<uint32_t>(head + 4 + 4 * d);
    if (size > kLimit / extent)
      in.refuse(4 + 4 * d, fmt::format("size {} of axis {} makes more than 4 GiB", size, d));
    extent *= std::max<int64_t>(size, 1);
    idx.shape.push_back(size);
  }
  return idx;
}

/// All elements. Memory follows what has come, not what a header promises.
void read_elements(Content& in, Idx& idx) {
  const int64_t n = descent::detail::numel("read_idx", idx.shape, At::unknown());
  const auto bytes = static_cast<std::size_t>(n * size_of(static_cast<unsigned char>(idx.type)));
  std::size_t have = 0;
  while (have < bytes) {
    idx.bytes.resize(std::min(bytes, std::max<std::size_t>(2 * have, 1 << 20)));
    have += in.read(idx.bytes.data() + have, idx.bytes.size() - have);
    if (have < idx.bytes.size())
      in.refuse(in.offset(), fmt::format("shape {} needs {} bytes of elements, the file has {}",
                                         str(idx.shape), bytes, have));
  }
  unsigned char more;
  if (in.read(&more, 1) != 0)
    in.refuse(in.offset() - 1, fmt::format("shape {} needs {} bytes of elements, the file has more",
                                           str(idx.shape), bytes));
}

template <class Bits, class From, class To> void convert(const Idx& idx, To* out) {
  for (std::size_t i = 0; i < idx.bytes.size() / sizeof(From); ++i) {
    const Bits bits = big_endian<Bits>(idx.bytes.data() + i * sizeof(From));
    From value;
    std::memcpy(&value, &bits, sizeof value);
    out[i] = static_cast<To>(value);
  }
}

template <class To> void convert(const Idx& idx, To* out) {
  switch (idx.type) {
    case IdxType::uint8: return convert<uint8_t, uint8_t>(idx, out);
    case IdxType::int8: return convert<uint8_t, int8_t>(idx, out);
    case IdxType::int16: return convert<uint16_t, int16_t>(idx, out);
    case IdxType::int32: return convert<uint32_t, int32_t>(idx, out);
    case IdxType::float32: return convert<uint32_t, float>(idx, out);
    case IdxType::float64: return convert<uint64_t, double>(idx, out);
  }
}

}  // namespace

Idx load_idx(const std::string& path, At at) {
  Content in(path, at);
  Idx idx = read_header(in);
  read_elements(in, idx);
  idx.crc = in.crc();
  return idx;
}

Tensor read_idx(const std::string& path, DType dtype, At at) {
  const Idx idx = load_idx(path, at);
  const bool floating = idx.type == IdxType::float32 || idx.type == IdxType::float64;
  if (floating && dtype == int64)
    fail<DtypeError>(
        at, "read_idx: {} holds floating numbers: read them as float32 or float64, not as int64",
        path);
  Tensor out = empty(idx.shape, dtype, at);
  descent::detail::visit<Kinds::any>(
      "read_idx", dtype, at, [&](auto zero) { convert(idx, out.mutable_data<decltype(zero)>()); });
  return out;
}

}}  // namespace descent::data
