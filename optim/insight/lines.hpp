#pragma once
/// @file
/// What the body of a rule has recorded, as text.

#include <string>

#include "descent/optim/replay.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// One assignment in the body of a rule.
struct Line {
  std::string name;     ///< what is assigned: "m"
  std::string formula;  ///< "m + (1 - beta1)·(g - m)"
  std::string numbers;  ///< "0.012 + (1 - 0.9)·(0.5 - 0.012)"
  std::string value;    ///< "0.0608": the fewest digits that read back the same bits
  double number;        ///< `value` as a number
};
/// The assignments in their order.
using Lines = std::vector<Line>;

/// The assignments of a recording as text.
[[nodiscard]] Lines lines_of(const Recording& recording);

/// The shortest text that reads back as this number, as a float (`single`) or as a double.
[[nodiscard]] std::string shortest(double value, bool single);

}}  // namespace descent::optim
