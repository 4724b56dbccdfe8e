#include "descent/data/formats/csv.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <optional>
#include <set>
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
  if (const auto n = std::ranges::count(columns, name); n != 1)
    fail<ValueError>(at, "{}: {} columns are called {}: there are {}", op, n, quote(name), columns);
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

/// The codes and the texts of the column of this name; ValueError unless it has texts.
std::pair<Tensor, const Names&> coded_column(const char* op, const Csv& table,
                                             const std::string& name, At at) {
  const Names& texts = categories_of(table, find_column(op, table.columns, name, at));
  if (texts.empty())
    fail<ValueError>(at, "{}: column {} has no categories: see the option text", op, quote(name));
  return {table.column(name, at), texts};
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
struct Reader {
  const std::string& path;
  const CsvOptions& options;
  At at;
  InputFile file{"read_csv", path, at};
  std::unique_ptr<char[]> buffer{new char[kLongestRowBytes + kReadAtOnceBytes]};
  char *next = buffer.get(), *row_begin = next, *end = next;  // in the buffer
  std::size_t file_bytes = 0, row_number = 0;
  std::vector<std::string_view> row = {};         // the fields of the current row
  bool trailing = false, first_trailing = false;  // whether it, or the first, ends in a delimiter
  bool ended = false;                             // whether the buffer has the rest of the file
  bool fresh = false;  // whether add_plain_rows is yet to see what is in the buffer
  /// Whether it may: what reads as a number must not be a text or stand for a missing value.
  const bool plain =
      options.text.empty() && std::none_of(options.missing.begin(), options.missing.end(), parse);
  std::vector<Block> blocks{Block{kBlockNumbers}};  // the numbers so far
  /// The codes of the texts of each column; none for numbers. No file makes a tree slow.
  std::vector<std::optional<std::map<std::string, double, std::less<>>>> codes = {};
  Csv csv = {};

  Csv read() {
    fill();
    if (std::string_view(next, end).starts_with("\xEF\xBB\xBF")) next += 3;
    if (!next_row()) refuse("the file is empty");
    csv.columns.assign(row.begin(), row.end());
    const std::optional<bool> header = is_header(csv.columns, options);
    if (!header) refuse("numbers beside other text: say in the options whether this is a header");
    for (std::size_t i = 0; i < row.size() && !*header; ++i) csv.columns[i] = fmt::to_string(i);
    csv.categories.resize(row.size());
    codes.resize(row.size());
    for (const std::string& name : options.text)
      codes[find_column("read_csv", csv.columns, name, at)].emplace();
    for (bool found = !*header || next_row(); found; found = next_row()) {
      add_row();
      if (fresh) add_plain_rows();
    }
    // Each block goes when its numbers are in the tensor, so that memory never holds all twice.
    std::vector<std::size_t> starts{0};
    for (const Block& block : blocks) starts.push_back(starts.back() + block.count);
    const auto width = std::ssize(codes);
    csv.values = empty({static_cast<int64_t>(starts.back()) / width, width}, float64, at);
    auto* const to = csv.values.mutable_data<double>();
    parallel_for(std::ssize(blocks), [&](int64_t tile) {
      const auto i = static_cast<std::size_t>(tile);
      std::copy_n(blocks[i].numbers.get(), blocks[i].count, to + starts[i]);
      blocks[i].numbers.reset();
    });
    return std::move(csv);
  }

  void add_row() {
    if (row.size() != codes.size())
      refuse(fmt::format("{} fields, the first row has {}", row.size(), codes.size()));
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (blocks.back().count == blocks.back().capacity) blocks.push_back({kBlockNumbers});
      blocks.back().numbers.get()[blocks.back().count++] = value(i);
    }
  }

  /// What stands in the table for a field of the row.
  double value(std::size_t column) {
    const std::string_view field = row[column];
    if (contains(options.missing, field)) return NAN;
    if (auto& known = codes[column]) {
      const auto place = known->find(field);
      if (place != known->end()) return place->second;
      csv.categories[column].emplace_back(field);
      return known->emplace(field, known->size()).first->second;
    }
    const std::optional<double> number = parse(field);
    if (number && !std::isinf(*number)) return *number;
    refuse(fmt::format("({}): {} is not {}", printable(csv.columns[column]), quote(field),
                       number ? "finite and in float64's range"
                              : "a number: name it in the option missing, or its column in text"),
           column + 1);
  }

  /// Adds the rows of plain numbers that follow in the buffer, several pieces at a time.
  void add_plain_rows() {
    std::vector<Block> pieces;
    std::string_view lines(next, end);
    lines = lines.substr(0, lines.rfind('\n') + 1);  // npos + 1 is 0
    while (!lines.empty()) {
      const std::size_t bytes = lines.find('\n', std::min(kPieceBytes, lines.size() - 1)) + 1;
      pieces.push_back({bytes / 2 + 1, 0, lines.begin(), lines.begin() + bytes});
      lines.remove_prefix(bytes);  // a number and its end are 2 bytes
    }
    parallel_for(std::ssize(pieces), [&](int64_t i) {
      pieces[static_cast<std::size_t>(i)].read(codes.size(), options.delimiter);
    });
    for (Block& piece : pieces) {
      row_number += piece.count / codes.size();
      next += piece.next - next;
      blocks.push_back(std::move(piece));
      if (blocks.back().next != blocks.back().end) break;
    }
    fresh = false;
  }

  /// Reads the next row's fields; false at the end of the file.
  bool next_row() {
    fill();
    row_begin = next;
    ++row_number;
    row.clear();
    trailing = false;
    if (next == end) return false;
    do {
      row.emplace_back();  // errors in it name its number
      row.back() = read_field();
      if (row.back().find('\0') != std::string_view::npos) refuse("a NUL byte", row.size());
    } while (take(options.delimiter));
    if (next == row_begin && (codes.size() != 1 || !contains(options.missing, "")))
      refuse("an empty line");
    const bool returned = take('\r');
    if (!take('\n') && (returned || next != end))
      refuse("neither a delimiter nor a line feed follows", row.size());
    const std::string_view last = row.back();
    trailing = row.size() > 1 && last.empty() && last.data()[-1] == options.delimiter;
    first_trailing |= trailing && row_number == 1;
    return true;
  }

  std::string_view read_field() {
    const bool quoted = take('"');
    char *const begin = next, *to = begin;
    if (!quoted) {
      next = std::find_if(next, end, [delimiter = options.delimiter](char c) {
        return c == delimiter || c == '\n' || c == '\r' || c == '"';
      });
      if (take('"')) refuse("a quote inside an unquoted field", row.size());
      return {begin, next};
    }
    for (;; *to++ = '"') {  // two quotes stand for one, and what follows moves up
      char* const from = next;
      next = std::find(from, end, '"');
      to = std::shift_left(to, next, from - to);
      if (!take('"')) refuse("a quote that is never closed", row.size());
      if (!take('"')) return {begin, to};
    }
  }

  bool take(char c) {
    const bool taken = next != end && *next == c;
    next += taken;
    if (next - row_begin > kLongestRowBytes) refuse("the row is longer than 1 MiB", row.size());
    return taken;
  }

  /// Makes sure that the buffer has all of the next row, or more of it than a row may have.
  void fill() {
    if (end - next > kLongestRowBytes || ended) return;
    end = std::shift_left(buffer.get(), end, next - buffer.get());
    next = buffer.get();
    const std::size_t read = file.read(end, kReadAtOnceBytes);
    end += read;
    file_bytes += read;
    ended = read < kReadAtOnceBytes;
    fresh = plain;
    if (file_bytes > kLongestFileBytes)
      file.refuse(kLongestFileBytes, "the file is larger than 4 GiB");
  }

  /// Refuses the current row, or the field of this number, from 1, in it.
  [[noreturn]] void refuse(std::string what, std::size_t column = 0) const {
    if (column == 0 ? trailing || first_trailing : trailing && column == row.size())
      what += fmt::format(": row {} ends in a delimiter, which makes an empty last field",
                          trailing ? row_number : 1);
    fail<FormatError>(at, "read_csv: {}: row {}{}: {}", path, row_number,
                      column ? fmt::format(", column {}", column) : "", what);
  }
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
      fail<ShapeError>(at, "write_csv: values {}, {} names, categories of {}: need [rows, columns]",
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
          fail<ValueError>(at, "write_csv: {} of column {} is there twice, or a missing one",
                           quote(name), quote(table.columns[i]));
    }
    if (!header && (shape[0] == 0 || (options.header == Header::automatic && !numbered)))
      fail<ValueError>(at, "write_csv: {} rows under {}: need present or absent as the header",
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
  return Reader{path, options, at}.read();
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
  return select(In(values, at), 1, static_cast<int64_t>(find_column("column", columns, name, at)));
}

Tensor Csv::one_hot(const std::string& name, At at) const {
  const Frame frame(at);
  const auto [codes, texts] = coded_column("one_hot", *this, name, at);
  return (codes.unsqueeze(1) == arange(std::ssize(texts), codes.dtype())).to(codes.dtype());
}

Tensor Csv::labels(const std::string& name, At at) const {
  const Frame frame(at);
  const auto [codes, texts] = coded_column("labels", *this, name, at);
  const auto numbers = codes.to_vector<double>(at);
  for (std::size_t row = 0; row < numbers.size(); ++row)
    if (!is_code(numbers[row], texts))
      fail<ValueError>(at, "labels: row {} of column {} is {}: need the code of a category", row,
                       quote(name), numbers[row]);
  return codes.to(int64);
}

}}  // namespace descent::data
