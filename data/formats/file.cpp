#include "descent/data/formats/file.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <new>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "descent/core/runtime/threads.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kFirstChunkBytes = 1 << 16, kLargestChunkBytes = 1 << 30;
constexpr std::size_t kInputBytes = 1 << 16;  // of the compressed file, read at a time
constexpr std::size_t kFreelyInflatedBytes = std::size_t{4} << 20, kMostRatio = 256;
constexpr std::size_t kInflatedAtOnceBytes = 1 << 20;
constexpr std::size_t kTileBytes = std::size_t{4} << 20;  // that one thread reads
constexpr std::size_t kWrittenAtOnceBytes = 1 << 16;
constexpr std::size_t kLongestStemBytes = 200;  // a name has at most 255 bytes
constexpr unsigned char kMagic[] = {0x1f, 0x8b};

void end_inflation(z_stream* stream) {
  inflateEnd(stream);
  delete stream;
}

}  // namespace

std::size_t most_inflated(std::size_t compressed) {
  return std::max(kFreelyInflatedBytes, kMostRatio * std::min(compressed, SIZE_MAX / kMostRatio));
}

std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 40));
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < ' ') c = '?';
  return text.size() > 40 ? shown + "..." : shown;
}

std::string quote(std::string_view text) { return "\"" + printable(text) + "\""; }

bool is_utf8(std::string_view text) try {
  (void)nlohmann::json(text).dump();
  return true;
} catch (const nlohmann::json::type_error&) { return false; }

// ---- reading

InputFile::InputFile(const char* op, const std::string& path, At at, Gzip gzip)
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
  size_ = static_cast<std::size_t>(info.st_size);

  if (gzip == Gzip::ignore) return;
  unsigned char magic[sizeof kMagic];
  const std::size_t n = read_stored(magic, sizeof magic);
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
    have += read(&bytes[have], chunk);
  }
  bytes.resize(have);
  return bytes;
}

std::size_t InputFile::read(void* to, std::size_t count) {
  return gzip_ ? inflate(static_cast<char*>(to), count) : read_stored(to, count);
}

std::shared_ptr<char> InputFile::map() const {
  void* bytes =
      ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE, ::fileno(file_.get()), 0);
  if (bytes == MAP_FAILED) refuse_file("map", std::strerror(errno));
  return {static_cast<char*>(bytes), [size = size_](char* p) { ::munmap(p, size); }};
}

void InputFile::read_at(std::size_t offset, void* to, std::size_t count) const {
  parallel_for(static_cast<int64_t>((count + kTileBytes - 1) / kTileBytes), [=, this](int64_t t) {
    const std::size_t begin = static_cast<std::size_t>(t) * kTileBytes;
    read_tile(offset + begin, static_cast<char*>(to) + begin, std::min(count - begin, kTileBytes));
  });
}

void InputFile::read_tile(std::size_t offset, char* to, std::size_t count) const {
  for (std::size_t have = 0; have < count;) {
    const ssize_t n =
        ::pread(::fileno(file_.get()), to + have, count - have, static_cast<off_t>(offset + have));
    if (n < 0 && errno != EINTR) refuse_file("read", std::strerror(errno));
    if (n == 0) refuse(offset + have, "the file ends here: it has become shorter");
    have += n < 0 ? 0 : static_cast<std::size_t>(n);
  }
}

std::size_t InputFile::read_stored(void* to, std::size_t count) {
  const std::size_t n = std::fread(to, 1, count, file_.get());
  if (std::ferror(file_.get())) refuse_file("read", std::strerror(errno));
  return n;
}

