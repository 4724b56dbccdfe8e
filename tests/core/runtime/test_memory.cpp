#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <utility>

#include "descent/core/base/checked.hpp"

#include "support.hpp"

using namespace descent;
using namespace descent::detail;

namespace {

constexpr bool caching = !kAddressSanitizer;  // under it the allocator keeps nothing
constexpr bool plain_malloc = !kAddressSanitizer && !kThreadSanitizer;

constexpr std::size_t KiB = 1024, MiB = 1024 * KiB;

/// A buffer that fills itself, so that overlapping ones are noticed.
struct Buffer {
  std::size_t bytes;
  void* p;
  explicit Buffer(std::size_t n) : bytes(n), p(allocate(n)) { std::memset(p, tag(), bytes); }
  Buffer(Buffer&& other) noexcept : bytes(other.bytes), p(std::exchange(other.p, nullptr)) {}
  ~Buffer() {
    if (p) deallocate(p, bytes);
  }
  bool intact() const {
    const auto* c = static_cast<const unsigned char*>(p);
    return bytes == 0 || (c[0] == tag() && c[bytes / 2] == tag() && c[bytes - 1] == tag());
  }
  unsigned char tag() const {
    return static_cast<unsigned char>(reinterpret_cast<uintptr_t>(p) / 64 % 251);
  }
};

std::vector<std::size_t> sizes() {
  std::vector<std::size_t> sizes;
  for (std::size_t n = 0; n < 3000; n += 7) sizes.push_back(n);
  for (std::size_t n = 64; n <= 4 * MiB; n *= 2) {
    for (std::size_t eighths : {8u, 9u, 12u, 15u}) {
      for (std::size_t d : {0u, 1u, 2u}) sizes.push_back(n / 8 * eighths + d - 1);
    }
  }
  return sizes;
}

/// Field i of /proc/self/statm, in bytes.
std::size_t memory_of_process(int field) {
  unsigned long pages[2] = {};
  std::FILE* f = std::fopen("/proc/self/statm", "r");
  REQUIRE(f);
  REQUIRE(std::fscanf(f, "%lu %lu", &pages[0], &pages[1]) == 2);
  std::fclose(f);
  return pages[field] * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}
std::size_t virtual_size() { return memory_of_process(0); }
std::size_t resident() { return memory_of_process(1); }

struct MemoryLimit {
  explicit MemoryLimit(int64_t bytes) { set_memory_limit(bytes); }
  ~MemoryLimit() { set_memory_limit(0); }
};

}  // namespace

TEST_CASE("blocks of all sizes are aligned to 64 bytes and do not overlap") {
  for (int round = 0; round < 3; ++round) {
    std::vector<Buffer> buffers;
    for (std::size_t bytes : sizes()) buffers.emplace_back(bytes);
    std::size_t bad = 0;
    for (const Buffer& b : buffers) {
      bad += !b.p || reinterpret_cast<uintptr_t>(b.p) % 64 != 0 || !b.intact();
    }
    CHECK(bad == 0);
    CHECK(buffers.size() > 600);
  }
}

TEST_CASE("at most an eighth of a block is wasted, and 63 bytes") {
  if (!caching) return;
  std::size_t bad = 0;
  for (std::size_t bytes : sizes()) {
    trim();
    const auto before = memory_stats();
    { Buffer b(bytes); }
    const auto after = memory_stats();
    const auto block = static_cast<std::size_t>(after.cached_bytes - before.cached_bytes);
    bad += block < bytes || block > std::max<std::size_t>(bytes, 1) + bytes / 8 + 63;
    bad += after.system_bytes - before.system_bytes != static_cast<int64_t>(block);
  }
  CHECK(bad == 0);
}

