#include "descent/core/memory.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <malloc.h>
#include <mutex>
#include <new>
#include <pthread.h>

#include "descent/core/checked.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail {
namespace {

// Under AddressSanitizer each block is the system's own, or a use after free would go unseen. Only
// this file may decide it: a program and the library can be compiled differently.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool caching = false;
#elif defined(__has_feature)
constexpr bool caching = !__has_feature(address_sanitizer);
#else
constexpr bool caching = true;
#endif

std::size_t class_of(std::size_t bytes) noexcept {
  const std::size_t n = bytes == 0 ? 0 : (bytes - 1) / 64;
  const auto shift = n < 16 ? 0 : static_cast<std::size_t>(std::bit_width(n)) - 4;
  return 8 * shift + (n >> shift);
}

constexpr std::size_t class_bytes(std::size_t c) noexcept {
  const std::size_t shift = c < 16 ? 0 : c / 8 - 1;
  return (c - 8 * shift + 1) * 64 << shift;
}

constexpr std::size_t classes = 440;  // class_of(INT64_MAX) + 1

/// How many blocks of a class a thread may keep: 64 KiB, but at least two and at most 128.
constexpr int32_t front_limit(std::size_t c) noexcept {
  if (!caching) return 0;
  return static_cast<int32_t>(std::clamp<std::size_t>((64 << 10) / class_bytes(c), 2, 128));
}

void push(Block*& list, Block* block) {
  block->next = list;
  list = block;
}

Block* pop(Block*& list) {
  Block* block = list;
  if (block) list = block->next;
  return block;
}

/// What the threads share. Trivially destructible: tensors in globals die after everything else.
struct Central {
  std::mutex mutex;  // guards all that follows
  Block* free[classes]{};
  Front* fronts = nullptr;
  int64_t cached = 0, cache_limit = 1 << 30;
  int64_t held = 0, limit = 0, granted = 0;
  int64_t nodes = 0, storages = 0, bytes = 0;  // counted by threads without a front
  int64_t fail_skip = 0, fail_count = 0;
  std::size_t evict_next = 0;

  void put(std::size_t c, Block* block) {
    push(free[c], block);
    cached += static_cast<int64_t>(class_bytes(c));
  }

  Block* take(std::size_t c) {
    Block* block = pop(free[c]);
    if (block) cached -= static_cast<int64_t>(class_bytes(c));
    return block;
  }

  bool reserve(int64_t size) {
    if (fail_skip > 0) {
      --fail_skip;
    } else if (fail_count > 0) {
      --fail_count;
      return false;
    }
    if (size > (limit > 0 ? limit : INT64_MAX) - held) return false;
    held += size;
    return true;
  }

  /// Takes a block of class c out, for `release` once the lock is gone; false if there is none.
  bool doom(std::size_t c, Block*& doomed) {
    Block* block = take(c);
    if (!block) return false;
    push(doomed, block);
    held -= static_cast<int64_t>(class_bytes(c));
    return true;
  }

  /// What exceeds the limit: blocks of all classes in turn, so that those of sizes no longer used
  /// go too.
  void shrink(Block*& doomed) {
    while (cached > cache_limit) {
      evict_next = (evict_next + 1) % classes;
      doom(evict_next, doomed);
    }
  }
};
constinit Central central;
constinit Front no_front{};

void release(Block* doomed) noexcept {
  while (Block* block = pop(doomed)) std::free(block);
}

/// The lock on `central`; what is doomed under it is released after it.
struct Locked : Pinned {
  Block* doomed = nullptr;
  Locked() { central.mutex.lock(); }
  ~Locked() {
    central.mutex.unlock();
    release(doomed);
  }
};

/// Moves blocks of a class from a front to the shared cache until `keep` are left.
void spill(Front& mine, std::size_t c, int32_t keep) {
  while (front_limit(c) - mine.room[c] > keep) {
    central.put(c, pop(mine.free[c]));
    add_relaxed(mine.room[c], 1);
  }
}

constinit thread_local bool retired = false;

struct FrontOwner {
  Front* mine = nullptr;
  ~FrontOwner() {
    if (!mine) return;
    retired = true;
    front = &no_front;
    Locked lock;
    for (std::size_t c = 0; c < Front::classes; ++c) {
      spill(*mine, c, 0);
      mine->room[c] = 0;
    }
    mine->owned = false;
    central.shrink(lock.doomed);
  }
};
thread_local FrontOwner front_owner;

// A fork while another thread holds the lock would leave it locked in the child for ever.
void survive_fork() {
  [[maybe_unused]] static const int once = pthread_atfork(
      [] { central.mutex.lock(); }, [] { central.mutex.unlock(); }, [] { central.mutex.unlock(); });
}

/// The calling thread's front, made now if it has none; `no_front` once the thread is ending.
/// Fronts are never freed: the next new thread takes over that of an ended one, counters included.
Front& own_front() noexcept {
  if (front->owned || retired) return *front;
  survive_fork();
  {
    Locked lock;
    Front* mine = central.fronts;
    while (mine && mine->owned) mine = mine->next;
    if (!mine) {
      mine = new (std::nothrow) Front{};
      if (!mine) return no_front;
      mine->next = central.fronts;
      central.fronts = mine;
    }
    mine->owned = true;
    for (std::size_t c = 0; c < Front::classes; ++c) mine->room[c] = front_limit(c);
    front = mine;
  }
  front_owner.mine = front;
  return *front;
}

/// Memory from the system, untouched, or null.
void* try_system(std::size_t bytes) {
  const int64_t size = checked_size(bytes, "allocate", At::unknown());
  if (Locked lock; !central.reserve(size)) return nullptr;
  void* p = nullptr;
  const bool granted = posix_memalign(&p, 64, bytes) == 0;
  Locked lock;
  if (granted) {
    ++central.granted;
    return p;
  }
  central.held -= size;
  return nullptr;
}

/// The same, or OutOfMemory; `asked` is for the message.
void* system_allocate(std::size_t bytes, std::size_t asked) {
  if (void* p = try_system(bytes)) return p;
  trim();
  if (void* p = try_system(bytes)) return p;
  Locked lock;
  throw OutOfMemory(asked, static_cast<std::size_t>(central.held),
                    static_cast<std::size_t>(central.limit));
}

/// A cached block, and half a front's worth more of them for the front, or null.
void* fetch(Front& mine, std::size_t c) {
  Locked lock;
  Block* block = central.take(c);
  if (c >= Front::classes) return block;
  while (mine.room[c] > front_limit(c) / 2) {
    Block* spare = central.take(c);
    if (!spare) break;
    push(mine.free[c], spare);
    add_relaxed(mine.room[c], -1);
  }
  return block;
}

}  // namespace

