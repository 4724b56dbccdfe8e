#include <bit>
#include <cmath>
#include <sys/stat.h>

#include "descent/core/kernels/crc32c.hpp"

#include "files.hpp"

using namespace descent;
using namespace std::string_literals;

namespace {

/// The 8 bytes that say how long the header is.
std::string length_of(uint64_t n) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(n >> 8 * i);
  return bytes;
}
/// A file of this header and these elements.
std::string file_of(const std::string& header, const std::string& elements = "") {
  return length_of(header.size()) + header + elements;
}
template <class T> std::string bytes_of(std::initializer_list<T> values) {
  std::string bytes;
  for (const T& v : values) bytes.append(reinterpret_cast<const char*>(&v), sizeof v);
  return bytes;
}

/// One tensor of each dtype, and of odd shapes and names.
NamedTensors mixed() {
  return {{"weight", tensor({1.5, -2.0})},
          {"ids", arange(6).reshape({2, 3}).t()},  // not contiguous
          {"mask", tensor({true, false, true})},
          {"d\"\n\xc3\xa9", zeros({0, 3}, float64)},
          {"scale", tensor(2.5, float64)},
          {"bias", full({2, 2}, 0.25).requires_grad_()}};
}

const std::string kPath = "<path>";
/// What a reader says about this content, with <path> in place of its path.
template <class E = FormatError>
std::string complaint(const Folder& folder, const std::string& content,
                      const data::LoadOptions& options = {}) {
  const std::string path = folder.write("file.safetensors", content);
  std::string text = refusal<E>([&] { (void)load(path, options); });
  if (const std::size_t at = text.find(path); at != std::string::npos)
    text.replace(at, path.size(), kPath);
  return text;
}

}  // namespace

TEST_CASE("what is saved is loaded: names, dtypes, shapes and bits") {
  const Folder folder("safetensors");
  const std::string path = (folder.path / "all.safetensors").string();
  for (const bool checksums : {true, false}) {
    save(path, mixed(), {.checksums = checksums, .metadata = {{"note", "a \"text\"\n"}}});
    const data::SafeTensors all = load(path);
    CHECK(all.verified == checksums);
    CHECK(all.metadata == data::Metadata{{"note", "a \"text\"\n"}});
    const NamedTensors original = mixed();
    REQUIRE(all.size() == original.size());
    for (const auto& [name, t] : original) {
      const auto found = std::find_if(all.begin(), all.end(),
                                      [&n = name](const auto& entry) { return entry.first == n; });
      REQUIRE(found != all.end());
      CHECK(same_bits(found->second, t));
      CHECK_FALSE(found->second.requires_grad());
    }
    const std::string written = content_of(path);
    save(path, all, {.checksums = checksums, .metadata = all.metadata});
    CHECK(content_of(path) == written);
  }
}

TEST_CASE("without checksums a file has the reference writer's bytes") {
  const Folder folder("safetensors");
  const std::string path = (folder.path / "plain.safetensors").string();
  save(path, mixed(), {.checksums = false});
  // As safetensors 0.8.0 (Python) writes the same tensors.
  const std::string header = R"({"ids":{"dtype":"I64","shape":[3,2],"data_offsets":[0,48]},)"
                             "\"d\\\"\\n\xc3\xa9\""
                             R"(:{"dtype":"F64","shape":[0,3],"data_offsets":[48,48]},)"
                             R"("scale":{"dtype":"F64","shape":[],"data_offsets":[48,56]},)"
                             R"("bias":{"dtype":"F32","shape":[2,2],"data_offsets":[56,72]},)"
                             R"("weight":{"dtype":"F32","shape":[2],"data_offsets":[72,80]},)"
                             R"("mask":{"dtype":"BOOL","shape":[3],"data_offsets":[80,83]}})";
  CHECK(content_of(path) ==
        file_of(header + std::string(7 - (header.size() + 7) % 8, ' '),
                bytes_of<int64_t>({0, 3, 1, 4, 2, 5}) + bytes_of<double>({2.5}) +
                    bytes_of<float>({0.25F, 0.25F, 0.25F, 0.25F, 1.5F, -2.0F}) + "\1\0\1"s));
}

