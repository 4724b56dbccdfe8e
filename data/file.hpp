#pragma once
/// @file
/// How readers read files: checked, and inflated if they are compressed.

#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>

#include "descent/core/base/error.hpp"

struct z_stream_s;

namespace [[gnu::visibility("default")]] descent { namespace data {

/// Reads a regular file from front to back, and inflates it if it begins as a gzip file does.
///
/// Opening anything else (a folder, a FIFO, a device) is an IoError and never blocks. A gzip stream
/// must be complete and have the right checksums. Only another gzip stream may follow it, which
/// continues the content. Anything else is a FormatError.
class InputFile {
 public:
  /// `op`, a literal, is the name of the reader in errors. IoError with the reason that the system
  /// gives.
  InputFile(const char* op, const std::string& path, At at);

  /// The next `count` bytes; fewer only at the end. Memory grows with the bytes that have been
  /// read, so that a wrong `count` in a corrupt header does no harm.
  std::string take(std::size_t count);

  /// Throws a FormatError that says what is wrong at this byte of the content.
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
  std::unique_ptr<z_stream_s, void (*)(z_stream_s*)> gzip_;  // null if it is not compressed
  std::unique_ptr<unsigned char[]> buffer_;  // compressed bytes: too many for a small stack
};

}}  // namespace descent::data
