#include "descent/data/formats/csv.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
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

constexpr std::size_t kLongestRowBytes = 1 << 20, kLongestFileBytes = std::size_t{4} << 30;
constexpr std::size_t kReadAtOnceBytes = 2 << 20, kPieceBytes = 1 << 18, kBlockNumbers = 1 << 16;

using Names = std::vector<std::string>;

bool contains(const Names& names, std::string_view text) {
  return std::find(names.begin(), names.end(), text) != names.end();
}

/// The place of the column of this name; ValueError unless there is exactly one.
std::size_t find_column(const char* op, const Names& columns, const std::string& name, At at) {
  const auto count = std::count(columns.begin(), columns.end(), name);
  if (count != 1)
    fail<ValueError>(at, "{}: {} columns are called {}: there are {}", op, count, quote(name),
                     columns);
  return static_cast<std::size_t>(std::find(columns.begin(), columns.end(), name) -
                                  columns.begin());
}

void check_delimiter(const char* op, char c, At at) {
  constexpr std::string_view reserved("\"\r\n.+-\0", 7);
  const auto byte = static_cast<unsigned char>(c);
  if (reserved.find(c) != std::string_view::npos || std::isalnum(byte) || byte >= 0x80)
    fail<ValueError>(at, "{}: delimiter {} could be part of a field", op, quote({&c, 1}));
}

/// The number in a field: infinity for one that is not finite or out of range, nothing for a text.
std::optional<double> parse(std::string_view field) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!field.empty() && is_blank(field.front())) field.remove_prefix(1);
  while (!field.empty() && is_blank(field.back())) field.remove_suffix(1);
  if (field.starts_with('+') && !field.starts_with("+-")) field.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(field.begin(), field.end(), value);
  if (error == std::errc::invalid_argument || end != field.end()) return std::nullopt;
  return error == std::errc{} && std::isfinite(value) ? value : INFINITY;
}

