#pragma once
#include <cstdint>
#include <string>

#include "descent/core/error.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// A regular file, open for reading.
///
/// Opening anything else (a folder, a FIFO, a device) is an IoError and never blocks.
class InputFile {
 public:
  /// `op` is the reader that errors name: a literal. IoError with the system's reason.
  InputFile(const char* op, const std::string& path, At at);

  const std::string& path() const { return path_; }
  /// Its size in bytes when it was opened.
  int64_t size() const { return size_; }
  /// Reads the bytes from `offset` on; returns how many: fewer than `count` only at the end.
  std::size_t read(int64_t offset, void* to, std::size_t count) const;

 private:
  struct Descriptor : detail::Pinned {
    explicit Descriptor(int fd) : number(fd) {}
    ~Descriptor();
    int number;
  };
  [[noreturn]] void refuse(const char* what, const char* reason) const;
  const char* op_;
  std::string path_;
  At at_;
  Descriptor fd_;
  int64_t size_ = 0;
};

}}  // namespace descent::data
