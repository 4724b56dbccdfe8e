#include "descent/data/formats/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "descent/core/base/checked.hpp"
#include "descent/data/formats/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestNameBytes = 1024, kAlignmentBytes = 8;
constexpr const char* kMetadata = "__metadata__";

/// The name of each Element.
constexpr const char* kTypes[] = {"BOOL", "U8",  "I8",  "I16", "U16", "F16", "BF16",
                                  "I32",  "U32", "F32", "F64", "I64", "U64"};

using Refuse = std::function<void(std::size_t at, const std::string& what)>;

/// Receives the header piece by piece.
class Receiver : public nlohmann::json_sax<json> {
 public:
  explicit Receiver(const Refuse& refuse) : refuse_(refuse) {}
  Header header;

  bool start_object(std::size_t) override {
    if (++depth_ > 2) refuse_value("an object");
    seen_ = {};
    return true;
  }
  bool key(std::string& name) override {
    (depth_ == 1 ? name_ : field_) = name;
    if (depth_ == 2 && !in_metadata_) {
      const auto known = std::find(std::begin(kFields), std::end(kFields), name);
      if (known == std::end(kFields)) refuse(quote(name) + " is none of the format");
      if (std::exchange(seen_.at(static_cast<std::size_t>(known - kFields)), true))
        refuse(quote(name) + " is there twice");
    } else if (depth_ == 2) {
      if (!header.metadata.emplace(name, "").second) refuse(quote(name) + " is there twice");
    } else {
      in_metadata_ = name == kMetadata;
      if (name.size() > kLongestNameBytes) refuse("its name has more than 1024 bytes");
      if (name.find('\0') != std::string::npos) refuse("its name has a NUL byte");
      if (!names_.insert(name).second) refuse("its name is there twice");
      if (!in_metadata_) header.entries.emplace_back().name = name;
    }
    return true;
  }
  bool string(std::string& text) override {
    if (depth_ == 2 && in_metadata_) {
      header.metadata[field_] = text;
      return true;
    }
    if (depth_ != 2 || field_ != kFields[0]) refuse_value("a text");
    const auto known = std::find(std::begin(kTypes), std::end(kTypes), text);
    if (known == std::end(kTypes)) refuse(fmt::format("dtype {} is not supported", quote(text)));
    header.entries.back().element = static_cast<Element>(known - kTypes);
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || field_ == kFields[0]) refuse_value("a list");
    ++depth_;
    numbers_.clear();
    return true;
  }
  bool number_unsigned(uint64_t n) override {
    if (depth_ != 3) refuse_value("a number");
    if (n > INT64_MAX) refuse(fmt::format("{} is too large", n));
    if (numbers_.size() == kMaxRank) refuse("more than 8 numbers: the rank is at most 8");
    numbers_.push_back(static_cast<int64_t>(n));
    return true;
  }
  bool end_array() override {
    --depth_;
    Entry& e = header.entries.back();
    if (field_ == kFields[1]) {
      e.shape = {};
      for (const int64_t n : numbers_) e.shape.push_back(n);
    } else if (numbers_.size() != 2 || numbers_[0] > numbers_[1]) {
      refuse("data_offsets are not a begin and an end");
    } else {
      e.begin = static_cast<std::size_t>(numbers_[0]);
      e.end = static_cast<std::size_t>(numbers_[1]);
    }
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1 && !in_metadata_)
      for (std::size_t i = 0; i < std::size(kFields); ++i)
        if (!seen_[i]) refuse(std::string(kFields[i]) + " is missing");
    return true;
  }
  bool null() override { refuse_value("null"); }
  bool boolean(bool) override { refuse_value("true or false"); }
  bool number_integer(int64_t) override { refuse_value("a negative number"); }
  bool number_float(double, const std::string& text) override {
    refuse_value(quote(text) + ", which is no integer below 2^63");
  }
  bool binary(json::binary_t&) override { return false; }  // JSON has none
  bool parse_error(std::size_t at, const std::string&, const json::exception&) override {
    refuse_(at == 0 ? 0 : at - 1, "this is no JSON, or not UTF-8");
    return false;
  }

 private:
  static constexpr const char* kFields[] = {"dtype", "shape", "data_offsets"};

  [[noreturn]] void refuse(const std::string& what) const {
    refuse_(0, quote(name_) + ": " + what);
    std::abort();  // never: it throws
  }
  [[noreturn]] void refuse_value(const std::string& what) const {
    refuse(depth_ < 2 || field_.empty() ? what + " in place of a tensor"
                                        : fmt::format("{} is {}", quote(field_), what));
  }

  const Refuse& refuse_;
  int depth_ = 0;  // 1 in the header, 2 in a tensor or the metadata, 3 in a list of numbers
  bool in_metadata_ = false;
  std::string name_, field_;
  std::array<bool, std::size(kFields)> seen_{};  // which of them the tensor has had
  std::vector<int64_t> numbers_;
  std::set<std::string> names_;
};

