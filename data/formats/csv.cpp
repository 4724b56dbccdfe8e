#include "descent/data/formats/csv.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <sys/mman.h>

#include "descent/core/ops/arithmetic.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/view.hpp"
#include "descent/core/runtime/threads.hpp"
#include "descent/data/formats/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::ptrdiff_t kLongestRowBytes = 1 << 20;
constexpr std::size_t kLongestFileBytes = std::size_t{4} << 30;
constexpr std::size_t kReadAtOnceBytes = 2 << 20, kPieceBytes = 1 << 18, kBlockNumbers = 1 << 16;

using Names = std::vector<std::string>;

bool contains(const Names& names, std::string_view text) {
  return std::ranges::find(names, text) != names.end();
}

/// The place of the column of this name; ValueError unless there is exactly one.
std::size_t find_column(const char* op, const Names& columns, const std::string& name, At at) {
  if (const auto count = std::ranges::count(columns, name); count != 1)
    fail<ValueError>(at, "{}: {} columns are called {}: there are {}", op, count, quote(name),
                     columns);
  return static_cast<std::size_t>(std::ranges::find(columns, name) - columns.begin());
}

void check_delimiter(const char* op, char c, At at) {
  constexpr std::string_view reserved("\"\r\n.+-\0", 7);
  const auto byte = static_cast<unsigned char>(c);
  if (reserved.find(c) != std::string_view::npos || std::isalnum(byte) || byte >= 0x80)
    fail<ValueError>(at, "{}: delimiter {} could be part of a field", op, quote({&c, 1}));
}

/// The number in a field: infinity for one that is not finite or out of range, nothing for a text.
std::optional<double> parse(std::string_view field) {
  field = field.substr(0, field.find_last_not_of(" \t") + 1);  // npos + 1 is 0
  field.remove_prefix(std::min(field.find_first_not_of(" \t"), field.size()));
  if (field.starts_with('+') && !field.starts_with("+-")) field.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(field.begin(), field.end(), value);
  if (error == std::errc::invalid_argument || end != field.end()) return std::nullopt;
  return error == std::errc{} && std::isfinite(value) ? value : INFINITY;
}

/// Whether a first row is a header; nothing if that is `automatic` and it has numbers and texts.
std::optional<bool> is_header(const Names& row, const CsvOptions& options) {
  if (options.header != Header::automatic) return options.header == Header::present;
  bool numbers = false, names = false;
  for (const std::string& field : row)
    if (!contains(options.missing, field)) (parse(field) ? numbers : names) = true;
  return names && numbers ? std::nullopt : std::optional(names);
}

/// The texts of a column's codes.
const Names& categories_of(const Csv& table, std::size_t column) {
  static const Names none;
  return column < table.categories.size() ? table.categories[column] : none;
}

/// The same for a column of this name; ValueError unless it has any.
const Names& texts_of(const char* op, const Csv& table, const std::string& name, At at) {
  const Names& texts = categories_of(table, find_column(op, table.columns, name, at));
  if (texts.empty())
    fail<ValueError>(at, "{}: column {} has no categories: name it in the option text", op,
                     quote(name));
  return texts;
}

bool is_code(double value, const Names& names) {
  return value >= 0 && value < static_cast<double>(names.size()) && value == std::floor(value);
}

// ---- reading

/// Room for numbers that comes from the system and goes straight back to it. What nobody has
/// written to takes no memory.
std::shared_ptr<double[]> make_room(std::size_t count) {
  const std::size_t bytes = count * sizeof(double);
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return {static_cast<double*>(p), [bytes](double* q) { ::munmap(q, bytes); }};
}

/// Numbers of the table, row after row.
struct Block {
  std::size_t capacity, count = 0;
  const char *next = nullptr, *end = nullptr;  // whole lines of the buffer, for `read`
  std::shared_ptr<double[]> numbers = make_room(capacity);

  /// Reads rows of `width` numbers up to the first one that needs a closer look.
  void read(std::size_t width, char delimiter) {
    for (const char* p = next; next != end; next = p, count += width) {
      for (std::size_t i = 1; i <= width; ++i, ++p) {
        double& value = numbers.get()[count + i - 1];
        const auto [behind, error] = std::from_chars(p, end, value);
        p = behind + (i == width && *behind == '\r');
        if (error != std::errc{} || !std::isfinite(value) || *p != (i < width ? delimiter : '\n'))
          return;
      }
      if (p - next > kLongestRowBytes) return;
    }
  }
};

/// Reads the file once from front to back. `next_row` is strict and explains what is wrong;
/// `add_plain_rows` is fast and leaves to it what is not plainly right.
class Reader {
 public:
  Reader(const std::string& path, const CsvOptions& options, At at)
      : path_(path), options_(options), at_(at), file_("read_csv", path, at) {}

