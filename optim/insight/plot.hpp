#pragma once
#include <string>

#include "descent/optim/schedule.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

struct PlotOptions {
  int width = 72, height = 12;  ///< columns in all; lines of the curve
};
/// The curve of steps 0, ..., steps - 1 as text, with its range. Where there are more steps than
/// columns, evenly spaced ones are drawn. ValueError unless steps >= 1, width in [20, 1000], height
/// in [2, 1000] and all values are finite.
[[nodiscard]] std::string plot(const Schedule& schedule, int64_t steps, PlotOptions options = {},
                               At at = At::here());

}}  // namespace descent::optim
