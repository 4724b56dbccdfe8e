#include <cmath>
#include <doctest/doctest.h>

#include "files.hpp"

using namespace descent;
using namespace std::string_literals;

namespace {

const std::string kGolden = DESCENT_ROOT "/tests/golden/npy/";

/// Numbers as they are in an archive: the lowest byte first.
template <class T> std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string put(std::string file, std::size_t offset, const std::string& bytes) {
  return file.replace(offset, bytes.size(), bytes);
}

/// What a test says of a member in both of its headers.
struct Part {
  std::string name, data;
  uint32_t crc = 0, size = 0;
  uint16_t method = 0, flags = 0;
  std::string extra = {};  // fields of the directory's entry
  uint16_t comment = 0;    // bytes of a comment there
};
Part stored(const std::string& name, const std::string& content) {
  const auto* bytes = reinterpret_cast<const Bytef*>(content.data());
  return {name, content, static_cast<uint32_t>(crc32_z(0, bytes, content.size())),
          static_cast<uint32_t>(content.size())};
}
Part deflated_part(const std::string& name, const std::string& content) {
  Part part = stored(name, content);
  part.data = deflated(content);
  part.method = 8;
  return part;
}
/// An archive without ZIP64.
std::string archive(const std::vector<Part>& parts) {
  std::string file, directory;
  for (const Part& p : parts) {
    const auto stored_bytes = static_cast<uint32_t>(p.data.size());
    const std::string both = raw(uint16_t{20}) + raw(p.flags) + raw(p.method) + raw(uint32_t{0}) +
                             raw(p.crc) + raw(stored_bytes) + raw(p.size) +
                             raw(static_cast<uint16_t>(p.name.size()));
    directory += "PK\1\2" + raw(uint16_t{20}) + both + raw(static_cast<uint16_t>(p.extra.size())) +
                 raw(p.comment) + std::string(8, '\0') + raw(static_cast<uint32_t>(file.size())) +
                 p.name + p.extra + std::string(p.comment, '-');
    file += "PK\3\4" + both + raw(uint16_t{0}) + p.name + p.data;
  }
  const auto count = static_cast<uint16_t>(parts.size());
  return file + directory + "PK\5\6" + raw(uint32_t{0}) + raw(count) + raw(count) +
         raw(static_cast<uint32_t>(directory.size())) + raw(static_cast<uint32_t>(file.size())) +
         raw(uint16_t{0});
}

/// The content of an NPY file.
std::string npy(const Tensor& x) {
  const Folder folder("one");
  data::write_npy((folder.path / "x").string(), x);
  return content_of((folder.path / "x").string());
}

NamedTensors read(const Folder& folder, const std::string& content) {
  return data::read_npz(folder.write("x", content));
}
/// The message for an archive of this content, from behind the path on.
std::string refused(const Folder& folder, const std::string& content) {
  const std::string path = folder.write("x", content), begin = "read_npz: " + path + ": ";
  const std::string text = refusal<FormatError>([&] { data::read_npz(path); });
  return text.starts_with(begin) ? text.substr(begin.size()) : text;
}

}  // namespace

TEST_CASE("numpy's archives are read, and their arrays come back when they are written") {
  const NamedTensors all = data::read_npz(kGolden + "stored.npz");
  const NamedTensors expected = {
      {"float32", arange(6, float32).reshape({2, 3}) / 4},
      {"float64", tensor(Values{-0.0, 3.141592653589793, kInf}, {3}, float64)},
      {"int64", tensor(Ints{INT64_MIN, INT64_MAX}, {1, 2}, int64)},
      {"bool", tensor({true, false, true})},
      {"scalar", full({}, 2.5, float64)},
      {"empty", zeros({0, 3})},
      {"rank8", arange(4, float64).reshape({1, 2, 1, 1, 1, 2, 1, 1})},
      {"", full({}, 1, int64)},
      {"a,\"b\"\n'c'", tensor({1})},
      {"\u00e9\u4e2d\U0001d11e", tensor({2})},
      {"a/b.npy", tensor({3})},
  };
  CHECK(same_bits(all, expected));
  const Folder folder("same");
  const std::string path = (folder.path / "x.npz").string();
  data::write_npz(path, expected);
  CHECK(same_bits(data::read_npz(path), expected));
}

