#pragma once
#include <string>

#include "descent/optim/replay.hpp"

// What a rule's body recorded, as text.

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// One assignment of a rule's body.
struct Line {
  std::string name;     ///< what is assigned: "m"
  std::string formula;  ///< "m + (1 - beta1)·(g - m)"
  std::string numbers;  ///< "0.012 + (1 - 0.9)·(0.5 - 0.012)"
  std::string value;    ///< "0.0608": as few digits as read back the same bits
  double number;
};
using Lines = std::vector<Line>;

/// The recording's assignments, in their order.
[[nodiscard]] Lines lines_of(const Recording& recording);

/// The shortest text that reads back as this number in its precision.
[[nodiscard]] std::string shortest(double value, bool single);

}}  // namespace descent::optim
