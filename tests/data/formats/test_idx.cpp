#include <algorithm>
#include <climits>
#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/stat.h>

#include "files.hpp"

using namespace descent;

namespace {

/// The message without the folder's path.
template <class E, class F> std::string refused(const Folder& folder, F f) {
  std::string text = refusal<E>(f);
  const std::string path = folder.path.string() + "/";
  for (std::size_t at; (at = text.find(path)) != text.npos;) text.erase(at, path.size());
  return text;
}
std::string refused(const Folder& folder, const std::string& content) {
  const std::string path = folder.write("x", content);
  return refused<FormatError>(folder, [&] { data::read_idx(path); });
}

/// A folder in MNIST's form: two images of 2 by 2 for training, one for testing.
struct Digits : Folder {
  Digits() : Folder("digits") {
    write("train-images-idx3-ubyte",
          idx(8, {2, 2, 2}, std::string("\x00\x33\x66\x99\xcc\xff\x00\x01", 8)));
    write("train-labels-idx1-ubyte", idx(8, {2}, "\x03\x09"));
    write("t10k-images-idx3-ubyte.gz",
          gzipped(idx(8, {1, 2, 2}, std::string("\x00\x00\xff\x00", 4))));
    write("t10k-labels-idx1-ubyte", idx(8, {1}, std::string(1, '\0')));
  }
  std::string refused() const {
    return ::refused<FormatError>(*this, [&] { data::mnist(path.string()); });
  }
};

/// Runs f in a thread with a stack of 64 KiB, or of the smallest size that the system allows: 128
/// KiB on arm64. A sanitizer's frames are larger.
template <class F> void on_a_small_stack(F f) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr std::size_t bytes = 256 << 10;
#elif defined(__has_feature)
  constexpr std::size_t bytes =
      (__has_feature(undefined_behavior_sanitizer) || __has_feature(address_sanitizer) ||
               __has_feature(thread_sanitizer)
           ? 256
           : 64)
      << 10;
#else
  constexpr std::size_t bytes = 64 << 10;
#endif
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  const auto least = static_cast<std::size_t>(PTHREAD_STACK_MIN);
  REQUIRE(pthread_attr_setstacksize(&attributes, std::max(bytes, least)) == 0);
  pthread_t thread;
  auto run = [](void* p) -> void* { return (*static_cast<F*>(p))(), nullptr; };
  REQUIRE(pthread_create(&thread, &attributes, run, &f) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

}  // namespace

TEST_CASE("files are read in a thread with a small stack") {
  const Digits digits;
  const std::string table = digits.write("table.csv", "a,b\n1,2\n3,4.5\n");
  const std::string none = (digits.path / "none").string();
  double read = 0;
  bool refused = false;
  on_a_small_stack([&] {
    const auto sets = data::mnist(digits.path.string());
    read = static_cast<double>(sets.train.size() + sets.test.size());
    read += data::read_csv(table).values.sum().item();
    try {
      data::read_idx(none);
    } catch (const IoError&) { refused = true; }
  });
  CHECK(read == 3 + 10.5);
  CHECK(refused);
}

TEST_CASE("every type of element is read, highest byte first, and converted") {
  const Folder folder("types");
  const auto read = [&](char type, const std::string& bytes, uint32_t n) {
    return values(data::read_idx(folder.write("x", idx(type, {n}, bytes)), float64));
  };
  CHECK(read(0x08, "\x01\xff", 2) == Values{1, 255});
  CHECK(read(0x09, "\x01\xff", 2) == Values{1, -1});
  CHECK(read(0x0B, "\x01\x02\xff\xfe", 2) == Values{258, -2});
  CHECK(read(0x0C, std::string("\x00\x01\x00\x00\xff\xff\xff\xff", 8), 2) == Values{65536, -1});
  CHECK(read(0x0D, std::string("\x3f\xc0\x00\x00", 4), 1) == Values{1.5});
  CHECK(read(0x0E, std::string("\xc0\x04\x00\x00\x00\x00\x00\x00", 8), 1) == Values{-2.5});
  const Tensor matrix =
      data::read_idx(folder.write("m", idx(8, {2, 3}, "\x01\x02\x03\x04\x05\x06")), int64);
  CHECK(matrix.shape() == Shape{2, 3});
  CHECK(matrix.dtype() == int64);
  CHECK(data::read_idx(folder.write("e", idx(8, {0, 7}, ""))).shape() == Shape{0, 7});
  const Tensor truth =
      data::read_idx(folder.write("b", idx(9, {2}, std::string("\0\x80", 2))), boolean);
  CHECK(values(truth) == Values{0, 1});
  const std::string floats = folder.write("f", idx(0x0D, {0}, ""));
  CHECK(refused<DtypeError>(folder, [&] { data::read_idx(floats, int64); }) ==
        "read_idx: f holds floating numbers: need float32 or float64");
}

TEST_CASE("a file that was cut off anywhere is refused, raw or compressed") {
  const Folder folder("cut");
  const std::string raw = idx(8, {3, 5}, "fifteen bytes!!"), gz = gzipped(raw);
  CHECK(data::read_idx(folder.write("x", gz)).shape() == Shape{3, 5});
  for (const std::string& whole : {raw, gz})
    for (std::size_t n = 0; n < whole.size(); ++n)
      CHECK_THROWS_AS(data::read_idx(folder.write("x", whole.substr(0, n))), FormatError);
  CHECK(refused(folder, raw.substr(0, 2)) ==
        "read_idx: x: byte 0: [00 00] is not how an IDX file begins: need 00 00, a type (08, 09, "
        "0b, 0c, 0d or 0e), a rank (01 to 08)");
  CHECK(refused(folder, raw.substr(0, 7)) ==
        "read_idx: x: byte 7: the file ends in its header of 2 sizes");
  CHECK(refused(folder, raw.substr(0, 20)) ==
        "read_idx: x: byte 20: shape [3, 5] needs 15 bytes of elements, the file has 8");
  CHECK(refused(folder, gz.substr(0, gz.size() - 3)) ==
        "read_idx: x: byte 42 of the compressed file: the gzip stream ends too early");
}

TEST_CASE("a flipped bit gives a tensor of some shape or an error, and is never missed in a .gz") {
  const Folder folder("flip");
  const std::string raw = idx(8, {3, 5}, "fifteen bytes!!"), gz = gzipped(raw);
  const auto original = values(data::read_idx(folder.write("x", raw)));
  for (const std::string& whole : {raw, gz}) {
    for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
      std::string file = whole;
      file[bit / 8] = static_cast<char>(file[bit / 8] ^ 1 << bit % 8);
      const std::string path = folder.write("x", file);
      try {
        const Tensor x = data::read_idx(path);
        CHECK(x.numel() <= 15);
        if (whole == gz) CHECK(values(x) == original);
      } catch (const FormatError&) {}
    }
  }
}