TEST_CASE("every type of elements that numpy has, in both orders of bytes and of axes") {
  const NamedTensors all = data::read_npz(kGolden + "types.npz", {.convert = true});
  REQUIRE(all.size() == 48);
  for (const auto& [name, x] : all) {
    const std::string& of = name;  // clang cannot capture a structured binding
    CAPTURE(of);
    const std::string type = name.substr(1, 2);
    const DType dtype = type == "b1"     ? boolean
                        : type == "f8"   ? float64
                        : type[0] == 'f' ? float32
                                         : int64;
    CHECK(x.dtype() == dtype);
    CHECK(x.is_contiguous());
    const double bits = 8 * (type[1] - '0');
    double first = type[0] == 'i' ? -std::exp2(bits - 1) : std::exp2(bits) - 1;
    if (type == "f2") first = 0x1p-24;
    if (type == "f4") first = 0x1p-149;
    if (type == "f8") first = 0x1p-1074;
    if (type == "u8") first = static_cast<double>(INT64_MAX);
    CHECK(values(x) == (type == "b1" ? Values{0, 1, 1, 1, 1, 1} : Values{first, 1, 2, 3, 4, 100}));
  }
  CHECK(refusal<DtypeError>([] { data::read_npz(kGolden + "types.npz"); }) ==
        "read_npz: " + kGolden +
            "types.npz: <i1 C.npy: type \"|i1\" is no dtype: "
            "{.convert = true} makes it int64");
}

TEST_CASE("tensors of every layout, and any names, come back") {
  const Folder folder("npz");
  const std::string path = (folder.path / "x.npz").string();
  NamedTensors all = {{"reversed", numbered({2, 3, 4}, Placement::reversed_axes)},
                      {"second", numbered({2, 3, 4}, Placement::every_second)},
                      {"leaf", noise({3, 2}, 1).requires_grad_()},
                      {"large", noise({3 << 20}, 2)}};
  for (const char* name : {"a.b.c",
                           ".npy",
                           "..",
                           "a..b",
                           ".",
                           "a/",
                           "a//b",
                           " ",
                           "\n",
                           "\x7f",
                           "\x01",
                           "\"",
                           "'",
                           ",",
                           "*?",
                           "\xc2\x80",
                           "\xdf\xbf",
                           "\xe0\xa0\x80",
                           "\xed\x9f\xbf",
                           "\xee\x80\x80",
                           "\xf0\x90\x80\x80",
                           "\xf4\x8f\xbf\xbf"})
    if (std::string(name) != "..") all.emplace_back(name, tensor({1}));
  all.emplace_back(std::string(65531, 'n'), tensor({2}));
  data::write_npz(path, all);
  CHECK(same_bits(data::read_npz(path), all));
  data::write_npz(path, {});
  CHECK(data::read_npz(path).empty());
  CHECK(content_of(path).size() == 22);
}

TEST_CASE("names that are not for archives are refused when they are written and read") {
  const Folder folder("names");
  const std::string old = folder.write("old", "as it was"), one = npy(ones({1}));
  const std::string path = "a name has no '/' in front and no \"..\" between slashes",
                    text = "a name is UTF-8", byte = "a name has no backslash or NUL byte";
  const std::pair<std::string, std::string> cases[] = {
      {"..", path},
      {"../a", path},
      {"a/..", path},
      {"a/../b", path},
      {"/a", path},
      {"/", path},
      {"a\\b", byte},
      {"..\\a", byte},
      {std::string("a\0b", 3), byte},
      {"\x80", text},
      {"\xbf\x80", text},
      {"a\xff", text},
      {"\xc3", text},
      {"\xc0\x80", text},
      {"\xc1\xbf", text},
      {"\xe0\x9f\xbf", text},
      {"\xe2\x82", text},
      {"\xed\xa0\x80", text},
      {"\xf0\x8f\xbf\xbf", text},
      {"\xf4\x90\x80\x80", text},
      {"\xf5\x80\x80\x80", text},
      {"\xf8\x88\x80\x80\x80", text},
      {"\xe9t\xe9", text},
  };
  for (const auto& [name, fault] : cases) {
    std::string shown = name;
    for (char& c : shown)
      if (c == '\0') c = '?';
    CAPTURE(shown);
    CHECK(refusal<ValueError>([&, &n = name] {
            data::write_npz(old, {{"a", ones({1})}, {n, ones({1})}});
          }) == "write_npz: \"" + shown + "\": " + fault);
    Part part = stored(name + ".npy", one);
    part.flags = 1 << 11;
    const auto at = std::to_string(30 + part.name.size() + one.size());
    CHECK(refused(folder, archive({part})) ==
          "byte " + at + ": member \"" + shown + ".npy\": " + fault);
  }
  CHECK(refusal<ValueError>([&] {
          data::write_npz(old, {{"a", ones({1})}, {"a", ones({1})}});
        }) == "write_npz: \"a\": no two arrays have one name");
  CHECK(refusal<ValueError>([&] {
          data::write_npz(old, {{"a", Tensor()}});
        }) == "write_npz: \"a\": the tensor is undefined");
  CHECK(refusal<ValueError>([&] {
          data::write_npz(old, {{std::string(65532, 'n'), ones({1})}});
        }) == "write_npz: \"" + std::string(40, 'n') + "...\": a name has at most 65531 bytes");
  CHECK(content_of(old) == "as it was");
}

