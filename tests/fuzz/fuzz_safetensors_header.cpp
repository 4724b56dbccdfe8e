#include <set>

#include "fuzz.hpp"

// The input is a list of tensors, most of which follow each other as they should: the target writes
// a header for them, and `load` must accept it exactly where a simple rule does.

using namespace descent;

namespace {

struct Type {
  const char* name;
  unsigned bytes;
  bool native;
};
constexpr Type types[] = {{"BOOL", 1, true}, {"F32", 4, true},    {"F64", 8, true},
                          {"I64", 8, true},  {"U8", 1, false},    {"I8", 1, false},
                          {"I16", 2, false}, {"U16", 2, false},   {"F16", 2, false},
                          {"I32", 4, false}, {"BF16", 2, false},  {"U32", 4, false},
                          {"U64", 8, false}, {"F8_E4M3", 0, true}};

struct Described {
  std::string name;
  Type type;
  std::vector<uint64_t> shape;
  uint64_t begin, end;
};
constexpr uint64_t kTooManyBytes = 1ULL << 63;

/// The bytes of these elements, at most kTooManyBytes; with or without the axes of size 0.
uint64_t bytes_of(const Described& t, bool with_empty) {
  uint64_t bytes = t.type.bytes;
  for (const uint64_t size : t.shape)
    if (size > 0) bytes = bytes > kTooManyBytes / size ? kTooManyBytes : bytes * size;
    else if (with_empty) return 0;
  return bytes;
}

/// The rule of the format, and of the limits of descent.
bool is_right(std::vector<Described> all, uint64_t elements) {
  std::sort(all.begin(), all.end(), [](const Described& a, const Described& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t next = 0;
  std::set<std::string> names;
  for (const Described& t : all) {
    const bool known = t.type.bytes > 0 && t.name != "__metadata__" && t.name.size() <= 1024;
    if (!known || t.shape.size() > 8 || !names.insert(t.name).second) return false;
    for (const uint64_t size : t.shape)
      if (size > INT64_MAX) return false;
    if (bytes_of(t, false) >= kTooManyBytes || t.begin != next || t.begin > t.end) return false;
    if (t.end - t.begin != bytes_of(t, true)) return false;
    next = t.end;
  }
  return next == elements;
}

std::string written(const std::vector<Described>& all, Input& in) {
  std::string text = "{";
  for (const Described& t : all) {
    std::string fields[] = {
        "\"dtype\":\"" + std::string(t.type.name) + "\"", "\"shape\":[",
        "\"data_offsets\":[" + std::to_string(t.begin) + ", " + std::to_string(t.end) + "]"};
    for (const uint64_t size : t.shape)
      fields[1] += (fields[1].back() == '[' ? "" : ",") + std::to_string(size);
    fields[1] += "]";
    std::swap(fields[0], fields[in.below(3)]);
    text += (text.size() == 1 ? "\"" : ",\"") + t.name + "\":{" + fields[0] + ", " + fields[1] +
            "," + fields[2] + "}";
  }
  return text + "}" + std::string(static_cast<std::size_t>(in.below(9)), ' ');
}

/// A number, which is only now and then another one.
void disturb(Input& in, uint64_t& number) {
  constexpr uint64_t others[] = {0, 1, 1ULL << 31, 1ULL << 32, 1ULL << 61, INT64_MAX, 1ULL << 63};
  const uint8_t how = in.byte();
  if (how >= 0xf0) number = others[how % std::size(others)];
  else if (how >= 0xe0) number += how % 2 == 0 ? 1 : UINT64_MAX;
}

Described described(Input& in, uint64_t begin) {
  const std::string names[] = {"a",
                               "b",
                               "c.weight",
                               "",
                               "\\u00e9",
                               "__metadata__",
                               std::string(1024, 'n'),
                               std::string(1025, 'n')};
  const uint8_t name = in.byte();
  Described t{name < 0xe0 ? std::string(1, static_cast<char>('d' + name % 20)) : names[name % 8],
              types[static_cast<unsigned>(in.below(2 * std::size(types))) % std::size(types)],
              {},
              begin,
              begin};
  const uint8_t rank = in.byte();
  for (int n = rank >= 0xf0 ? rank % 16 : rank % 4; n > 0; --n) {
    t.shape.push_back(static_cast<uint64_t>(in.below(4)));
    disturb(in, t.shape.back());
  }
  t.end += bytes_of(t, true);
  disturb(in, t.begin), disturb(in, t.end);
  return t;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  Input in(data, size);
  std::vector<Described> all;
  const bool convert = in.byte() % 4 != 0;
  uint64_t end = 0;
  for (int64_t n = in.below(6); n > 0; --n) end = all.emplace_back(described(in, end)).end;
  uint64_t elements = end;
  disturb(in, elements);
  elements = std::min<uint64_t>(elements, 4096);
  std::reverse(all.begin(), all.begin() + in.below(std::ssize(all) + 1));

  const std::string text = written(all, in);
  std::string file(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(text.size() >> 8 * i);
  file += text + std::string(elements, '\1');  // a value of each type
  data::SafeTensors loaded;
  const bool right = is_right(all, elements);
  const bool native =
      std::all_of(all.begin(), all.end(), [](const Described& t) { return t.type.native; });
  const auto read = [&] { loaded = load(file_of(file), {.convert = convert}); };
  bool accepted = false;
  if (right && !native && !convert) must(!accepts<DtypeError>(8 * file.size(), read), "no dtype");
  else accepted = accepts<FormatError>(8 * file.size(), read);
  if (native || convert) must(accepted == right, "the reader and the rule agree");
  if (!accepted) return 0;
  must(loaded.size() == all.size(), "all tensors are there");
  for (const Described& t : all) {
    const std::string name = t.name == "\\u00e9" ? "\u00e9" : t.name;
    const auto found = std::find_if(loaded.begin(), loaded.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    must(found != loaded.end(), "each tensor has its name");
    const Shape shape = found->second.shape();
    must(std::equal(shape.begin(), shape.end(), t.shape.begin(), t.shape.end(),
                    [](int64_t a, uint64_t b) { return static_cast<uint64_t>(a) == b; }),
         "each tensor has its shape");
  }
  return 0;
}
