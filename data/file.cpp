#include "descent/data/file.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace [[gnu::visibility("default")]] descent { namespace data {
// Without O_NONBLOCK, opening a FIFO waits until somebody writes to it.
InputFile::InputFile(const char* op, const std::string& path, At at)
    : op_(op), path_(path), at_(at), fd_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  struct stat info;
  if (path.find('\0') != std::string::npos) refuse("open", "the path goes on after a NUL byte");
  if (fd_.number < 0 || ::fstat(fd_.number, &info) != 0) refuse("open", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) refuse("read", "it is not a regular file");
  size_ = info.st_size;
}

InputFile::Descriptor::~Descriptor() {
  if (number >= 0) ::close(number);
}

std::size_t InputFile::read(int64_t offset, void* to, std::size_t count) const {
  std::size_t done = 0;
  while (done < count) {
    const ssize_t n = ::pread(fd_.number, static_cast<char*>(to) + done, count - done,
                              offset + static_cast<int64_t>(done));
    if (n == 0) break;
    if (n > 0) done += static_cast<std::size_t>(n);
    else if (errno != EINTR) refuse("read", std::strerror(errno));
  }
  return done;
}

void InputFile::refuse(const char* what, const char* reason) const {
  fail<IoError>(at_, "{}: cannot {} {}: {}", op_, what, path_.c_str(), reason);
}

}}  // namespace descent::data
