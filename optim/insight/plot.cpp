#include "descent/optim/insight/plot.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/core.h>

namespace [[gnu::visibility("default")]] descent { namespace optim {

std::string plot(const Schedule& schedule, int64_t steps, PlotOptions o, At at) {
  detail::require(steps >= 1, "plot: steps", static_cast<double>(steps), "at least 1", at);
  detail::require(o.width >= 20 && o.width <= 1000, "plot: width", o.width, "[20, 1000]", at);
  detail::require(o.height >= 2 && o.height <= 1000, "plot: height", o.height, "[2, 1000]", at);
  const int64_t last = steps - 1, gaps = o.width - 13;  // after "     0.001 ┤"
  std::vector<double> values;
  for (int64_t i = 0; i <= gaps; ++i) {  // n = round(last i / gaps), without overflow
    const int64_t n = last / gaps * i + (last % gaps * i + gaps / 2) / gaps;
    values.push_back(schedule(n, at));
    detail::require(std::isfinite(values.back()), "plot: a value", values.back(), "a number", at);
  }
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const auto eighths = [&, low = *low, range = *high - *low](double value) {
    return range > 0 ? 1 + std::lround((value - low) / range * (8 * o.height - 1)) : 4 * o.height;
  };
  const char* const blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string text;
  for (long row = o.height - 1; row >= 0; --row) {
    const auto here = [&](double value) { return (eighths(value) - 1) / 8 == row; };
    text += here(*high)  ? fmt::format("{:>10.4g} ┤", *high)
            : here(*low) ? fmt::format("{:>10.4g} ┤", *low)
                         : fmt::format("{:>10} │", "");
    for (double value : values) text += blocks[std::clamp(eighths(value) - 8 * row, 0L, 8L)];
    text.erase(text.find_last_not_of(' ') + 1) += '\n';
  }
  return text + fmt::format("{0:>10} └{0:─>{1}}\n{0:>12}0{2:>{3}}\n", "", gaps + 1, last, gaps);
}

}}  // namespace descent::optim
