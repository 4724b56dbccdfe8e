#pragma once
/// @file
/// The number of threads that work, and loops that they share.

#include <csignal>
#include <cstdint>

#include "descent/core/base/error.hpp"
#include "descent/core/base/float_mode.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Sets how many threads an operation may use, the caller included. ValueError unless n is 1 to
/// 256. Results do not depend on it. It holds from the next `parallel_for` on; threads start when
/// they are needed.
void set_num_threads(int n, At at = At::here());

/// How many threads an operation may use. At first this is the environment variable
/// DESCENT_NUM_THREADS (ValueError if that is not 1 to 256) or, if that is not set, the number of
/// CPUs that the process may use.
int num_threads();

namespace detail {

/// Calls tile(context, t) for each t in [0, tiles) on the caller and the pool's threads.
void run_tiles(int64_t tiles, void (*tile)(void* context, int64_t t), void* context);

/// What the pool has done since `reset_pool_stats`. Loops that ran on the calling thread alone do
/// not count.
struct PoolStats {
  int64_t jobs, tiles;
  int participants;  ///< threads that ran at least one tile
};
PoolStats pool_stats();
void reset_pool_stats();

}  // namespace detail

/// While it lives, each `parallel_for` of this thread runs on this thread alone: for a thread that
/// works beside another one, to which the pool's threads shall be left.
class SerialGuard : Pinned {
 public:
  SerialGuard();
  ~SerialGuard();

 private:
  bool before_;
};

/// While it lives, this thread has all signals blocked, except those that a fault or a profiler
/// sends. Threads that it starts inherit this, so that a program's handlers run on its own threads.
class SignalGuard : Pinned {
 public:
  SignalGuard();
  ~SignalGuard();

 private:
  sigset_t before_;
};

/// Calls f(t) once for each t in [0, tiles), in any order and on several threads at once. The
/// problem alone must decide how work is cut into tiles, otherwise results would depend on the
/// number of threads. The exception of the first tile that throws, in the order of tiles, is
/// rethrown after all calls have ended; later tiles may be left out. While one `parallel_for` runs,
/// another one, inside it or on another thread, runs on the thread that calls it. In every tile,
/// ops are recorded if they are around the call, errors name the same lines and modules, and
/// floating-point numbers round to nearest.
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