TEST_CASE("an archive that is not what it claims to be is refused with its path and byte") {
  const Folder folder("hostile");
  const std::string one = npy(ones({1})), two = npy(ones({2}));
  const std::string good = archive({stored("a.npy", one)});  // 35 + 132, directory 51, end 22
  const std::size_t directory = 167, end = 218;
  REQUIRE(good.size() == 240);
  REQUIRE(same_bits(read(folder, good), {{"a", ones({1})}}));
  const std::string pair = archive({stored("a.npy", one), deflated_part("b.npy", two)});
  REQUIRE(same_bits(read(folder, pair), {{"a", ones({1})}, {"b", ones({2})}}));
  const auto with = [&](auto change) {
    Part part = stored("a.npy", one);
    change(part);
    return archive({part});
  };
  const auto packed = [&](auto change) {
    Part part = deflated_part("a.npy", two);
    change(part);
    return archive({part});
  };
  const std::string differs = "the header of a member is not what the directory says";
  const std::string several = "an archive of several parts";
  const std::string tail = "need the end of a ZIP archive in the last 22 bytes, without a comment";
  const std::string sums = "a.npy: byte 0: its size or checksum is not what the directory says";
  const std::string damaged = "its deflate stream is damaged";
  const std::string in = "member \"a.npy\": ";
  const auto at = [](std::size_t offset, const std::string& what) {
    return "byte " + std::to_string(offset) + ": " + what;
  };
  const std::pair<std::string, std::string> cases[] = {
      {"", at(0, "need 22 bytes of a record")},
      {"PK\5\6", at(0, "need 22 bytes of a record")},
      {one, at(110, tail)},
      {gzipped(good), ""},
      {good + "x", at(end + 1, tail)},
      {put(good, end + 20, "\1") + "x", at(end + 1, tail)},
      {put(good, end + 20, "\1"), at(end, tail)},
      {put(good, end + 4, "\1"), at(end, several)},
      {put(good, end + 6, "\1"), at(end, several)},
      {put(good, end + 8, "\2"), at(end, several)},
      {put(good, end + 8, "\2\0\2"s), at(end, "need 46 bytes of a record")},
      {put(good, end + 8, std::string(4, '\0')),
       at(directory, "the directory goes on after its last entry")},
      {put(good, end + 12, "\x34"), at(end, "not the directory's end")},
      {put(good, end + 16, "\x34"), at(end, "not the directory's end")},
      {put(good, end + 16, "\xff\xff\xff\xff"), at(end, "not the directory's end")},
      {"x" + good, at(end + 1, "not the directory's end")},
      {put(good, directory, "XX"), at(directory, "need an entry of the directory")},
      {put(good, directory + 8, "\1"),
       at(directory, in + "it is encrypted, or needs another feature")},
      {with([](Part& p) { p.flags = 1; }),
       at(directory, in + "it is encrypted, or needs another feature")},
      {with([](Part& p) { p.flags = 1 << 3; }),
       at(directory, in + "it is encrypted, or needs another feature")},
      {with([](Part& p) { p.flags = 1 << 6; }),
       at(directory, in + "it is encrypted, or needs another feature")},
      {with([](Part& p) { p.method = 12; }),
       at(directory, in + "its compression method is neither 0 (stored) nor 8 (deflated)")},
      {with([](Part& p) { p.method = 99; }),
       at(directory, in + "its compression method is neither 0 (stored) nor 8 (deflated)")},
      {with([](Part& p) { p.size = 1; }), sums},
      {with([](Part& p) { p.name = "a.txt"; }),
       at(directory, "member \"a.txt\": its name does not end in .npy")},
      {with([](Part& p) { p.name = "npy/"; }),
       at(directory - 1, "member \"npy/\": its name does not end in .npy")},
      {with([](Part& p) { p.name = ""; }),
       at(directory - 5, "member \"\": its name does not end in .npy")},
      {with([](Part& p) { p.name = "\xc3\xa9.npy"; }),
       at(directory + 1, "member \"\xc3\xa9.npy\": its name is not marked as UTF-8")},
      {archive({stored("a.npy", one), stored("a.npy", two)}),
       at(389, in + "no two arrays have one name")},
      {put(good, directory + 28, "\xff"), at(directory + 46, "need 255 bytes of a record")},
      {put(good, directory + 30, "\1"), at(directory + 51, "need 1 bytes of a record")},
      {put(good, directory + 32, "\1"),
       at(directory + 52, "the directory goes on after its last entry")},
      {put(good, directory + 34, "\1"), at(directory, several)},
      {put(good, directory + 42, "\1"), at(1, "need a member's header")},
      {put(good, directory + 42, "\xa8"), at(directory, "need 30 bytes of a record")},
      {put(good, directory + 42, "\xff\xff\xff\xff"), at(directory, "need 30 bytes of a record")},
      {put(good, 0, "XX"), at(0, "need a member's header")},
      {put(good, 6, "\2"), at(0, differs)},
      {put(good, 8, "\10"), at(0, differs)},
      {put(good, 14, "XXXX"), at(0, differs)},
      {put(good, 18, "\1"), at(0, differs)},
      {put(good, 22, "\1"), at(0, differs)},
      {put(good, 26, "\4"), at(0, differs)},
      {put(good, 30, "b"), at(0, differs)},
      {put(good, 28, "\xff"), at(35, "need 255 bytes of a record")},
      {with([](Part& p) { p.extra = "\1"; }), at(directory, "a damaged extra field")},
      {with([](Part& p) { p.extra = "\1\0\5\0"s; }), at(directory, "a damaged extra field")},
      {with([](Part& p) { p.crc ^= 1; }), sums},
      {with([](Part& p) { p.data.back() ^= 1; }), sums},
      {with([](Part& p) { p.data[10] = '['; }), "a.npy: byte 10: need { in the header"},
      {with([](Part& p) {
         p.data += 'x';
         ++p.size;
       }),
       "a.npy: byte 132: shape [1] needs 4 bytes of elements, there are more"},
      {with([](Part& p) {
         p.data.pop_back();
         --p.size;
       }),
       "a.npy: byte 128: shape [1] is too large: there are at most 3 bytes of elements"},
      {packed([](Part& p) { p.crc ^= 1; }), sums},
      {packed([](Part& p) { ++p.size; }), sums},
      {packed([](Part& p) { p.size = 0; }), sums},
      {packed([](Part& p) { p.data += 'x'; }), "a.npy: byte 136: " + damaged},
      {packed([](Part& p) { p.data.pop_back(); }), "a.npy: byte 136: " + damaged},
      {packed([](Part& p) { p.data = ""; }), "a.npy: byte 0: " + damaged},
      {packed([](Part& p) { p.data = "nonsense"; }), "a.npy: byte 0: " + damaged},
      {packed([](Part& p) { p.data = deflated(""); }),
       "a.npy: byte 0: the file ends in its header"},
      {packed([&](Part& p) { p.data = deflated(two + "x"); }),
       "a.npy: byte 136: shape [2] needs 8 bytes of elements, there are more"},
      {packed([&](Part& p) { p.data = deflated(two.substr(0, 130)); }),
       "a.npy: byte 130: shape [2] needs 8 bytes of elements, there are 2"},
  };
  for (const auto& [content, message] : cases) {
    const std::string& of = message;  // clang cannot capture a structured binding
    CAPTURE(of);
    if (!message.empty()) CHECK(refused(folder, content) == message);
  }
}