TEST_CASE("a header that is not one, or promises too much, is refused before memory is taken") {
  const Folder folder("header");
  CHECK(refused(folder, "hello") ==
        "read_idx: x: byte 0: [68 65 6c 6c] is not how an IDX file begins: need 00 00, a type (08, "
        "09, 0b, 0c, 0d or 0e), a rank (01 to 08)");
  CHECK(refused(folder, idx(7, {1}, "a")) ==
        "read_idx: x: byte 0: [00 00 07 01] is not how an IDX file begins: need 00 00, a type (08, "
        "09, 0b, 0c, 0d or 0e), a rank (01 to 08)");
  CHECK(refused(folder, std::string("\0\0\x08\x09", 4) + std::string(99, '\1')) ==
        "read_idx: x: byte 0: [00 00 08 09] is not how an IDX file begins: need 00 00, a type (08, "
        "09, 0b, 0c, 0d or 0e), a rank (01 to 08)");
  const std::pair<std::string, std::string> cases[] = {
      {"", ""}, {"\n", "0a"}, {"\r\n", "0d 0a"}, {"\n\n\n", "0a 0a 0a"}};
  for (const auto& [text, bytes] : cases) {
    const std::string why = ": [" + bytes +
                            "] is not how an IDX file begins: need 00 00, a type (08, 09, 0b, 0c, "
                            "0d or 0e), a rank (01 to 08)";
    CHECK(refused(folder, text) == "read_idx: x: byte 0" + why);
    CHECK(refused(folder, gzipped(text)) == "read_idx: x: byte 0 of the inflated content" + why);
  }
  CHECK(refused(folder, "\n\n\n\n") ==
        "read_idx: x: byte 0: [0a 0a 0a 0a] is not how an IDX file begins: need 00 00, a type (08, "
        "09, 0b, 0c, 0d or 0e), a rank (01 to 08)");
  CHECK(refused(folder, idx(8, {65535, 65535, 65535}, "")) ==
        "read_idx: x: byte 4: shape [65535, 65535, 65535] makes more than 4 GiB");
  CHECK(refused(folder, idx(8, {1000000000}, "abc")) ==
        "read_idx: x: byte 11: shape [1000000000] needs 1000000000 bytes of elements, the file has "
        "3");
  CHECK(refused(folder, gzipped(idx(8, {1000000000}, "abc"))) ==
        "read_idx: x: byte 11 of the inflated content: shape [1000000000] needs 1000000000 bytes "
        "of elements, the file has 3");
  CHECK(refused(folder, idx(8, {0, 65535, 65535, 65535}, "")) ==
        "read_idx: x: byte 4: shape [0, 65535, 65535, 65535] makes more than 4 GiB");
  CHECK(refused(folder, idx(8, {2}, "abc")) ==
        "read_idx: x: byte 10: shape [2] needs 2 bytes of elements, the file has more");
  CHECK(refused(folder, gzipped(idx(8, {2}, std::string(100000, 'a')))) ==
        "read_idx: x: byte 10 of the inflated content: shape [2] needs 2 bytes of elements, the "
        "file has more");
  CHECK(refused(folder, gzipped(idx(8, {2}, "ab")) + "garbage") ==
        "read_idx: x: byte 30 of the compressed file: there are bytes after the end of the gzip "
        "stream");
}

