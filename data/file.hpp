#pragma once
/// @file
/// Files as readers take them: whole, checked, inflated.

#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>

#include "descent/core/base/error.hpp"

struct z_stream_s;

namespace [[gnu::visibility("default")]] descent { namespace data {

/// What is in a regular file, from front to back: inflated if it begins like gzip.
///
/// Opening anything else (a folder, a FIFO, a device) is an IoError and never blocks. A gzip stream
/// must be whole, with its checksums right and nothing but another one behind it, which continues
/// the content: a FormatError otherwise.
class InputFile {
 public:
  /// `op` is the reader that errors name: a literal. IoError with the system's reason.
  InputFile(const char* op, const std::string& path, At at);

  /// The next `count` bytes: fewer only at the end. Memory follows what has come, not `count`.
  std::string take(std::size_t count);

  /// FormatError: what is wrong at this byte of the content.
  [[noreturn]] void refuse(std::size_t offset, const std::string& what) const;

 private:
  std::size_t read(void* to, std::size_t count);
  std::size_t inflate(char* to, std::size_t count);
  [[noreturn]] void refuse_gzip(const char* what) const;
  [[noreturn]] void refuse_file(const char* what, const char* reason) const;

  const char* op_;
  std::string path_;
  At at_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::unique_ptr<z_stream_s, void (*)(z_stream_s*)> gzip_;  // null where the content is the file
  std::unique_ptr<unsigned char[]> buffer_;  // what is to be inflated: too large for a small stack
};

}}  // namespace descent::data
