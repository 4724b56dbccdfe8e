#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "descent/core/runtime/memory.hpp"

// Lets allocations of this thread fail, one by one: those of `operator new` and those of the
// library's own allocator. It replaces the program's `operator new`: for one file of a program.
//
//     for (int64_t k = 1; inject::fails(k, [&] { opt.step(); }); ++k) CHECK(... as it was ...);

namespace inject {

inline thread_local int64_t left = 0;  // allocations until one fails, itself included; 0: none
inline int64_t failures = 0;           // so far, in the whole program

/// Counts an allocation; whether it is to fail.
inline bool next_fails() {
  if (left == 0 || --left > 0) return false;
  ++failures;
  return true;
}

/// While it lives, no allocation of the library's on this thread goes unnoticed: the thread's front
/// keeps no blocks.
class Watch {
 public:
  Watch() {
    using namespace descent::detail;
    deallocate(allocate(1), 1);  // from here on the thread has a front
    descent::trim();
    std::copy_n(front->room, Front::classes, room_);
    std::fill_n(front->room, Front::classes, 0);
    refuse_allocation = next_fails;
  }
  ~Watch() {
    std::copy_n(room_, descent::detail::Front::classes, descent::detail::front->room);
    descent::detail::refuse_allocation = nullptr;
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  int32_t room_[descent::detail::Front::classes];
};

/// Runs f, whose k-th allocation fails. 0 if it has not so many, 1 if it threw for it, -1 if it got
/// along without.
template <class F> int fails(int64_t k, F&& f) {
  const int64_t before = failures;
  left = k;
  try {
    f();
  } catch (const std::bad_alloc&) {
    left = 0;
    return 1;
  } catch (...) {
    left = 0;
    throw;
  }
  left = 0;
  return failures == before ? 0 : -1;
}

}  // namespace inject

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (!inject::next_fails())
    if (void* p = std::malloc(std::max<std::size_t>(bytes, 1))) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return inject::next_fails() ? nullptr : std::malloc(std::max<std::size_t>(bytes, 1));
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