TEST_CASE("members that overlap, or are not in the directory's order, are refused") {
  const Folder folder("overlap");
  const std::string one = npy(ones({1})), overlap =
                                              "members overlap, or do not have the "
                                              "directory's order";
  // Two entries of the directory for one member, which has to have both names.
  std::string twice = archive({stored("a.npy", one), stored("a.npy", one)});
  const std::size_t second = 2 * 167 + 51;
  twice = put(twice, second + 42, std::string(4, '\0'));
  CHECK(refused(folder, twice) == "byte 385: member \"a.npy\": no two arrays have one name");
  CHECK(refused(folder, put(twice, second + 46, "b")) ==
        "byte 0: the header of a member is not what the directory says");
  // A member in the elements of another one.
  const std::string inner = archive({stored("b.npy", one)}).substr(0, 167);
  std::string both = archive({stored("a.npy", one + inner), stored("b.npy", one)});
  const std::size_t directory = 2 * 167 + 167;
  both = put(both, directory + 51 + 42, raw(uint32_t{167}));
  CHECK(refused(folder, both).starts_with("a.npy: byte 132: shape [1] needs 4 bytes of elements"));
  std::string swapped = archive({stored("a.npy", one), stored("b.npy", one)});
  swapped = put(put(swapped, 334 + 42, raw(uint32_t{167})), 334 + 46, "b");
  swapped = put(put(swapped, second + 42, raw(uint32_t{0})), second + 46, "a");
  CHECK(refused(folder, swapped) == "byte 0: " + overlap);
  // The data of the first member reach into the second one.
  const std::string longer =
      npy(ones({9}));  // 164 bytes: 132 are followed by 32 of the next header
  Part a = stored("a.npy", longer);
  std::string reaching = archive({a, stored("b.npy", one)});
  const std::size_t at = 35 + 164;
  reaching = put(reaching, at - 35, reaching.substr(at, 35));
  reaching = put(reaching, 35 + 164 + 167 + 51 + 42, raw(static_cast<uint32_t>(at - 35)));
  const auto* bytes = reinterpret_cast<const Bytef*>(reaching.data());
  const auto crc = raw(static_cast<uint32_t>(crc32_z(0, bytes + 35, 164)));
  reaching = put(put(reaching, 14, crc), 35 + 164 + 167 + 16, crc);
  CHECK(refused(folder, reaching) == "byte 164: " + overlap);
  // The last one reaches into the directory.
  std::string last = archive({stored("a.npy", one)});
  for (const std::size_t offset : {18UL, 22UL, 167 + 20UL, 167 + 24UL})
    last = put(last, offset, raw(uint32_t{133}));
  CHECK(refused(folder, last) == "byte 0: " + overlap);
}

