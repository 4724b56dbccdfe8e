#include "fuzz.hpp"

// The first byte: 1 the target compresses the rest, which is the file.

using namespace descent;

namespace {

/// What `write_idx` needs to write elements of this type.
std::pair<DType, std::optional<Element>> writable(int type) {
  switch (type) {
    case 0x08: return {int64, Element::uint8};
    case 0x09: return {int64, Element::int8};
    case 0x0b: return {int64, Element::int16};
    case 0x0c: return {int64, Element::int32};
    default: return {type == 0x0d ? float32 : float64, std::nullopt};
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  Input in(data, size);
  const bool compressed = in.byte() % 2 == 1;
  const std::string content = in.rest(), file = compressed ? gzipped(content) : content;
  const std::size_t most_bytes = 8 * std::max(content.size(), most_content(content));
  data::Idx idx;
  if (!accepts<FormatError>(most_bytes, [&] { idx = data::load_idx(file_of(file)); })) return 0;

  const bool floats = idx.type >= 0x0d;
  for (const DType dtype : {float32, float64, int64, boolean})
    must(accepts<DtypeError>(most_bytes,
                             [&] { must(idx.to(dtype).shape() == idx.shape, "one shape"); }) !=
             (floats && dtype == int64),
         "only floating elements do not become int64");
  const auto [dtype, element] = writable(idx.type);
  data::write_idx(path_to_write(), idx.to(dtype), element);
  const data::Idx again = data::load_idx(path_to_write());
  must(again.type == idx.type && again.shape == idx.shape && again.bytes == idx.bytes,
       "what is written again reads equal");
  must(content.starts_with("\x1f\x8b") || content_of(path_to_write()) == content,
       "IDX has one form for each content");
  return 0;
}
