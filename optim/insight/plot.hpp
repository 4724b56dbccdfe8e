#pragma once
/// @file
/// The curve of a schedule as text.
#include <string>

#include "descent/optim/schedule.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// The size of a plot.
struct PlotOptions {
  /// - width: the number of columns in all
  /// - height: the number of lines of the curve
  int width = 72, height = 12;
};
/// The curve of steps 0, ..., steps - 1 as text, with its range. If there are more steps than
/// columns, only evenly spaced ones are drawn. ValueError unless steps >= 1, width is in [20,
/// 1000], height is in [2, 1000] and all values are finite.
[[nodiscard]] std::string plot(const Schedule& schedule, int64_t steps, PlotOptions options = {},
                               At at = At::here());

}}  // namespace descent::optim
