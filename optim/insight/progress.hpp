#pragma once
/// @file
/// Shows the progress of a loop, on a terminal or in a log.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "descent/core/base/error.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// How progress is shown. `bar`: one line that is drawn again and again; `lines`: a line of
/// key=value pairs every 30 s and at the end; `automatic`: a bar on a terminal, lines elsewhere;
/// `none`: not at all.
enum class ProgressMode { automatic, bar, lines, none };

/// How and where progress is shown.
struct ProgressOptions {
  ProgressMode mode = ProgressMode::automatic;  ///< a bar or lines
  int fd = 2;                                   ///< the file descriptor to write to: stderr
};

/// What is shown.
struct ProgressView {
  std::string title;                                         ///< the text in front
  int64_t done = 0;                                          ///< steps that are done
  int64_t total = 0;                                         ///< steps in total; 0: not known
  double seconds = 0;                                        ///< since the start
  double rate = 0;                                           ///< steps per second; 0: not known
  std::vector<std::pair<std::string, double>> postfix = {};  ///< the names and values at the end
};

/// How a bar is drawn.
struct ProgressStyle {
  int width = 80;       ///< columns of the terminal; the last one stays free
  bool unicode = true;  ///< blocks; otherwise `#`
  bool color = false;   ///< whether escape sequences colour the bar
};

/// Shows how far a loop is, as tqdm does: at most ten times per second, with the rate (a moving
/// average with weight 0.3), the time left and the caller's own numbers.
///
///     epoch 1/5:  42%|████▏     | 394/938 [00:01<00:02, 310.52it/s, loss=0.2841]
///
/// Each step reads the clock. Text that cannot be written is dropped. The bar consists of `#` if
/// the locale is not UTF-8, and has a colour on a terminal unless NO_COLOR is set.
class Progress : Pinned {
 public:
  /// `total` is the number of steps, or 0 if it is not known. ValueError if it is negative.
  explicit Progress(int64_t total, const std::string& title = "", ProgressOptions options = {},
                    At at = At::here());
  /// Calls `close`.
  ~Progress();

  /// Notes that `steps` more steps are done.
  void update(int64_t steps = 1);
  /// Shows `name=value` from the next drawing on, in place of the last value of that name.
  void postfix(const char* name, double value);
  /// Draws the last state and ends the line; nothing is drawn after that.
  void close();

 private:
  void draw(bool last);

  ProgressOptions options_;
  double start_;       // seconds
  ProgressView view_;  // seconds and rate are of the last drawing
  /// The steps that were done at the last drawing; moving averages over the drawings.
  double drawn_ = 0, recent_steps_ = 0, recent_seconds_ = 0;
};

/// The text of a bar, never wider than the terminal.
std::string format_bar(const ProgressView& view, const ProgressStyle& style);
/// The text of a line: "epoch 1/5: step=394 total=938 seconds=1.3 rate=310.5 loss=0.2841".
std::string format_line(const ProgressView& view);

}}  // namespace descent::optim
