#include <algorithm>
#include <doctest/doctest.h>
#include <sys/stat.h>

#include "files.hpp"

using namespace descent;

namespace {

/// An NPY file of this version, whose header is this text.
std::string npy(const std::string& header, const std::string& elements, char version = 1) {
  std::string file = "\x93NUMPY";
  file += {version, 0};
  for (int shift = 0; shift < (version == 1 ? 16 : 32); shift += 8)
    file += static_cast<char>(header.size() >> shift & 255);
  return file + header + elements;
}
/// The header that numpy writes for this type and shape, without its blanks.
std::string header(const std::string& type, const std::string& shape,
                   const std::string& fortran = "False") {
  return "{'descr': '" + type + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }\n";
}
const std::string kThree = header("<f4", "(3,)"), kTwelve(12, '\0');

Tensor read(const Folder& folder, const std::string& content, bool convert = false) {
  return data::read_npy(folder.write("x", content), {.convert = convert});
}
/// The message of the E for a file of this content, from behind the path on.
template <class E = FormatError>
std::string refused(const Folder& folder, const std::string& content, bool convert = false) {
  const std::string path = folder.write("x", content), begin = "read_npy: " + path;
  const std::string text = refusal<E>([&] { data::read_npy(path, {.convert = convert}); });
  return text.starts_with(begin) ? text.substr(begin.size() + (text[begin.size()] == ':' ? 2 : 1))
                                 : text;
}
std::string reversed(std::string bytes) {
  std::reverse(bytes.begin(), bytes.end());
  return bytes;
}

}  // namespace

TEST_CASE("a tensor of every dtype, rank and layout is written and read as it is") {
  const Folder folder("npy");
  const std::string path = (folder.path / "x.npy").string();
  Shape shape;
  for (int rank = 0; rank <= 8; ++rank) {
    for (const DType dtype : {float32, float64, int64, boolean}) {
      for (const Placement placement : placements) {
        if (rank == 8 && placement == Placement::every_second) continue;  // needs a ninth axis
        CAPTURE(shape);
        CAPTURE(dtype);
        const Tensor x = dtype == boolean ? numbered(shape, placement, int64) > 2
                                          : numbered(shape, placement, dtype);
        data::write_npy(path, x);
        CHECK(same_bits(data::read_npy(path), x));
      }
    }
    if (rank < 8) shape.push_back(rank % 2 + 1);
  }
  for (const Shape& empty : {Shape{0}, Shape{0, 3}, Shape{2, 0, 1000000}}) {
    data::write_npy(path, zeros(empty, int64));
    CHECK(same_bits(data::read_npy(path), zeros(empty, int64)));
  }
  const Tensor x = noise({1000, 700}, 1).requires_grad_();  // more than one tile, and a leaf
  for (const Tensor& y : {x, x.t(), x.narrow(1, 3, 200)}) {
    data::write_npy(path, y);
    const Tensor z = data::read_npy(path);
    CHECK(same_bits(z, y));
    CHECK(!z.requires_grad());
  }
  const Tensor large = noise({3 << 20}, 2);
  data::write_npy(path, large);
  same_with_threads([&] { return std::vector{data::read_npy(path), noise({1 << 22}, 3) + 1}; });
  CHECK(same_bits(data::read_npy(path), large));
  CHECK(same_bits(data::read_npy(folder.write("x.gz", gzipped(content_of(path)))), large));
}

TEST_CASE("what is written has numpy's bytes") {
  const Folder folder("bytes");
  const std::string path = (folder.path / "x.npy").string();
  const auto written = [&](const Tensor& x) {
    data::write_npy(path, x);
    return content_of(path);
  };
  const auto padded = [](std::string text) {
    text.pop_back();
    return text + std::string(117 - text.size(), ' ') + "\n";
  };
  CHECK(written(zeros({3})) == npy(padded(kThree), kTwelve));
  CHECK(written(zeros({0, 3}, float64)) == npy(padded(header("<f8", "(0, 3)")), ""));
  CHECK(written(full({}, 1, int64)) ==
        npy(padded(header("<i8", "()")), std::string("\1\0\0\0\0\0\0\0", 8)));
  CHECK(written(ones({2}, boolean)) == npy(padded(header("|b1", "(2,)")), "\1\1"));
  // The longest header that there can be.
  const Tensor x = zeros({0, 100000, 10000, 1000, 100, 100, 10, 10});
  CHECK(written(x) == npy(padded(header("<f4", "(0, 100000, 10000, 1000, 100, 100, 10, 10)")), ""));
}

