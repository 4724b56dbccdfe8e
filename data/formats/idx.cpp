#include "descent/data/formats/idx.hpp"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <utility>

#include "descent/core/ops/factory.hpp"
#include "descent/data/formats/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kMostBytes = std::size_t{4} << 30;

constexpr std::pair<int, Element> kTypes[] = {{0x08, Element::uint8},   {0x09, Element::int8},
                                              {0x0b, Element::int16},   {0x0c, Element::int32},
                                              {0x0d, Element::float32}, {0x0e, Element::float64}};

/// The type of elements that this byte of a header stands for; null if there is none.
const Element* element_for(int type) {
  const auto* found = std::ranges::find(kTypes, type, &std::pair<int, Element>::first);
  return found == std::end(kTypes) ? nullptr : &found->second;
}

/// Reads everything in front of the elements.
Idx read_header(InputFile& file, const std::string& path) {
  const std::string head = file.take(4);
  if (head.size() < 4)
    file.refuse(head.size(), "the file ends in the 4 bytes that an IDX file begins with");
  const auto* h = reinterpret_cast<const unsigned char*>(head.data());
  const int type = h[2], rank = h[3];
  if (h[0] != 0 || h[1] != 0 || !element_for(type) || rank < 1 || rank > kMaxRank)
    file.refuse(0, fmt::format("{:02x} {:02x} {:02x} {:02x} is not how an IDX file begins: need 00 "
                               "00, a type (08, 09, 0b, 0c, 0d or 0e), a rank (01 to 08)",
                               h[0], h[1], h[2], h[3]));
  const std::string sizes = file.take(4 * static_cast<std::size_t>(rank));
  if (sizes.size() < 4 * static_cast<std::size_t>(rank))
    file.refuse(4 + sizes.size(), fmt::format("the file ends in its header: need {} sizes", rank));

  Idx idx{path, type, {}, {}};
  std::size_t extent = item_size(*element_for(type));  // in bytes
  for (std::size_t i = 0; i < sizes.size(); i += 4) {
    uint32_t size = 0;
    std::memcpy(&size, &sizes[i], sizeof size);
    size = __builtin_bswap32(size);
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
  std::size_t need = item_size(*element_for(idx.type));
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
  const Element element = *element_for(type);
  if (is_floating(element) && dtype == int64)
    fail<DtypeError>(
        at, "read_idx: {} holds floating numbers: read them as float32 or float64, not as int64",
        path);
  const Tensor out = empty(shape, dtype, at);
  static_cast<void>(decode(element, bytes.data(), std::endian::big, out));  // all of them fit
  return out;
}

Tensor read_idx(const std::string& path, DType dtype, At at) {
  return load_idx(path, at).to(dtype, at);
}

void write_idx(const std::string& path, const Tensor& x, std::optional<Element> element, At at) {
  if (!x.defined()) fail<ValueError>(at, "write_idx: the tensor is undefined");
  const bool integers = x.dtype() == int64, truth = x.dtype() == boolean;
  const Element to = element.value_or(truth ? Element::uint8 : element_of(x.dtype()));
  const auto* type = std::ranges::find(kTypes, to, &std::pair<int, Element>::second);
  if (integers ? is_floating(to) || type == std::end(kTypes) : element.has_value())
    fail<DtypeError>(at, "write_idx: {} elements {}", x.dtype(),
                     integers ? "need an element type: uint8, int8, int16 or int32"
                              : "are written as they are: name no element type");
  std::string head{'\0', '\0', static_cast<char>(type->first), static_cast<char>(x.dim())};
  for (const int64_t size : x.shape()) {
    if (size > UINT32_MAX)
      fail<ShapeError>(at, "write_idx: shape {} has a size above 2^32 - 1", x.shape());
    for (const int shift : {24, 16, 8, 0}) head += static_cast<char>(size >> shift & 255);
  }
  if (x.dim() == 0) fail<ShapeError>(at, "write_idx: a scalar: need a rank of 1 to 8");
  const Tensor elements = x.detach().contiguous(at);
  std::string bytes(static_cast<std::size_t>(elements.numel()) * item_size(to), '\0');
  if (const int64_t i = encode(elements, to, std::endian::big, bytes.data()); i >= 0)
    fail<ValueError>(at,
                     "write_idx: element {} in row-major order is {}: the type does not hold it", i,
                     elements.data<int64_t>()[i]);
  OutputFile file("write_idx", path, at);
  file.write(head);
  file.write(bytes);
  file.commit();
}

}}  // namespace descent::data
