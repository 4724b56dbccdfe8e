#include <clocale>
#include <cmath>
#include <doctest/doctest.h>
#include <locale>
#include <sys/resource.h>

#include "files.hpp"

using namespace descent;

namespace {

using Names = std::vector<std::string>;
#define NO_NUMBER " is not a number: name it in the option missing, or its column in text"

data::Csv read(const std::string& text, const data::CsvOptions& options = {}) {
  const Folder folder("csv");
  return data::read_csv(folder.write("table.csv", text), options);
}

Values numbers(const std::string& text, const data::CsvOptions& options = {}) {
  return values(read(text, options).values);
}

/// The message without the folder's name.
std::string refused(const std::string& text, const data::CsvOptions& options = {}) {
  const std::string message = refusal<FormatError>([&] { read(text, options); });
  const std::size_t name = message.find("table.csv");
  return name == std::string::npos ? message : message.substr(name);
}

}  // namespace

TEST_CASE("NIST's tables are read as they are printed") {
  const data::Csv norris = data::read_csv(DESCENT_ROOT "/examples/data/nist/norris.csv");
  CHECK(norris.columns == Names{"y", "x"});
  CHECK(norris.values.shape() == Shape{36, 2});
  CHECK(norris.values.dtype() == float64);
  CHECK(values(norris.column("x"))[1] == 337.4);
  const data::Csv longley = data::read_csv(DESCENT_ROOT "/examples/data/nist/longley.csv");
  CHECK(longley.values.shape() == Shape{16, 7});
  CHECK(longley.column("x6").sum().item() == 31272);
  CHECK(refusal<ValueError>([&] { norris.column("z"); }) ==
        "column: 0 columns are called \"z\": there are [y, x]");
}

TEST_CASE("numbers are decimal, in every form they are written in") {
  CHECK(numbers("1,-2.5\n.591E0, +3e2 \n") == Values{1, -2.5, 0.591, 300});
  CHECK(numbers("0.1\n") == Values{0.1});
  CHECK(numbers("1;2\n", {.delimiter = ';'}) == Values{1, 2});
}

TEST_CASE("a header is found by itself, or as the options say") {
  CHECK(read("a,b\n1,2\n").columns == Names{"a", "b"});
  CHECK(read("1,2\n3,4\n").columns == Names{"0", "1"});
  CHECK(read("1,2\n3,4\n", {.header = data::Header::present}).columns == Names{"1", "2"});
  CHECK(read("a,b\n").values.shape() == Shape{0, 2});
  CHECK(refusal<ValueError>([] { read("a,b,a\n1,2,3\n").column("a"); }) ==
        "column: 2 columns are called \"a\": there are [a, b, a]");
  CHECK(refused("a,b\n1,2\n", {.header = data::Header::absent}) ==
        "table.csv: row 1, column 1: (0): \"a\"" NO_NUMBER);
  CHECK(refused("a,1\n") ==
        "table.csv: row 1: numbers beside other text: say in the options whether this is a header");
}

TEST_CASE("a file whose first line is empty is no table") {
  for (const char* text : {"\n", "\r\n", "\xEF\xBB\xBF\n", "\n\n\n", "\n1\n2\n"})
    for (const Names& missing : {Names{}, Names{""}})
      CHECK(refused(text, {.missing = missing}) == "table.csv: row 1: an empty line");
  CHECK(refused(gzipped("\n")) == "table.csv: row 1: an empty line");
  CHECK(refused("\xEF\xBB\xBF") == "table.csv: row 1: the file is empty");
  CHECK(refused("a,b\n1,2\n\n") == "table.csv: row 3: an empty line");
  const data::Csv quoted = read("\"\"\n1\n", {.missing = {""}});
  CHECK(quoted.values.shape() == Shape{2, 1});
}

TEST_CASE("a header is found although a name is empty or stands for a missing value") {
  const data::Csv index = read(",x\n0,\n1,5\n", {.missing = {""}});
  CHECK(index.columns == Names{"", "x"});
  CHECK(values(index.column("")) == Values{0, 1});
  CHECK(std::isnan(values(index.column("x"))[0]));
  CHECK(read("NA,a\n1,2\n", {.missing = {"NA"}}).columns == Names{"NA", "a"});
  CHECK(read(",x\n0,1\n").columns == Names{"", "x"});
  CHECK(read("NA,1\n2,3\n", {.missing = {"NA"}}).columns == Names{"0", "1"});
  CHECK(read("NA,\n2,3\n", {.missing = {"NA", ""}}).values.shape() == Shape{2, 2});
  CHECK(refused("a,NA,1\n", {.missing = {"NA"}}) ==
        "table.csv: row 1: numbers beside other text: say in the options whether this is a header");
}