TEST_CASE("checksums of large tensors, which several threads compute, are those of the whole") {
  const Folder folder("safetensors");
  const std::string path = (folder.path / "large.safetensors").string();
  const NamedTensors large{{"a", noise({3'000'001}, 1)}, {"b", noise({1}, 2, float64)}};
  save(path, large, {.checksums = false});
  const std::string plain = content_of(path);
  for (const int threads : {1, 3}) {
    const NumThreads number(threads);
    save(path, large);
    const data::SafeTensors all = load(path);
    CHECK(all.verified);
    CHECK(same_bits(all[1].second, large[0].second));
    char sum[16];
    std::snprintf(sum, sizeof sum, "%08x",
                  crc32c_by_table(Peek::header(large[0].second)->data, 4 * 3'000'001));
    CHECK(content_of(path).find("\"descent.crc32c.a\":\"" + std::string(sum) + "\"") !=
          std::string::npos);
    std::string damaged = content_of(path);
    damaged[damaged.size() - 5'000'000] ^= 1;  // in the middle of a tile
    CHECK(complaint(folder, damaged).find("tensor \"a\" is damaged") != std::string::npos);
    folder.write("plain.safetensors", plain);
    CHECK(same_bits(load((folder.path / "plain.safetensors").string())[1].second, large[0].second));
  }
}

TEST_CASE("mapped tensors are those of the file, and live on without it") {
  const Folder folder("safetensors");
  const std::string path = (folder.path / "mapped.safetensors").string();
  NamedTensors some = mixed();
  some.emplace_back("large", noise({700, 1000}, 3));
  for (const bool checksums : {true, false}) {
    save(path, some, {.checksums = checksums});
    const std::string written = content_of(path);
    const MemoryStats before = memory_stats();
    data::SafeTensors mapped = load(path, {.map = true});
    CHECK(memory_stats().live_bytes == before.live_bytes + 3);  // the bools
    CHECK(mapped.verified == checksums);
    CHECK(same_bits(mapped, load(path)));
    for (auto& [name, t] : mapped)
      if (t.dtype() == float32) t += 1;
    CHECK(content_of(path) == written);  // changes stay in memory
    const Tensor large = mapped[0].first == "large" ? mapped[0].second : Tensor();
    save(path, {{"other", ones({2})}});  // replaces the file, and leaves what was mapped
    std::filesystem::remove(path);
    mapped.clear();
    if (large.defined()) CHECK(same_bits(large, some.back().second + 1));
  }
}

TEST_CASE("what cannot be mapped is copied, and what is damaged refused") {
  const Folder folder("safetensors");
  const auto with = [&](const std::string& header, const std::string& elements) {
    return load(folder.write("odd.safetensors", file_of(header, elements)),
                {.convert = true, .map = true});
  };
  // One blank makes the elements begin at an odd byte.
  const std::string entry = R"({"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})";
  for (std::size_t blanks = 0; blanks < 16; ++blanks)
    CHECK(with(entry + std::string(blanks, ' '), bytes_of({-0.5}))[0].second.item() == -0.5);
  CHECK(with(R"({"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})",
             bytes_of<uint16_t>({0x3c00, 0xc000}))[0]
            .second.to_vector<float>() == std::vector<float>{1, -2});
  CHECK(with("{}", "").empty());

  const std::string path = (folder.path / "file.safetensors").string();
  save(path, mixed());
  std::string damaged = content_of(path);
  damaged[damaged.size() - 20] ^= 4;
  CHECK(complaint(folder, damaged, {.map = true}).find("is damaged") != std::string::npos);
}

TEST_CASE("a model's weights travel in one line") {
  const Folder folder("safetensors");
  const std::string path = (folder.path / "weights.safetensors").string();
  manual_seed(1);
  nn::Linear a(3, 2), b(3, 2);
  save(path, a.state_dict());
  b.load_state_dict(load(path));
  CHECK(same_bits(a.state_dict(), b.state_dict()));
}