std::size_t InputFile::inflate(char* to, std::size_t count) {
  z_stream& stream = *gzip_;
  std::size_t have = 0;
  while (have < count) {
    if (stream.avail_in == 0) {
      stream.next_in = buffer_.get();
      stream.avail_in = static_cast<uInt>(read_stored(buffer_.get(), kInputBytes));
      stored_ += stream.avail_in;
    }
    if (stream.total_in == 0) {  // between two gzip streams
      if (stream.avail_in == 0) break;
      if (*stream.next_in != kMagic[0])
        refuse_gzip("there are bytes after the end of the gzip stream");
    }
    const std::size_t room = std::min(count - have, kInflatedAtOnceBytes);
    stream.next_out = reinterpret_cast<unsigned char*>(to + have);
    stream.avail_out = static_cast<uInt>(room);
    const int status = ::inflate(&stream, Z_NO_FLUSH);
    have += room - stream.avail_out;
    inflated_ += room - stream.avail_out;
    if (inflated_ > most_inflated(stored_ - stream.avail_in))
      refuse_gzip("the content is more than 256 times as large: this looks like a gzip bomb");
    if (status == Z_STREAM_END) inflateReset(&stream);
    else if (status == Z_MEM_ERROR) throw std::bad_alloc();
    else if (status == Z_BUF_ERROR) refuse_gzip("the gzip stream ends too early");
    else if (status != Z_OK) refuse_gzip(stream.msg ? stream.msg : "not a gzip stream");
  }
  return have;
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

// ---- writing

namespace {

/// Calls f, which returns -1 for an error, until no signal interrupts it.
template <class F> auto retry(F f) {
  auto result = f();
  while (result < 0 && errno == EINTR) result = f();
  return result;
}

}  // namespace

OutputFile::OutputFile(const char* op, const std::string& path, At at)
    : op_(op), path_(path), at_(at) {
  if (path.find('\0') != std::string::npos) {
    errno = EINVAL;
    refuse("open");
  }
  struct stat info;
  if (::stat(path.c_str(), &info) == 0) {
    if (!S_ISREG(info.st_mode))
      fail<IoError>(at, "{}: cannot write {}: it is not a regular file", op, path);
    mode_ = info.st_mode & 0777;
    if (char* real = ::realpath(path.c_str(), nullptr)) {
      path_ = real;
      std::free(real);
    }
  } else if (errno != ENOENT) {
    refuse("open");
  }
  const std::size_t slash = path_.rfind('/') + 1;  // 0 if there is none
  folder_ = slash == 0 ? "./" : path_.substr(0, slash);
  stem_ = "." + path_.substr(slash, kLongestStemBytes) + ".tmp-";
  remove_stale();
  open_temporary();
}

OutputFile::~OutputFile() { discard(); }

void OutputFile::discard() noexcept {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

/// Whoever writes a temporary file has it locked, and the lock ends with the process.
void OutputFile::remove_stale() const {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(folder_.c_str()), ::closedir);
  if (!folder) return;  // opening the temporary file will say why
  while (const dirent* entry = ::readdir(folder.get())) {
    if (!std::string_view(entry->d_name).starts_with(stem_)) continue;
    const std::string path = folder_ + entry->d_name;
    const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
    ::close(fd);
  }
}

void OutputFile::open_temporary() {
  static std::atomic<unsigned> number{0};
  struct stat info;
  do {  // again if another process has removed the file before it was locked
    if (fd_ >= 0) ::close(fd_);
    do {
      temporary_ = folder_ + stem_ + std::to_string(::getpid()) + "-" + std::to_string(++number);
      fd_ = retry([this] {
        return ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      });
    } while (fd_ < 0 && errno == EEXIST);
    if (fd_ < 0) {
      temporary_.clear();
      refuse("open");
    }
    retry([this] { return ::flock(fd_, LOCK_EX); });
  } while (::fstat(fd_, &info) == 0 && info.st_nlink == 0);
  if (mode_ == 0 || ::fchmod(fd_, mode_) == 0) return;
  const int error = errno;
  discard();
  errno = error;
  refuse("set the permissions of");
}

void OutputFile::write(const void* bytes, std::size_t count) {
  if (buffer_.size() + count > kWrittenAtOnceBytes) flush();
  if (count > kWrittenAtOnceBytes) write_through(static_cast<const char*>(bytes), count);
  else buffer_.append(static_cast<const char*>(bytes), count);
}

void OutputFile::flush() {
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void OutputFile::write_through(const char* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t n = retry([&] { return ::write(fd_, bytes, count); });
    if (n < 0) refuse("write");
    bytes += n;
    count -= static_cast<std::size_t>(n);
  }
}

void OutputFile::commit() {
  flush();
  if (retry([this] { return ::fsync(fd_); }) != 0) refuse("write");
  if (retry([this] { return ::rename(temporary_.c_str(), path_.c_str()); }) != 0) refuse("rename");
  temporary_.clear();
  ::close(std::exchange(fd_, -1));  // it was locked until it had its name
  // Only now does the name survive a power cut too. A file system that cannot do this says EINVAL.
  const int folder =
      retry([this] { return ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  const bool good = folder >= 0 && (retry([&] { return ::fsync(folder); }) == 0 || errno == EINVAL);
  const int error = errno;
  if (folder >= 0) ::close(folder);
  errno = error;
  if (!good) refuse("write the folder of");
}

void OutputFile::refuse(const char* what) const {
  fail<IoError>(at_, "{}: cannot {} {}: {}", op_, what, path_.c_str(),
                std::string(std::strerror(errno)));
}

}}  // namespace descent::data
