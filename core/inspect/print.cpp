#include "descent/core/inspect/print.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <ostream>

#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/indexing.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

constexpr int64_t kMaxShownElements = 1000;  // a larger tensor is shown without its middle
constexpr int64_t kEdgeSteps = 3;            // shown of it at each end of an axis
constexpr int64_t kLineColumns = 80;         // width of a line
constexpr int kMaxDecimals = 4;

/// x without the middle of each long axis.
Tensor take_edges(Tensor x) {
  for (int d = 0; d < x.dim(); ++d) {
    const int64_t n = x.shape()[d];
    if (n <= 2 * kEdgeSteps) continue;
    std::vector<int64_t> ends;
    for (int64_t i = 0; i < 2 * kEdgeSteps; ++i)
      ends.push_back(i < kEdgeSteps ? i : n - 2 * kEdgeSteps + i);
    x = index_select(x, d, tensor(ends));
  }
  return x;
}

/// Whether fixed decimals would hide the size of the numbers.
bool needs_exponent(const std::vector<double>& values) {
  double largest = 0, smallest = HUGE_VAL;
  for (double v : values) {
    if (v == 0 || !std::isfinite(v)) continue;
    largest = std::max(largest, std::abs(v));
    smallest = std::min(smallest, std::abs(v));
  }
  return largest != 0 && (largest >= 1e8 || largest < 1e-3 || smallest < 5e-5);
}

/// The decimals that v needs, at most kMaxDecimals.
int decimals_of(double v, bool exponent) {
  const std::string text =
      exponent ? fmt::format("{:.{}e}", v, kMaxDecimals) : fmt::format("{:.{}f}", v, kMaxDecimals);
  const std::size_t point = text.find('.');
  std::size_t last = point + kMaxDecimals;
  while (text[last] == '0') --last;
  return static_cast<int>(last - point);
}

std::vector<std::string> float_cells(const std::vector<double>& values) {
  const bool exponent = needs_exponent(values);
  int decimals = 0;
  for (double v : values)
    if (std::isfinite(v)) decimals = std::max(decimals, decimals_of(v, exponent));
  std::vector<std::string> cells;
  for (double v : values) {
    if (std::isnan(v)) cells.emplace_back("nan");  // whatever its sign
    else if (exponent) cells.push_back(fmt::format("{:.{}e}", v, decimals));
    else cells.push_back(fmt::format("{:#.{}f}", v, decimals));
  }
  return cells;
}

/// The elements of x as text of one width, in row-major order.
std::vector<std::string> cells_of(const Tensor& x) {
  std::vector<std::string> cells;
  if (is_floating(x.dtype())) cells = float_cells(x.to_vector<double>());
  else
    for (int64_t v : x.to_vector<int64_t>())
      cells.push_back(x.dtype() == int64 ? fmt::format("{}", v) : v != 0 ? "true" : "false");
  std::size_t width = 0;
  for (const std::string& cell : cells) width = std::max(width, cell.size());
  for (std::string& cell : cells) cell.insert(0, width - cell.size(), ' ');
  return cells;
}

/// Writes brackets and cells, axis by axis.
struct Layout {
  const Shape& shown;
  const Shape& full;
  std::vector<std::string> cells;
  std::size_t next = 0;
  std::string out;

  void write_axis(int d) {
    if (d == full.rank()) {
      out += cells[next++];
      return;
    }
    const bool last = d + 1 == full.rank();
    const auto indent = static_cast<std::size_t>(d) + 1;
    // Rows begin on a new line, matrices after an empty line, and so on.
    const std::string step =
        "," + std::string(static_cast<std::size_t>(std::max(1, full.rank() - 1 - d)), '\n') +
        std::string(indent, ' ');
    const int64_t room = kLineColumns - static_cast<int64_t>(indent);
    const int64_t per_line =
        std::max<int64_t>(1, room / (static_cast<int64_t>(cells[0].size()) + 2));
    out += '[';
    for (int64_t i = 0; i < shown[d]; ++i) {
      const std::string separator = last && i % per_line != 0 ? ", " : step;
      if (i > 0) out += separator;
      if (i == kEdgeSteps && shown[d] != full[d]) out += "..." + separator;
      write_axis(d + 1);
    }
    out += ']';
  }
};

}  // namespace

std::string str(const Tensor& x) {
  if (!x.defined()) return "undefined";
  const std::string kind = fmt::format("{} {}{}", str(x.dtype()), str(x.shape()),
                                       x.requires_grad() ? ", requires_grad" : "");
  if (x.numel() == 0) return "[]  " + kind;
  const Tensor shown = x.numel() > kMaxShownElements ? take_edges(x.detach()) : x.detach();
  Layout layout{shown.shape(), x.shape(), cells_of(shown), 0, ""};
  layout.write_axis(0);
  return layout.out + (x.dim() == 0 ? "  " : "\n") + kind;
}

std::ostream& operator<<(std::ostream& out, const Tensor& x) { return out << str(x); }
std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << str(shape); }
std::ostream& operator<<(std::ostream& out, DType dtype) { return out << str(dtype); }

}  // namespace descent
