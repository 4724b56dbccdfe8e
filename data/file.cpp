#include "descent/data/file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kFirstChunkBytes = 1 << 16, kLargestChunkBytes = 1 << 30;
constexpr std::size_t kInputBytes = 1 << 16;  // of the compressed file, read at a time
constexpr unsigned char kMagic[] = {0x1f, 0x8b};

void end_inflation(z_stream* stream) {
  inflateEnd(stream);
  delete stream;
}

}  // namespace

InputFile::InputFile(const char* op, const std::string& path, At at)
    : op_(op), path_(path), at_(at), file_(nullptr, std::fclose), gzip_(nullptr, end_inflation) {
  if (path.find('\0') != std::string::npos)
    refuse_file("open", "the path goes on after a NUL byte");
  // Without O_NONBLOCK, opening a FIFO waits until somebody writes to it.
  const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0) file_.reset(::fdopen(fd, "rb"));
  if (fd >= 0 && !file_) ::close(fd);
  struct stat info;
  if (!file_ || ::fstat(fd, &info) != 0) refuse_file("open", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) refuse_file("read", "it is not a regular file");

  unsigned char magic[sizeof kMagic];
  const std::size_t n = read(magic, sizeof magic);
  std::rewind(file_.get());
  if (n < sizeof magic || std::memcmp(magic, kMagic, n) != 0) return;
  buffer_ = std::make_unique<unsigned char[]>(kInputBytes);
  gzip_.reset(new z_stream{});
  if (inflateInit2(gzip_.get(), MAX_WBITS + 16) != Z_OK) throw std::bad_alloc();
}

std::string InputFile::take(std::size_t count) {
  std::string bytes;
  std::size_t have = 0;
  while (have == bytes.size() && have < count) {
    bytes.resize(have +
                 std::min({count - have, std::max(have, kFirstChunkBytes), kLargestChunkBytes}));
    const std::size_t chunk = bytes.size() - have;
    have += gzip_ ? inflate(&bytes[have], chunk) : read(&bytes[have], chunk);
  }
  bytes.resize(have);
  return bytes;
}

std::size_t InputFile::read(void* to, std::size_t count) {
  const std::size_t n = std::fread(to, 1, count, file_.get());
  if (std::ferror(file_.get())) refuse_file("read", std::strerror(errno));
  return n;
}

std::size_t InputFile::inflate(char* to, std::size_t count) {
  z_stream& stream = *gzip_;
  stream.next_out = reinterpret_cast<unsigned char*>(to);
  stream.avail_out = static_cast<uInt>(count);
  while (stream.avail_out > 0) {
    if (stream.avail_in == 0) {
      stream.next_in = buffer_.get();
      stream.avail_in = static_cast<uInt>(read(buffer_.get(), kInputBytes));
    }
    if (stream.total_in == 0) {  // between two gzip streams
      if (stream.avail_in == 0) break;
      if (*stream.next_in != kMagic[0])
        refuse_gzip("there are bytes after the end of the gzip stream");
    }
    const int status = ::inflate(&stream, Z_NO_FLUSH);
    if (status == Z_STREAM_END) inflateReset(&stream);
    else if (status == Z_MEM_ERROR) throw std::bad_alloc();
    else if (status == Z_BUF_ERROR) refuse_gzip("the gzip stream ends too early");
    else if (status != Z_OK) refuse_gzip(stream.msg ? stream.msg : "not a gzip stream");
  }
  return count - stream.avail_out;
}

void InputFile::refuse(std::size_t offset, const std::string& what) const {
  fail<FormatError>(at_, "{}: {}: byte {}{}: {}", op_, path_, offset,
                    gzip_ ? " of the inflated content" : "", what);
}

void InputFile::refuse_gzip(const char* what) const {
  const auto offset = static_cast<std::size_t>(std::ftell(file_.get())) - gzip_->avail_in;
  fail<FormatError>(at_, "{}: {}: byte {} of the compressed file: {}", op_, path_, offset, what);
}

void InputFile::refuse_file(const char* what, const char* reason) const {
  fail<IoError>(at_, "{}: cannot {} {}: {}", op_, what, path_.c_str(), reason);
}

}}  // namespace descent::data