[[gnu::tls_model("initial-exec")]] constinit thread_local Front* front = &no_front;

void* allocate_slow(std::size_t bytes) {
  checked_size(bytes, "allocate", At::unknown());
  Front& mine = own_front();
  if (!caching) return system_allocate(std::max<std::size_t>(bytes, 1), bytes);
  const std::size_t c = class_of(bytes);
  if (c < Front::classes && mine.free[c]) {
    add_relaxed(mine.room[c], 1);
    return pop(mine.free[c]);
  }
  void* block = fetch(mine, c);
  return block ? block : system_allocate(class_bytes(c), bytes);
}

void deallocate_slow(void* p, std::size_t bytes) noexcept {
  Front& mine = own_front();
  const std::size_t c = class_of(bytes);
  Block* block = static_cast<Block*>(p);
  if (!caching) {
    std::free(p);
    Locked lock;
    central.held -= static_cast<int64_t>(std::max<std::size_t>(bytes, 1));
  } else if (c < Front::classes && mine.owned) {
    if (mine.room[c] == 0) {
      Locked lock;
      spill(mine, c, front_limit(c) / 2);
      central.shrink(lock.doomed);
    }
    push(mine.free[c], block);
    add_relaxed(mine.room[c], -1);
  } else {
    Locked lock;
    central.put(c, block);
    central.shrink(lock.doomed);
  }
}

void count_slow(int nodes, int storages, int64_t bytes) noexcept {
  Front& mine = own_front();
  if (mine.owned) {
    add_relaxed<int64_t>(mine.nodes, nodes);
    add_relaxed<int64_t>(mine.storages, storages);
    add_relaxed<int64_t>(mine.bytes, bytes);
  } else {
    Locked lock;
    central.nodes += nodes;
    central.storages += storages;
    central.bytes += bytes;
  }
}

void fail_system_allocations(int64_t skip, int64_t count) {
  Locked lock;
  central.fail_skip = skip;
  central.fail_count = count;
}

void throw_size_error(const char* what, int64_t a, const char* sign, int64_t b, At at) {
  fail<SizeError>(at, "{}: {} {} {} is too large: sizes end at {}", what, a, sign, b, INT64_MAX);
}

void throw_size_error(const char* what, std::size_t n, At at) {
  fail<SizeError>(at, "{}: {} is too large: sizes end at {}", what, n, INT64_MAX);
}

}  // namespace detail

using namespace detail;

MemoryStats memory_stats() {
  const auto load = [](auto& x) { return __atomic_load_n(&x, __ATOMIC_RELAXED); };
  Locked lock;
  MemoryStats s{central.nodes,  central.storages, central.bytes,
                central.cached, central.held,     central.granted};
  for (Front* f = central.fronts; f; f = f->next) {
    s.live_nodes += load(f->nodes);
    s.live_storages += load(f->storages);
    s.live_bytes += load(f->bytes);
    for (std::size_t c = 0; c < Front::classes && f->owned; ++c) {
      s.cached_bytes += (front_limit(c) - load(f->room[c])) * static_cast<int64_t>(class_bytes(c));
    }
  }
  return s;
}

void trim() {
  {
    Locked lock;
    if (front->owned) {
      for (std::size_t c = 0; c < Front::classes; ++c) spill(*front, c, 0);
    }
    for (std::size_t c = 0; c < classes; ++c)
      while (central.doom(c, lock.doomed)) {}
  }
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

void set_memory_limit(int64_t bytes, At at) {
  if (bytes < 0) {
    fail<ValueError>(at, "set_memory_limit: {} bytes: need 0 (none) or more", bytes);
  }
  Locked lock;
  central.limit = bytes;
}

void set_cache_limit(int64_t bytes, At at) {
  if (bytes < 0) { fail<ValueError>(at, "set_cache_limit: {} bytes: need 0 or more", bytes); }
  Locked lock;
  central.cache_limit = bytes;
  central.shrink(lock.doomed);
}

}  // namespace descent