TEST_CASE("a loop that has warmed up asks the system for nothing") {
  if (!caching) return;
  auto step = [] {
    std::vector<Buffer> buffers;
    for (std::size_t bytes : {0ul, 1ul, 100ul, 5000ul, 40'000ul, 70'000ul, 3 * MiB}) {
      for (int i = 0; i < 50; ++i) buffers.emplace_back(bytes);
    }
  };
  step();
  const auto warm = memory_stats();
  for (int i = 0; i < 20; ++i) step();
  const auto after = memory_stats();
  CHECK(after.system_allocations == warm.system_allocations);
  CHECK(after.cached_bytes == warm.cached_bytes);
  CHECK(warm.system_allocations > 50);
}

TEST_CASE("trim gives back everything but what lives") {
  trim();
  const auto before = memory_stats();
  {
    std::vector<Buffer> survivors;
    {
      std::vector<Buffer> buffers;
      for (int i = 0; i < 20'000; ++i) buffers.emplace_back(100);
      for (int i = 0; i < 100; ++i) buffers.emplace_back(100 * KiB);
      survivors.push_back(std::move(buffers[7777]));
    }
    if (caching) CHECK(memory_stats().cached_bytes - before.cached_bytes > 12 * 1000 * 1000);
    trim();
    const auto trimmed = memory_stats();
    CHECK(survivors[0].intact());
    CHECK(trimmed.system_bytes - before.system_bytes <= static_cast<int64_t>(64 * KiB));
    CHECK(trimmed.cached_bytes - before.cached_bytes < static_cast<int64_t>(64 * KiB));
  }
  trim();
  CHECK(memory_stats().system_bytes == before.system_bytes);
  CHECK(memory_stats().cached_bytes == before.cached_bytes);
}

TEST_CASE("the cache stays within 1 GiB, and sizes no longer used make way") {
  if (!caching) return;
  trim();
  const auto cached = [] { return memory_stats().cached_bytes; };
  const int64_t before = cached(), GiB = 1024 * static_cast<int64_t>(MiB);
  const auto keep_and_free = [](std::size_t bytes, std::size_t total) {
    std::vector<void*> blocks;  // of which only the first page is ever touched
    for (std::size_t sum = 0; sum < total; sum += bytes) blocks.push_back(allocate(bytes));
    for (void* p : blocks) deallocate(p, bytes);
  };
  std::size_t bytes = 0;
  SUBCASE("of large blocks") { bytes = 4 * MiB; }
  SUBCASE("of blocks that threads keep too") { bytes = 32 * KiB; }
  keep_and_free(bytes, 1300 * MiB);
  CHECK(cached() - before <= GiB + static_cast<int64_t>(MiB));
  CHECK(cached() - before > GiB / 2);
  const auto requests = memory_stats().system_allocations;
  for (int i = 0; i < 8; ++i) keep_and_free(2 * MiB, 400 * MiB);
  CHECK(cached() - before <= GiB + static_cast<int64_t>(MiB));
  if (bytes == 4 * MiB) CHECK(memory_stats().system_allocations - requests < 2 * 200);
  trim();
}

TEST_CASE("blocks freed by another thread do not pile up") {
  trim();
  const auto before = memory_stats();
  for (std::size_t bytes : {128ul, 4000ul, 100'000ul}) {
    const std::size_t blocks = 32 * MiB / bytes;
    std::vector<std::atomic<void*>> slots(64);
    std::thread consumer([&] {
      for (std::size_t i = 0; i < blocks; ++i) {
        void* p;
        while (!(p = slots[i % slots.size()].exchange(nullptr))) std::this_thread::yield();
        deallocate(p, bytes);
      }
    });
    int64_t most = 0;
    for (std::size_t i = 0; i < blocks; ++i) {
      if (i % 100 == 0) most = std::max(most, memory_stats().system_bytes - before.system_bytes);
      void* p = allocate(bytes);
      while (slots[i % slots.size()]) std::this_thread::yield();
      slots[i % slots.size()] = p;
    }
    consumer.join();
    CHECK(most < static_cast<int64_t>(12 * MiB));
    CHECK(most > 0);
  }
}

TEST_CASE("a thread's cache goes to the others when it ends") {
  if (!caching) return;
  auto step = [] {
    std::vector<Buffer> buffers;
    for (int i = 0; i < 100; ++i) buffers.emplace_back(500 + 40 * static_cast<std::size_t>(i));
  };
  std::thread(step).join();
  const auto before = memory_stats();
  for (int i = 0; i < 20; ++i) std::thread(step).join();
  step();
  CHECK(memory_stats().system_allocations == before.system_allocations);
}

TEST_CASE("live counters add up over threads, running and ended") {
  const auto before = memory_stats();
  std::atomic<bool> stop = false;
  int64_t wrong = 0;
  std::thread reader([&] {
    while (!stop) wrong += memory_stats().live_nodes < before.live_nodes;
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 1000; ++i) count_node(1);
      for (int i = 0; i < 100; ++i) count_storage(1, 50);
      for (int i = 0; i < 10; ++i) count_storage(-1, -50);
    });
  }
  for (auto& thread : threads) thread.join();
  stop = true;
  reader.join();
  CHECK(wrong == 0);
  auto after = memory_stats();
  CHECK(after.live_nodes - before.live_nodes == 4000);
  CHECK(after.live_storages - before.live_storages == 360);
  CHECK(after.live_bytes - before.live_bytes == 18'000);
  count_node(-4000);
  count_storage(-360, -18'000);
  after = memory_stats();
  CHECK(after.live_nodes == before.live_nodes);
  CHECK(after.live_storages == before.live_storages);
  CHECK(after.live_bytes == before.live_bytes);
}

namespace {
/// Holds a block, as a tensor in a global or thread_local does.
struct Late {
  void* p = nullptr;
  void hold() {
    p = allocate(96);
    count_node(1);
  }
  ~Late() {
    if (!p) return;
    count_node(-1);
    deallocate(p, 96);
    void* q = allocate(5000);
    std::memset(q, 1, 5000);
    deallocate(q, 5000);
  }
};
Late global;
}  // namespace

TEST_CASE("tensors may outlive main and their thread's other objects") {
  const auto before = memory_stats();
  for (int i = 0; i < 3; ++i) {
    std::thread([] {
      static thread_local Late late;
      late.p = nullptr;  // constructed before the thread's first allocation, so destroyed late
      late.hold();
    }).join();
  }
  const auto after = memory_stats();
  CHECK(after.live_nodes == before.live_nodes);
  if (caching) CHECK(after.system_allocations <= before.system_allocations + 2);
  global.hold();
}

TEST_CASE("the memory limit refuses before the system is asked, and nothing is lost") {
  trim();
  const auto before = memory_stats();
  const auto limit = before.system_bytes + static_cast<int64_t>(16 * MiB);
  {
    MemoryLimit guard(limit);
    CHECK_THROWS_WITH_AS(allocate(17 * MiB), doctest::Contains(std::to_string(17 * MiB).c_str()),
                         OutOfMemory);
    CHECK_THROWS_WITH_AS(allocate(17 * MiB), doctest::Contains(std::to_string(limit).c_str()),
                         std::bad_alloc);
    CHECK(memory_stats().system_allocations == before.system_allocations);
    CHECK(memory_stats().system_bytes == before.system_bytes);
    { Buffer fits(14 * MiB); }
    { Buffer fits_after_trim(12 * MiB); }
    Buffer first(10 * MiB);
    CHECK_THROWS_AS(Buffer(7 * MiB), OutOfMemory);
    CHECK(first.intact());
    std::vector<Buffer> small;
    CHECK_THROWS_AS(while (true) small.emplace_back(64), OutOfMemory);
    CHECK(small.size() > 50'000);
  }
  { Buffer fits(17 * MiB); }
  trim();
  CHECK(memory_stats().system_bytes == before.system_bytes);
  CHECK(refusal<ValueError>([&] { set_memory_limit(-1); }) ==
        "set_memory_limit: -1 bytes: need 0 (none) or more");
}

namespace {
/// In a child process that may use no more than 1 GiB of addresses beyond its present ones.
template <class F> int with_little_memory(F f) {
  const pid_t pid = fork();
  if (pid == 0) {
    rlimit addresses{};
    getrlimit(RLIMIT_AS, &addresses);
    addresses.rlim_cur = virtual_size() + 1024 * MiB;
    _exit(setrlimit(RLIMIT_AS, &addresses) == 0 && f() ? 0 : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}
}  // namespace

TEST_CASE("when the system refuses, the cache is given back and the request repeated once") {
  if (!plain_malloc) return;  // a sanitizer needs the addresses for itself
  CHECK(with_little_memory([] {
          trim();
          const auto before = memory_stats();
          deallocate(allocate(700 * MiB), 700 * MiB);
          deallocate(allocate(900 * MiB), 900 * MiB);  // 1600 in all: the first had to go
          const auto after = memory_stats();
          return after.system_bytes - before.system_bytes < static_cast<int64_t>(1000 * MiB) &&
                 after.system_allocations == before.system_allocations + 2;
        }) == 0);
  CHECK(with_little_memory([] {
          trim();
          const auto before = memory_stats();
          Buffer first(100 * KiB);
          try {
            Buffer second(1100 * MiB);
          } catch (const OutOfMemory&) {
            Buffer third(200 * KiB);
            return first.intact() && third.intact() &&
                   memory_stats().system_allocations == before.system_allocations + 2;
          }
          return false;
        }) == 0);
}

TEST_CASE("sizes that do not fit are refused, not wrapped round") {
  const int64_t max = INT64_MAX;
  for (std::size_t bytes : {SIZE_MAX, SIZE_MAX - 3, SIZE_MAX / 2 + 1}) {
    CHECK_THROWS_AS(allocate(bytes), SizeError);
  }
  CHECK_THROWS_AS(allocate(SIZE_MAX / 2 - 63), SizeError);  // once rounded up
  {
    MemoryLimit guard(int64_t{1} << 40);  // or a sanitizer's allocator ends the program
    CHECK_THROWS_AS(allocate(SIZE_MAX / 4), OutOfMemory);
  }

  CHECK(checked_add(max - 1, 1, "op") == max);
  CHECK(checked_mul(max / 2, 2, "op") == max - 1);
  CHECK(checked_mul(0, max, "op") == 0);
  CHECK(checked_size(static_cast<std::size_t>(max), "op") == max);
  CHECK_THROWS_AS(checked_add(max, 1, "op"), SizeError);
  CHECK_THROWS_AS(checked_size(static_cast<std::size_t>(max) + 1, "op"), SizeError);
  CHECK_THROWS_WITH_AS(checked_mul(max / 3 + 1, 3, "zeros"), doctest::Contains("zeros: "),
                       SizeError);
  for (int64_t bits : {31, 32, 62}) {
    CHECK_THROWS_AS(checked_mul(int64_t{1} << bits, int64_t{1} << (63 - bits), "op"), SizeError);
  }
}

TEST_CASE("a large block is fresh memory that nobody has touched") {
  const auto before = resident();
  void* p = allocate(1024 * MiB);
  CHECK(resident() < before + 16 * MiB);
  deallocate(p, 1024 * MiB);
  trim();
}

TEST_CASE("trim makes the process smaller") {
  if (!plain_malloc) return;
  trim();
  const auto before = resident();
  void* later = nullptr;
  {
    std::vector<Buffer> buffers;
    for (int i = 0; i < 500; ++i) buffers.emplace_back(100 * KiB);
    later = std::malloc(1000);  // keeps the heap from shrinking at its end
    CHECK(resident() > before + 40 * MiB);
  }
  CHECK(resident() > before + 40 * MiB);
  trim();
  CHECK(resident() < before + 10 * MiB);
  std::free(later);
}

TEST_CASE("a process forked while other threads allocate can allocate") {
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!stop) Buffer b(100 * KiB);
  });
  threads.emplace_back([&] {
    while (!stop) memory_stats();
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(120);
      bool good = true;
      for (std::size_t bytes = 10; bytes < MiB; bytes *= 3) good = good && Buffer(bytes).intact();
      trim();
      _exit(good ? 0 : 1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK(status == 0);
  }
  stop = true;
  for (auto& thread : threads) thread.join();
}
