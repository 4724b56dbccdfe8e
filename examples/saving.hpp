#pragma once
#include <csignal>
#include <filesystem>
#include <optional>

#include "options.hpp"

// Checkpoints, logs and signals in the examples.

/// While it lives, the first SIGINT or SIGTERM only sets `signal()`; a second one ends the program
/// at once.
class StopOnSignal {
 public:
  StopOnSignal() { handle(note); }
  ~StopOnSignal() { handle(SIG_DFL); }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  /// The number of the signal; 0 if there was none.
  static int signal() { return signal_; }

 private:
  static void handle(void (*handler)(int)) {
    for (int number : {SIGINT, SIGTERM}) std::signal(number, handler);
  }
  static void note(int number) {
    signal_ = number;
    handle(SIG_DFL);
  }
  static inline volatile std::sig_atomic_t signal_ = 0;
};

/// Saves a run as --checkpoint, --save-every and signals ask for it.
class Saving {
 public:
  /// With --resume, goes on from the file if there is one. Without it, refuses to replace a file.
  Saving(const Options& options, descent::data::Checkpoint& run) : options_(options), run_(run) {
    if (options.checkpoint.empty()) {
      if (options.resume || options.save_every > 0)
        throw UsageError("--resume and --save-every need --checkpoint");
    } else if (options.resume) {
      resumed_ = run.resume().found;
      if (resumed_ && !options.quiet) std::printf("resumed %s\n", options.checkpoint.c_str());
    } else if (std::filesystem::exists(options.checkpoint)) {
      throw UsageError(options.checkpoint + " exists: --resume goes on with it");
    }
  }

  /// Call it after each step. A file that cannot be written is reported and does not end the
  /// training. After a signal it saves and throws Stopped.
  void after_step() {
    ++steps_;
    if (StopOnSignal::signal() != 0) {
      save();
      throw Stopped{StopOnSignal::signal()};
    }
    if (options_.save_every == 0 || steps_ % options_.save_every != 0) return;
    try {
      save();
    } catch (const descent::IoError& e) {
      std::fprintf(stderr, "warning: %s; the training goes on\n", e.what());
    }
  }
  void save() {
    if (!options_.checkpoint.empty()) run_.save();
  }

 private:
  const Options& options_;
  descent::data::Checkpoint& run_;
  bool resumed_ = false;
  int64_t steps_ = 0;
  StopOnSignal on_signal_;
};

/// Writes metrics into the folder of --log, for TensorBoard and as lines of JSON; does nothing
/// without it.
class Log {
 public:
  explicit Log(const Options& options) {
    if (options.log.empty()) return;
    events_.emplace(options.log);
    lines_.emplace(options.log + "/metrics.jsonl");
    events_->hyperparameters({{"lr", options.lr},
                              {"batch_size", options.batch_size},
                              {"epochs", options.epochs},
                              {"seed", static_cast<double>(options.seed)}});
  }
  explicit operator bool() const { return events_.has_value(); }

  void scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values) {
    if (!events_) return;
    descent::data::NamedValues line{{"step", step}};
    for (const auto& [name, value] : values) {
      events_->scalar(name, value, step);
      line.emplace_back(name, value);
    }
    lines_->write(line);
  }
  void histograms(int64_t step, const descent::NamedTensors& tensors) {
    if (!events_) return;
    for (const auto& [name, tensor] : tensors) events_->histogram(name, tensor, step);
  }

 private:
  std::optional<descent::data::EventWriter> events_;
  std::optional<descent::data::JsonLines> lines_;
};