TEST_CASE("element types that are no dtype are converted on request only") {
  const Folder folder("safetensors");
  const auto file = [](const std::string& type, const std::string& elements, int64_t count) {
    return file_of(R"({"x":{"dtype":")" + type + R"(","shape":[)" + std::to_string(count) +
                       R"(],"data_offsets":[0,)" + std::to_string(elements.size()) + "]}}",
                   elements);
  };
  const auto converted = [&](const std::string& type, const std::string& elements, int64_t count) {
    const std::string path = folder.write("other.safetensors", file(type, elements, count));
    return load(path, {.convert = true})[0].second;
  };
  CHECK(complaint<DtypeError>(folder, file("F16", bytes_of<uint16_t>({0x3c00}), 1)) ==
        "load: <path>: tensor \"x\" is F16, which is no dtype: "
        "{.convert = true} makes it float32");
  CHECK(complaint<DtypeError>(folder, file("I32", bytes_of<int32_t>({7}), 1)) ==
        "load: <path>: tensor \"x\" is I32, which is no dtype: "
        "{.convert = true} makes it int64");
  CHECK(ints(converted("I32", bytes_of<int32_t>({7, -8, INT32_MIN}), 3)) == Ints{7, -8, INT32_MIN});
  CHECK(ints(converted("U32", bytes_of<uint32_t>({UINT32_MAX}), 1)) == Ints{UINT32_MAX});
  CHECK(ints(converted("U8", "\x00\xff"s, 2)) == Ints{0, 255});
  CHECK(ints(converted("I8", "\x80\x7f"s, 2)) == Ints{-128, 127});
  CHECK(ints(converted("I16", bytes_of<int16_t>({-300}), 1)) == Ints{-300});
  CHECK(ints(converted("U16", bytes_of<uint16_t>({65535}), 1)) == Ints{65535});
  CHECK(ints(converted("U64", bytes_of<uint64_t>({1, INT64_MAX}), 2)) == Ints{1, INT64_MAX});
  CHECK(complaint(folder, file("U64", bytes_of<uint64_t>({1, uint64_t{1} << 63}), 2),
                  {.convert = true}) ==
        "load: <path>: byte 71: tensor \"x\" has an element there that is no number below 2^63");
  // Every float16 and bfloat16, against its definition.
  std::string all;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) all += bytes_of<uint16_t>({uint16_t(bits)});
  const Tensor half = converted("F16", all, 0x10000), brain = converted("BF16", all, 0x10000);
  CHECK(half.dtype() == float32);
  int wrong = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double sign = bits >> 15 ? -1 : 1;
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double expected = exponent == 31  ? (fraction ? kNan : sign * kInf)
                            : exponent == 0 ? sign * std::ldexp(fraction, -24)
                                            : sign * std::ldexp(1024 + fraction, exponent - 25);
    const float found = half.data<float>()[bits], other = brain.data<float>()[bits];
    if (std::isnan(expected) ? !std::isnan(found)
                             : found != float(expected) || std::signbit(found) != (sign < 0))
      ++wrong;
    if (std::bit_cast<uint32_t>(other) != bits << 16) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("a header that breaks a rule of the format is refused") {
  const Folder folder("safetensors");
  const std::string two = bytes_of<float>({1, 2});
  const auto entry = [](const std::string& fields) { return R"({"x":{)" + fields + "}}"; };
  const auto tensor_of = [&](const std::string& dtype, const std::string& shape,
                             const std::string& offsets) {
    return entry(R"("dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets);
  };
  const std::string good = tensor_of(R"("F32")", "[2]", "[0,8]");
  CHECK(complaint(folder, file_of(good, two)) == kNothingThrown);
  CHECK(complaint(folder, file_of(good + "   ", two)) == kNothingThrown);
  const std::pair<std::string, std::string> cases[] = {
      {"", "byte 0: the file ends in the 8 bytes that say how long its header is"},
      {"1234567", "byte 7: the file ends in the 8 bytes that say how long its header is"},
      {length_of(0), "byte 8: the header does not begin with { and end with } and spaces"},
      {length_of(100'000'001), "byte 0: a header of 100000001 bytes: the format allows 100000000"},
      {length_of(UINT64_MAX),
       "byte 0: a header of 18446744073709551615 bytes: the format allows 100000000"},
      {length_of(3) + "{}", "byte 0: a header of 3 bytes in a file of 10"},
      {file_of(" {}"), "byte 8: the header does not begin with { and end with } and spaces"},
      {file_of("{}\n"), "byte 10: the header does not begin with { and end with } and spaces"},
      {file_of("[]"), "byte 8: the header does not begin with { and end with } and spaces"},
      {file_of("{}}"), "byte 10: this is no JSON, or not UTF-8"},
      {file_of("{\"x\"}"), "byte 12: this is no JSON, or not UTF-8"},
      {file_of("{\"\xff\":1}"), "byte 10: this is no JSON, or not UTF-8"},
      {file_of(R"({"x":1})"), R"(byte 8: "x": a number in place of a tensor)"},
      {file_of(R"({"x":null})"), R"(byte 8: "x": null in place of a tensor)"},
      {file_of(R"({"x":true})"), R"(byte 8: "x": true or false in place of a tensor)"},
      {file_of(R"({"x":[]})"), R"(byte 8: "x": a list in place of a tensor)"},
      {file_of(R"({"x":"F32"})"), R"(byte 8: "x": a text in place of a tensor)"},
      {file_of(R"({"x":{}})"), R"(byte 8: "x": dtype is missing)"},
      {file_of(entry(R"("dtype":"F32","shape":[2])"), two),
       R"(byte 8: "x": data_offsets is missing)"},
      {file_of(entry(R"("dtype":"F32","data_offsets":[0,8])"), two),
       R"(byte 8: "x": shape is missing)"},
      {file_of(entry(R"("dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8])"), two),
       R"(byte 8: "x": "shape" is there twice)"},
      {file_of(entry(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1)"), two),
       R"(byte 8: "x": "more" is none of the format)"},
      {file_of(tensor_of(R"("F31")", "[2]", "[0,8]"), two),
       R"(byte 8: "x": dtype "F31" is not supported)"},
      {file_of(tensor_of(R"("F8_E4M3")", "[8]", "[0,8]"), two),
       R"(byte 8: "x": dtype "F8_E4M3" is not supported)"},
      {file_of(tensor_of("32", "[2]", "[0,8]"), two), R"(byte 8: "x": "dtype" is a number)"},
      {file_of(tensor_of("[]", "[2]", "[0,8]"), two), R"(byte 8: "x": "dtype" is a list)"},
      {file_of(tensor_of(R"("F32")", "2", "[0,8]"), two), R"(byte 8: "x": "shape" is a number)"},
      {file_of(tensor_of(R"("F32")", "{}", "[0,8]"), two), R"(byte 8: "x": "shape" is an object)"},
      {file_of(tensor_of(R"("F32")", "[[2]]", "[0,8]"), two), R"(byte 8: "x": "shape" is a list)"},
      {file_of(tensor_of(R"("F32")", R"(["2"])", "[0,8]"), two),
       R"(byte 8: "x": "shape" is a text)"},
      {file_of(tensor_of(R"("F32")", "[-2]", "[0,8]"), two),
       R"(byte 8: "x": "shape" is a negative number)"},
      {file_of(tensor_of(R"("F32")", "[-0]", "[0,8]"), two),
       R"(byte 8: "x": "shape" is a negative number)"},
      {file_of(tensor_of(R"("F32")", "[2e0]", "[0,8]"), two),
       R"(byte 8: "x": "shape" is "2e0", which is no integer below 2^63)"},
      {file_of(tensor_of(R"("F32")", "[2.0]", "[0,8]"), two),
       R"(byte 8: "x": "shape" is "2.0", which is no integer below 2^63)"},
      {file_of(tensor_of(R"("F32")", "[9223372036854775808]", "[0,8]"), two),
       R"(byte 8: "x": 9223372036854775808 is too large)"},
      {file_of(tensor_of(R"("F32")", "[18446744073709551616]", "[0,8]"), two),
       R"(byte 8: "x": "shape" is "18446744073709551616", which is no integer below 2^63)"},
      {file_of(tensor_of(R"("F32")", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), two),
       R"(byte 8: "x": more than 8 numbers: the rank is at most 8)"},
      {file_of(tensor_of(R"("F32")", "[3]", "[0,8]"), two),
       R"(byte 8: "x": F32 [3] is not 8 bytes)"},
      {file_of(tensor_of(R"("F32")", "[4611686018427387905]", "[0,4]"), two),
       R"(byte 8: "x": F32 [4611686018427387905] is not 4 bytes)"},
      {file_of(tensor_of(R"("F32")", "[4294967296,4294967296]", "[0,0]")),
       R"(byte 8: "x": F32 [4294967296, 4294967296] is not 0 bytes)"},
      {file_of(tensor_of(R"("F32")", "[0,4294967296,4294967296]", "[0,0]")),
       R"(byte 8: "x": F32 [0, 4294967296, 4294967296] is not 0 bytes)"},
      {file_of(tensor_of(R"("F32")", "[2]", "[8,0]"), two),
       R"(byte 8: "x": data_offsets are not a begin and an end)"},
      {file_of(tensor_of(R"("F32")", "[2]", "[0]"), two),
       R"(byte 8: "x": data_offsets are not a begin and an end)"},
      {file_of(tensor_of(R"("F32")", "[2]", "[4,12]"), two + "0000"),
       R"(byte 8: "x": begins at 4, but the tensors before it end at 0)"},
      {file_of(tensor_of(R"("F32")", "[2]", "[0,8]"), "0000000"),
       "byte 69: the tensors have 8 bytes, the file has 7 for them"},
      {file_of(tensor_of(R"("F32")", "[2]", "[0,8]"), two + "0"),
       "byte 70: the tensors have 8 bytes, the file has 9 for them"},
      {file_of("{}", "0"), "byte 10: the tensors have 0 bytes, the file has 1 for them"},
      {file_of(R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
               R"("y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
               "123"),
       R"(byte 8: "y": begins at 1, but the tensors before it end at 2)"},
      {file_of(R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
               R"("x":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
               "123"),
       R"(byte 8: "x": its name is there twice)"},
      {file_of(R"({"__metadata__":1})"),
       R"(byte 8: "__metadata__": a number in place of a tensor)"},
      {file_of(R"({"__metadata__":{"a":1}})"), R"(byte 8: "__metadata__": "a" is a number)"},
      {file_of(R"({"__metadata__":{"a":{}}})"), R"(byte 8: "__metadata__": "a" is an object)"},
      {file_of(R"({"__metadata__":{"a":[]}})"), R"(byte 8: "__metadata__": "a" is a list)"},
      {file_of(R"({"__metadata__":{"a":"1","a":"2"}})"),
       R"(byte 8: "__metadata__": "a" is there twice)"},
      {file_of(R"({"__metadata__":{},"__metadata__":{}})"),
       R"(byte 8: "__metadata__": its name is there twice)"},
      {file_of("{\"x\\u0000\":{}}"), R"(byte 8: "x?": its name has a NUL byte)"},
      {file_of("{\"" + std::string(1025, 'n') + "\":{}}"), "byte 8: \"nnn"},
      {file_of(tensor_of(R"("BOOL")", "[2]", "[0,2]"), "\1\2"s),
       R"(byte 64: tensor "x" has an element there that is no boolean)"},
      {gzipped(file_of(good, two)), "byte 0: a header of "},
  };
  int count = 0;
  for (const auto& [content, message] : cases) {
    CHECK(complaint(folder, content).substr(0, 14 + message.size()) == "load: <path>: " + message);
    ++count;
  }
  MESSAGE("hostile: ", count, " safetensors files");
  // Its length begins as a gzip file does.
  CHECK(complaint(folder, file_of(good + std::string(0x8b1f - good.size(), ' '), two)) ==
        kNothingThrown);
  const std::string deep = R"({"x":)" + std::string(1'000'000, '[') + "}";
  CHECK(complaint(folder, file_of(deep)) ==
        R"(load: <path>: byte 8: "x": a list in place of a tensor)");
}

TEST_CASE("checksums that are wrong, incomplete or of another format are refused") {
  const Folder folder("safetensors");
  const std::string path = (folder.path / "sums.safetensors").string();
  save(path, {{"x", tensor({1.0, 2.0})}});
  const std::string good = content_of(path);
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string content = good;
    const std::size_t at = content.find(from);
    REQUIRE(at != std::string::npos);
    content.replace(at, from.size(), to);
    return complaint(folder, content);
  };
  const auto begins = [](const std::string& text, const std::string& with) {
    CHECK_MESSAGE(text.starts_with("load: <path>: " + with), text);
  };
  begins(changed(R"("descent.format":"1")", R"("descent.format":"2")"),
         "byte 8: format \"2\": this version reads format 1");
  begins(changed("descent.format", "descent.formas"), "byte 8: checksums, but no descent.format");
  begins(changed("\"descent.crc32c\"", "\"descent.crc32d\""),
         "byte 8: descent.crc32c is missing, or not written as it should be");
  begins(changed("descent.crc32c.x", "descent.crc32c.y"), "byte 8: the header is damaged: its CRC");
  begins(changed("[2]", "[1]"), "byte 8: \"x\": F32 [1] is not 8 bytes");
  begins(changed("data_offsets\":[0,8]", "data_offsets\":[0,9]"),
         "byte 8: \"x\": F32 [2] is not 9");
  std::string content = good;
  content.back() = static_cast<char>(content.back() ^ 1);
  begins(complaint(folder, content),
         "byte " + std::to_string(good.size() - 8) + ": tensor \"x\" is damaged: its CRC-32C is ");
}