TEST_CASE("what is written is read again, and has the highest byte first") {
  const Folder folder("written");
  const std::string path = (folder.path / "x").string();
  Shape shape;
  for (int rank = 1; rank <= 8; ++rank) {
    shape.push_back(rank % 2 + 1);
    CAPTURE(rank);
    for (const Placement placement : placements) {
      if (rank == 8 && placement == Placement::every_second) continue;  // needs a ninth axis
      for (const DType dtype : {float32, float64}) {
        data::write_idx(path, numbered(shape, placement, dtype));
        CHECK(same_bits(data::read_idx(path, dtype), numbered(shape, placement, dtype)));
      }
      const Tensor whole = numbered(shape, placement, int64) - 1;
      for (const Element element : {Element::int8, Element::int16, Element::int32}) {
        data::write_idx(path, whole, element);
        CHECK(same_bits(data::read_idx(path, int64), whole));
      }
      data::write_idx(path, whole + 1, Element::uint8);
      CHECK(same_bits(data::read_idx(path, int64), whole + 1));
      data::write_idx(path, whole > 0);
      CHECK(same_bits(data::read_idx(path, boolean), whole > 0));
    }
  }
  const auto written = [&](const Tensor& x, std::optional<Element> element = {}) {
    data::write_idx(path, x, element);
    return content_of(path);
  };
  const std::string one("\x3f\xf8\0\0\0\0\0\0", 8);
  CHECK(written(tensor({true, false})) == idx(8, {2}, std::string("\1\0", 2)));
  CHECK(written(tensor({0, 255}), Element::uint8) == idx(8, {2}, std::string("\0\xff", 2)));
  CHECK(written(tensor({-128, 127}), Element::int8) == idx(9, {2}, "\x80\x7f"));
  CHECK(written(tensor({-32768, 258}), Element::int16) ==
        idx(0xb, {2}, std::string("\x80\0\1\2", 4)));
  CHECK(written(tensor({16909060}), Element::int32) == idx(0xc, {1}, "\1\2\3\4"));
  CHECK(written(tensor({1.5}).requires_grad_()) == idx(0xd, {1}, std::string("\x3f\xc0\0\0", 4)));
  CHECK(written(full({1, 1}, 1.5, float64)) == idx(0xe, {1, 1}, one));
  CHECK(written(zeros({0, 70000})) == idx(0xd, {0, 70000}, ""));
  CHECK(written(zeros({0, UINT32_MAX})) == idx(0xd, {0, UINT32_MAX}, ""));
}

