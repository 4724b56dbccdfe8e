#pragma once
/// @file
/// How much memory the library holds, and may hold.

#include <bit>
#include <cstddef>
#include <cstdint>

#include "descent/core/base/error.hpp"

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
[[nodiscard]] MemoryStats memory_stats();

/// Gives cached memory back to the system: the shared cache and the calling thread's own.
void trim();

/// Limits `system_bytes`; 0, the default, means no limit.
/// A tensor that does not fit, even after `trim()`, throws OutOfMemory. ValueError if negative.
void set_memory_limit(int64_t bytes, At at = At::here());

namespace detail {

/// The class of a block's size. Sizes are multiples of 64 bytes up to 1 KiB and go on with eight
/// per doubling, so that at most an eighth is wasted.
inline std::size_t size_class(std::size_t bytes) {
  const std::size_t n = (bytes - (bytes > 0)) / 64;
  if (n < 16) [[likely]]
    return n;
  const auto shift = static_cast<std::size_t>(std::bit_width(n)) - 4;
  return 8 * shift + (n >> shift);
}

/// A free block. It overlays the objects of other types that lived and will live in its memory.
struct [[gnu::may_alias]] Block {
  Block* next;
};

inline void push(Block*& list, void* p) {
  auto* block = static_cast<Block*>(p);
  block->next = list;
  list = block;
}

inline Block* pop(Block*& list) {
  Block* block = list;
  if (block) list = block->next;  // which after a large graph is not in cache
  const auto next = reinterpret_cast<std::uintptr_t>(list);  // 0 at the end: no address to add to
  for (std::uintptr_t i = 0; i < 4; ++i)
    __builtin_prefetch(reinterpret_cast<const void*>(next + 64 * i), 1);
  return block;
}

template <class Int> void add_relaxed(Int& counter, Int delta) {
  __atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_RELAXED) + delta, __ATOMIC_RELAXED);
}

/// One thread's free blocks of the smaller classes and its share of the live counters.
/// Only the owner writes; `memory_stats` reads from anywhere, hence the relaxed atomics.
struct Front {
  static constexpr std::size_t classes = 56;  // up to 32 KiB

  Block* free[classes];
  int32_t room[classes];  // how many more blocks each list may take
  int64_t nodes, storages, bytes;
  bool owned;  // by a running thread
  Front* next;

  void put(std::size_t c, void* p) {
    push(free[c], p);
    add_relaxed(room[c], -1);
  }

  Block* take(std::size_t c) {
    Block* block = pop(free[c]);
    if (block) add_relaxed(room[c], 1);
    return block;
  }
};

/// The calling thread's front. Before its first slow call and after its end, one without blocks or
/// room that all such threads share.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Front* front;

/// For tests: where it is set and returns true, an allocation that no front can serve throws
/// OutOfMemory.
using Refusal = bool (*)();
extern constinit Refusal refuse_allocation;

void* allocate_slow(std::size_t bytes);
void deallocate_slow(void* p, std::size_t bytes) noexcept;
void count_slow(int nodes, int storages, int64_t bytes) noexcept;

/// A block of at least `bytes` bytes that this thread has at hand; null if it has none.
inline void* allocate_cached(std::size_t bytes) {
  const std::size_t c = size_class(bytes);
  return c < Front::classes ? front->take(c) : nullptr;
}
/// `bytes` bytes (0 too), aligned to 64, not initialised. SizeError, OutOfMemory.
inline void* allocate(std::size_t bytes) {
  if (void* block = allocate_cached(bytes)) [[likely]]
    return block;
  return allocate_slow(bytes);
}

/// Takes back what `allocate(bytes)` returned, on any thread, also after main.
inline void deallocate(void* p, std::size_t bytes) noexcept {
  const std::size_t c = size_class(bytes);
  if (c >= Front::classes || front->room[c] == 0) [[unlikely]]
    return deallocate_slow(p, bytes);
  front->put(c, p);
}

/// Counts a graph node that is born (1) or gone (-1).
inline void count_node(int delta) noexcept {
  if (!front->owned) [[unlikely]]
    return count_slow(delta, 0, 0);
  add_relaxed<int64_t>(front->nodes, delta);
}

/// Counts a storage that is born (1, its bytes) or gone (-1, minus its bytes).
inline void count_storage(int delta, int64_t bytes_delta) noexcept {
  if (!front->owned) [[unlikely]]
    return count_slow(0, delta, bytes_delta);
  add_relaxed<int64_t>(front->storages, delta);
  add_relaxed<int64_t>(front->bytes, bytes_delta);
}

}
}  // namespace descent::detail
