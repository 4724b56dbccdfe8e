#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <unistd.h>

// How and on what all are measured, whichever library does the work: for `bench` and for the peers'
// programs, so that it is the same.

namespace measure {

/// Seconds on a clock that all processes share.
inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Starts the program again, so that it knows when it was started: before its libraries were
/// loaded, and with what they cost.
inline double process_start(char** argv) {
  constexpr auto variable = "DESCENT_BENCH_STARTED";
  if (const char* started = std::getenv(variable)) return std::atof(started);
  char text[64];
  std::snprintf(text, sizeof text, "%.9f", now());
  setenv(variable, text, 1);
  execv("/proc/self/exe", argv);
  return now();
}

/// Megabytes: not getrusage's, which begin with those of the program that started this one.
inline double peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (double kilobytes = 0; word == "VmHWM:" && status >> kilobytes) return kilobytes / 1024;
  return 0;
}

/// The shortest of several repeats in so many seconds, at least two; `repeat` returns its time.
inline double best(double seconds, const std::function<double()>& repeat) {
  const double end = now() + seconds;
  double shortest = repeat();
  for (int i = 1; i < 2 || now() < end; ++i) shortest = std::min(shortest, repeat());
  return shortest;
}

/// The time of one call of `f`: the best of several batches, each long enough for the clock.
inline double per_call(const std::function<void()>& f) {
  auto batch = [&](int64_t count) {
    const double start = now();
    for (int64_t i = 0; i < count; ++i) f();
    return now() - start;
  };
  batch(1);  // warms up
  int64_t count = 1;
  double time = batch(1);
  while (time < 2e-3) time = batch(count *= 2);
  const double end = now() + 0.1;
  for (int i = 0; i < 3 || now() < end; ++i) time = std::min(time, batch(count));
  return time / static_cast<double>(count);
}

/// A convolution of square images with square kernels.
struct ConvCase {
  int64_t in, out, kernel, size, stride = 1, padding = 0, groups = 1, batch = 64;

  /// Such as conv_64-128_k3_s2_p1_g1_32x32_n64.
  std::string name() const {
    char text[160];
    std::snprintf(text, sizeof text, "conv_%ld-%ld_k%ld_s%ld_p%ld_g%ld_%ldx%ld_n%ld", in, out,
                  kernel, stride, padding, groups, size, size, batch);
    return text;
  }
};
// Each kind in use: those of `lenet` and `cnn`, ResNet-18's for images of 32 by 32, large kernels,
// depthwise and pointwise ones, and images or batches that are hardly there.
constexpr ConvCase conv_cases[] = {
    {1, 10, 5, 28},
    {10, 20, 5, 12},
    {1, 32, 3, 28},
    {32, 64, 3, 26},
    {3, 64, 3, 32, 1, 1},
    {64, 64, 3, 32, 1, 1},
    {64, 128, 3, 32, 2, 1},
    {128, 128, 3, 16, 1, 1},
    {128, 256, 3, 16, 2, 1},
    {256, 256, 3, 8, 1, 1},
    {256, 512, 3, 8, 2, 1},
    {512, 512, 3, 4, 1, 1},
    {64, 128, 1, 32, 2},
    {3, 64, 5, 64, 2, 2},
    {3, 64, 7, 64, 2, 3},
    {64, 64, 3, 16, 1, 1, 64},
    {256, 256, 3, 16, 1, 1, 256},
    {64, 256, 1, 16},
    {64, 64, 3, 1, 1, 1},
    {64, 64, 3, 16, 1, 1, 1, 3},
};

}  // namespace measure