TEST_CASE("a tensor that IDX cannot hold is refused, and the old file stays") {
  const Folder folder("unwritten");
  const std::string path = folder.write("x", "as it was");
  const auto values_refused = [&](const Tensor& x, Element element) {
    return refusal<ValueError>([&] { data::write_idx(path, x, element); });
  };
  const std::string element = "write_idx: element ";
  CHECK(values_refused(tensor({{0, 1}, {2, 256}}), Element::uint8) ==
        element + "3 in row-major order does not fit: 256");
  CHECK(values_refused(tensor({{0, 1}, {-1, 256}}).t(), Element::uint8) ==
        element + "1 in row-major order does not fit: -1");
  CHECK(values_refused(tensor({128}), Element::int8) ==
        element + "0 in row-major order does not fit: 128");
  CHECK(values_refused(tensor({0, -32769}), Element::int16) ==
        element + "1 in row-major order does not fit: -32769");
  CHECK(values_refused(tensor({0x80000000}), Element::int32) ==
        element + "0 in row-major order does not fit: 2147483648");
  const auto types_refused = [&](const Tensor& x, std::optional<Element> type = {}) {
    return refusal<DtypeError>([&] { data::write_idx(path, x, type); });
  };
  const std::string need =
                        "write_idx: int64 elements need an element type: uint8, int8, int16 or "
                        "int32",
                    none = " elements are written as they are: name no element type";
  CHECK(types_refused(tensor({1})) == need);
  for (const Element type : {Element::boolean, Element::uint16, Element::uint32, Element::int64,
                             Element::uint64, Element::float16, Element::float32, Element::float64})
    CHECK(types_refused(tensor({1}), type) == need);
  CHECK(types_refused(ones({1}), Element::uint8) == "write_idx: float32" + none);
  CHECK(types_refused(ones({1}), Element::float64) == "write_idx: float32" + none);
  CHECK(types_refused(ones({1}, float64), Element::float32) == "write_idx: float64" + none);
  CHECK(types_refused(ones({1}, boolean), Element::uint8) == "write_idx: bool" + none);
  CHECK(refusal<ShapeError>([&] { data::write_idx(path, ones({})); }) ==
        "write_idx: a scalar: need a rank of 1 to 8");
  CHECK(refusal<ShapeError>([&] { data::write_idx(path, ones({1}).expand({int64_t{1} << 32})); }) ==
        "write_idx: shape [4294967296] has a size above 2^32 - 1");
  CHECK(refusal<ValueError>([&] { data::write_idx(path, Tensor()); }) ==
        "write_idx: the tensor is undefined");
  CHECK(content_of(path) == "as it was");
}

TEST_CASE("gzip members that follow one another are one file") {
  const Folder folder("members");
  const std::string raw = idx(8, {4}, "abcd");
  const std::string path = folder.write("x", gzipped(raw.substr(0, 6)) + gzipped(raw.substr(6)));
  CHECK(values(data::read_idx(path)) == Values{97, 98, 99, 100});
}

TEST_CASE("what is no regular file is refused without waiting") {
  const Folder folder("special");
  const std::string fifo = (folder.path / "fifo").string();
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  for (const std::string& path : {fifo, folder.path.string(), std::string("/dev/zero")})
    CHECK(refusal<IoError>([&] { data::read_idx(path); }) ==
          "read_idx: cannot read " + path + ": it is not a regular file");
  CHECK(refusal<IoError>([&] { data::read_idx("/none"); }) ==
        "read_idx: cannot open /none: No such file or directory");
  CHECK(refusal<IoError>([] { (void)data::load_idx(std::string("a\0b", 3)); }) ==
        "read_idx: cannot open a: the path goes on after a NUL byte");
}

TEST_CASE("the bundled digits are the genuine ones") {
  const data::Mnist digits = data::mnist(DESCENT_ROOT "/examples/data/mnist");
  CHECK(digits.name == "mnist");
  CHECK(digits.train.x().shape() == Shape{60000, 1, 28, 28});
  CHECK(digits.test.x().shape() == Shape{10000, 1, 28, 28});
  CHECK(digits.train.y().narrow(0, 0, 5).to_vector<int>() == std::vector<int>{5, 0, 4, 1, 9});
  CHECK(digits.test.y().narrow(0, 0, 5).to_vector<int>() == std::vector<int>{7, 2, 1, 0, 4});
  CHECK(digits.train.x().max().item() == 1);
  CHECK(digits.train.x().mean().item() == doctest::Approx(0.1307).epsilon(1e-3));
}

