#include "descent/core/runtime/memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <malloc.h>
#include <mutex>
#include <new>
#include <pthread.h>
#include <sys/mman.h>
#include <type_traits>
#include <utility>

namespace [[gnu::visibility("default")]] descent {
namespace detail {
namespace {

// Under AddressSanitizer each block comes from the system, because a use after free of a cached
// block would not be seen. Only this file may decide this: a program and the library can be
// compiled with different options.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool caching = false;
#elif defined(__has_feature)
constexpr bool caching = !__has_feature(address_sanitizer);
#else
constexpr bool caching = true;
#endif

constexpr std::size_t classes = 439;  // sizes of larger blocks do not fit in int64_t

/// The size of the blocks of class c.
constexpr int64_t class_bytes(std::size_t c) {
  const std::size_t shift = c < 16 ? 0 : c / 8 - 1;
  return static_cast<int64_t>((c - 8 * shift + 1) * 64 << shift);
}

/// The bytes that a block for `bytes` bytes takes from the system.
std::size_t block_bytes(std::size_t bytes) {
  if (!caching) return std::max<std::size_t>(bytes, 1);
  return static_cast<std::size_t>(class_bytes(size_class(bytes)));
}

/// The number of blocks of class c that a thread may keep: 64 KiB of them, at least 2, at most 128.
constexpr int32_t front_limit(std::size_t c) {
  if (!caching) return 0;
  return static_cast<int32_t>(std::clamp<int64_t>((64 << 10) / class_bytes(c), 2, 128));
}

/// The cache that the threads share. It is trivially destructible, because tensors in global
/// variables are destroyed after everything else. The system is called under the lock too: a
/// program that has run for a while no longer needs the system.
struct Central {
  static constexpr int64_t kMaxCachedBytes = 1 << 30;

  std::mutex mutex;  // guards all that follows, and the list of fronts
  Block* free[classes];
  int64_t cached, held, limit, granted;  // bytes; `granted` counts requests
  std::size_t victim;                    // the class to shrink next

  void put(std::size_t c, void* p) {
    push(free[c], p);
    cached += class_bytes(c);
    // Shrinks all classes in turn, so that blocks of sizes that are no longer used go too.
    for (; cached > kMaxCachedBytes; victim = (victim + 1) % classes) give_back(victim);
  }

  Block* take(std::size_t c) {
    Block* block = pop(free[c]);
    if (block) cached -= class_bytes(c);
    return block;
  }