  Csv read() {
    fill();
    if (std::string_view(next_, end_).starts_with("\xEF\xBB\xBF")) next_ += 3;
    if (!next_row()) refuse("the file is empty");
    csv_.columns.assign(row_.begin(), row_.end());
    const std::optional<bool> header = is_header(csv_.columns, options_);
    if (!header) refuse("numbers beside other text: say in the options whether this is a header");
    for (std::size_t i = 0; i < row_.size() && !*header; ++i) csv_.columns[i] = fmt::to_string(i);
    csv_.categories.resize(row_.size());
    codes_.resize(row_.size());
    for (const std::string& name : options_.text)
      codes_[find_column("read_csv", csv_.columns, name, at_)].emplace();
    for (bool found = !*header || next_row(); found; found = next_row()) {
      add_row();
      if (fresh_) add_plain_rows();
    }
    take_values();
    return std::move(csv_);
  }

 private:
  using Codes = std::map<std::string, std::size_t, std::less<>>;  // no file makes a tree slow

  void add_row() {
    if (row_.size() != codes_.size())
      refuse(fmt::format("{} fields, the first row has {}", row_.size(), codes_.size()));
    for (std::size_t i = 0; i < row_.size(); ++i) {
      if (blocks_.empty() || blocks_.back().count == blocks_.back().capacity)
        blocks_.push_back({kBlockNumbers});
      blocks_.back().numbers.get()[blocks_.back().count++] = value(i);
    }
  }

  /// What stands in the table for a field of the row.
  double value(std::size_t column) {
    const std::string_view field = row_[column];
    if (contains(options_.missing, field)) return NAN;
    if (auto& codes = codes_[column]) {
      Names& names = csv_.categories[column];
      auto place = codes->find(field);
      if (place == codes->end()) {
        place = codes->emplace(field, names.size()).first;
        names.emplace_back(field);
      }
      return static_cast<double>(place->second);
    }
    const std::optional<double> number = parse(field);
    if (number && !std::isinf(*number)) return *number;
    refuse(fmt::format("({}): {} is not {}", printable(csv_.columns[column]), quote(field),
                       number ? "finite and in float64's range"
                              : "a number: name it in the option missing, or its column in text"),
           column + 1);
  }

  /// Adds the rows of plain numbers that follow in the buffer, several pieces at a time.
  void add_plain_rows() {
    std::vector<Block> pieces;
    std::string_view lines(next_, end_);
    lines = lines.substr(0, lines.rfind('\n') + 1);  // npos + 1 is 0
    while (!lines.empty()) {
      const std::size_t bytes = lines.find('\n', std::min(kPieceBytes, lines.size() - 1)) + 1;
      pieces.push_back({bytes / 2 + 1, 0, lines.begin(), lines.begin() + bytes});
      lines.remove_prefix(bytes);  // a number and its end are 2 bytes
    }
    parallel_for(std::ssize(pieces), [&](int64_t i) {
      pieces[static_cast<std::size_t>(i)].read(codes_.size(), options_.delimiter);
    });
    for (Block& piece : pieces) {
      row_number_ += piece.count / codes_.size();
      next_ += piece.next - next_;
      blocks_.push_back(std::move(piece));
      if (blocks_.back().next != blocks_.back().end) break;
    }
    fresh_ = false;
  }

  /// Each block goes when its numbers are in the tensor, so that memory never holds all twice.
  void take_values() {
    std::vector<std::size_t> starts{0};
    for (const Block& block : blocks_) starts.push_back(starts.back() + block.count);
    const auto width = std::ssize(codes_);
    csv_.values = empty({static_cast<int64_t>(starts.back()) / width, width}, float64, at_);
    auto* const to = csv_.values.mutable_data<double>();
    parallel_for(std::ssize(blocks_), [&](int64_t tile) {
      const auto i = static_cast<std::size_t>(tile);
      std::copy_n(blocks_[i].numbers.get(), blocks_[i].count, to + starts[i]);
      blocks_[i].numbers.reset();
    });
  }

  /// Reads the next row's fields; false at the end of the file.
  bool next_row() {
    fill();
    row_begin_ = next_;
    ++row_number_;
    row_.clear();
    trailing_ = false;
    if (next_ == end_) return false;
    do {
      row_.emplace_back();  // errors in it name its number
      row_.back() = read_field();
      if (row_.back().find('\0') != std::string_view::npos) refuse("a NUL byte", row_.size());
    } while (take(options_.delimiter));
    if (next_ == row_begin_ && (codes_.size() != 1 || !contains(options_.missing, "")))
      refuse("an empty line");
    const bool returned = take('\r');
    if (!take('\n') && (returned || next_ != end_))
      refuse(returned ? "a carriage return that no line feed follows"
                      : "a quoted field goes on after its closing quote",
             row_.size());
    const std::string_view last = row_.back();
    trailing_ = row_.size() > 1 && last.empty() && last.data()[-1] == options_.delimiter;
    first_trailing_ |= trailing_ && row_number_ == 1;
    return true;
  }