TEST_CASE("another set in the same form is read under its folder's name") {
  const Digits folder;
  const data::Mnist digits = data::mnist(folder.path.string());
  CHECK(digits.name == folder.path.filename().string());
  CHECK(digits.train.x().to_vector<float>()[1] == 0x33 / 255.0f);
  CHECK(digits.train.y().to_vector<int>() == std::vector<int>{3, 9});
  CHECK(digits.test.x().shape() == Shape{1, 1, 2, 2});
}

TEST_CASE("mislabelled, mismatched and broken sets of digits are refused") {
  {
    const Digits folder;
    folder.write("train-labels-idx1-ubyte", idx(8, {2, 2, 2}, "01234567"));
    CHECK(folder.refused() ==
          "mnist: train-labels-idx1-ubyte: byte 2: type 8, rank 3: need type 8 (uint8), rank 1");
  }
  {
    const Digits folder;
    folder.write("train-labels-idx1-ubyte", idx(8, {3}, "\x01\x02\x03"));
    CHECK(folder.refused() ==
          "mnist: train-labels-idx1-ubyte: byte 4: 3 labels for the 2 images of "
          "train-images-idx3-ubyte");
  }
  {
    const Digits folder;
    folder.write("train-labels-idx1-ubyte", idx(8, {2}, "\x01\x0a"));
    CHECK(folder.refused() == "mnist: train-labels-idx1-ubyte: byte 9: label 10: need 0 to 9");
  }
  {
    const Digits folder;
    std::string gz = gzipped(idx(8, {1, 2, 2}, "abcd"));
    gz[gz.size() - 6] = static_cast<char>(gz[gz.size() - 6] ^ 1);  // the checksum
    folder.write("t10k-images-idx3-ubyte.gz", gz);
    CHECK(folder.refused() ==
          "read_idx: t10k-images-idx3-ubyte.gz: byte 32 of the compressed file: incorrect data "
          "check");
  }
  {
    const Digits folder;
    folder.write("train-images-idx3-ubyte", idx(8, {2, 2, 2}, "abcde"));
    CHECK(folder.refused() ==
          "read_idx: train-images-idx3-ubyte: byte 21: shape [2, 2, 2] needs 8 bytes of elements, "
          "the file has 5");
  }
  {
    const Digits folder;
    folder.write("t10k-images-idx3-ubyte", idx(8, {1, 3, 2}, "abcdef"));
    CHECK(folder.refused() ==
          "mnist: t10k-images-idx3-ubyte: byte 8: shape [1, 3, 2], but "
          "train-images-idx3-ubyte has [2, 2, 2]");
  }
  {
    const Digits folder;
    folder.write("train-images-idx3-ubyte", idx(8, {2, 2, 0}, ""));
    CHECK(folder.refused() ==
          "mnist: train-images-idx3-ubyte: byte 4: shape [2, 2, 0] has no pixels");
  }
  {
    const Digits folder;
    std::filesystem::remove(folder.path / "t10k-labels-idx1-ubyte");
    CHECK(refusal<IoError>([&] { data::mnist(folder.path.string()); }) ==
          "read_idx: cannot open " + folder.path.string() +
              "/t10k-labels-idx1-ubyte.gz: No such file or directory");
  }
}

TEST_CASE("an Idx whose parts do not fit together is refused") {
  const data::Idx good{"made", 0x08, {2, 2}, "abcd"};
  CHECK(good.to(int64).to_vector<int64_t>() == std::vector<int64_t>{97, 98, 99, 100});
  data::Idx bad = good;
  bad.bytes = "abc";
  CHECK(refusal<ValueError>([&] { (void)bad.to(int64); }) ==
        "read_idx: type 8 and shape [2, 2] for 3 bytes of elements: they do not fit");
  for (const int type : {-1, 0, 7, 0x0a, 256}) {
    bad = good;
    bad.type = type;
    CHECK(refusal<ValueError>([&] { (void)bad.to(int64); }) ==
          "read_idx: type " + std::to_string(type) +
              " and shape [2, 2] for 4 bytes of elements: they do not fit");
  }
}
