#include "descent/data/formats/idx.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "descent/core/ops/factory.hpp"
#include "descent/data/formats/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kMostBytes = std::size_t{4} << 30;
/// The number that the format has for each Element.
constexpr int kTypes[] = {-1, 0x08, 0x09, 0x0b, -1, -1, -1, 0x0c, -1, 0x0d, 0x0e, -1, -1};

/// The type of elements that has this number, which is one of them.
Element element_for(int type) {
  return static_cast<Element>(std::ranges::find(kTypes, type) - kTypes);
}

}  // namespace

Idx load_idx(const std::string& path, At at) {
  InputFile file("read_idx", path, at);
  const std::string head = file.take(4);
  const std::vector<unsigned char> h(head.begin(), head.end());
  if (h.size() < 4 || h[0] != 0 || h[1] != 0 || std::ranges::count(kTypes, h[2]) == 0 || h[3] < 1 ||
      h[3] > kMaxRank)
    file.refuse(0,
                fmt::format("[{:02x}] is not how an IDX file begins: need 00 00, a type (08, 09, "
                            "0b, 0c, 0d or 0e), a rank (01 to 08)",
                            fmt::join(h, " ")));
  const std::string numbers = file.take(std::size_t{4} * h[3]);
  const std::size_t start = 4 + std::size_t{4} * h[3], end = 4 + numbers.size();
  if (end < start) file.refuse(end, fmt::format("the file ends in its header of {} sizes", h[3]));

  Idx idx{path, h[2], {}, {}};
  const Tensor sizes = empty({h[3]}, int64, at);
  static_cast<void>(decode(Element::uint32, numbers.data(), std::endian::big, sizes));
  for (const int64_t size : sizes.to_vector<int64_t>()) idx.shape.push_back(size);
  const auto need = extent_in_bytes(element_for(idx.type), idx.shape, kMostBytes);
  if (!need) file.refuse(4, fmt::format("shape {} makes more than 4 GiB", str(idx.shape)));
  idx.bytes = file.take(*need + 1);
  if (const std::size_t have = idx.bytes.size(); have != *need)
    file.refuse(start + std::min(have, *need),
                fmt::format("shape {} needs {} bytes of elements, the file has {}", str(idx.shape),
                            *need, have > *need ? "more" : fmt::to_string(have)));
  return idx;
}

Tensor Idx::to(DType dtype, At at) const {
  if (type < 0 || std::ranges::count(kTypes, type) == 0 ||
      extent_in_bytes(element_for(type), shape) != bytes.size())
    fail<ValueError>(at, "read_idx: type {} and shape {} for {} bytes of elements: they do not fit",
                     type, shape, static_cast<int64_t>(bytes.size()));
  const Element element = element_for(type);
  if (is_floating(element) && dtype == int64)
    fail<DtypeError>(at, "read_idx: {} holds floating numbers: need float32 or float64", path);
  const Tensor out = empty(shape, dtype, at);
  static_cast<void>(decode(element, bytes.data(), std::endian::big, out));  // all of them fit
  return out;
}

Tensor read_idx(const std::string& path, DType dtype, At at) {
  return load_idx(path, at).to(dtype, at);
}

void write_idx(const std::string& path, const Tensor& x, std::optional<Element> element, At at) {
  if (!x.defined()) fail<ValueError>(at, "write_idx: the tensor is undefined");
  const bool integers = x.dtype() == int64;
  const Element to =
      element.value_or(x.dtype() == boolean ? Element::uint8 : element_of(x.dtype()));
  const int type = kTypes[static_cast<std::size_t>(to)];
  if (integers ? is_floating(to) || type < 0 : element.has_value())
    fail<DtypeError>(at, "write_idx: {} elements {}", x.dtype(),
                     integers ? "need an element type: uint8, int8, int16 or int32"
                              : "are written as they are: name no element type");
  if (x.dim() == 0) fail<ShapeError>(at, "write_idx: a scalar: need a rank of 1 to 8");
  const Tensor sizes = tensor(std::vector<int64_t>(x.shape().begin(), x.shape().end()));
  const std::size_t start = 4 + 4 * static_cast<std::size_t>(x.dim());
  std::string bytes{'\0', '\0', static_cast<char>(type), static_cast<char>(x.dim())};
  bytes.resize(start);
  if (encode(sizes, Element::uint32, std::endian::big, &bytes[4]) >= 0)
    fail<ShapeError>(at, "write_idx: shape {} has a size above 2^32 - 1", x.shape());
  const Tensor elements = x.detach().contiguous(at);
  bytes.resize(start + static_cast<std::size_t>(x.numel()) * item_size(to));
  if (const int64_t i = encode(elements, to, std::endian::big, &bytes[start]); i >= 0)
    fail<ValueError>(at, "write_idx: element {} in row-major order does not fit: {}", i,
                     elements.data<int64_t>()[i]);
  OutputFile file("write_idx", path, at);
  file.write(bytes);
  file.commit();
}

}}  // namespace descent::data