std::string json_of(const std::string& text) { return json(text).dump(); }

}  // namespace

const char* type_of(const Entry& e) { return kTypes[static_cast<std::size_t>(e.element)]; }

Header parse_header(std::string_view text, std::size_t bytes, const Refuse& refuse) {
  const std::size_t last = text.find_last_not_of(' ');
  if (last == std::string_view::npos || text.front() != '{' || text[last] != '}')
    refuse(text.empty() || text.front() != '{' ? 0 : last,
           "the header does not begin with { and end with } and spaces");
  Receiver receiver(refuse);
  json::sax_parse(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(last) + 1, &receiver);
  Header& header = receiver.header;
  std::sort(header.entries.begin(), header.entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::size_t end = 0;
  for (const Entry& e : header.entries) {
    if (extent_in_bytes(e.element, e.shape) != e.bytes())
      refuse(0, fmt::format("{}: {} {} is not {} bytes", quote(e.name), type_of(e), str(e.shape),
                            e.bytes()));
    if (e.begin != end)
      refuse(0, fmt::format("{}: begins at {}, but the tensors before it end at {}", quote(e.name),
                            e.begin, end));
    end = e.end;
  }
  if (end != bytes)
    refuse(text.size() + std::min(end, bytes),
           fmt::format("the tensors have {} bytes, the file has {} for them", end, bytes));
  return std::move(header);
}

void check_name(const std::string& name, const char* op, const char* what, At at) {
  const auto refuse = [&](const char* why) {
    fail<ValueError>(at, "{}: {} {}: {}", op, what, quote(name), why);
  };
  if (name.size() > kLongestNameBytes) refuse("its name has more than 1024 bytes");
  if (name.find('\0') != std::string::npos) refuse("its name has a NUL byte");
  if (name == kMetadata) refuse("the format needs this name for itself");
  if (!is_utf8(name)) refuse("it is not UTF-8");
}

void arrange(Header& header, const char* op, At at) {
  std::sort(header.entries.begin(), header.entries.end(), [](const Entry& a, const Entry& b) {
    return a.element != b.element ? a.element > b.element : a.name < b.name;
  });
  int64_t end = 0;
  for (Entry& e : header.entries) {
    e.begin = static_cast<std::size_t>(end);
    end =
        checked_add(end, static_cast<int64_t>(extent_in_bytes(e.element, e.shape).value()), op, at);
    e.end = static_cast<std::size_t>(end);
  }
}

std::string write_header(const Header& header) {
  std::string text = "{";
  if (!header.metadata.empty()) {
    text += json_of(kMetadata) + ":{";
    for (const auto& [name, content] : std::map(header.metadata.begin(), header.metadata.end()))
      text += json_of(name) + ":" + json_of(content) + ",";
    text.back() = '}';
    text += ",";
  }
  for (const Entry& e : header.entries)
    text += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}},",
                        json_of(e.name), type_of(e), fmt::join(e.shape.begin(), e.shape.end(), ","),
                        e.begin, e.end);
  if (text.size() > 1) text.pop_back();
  text += "}";
  text.resize((text.size() + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes, ' ');
  return text;
}

}}  // namespace descent::data
