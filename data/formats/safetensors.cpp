#include "descent/data/formats/safetensors.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <set>

#include "descent/core/kernels/crc32c.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/runtime/threads.hpp"
#include "descent/data/formats/file.hpp"
#include "descent/data/formats/safetensors_header.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kTileBytes = 1 << 20;  // read and summed while it is in a core's cache
constexpr std::size_t kLengthBytes = sizeof(uint64_t);
constexpr const char *kFormat = "descent.format", *kChecksum = "descent.crc32c",
                     *kZeros = "00000000";

std::string checksum_name(const std::string& tensor) { return kChecksum + ("." + tensor); }
/// Whether `save` gives a text of this name its content.
bool is_reserved(const std::string& name) {
  return name == kFormat || name == kChecksum || name.starts_with(checksum_name(""));
}
std::string hexadecimal(uint32_t crc) { return fmt::format("{:08x}", crc); }

/// Part of the elements of a tensor, in the order of the file.
struct Tile {
  std::size_t tensor, begin, bytes;
};

/// The checksums of all tensors, where `read(tile)` returns the bytes of a tile, on several
/// threads.
template <class F> std::vector<uint32_t> sum_tiles(const std::vector<Entry>& entries, F read) {
  std::vector<Tile> tiles;
  for (std::size_t i = 0; i < entries.size(); ++i)
    for (std::size_t at = 0, all = entries[i].bytes(); at < all; at += kTileBytes)
      tiles.push_back({i, at, std::min(kTileBytes, all - at)});
  std::vector<uint32_t> parts(tiles.size()), sums(entries.size());
  parallel_for(std::ssize(tiles), [&](int64_t t) {
    const auto i = static_cast<std::size_t>(t);
    if (const char* bytes = read(tiles[i])) parts[i] = crc32c(bytes, tiles[i].bytes);
  });
  for (std::size_t i = 0; i < tiles.size(); ++i) {
    uint32_t& sum = sums[tiles[i].tensor];
    sum = crc32c_of_both(sum, parts[i], tiles[i].bytes);
  }
  return sums;
}

/// The checksum of a header and its length; `place` is where in the text the checksum itself is.
uint32_t sum_header(std::string_view text, std::size_t place) {
  const uint64_t length = text.size();
  uint32_t crc = crc32c(text.data(), place, crc32c(&length, sizeof length));
  crc = crc32c(kZeros, 8, crc);
  return crc32c(text.data() + place + 8, text.size() - place - 8, crc);
}

/// Where in the text of a header its own checksum stands, as `save` writes it.
std::size_t find_checksum(std::string_view text) {
  const std::string key = fmt::format("\"{}\":\"", kChecksum);
  const std::size_t found = text.find(key);
  return found == std::string_view::npos ? found : found + key.size();
}

// ---- reading

class Reader {
 public:
  Reader(const std::string& path, const LoadOptions& options, At at)
      : options_(options), at_(at), path_(path), file_("load", path, at, Gzip::ignore) {}

  SafeTensors read() {
    read_header();
    if (options_.map) map_ = file_.map();
    SafeTensors all;
    for (const Entry& e : header_.entries) all.emplace_back(e.name, allocate(e));
    all.verified = check_header();
    const std::vector<uint32_t> sums = read_elements(all);
    if (all.verified)
      for (std::size_t i = 0; i < sums.size(); ++i) check_sum(header_.entries[i], sums[i]);
    std::erase_if(header_.metadata, [](const auto& text) { return is_reserved(text.first); });
    all.metadata = std::move(header_.metadata);
    return all;
  }

 private:
  void read_header() {
    if (file_.size() < kLengthBytes)
      file_.refuse(file_.size(), "the file ends in the 8 bytes that say how long its header is");
    uint64_t bytes = 0;
    file_.read_at(0, &bytes, sizeof bytes);
    if (bytes > kLongestHeaderBytes)
      file_.refuse(
          0, fmt::format("a header of {} bytes: the format allows {}", bytes, kLongestHeaderBytes));
    if (bytes > file_.size() - kLengthBytes)
      file_.refuse(0, fmt::format("a header of {} bytes in a file of {}", bytes, file_.size()));
    text_.resize(bytes);
    file_.read_at(kLengthBytes, text_.data(), bytes);
    start_ = kLengthBytes + bytes;
    header_ = parse_header(text_, file_.size() - start_, [this](std::size_t at, auto& what) {
      file_.refuse(kLengthBytes + at, what);
    });
  }

  Tensor allocate(const Entry& e) const {
    if (!is_native(e.element) && !options_.convert)
      fail<DtypeError>(
          at_, "load: {}: tensor {} is {}, which is no dtype: {.convert = true} makes it {}", path_,
          quote(e.name), type_of(e), dtype_for(e.element));
    const std::size_t item = item_size(e.element), place = start_ + e.begin;
    if (options_.map && is_native(e.element) && e.element != Element::boolean && place % item == 0)
      return from_blob({map_, map_.get() + place}, e.shape, dtype_for(e.element), at_);
    return empty(e.shape, dtype_for(e.element), at_);
  }