TEST_CASE("a trailing delimiter is named where it makes a row too long, or a number missing") {
  CHECK(refused("a,b\n1,2,\n") ==
        "table.csv: row 2: 3 fields, the first row has 2: row 2 ends in a delimiter, which makes "
        "an empty "
        "last field");
  CHECK(refused("a,b,\n1,2\n") ==
        "table.csv: row 2: 2 fields, the first row has 3: row 1 ends in a delimiter, which makes "
        "an empty "
        "last field");
  CHECK(refused("a;b;\n1;2;\n", {.delimiter = ';'}) ==
        "table.csv: row 2, column 3: (): \"\"" NO_NUMBER
        ": row 2 ends in a delimiter, which makes an empty last field");
  CHECK(refused("1,2,\n3,4,\n") ==
        "table.csv: row 1: numbers beside other text: say in the options whether this is a header: "
        "row 1 ends in a delimiter, which makes an empty last field");
  CHECK(refused("a,b\n1,\n") == "table.csv: row 2, column 2: (b): \"\"" NO_NUMBER
                                ": row 2 ends in a delimiter, which makes an empty last field");
  CHECK(numbers("a,b\n1,\n", {.missing = {""}}).size() == 2);
}

TEST_CASE("a row that is too long is refused before the file is in memory") {
  const Folder folder("csv");
  std::string packed;  // a GiB, compressed to about 1 MB
  const std::string member = gzipped(std::string(1 << 20, '1'));
  for (int i = 0; i < 1024; ++i) packed += member;
  const std::string path = folder.write("bomb.csv", packed);
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  CHECK(refusal<FormatError>([&] { data::read_csv(path); }) ==
        "read_csv: " + path + ": row 1, column 1: the row is longer than 1 MiB");
  getrusage(RUSAGE_SELF, &after);
  CHECK(after.ru_maxrss - before.ru_maxrss < 64 << 10);  // KiB
  const std::string row(1 << 20, '1');
  CHECK(refused("\"" + row) == "table.csv: row 1, column 1: the row is longer than 1 MiB");
  CHECK(refused("1,2\n\"\n" + row) == "table.csv: row 2, column 1: the row is longer than 1 MiB");
  CHECK(refused("1," + row) == "table.csv: row 1, column 2: the row is longer than 1 MiB");
}

TEST_CASE("rows of any length lie across the chunks that a file is read in") {
  for (std::size_t length : {65533U, 65534U, 65535U, 65536U, 65537U, 131072U}) {
    const std::string zeros(length - 4, '0');
    const std::string text = zeros + "1,2\r\n\"" + zeros + "\"\"\"," + "x\n";
    CHECK(refused(text) ==
          "table.csv: row 2, column 1: (0): "
          "\"0000000000000000000000000000000000000000...\"" NO_NUMBER);
    CHECK(numbers(zeros + "1,2\r\n\"" + zeros + "3\",4\r\n5,6\r\n") == Values{1, 2, 3, 4, 5, 6});
    CHECK(numbers(gzipped(zeros + "1,2\n3,4")) == Values{1, 2, 3, 4});
  }
}

TEST_CASE("quotes, line ends and a byte order mark are those of RFC 4180") {
  CHECK(read("\"a,\"\"b\"\"\",c\r\n1,\"2\"\r\n").columns == Names{"a,\"b\"", "c"});
  CHECK(numbers("\xEF\xBB\xBF"
                "1,2\n3,4") == Values{1, 2, 3, 4});
  CHECK(read("\"two\nlines\",c\n1,2\n").columns == Names{"two\nlines", "c"});
  CHECK(refused("\"two\nlines\",c\n1,x\n") == "table.csv: row 2, column 2: (c): \"x\"" NO_NUMBER);
  CHECK(refused("1,2\"\n") == "table.csv: row 1, column 2: a quote inside an unquoted field");
  CHECK(refused("\"1\"2\n") ==
        "table.csv: row 1, column 1: neither a delimiter nor a line feed follows");
  CHECK(refused("\"1\n") == "table.csv: row 1, column 1: a quote that is never closed");
  CHECK(refused("1\r2\n") ==
        "table.csv: row 1, column 1: neither a delimiter nor a line feed follows");
}

