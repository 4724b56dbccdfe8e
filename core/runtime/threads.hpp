#pragma once
/// @file
/// How many threads work, and loops that they share.

#include <cstdint>

#include "descent/core/base/error.hpp"
#include "descent/core/base/float_mode.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Sets how many threads an operation may use, the caller included: 1 to 256, or ValueError.
/// Results do not depend on it. Counts from the next `parallel_for` on; threads start when needed.
void set_num_threads(int n, At at = At::here());

/// That number. At first DESCENT_NUM_THREADS (ValueError if it is not 1 to 256) or, where that is
/// not set, the number of CPUs that the process may use.
int num_threads();

namespace detail {

/// Calls tile(context, t) for each t in [0, tiles) on the caller and the pool's threads.
void run_tiles(int64_t tiles, void (*tile)(void* context, int64_t t), void* context);

/// What the pool did since `reset_pool_stats`. Loops that ran on their caller alone do not count.
struct PoolStats {
  int64_t jobs, tiles;
  int participants;  ///< threads that ran at least one tile
};
PoolStats pool_stats();
void reset_pool_stats();

}  // namespace detail

/// Calls f(t) once for each t in [0, tiles), in any order and on several threads at once.
/// How work is cut into tiles must follow from the problem alone, or results would depend on the
/// number of threads. The first exception, in the order of tiles, is rethrown after all calls have
/// ended; tiles behind it may be left out. While one `parallel_for` runs, those inside it and those
/// of other threads run on the thread that calls them. In every tile ops are recorded or not,
/// errors name lines and modules, as around the call; and floating numbers round to nearest.
template <class F> void parallel_for(int64_t tiles, F&& f) {
  const simd::DefaultFloatMode mode;
  if (tiles <= 1 || num_threads() == 1) {
    for (int64_t t = 0; t < tiles; ++t) f(t);
    return;
  }
  auto tile = [&f](int64_t t) { f(t); };
  detail::run_tiles(
      tiles, [](void* context, int64_t t) { (*static_cast<decltype(tile)*>(context))(t); }, &tile);
}

}  // namespace descent
