#include <cfenv>
#include <cmath>
#include <doctest/doctest.h>
#include <fstream>
#include <random>
#include <sstream>

#include "files.hpp"

using namespace descent;

namespace {

using Names = std::vector<std::string>;
using data::Csv;
using data::CsvOptions;
using data::Header;

std::string written(const Csv& table, const CsvOptions& options = {}) {
  const Folder folder("csv-write");
  const std::string path = (folder.path / "table.csv").string();
  data::write_csv(path, table, options);
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// What is read from the file that is written.
Csv again(const Csv& table, const CsvOptions& options = {}) {
  const Folder folder("csv-again");
  const std::string path = (folder.path / "table.csv").string();
  data::write_csv(path, table, options);
  return data::read_csv(path, options);
}

std::string refused(const Csv& table, const CsvOptions& options = {}) {
  const Folder folder("csv-refused");
  const std::string path = folder.write("table.csv", "old");
  const std::string message = refusal<ValueError>([&] { data::write_csv(path, table, options); });
  std::string text;
  std::ifstream(path) >> text;
  CHECK(text == "old");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
  return message;
}

Csv numbers(const Values& list) { return {{"x"}, tensor(list, {std::ssize(list), 1}, float64)}; }

}  // namespace

TEST_CASE("a table is written with as few characters as it needs") {
  CHECK(written({{"x", "y"}, tensor({{1., 0.1}, {-0., 1e300}}, float64)}) ==
        "x,y\n1,0.1\n-0,1e+300\n");
  CHECK(written({{"x", "y"}, tensor({{0.1, 1e-45}})}) == "x,y\n0.1,1e-45\n");
  CHECK(written({{"n"}, tensor({{INT64_MIN}, {(int64_t{1} << 53) + 1}})}) ==
        "n\n-9223372036854775808\n9007199254740993\n");
  CHECK(written({{"b"}, tensor({{true}, {false}})}) == "b\n1\n0\n");
  CHECK(written({{"x", "y"}, tensor({{1., 2.}})}, {.delimiter = '\t'}) == "x\ty\n1\t2\n");
  CHECK(written({{"x", "y"}, tensor({{1., 2.}, {3., 4.}}).t()}) == "x,y\n1,3\n2,4\n");
  CHECK(written({{"x", "y"}, zeros({0, 2})}) == "x,y\n");
  CHECK(written({{"x", "y"}, tensor({{1., kNan}})}, {.missing = {"", "NA"}}) == "x,y\n1,\n");
  CHECK(written(numbers({kNan}), {.missing = {""}}) == "x\n\"\"\n");
  CHECK(written(numbers({kNan}), {.missing = {"N,A"}}) == "x\n\"N,A\"\n");
}

TEST_CASE("a header is written where a reader would find one") {
  const Csv numbered{{"0", "1"}, tensor({{1., 2.}})}, named{{"a", "1"}, tensor({{1., 2.}})};
  CHECK(written(numbered) == "1,2\n");
  CHECK(written(numbered, {.header = Header::present}) == "0,1\n1,2\n");
  CHECK(written(named, {.header = Header::present}) == "a,1\n1,2\n");
  CHECK(written(named, {.header = Header::absent}) == "1,2\n");
  CHECK(refused(named) == "write_csv: 1 rows under [a, 1]: need present or absent as the header");
  CHECK(refused({{"0"}, tensor({{0.}}), {{"text"}}}) ==
        "write_csv: 1 rows under [0]: need present or absent as the header");
  CHECK(refused({{"0"}, zeros({0, 1})}) ==
        "write_csv: 0 rows under [0]: need present or absent as the header");
  CHECK(refused({{"a"}, zeros({0, 1})}, {.header = Header::absent}) ==
        "write_csv: 0 rows under [a]: need present or absent as the header");
}

TEST_CASE("texts have quotes only where they need them") {
  const Names texts{"plain", "a,b", "\"", "a\nb", "a\rb", " a ", "", "\xC3\xA9", "1.5", "a;b"};
  Values codes(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) codes[i] = static_cast<double>(i);
  const Csv table{{"t"}, tensor(codes, {std::ssize(codes), 1}, float64), {texts}};
  CHECK(written(table) ==
        "t\nplain\n\"a,b\"\n\"\"\"\"\n\"a\nb\"\n\"a\rb\"\n a \n\"\"\n\xC3\xA9\n1.5\na;b\n");
  const Csv back = again(table, {.text = {"t"}});
  CHECK(back.categories[0] == texts);
  CHECK(same_bits(back.values, table.values));
  // The first bytes of a file must not be those of gzip, nor a byte order mark.
  for (const char* name : {"\xEF\xBB\xBFx", "\x1F\x8Bx", " x", "x\t", "\"", "\r", "\n", "\r\n,"}) {
    CAPTURE(name);
    const Csv odd{{name, "y"}, tensor({{1., 2.}}, float64)};
    CHECK(again(odd).columns == odd.columns);
    const Csv text{{"0"}, tensor({{0.}}, float64), {{name}}};
    const Csv read = again(text, {.header = Header::absent, .text = {"0"}});
    CHECK(read.categories == text.categories);
  }
  CHECK(again({{""}, tensor({{1.}}, float64)}).columns == Names{""});
}

TEST_CASE("what a reader would refuse, or take for something else, is not written") {
  CHECK(refused(numbers({1, kInf})) ==
        "write_csv: values[1, 0] in column \"x\" is inf: it must be finite");
  CHECK(refused(numbers({-kInf}), {.missing = {"-inf"}}) ==
        "write_csv: values[0, 0] in column \"x\" is -inf: it must be finite");
  CHECK(refused(numbers({kNan})) ==
        "write_csv: values[0, 0] in column \"x\" is nan: name a missing value");
  CHECK(refused(numbers({1, -999}), {.missing = {"NA", "-999"}}) ==
        "write_csv: values[1, 0] in column \"x\" is -999: this stands for a missing value");
  for (const double code : {2., -1., 0.5, 1e300, kInf})
    CHECK(refused({{"t"}, tensor(Values{code}, {1, 1}, float64), {{"a", "b"}}})
              .ends_with(": there is no such category"));
  CHECK(refused({{"t"}, tensor({{0.}}), {{"a", "b", "a"}}}) ==
        "write_csv: \"a\" of column \"t\" is there twice, or a missing one");
  CHECK(refused({{"t"}, tensor({{0.}}), {{"NA"}}}, {.missing = {"NA"}}) ==
        "write_csv: \"NA\" of column \"t\" is there twice, or a missing one");
  CHECK(refused({{"t"}, tensor({{0.}}), {{std::string("a\0b", 3)}}}) ==
        "write_csv: \"a?b\" has a NUL byte");
  CHECK(refused({{std::string("a\0b", 3)}, tensor({{0.}})}) == "write_csv: \"a?b\" has a NUL byte");
  CHECK(refused(numbers({kNan}), {.missing = {std::string(1, '\0')}}) ==
        "write_csv: \"?\" has a NUL byte");
  CHECK(refused({{"t", "t"}, tensor({{0., 0.}}), {{"a"}, {}}}) ==
        "write_csv: 2 columns are called \"t\": there are [t, t]");
  CHECK(refused({{std::string(1 << 20, 'x')}, tensor({{0.}})}) ==
        "write_csv: row 1 makes more than 1 MiB, or 4 GiB in total");
  CHECK(refused({{"t"}, tensor({{0.}}), {{std::string(1 << 20, 'x')}}}) ==
        "write_csv: row 2 makes more than 1 MiB, or 4 GiB in total");
  CHECK(again({{std::string((1 << 20) - 1, 'x')}, tensor({{0.}}, float64)}).values.numel() == 1);
  CHECK(refused(numbers({1}), {.delimiter = '.'}) ==
        "write_csv: delimiter \".\" could be part of a field");
  const Folder folder("csv-shapes");
  const std::string path = (folder.path / "x.csv").string();
  const auto shape_error = [&](const Csv& table) {
    return refusal<ShapeError>([&] { data::write_csv(path, table); });
  };
  CHECK(shape_error({{"x"}, zeros({2, 3})}) ==
        "write_csv: values [2, 3], 1 names, categories of 0: need [rows, columns]");
  CHECK(shape_error({{"x"}, zeros({2})}) ==
        "write_csv: values [2], 1 names, categories of 0: need [rows, columns]");
  CHECK(shape_error({{"x"}, {}}) ==
        "write_csv: values [], 1 names, categories of 0: need [rows, columns]");
  CHECK(shape_error({{}, zeros({2, 0})}) ==
        "write_csv: values [2, 0], 0 names, categories of 0: need [rows, columns]");
  CHECK(shape_error({{"x"}, tensor({{0.}}), {{"a"}, {"b"}}}) ==
        "write_csv: values [1, 1], 1 names, categories of 2: need [rows, columns]");
  CHECK(refusal<IoError>([&] {
          data::write_csv("/none/x.csv", numbers({1}));
        }).starts_with("write_csv: cannot open /none/x.csv: "));
}

namespace {

/// A double of any bits that is finite, or an ordinary one.
double any_number(std::mt19937_64& random) {
  for (;;) {
    const auto bits = random();
    const double special[] = {0.0, -0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308};
    if (bits % 8 == 0) return special[bits / 8 % 5];
    if (bits % 8 < 4) return static_cast<double>(static_cast<int64_t>(bits >> 40)) / 1000;
    const auto number = std::bit_cast<double>(random());
    if (std::isfinite(number)) return number;
  }
}

std::string any_text(std::mt19937_64& random) {
  const char alphabet[] = {'a', 'b', ',',    ';',    '"',    '\n',   '\r',   ' ',    '\t',  '7',
                           '.', '-', '\x1F', '\xEF', '\xBB', '\xBF', '\x8B', '\xC3', '\xA9'};
  std::string text(random() % 5, ' ');
  for (char& c : text) c = alphabet[random() % sizeof alphabet];
  return text;
}

struct Sample {
  Csv table;
  CsvOptions options;
};

Sample any_table(std::mt19937_64& random) {
  const std::size_t width = 1 + random() % 4, rows = random() % 6;
  Sample sample{{{}, {}}, {.delimiter = random() % 2 ? ',' : ';'}};
  if (random() % 2) sample.options.missing = {random() % 2 ? "" : "a,b", "NA"};
  Values values(rows * width);
  for (double& v : values) v = any_number(random);
  for (std::size_t i = 0; i < width; ++i) {
    sample.table.columns.push_back("c" + any_text(random) + std::to_string(i));
    Names& texts = sample.table.categories.emplace_back();
    if (random() % 2) continue;
    sample.options.text.push_back(sample.table.columns[i]);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::string text = any_text(random);
      auto place = std::find(texts.begin(), texts.end(), text);
      const bool missing =
          !sample.options.missing.empty() && (random() % 4 == 0 || text.empty() || text == "a,b");
      if (!missing && place == texts.end()) place = texts.insert(place, text);
      values[r * width + i] = missing ? kNan : static_cast<double>(place - texts.begin());
    }
  }
  if (!sample.options.missing.empty())
    for (double& v : values) v = random() % 5 == 0 ? kNan : v;
  // Codes are those of the order in which texts come first.
  for (std::size_t i = 0; i < width; ++i) {
    Names ordered;
    for (std::size_t r = 0; r < rows && !sample.table.categories[i].empty(); ++r) {
      double& v = values[r * width + i];
      if (std::isnan(v)) continue;
      const std::string& text = sample.table.categories[i][static_cast<std::size_t>(v)];
      const auto place = std::find(ordered.begin(), ordered.end(), text) - ordered.begin();
      if (place == std::ssize(ordered)) ordered.push_back(text);
      v = static_cast<double>(place);
    }
    sample.table.categories[i] = ordered;
  }
  sample.table.values =
      tensor(values, {static_cast<int64_t>(rows), static_cast<int64_t>(width)}, float64);
  return sample;
}

}  // namespace