TEST_CASE("versions, orders of bytes and of axes, and spellings of the header") {
  const Folder folder("forms");
  const std::string one("\x3f\xc0\0\0", 4), number = reversed(one);  // 1.5
  for (const char version : {'\1', '\2', '\3'})
    CHECK(values(read(folder, npy(header("<f4", "(1,)"), number, version))) == Values{1.5});
  for (const char* text : {
           "{'descr':'<f4','fortran_order':False,'shape':(1,)}",
           "{\"shape\": (1,), \"fortran_order\": True, \"descr\": \"<f4\"}",
           " {\n'fortran_order' : False ,\t'shape' : ( 1 , ) , 'descr' : '=f4' , } \r\n  ",
       })
    CHECK(values(read(folder, npy(text, number))) == Values{1.5});
  CHECK(values(read(folder, npy(header(">f4", "(1,)"), one))) == Values{1.5});
  CHECK(values(read(folder, npy(header(">f4", "()", "True"), one))) == Values{1.5});
  const std::string six("\1\2\3\4\5\6");
  const Tensor c = read(folder, npy(header("|u1", "(2, 3)"), six), true);
  CHECK(ints(c) == Ints{1, 2, 3, 4, 5, 6});
  const Tensor f = read(folder, npy(header("<u1", "(2, 3)", "True"), six), true);
  CHECK(ints(f) == Ints{1, 3, 5, 2, 4, 6});
  CHECK(f.is_contiguous());
  const Tensor g = read(folder, npy(header("<u1", "(1, 3, 2)", "True"), six), true);
  CHECK(ints(g) == Ints{1, 4, 2, 5, 3, 6});
  CHECK(read(folder, npy(header("<i8", "(2, 0, 3)", "True"), "")).shape() == Shape{2, 0, 3});
  CHECK(read(folder, npy(header("<i8", "(1,1,1,1,1,1,1,1)"), "12345678")).dim() == 8);
  const std::string longest = kThree + std::string(65536 - kThree.size(), ' ');
  CHECK(read(folder, npy(longest, kTwelve, 2)).shape() == Shape{3});
}

TEST_CASE(
    "elements of other types are converted on demand, to the smallest dtype that holds them") {
  const Folder folder("convert");
  const auto converted = [&](const char* type, const std::string& bytes) {
    return read(folder, npy(header(type, "(2,)"), bytes), true);
  };
  CHECK(same_bits(converted("|i1", "\x01\xff"), tensor({1, -1})));
  CHECK(same_bits(converted("|u1", "\x01\xff"), tensor({1, 255})));
  CHECK(same_bits(converted("<i2", "\x01\x02\xfe\xff"), tensor({513, -2})));
  CHECK(same_bits(converted(">u2", "\x01\x02\xff\xfe"), tensor({258, 65534})));
  CHECK(same_bits(converted("<i4", "\x01\x02\x03\x04\xfe\xff\xff\xff"), tensor({67305985, -2})));
  CHECK(same_bits(converted("<u4", "\x01\x02\x03\x04\xfe\xff\xff\xff"),
                  tensor({67305985L, 4294967294L})));
  CHECK(same_bits(converted("<f2", std::string("\0\x3e\1\0", 4)), tensor({1.5, 0x1p-24})));
  const std::string most("\xff\xff\xff\xff\xff\xff\xff\x7f", 8), more(7, '\0');
  CHECK(same_bits(converted("<u8", most + '\1' + more), tensor({INT64_MAX, int64_t{1}})));
  CHECK(refused(folder, npy(header("<u8", "(2,)"), most + more + '\x80'), true) ==
        "byte 76: a uint64 that int64 cannot hold");
  CHECK(refused(folder, npy(header("|b1", "(3,)"), "\1\2\3")) ==
        "byte 69: a bool that is neither 0 nor 1");
  // Elements are converted in the memory of the tensor, from the front.
  for (const std::string type : {"<u1", "<i2", ">i2", "<u4", ">u4", "<u8", ">u8", "<i8", ">i8"}) {
    CAPTURE(type);
    const int64_t count = 100003, bytes = type[2] - '0';
    std::string elements;
    Ints expected;
    for (int64_t i = 0; i < count; ++i) {
      expected.push_back(i % (bytes == 1 ? 100 : 30000));
      for (int64_t b = 0; b < bytes; ++b)
        elements += static_cast<char>(expected.back() >> 8 * (type[0] == '<' ? b : bytes - 1 - b));
    }
    CHECK(ints(read(folder, npy(header(type, "(100003,)"), elements), true)) == expected);
  }
  std::string many(3 << 20, '\1');
  CHECK(read(folder, npy(header("|b1", "(3145728,)"), many)).dtype() == boolean);
  many[(2 << 20) + 5] = 7;
  CHECK(refused(folder, npy(header("|b1", "(3145728,)"), many)) ==
        "byte 2097231: a bool that is neither 0 nor 1");
  for (const auto& [type, dtype] :
       std::vector<std::pair<std::string, std::string>>{{"|i1", "int64"},
                                                        {"|u1", "int64"},
                                                        {"<i2", "int64"},
                                                        {"<u2", "int64"},
                                                        {"<i4", "int64"},
                                                        {"<u4", "int64"},
                                                        {"<u8", "int64"},
                                                        {"<f2", "float32"}})
    CHECK(refused<DtypeError>(folder, npy(header(type, "(2,)"), "")) ==
          "type \"" + type + "\" is no dtype: {.convert = true} makes it " + dtype);
}