TEST_CASE("a compressed table is read like any other") {
  CHECK(numbers(gzipped("x,y\n1,2\n")) == Values{1, 2});
  CHECK(refused(gzipped("1,2\n3\n")) == "table.csv: row 2: 1 fields, the first row has 2");
  CHECK(refused(gzipped("1,2\n").substr(0, 20)) ==
        "table.csv: byte 20 of the compressed file: the gzip stream ends too early");
}

TEST_CASE("rows and numbers that do not fit are refused with their place") {
  CHECK(refused("a,b\n1,2\n3\n") == "table.csv: row 3: 1 fields, the first row has 2");
  CHECK(refused("1,2\n3,4,5\n") == "table.csv: row 2: 3 fields, the first row has 2");
  CHECK(refused("x\n1e400\n") ==
        "table.csv: row 2, column 1: (x): \"1e400\" is not finite and in float64's range");
  CHECK(refused("x\n1e-400\n") ==
        "table.csv: row 2, column 1: (x): \"1e-400\" is not finite and in float64's range");
  CHECK(refused("x\n\"nan\"\n") ==
        "table.csv: row 2, column 1: (x): \"nan\" is not finite and in float64's range");
  CHECK(refused("1\n\n2\n") == "table.csv: row 2: an empty line");
  CHECK(refused("1,2\n3,4x\n") == "table.csv: row 2, column 2: (1): \"4x\"" NO_NUMBER);
  CHECK(refused(std::string("1,\0002\n", 5)) == "table.csv: row 1, column 2: a NUL byte");
  CHECK(refused("") == "table.csv: row 1: the file is empty");
  CHECK(refused(std::string(2 << 20, '1')) ==
        "table.csv: row 1, column 1: the row is longer than 1 MiB");
}

TEST_CASE("missing values are an error, or NaN where the options name them") {
  CHECK(refused("x,y\n1,\n") == "table.csv: row 2, column 2: (y): \"\"" NO_NUMBER
                                ": row 2 ends in a delimiter, which makes an empty last field");
  const Values v = numbers("x,y\n1,\nNA,4\n", {.missing = {"", "NA"}});
  CHECK(v[0] == 1);
  CHECK(std::isnan(v[1]));
  CHECK(std::isnan(v[2]));
  CHECK(v[3] == 4);
}

TEST_CASE("the texts of a column become codes in the order in which they come first") {
  const data::Csv table =
      read("size,species,city\n1,setosa,Rome\n2,virginica,\n3,setosa,Oslo\n4,?,\"Bad, Ems\"\n",
           {.missing = {"?"}, .text = {"city", "species"}});
  CHECK(table.columns == Names{"size", "species", "city"});
  CHECK(table.categories ==
        std::vector<Names>{{}, {"setosa", "virginica"}, {"Rome", "", "Oslo", "Bad, Ems"}});
  CHECK(values(table.column("size")) == Values{1, 2, 3, 4});
  CHECK(values(table.column("city")) == Values{0, 1, 2, 3});
  const Values species = values(table.column("species"));
  CHECK(std::vector(species.begin(), species.begin() + 3) == Values{0, 1, 0});
  CHECK(std::isnan(species[3]));
  CHECK(table.labels("city").dtype() == int64);
  CHECK(ints(table.labels("city")) == Ints{0, 1, 2, 3});
  CHECK(table.one_hot("species").dtype() == float64);
  CHECK(table.one_hot("species").shape() == Shape{4, 2});
  CHECK(values(table.one_hot("species")) == Values{1, 0, 0, 1, 1, 0, 0, 0});
  CHECK(read("1,2\n").categories == std::vector<Names>{{}, {}});
  const data::Csv single{{"s"}, tensor({{1.}, {0.}}), {{"a", "b"}}};
  CHECK(single.one_hot("s").dtype() == float32);
}