  std::string_view read_field() {
    const bool quoted = take('"');
    char *const begin = next_, *to = begin;
    if (!quoted) {
      next_ = std::find_if(next_, end_, [delimiter = options_.delimiter](char c) {
        return c == delimiter || c == '\n' || c == '\r' || c == '"';
      });
      if (take('"')) refuse("a quote inside an unquoted field", row_.size());
      return {begin, next_};
    }
    for (;; *to++ = '"') {  // two quotes stand for one, and what follows moves up
      char* const from = next_;
      next_ = std::find(from, end_, '"');
      to = std::shift_left(to, next_, from - to);
      if (!take('"')) refuse("a quote that is never closed", row_.size());
      if (!take('"')) return {begin, to};
    }
  }

  bool take(char c) {
    const bool taken = next_ != end_ && *next_ == c;
    next_ += taken;
    if (next_ - row_begin_ > kLongestRowBytes) refuse("the row is longer than 1 MiB", row_.size());
    return taken;
  }

  /// Makes sure that the buffer has all of the next row, or more of it than a row may have.
  void fill() {
    if (end_ - next_ > kLongestRowBytes || ended_) return;
    end_ = std::shift_left(buffer_.get(), end_, next_ - buffer_.get());
    next_ = buffer_.get();
    const std::size_t read = file_.read(end_, kReadAtOnceBytes);
    end_ += read;
    file_bytes_ += read;
    ended_ = read < kReadAtOnceBytes;
    fresh_ = plain_;
    if (file_bytes_ > kLongestFileBytes)
      file_.refuse(kLongestFileBytes, "the file is larger than 4 GiB");
  }

  /// Refuses the current row, or the field of this number, from 1, in it.
  [[noreturn]] void refuse(std::string what, std::size_t column = 0) const {
    if (column == 0 ? trailing_ || first_trailing_ : trailing_ && column == row_.size())
      what += fmt::format(": row {} ends in a delimiter, which makes an empty last field",
                          trailing_ ? row_number_ : 1);
    fail<FormatError>(at_, "read_csv: {}: row {}{}: {}", path_, row_number_,
                      column ? fmt::format(", column {}", column) : "", what);
  }

  const std::string& path_;
  const CsvOptions& options_;
  At at_;
  InputFile file_;
  std::unique_ptr<char[]> buffer_{new char[kLongestRowBytes + kReadAtOnceBytes]};
  char *next_ = buffer_.get(), *row_begin_ = next_, *end_ = next_;  // in the buffer
  std::size_t file_bytes_ = 0, row_number_ = 0;
  std::vector<std::string_view> row_;               // the fields of the current row
  bool trailing_ = false, first_trailing_ = false;  // whether it, or the first, ends in a delimiter
  bool ended_ = false;                              // whether the buffer has the rest of the file
  bool fresh_ = false;  // whether add_plain_rows is yet to see what is in the buffer
  /// Whether it may: what reads as a number must not be a text or stand for a missing value.
  const bool plain_ = options_.text.empty() &&
                      std::none_of(options_.missing.begin(), options_.missing.end(), parse);
  std::vector<Block> blocks_;                // the numbers so far
  std::vector<std::optional<Codes>> codes_;  // of the texts of each column; none for numbers
  Csv csv_;
};

// ---- writing

struct Writer {
  const Csv& table;
  const CsvOptions& options;
  At at;
  std::string line = {};
  std::size_t lines = 0, bytes = 0;

