#include "descent/core/runtime/threads.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <exception>
#include <mutex>
#include <new>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "descent/core/base/context.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail {
namespace {

constexpr int max_threads = 256;
constexpr int chunks_per_thread = 16;  // so that a thread that starts late takes fewer

struct Job {
  int64_t tiles;
  void (*tile)(void* context, int64_t t);
  void* context;
  int chunks;
  Context caller = Context::current();
  std::atomic<int64_t> failed_tile = INT64_MAX;  // the lowest that threw
  std::exception_ptr error = nullptr;

  int64_t chunk_begin(int i) const {
    return tiles / chunks * i + std::min<int64_t>(i, tiles % chunks);
  }
};

/// The pool outlives every job. A worker touches a job only after it has claimed one of its chunks,
/// by one atomic step on `unclaimed`, and the caller returns when all claimed chunks are done.
struct Pool {
  std::atomic<bool> busy = false;  // whether a caller, the owner, runs a job
  int threads = 1, workers = 0;    // wanted, with the caller, and running; for the owner only
  pthread_t worker[max_threads] = {};
  Job* job = nullptr;
  std::mutex failing;
  alignas(64) std::atomic<int> round = 0;       // grows with each job; workers wait for that
  alignas(64) std::atomic<int> unclaimed = 0;   // chunks; if `ending`, workers return
  alignas(64) std::atomic<int> unfinished = 0;  // chunks
};
constexpr int ending = -1;

// Trivially destructible, because threads may be at work while the process exits.
constinit Pool pool;
static_assert(std::is_trivially_destructible_v<Pool>);

constinit std::atomic<int> wanted_threads = 0;  // 0: not yet known

constinit thread_local bool serial = false;  // see SerialGuard

constinit std::atomic<int64_t> stat_jobs = 0, stat_tiles = 0;
constinit std::atomic<int> stat_participants = 0;
constinit std::atomic<unsigned> stat_resets = 1;
constinit thread_local unsigned counted_since = 0;

// A worker spins for about 160 us before it sleeps, because waking it takes longer. This covers the
// time between two operations of a training step, when only one thread works. The owner spins for
// about 80 us: by then the last tile of the others is finished, or its thread has lost its CPU.
constexpr int worker_spins = 4000;
constexpr int owner_spins = 2000;

/// Returns when x differs from `old`. It reads x up to `spins` times, then it sleeps.
void wait_while(const std::atomic<int>& x, int old, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (x.load(std::memory_order_relaxed) != old) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  x.wait(old);
}

void run_chunk(Job& job, int i) {
  if (const unsigned resets = stat_resets; counted_since != resets) {
    counted_since = resets;
    stat_participants.fetch_add(1, std::memory_order_relaxed);
  }
  const int64_t end = job.chunk_begin(i + 1);
  for (int64_t t = job.chunk_begin(i); t < end && t < job.failed_tile; ++t) {
    try {
      job.tile(job.context, t);
    } catch (...) {
      std::lock_guard lock(pool.failing);
      if (t < job.failed_tile) {
        job.failed_tile = t;
        job.error = std::current_exception();
      }
    }
  }
}

/// Runs chunks of the current job until none is left to claim. False in a child process that was
/// forked meanwhile: the pool of the child is a new one, which does not know the job.
bool take_part() {
  for (;;) {
    int left = pool.unclaimed.load(std::memory_order_relaxed);
    do {
      if (left <= 0) return true;
    } while (!pool.unclaimed.compare_exchange_weak(left, left - 1, std::memory_order_acquire,
                                                   std::memory_order_relaxed));
    Job& job = *pool.job;
    job.caller.enter();
    run_chunk(job, job.chunks - left);
    if (pool.job != &job) return false;
    if (pool.unfinished.fetch_sub(1) == 1) pool.unfinished.notify_one();
  }
}

void* work(void*) {
  const simd::DefaultFloatMode mode;  // not the mode of the thread that started this one
  for (;;) {
    const int round = pool.round;
    if (pool.unclaimed == ending) return nullptr;
    if (!take_part()) _exit(EXIT_FAILURE);  // otherwise the child would report success
    wait_while(pool.round, round, worker_spins);
  }
}

/// Keeps this code in memory for the threads that run it, also if the static library is part of a
/// plugin that the program unloads.
void stay_loaded() {
  Dl_info self, program;
  const auto* const headers = reinterpret_cast<const void*>(getauxval(AT_PHDR));
  if (!dladdr(&pool, &self) || !self.dli_fname) return;
  if (dladdr(headers, &program) && program.dli_fbase == self.dli_fbase) return;  // never unloaded
  dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

/// Ends all workers and starts new ones. Only the owner calls it.
void resize(int threads) {
  if (threads == pool.threads) return;
  [[maybe_unused]] static const int once =
      (stay_loaded(), pthread_atfork(nullptr, nullptr, [] { new (&pool) Pool; }));
  pool.unclaimed = ending;
  ++pool.round;
  pool.round.notify_all();
  for (; pool.workers > 0; --pool.workers) pthread_join(pool.worker[pool.workers - 1], nullptr);
  pool.unclaimed = 0;
  pool.threads = threads;
  const SignalGuard none;
  while (pool.workers < threads - 1 &&  // if the system refuses one, the others do the work
         pthread_create(&pool.worker[pool.workers], nullptr, work, nullptr) == 0) {
    ++pool.workers;
  }
}

int default_threads() {
  const char* text = std::getenv("DESCENT_NUM_THREADS");
  if (text && *text) {
    const char* end = text + std::strlen(text);
    int n = 0;
    const auto [stop, error] = std::from_chars(text, end, n);
    if (error == std::errc() && stop == end && n >= 1 && n <= max_threads) return n;
    fail<ValueError>(At::unknown(), "DESCENT_NUM_THREADS: \"{}\": need 1 to {}", text, max_threads);
  }
  cpu_set_t mine;
  const int cpus = sched_getaffinity(0, sizeof mine, &mine) == 0
                       ? CPU_COUNT(&mine)
                       : static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cpus, 1, max_threads);
}

}  // namespace