TEST_CASE("every bit of a file with checksums is guarded, and no part of it is taken for all") {
  const Folder folder("safetensors");
  const std::string path = (folder.path / "flips.safetensors").string();
  save(path, mixed(), {.metadata = {{"note", "text"}}});
  const std::string good = content_of(path);
  const data::SafeTensors right = load(path);
  int64_t refused = 0, harmless = 0, wrong = 0;
  const auto probe = [&](const std::string& content) {
    folder.write("flips.safetensors", content);
    try {
      const data::SafeTensors all = load(path);
      ++(same_bits(all, right) ? harmless : wrong);
    } catch (const FormatError&) { ++refused; }
  };
  for (std::size_t i = 0; i < 8 * good.size(); ++i) {
    std::string content = good;
    content[i / 8] = static_cast<char>(content[i / 8] ^ 1 << i % 8);
    probe(content);
  }
  CHECK(wrong == 0);
  CHECK(harmless == 0);
  CHECK(refused == static_cast<int64_t>(8 * good.size()));
  for (std::size_t n = 0; n < good.size(); ++n) probe(good.substr(0, n));
  CHECK(refused == static_cast<int64_t>(9 * good.size()));
  MESSAGE("flipped: ", 8 * good.size(), " bits of a safetensors file, truncated: ", good.size(),
          " times");
}

