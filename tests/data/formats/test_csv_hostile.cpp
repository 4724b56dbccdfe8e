#include <cmath>
#include <doctest/doctest.h>
#include <fstream>
#include <random>
#include <sys/resource.h>
#include <sys/wait.h>

#include "files.hpp"

using namespace descent;

namespace {

using Names = std::vector<std::string>;
using data::Csv;
using data::CsvOptions;
using data::Header;

constexpr std::size_t KiB = 1 << 10, MiB = 1 << 20;
constexpr std::size_t kReadAtOnceBytes = 2 * MiB, kPieceBytes = 256 * KiB;  // as in csv.cpp

/// What reading a text gives: a table, or the message of the error behind the file's name.
struct Outcome {
  Csv table;
  std::string message;
};

Outcome outcome(const std::string& text, const CsvOptions& options = {}) {
  static const Folder folder("csv-hostile");
  const std::string path = folder.write("table.csv", text);
  try {
    return {data::read_csv(path, options), ""};
  } catch (const FormatError& e) {
    const std::string message = e.what();
    return {{}, message.substr(12 + path.size(), message.rfind(" (") - 12 - path.size())};
  } catch (const ValueError& e) { return {{}, e.what()}; }
}

bool same(const Outcome& a, const Outcome& b) {
  return a.message == b.message && a.table.columns == b.table.columns &&
         a.table.categories == b.table.categories &&
         a.table.values.defined() == b.table.values.defined() &&
         (!a.table.values.defined() || same_bits(a.table.values, b.table.values));
}

std::string repeated(const std::string& text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) all += text;
  return all;
}

/// How much the peak of the memory of a process grows in which f runs, in bytes. -1 if f is false.
template <class F> int64_t peak_growth(F f) {
  const auto status = [](const std::string& name) {
    std::ifstream file("/proc/self/status");
    for (std::string word; file >> word;)
      if (int64_t kilobytes = 0; word == name && file >> kilobytes) return kilobytes << 10;
    return int64_t{0};
  };
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    set_num_threads(1);  // no thread survives a fork
    const int64_t before = status("VmRSS:");
    int64_t growth = f() ? status("VmHWM:") - before : -1;
    ::_exit(::write(ends[1], &growth, sizeof growth) == sizeof growth ? 0 : 1);
  }
  int64_t growth = -1;
  CHECK(::read(ends[0], &growth, sizeof growth) == sizeof growth);
  ::waitpid(pid, nullptr, 0);
  ::close(ends[0]);
  ::close(ends[1]);
  return growth;
}

}  // namespace

TEST_CASE("plain rows are read as the strict reader reads them") {
  // Fields in quotes go through the strict reader.
  const char* const fields[] = {"1",
                                "-2.5",
                                "0",
                                "-0",
                                ".5",
                                "5.",
                                "1e5",
                                "1E-5",
                                "1e+05",
                                "+1",
                                " 2",
                                "2 ",
                                "1e400",
                                "-1e400",
                                "1e-400",
                                "5e-324",
                                "inf",
                                "nan",
                                "nan(1)",
                                "-nan",
                                "x",
                                "1x",
                                "0x1p3",
                                "1e",
                                "1e+",
                                "-",
                                ".",
                                "e5",
                                "--1",
                                "+-1",
                                "1_0",
                                "12345678901234567890",
                                "0.1234567890123456789",
                                "123456789012345678901234567890e-30",
                                "00012",
                                "9007199254740993",
                                "2.2250738585072011e-308",
                                "1.7976931348623159e308",
                                "NA",
                                "-999"};
  std::mt19937 random(5);
  const CsvOptions choices[] = {{.header = Header::absent},
                                {.header = Header::absent, .missing = {"NA"}},
                                {.header = Header::absent, .missing = {"x", "-999", "2 "}}};
  for (int i = 0; i < 2000; ++i) {
    std::string plain, quoted;
    const std::size_t width = 1 + random() % 3, rows = 1 + random() % 5;
    for (std::size_t k = 1; k <= rows * width; ++k) {
      const bool odd = random() % 12 == 0;
      const std::string field = fields[random() % (odd ? std::size(fields) : 9)];
      const std::string end = k % width ? "," : random() % 3 ? "\n" : "\r\n";
      plain += field + end;
      quoted += "\"" + field + "\"" + end;
    }
    CAPTURE(plain);
    for (const CsvOptions& options : choices)
      REQUIRE(same(outcome(plain, options), outcome(quoted, options)));
  }
}

