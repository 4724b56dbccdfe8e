#pragma once
/// @file
/// How readers read files, checked, and inflated if they are compressed; and how writers write
/// them, so that no crash leaves half a file.

#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "descent/core/base/error.hpp"

struct z_stream_s;

namespace [[gnu::visibility("default")]] descent { namespace data {

/// The most bytes that readers inflate `compressed` bytes to: 4 MiB, or 256 times as many. Whatever
/// grows more was made to fill the memory of its reader.
[[nodiscard]] std::size_t most_inflated(std::size_t compressed);

/// A text from a file as errors show it: shortened, and without control characters.
[[nodiscard]] std::string printable(std::string_view text);
/// The same in quotes.
[[nodiscard]] std::string quote(std::string_view text);
/// Whether a text is UTF-8.
[[nodiscard]] bool is_utf8(std::string_view text);

/// What a reader does about a file that begins as a gzip file does.
enum class Gzip { inflate, ignore };

/// Reads a regular file from front to back, and inflates it if it begins as a gzip file does.
///
/// Opening anything else (a folder, a FIFO, a device) is an IoError and never blocks. A gzip stream
/// must be complete, have the right checksums and be no larger than `most_inflated` says. Only
/// another gzip stream may follow it, which continues the content. Anything else is a FormatError.
class InputFile {
 public:
  /// `op`, a literal, is the name of the reader in errors. IoError with the reason that the system
  /// gives.
  InputFile(const char* op, const std::string& path, At at, Gzip gzip = Gzip::inflate);

  /// The next `count` bytes; fewer only at the end. Memory grows with the bytes that have been
  /// read, so that a wrong `count` in a corrupt header does no harm.
  std::string take(std::size_t count);
  /// Reads the next `count` bytes; returns how many there were: fewer only at the end.
  std::size_t read(void* to, std::size_t count);
  /// Reads `count` bytes that begin at byte `offset` of the file as it is stored, wherever `read`
  /// is. FormatError if it ends before. Several threads may call it at once, and many bytes are
  /// read by several threads.
  void read_at(std::size_t offset, void* to, std::size_t count) const;

  /// The whole file as it is stored, as memory that is read when it is needed. Writing to it does
  /// not change the file.
  [[nodiscard]] std::shared_ptr<char> map() const;

  /// The size of the file as it is stored, in bytes, when it was opened.
  [[nodiscard]] std::size_t size() const { return size_; }
  /// Whether it begins as a gzip file does.
  [[nodiscard]] bool compressed() const { return gzip_ != nullptr; }
  /// The most bytes that the content can have: nobody should allocate more for it.
  [[nodiscard]] std::size_t most_bytes() const { return gzip_ ? most_inflated(size_) : size_; }

  /// Throws a FormatError that says what is wrong at this byte of the content.
  [[noreturn]] void refuse(std::size_t offset, const std::string& what) const;

 private:
  void read_tile(std::size_t offset, char* to, std::size_t count) const;
  std::size_t read_stored(void* to, std::size_t count);
  std::size_t inflate(char* to, std::size_t count);
  [[noreturn]] void refuse_gzip(const char* what) const;
  [[noreturn]] void refuse_file(const char* what, const char* reason) const;

  const char* op_;
  std::string path_;
  At at_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::unique_ptr<z_stream_s, void (*)(z_stream_s*)> gzip_;  // null if it is not compressed
  std::unique_ptr<unsigned char[]> buffer_;  // compressed bytes: too many for a small stack
  std::size_t size_ = 0;                     // of the file
  std::size_t stored_ = 0, inflated_ = 0;    // bytes taken from a gzip stream, and made of them
};

/// Writes a file as a whole: other programs see the old file or the new one, never a part, whatever
/// happens meanwhile. If it is not committed, the old file stays.
///
/// The bytes go to a temporary file in the same folder, ".NAME.tmp-PID-N", which `commit` writes to
/// the disk and then renames. The new file has the permissions of the old one, or else those that
/// the umask leaves. A symbolic link stays, and what it names is replaced. Temporary files that a
/// dead process has left for the same NAME are removed. If several processes write one file, the
/// last that commits wins. All errors are IoErrors with the path and the reason that the system
/// gives.
class OutputFile : Pinned {
 public:
  /// `op`, a literal, is the name of the writer in errors. IoError if there is something of this
  /// name that is not a regular file.
  OutputFile(const char* op, const std::string& path, At at);
  /// Removes the temporary file, if there is one.
  ~OutputFile();

  /// Appends bytes.
  void write(const void* bytes, std::size_t count);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  /// Writes everything to the disk and gives the file its name.
  void commit();

 private:
  void remove_stale() const;
  void open_temporary();
  void discard() noexcept;
  void flush();
  void write_through(const char* bytes, std::size_t count);
  [[noreturn]] void refuse(const char* what) const;

  const char* op_;
  std::string path_;  // without symbolic links
  std::string folder_, stem_, temporary_;
  At at_;
  int fd_ = -1;
  unsigned mode_ = 0;  // of the old file; 0 if there is none
  std::string buffer_;
};

}}  // namespace descent::data
