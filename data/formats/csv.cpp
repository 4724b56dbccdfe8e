#include "descent/data/formats/csv.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <optional>
#include <string_view>

#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/view.hpp"
#include "descent/data/formats/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kLongestRowBytes = 1 << 20, kLongestFileBytes = std::size_t{4} << 30;
constexpr std::size_t kChunkBytes = 1 << 16;

/// The number in a field: NaN for a missing value, infinity for a number that is not finite or out
/// of range, nothing for any other text.
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

/// Reads the file once from front to back, in chunks, and keeps only the current row.
class Reader {
 public:
  Reader(const std::string& path, const CsvOptions& options, At at)
      : path_(path), options_(options), at_(at), file_("read_csv", path, at) {
    if (more() && rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
  }

  Csv read() {
    bool found = next_row();
    if (!found) refuse_row("the file is empty");
    if (blank_) refuse_row("an empty line");
    Csv csv;
    if (is_header()) {
      csv.columns = row_;
      found = next_row();
    } else {
      for (std::size_t i = 0; i < row_.size(); ++i) csv.columns.push_back(fmt::to_string(i));
    }
    const std::size_t width = csv.columns.size();
    std::vector<double> values;
    int64_t rows = 0;
    for (; found; found = next_row(), ++rows) {
      if (row_.size() != width && blank_) refuse_row("an empty line");
      if (row_.size() != width)
        refuse_row(fmt::format("{} fields, the first row has {}{}", row_.size(), width,
                               explain_trailing()));
      for (std::size_t i = 0; i < width; ++i) values.push_back(number(i, csv.columns[i]));
    }
    csv.values = tensor(values, {rows, static_cast<int64_t>(width)}, float64, at_);
    return csv;
  }

 private:
  bool is_header() const {
    if (options_.header != Header::automatic) return options_.header == Header::present;
    bool numbers = false, names = false;
    for (const std::string& field : row_) {
      const std::optional<double> value = parse(field, options_.missing);
      if (!value) names = true;
      else if (!std::isnan(*value)) numbers = true;  // a missing value can stand in either
    }
    if (names && numbers)
      refuse_row("numbers beside other text: say in the options whether this is a header" +
                 explain_trailing());
    return names;
  }

  double number(std::size_t column, const std::string& name) const {
    const std::optional<double> value = parse(row_[column], options_.missing);
    if (value && !std::isinf(*value)) return *value;
    refuse_row(fmt::format("column {}: ({}): {} is not {}{}", column + 1, printable(name),
                           quote(row_[column]),
                           value ? "finite and in float64's range"
                                 : "a number, nor a missing value of the options",
                           trailing_ && column + 1 == row_.size() ? explain_trailing() : ""),
               ", ");
  }

  /// Says that the current row, or else the first, ends in a delimiter; empty if neither does.
  std::string explain_trailing() const {
    if (!trailing_ && !first_trailing_) return "";
    return fmt::format(": row {} ends in {}, which makes an empty last field",
                       trailing_ ? row_number_ : 1,
                       options_.delimiter == '\t' ? "a tab" : quote({&options_.delimiter, 1}));
  }

  /// Reads the next row's fields; false at the end of the file.
  bool next_row() {
    if (!more()) return false;
    ++row_number_;
    row_.clear();
    row_bytes_ = 0;
    do {
      const std::size_t before = row_bytes_;
      read_field(row_.emplace_back());
      trailing_ = row_.size() > 1 && row_bytes_ == before;
    } while (take(options_.delimiter));
    blank_ = row_bytes_ == 0;
    if (row_number_ == 1) first_trailing_ = trailing_;
    if (take('\r')) {
      if (!take('\n')) refuse("a carriage return that no line feed follows");
    } else if (!take('\n') && more()) {
      refuse("a quoted field goes on after its closing quote");
    }
    return true;
  }

  void read_field(std::string& field) {
    if (take('"')) {
      for (;;) {
        append_until("\"", field);
        if (!take('"')) refuse("a quote that is never closed");
        if (!take('"')) break;
        field += '"';  // two quotes stand for one
      }
    } else {
      const char ends[] = {options_.delimiter, '\r', '\n', '"'};
      append_until({ends, sizeof ends}, field);
      if (more() && rest_.front() == '"') refuse("a quote inside an unquoted field");
    }
    if (field.find('\0') != std::string::npos) refuse("a NUL byte");
  }

  /// Appends to `field` what comes before one of `ends`, or before the end of the file.
  void append_until(std::string_view ends, std::string& field) {
    while (more()) {
      const std::size_t n = std::min(rest_.find_first_of(ends), rest_.size());
      field += rest_.substr(0, n);
      advance(n);
      if (!rest_.empty()) return;
    }
  }

  bool take(char c) {
    if (!more() || rest_.front() != c) return false;
    advance(1);
    return true;
  }

  void advance(std::size_t bytes) {
    rest_.remove_prefix(bytes);
    row_bytes_ += bytes;
    if (row_bytes_ > kLongestRowBytes) refuse("the row is longer than 1 MiB");
  }

  /// Whether there is more of the file to read: if so, rest_ is not empty afterwards.
  bool more() {
    if (!rest_.empty()) return true;
    chunk_ = file_.take(kChunkBytes);
    rest_ = chunk_;
    file_bytes_ += chunk_.size();
    if (file_bytes_ > kLongestFileBytes)
      file_.refuse(kLongestFileBytes, "the file is larger than 4 GiB");
    return !rest_.empty();
  }

  /// Refuses the current field.
  [[noreturn]] void refuse(const char* what) const {
    refuse_row(fmt::format("column {}: {}", row_.size(), what), ", ");
  }
  [[noreturn]] void refuse_row(const std::string& what, const char* separator = ": ") const {
    fail<FormatError>(at_, "read_csv: {}: row {}{}{}", path_, std::max<int64_t>(row_number_, 1),
                      separator, what);
  }

  const std::string& path_;
  const CsvOptions& options_;
  At at_;
  InputFile file_;
  std::string chunk_;
  std::string_view rest_;         // the part of chunk_ that no field has taken yet
  std::vector<std::string> row_;  // the fields of the current row
  bool blank_ = false, trailing_ = false, first_trailing_ = false;
  int64_t row_number_ = 0;
  std::size_t row_bytes_ = 0, file_bytes_ = 0;
};

}  // namespace

Csv read_csv(const std::string& path, const CsvOptions& options, At at) {
  constexpr std::string_view reserved("\"\r\n.+-\0", 7);
  const char c = options.delimiter;
  if (reserved.find(c) != std::string_view::npos || std::isalnum(static_cast<unsigned char>(c)))
    fail<ValueError>(at, "read_csv: delimiter {} could be part of a field", quote({&c, 1}));
  return Reader(path, options, at).read();
}

Tensor Csv::column(const std::string& name, At at) const {
  const auto found = std::find(columns.begin(), columns.end(), name);
  if (found == columns.end() || std::find(found + 1, columns.end(), name) != columns.end())
    fail<ValueError>(at, "column: {} columns are called {}: there are {}",
                     std::count(columns.begin(), columns.end(), name), quote(name), columns);
  return select(In(values, at), 1, found - columns.begin());
}

}}  // namespace descent::data