TEST_CASE("random decimals are read to the nearest double") {
  std::mt19937_64 random(9);
  std::string text = "x\n";
  Values expected;
  for (int i = 0; i < 50000; ++i) {
    char digits[64];
    const double v =
        std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 120) - 90);
    std::snprintf(digits, sizeof digits, random() % 2 ? "%.*f" : "%.*g",
                  static_cast<int>(random() % 20), v);
    text += std::string(digits) + "\n";
    expected.push_back(std::strtod(digits, nullptr));
  }
  CHECK(same_bits(values(outcome(text).table.values), expected));
}

TEST_CASE("whatever lies across the ends of the parts that a file is read in is read the same") {
  const std::string row = "0.5,-1e-3\n";
  const std::string tails[] = {"1.25,2\r\n\"3\",4.5e1\n,\" 6\"\n7,8",
                               "1,2\n3,4\n\"5\",\"6\n\"\n",
                               "1,2\r3\n",
                               "1,2\n\"3\"4,5\n",
                               "1,2\n3,4,5\n",
                               "1,2\n3,\"4\"\"5\"\n6,7\n",
                               "1,2\n3,4x\n",
                               "1,2\n3,1e400\n",
                               std::string("1,2\n3,\0\n", 8),
                               "1,2\n\n3,4\n",
                               "1,2\n\"3,4\n5,6\n"};
  for (const std::string& tail : tails) {
    const std::size_t tail_rows = 4;
    const CsvOptions options{.header = Header::absent, .missing = {""}};
    for (const std::size_t part : {kPieceBytes, kReadAtOnceBytes}) {
      for (std::size_t shift = 0; shift <= tail.size(); ++shift) {
        CAPTURE(tail);
        CAPTURE(shift);
        // All rows before the tail, the first of which is longer, end `shift` bytes before the
        // part.
        const std::size_t rows = part / row.size() - tail_rows;
        const std::size_t zeros = part - shift - rows * row.size();
        const std::string head = std::string(zeros, '0') + repeated(row, rows);
        const Outcome whole = outcome(head + tail, options);
        const Outcome small = outcome(row + tail, options);
        if (small.message.empty()) {
          REQUIRE(whole.message == "");
          const int64_t first = static_cast<int64_t>(rows) - 1;
          const int64_t count = small.table.values.size(0);
          REQUIRE(whole.table.values.size(0) == first + count);
          REQUIRE(same_bits(whole.table.values.narrow(0, first, count), small.table.values));
        } else {
          const auto number = std::stoul(small.message.substr(4));
          std::string message = small.message;
          message.replace(4, std::to_string(number).size(), std::to_string(number + rows - 1));
          REQUIRE(whole.message == message);
        }
      }
    }
  }
}

TEST_CASE("the number of threads changes nothing") {
  const std::string text = repeated("1,2.5\n3,\n\"4\",5e-3\r\n", 1) + repeated("0.25,7\n", 600000) +
                           "8,\n" + repeated("0.125,9\n", 600000) + "10,x\n";
  for (const std::string& content : {text, text.substr(0, text.size() - 5)}) {
    const auto read = [&](int threads) {
      const NumThreads few(threads);
      return outcome(content, {.missing = {""}});
    };
    const Outcome alone = read(1);
    CHECK(same(alone, read(2)));
    CHECK(same(alone, read(7)));
    CHECK(alone.message.empty() == (content.size() < text.size()));
  }
}

TEST_CASE("many categories are kept, whatever they are") {
  std::string text = "id\n";
  Names names;
  for (int i = 0; i < 300000; ++i)
    text += names.emplace_back("n" + std::to_string(int64_t{i} * 7919 % 300007)) + "\n";
  const Csv table = outcome(text, {.text = {"id"}}).table;
  CHECK(table.categories[0] == names);
  CHECK(same_bits(table.labels("id"), arange(300000)));
}

