#pragma once
/// @file
/// Tables of numbers and texts in CSV files.

#include <string>
#include <vector>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// Whether the first row of a CSV file names the columns. `automatic`: it does if it has texts and
/// no numbers; a row with both is a FormatError. Fields that stand for a missing value are neither.
/// This does not depend on the option `text`: the first row of a file that has nothing but texts is
/// its header, unless you say `absent`.
enum class Header { automatic, present, absent };

/// The form of a CSV file.
struct CsvOptions {
  char delimiter = ',';               ///< between fields
  Header header = Header::automatic;  ///< whether the first row names the columns
  /// Fields that stand for a missing value and are read as NaN, such as {"", "NA", "?"}. In a
  /// column of numbers, all other fields must be finite numbers.
  std::vector<std::string> missing = {};
  /// The columns of texts, such as {"species", "city"}. Without a header they are called "0", "1",
  /// ... Only the reader uses this option.
  std::vector<std::string> text = {};
};

/// A table. Each text of a column of texts is a category, and stands in `values` as its code: 0 for
/// the text that comes first in the column, 1 for the next one that differs from it, and so on.
struct Csv {
  std::vector<std::string> columns;  ///< the header's names, or "0", "1", ...
  Tensor values;                     ///< float64 [rows, columns], NaN for a missing value
  /// For each column the texts of its codes; empty for a column of numbers.
  std::vector<std::vector<std::string>> categories = {};

  /// The column of this name, [rows]: a view of `values`. ValueError unless there is exactly one.
  [[nodiscard]] Tensor column(const std::string& name, At at = At::here()) const;
  /// A column of texts, as numbers for a model: [rows, categories], of the dtype of `values`; 1 at
  /// the code of the row and 0 elsewhere. A missing value makes a row of zeros. ValueError as for
  /// `column`, and for a column without categories.
  [[nodiscard]] Tensor one_hot(const std::string& name, At at = At::here()) const;
  /// The codes of a column of texts, int64 [rows], as `nn::cross_entropy` takes them. ValueError as
  /// for `one_hot`, and for a missing value.
  [[nodiscard]] Tensor labels(const std::string& name, At at = At::here()) const;
};

/// Reads a table in the format of RFC 4180: its lines end in LF or CRLF, and it has at most 1 MiB
/// per row and 4 GiB in total. The file may be compressed by gzip, whatever its name is.
///
/// Every row has as many fields as the first, which is not an empty line. Numbers are decimal with
/// a point, whatever the locale is, and may have spaces and tabs around them. Texts keep theirs;
/// an empty text is a category too, unless `missing` has it. A byte order mark is skipped.
///
/// The file is never in memory as a whole. Beyond the table, reading takes at most 16 MiB and, for
/// each column and each category, 200 bytes and its text twice: all in all less than 64 times the
/// size of the content.
/// IoError if the file cannot be read; FormatError with the path, the row and the column (both
/// count from 1, and the header is a row); ValueError for a name in `text` that is not that of
/// exactly one column, and for a delimiter that could be part of a number or a text, or that is a
/// quote or the end of a line.
[[nodiscard]] Csv read_csv(const std::string& path, const CsvOptions& options = {},
                           At at = At::here());

/// Writes a table that `read_csv` reads back with the same options, if `text` names its columns of
/// texts: `write_csv("xy.csv", {{"x", "y"}, values})`. A crash leaves the old file or the new one.
///
/// `values` may have any dtype. Numbers have the fewest digits from which the same number of that
/// dtype is read, so that float64 keeps its bits; a bool is 0 or 1. NaN is written as the first of
/// `missing`. Only texts that need quotes have them. `present` writes the header, `absent` does
/// not, and `automatic` does unless the columns are called "0", "1", ... and none has texts. The
/// reader numbers categories anew: codes change where a category of no row precedes others, or
/// where they do not come in the order of their rows.
///
/// ShapeError unless `values` is [rows, columns] and all columns or none have `categories`. IoError
/// if the file cannot be written. ValueError, with the name, the place in `values` or the row of
/// the file, for what the reader would refuse or take for something else: an infinity, a code
/// without a category, NaN if `missing` is empty, a number or a category that stands for a missing
/// value, equal categories, a NUL byte, a row longer than 1 MiB, a header that `automatic` would
/// not find.
void write_csv(const std::string& path, const Csv& table, const CsvOptions& options = {},
               At at = At::here());

}}  // namespace descent::data