/// Whether a first row is a header, where that is `automatic`; nothing if it has numbers and texts.
std::optional<bool> looks_like_header(const Names& row, const Names& missing) {
  bool numbers = false, names = false;
  for (const std::string& field : row)
    if (!contains(missing, field)) (parse(field) ? numbers : names) = true;
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
struct Block {
  explicit Block(std::size_t capacity_) : capacity(capacity_) {
    const std::size_t bytes = capacity * sizeof(double);
    void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    numbers = {static_cast<double*>(p), [bytes](double* q) { ::munmap(q, bytes); }};
  }
  std::shared_ptr<double[]> numbers;
  std::size_t capacity, count = 0;
};

/// Whole lines of the buffer. Those before `stop` were read.
struct Piece {
  char *begin, *end, *stop;
  Block block{static_cast<std::size_t>(end - begin) / 2 + 1};  // a number and its end are 2 bytes

  /// Reads rows of `width` numbers up to the first one that needs a closer look.
  void read(std::size_t width, char delimiter) {
    for (char* p = begin; stop != end; stop = p, block.count += width) {
      for (std::size_t i = 1; i <= width; ++i, ++p) {
        double& value = block.numbers.get()[block.count + i - 1];
        const auto [behind, error] = std::from_chars(p, end, value);
        p += behind - p + (i == width && *behind == '\r');
        if (error != std::errc{} || !std::isfinite(value) || *p != (i < width ? delimiter : '\n'))
          return;
      }
      if (p - stop > ptrdiff_t{kLongestRowBytes}) return;
    }
  }
};

/// Reads the file once from front to back. `next_row` is strict and explains what is wrong;
/// `add_plain_rows` is fast and leaves to it what is not plainly right.
class Reader {
 public:
  Reader(const std::string& path, const CsvOptions& options, At at)
      : path_(path), options_(options), at_(at), file_("read_csv", path, at) {
    // What reads as a number must not be a text or stand for a missing value.
    plain_ =
        options.text.empty() && std::none_of(options.missing.begin(), options.missing.end(), parse);
    fill();
    if (std::string_view(next_, end_).starts_with("\xEF\xBB\xBF")) next_ += 3;
  }

  Csv read() {
    bool found = next_row();
    if (!found) refuse_row("the file is empty");
    if (blank_) refuse_row("an empty line");
    csv_.columns.assign(row_.begin(), row_.end());
    std::optional<bool> header = options_.header == Header::present;
    if (options_.header == Header::automatic)
      header = looks_like_header(csv_.columns, options_.missing);
    if (!header)
      refuse_row("numbers beside other text: say in the options whether this is a header" +
                 explain_trailing());
    if (*header) found = next_row();
    else
      for (std::size_t i = 0; i < row_.size(); ++i) csv_.columns[i] = fmt::to_string(i);
    csv_.categories.resize(csv_.columns.size());
    codes_.resize(csv_.columns.size());
    for (const std::string& name : options_.text)
      codes_[find_column("read_csv", csv_.columns, name, at_)] = std::make_unique<Codes>();
    for (; found; found = next_row()) {
      add_row();
      if (plain_ && fresh_) add_plain_rows();
    }
    take_values();
    return std::move(csv_);
  }

 private:
  using Codes = std::map<std::string, std::size_t, std::less<>>;  // no file makes a tree slow

  void add_row() {
    const std::size_t width = codes_.size();
    if (row_.size() != width && blank_) refuse_row("an empty line");
    if (row_.size() != width)
      refuse_row(
          fmt::format("{} fields, the first row has {}{}", row_.size(), width, explain_trailing()));
    for (std::size_t i = 0; i < width; ++i) {
      if (blocks_.empty() || blocks_.back().count == blocks_.back().capacity)
        blocks_.emplace_back(kBlockNumbers);
      Block& block = blocks_.back();
      const bool missing = contains(options_.missing, row_[i]);
      block.numbers.get()[block.count++] = missing ? NAN : codes_[i] ? code(i) : number(i);
    }
  }

  double code(std::size_t column) {
    if (blank_) refuse_row("an empty line");
    Names& names = csv_.categories[column];
    const auto [place, end] = codes_[column]->equal_range(row_[column]);
    if (place != end) return static_cast<double>(place->second);
    codes_[column]->emplace_hint(place, row_[column], names.size());
    names.emplace_back(row_[column]);
    return static_cast<double>(names.size() - 1);
  }

  double number(std::size_t column) const {
    const std::string_view field = row_[column];
    const std::optional<double> value = parse(field);
    if (value && !std::isinf(*value)) return *value;
    refuse_row(
        fmt::format("column {}: ({}): {} is not {}{}{}", column + 1,
                    printable(csv_.columns[column]), quote(field),
                    value ? "finite and in float64's range"
                          : "a number, nor a missing value of the options",
                    value || field.empty() ? "" : ": the option text is for columns of texts",
                    trailing_ && column + 1 == row_.size() ? explain_trailing() : ""),
        ", ");
  }

  /// Adds the rows of plain numbers that follow in the buffer, several pieces at a time.
  void add_plain_rows() {
    std::vector<Piece> pieces;
    const auto rest = static_cast<std::size_t>(end_ - next_);
    auto* const last = static_cast<char*>(::memrchr(next_, '\n', rest));
    for (char *begin = next_, *end; last && begin <= last; begin = end) {
      end = std::find(begin + std::min<ptrdiff_t>(kPieceBytes, last - begin), last, '\n') + 1;
      pieces.push_back({begin, end, begin});
    }
    parallel_for(std::ssize(pieces), [&](int64_t i) {
      pieces[static_cast<std::size_t>(i)].read(codes_.size(), options_.delimiter);
    });
    for (Piece& piece : pieces) {
      row_number_ += static_cast<int64_t>(piece.block.count / codes_.size());
      blocks_.push_back(std::move(piece.block));
      next_ = piece.stop;
      if (next_ != piece.end) break;
    }
    fresh_ = false;
  }

  /// Each block goes when its numbers are in the tensor, so that memory never holds all twice.
  void take_values() {
    std::vector<std::size_t> starts{0};
    for (const Block& block : blocks_) starts.push_back(starts.back() + block.count);
    const auto width = static_cast<int64_t>(codes_.size());
    csv_.values = empty({static_cast<int64_t>(starts.back()) / width, width}, float64, at_);
    auto* const to = csv_.values.mutable_data<double>();
    parallel_for(std::ssize(blocks_), [&](int64_t i) {
      Block& block = blocks_[static_cast<std::size_t>(i)];
      std::copy_n(block.numbers.get(), block.count, to + starts[static_cast<std::size_t>(i)]);
      block.numbers.reset();
    });
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
    fill();
    if (next_ == end_) return false;
    row_begin_ = next_;
    ++row_number_;
    row_.clear();
    do {
      const char* const begin = next_;
      row_.emplace_back();  // errors in it name its number
      row_.back() = read_field();
      if (row_.back().find('\0') != std::string_view::npos) refuse("a NUL byte");
      trailing_ = row_.size() > 1 && next_ == begin;
    } while (take(options_.delimiter));
    blank_ = next_ == row_begin_;
    if (row_number_ == 1) first_trailing_ = trailing_;
    if (take('\r')) {
      if (!take('\n')) refuse("a carriage return that no line feed follows");
    } else if (!take('\n') && next_ != end_) {
      refuse("a quoted field goes on after its closing quote");
    }
    return true;
  }

  std::string_view read_field() {
    const bool quoted = take('"');
    char *const begin = next_, *to = begin;
    if (!quoted) {
      advance(std::find_if(next_, end_, [delimiter = options_.delimiter](char c) {
        return c == delimiter || c == '\n' || c == '\r' || c == '"';
      }));
      if (next_ != end_ && *next_ == '"') refuse("a quote inside an unquoted field");
      return {begin, next_};
    }
    for (;; *to++ = '"') {  // two quotes stand for one, and what follows moves up
      char* const from = next_;
      advance(std::find(from, end_, '"'));
      std::memmove(to, from, static_cast<std::size_t>(next_ - from));
      to += next_ - from;
      if (!take('"')) refuse("a quote that is never closed");
      if (!take('"')) return {begin, to};
    }
  }

  bool take(char c) {
    const bool taken = next_ != end_ && *next_ == c;
    advance(next_ + taken);
    return taken;
  }

  void advance(char* to) {
    next_ = to;
    if (next_ - row_begin_ > ptrdiff_t{kLongestRowBytes}) refuse("the row is longer than 1 MiB");
  }

  /// Makes sure that the buffer has all of the next row, or more of it than a row may have.
  void fill() {
    const auto rest = static_cast<std::size_t>(end_ - next_);
    if (rest > kLongestRowBytes || ended_) return;
    std::memmove(buffer_.get(), next_, rest);
    next_ = row_begin_ = buffer_.get();
    const std::size_t read = file_.read(next_ + rest, kReadAtOnceBytes);
    end_ = next_ + rest + read;
    file_bytes_ += read;
    ended_ = read < kReadAtOnceBytes;
    fresh_ = true;
    if (file_bytes_ > kLongestFileBytes)
      file_.refuse(kLongestFileBytes, "the file is larger than 4 GiB");
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
  std::unique_ptr<char[]> buffer_{new char[kLongestRowBytes + kReadAtOnceBytes]};
  char *next_ = buffer_.get(), *row_begin_ = next_, *end_ = next_;  // in the buffer
  bool ended_ = false;  // whether the buffer has the rest of the file
  bool fresh_ = false;  // whether add_plain_rows has not yet seen what is in the buffer
  bool plain_ = false, blank_ = false, trailing_ = false, first_trailing_ = false;
  std::vector<std::string_view> row_;  // the fields of the current row
  int64_t row_number_ = 0;
  std::size_t file_bytes_ = 0;
  std::vector<Block> blocks_;                  // the numbers so far
  std::vector<std::unique_ptr<Codes>> codes_;  // of the texts of each column; null for numbers
  Csv csv_;
};

// ---- writing

struct Writer {
  const Csv& table;
  const CsvOptions& options;
  At at;
  std::string line = {};

  /// Refuses what no reader could tell apart. Returns whether there is to be a header.
  bool check() const {
    const auto width = static_cast<int64_t>(table.columns.size());
    const Shape shape = table.values.defined() ? table.values.shape() : Shape{};
    if (width == 0 || shape.rank() != 2 || shape[1] != width)
      fail<ShapeError>(at, "write_csv: values {}, {} columns: need [rows, columns]", shape, width);
    if (!table.categories.empty() && std::ssize(table.categories) != width)
      fail<ValueError>(at, "write_csv: categories of {} columns: there are {}",
                       table.categories.size(), width);
    bool header = options.header == Header::present, numbered = true;
    if (options.header == Header::automatic)
      header = looks_like_header(table.columns, options.missing) == true;
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
    char buffer[32];
    const char* end = std::to_chars(buffer, std::end(buffer), +value).ptr;
    // One float32's shortest digits have a nearest double that rounds to the next float32.
    if (std::is_same_v<T, float> && static_cast<float>(*parse({buffer, end})) != number)
      end = std::to_chars(buffer, std::end(buffer), number).ptr;
    const std::string_view digits(buffer, end);
    const char* wrong = nullptr;
    if (std::isnan(number)) wrong = options.missing.empty() ? "name a missing value" : nullptr;
    else if (!names.empty()) wrong = is_code(number, names) ? nullptr : "there is no such category";
    else if (std::isinf(number)) wrong = "it must be finite";
    else if (contains(options.missing, digits)) wrong = "this stands for a missing value";
    if (wrong)
      fail<ValueError>(at, "write_csv: values[{}, {}] in column {} is {}: {}", row, column,
                       quote(table.columns[column]), std::string(digits), wrong);
    if (std::isnan(number)) add(options.missing.front());
    else if (!names.empty()) add(names[static_cast<std::size_t>(number)]);
    else line.append(digits) += options.delimiter;
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
    line += quoted ? "\"" : "";
    line += options.delimiter;
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
  std::size_t bytes = 0;
  const auto end_line = [&](const std::string& what) {
    writer.line.back() = '\n';  // in place of a delimiter
    bytes += writer.line.size();
    if (writer.line.size() > kLongestRowBytes || bytes > kLongestFileBytes)
      fail<ValueError>(at, "write_csv: {} makes more than 1 MiB, or 4 GiB in total", what);
    file.write(writer.line);
    writer.line.clear();
  };
  if (header) {
    for (const std::string& name : table.columns) writer.add(name);
    end_line("the header");
  }
  const Tensor values = table.values.detach().contiguous(at);
  visit<Kinds::any>("write_csv", values.dtype(), at, [&]<class T>(T) {
    const T* p = values.data<T>();
    for (int64_t row = 0; row < values.size(0); ++row) {
      for (std::size_t i = 0; i < table.columns.size(); ++i) writer.add_value(row, i, *p++);
      end_line(fmt::format("values[{}]", row));
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
  const Names& names = texts_of("one_hot", *this, name, at);
  const Tensor codes = column(name, at).unsqueeze(1);
  return (codes == arange(std::ssize(names), codes.dtype())).to(codes.dtype());
}

Tensor Csv::labels(const std::string& name, At at) const {
  const Frame frame(at);
  const Names& names = texts_of("labels", *this, name, at);
  const Tensor codes = column(name, at);
  const auto numbers = codes.to_vector<double>(at);
  for (std::size_t row = 0; row < numbers.size(); ++row)
    if (!is_code(numbers[row], names))
      fail<ValueError>(at,
                       "labels: row {} of column {} is {}: need the code of one of its categories",
                       row, quote(name), numbers[row]);
  return codes.to(int64);
}

}}  // namespace descent::data