TEST_CASE("a file that is not what it claims to be is refused with its path and byte") {
  const Folder folder("hostile");
  const auto shaped = [](const std::string& shape) { return npy(header("<f4", shape), kTwelve); };
  const auto typed = [](const std::string& type) { return npy(header(type, "(3,)"), kTwelve); };
  const std::string begins =
      "byte 0: not how an NPY file begins: need \\x93NUMPY and version 1.0, 2.0 or 3.0";
  const std::string keys = "need the keys descr, fortran_order and shape, each once";
  const auto unsupported = [](const std::string& type) {
    return "byte 21: elements of type \"" + type +
           "\" are not supported: need < > = or, for single bytes, |; then b1 i1 i2 i4 i8 u1 u2 u4 "
           "u8 f2 f4 or f8";
  };
  const std::pair<std::string, std::string> cases[] = {
      {"", "byte 0: the file ends in its header"},
      {"\x93NUMPY", "byte 6: the file ends in its header"},
      {"PK\3\4 and more", begins},
      {npy(kThree, kTwelve, 0), begins},
      {npy(kThree, kTwelve, 4), begins},
      {std::string("\x93NUMPY\1\1\2\0{}", 12), begins},
      {std::string("\x93NUMPY\2\0\xff\xff\xff\xff", 12),
       "byte 8: the header is longer than 64 KiB"},
      {npy(std::string(65537, ' '), "", 2), "byte 8: the header is longer than 64 KiB"},
      {npy("", ""), "byte 10: need { in the header"},
      {npy("{}", ""), "byte 11: need ' in the header"},
      {npy("[]", ""), "byte 10: need { in the header"},
      {npy("{'descr': '<f4'}", ""), "byte 25: need , in the header"},
      {npy("{'descr': '<f4',}", ""), "byte 26: need ' in the header"},
      {npy("{'descr': '<f4', 'descr': '<f4'}", ""), "byte 28: " + keys},
      {npy("{'shape': (3,), 'more': 1}", ""), "byte 27: " + keys},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'more': 1}", ""),
       "byte 66: need } in the header"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,),,}", ""),
       "byte 65: need } in the header"},
      {npy(kThree + "x", kTwelve), "byte 68: the header goes on after its dictionary"},
      {npy(kThree + '\0', kTwelve), "byte 68: the header goes on after its dictionary"},
      {npy("{descr: '<f4'}", ""), "byte 11: need ' in the header"},
      {npy("{'descr' '<f4'}", ""), "byte 19: need : in the header"},
      {npy("{'descr\": '<f4'}", ""), "byte 12: " + keys},
      {npy("{'de\\x73cr': '<f4'}", ""), "byte 12: " + keys},
      {npy("{'descr", ""), "byte 12: a text without an end"},
      {npy("{'descr': [('a', '<f4')]}", ""), "byte 20: need ' in the header"},
      {npy("{'descr': ('<f4', (2,))}", ""), "byte 20: need ' in the header"},
      {typed(""), unsupported("")},
      {typed("<"), unsupported("<")},
      {typed("f4"), unsupported("f4")},
      {typed("|f4"), unsupported("|f4")},
      {typed("!f4"), unsupported("!f4")},
      {npy("{'descr': \"<'\"}", ""), unsupported("<'")},
      {typed("<\""), unsupported("<\"")},
      {typed("<f16"), unsupported("<f16")},
      {typed("<f1"), unsupported("<f1")},
      {typed("<c8"), unsupported("<c8")},
      {typed("|O"), unsupported("|O")},
      {typed("<U3"), unsupported("<U3")},
      {typed("|S3"), unsupported("|S3")},
      {typed("|V1"), unsupported("|V1")},
      {typed("<M8[ns]"), unsupported("<M8[ns]")},
      {typed(std::string(60, 'a')), unsupported(std::string(40, 'a') + "...")},
      {npy(header("<f4", "(3,)", "true"), kTwelve), "byte 44: need False in the header"},
      {npy(header("<f4", "(3,)", "0"), kTwelve), "byte 44: need False in the header"},
      {npy(header("<f4", "(3,)", "Falsehood"), kTwelve), "byte 49: need , in the header"},
      {shaped("3"), "byte 60: need ( in the header"},
      {shaped("[3]"), "byte 60: need ( in the header"},
      {shaped("(3)"), "byte 62: need , in the header"},
      {shaped("(,)"), "byte 61: need a size: decimal, not negative, below 2^63"},
      {shaped("(1,,3)"), "byte 63: need a size: decimal, not negative, below 2^63"},
      {shaped("(1 3)"), "byte 63: need , in the header"},
      {shaped("(1, 3 1)"), "byte 66: need ) in the header"},
      {shaped("(-3,)"), "byte 61: need a size: decimal, not negative, below 2^63"},
      {shaped("(+3,)"), "byte 61: need a size: decimal, not negative, below 2^63"},
      {shaped("(03,)"), "byte 61: need a size: decimal, not negative, below 2^63"},
      {shaped("(0x3,)"), "byte 62: need , in the header"},
      {shaped("(3.0,)"), "byte 62: need , in the header"},
      {shaped("(3L,)"), "byte 62: need , in the header"},
      {shaped("(True,)"), "byte 61: need a size: decimal, not negative, below 2^63"},
      {shaped("(1,1,1,1,1,1,1,1,3)"), "byte 77: the shape has more than 8 axes"},
      {shaped("(99999999999999999999,)"),
       "byte 61: need a size: decimal, not negative, below 2^63"},
      {shaped("(4294967296, 4294967296)"),
       "byte 88: shape [4294967296, 4294967296] is too large: there are at most 12 bytes of "
       "elements"},
      {shaped("(0, 4294967296, 4294967296)"),
       "byte 91: shape [0, 4294967296, 4294967296] is too large: there are at most 12 bytes of "
       "elements"},
      {shaped("(4,)"), "byte 68: shape [4] is too large: there are at most 12 bytes of elements"},
      {shaped("(1000000000000,)"),
       "byte 80: shape [1000000000000] is too large: there are at most 12 bytes of elements"},
      {shaped("(2,)"), "byte 76: shape [2] needs 8 bytes of elements, there are more"},
      {shaped("()"), "byte 70: shape [] needs 4 bytes of elements, there are more"},
      {shaped("(0, 3)"), "byte 70: shape [0, 3] needs 0 bytes of elements, there are more"},
      {gzipped(shaped("(4,)")),
       "(inflated): byte 80: shape [4] needs 16 bytes of "
       "elements, there are 12"},
  };
  for (const auto& [content, message] : cases) {
    const std::string& of = message;  // clang cannot capture a structured binding
    CAPTURE(of);
    CHECK(refused(folder, content) == message);
  }
}

