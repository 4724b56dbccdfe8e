#include "descent/data/csv.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <string_view>

#include "descent/core/factory.hpp"
#include "descent/core/view.hpp"
#include "descent/data/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kLongestRow = 1 << 20;

/// A field as errors show it: short, and in printable characters.
std::string shown(std::string_view field) {
  std::string text(field.substr(0, 40));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ') c = '?';
  return fmt::format("\"{}{}\"", text, field.size() > 40 ? "..." : "");
}

enum class Number { good, unusable, malformed };

Number parse(std::string_view field, double& value) {
  constexpr std::string_view blank = " \t";
  const std::size_t first = field.find_first_not_of(blank);
  if (first == std::string_view::npos) return Number::malformed;
  field = field.substr(first, field.find_last_not_of(blank) - first + 1);
  if (field.size() > 1 && field[0] == '+' && field[1] != '-') field.remove_prefix(1);
  const auto [end, error] = std::from_chars(field.begin(), field.end(), value);
  if (error == std::errc::invalid_argument || end != field.end()) return Number::malformed;
  return error == std::errc{} && std::isfinite(value) ? Number::good : Number::unusable;
}

class Reader {
 public:
  Reader(const std::string& path, const CsvOptions& options, At at)
      : path_(path), options_(options), at_(at) {
    const InputFile file("read_csv", path, at);
    content_.resize(static_cast<std::size_t>(file.size()));
    content_.resize(file.read(0, content_.data(), content_.size()));
    rest_ = content_;
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
  }

  Csv read() {
    std::vector<std::string> row;
    bool more = next_row(row);
    if (!more) refuse(0, "the file is empty");
    Csv csv;
    if (has_header(row)) {
      csv.columns = row;
      more = next_row(row);
    } else {
      for (std::size_t i = 0; i < row.size(); ++i) csv.columns.push_back(fmt::to_string(i));
    }
    const std::size_t width = csv.columns.size();
    std::vector<double> values;
    for (; more; more = next_row(row)) {
      if (row.size() != width)
        refuse(0, fmt::format("{} fields, the first row has {}", row.size(), width));
      for (std::size_t i = 0; i < width; ++i) values.push_back(number(row[i], i, csv.columns[i]));
    }
    const auto rows = static_cast<int64_t>(values.size() / width);
    csv.values = tensor(values, {rows, static_cast<int64_t>(width)}, at_);
    return csv;
  }

 private:
  bool is_missing(const std::string& field) const {
    const auto& missing = options_.missing;
    return std::find(missing.begin(), missing.end(), field) != missing.end();
  }

  bool has_header(const std::vector<std::string>& row) const {
    if (options_.header != Header::automatic) return options_.header == Header::present;
    const auto names = std::count_if(row.begin(), row.end(), [&](const std::string& field) {
      double value;
      return !is_missing(field) && parse(field, value) == Number::malformed;
    });
    if (names > 0 && names < std::ssize(row))
      refuse(0, "numbers beside other text: say in the options whether this is a header");
    return names > 0;
  }

  double number(const std::string& field, std::size_t column, const std::string& name) const {
    if (is_missing(field)) return std::numeric_limits<double>::quiet_NaN();
    double value = 0;
    const Number outcome = parse(field, value);
    if (outcome == Number::good) return value;
    refuse(column + 1, fmt::format("({}): {} is not {}", name, shown(field),
                                   outcome == Number::unusable
                                       ? "finite and in float64's range"
                                       : "a number, nor a missing value of the options"));
  }

  /// Fills `row` with the next row's fields; false at the end of the file.
  bool next_row(std::vector<std::string>& row) {
    ++row_;
    if (rest_.empty()) return false;
    row.clear();
    const std::size_t before = rest_.size();
    do {
      row.push_back(field(row.size() + 1));
      if (before - rest_.size() > kLongestRow) refuse(row.size(), "the row is longer than 1 MiB");
    } while (take(options_.delimiter));
    if (take('\r') && !rest_.starts_with('\n'))
      refuse(row.size(), "a carriage return that no line feed follows");
    if (!take('\n') && !rest_.empty())
      refuse(row.size(), "a quoted field goes on after its closing quote");
    return true;
  }

  std::string field(std::size_t column) {
    if (take('"')) return quoted(column);
    const char ends[] = {options_.delimiter, '\r', '\n', '"', '\0'};
    const std::size_t n = std::min(rest_.find_first_of({ends, sizeof ends}), rest_.size());
    if (n < rest_.size() && rest_[n] == '"') refuse(column, "a quote inside an unquoted field");
    if (n < rest_.size() && rest_[n] == '\0') refuse(column, "a NUL byte");
    std::string text(rest_.substr(0, n));
    rest_.remove_prefix(n);
    return text;
  }

  std::string quoted(std::size_t column) {
    std::string text;
    for (;;) {
      const std::size_t n = rest_.find('"');
      if (n == std::string_view::npos) refuse(column, "a quote that is never closed");
      text += rest_.substr(0, n);
      rest_.remove_prefix(n + 1);
      if (!take('"')) break;
      text += '"';  // two quotes stand for one
    }
    if (text.find('\0') != std::string::npos) refuse(column, "a NUL byte");
    return text;
  }

  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  /// Column 0 stands for the row as a whole.
  [[noreturn]] void refuse(std::size_t column, const std::string& what) const {
    const std::string place = column == 0 ? ":" : fmt::format(", column {}:", column);
    fail<FormatError>(at_, "read_csv: {}: row {}{} {}", path_, row_, place, what);
  }

  const std::string& path_;
  const CsvOptions& options_;
  At at_;
  std::string content_;
  std::string_view rest_;
  int64_t row_ = 0;
};

}  // namespace

Csv read_csv(const std::string& path, const CsvOptions& options, At at) {
  constexpr std::string_view reserved("\"\r\n.+-\0", 7);
  const char c = options.delimiter;
  if (reserved.find(c) != std::string_view::npos || std::isalnum(static_cast<unsigned char>(c)))
    fail<ValueError>(at, "read_csv: delimiter {} could be part of a field", shown({&c, 1}));
  return Reader(path, options, at).read();
}

Tensor Csv::column(const std::string& name, At at) const {
  const auto found = std::find(columns.begin(), columns.end(), name);
  if (found == columns.end() || std::find(found + 1, columns.end(), name) != columns.end())
    fail<ValueError>(at, "column: {} columns are called {}: there are {}",
                     std::count(columns.begin(), columns.end(), name), shown(name), columns);
  return select(In(values, at), 1, found - columns.begin());
}

}}  // namespace descent::data
