#pragma once
#include <CLI/CLI.hpp>
#include <cstdio>
#include <descent/descent.hpp>

// The command line that the examples share.

struct Options {
  std::string data = "";
  int64_t epochs = 5;
  int64_t batch_size = 64;
  double lr = 1e-3;
  uint64_t seed = 1;
  int threads = descent::num_threads();
  std::string progress = "auto";
  bool quiet = false;

  descent::data::ProgressOptions progress_options() const {
    using enum descent::data::ProgressMode;
    if (quiet || progress == "none") return {.mode = none};
    return {.mode = progress == "bar" ? bar : progress == "line" ? lines : automatic};
  }
};

/// Parses the command line over `options` (the defaults), says what is in effect, and runs the
/// example. Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 data missing or corrupt.
inline int run_example(int argc, char** argv, const std::string& name, const std::string& about,
                       Options options, void (*example)(const Options&)) try {
  CLI::App app(about, name);
  app.option_defaults()->always_capture_default();
  app.add_option("--data", options.data, "folder to read the data from");
  app.add_option("--epochs", options.epochs, "passes over the data")->check(CLI::Range(1, 1000000));
  app.add_option("--batch-size", options.batch_size, "examples per step; 0: all of them")
      ->check(CLI::Range(0, 1000000000));
  app.add_option("--lr", options.lr, "learning rate")->check(CLI::NonNegativeNumber);
  app.add_option("--seed", options.seed, "of initial values and shuffling");
  app.add_option("--threads", options.threads, "threads to use")->check(CLI::Range(1, 256));
  app.add_option("--progress", options.progress, "what to show on stderr")
      ->check(CLI::IsMember({"auto", "bar", "line", "none"}));
  app.add_flag("-q,--quiet", options.quiet, "print the last line only");
  app.set_version_flag("--version", "descent " + descent::version());
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    std::fprintf(stderr, "%s: %s; try --help\n", name.c_str(), e.what());
    return 2;
  }
  descent::set_num_threads(options.threads);
  descent::manual_seed(options.seed);
  if (!options.quiet)
    std::printf("%s: data %s, %ld epochs, batch size %ld, lr %g, seed %lu, %d threads\n",
                name.c_str(), options.data.empty() ? "none" : options.data.c_str(), options.epochs,
                options.batch_size, options.lr, options.seed, options.threads);
  example(options);
  return 0;
} catch (const descent::IoError& e) {
  std::fprintf(stderr, "%s: %s\n", name.c_str(), e.what());
  return 3;
} catch (const descent::FormatError& e) {
  std::fprintf(stderr, "%s: %s\n", name.c_str(), e.what());
  return 3;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s: %s\n", name.c_str(), e.what());
  return 1;
}
