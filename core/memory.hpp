#pragma once
#include <cstddef>
#include <cstdint>

#include "descent/core/error.hpp"

namespace [[gnu::visibility("default")]] descent {

/// What the library holds at this moment, over all threads.
struct MemoryStats {
  int64_t live_nodes;          ///< graph nodes
  int64_t live_storages;       ///< tensor buffers
  int64_t live_bytes;          ///< bytes in tensor buffers, as asked for
  int64_t cached_bytes;        ///< freed and kept for the next tensor
  int64_t system_bytes;        ///< taken from the system and not given back
  int64_t system_allocations;  ///< requests that the system granted since the process started
};

/// The counters, exact while no other thread makes or drops tensors.
MemoryStats memory_stats();

/// Gives cached memory back to the system: the shared cache and the calling thread's own.
void trim();

/// Limits `system_bytes`; 0, the default, means no limit.
/// A tensor that does not fit, even after `trim()`, throws OutOfMemory. ValueError if negative.
void set_memory_limit(int64_t bytes, At at = At::here());

/// Limits the bytes kept in the shared cache, 1 GiB by default. A program whose step frees more
/// than this is faster with a higher limit. ValueError if negative.
void set_cache_limit(int64_t bytes, At at = At::here());

namespace detail {

// Block sizes are multiples of 64 bytes up to 1 KiB and go on with eight classes per doubling, so
// that at most an eighth is wasted. Each thread keeps a few free blocks of the smaller classes,
// `central` in memory.cpp keeps the others.

/// A free block. It overlays the objects of other types that lived and will live in its memory.
struct [[gnu::may_alias]] Block {
  Block* next;
};

/// One thread's free blocks and its share of the live counters.
/// Only the owner writes; `memory_stats` reads from anywhere, hence the relaxed atomics.
struct Front {
  static constexpr std::size_t inline_classes = 16;  // up to 1 KiB
  static constexpr std::size_t classes = 56;         // up to 32 KiB

  Block* free[classes];
  int32_t room[classes];  // how many more blocks each list may take
  bool owned;             // false in the front of a thread that has none: it stays empty
  int64_t nodes, storages, bytes;
  Front* next;
};

/// The calling thread's front: shared and empty before its first slow call and after its end.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Front* front;

template <class Int> void add_relaxed(Int& counter, Int delta) {
  __atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_RELAXED) + delta, __ATOMIC_RELAXED);
}

void* allocate_slow(std::size_t bytes);
void deallocate_slow(void* p, std::size_t bytes) noexcept;
void count_slow(int nodes, int storages, int64_t bytes) noexcept;

/// The class of a block of up to 1 KiB; from `Front::inline_classes` on, a larger one.
inline std::size_t small_class(std::size_t bytes) { return bytes == 0 ? 0 : (bytes - 1) / 64; }

/// `bytes` bytes (0 too), aligned to 64, not initialised. SizeError, OutOfMemory.
inline void* allocate(std::size_t bytes) {
  const std::size_t c = small_class(bytes);
  Front& mine = *front;
  if (c >= Front::inline_classes || !mine.free[c]) [[unlikely]]
    return allocate_slow(bytes);
  Block* block = mine.free[c];
  mine.free[c] = block->next;
  add_relaxed(mine.room[c], 1);
  return block;
}

/// Takes back what `allocate(bytes)` returned, on any thread, also after main.
inline void deallocate(void* p, std::size_t bytes) noexcept {
  const std::size_t c = small_class(bytes);
  Front& mine = *front;
  if (c >= Front::inline_classes || mine.room[c] == 0) [[unlikely]] {
    return deallocate_slow(p, bytes);
  }
  Block* block = static_cast<Block*>(p);
  block->next = mine.free[c];
  mine.free[c] = block;
  add_relaxed(mine.room[c], -1);
}

/// Counts a graph node that is born (1) or gone (-1).
inline void count_node(int delta) noexcept {
  if (!front->owned) [[unlikely]]
    return count_slow(delta, 0, 0);
  add_relaxed<int64_t>(front->nodes, delta);
}

/// Counts a storage that is born (1, its bytes), gone (-1, minus its bytes) or resized (0, change).
inline void count_storage(int delta, int64_t bytes_delta) noexcept {
  if (!front->owned) [[unlikely]]
    return count_slow(0, delta, bytes_delta);
  add_relaxed<int64_t>(front->storages, delta);
  add_relaxed<int64_t>(front->bytes, bytes_delta);
}

/// For tests: of the coming requests to the system, the first `skip` are served and the next
/// `count` fail. A request that fails is repeated once, after `trim()`, and counts again.
void fail_system_allocations(int64_t skip, int64_t count);

}
}  // namespace descent::detail