  /// Refuses what no reader could tell apart. Returns whether there is to be a header.
  bool check() const {
    const auto width = std::ssize(table.columns), texts = std::ssize(table.categories);
    const Shape shape = table.values.defined() ? table.values.shape() : Shape{};
    if (width == 0 || shape.rank() != 2 || shape[1] != width || (texts != 0 && texts != width))
      fail<ShapeError>(at,
                       "write_csv: values {}, {} columns, categories of {}: need [rows, columns]",
                       shape, width, texts);
    const bool header = is_header(table.columns, options).value_or(false);
    bool numbered = true;
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      const Names& names = categories_of(table, i);
      numbered = numbered && names.empty() && table.columns[i] == fmt::to_string(i);
      if (header && !names.empty()) find_column("write_csv", table.columns, table.columns[i], at);
      std::set<std::string_view> others(options.missing.begin(), options.missing.end());
      for (const std::string& name : names)
        if (!others.insert(name).second)
          fail<ValueError>(
              at, "write_csv: {} of column {} is there twice, or stands for a missing value",
              quote(name), quote(table.columns[i]));
    }
    if (!header && (shape[0] == 0 || (options.header == Header::automatic && !numbered)))
      fail<ValueError>(at,
                       "write_csv: {} rows under {}: say in the options whether they have a header",
                       shape[0], table.columns);
    return header;
  }

  template <class T> void add_value(int64_t row, std::size_t column, T value) {
    const auto number = static_cast<double>(value);
    const Names& names = categories_of(table, column);
    if (std::isnan(number) && !options.missing.empty()) return add(options.missing.front());
    if (is_code(number, names)) return add(names[static_cast<std::size_t>(number)]);
    char buffer[32];
    const char* end = std::to_chars(buffer, std::end(buffer), +value).ptr;
    // One float32's shortest digits have a nearest double that rounds to the next float32.
    if (std::is_same_v<T, float> && static_cast<float>(*parse({buffer, end})) != number)
      end = std::to_chars(buffer, std::end(buffer), number).ptr;
    const std::string_view digits(buffer, end);
    if (!names.empty() || !std::isfinite(number) || contains(options.missing, digits))
      fail<ValueError>(at, "write_csv: values[{}, {}] in column {} is {}: {}", row, column,
                       quote(table.columns[column]), digits,
                       std::isnan(number)   ? "name a missing value"
                       : !names.empty()     ? "there is no such category"
                       : std::isinf(number) ? "it must be finite"
                                            : "this stands for a missing value");
    line.append(digits) += options.delimiter;
  }

  /// Adds a field to the line, in quotes if it needs them; also if the file could begin like gzip's
  /// or with a byte order mark.
  void add(std::string_view text) {
    if (text.find('\0') != std::string_view::npos)
      fail<ValueError>(at, "write_csv: {} has a NUL byte", quote(text));
    const std::string special{options.delimiter, '"', '\r', '\n'};
    const bool quoted = text.empty() ? table.columns.size() == 1
                                     : text.find_first_of(special) != std::string_view::npos ||
                                           text[0] == '\x1f' || text[0] == '\xEF';
    if (quoted) line += '"';
    for (const char c : text) line.append(c == '"' ? 2 : 1, c);
    if (quoted) line += '"';
    line += options.delimiter;
  }

  void end_line(OutputFile& file) {
    line.back() = '\n';  // in place of a delimiter
    bytes += line.size();
    if (++lines; line.size() > kLongestRowBytes || bytes > kLongestFileBytes)
      fail<ValueError>(at, "write_csv: row {} makes more than 1 MiB, or 4 GiB in total", lines);
    file.write(line);
    line.clear();
  }
};

}  // namespace

Csv read_csv(const std::string& path, const CsvOptions& options, At at) {
  check_delimiter("read_csv", options.delimiter, at);
  return Reader(path, options, at).read();
}

void write_csv(const std::string& path, const Csv& table, const CsvOptions& options, At at) {
  check_delimiter("write_csv", options.delimiter, at);
  Writer writer{table, options, at};
  const bool header = writer.check();
  OutputFile file("write_csv", path, at);
  if (header) {
    for (const std::string& name : table.columns) writer.add(name);
    writer.end_line(file);
  }
  const Tensor values = table.values.detach().contiguous(at);
  visit<Kinds::any>("write_csv", values.dtype(), at, [&]<class T>(T) {
    const T* p = values.data<T>();
    for (int64_t row = 0; row < values.size(0); ++row) {
      for (std::size_t i = 0; i < table.columns.size(); ++i) writer.add_value(row, i, *p++);
      writer.end_line(file);
    }
  });
  file.commit();
}

Tensor Csv::column(const std::string& name, At at) const {
  const std::size_t i = find_column("column", columns, name, at);
  return select(In(values, at), 1, static_cast<int64_t>(i));
}

Tensor Csv::one_hot(const std::string& name, At at) const {
  const Frame frame(at);
  const Names& texts = texts_of("one_hot", *this, name, at);
  const Tensor codes = column(name, at).unsqueeze(1);
  return (codes == arange(std::ssize(texts), codes.dtype())).to(codes.dtype());
}

Tensor Csv::labels(const std::string& name, At at) const {
  const Frame frame(at);
  const Names& texts = texts_of("labels", *this, name, at);
  const Tensor codes = column(name, at);
  const auto numbers = codes.to_vector<double>(at);
  for (std::size_t row = 0; row < numbers.size(); ++row)
    if (!is_code(numbers[row], texts))
      fail<ValueError>(at, "labels: row {} of column {} is {}: need the code of a category", row,
                       quote(name), numbers[row]);
  return codes.to(int64);
}

}}  // namespace descent::data