TEST_CASE("a file that was cut off anywhere is refused, and a flipped bit does no harm") {
  const Folder folder("cut");
  const std::string raw = npy(kThree, kTwelve), gz = gzipped(raw);
  for (const std::string& whole : {raw, gz})
    for (std::size_t n = 0; n < whole.size(); ++n)
      CHECK_THROWS_AS(read(folder, whole.substr(0, n)), FormatError);
  for (std::size_t bit = 0; bit < 8 * raw.size(); ++bit) {
    std::string file = raw;
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ 1 << bit % 8);
    try {
      const Tensor x = read(folder, file, true);
      CHECK(x.numel() <= 12);
    } catch (const FormatError&) {}
  }
}

TEST_CASE("what would not fit into memory is refused before memory is taken") {
  const Folder folder("bomb");
  // Zeros that were deflated once, many times: a whole stream of 10 GB would take long to make.
  const std::string zeros_(std::size_t{16} << 20, '\0'), block = deflated(zeros_, false);
  std::string file = gzipped(npy(header("<f4", "(2500000000,)"), zeros_), false);
  for (std::size_t n = zeros_.size(); n < 10'000'000'000; n += zeros_.size()) file += block;
  REQUIRE(file.size() > 9'000'000);
  set_memory_limit(memory_stats().system_bytes + (64 << 20));
  CHECK(refused(folder, file)
            .starts_with("(inflated): byte 77: shape [2500000000] "
                         "is too large: there are at most"));
  CHECK(refused(folder, gzipped(npy(header("<f4", "(3,)"), std::string(8 << 20, '\0')))) ==
        "(inflated): byte 80: shape [3] needs 12 bytes of elements, there are more");
  // 32 MiB are read with little more than 32 MiB.
  const Tensor x = ones({8 << 20});
  set_memory_limit(0);
  data::write_npy((folder.path / "x.npy").string(), x);
  trim();
  set_memory_limit(memory_stats().system_bytes + (40 << 20));
  CHECK(same_bits(data::read_npy((folder.path / "x.npy").string()), x));
  set_memory_limit(0);
}

TEST_CASE("what is no regular file is neither read nor written, and errors leave the old file") {
  const Folder folder("special");
  const std::string fifo = (folder.path / "fifo").string(), loop = (folder.path / "loop").string();
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  std::filesystem::create_symlink(loop, loop);
  for (const std::string& path : {fifo, folder.path.string(), std::string("/dev/zero")}) {
    CHECK(refusal<IoError>([&] { data::read_npy(path); }) ==
          "read_npy: cannot read " + path + ": it is not a regular file");
    CHECK(refusal<IoError>([&] { data::read_npz(path); }) ==
          "read_npz: cannot read " + path + ": it is not a regular file");
  }
  for (const std::string& path : {fifo, folder.path.string(), std::string("/dev/full")}) {
    const std::string rest = ": cannot write " + path + ": it is not a regular file";
    CHECK(refusal<IoError>([&] { data::write_npy(path, ones({2})); }) == "write_npy" + rest);
    CHECK(refusal<IoError>([&] {
            data::write_npz(path, {{"a", ones({2})}});
          }) == "write_npz" + rest);
    CHECK(refusal<IoError>([&] { data::write_idx(path, ones({2})); }) == "write_idx" + rest);
  }
  CHECK(refusal<IoError>([&] { data::read_npy(loop); }) ==
        "read_npy: cannot open " + loop + ": Too many levels of symbolic links");
  CHECK(refusal<IoError>([&] { data::read_npz(loop); }) ==
        "read_npz: cannot open " + loop + ": Too many levels of symbolic links");
  CHECK(refusal<IoError>([&] { data::write_npy("/none/x", ones({2})); }) ==
        "write_npy: cannot open /none/x: No such file or directory");
  CHECK(refusal<IoError>([&] { data::write_npz("/none/x", {}); }) ==
        "write_npz: cannot open /none/x: No such file or directory");
  CHECK(refusal<IoError>([&] { data::write_idx("/none/x", ones({2})); }) ==
        "write_idx: cannot open /none/x: No such file or directory");

  const std::string old = folder.write("old", "as it was");
  CHECK(refusal<ValueError>([&] { data::write_npy(old, Tensor()); }) ==
        "write_npy: the tensor is undefined");
  CHECK(content_of(old) == "as it was");
}
