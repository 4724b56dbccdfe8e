#include "descent/data/csv.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <optional>
#include <string_view>

#include "descent/core/factory.hpp"
#include "descent/core/view.hpp"
#include "descent/data/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kLongestRow = 1 << 20, kLongestFile = std::size_t{4} << 30;

/// A field as errors show it: short, and in printable characters.
std::string shown(std::string_view field) {
  std::string text(field.substr(0, 40));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ') c = '?';
  return fmt::format("\"{}{}\"", text, field.size() > 40 ? "..." : "");
}

/// The number that a field holds: NaN if it is missing, infinity if it is not finite or out of
/// range; nothing if it is another text.
std::optional<double> parse(std::string_view field, const std::vector<std::string>& missing) {
  if (std::find(missing.begin(), missing.end(), field) != missing.end()) return NAN;
  constexpr std::string_view blank = " \t";
  field.remove_prefix(std::min(field.find_first_not_of(blank), field.size()));
  field = field.substr(0, field.find_last_not_of(blank) + 1);
  if (field.starts_with('+') && !field.starts_with("+-")) field.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(field.begin(), field.end(), value);
  if (error == std::errc::invalid_argument || end != field.end()) return std::nullopt;
  return error == std::errc{} && std::isfinite(value) ? value : INFINITY;
}

class Reader {
 public:
  Reader(const std::string& path, const CsvOptions& options, At at)
      : path_(path), options_(options), at_(at) {
    InputFile file("read_csv", path, at);
    content_ = file.take(kLongestFile + 1);
    if (content_.size() > kLongestFile) file.refuse(kLongestFile, "the file is larger than 4 GiB");
    rest_ = content_;
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
  }

  Csv read() {
    bool more = next_row();
    if (!more) fail<FormatError>(at_, "read_csv: {}: row 1: the file is empty", path_);
    Csv csv;
    if (is_header()) {
      csv.columns = row_;
      more = next_row();
    } else {
      for (std::size_t i = 0; i < row_.size(); ++i) csv.columns.push_back(fmt::to_string(i));
    }
    const std::size_t width = csv.columns.size();
    std::vector<double> values;
    for (; more; more = next_row()) {
      if (row_.size() != width)
        fail<FormatError>(at_, "read_csv: {}: row {}: {} fields, the first row has {}", path_,
                          row_number_, row_.size(), width);
      for (std::size_t i = 0; i < width; ++i) values.push_back(number(i, csv.columns[i]));
    }
    const auto rows = static_cast<int64_t>(values.size() / width);
    csv.values = tensor(values, {rows, static_cast<int64_t>(width)}, at_);
    return csv;
  }

 private:
  bool is_header() const {
    if (options_.header != Header::automatic) return options_.header == Header::present;
    const auto names = std::count_if(row_.begin(), row_.end(), [this](const std::string& field) {
      return !parse(field, options_.missing);
    });
    if (names > 0 && names < std::ssize(row_))
      fail<FormatError>(at_,
                        "read_csv: {}: row 1: numbers beside other text: say in the options "
                        "whether this is a header",
                        path_);
    return names > 0;
  }

  double number(std::size_t column, const std::string& name) const {
    const std::optional<double> value = parse(row_[column], options_.missing);
    if (value && !std::isinf(*value)) return *value;
    fail<FormatError>(
        at_, "read_csv: {}: row {}, column {}: ({}): {} is not {}", path_, row_number_, column + 1,
        name, shown(row_[column]),
        value ? "finite and in float64's range" : "a number, nor a missing value of the options");
  }

  /// Reads the next row's fields; false at the end of the file.
  bool next_row() {
    if (rest_.empty()) return false;
    ++row_number_;
    row_.clear();
    const std::size_t before = rest_.size();
    do {
      read_field(row_.emplace_back());
      if (before - rest_.size() > kLongestRow) refuse("the row is longer than 1 MiB");
    } while (take(options_.delimiter));
    if (take('\r') && !rest_.starts_with('\n'))
      refuse("a carriage return that no line feed follows");
    if (!take('\n') && !rest_.empty()) refuse("a quoted field goes on after its closing quote");
    return true;
  }

  void read_field(std::string& field) {
    if (take('"')) {
      for (;;) {
        const std::size_t n = rest_.find('"');
        if (n == std::string_view::npos) refuse("a quote that is never closed");
        field += rest_.substr(0, n);
        rest_.remove_prefix(n + 1);
        if (!take('"')) break;
        field += '"';  // two quotes stand for one
      }
    } else {
      const char ends[] = {options_.delimiter, '\r', '\n', '"', '\0'};
      field = rest_.substr(0, rest_.find_first_of(ends));
      rest_.remove_prefix(field.size());
      if (rest_.starts_with('"')) refuse("a quote inside an unquoted field");
    }
    if (field.find('\0') != std::string::npos) refuse("a NUL byte");
  }

  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  /// Refuses the field in hand.
  [[noreturn]] void refuse(const char* what) const {
    fail<FormatError>(at_, "read_csv: {}: row {}, column {}: {}", path_, row_number_, row_.size(),
                      what);
  }

  const std::string& path_;
  const CsvOptions& options_;
  At at_;
  std::string content_;
  std::string_view rest_;         // of content_
  std::vector<std::string> row_;  // the fields of the row in hand
  int64_t row_number_ = 0;
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