  /// Whether the file has checksums. If it has, that of the header is right.
  bool check_header() const {
    const auto format = header_.metadata.find(kFormat), sum = header_.metadata.find(kChecksum);
    const bool none = std::none_of(header_.metadata.begin(), header_.metadata.end(),
                                   [](const auto& text) { return is_reserved(text.first); });
    if (none) return false;
    if (format == header_.metadata.end()) refuse_header("checksums, but no {}", kFormat);
    if (format->second != "1")
      refuse_header("format {}: this version reads format 1", quote(format->second));
    const std::size_t place = find_checksum(text_);
    if (sum == header_.metadata.end() || sum->second.size() != 8 || place == std::string::npos)
      refuse_header("{} is missing, or not written as it should be", kChecksum);
    if (const std::string right = hexadecimal(sum_header(text_, place)); sum->second != right)
      refuse_header("the header is damaged: its CRC-32C is {}, not {}", right, quote(sum->second));
    return true;
  }
  template <class... A>
  [[noreturn]] void refuse_header(fmt::format_string<A...> what, A&&... arguments) const {
    file_.refuse(kLengthBytes, fmt::format(what, std::forward<A>(arguments)...));
  }

  /// Reads all elements; returns the checksums if they are needed.
  std::vector<uint32_t> read_elements(const SafeTensors& all) {
    const std::vector<Entry>& entries = header_.entries;
    std::vector<char*> to;  // the last bytes of the tensors: see `decode`
    for (std::size_t i = 0; i < entries.size(); ++i)
      to.push_back(bytes_of(all[i].second) + byte_count(all[i].second) - entries[i].bytes());
    std::vector<uint32_t> sums = sum_tiles(entries, [&](const Tile& tile) {
      char* bytes = to[tile.tensor] + tile.begin;
      const std::size_t place = start_ + entries[tile.tensor].begin + tile.begin;
      if (!map_ || bytes != map_.get() + place) file_.read_at(place, bytes, tile.bytes);
      return all.verified ? bytes : nullptr;
    });
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const Element element = entries[i].element;
      if (is_native(element) && element != Element::boolean) continue;
      const int64_t refused = decode(element, to[i], std::endian::little, all[i].second);
      if (refused >= 0)
        file_.refuse(
            start_ + entries[i].begin + static_cast<std::size_t>(refused) * item_size(element),
            fmt::format("tensor {} has an element there that is no {}", quote(entries[i].name),
                        element == Element::boolean ? "boolean" : "number below 2^63"));
    }
    return sums;
  }

  void check_sum(const Entry& e, uint32_t sum) const {
    const auto saved = header_.metadata.find(checksum_name(e.name));
    if (saved == header_.metadata.end()) refuse_header("tensor {} has no checksum", quote(e.name));
    if (saved->second != hexadecimal(sum))
      file_.refuse(start_ + e.begin,
                   fmt::format("tensor {} is damaged: its CRC-32C is {}, not {}", quote(e.name),
                               hexadecimal(sum), quote(saved->second)));
  }

  const LoadOptions& options_;
  At at_;
  const std::string& path_;
  InputFile file_;
  std::string text_;
  std::size_t start_ = 0;      // of the elements
  std::shared_ptr<char> map_;  // the file, if it is mapped
  Header header_;
};

}  // namespace

SafeTensors load(const std::string& path, const LoadOptions& options, At at) {
  return Reader(path, options, at).read();
}

// ---- writing

namespace {

/// The header of a file with these tensors; `contents` are their elements, in the same order.
Header describe(const NamedTensors& tensors, const SaveOptions& options,
                std::vector<Tensor>& contents, At at) {
  Header header{{}, options.metadata};
  for (const auto& [name, text] : options.metadata) {
    check_name(name, "save", "text", at);
    if (!is_utf8(text)) fail<ValueError>(at, "save: text {}: it is not UTF-8", quote(text));
    if (is_reserved(name))
      fail<ValueError>(at, "save: text \"{}\": save itself writes texts of this name", name);
  }
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    check_name(name, "save", "tensor", at);
    if (!tensor.defined()) fail<ValueError>(at, "save: tensor {} is undefined", quote(name));
    if (!names.insert(name).second)
      fail<ValueError>(at, "save: tensor {}: there are two of this name", quote(name));
    header.entries.push_back({name, element_of(tensor.dtype()), tensor.shape(), contents.size()});
    contents.push_back(tensor.detach().contiguous(at));
  }
  arrange(header, "save", at);
  return header;
}

}  // namespace

void save(const std::string& path, const NamedTensors& tensors, const SaveOptions& options, At at) {
  std::vector<Tensor> contents;
  Header header = describe(tensors, options, contents, at);
  const auto content = [&](const Entry& e) { return bytes_of(contents[e.source]); };
  if (options.checksums) {
    const std::vector<uint32_t> sums = sum_tiles(header.entries, [&](const Tile& tile) {
      return content(header.entries[tile.tensor]) + tile.begin;
    });
    for (std::size_t i = 0; i < sums.size(); ++i)
      header.metadata[checksum_name(header.entries[i].name)] = hexadecimal(sums[i]);
    header.metadata[kFormat] = "1";
    header.metadata[kChecksum] = kZeros;
  }
  std::string text = write_header(header);
  if (text.size() > kLongestHeaderBytes)
    fail<SizeError>(at, "save: the header would have {} bytes: the format allows {}", text.size(),
                    kLongestHeaderBytes);
  const uint64_t length = text.size();
  if (options.checksums) {
    const std::size_t place = find_checksum(text);
    text.replace(place, 8, hexadecimal(sum_header(text, place)));
  }
  OutputFile file("save", path, at);
  file.write(&length, sizeof length);
  file.write(text);
  for (const Entry& e : header.entries) file.write(content(e), e.bytes());
  file.commit();
}

}}  // namespace descent::data