TEST_CASE("reading takes little more memory than the table") {
  if (kAddressSanitizer || kThreadSanitizer) return;
  const Folder folder("csv-memory");
  const auto constant = static_cast<int64_t>(20 * MiB);
  const std::string row = "0.25,-1.5,3,4.125,5,6,7,8\n", dense = "1,2,3,4,5,6,7,8\n";
  for (const std::string& content :
       {repeated(row, 700000), repeated(dense, 700000), repeated(dense + ",,,,,,,\n", 350000),
        "\"" + std::string("a") + "\"" + repeated(",b", 7) + "\n" + repeated(row, 700000)}) {
    const std::string path = folder.write("table.csv", content);
    const int64_t table = 700000 * 8 * 8;
    const int64_t growth = peak_growth([&] {
      const auto before = memory_stats();
      const Csv csv = data::read_csv(path, {.missing = {""}});
      const auto after = memory_stats();
      return csv.values.numel() * 8 == table && after.live_bytes - before.live_bytes < table + 1024;
    });
    CHECK(growth > table / 2);
    CHECK(growth < table + table / 2);
    CHECK(growth < table + constant);
  }
  std::string ids = "id\n";
  for (int i = 0; i < 200000; ++i) ids += std::to_string(i) + "\n";
  const std::string path = folder.write("ids.csv", ids);
  const int64_t growth = peak_growth(
      [&] { return data::read_csv(path, {.text = {"id"}}).categories[0].size() == 200000; });
  CHECK(growth > 0);
  CHECK(growth < 64 * std::ssize(ids) + constant);
}

TEST_CASE("ten gigabytes in ten megabytes are refused within little memory") {
  const Folder folder("csv-bomb");
  const auto bomb = [&](const std::string& member) {
    const std::string packed = gzipped(member);
    return folder.write("bomb.csv", repeated(packed, 10240 * MiB / member.size()));
  };
  for (const bool rows : {false, true}) {
    const std::string path = bomb(rows ? repeated("0\n", 4 * MiB) : std::string(8 * MiB, '0'));
    CHECK(std::filesystem::file_size(path) < 12 * MiB);
    std::string message;
    rusage before{}, after{};
    getrusage(RUSAGE_SELF, &before);
    message = refusal<FormatError>([&] { data::read_csv(path); });
    getrusage(RUSAGE_SELF, &after);
    CHECK(after.ru_maxrss - before.ru_maxrss < 64 << 10);  // KiB
    CHECK(message.ends_with(
        rows ? ": the content is more than 256 times as large: this looks like a gzip bomb"
             : ": row 1, column 1: the row is longer than 1 MiB"));
  }
}

TEST_CASE("a file that was cut is a part of the table, or refused") {
  const std::string text = "a,b,t\n1,2.5,x\n\"-3\",4e1,\"y,\"\"z\"\n5,,\"x\"\r\n";
  const CsvOptions options{.missing = {""}, .text = {"t"}};
  const Csv whole = outcome(text, options).table;
  const Values all = values(whole.values);
  CHECK(whole.values.shape() == Shape{3, 3});
  for (std::size_t n = 0; n < text.size(); ++n) {
    CAPTURE(n);
    const auto [table, message] = outcome(text.substr(0, n), options);
    if (!message.empty()) continue;
    // Nobody can see that the last field was longer. All rows before it are those of the table.
    const int64_t rows = table.values.size(0);
    REQUIRE(rows <= 3);
    const Values part = values(table.values);
    const auto sure = std::max<std::ptrdiff_t>(3 * rows - 1, 0);
    CHECK(same_bits(Values(part.begin(), part.begin() + sure),
                    Values(all.begin(), all.begin() + sure)));
  }
  const std::string packed = gzipped(text);
  CHECK(same(outcome(packed, options), outcome(text, options)));
  for (std::size_t n = 2; n < packed.size(); ++n)
    CHECK(outcome(packed.substr(0, n), options).message ==
          "byte " + std::to_string(n) + " of the compressed file: the gzip stream ends too early");
}

TEST_CASE("no flipped bit does harm") {
  const std::string text = "a,b,t\n1,2.5,x\n\"-3\",4e1,\"y,\"\"z\"\n5,,\"x\"\r\n";
  const std::string packed = gzipped(text);
  const CsvOptions options{.missing = {""}, .text = {"t"}};
  int tables = 0;
  for (const bool compressed : {false, true}) {
    const std::string& whole = compressed ? packed : text;
    for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
      std::string flipped = whole;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
      const auto [table, message] = outcome(flipped, options);
      if (!message.empty()) continue;
      ++tables;
      CHECK(table.values.size(1) == std::ssize(table.columns));
      if (compressed && bit >= 80)
        CHECK(same_bits(table.values, outcome(text, options).table.values));
    }
  }
  CHECK(tables > 50);
}