  /// Gives a block of class c back to the system; false if there is none.
  bool give_back(std::size_t c) {
    Block* block = take(c);
    if (!block) return false;
    std::free(block);
    held -= class_bytes(c);
    return true;
  }
};
constinit Central central{};
static_assert(std::is_trivially_destructible_v<Central>);

using Lock = std::lock_guard<std::mutex>;

/// The front of all threads that have none of their own: they change its counters under the lock.
/// It is the head of the list of all fronts.
constinit Front no_front{};

/// Moves up to `n` blocks of class c from a front to the shared cache.
void spill(Front& mine, std::size_t c, int32_t n) {
  for (; n > 0; --n)
    if (Block* block = mine.take(c)) central.put(c, block);
}

constinit thread_local bool ended = false;

/// Takes the front away from a thread that ends. The thread may still use tensors, in objects that
/// are destroyed later.
struct Ending {
  ~Ending() {
    Lock lock(central.mutex);
    for (std::size_t c = 0; c < Front::classes; ++c) {
      spill(*front, c, front_limit(c));
      front->room[c] = 0;
    }
    front->owned = false;
    front = &no_front;
    ended = true;
  }
};

/// The calling thread's front. It is made now if the thread has none; it is `no_front` once the
/// thread is ending. Fronts are never freed: a new thread takes over the front of an ended one,
/// with its counters.
Front& own_front() noexcept {
  if (front->owned || ended) return *front;
  // A fork while another thread holds the lock would leave it locked in the child for ever.
  [[maybe_unused]] static const int once = pthread_atfork(
      [] { central.mutex.lock(); }, [] { central.mutex.unlock(); }, [] { central.mutex.unlock(); });
  Lock lock(central.mutex);
  Front* mine = no_front.next;
  while (mine && mine->owned) mine = mine->next;
  if (!mine) {
    mine = new (std::nothrow) Front{};
    if (!mine) return no_front;
    mine->next = std::exchange(no_front.next, mine);
  }
  mine->owned = true;
  for (std::size_t c = 0; c < Front::classes; ++c) mine->room[c] = front_limit(c);
  front = mine;
  [[maybe_unused]] static thread_local Ending at_end;
  return *front;
}

/// A block of class c from the shared cache, or null. It also fills the front up to half its limit,
/// so that the next allocations do not need the lock.
void* fetch(Front& mine, std::size_t c) {
  Lock lock(central.mutex);
  Block* block = central.take(c);
  while (c < Front::classes && mine.room[c] > front_limit(c) / 2) {
    Block* spare = central.take(c);
    if (!spare) break;
    mine.put(c, spare);
  }
  return block;
}

/// New memory from the system, or null if the system or the limit refuses it.
void* try_system(std::size_t bytes) {
  const auto size = static_cast<int64_t>(bytes);
  Lock lock(central.mutex);
  if (size > (central.limit > 0 ? central.limit : INT64_MAX) - central.held) return nullptr;
  void* p = nullptr;
  if (posix_memalign(&p, 64, bytes) != 0) return nullptr;
#if defined(MADV_HUGEPAGE)  // fewer page faults, and fewer TLB misses in a large dataset
  const auto page = reinterpret_cast<std::uintptr_t>(p) / 4096 * 4096;
  if (bytes >= 4 << 20) madvise(reinterpret_cast<void*>(page), bytes, MADV_HUGEPAGE);
#endif
  central.held += size;
  ++central.granted;
  return p;
}

}  // namespace

[[gnu::tls_model("initial-exec")]] constinit thread_local Front* front = &no_front;
constinit Refusal refuse_allocation = nullptr;

void* allocate_slow(std::size_t bytes) {
  const std::size_t c = size_class(bytes);
  if (c >= classes)
    fail<SizeError>(At::unknown(), "allocate: {} bytes are too many: sizes end at {}", bytes,
                    INT64_MAX);
  if (!refuse_allocation || !refuse_allocation()) {
    if (void* p = fetch(own_front(), c)) return p;
    if (void* p = try_system(block_bytes(bytes))) return p;
    trim();
    if (void* p = try_system(block_bytes(bytes))) return p;
  }
  Lock lock(central.mutex);
  throw OutOfMemory(bytes, static_cast<std::size_t>(central.held),
                    static_cast<std::size_t>(central.limit));
}

void deallocate_slow(void* p, std::size_t bytes) noexcept {
  Front& mine = own_front();
  const std::size_t c = size_class(bytes);
  Lock lock(central.mutex);
  if (!caching) {
    std::free(p);
    central.held -= static_cast<int64_t>(block_bytes(bytes));
    return;
  }
  if (c < Front::classes) spill(mine, c, front_limit(c) / 2);
  central.put(c, p);
}

void count_slow(int nodes, int storages, int64_t bytes) noexcept {
  Front& mine = own_front();
  Lock lock(central.mutex);
  add_relaxed<int64_t>(mine.nodes, nodes);
  add_relaxed<int64_t>(mine.storages, storages);
  add_relaxed<int64_t>(mine.bytes, bytes);
}

}  // namespace detail

using namespace detail;

MemoryStats memory_stats() {
  const auto load = [](auto& x) { return __atomic_load_n(&x, __ATOMIC_RELAXED); };
  Lock lock(central.mutex);
  MemoryStats s{0, 0, 0, central.cached, central.held, central.granted};
  for (Front* f = &no_front; f; f = f->next) {
    s.live_nodes += load(f->nodes);
    s.live_storages += load(f->storages);
    s.live_bytes += load(f->bytes);
    for (std::size_t c = 0; c < Front::classes && f->owned; ++c)
      s.cached_bytes += (front_limit(c) - load(f->room[c])) * class_bytes(c);
  }
  return s;
}

void trim() {
  {
    Lock lock(central.mutex);
    for (std::size_t c = 0; c < Front::classes; ++c) spill(*front, c, front_limit(c));
    for (std::size_t c = 0; c < classes; ++c)
      while (central.give_back(c)) {}
  }
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

void set_memory_limit(int64_t bytes, At at) {
  if (bytes < 0) fail<ValueError>(at, "set_memory_limit: {} bytes: need 0 (none) or more", bytes);
  Lock lock(central.mutex);
  central.limit = bytes;
}

}  // namespace descent
