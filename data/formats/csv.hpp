#pragma once
/// @file
/// Tables of numbers from CSV files.

#include <string>
#include <vector>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// Whether the first row of a CSV file names the columns. `automatic`: it does if it has texts and
/// no numbers; a row with both is a FormatError. Fields that stand for a missing value are neither.
enum class Header { automatic, present, absent };

/// The form of a CSV file.
struct CsvOptions {
  char delimiter = ',';               ///< between fields
  Header header = Header::automatic;  ///< whether the first row names the columns
  /// Fields that stand for a missing value and are read as NaN, such as {"", "NA", "?"}. All other
  /// fields must be finite numbers.
  std::vector<std::string> missing = {};
};

/// A table of numbers.
struct Csv {
  std::vector<std::string> columns;  ///< the header's names, or "0", "1", ...
  Tensor values;                     ///< float64 [rows, columns]

  /// The column of this name, [rows]: a view of `values`. ValueError unless there is exactly one.
  [[nodiscard]] Tensor column(const std::string& name, At at = At::here()) const;
};

/// Reads a table of numbers in the format of RFC 4180: its lines end in LF or CRLF, and it has at
/// most 1 MiB per row and 4 GiB in total. The file may be compressed by gzip, whatever its name is.
/// It is never in memory as a whole.
///
/// Every row has as many fields as the first, which is not an empty line. Numbers are decimal with
/// a point, whatever the locale is, and may have spaces and tabs around them. A byte order mark is
/// skipped.
/// IoError if the file cannot be read; FormatError with the path, the row and the column (both
/// count from 1, and the header is a row); ValueError for a delimiter that could be part of a
/// number or a name, or that is a quote or the end of a line.
[[nodiscard]] Csv read_csv(const std::string& path, const CsvOptions& options = {},
                           At at = At::here());

}}  // namespace descent::data
