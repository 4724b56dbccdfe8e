#pragma once
/// @file
/// Tables of numbers from CSV files.

#include <string>
#include <vector>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// Whether a CSV file's first row names its columns. `automatic`: it does if it has texts and no
/// number, whatever stands for a missing value aside; numbers beside texts are a FormatError.
enum class Header { automatic, present, absent };

/// How a CSV file is written.
struct CsvOptions {
  char delimiter = ',';               ///< between fields
  Header header = Header::automatic;  ///< whether the first row names the columns
  /// Fields that stand for a missing value and are read as NaN, such as {"", "NA", "?"}. All others
  /// must be finite numbers.
  std::vector<std::string> missing = {};
};

/// A table of numbers.
struct Csv {
  std::vector<std::string> columns;  ///< the header's names, or "0", "1", ...
  Tensor values;                     ///< float64 [rows, columns]

  /// The column of this name, [rows]: a view of `values`. ValueError unless there is exactly one.
  [[nodiscard]] Tensor column(const std::string& name, At at = At::here()) const;
};

/// Reads a table of numbers: RFC 4180, lines ending in LF or CRLF, at most 1 MiB per row and 4 GiB
/// in all. The file may be gzip-compressed, whatever its name. It is never in memory as a whole.
///
/// Every row has as many fields as the first, which is not an empty line. Numbers are decimal with
/// a point, whatever the locale, and may have spaces round them. A byte order mark is skipped.
/// IoError if the file cannot be read; FormatError with the path, row and column (both from 1, the
/// header being a row); ValueError for a delimiter that could be part of a number or a quote.
[[nodiscard]] Csv read_csv(const std::string& path, const CsvOptions& options = {},
                           At at = At::here());

}}  // namespace descent::data