void run_tiles(int64_t tiles, void (*tile)(void* context, int64_t t), void* context) {
  const int threads = num_threads();
  // This may be inside a job, or another caller may run one.
  if (serial || pool.busy || pool.busy.exchange(true)) {
    for (int64_t t = 0; t < tiles; ++t) tile(context, t);
    return;
  }
  resize(threads);
  Job job{tiles, tile, context,
          static_cast<int>(std::min<int64_t>(tiles, threads * chunks_per_thread))};
  pool.job = &job;
  pool.unfinished = job.chunks;
  pool.unclaimed = job.chunks;
  ++pool.round;
  for (int i = 1; i < std::min(threads, job.chunks); ++i) pool.round.notify_one();
  if (!take_part())
    fail<Error>(At::unknown(),
                "parallel_for: the process forked inside it: its child cannot finish the tiles "
                "that other threads had begun");
  while (const int left = pool.unfinished) wait_while(pool.unfinished, left, owner_spins);
  stat_jobs.fetch_add(1, std::memory_order_relaxed);
  stat_tiles.fetch_add(tiles, std::memory_order_relaxed);
  pool.busy = false;
  if (job.error) std::rethrow_exception(job.error);
}

PoolStats pool_stats() { return {stat_jobs, stat_tiles, stat_participants}; }

void reset_pool_stats() {
  stat_jobs = stat_tiles = stat_participants = 0;
  stat_resets.fetch_add(1);
}

}  // namespace detail

SignalGuard::SignalGuard() {
  sigset_t signals;
  sigfillset(&signals);
  for (int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGPROF}) sigdelset(&signals, s);
  pthread_sigmask(SIG_SETMASK, &signals, &before_);
}
SignalGuard::~SignalGuard() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

SerialGuard::SerialGuard() : before_(std::exchange(detail::serial, true)) {}
SerialGuard::~SerialGuard() { detail::serial = before_; }

void set_num_threads(int n, At at) {
  if (n < 1 || n > detail::max_threads)
    fail<ValueError>(at, "set_num_threads: {}: need 1 to {}", n, detail::max_threads);
  detail::wanted_threads = n;
}

int num_threads() {
  int n = detail::wanted_threads.load(std::memory_order_relaxed);
  if (n == 0) detail::wanted_threads = n = detail::default_threads();
  return n;
}

}  // namespace descent