TEST_CASE("a table that is written and read again has the same names, texts and bits") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 2000; ++i) {
    const auto [table, options] = any_table(random);
    CAPTURE(i);
    const Csv back = again(table, options);
    REQUIRE(back.columns == table.columns);
    REQUIRE(back.categories == table.categories);
    REQUIRE(same_bits(back.values, table.values));
  }
}

TEST_CASE("numbers of each dtype come back from their digits") {
  std::mt19937_64 random(3);
  Values doubles(20000);
  // The nearest double to this one's shortest digits lies between two floats.
  std::vector<float> floats{std::bit_cast<float>(0x15ae43fdU), std::bit_cast<float>(0x95ae43fdU)};
  Ints integers;
  for (double& v : doubles) v = any_number(random);
  while (floats.size() < 20000)
    if (const auto f = std::bit_cast<float>(static_cast<uint32_t>(random())); std::isfinite(f))
      floats.push_back(f);
  for (int i = 0; i < 20000; ++i) integers.push_back(static_cast<int64_t>(random()) >> 11);
  const Shape shape{4000, 5};
  const Names names{"a", "b", "c", "d", "e"};
  const Tensor x = tensor(doubles, shape, float64);
  CHECK(same_bits(again({names, x}).values, x));
  const Tensor y = tensor(floats, shape, float32);
  CHECK(same_bits(again({names, y}).values.to(float32), y));
  const Tensor z = tensor(integers, shape, int64);
  CHECK(same_bits(again({names, z}).values.to(int64), z));
}