TEST_CASE("the records of ZIP64 are read") {
  const Folder folder("zip64");
  const std::string one = npy(ones({1})), ones4(4, '\xff');
  Part part = stored("a.npy", one);
  const std::string sizes = raw(uint64_t{132}) + raw(uint64_t{132}) + raw(uint64_t{0});
  part.extra = "\x99\x99\1\0x"s + "\1\0"s + raw(uint16_t{24}) + sizes;
  std::string file = archive({part});
  const std::size_t directory = 167, end = file.size() - 22;
  for (const std::size_t offset : {20UL, 24UL, 42UL}) file = put(file, directory + offset, ones4);
  CHECK(same_bits(read(folder, file), {{"a", ones({1})}}));
  // The extra field is too short, or another one.
  std::string without = put(file, directory + 51 + 7, raw(uint16_t{16}));
  CHECK(refused(folder, without) == "byte 167: need 30 bytes of a record");
  without = put(file, directory + 51 + 5, "\2");
  CHECK(refused(folder, without) == "byte 167: need 30 bytes of a record");

  const auto with_end = [&](std::string record, const std::string& locator) {
    std::string last = put(file.substr(end), 8, std::string(12, '\xff'));
    return file.substr(0, end) + record + locator + last;
  };
  const std::string record = "PK\6\6" + raw(uint64_t{44}) + "-\0-\0"s + std::string(8, '\0') +
                             raw(uint64_t{1}) + raw(uint64_t{1}) +
                             raw(static_cast<uint64_t>(end - directory)) +
                             raw(static_cast<uint64_t>(directory));
  const std::string locator =
      "PK\6\7" + raw(uint32_t{0}) + raw(static_cast<uint64_t>(end)) + raw(uint32_t{1});
  CHECK(same_bits(read(folder, with_end(record, locator)), {{"a", ones({1})}}));
  const std::string need = "byte " + std::to_string(end) + ": need the end record of ZIP64",
                    several = "byte " + std::to_string(end) + ": an archive of several parts";
  CHECK(refused(folder, with_end(put(record, 0, "XX"), locator)) == need);
  CHECK(refused(folder, with_end(put(record, 4, "\x2d"), locator)) == need);
  CHECK(refused(folder, with_end(put(record, 16, "\1"), locator)) == several);
  CHECK(refused(folder, with_end(put(record, 24, "\2"), locator)) == several);
  CHECK(refused(folder, with_end(record, put(locator, 4, "\1"))) == several);
  for (const std::size_t offset : {40UL, 48UL})
    CHECK(refused(folder, with_end(put(record, offset, std::string(8, '\xff')), locator)) ==
          "byte " + std::to_string(end) + ": not the directory's end");
  CHECK(refused(folder, with_end(record, put(locator, 8, std::string(8, '\xff')))) ==
        "byte " + std::to_string(end + 56) + ": need 56 bytes of a record");
  std::string many = put(record, 24, std::string(8, '\xff'));
  many = put(many, 32, std::string(8, '\xff'));
  CHECK(refused(folder, with_end(many, locator)) ==
        "byte " + std::to_string(end) + ": need 46 bytes of a record");
}

