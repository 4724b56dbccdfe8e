#pragma once
#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <descent/descent.hpp>

// The command line that the examples share.

struct Options {
  std::string data = "";
  int64_t epochs = 5;
  int64_t batch_size = 64;
  double lr = 1e-3;
  uint64_t seed = 1;
  int threads = 0;
  std::string progress = "auto";
  bool quiet = false;
  std::string model = "", optimizer = "", schedule = "";
  std::vector<std::string> models = {}, optimizers = {}, schedules = {};  // none: no such option
  bool explain = false;
  bool trains = false;  // whether there is a run that can be saved and logged
  std::string checkpoint = "", export_to = "", log = "", weights = "";
  int64_t save_every = 0;  // steps; 0: when a run ends, and at a signal
  bool resume = false, takes_weights = false;

  descent::optim::ProgressOptions progress_options() const {
    using enum descent::optim::ProgressMode;
    if (quiet || progress == "none") return {.mode = none};
    return {.mode = progress == "bar" ? bar : progress == "line" ? lines : automatic};
  }
};

/// Accepts decimal numbers from `low` to `high`: CLI11's own conversions read 010 as 8 and take a
/// NaN for a number.
template <class T> CLI::Validator within(T low, T high) {
  auto refused = [low, high](std::string& text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool good =
        error == std::errc() && end == text.data() + text.size() && value >= low && value <= high;
    if (!good)
      return text + ": need a number from " + descent::str(low) + " to " + descent::str(high);
    if (std::is_integral_v<T>) text = descent::str(value);  // without leading zeros
    return std::string();
  };
  return CLI::Validator(refused, "");
}

/// The command line asks for something that cannot be.
struct UsageError : std::runtime_error {
  using runtime_error::runtime_error;
};
/// A signal has ended the training, which was saved if that was asked for.
struct Stopped {
  int signal;
};

/// Parses the command line over `options` (the defaults), says what is in effect, and runs the
/// example. Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 data missing or corrupt, 128 + the
/// number of a signal that ended it.
inline int run_example(int argc, char** argv, const std::string& name, const std::string& about,
                       Options options, void (*example)(const Options&)) try {
  std::signal(SIGPIPE, SIG_IGN);                   // a closed pipe does not stop the training
  std::setvbuf(stdout, nullptr, _IOLBF, 1 << 12);  // lines appear as they are written, in files too
  CLI::App app(about, name);
  app.option_defaults()->always_capture_default();
  if (!options.data.empty()) app.add_option("--data", options.data, "folder to read the data from");
  app.add_option("--epochs", options.epochs, "passes over the data")
      ->transform(within<int64_t>(1, 1000000));
  app.add_option("--batch-size", options.batch_size, "examples per step; 0: all of them")
      ->transform(within<int64_t>(0, 1000000000));
  app.add_option("--lr", options.lr,
                 options.lr > 0 ? "learning rate" : "learning rate; 0: one that suits the rule")
      ->transform(within(0.0, 1e300));
  app.add_option("--seed", options.seed, "of initial values and shuffling")
      ->transform(within<uint64_t>(0, UINT64_MAX));
  app.add_option("--threads", options.threads,
                 "threads to use; 0: DESCENT_NUM_THREADS, or all CPUs")
      ->transform(within(0, 256));
  app.add_option("--progress", options.progress, "what to show on stderr")
      ->check(CLI::IsMember({"auto", "bar", "line", "none"}));
  if (!options.models.empty())
    app.add_option("--model", options.model, "what to train")->check(CLI::IsMember(options.models));
  if (!options.optimizers.empty())
    app.add_option("--optimizer", options.optimizer, "the update rule")
        ->check(CLI::IsMember(options.optimizers));
  if (!options.schedules.empty()) {
    app.add_option("--schedule", options.schedule, "of the learning rate")
        ->check(CLI::IsMember(options.schedules));
    app.add_flag("--explain", options.explain, "show what a step does, number by number");
  }
  if (options.trains) {
    app.add_option("--checkpoint", options.checkpoint,
                   "file that the run is saved to after each epoch, and when SIGINT or SIGTERM "
                   "stops it");
    app.add_option("--save-every", options.save_every, "steps after which to save too; 0: none")
        ->transform(within<int64_t>(0, 1000000000));
    app.add_flag("--resume", options.resume, "go on from the checkpoint, if there is one");
    app.add_option("--export", options.export_to, "file for the trained weights (safetensors)");
    app.add_option("--log", options.log, "folder for metrics: TensorBoard's events, JSON lines");
  }
  if (options.takes_weights)
    app.add_option("--weights", options.weights, "file that mnist --export has written")
        ->required();
  app.add_flag("-q,--quiet", options.quiet, "print the last line only");
  app.set_version_flag("--version", "descent " + descent::version());
  try {
    app.parse(argc, argv);
    if (options.threads != 0) descent::set_num_threads(options.threads);
    descent::manual_seed(options.seed);
    if (!options.quiet)
      std::printf("%s: data %s, %ld epochs, batch size %ld, lr %g, seed %lu, %d threads\n",
                  name.c_str(), options.data.empty() ? "none" : options.data.c_str(),
                  options.epochs, options.batch_size, options.lr, options.seed,
                  descent::num_threads());
    example(options);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0) {
      std::fprintf(stderr, "%s: %s; try --help\n", name.c_str(), e.what());
      return 2;
    }
    app.exit(e);  // --help, --version
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout))
    throw std::runtime_error("cannot write to stdout");
  return 0;
} catch (const Stopped& stopped) {
  std::fprintf(stderr, "%s: stopped by a signal\n", name.c_str());
  return 128 + stopped.signal;
} catch (const UsageError& e) {
  std::fprintf(stderr, "%s: %s; try --help\n", name.c_str(), e.what());
  return 2;
} catch (const descent::IoError& e) {
  std::fprintf(stderr, "error: %s\n", e.what());
  return 3;
} catch (const descent::FormatError& e) {
  std::fprintf(stderr, "error: %s\n", e.what());
  return 3;
} catch (const std::exception& e) {
  std::fprintf(stderr, "error: %s\n", e.what());
  return 1;
}
