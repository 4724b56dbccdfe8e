#pragma once
/// @file
/// The memory that the library holds, and its limit.

#include <bit>
#include <cstddef>
#include <cstdint>

#include "descent/core/base/error.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The memory that the library holds at this moment, for all threads together.
struct MemoryStats {
  int64_t live_nodes;          ///< graph nodes
  int64_t live_storages;       ///< tensor buffers
  int64_t live_bytes;          ///< bytes that were asked for in tensor buffers
  int64_t cached_bytes;        ///< bytes that are free and kept for later tensors
  int64_t system_bytes;        ///< bytes taken from the system and not given back
  int64_t system_allocations;  ///< requests that the system granted since the process started
};

/// The counters. They are exact while no other thread makes or destroys tensors.
[[nodiscard]] MemoryStats memory_stats();

/// Gives cached memory back to the system: the shared cache and the calling thread's own.
void trim();

/// Limits `system_bytes` to `bytes`; 0, the default, means no limit. OutOfMemory for a tensor that
/// does not fit even after `trim()`. ValueError if `bytes` is negative.
void set_memory_limit(int64_t bytes, At at = At::here());

namespace detail {

/// The class of the blocks that serve `bytes` bytes. The sizes of the classes are multiples of 64
/// bytes up to 1 KiB; above, there are eight sizes from each power of 2 to the next, so that at
/// most an eighth of a block is wasted.
inline std::size_t size_class(std::size_t bytes) {
  const std::size_t n = (bytes - (bytes > 0)) / 64;
  if (n < 16) [[likely]]
    return n;
  const auto shift = static_cast<std::size_t>(std::bit_width(n)) - 4;
  return 8 * shift + (n >> shift);
}

/// A free block. It may alias all types, because objects of other types lived in its memory and
/// will live there.
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
  if (block) list = block->next;
  // After a large graph the free blocks are not in the CPU's cache: prefetch the next one. Its
  // address is an integer here, because nothing may be added to a null pointer.
  const auto next = reinterpret_cast<std::uintptr_t>(list);
  for (std::uintptr_t i = 0; i < 4; ++i)
    __builtin_prefetch(reinterpret_cast<const void*>(next + 64 * i), 1);
  return block;
}

/// counter += delta, where one thread writes and others may read at the same time.
template <class Int> void add_relaxed(Int& counter, Int delta) {
  __atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_RELAXED) + delta, __ATOMIC_RELAXED);
}

/// The free blocks of one thread, of the smaller classes, and its part of the live counters. Only
/// the owner writes to it. `memory_stats` reads it on any thread, hence the relaxed atomics.
struct Front {
  static constexpr std::size_t classes = 56;  // up to 32 KiB

  Block* free[classes];
  int32_t room[classes];  // how many more blocks each list may take
  int64_t nodes, storages, bytes;
  bool owned;  // whether a running thread has it
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

/// The calling thread's front. Before the first slow call of the thread and while it ends, this is
/// a front without blocks and room, which all such threads share.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Front* front;

/// For tests: if it is set and returns true, an allocation that the front cannot serve throws
/// OutOfMemory.
using Refusal = bool (*)();
extern constinit Refusal refuse_allocation;

void* allocate_slow(std::size_t bytes);
void deallocate_slow(void* p, std::size_t bytes) noexcept;
void count_slow(int nodes, int storages, int64_t bytes) noexcept;

/// A block of at least `bytes` bytes from this thread's front; null if the front has none.
inline void* allocate_cached(std::size_t bytes) {
  const std::size_t c = size_class(bytes);
  return c < Front::classes ? front->take(c) : nullptr;
}
/// A block of `bytes` bytes, which may be 0. It is aligned to 64 bytes and not initialised.
/// SizeError if `bytes` is too large, OutOfMemory if there is no memory.
inline void* allocate(std::size_t bytes) {
  if (void* block = allocate_cached(bytes)) [[likely]]
    return block;
  return allocate_slow(bytes);
}

/// Takes back a block that `allocate(bytes)` returned, on any thread, also after main.
inline void deallocate(void* p, std::size_t bytes) noexcept {
  const std::size_t c = size_class(bytes);
  if (c >= Front::classes || front->room[c] == 0) [[unlikely]]
    return deallocate_slow(p, bytes);
  front->put(c, p);
}

/// Counts a graph node that is made (1) or destroyed (-1).
inline void count_node(int delta) noexcept {
  if (!front->owned) [[unlikely]]
    return count_slow(delta, 0, 0);
  add_relaxed<int64_t>(front->nodes, delta);
}

/// Counts a storage that is made (1, its bytes) or destroyed (-1, minus its bytes).
inline void count_storage(int delta, int64_t bytes_delta) noexcept {
  if (!front->owned) [[unlikely]]
    return count_slow(0, delta, bytes_delta);
  add_relaxed<int64_t>(front->storages, delta);
  add_relaxed<int64_t>(front->bytes, bytes_delta);
}

}
}  // namespace descent::detail
