#include "descent/data/formats/idx.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <fmt/format.h>

#include "descent/core/ops/factory.hpp"
#include "descent/data/formats/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kMostBytes = std::size_t{4} << 30;

/// Calls f(T{}) for the type T that this byte of a header stands for; does nothing if there is
/// none.
template <class F> void visit_type(int type, F f) {
  switch (type) {
    case 0x08: f(uint8_t{}); break;
    case 0x09: f(int8_t{}); break;
    case 0x0b: f(int16_t{}); break;
    case 0x0c: f(int32_t{}); break;
    case 0x0d: f(float{}); break;
    case 0x0e: f(double{}); break;
  }
}

/// The number of bytes per element; 0 if there is no such type.
std::size_t item_size(int type) {
  std::size_t size = 0;
  visit_type(type, [&size](auto zero) { size = sizeof zero; });
  return size;
}

// Files are read and written on machines that store the lowest byte first. No other was ever tried.
static_assert(std::endian::native == std::endian::little);

/// A number that is stored with its highest byte first.
template <class T> T big_endian(const char* bytes) {
  std::array<char, sizeof(T)> own;
  std::reverse_copy(bytes, bytes + sizeof(T), own.begin());
  return std::bit_cast<T>(own);
}

/// Reads everything in front of the elements.
Idx read_header(InputFile& file, const std::string& path) {
  const std::string head = file.take(4);
  if (head.size() < 4)
    file.refuse(head.size(), "the file ends in the 4 bytes that an IDX file begins with");
  const auto* h = reinterpret_cast<const unsigned char*>(head.data());
  const int type = h[2], rank = h[3];
  if (h[0] != 0 || h[1] != 0 || item_size(type) == 0 || rank < 1 || rank > kMaxRank)
    file.refuse(0, fmt::format("{:02x} {:02x} {:02x} {:02x} is not how an IDX file begins: need 00 "
                               "00, a type (08, 09, 0b, 0c, 0d or 0e), a rank (01 to 08)",
                               h[0], h[1], h[2], h[3]));
  const std::string sizes = file.take(4 * static_cast<std::size_t>(rank));
  if (sizes.size() < 4 * static_cast<std::size_t>(rank))
    file.refuse(4 + sizes.size(), fmt::format("the file ends in its header: need {} sizes", rank));

  Idx idx{path, type, {}, {}};
  std::size_t extent = item_size(type);  // in bytes
  for (std::size_t i = 0; i < sizes.size(); i += 4) {
    const std::size_t size = big_endian<uint32_t>(&sizes[i]);
    if (size > kMostBytes / extent)
      file.refuse(4 + i, fmt::format("size {} of axis {} makes more than 4 GiB", size, i / 4));
    extent *= std::max<std::size_t>(size, 1);  // a 0 must not hide other sizes that are too large
    idx.shape.push_back(static_cast<int64_t>(size));
  }
  return idx;
}

}  // namespace

Idx load_idx(const std::string& path, At at) {
  InputFile file("read_idx", path, at);
  Idx idx = read_header(file, path);
  const std::size_t start = 4 + 4 * static_cast<std::size_t>(idx.shape.rank());
  std::size_t need = item_size(idx.type);
  for (int64_t size : idx.shape) need *= static_cast<std::size_t>(size);
  idx.bytes = file.take(need);
  const bool more = !file.take(1).empty();
  if (idx.bytes.size() < need || more)
    file.refuse(start + idx.bytes.size(),
                fmt::format("shape {} needs {} bytes of elements, the file has {}", str(idx.shape),
                            need, more ? "more" : fmt::to_string(idx.bytes.size())));
  return idx;
}

Tensor Idx::to(DType dtype, At at) const {
  const bool floating = type == 0x0d || type == 0x0e;
  if (floating && dtype == int64)
    fail<DtypeError>(
        at, "read_idx: {} holds floating numbers: read them as float32 or float64, not as int64",
        path);
  Tensor out = empty(shape, dtype, at);
  visit<Kinds::any>("read_idx", dtype, at, [&]<class To>(To) {
    visit_type(type, [&]<class From>(From) {
      To* p = out.mutable_data<To>();
      for (std::size_t i = 0; i < bytes.size(); i += sizeof(From))
        *p++ = static_cast<To>(big_endian<From>(&bytes[i]));
    });
  });
  return out;
}

Tensor read_idx(const std::string& path, DType dtype, At at) {
  return load_idx(path, at).to(dtype, at);
}

}}  // namespace descent::data
