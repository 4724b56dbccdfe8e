#pragma once
#include <cstdlib>
#include <sys/mman.h>

#include "descent/data/formats/file.hpp"

#include "files.hpp"

// What fuzz targets need. A target is a function of any bytes that must neither crash nor find a
// fault. libFuzzer calls it in the preset `fuzz`, replay.cpp in all others.

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size);

/// An input that is decoded from front to back; zeros follow its end.
class Input {
 public:
  Input(const uint8_t* data, std::size_t size) : next_(data), end_(data + size) {}
  uint8_t byte() { return next_ == end_ ? 0 : *next_++; }
  int64_t below(int64_t n) { return byte() % n; }
  bool ended() const { return next_ == end_; }
  std::string rest() { return {std::exchange(next_, end_), end_}; }

 private:
  const uint8_t *next_, *end_;
};

/// Ends the program unless this holds.
inline void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: not so: %s\n", what);
  std::abort();
}

// ---- files

/// The path of a file with this content, until the next call. It is in memory alone.
inline const std::string& file_of(std::string_view content) {
  static const int fd = ::memfd_create("fuzz", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  must(::ftruncate(fd, 0) == 0 &&
           ::pwrite(fd, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size()),
       "a file in memory");
  return path;
}

/// The path of a file for writers, in a folder of this process: in memory if there is /dev/shm.
inline const std::string& path_to_write() {
  static const struct Place : Folder {
    Place() : Folder("fuzz") {}
    std::string file = (path / "written.safetensors").string();
  } place = [] {
    if (std::filesystem::exists("/dev/shm")) ::setenv("TMPDIR", "/dev/shm", 1);
    return Place();
  }();
  return place.file;
}

/// The most bytes that a reader may find in a file with this content.
inline std::size_t most_content(std::string_view content) {
  return content.starts_with("\x1f\x8b") ? descent::data::most_inflated(content.size())
                                         : content.size();
}

// ---- what a reader may do

/// While it lives, tensors may take `bytes` bytes more than they have.
struct MemoryLimit {
  explicit MemoryLimit(std::size_t bytes) {
    descent::trim();
    descent::set_memory_limit(descent::memory_stats().system_bytes + static_cast<int64_t>(bytes));
  }
  ~MemoryLimit() { descent::set_memory_limit(0); }
};

/// Whether f accepts its input: it may refuse it by one of these errors, and any other exception is
/// a fault. Meanwhile tensors may take `most_bytes` more, and 1 MiB.
template <class... Refusals, class F> bool accepts(std::size_t most_bytes, F f) {
  const MemoryLimit limit(most_bytes + (1 << 20));
  try {
    f();
    return true;
  } catch (const descent::Error& e) {
    if ((dynamic_cast<const Refusals*>(&e) || ...)) return false;
    throw;
  }
}

/// Tensors in the order of their names.
inline descent::NamedTensors by_name(descent::NamedTensors::vector all) {
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.first < b.first; });
  return all;
}
/// Whether two of these, which are in the order of their names, have one name.
inline bool has_twice(const descent::NamedTensors& sorted) {
  return std::adjacent_find(sorted.begin(), sorted.end(),
                            [](auto& a, auto& b) { return a.first == b.first; }) != sorted.end();
}