TEST_CASE("more members than 16 bits can count") {
  const Folder folder("many");
  NamedTensors all;
  const Tensor x = tensor({7});
  for (int i = 0; i < 65536; ++i) all.emplace_back(std::to_string(i), x);
  const std::string path = (folder.path / "x.npz").string();
  data::write_npz(path, all);
  const NamedTensors back = data::read_npz(path);
  CHECK(same_bits(back, all));
}

TEST_CASE("a small archive that was cut off is refused, and no flipped bit changes a value") {
  const Folder folder("flip");
  const std::string one = npy(tensor({1.5, -2})), two = npy(tensor({true, false}));
  const NamedTensors original = {{"a", tensor({1.5, -2})}, {"b", tensor({true, false})}};
  const std::string path = (folder.path / "x").string();
  data::write_npz(path, original);
  for (const std::string& whole :
       {content_of(path), archive({deflated_part("a.npy", one), deflated_part("b.npy", two)})}) {
    REQUIRE(same_bits(read(folder, whole), original));
    for (std::size_t n = 0; n < whole.size(); ++n)
      CHECK_THROWS_AS(read(folder, whole.substr(0, n)), FormatError);
    int refusals = 0;
    for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
      std::string file = whole;
      file[bit / 8] = static_cast<char>(file[bit / 8] ^ 1 << bit % 8);
      try {
        const NamedTensors back = read(folder, file);
        CHECK(same_bits(back, original));
      } catch (const FormatError&) { ++refusals; }
    }
    CHECK(refusals > static_cast<int>(6 * whole.size()));
  }
}

TEST_CASE("an archive that would not fit into memory is refused before memory is taken") {
  const Folder folder("bomb");
  // Zeros that were deflated once, many times: a whole stream of 10 GB would take long to make.
  const std::size_t piece = std::size_t{16} << 20;
  const std::string zeros_ = std::string(piece, '\0'), block = deflated(zeros_, false);
  const auto member = [&](const Shape& shape, std::size_t bytes) {
    std::string head = npy(zeros({0}));
    const std::string to = "(" + std::to_string(shape[0]) + ",)";
    head.replace(head.find("(0,)"), 4, to).erase(head.find("  "), to.size() - 4);
    Part part = stored("a.npy", "");
    part.method = 8;
    part.data = deflated(head, false);
    for (std::size_t have = 0; have < bytes; have += piece) part.data += block;
    part.data += deflated("");
    part.size = 0xfffffff0;
    return part;
  };
  set_memory_limit(memory_stats().system_bytes + (64 << 20));
  const std::string bomb = archive({member({2500000000}, 10'000'000'000)});
  REQUIRE(bomb.size() > 9'000'000);
  CHECK(refused(folder, bomb)
            .starts_with("a.npy: byte 128: shape [2500000000] is too large: "
                         "there are at most"));
  CHECK(refused(folder, archive({member({3}, 10'000'000'000)})) ==
        "a.npy: byte 140: shape [3] needs 12 bytes of elements, there are more");
  set_memory_limit(0);
  // Each member may have 4 MiB, but not many small ones.
  const std::string large = npy(zeros({(1 << 20) - 100}));
  std::vector<Part> parts;
  for (const char* name : {"a.npy", "b.npy", "c.npy"}) parts.push_back(deflated_part(name, large));
  CHECK(refused(folder, archive(parts)) ==
        "b.npy: byte 128: shape [1048476] is too large: there are at most 144 bytes of elements");
  parts.resize(1);
  CHECK(read(folder, archive(parts)).size() == 1);
}