TEST_CASE("hostile files are refused with their place") {
  const std::string not_number =
      " is not a number: name it in the option missing, or its column in text";
  const struct {
    std::string text, message;
  } files[] = {
      {"", "row 1: the file is empty"},
      {"\n", "row 1: an empty line"},
      {"\xEF\xBB\xBF", "row 1: the file is empty"},
      {"\xEF\xBB\xBF\xEF\xBB\xBF"
       "1\n",
       ""},  // a name that begins with the mark
      {"\"", "row 1, column 1: a quote that is never closed"},
      {"\"\"\"", "row 1, column 1: a quote that is never closed"},
      {"a\n\"1", "row 2, column 1: a quote that is never closed"},
      {"\"a\"b\n", "row 1, column 1: neither a delimiter nor a line feed follows"},
      {"a,\"b\" \n", "row 1, column 2: neither a delimiter nor a line feed follows"},
      {"a\"\n", "row 1, column 1: a quote inside an unquoted field"},
      {"a,b\n1,2\"3\"\n", "row 2, column 2: a quote inside an unquoted field"},
      {"1\r", "row 1, column 1: neither a delimiter nor a line feed follows"},
      {"1\r\r\n", "row 1, column 1: neither a delimiter nor a line feed follows"},
      {"a,b\r1,2\r", "row 1, column 2: neither a delimiter nor a line feed follows"},
      {"a,b\n1,2\n3\r,4\n", "row 3, column 1: neither a delimiter nor a line feed follows"},
      {std::string(1, '\0'), "row 1, column 1: a NUL byte"},
      {std::string("a\n1\0\n", 5), "row 2, column 1: a NUL byte"},
      {std::string("a\n\"\0\"\n", 6), "row 2, column 1: a NUL byte"},
      {"1,a\n", "row 1: numbers beside other text: say in the options whether this is a header"},
      {"a\n1\n2,3\n", "row 3: 2 fields, the first row has 1"},
      {"a,b\n1,2\n\n3,4\n", "row 3: an empty line"},
      {"a,b\n1,2\n3", "row 3: 1 fields, the first row has 2"},
      {"a\n1\n\n", "row 3: an empty line"},
      {"a\n \n", "row 2, column 1: (a): \" \"" + not_number},
      {"a\n1 2\n", "row 2, column 1: (a): \"1 2\"" + not_number},
      {"a\n0x10\n", "row 2, column 1: (a): \"0x10\"" + not_number},
      {"a\n1,5\n", "row 2: 2 fields, the first row has 1"},
      {"a\n\xEF\xBC\x91\n", "row 2, column 1: (a): \"\xEF\xBC\x91\"" + not_number},
      {"a\nNaN\n", "row 2, column 1: (a): \"NaN\" is not finite and in float64's range"},
      {"a\n-Infinity\n",
       "row 2, column 1: (a): \"-Infinity\" is not finite and in float64's range"},
      {"a\n1e309\n", "row 2, column 1: (a): \"1e309\" is not finite and in float64's range"},
      {"a\n1e-99999999999999999999\n",
       "row 2, column 1: (a): \"1e-99999999999999999999\" is not finite and in float64's range"},
      {"a\n\x1B[31m\n", "row 2, column 1: (a): \"?[31m\"" + not_number},
      {"a\n\"1\n\"\n", "row 2, column 1: (a): \"1?\"" + not_number},
      {std::string(MiB, ',') + "\n", "row 1, column 1048577: the row is longer than 1 MiB"},
      {"a\n1\n\"" + std::string(3 * MiB, '"') + "\"\n",
       "row 3, column 1: the row is longer than 1 MiB"},
      {"a\n" + std::string(MiB, '1') + "\n", "row 2, column 1: the row is longer than 1 MiB"},
      {"a\n" + std::string(MiB + 1, '0') + "\n", "row 2, column 1: the row is longer than 1 MiB"},
      {"a\n1\n2\n" + std::string(MiB, '0') + "\n3\n",
       "row 4, column 1: the row is longer than 1 MiB"},
      {"\x1F\x8B", "byte 2 of the compressed file: the gzip stream ends too early"},
      {"\x1F\x8Bxx", "byte 4 of the compressed file: unknown compression method"},
      {gzipped("a\n1\n") + "x",
       "byte 24 of the compressed file: there are bytes after the end of the gzip stream"},
      {gzipped("a\n1\n") + gzipped("x\n"), "row 3, column 1: (a): \"x\"" + not_number},
  };
  CHECK(std::size(files) > 20);
  for (const auto& file : files) {
    CAPTURE(file.text.substr(0, 60));
    CHECK(outcome(file.text).message == file.message);
  }
}