TEST_CASE("names that a file cannot hold are refused by name") {
  const Folder folder("safetensors");
  const std::string path = (folder.path / "names.safetensors").string();
  const auto saved = [&](const std::string& name) {
    return refusal<ValueError>([&] { save(path, {{name, tensor({1.0})}}); });
  };
  for (const std::string name :
       {"", "a,b", "\"", "\\", "\n", "\x01", "\xe2\x82\xac", "../x", "a/b"}) {
    CHECK(saved(name) == kNothingThrown);
    CHECK(load(path)[0].first == name);
  }
  CHECK(saved("a\xff") == "save: tensor \"a\xff\": it is not UTF-8");
  CHECK(saved("a\0b"s).starts_with("save: tensor \"a?b\": its name has a NUL byte"));
  CHECK(saved(std::string(1025, 'n')).ends_with(": its name has more than 1024 bytes"));
  CHECK(saved("__metadata__") ==
        "save: tensor \"__metadata__\": the format needs this name for itself");
  CHECK(refusal<ValueError>([&] {
          save(path, {{"x", tensor(1.0)}, {"x", tensor(2.0)}});
        }) == "save: tensor \"x\": there are two of this name");
  CHECK(refusal<ValueError>([&] {
          save(path, {{"x", Tensor()}});
        }) == "save: tensor \"x\" is undefined");
  CHECK(refusal<ValueError>([&] {
          save(path, {}, {.metadata = {{"descent.crc32c.a", ""}}});
        }) == "save: text \"descent.crc32c.a\": save itself writes texts of this name");
  CHECK(refusal<ValueError>([&] {
          save(path, {}, {.metadata = {{"a", "\xff"}}});
        }) == "save: text \"\xff\": it is not UTF-8");
  CHECK(load(path)[0].first == "a/b");  // what was refused has changed nothing
}

TEST_CASE("a text may have any length, any characters and the content of any name") {
  const Folder folder("safetensors-texts");
  const std::string path = folder.write("file.safetensors", "");
  const data::Metadata texts{{"long", std::string(100'000, 't')},
                             {"nul", "a\0b"s},
                             {"name", "__metadata__"},
                             {"none", ""}};
  save(path, mixed(), {.metadata = texts});
  CHECK(load(path).metadata == texts);
}