TEST_CASE("a text is what the file says, with its blanks and whatever it looks like") {
  const data::Csv table =
      read("x\n 7\n\"7\"\n7\n\"\"\n\"a\nb\"\n", {.header = data::Header::present, .text = {"x"}});
  CHECK(table.categories[0] == Names{" 7", "7", "", "a\nb"});
  CHECK(ints(table.labels("x")) == Ints{0, 1, 1, 2, 3});
  const data::CsvOptions missing{.missing = {"", "-999"}, .text = {"t"}};
  const data::Csv gaps = read("n,t\n-999,-999\n\"-999\",\"\"\n-999.0,-999.0\n", missing);
  CHECK(std::isnan(values(gaps.column("n"))[1]));
  CHECK(values(gaps.column("n"))[2] == -999);
  CHECK(std::isnan(values(gaps.column("t"))[1]));
  CHECK(gaps.categories[1] == Names{"-999.0"});
  CHECK(read("n,t\n1,-999\n", missing).categories[1].empty());
}

TEST_CASE("columns of texts change nothing about what a header is") {
  CHECK(read("a,b\nc,d\n", {.text = {"a", "b"}}).values.shape() == Shape{1, 2});
  const data::CsvOptions absent{.header = data::Header::absent, .text = {"1"}};
  CHECK(read("1,x\n2,y\n", absent).categories[1] == Names{"x", "y"});
  CHECK(refused("1,x\n2,y\n", {.text = {"1"}}) ==
        "table.csv: row 1: numbers beside other text: say in the options whether this is a header");
  CHECK(read("1,x\n2,y\n", {.header = data::Header::present, .text = {"x"}}).columns ==
        Names{"1", "x"});
}

TEST_CASE("columns that are not there, or hold no texts, are refused") {
  CHECK(refusal<ValueError>([] { read("a,b\n1,2\n", {.text = {"c"}}); }) ==
        "read_csv: 0 columns are called \"c\": there are [a, b]");
  CHECK(refusal<ValueError>([] { read("a,a\n1,2\n", {.text = {"a"}}); }) ==
        "read_csv: 2 columns are called \"a\": there are [a, a]");
  const data::Csv table = read("a,b\n1,x\n2,?\n", {.missing = {"?"}, .text = {"b"}});
  CHECK(refusal<ValueError>([&] { table.labels("b"); }) ==
        "labels: row 1 of column \"b\" is nan: need the code of a category");
  CHECK(refusal<ValueError>([&] { table.labels("a"); }) ==
        "labels: column \"a\" has no categories: see the option text");
  CHECK(refusal<ValueError>([&] { table.one_hot("a"); }) ==
        "one_hot: column \"a\" has no categories: see the option text");
  CHECK(refusal<ValueError>([&] { table.one_hot("c"); }) ==
        "one_hot: 0 columns are called \"c\": there are [a, b]");
  const data::Csv made{{"b"}, tensor({{0.5}}), {{"x"}}};
  CHECK(refusal<ValueError>([&] { made.labels("b"); }) ==
        "labels: row 0 of column \"b\" is 0.5: need the code of a category");
  CHECK(refused("x\na\n\nb\n", {.text = {"x"}}) == "table.csv: row 3: an empty line");
  CHECK(refused("x,y\na,1\nb,z\n", {.text = {"x"}}) ==
        "table.csv: row 3, column 2: (y): \"z\"" NO_NUMBER);
}

TEST_CASE("no locale changes what a number is") {
  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
  };
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Comma));
  std::setlocale(LC_ALL, "de_DE.UTF-8");  // if it is installed
  const Values v = numbers("1.5,2.25\n");
  std::setlocale(LC_ALL, "C");
  std::locale::global(before);
  CHECK(v == Values{1.5, 2.25});
}

TEST_CASE("bad options, and files that cannot be read, are refused") {
  CHECK(refusal<ValueError>([&] { read("1\n", {.delimiter = '"'}); }) ==
        "read_csv: delimiter \"\"\" could be part of a field");
  CHECK(refusal<ValueError>([&] { read("1\n", {.delimiter = '7'}); }) ==
        "read_csv: delimiter \"7\" could be part of a field");
  CHECK(refusal<ValueError>([&] { read("1\n", {.delimiter = '\xA7'}); }) ==
        "read_csv: delimiter \"\xA7\" could be part of a field");
  CHECK(refusal<IoError>([&] { data::read_csv("/none"); }) ==
        "read_csv: cannot open /none: No such file or directory");
  CHECK(refusal<IoError>([&] { data::read_csv("/"); }) ==
        "read_csv: cannot read /: it is not a regular file");
}
