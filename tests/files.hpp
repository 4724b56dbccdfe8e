#pragma once
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>
#include <zlib.h>

#include "support.hpp"

// Files that a test writes, in a folder of its own that is removed at its end.

struct Folder {
  explicit Folder(const std::string& name)
      : path(std::filesystem::temp_directory_path() /
             ("descent-" + std::to_string(::getpid()) + "-" + name)) {
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  /// Writes `content` to the file `name` in this folder, and returns its path.
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(path / name, std::ios::binary) << content;
    return (path / name).string();
  }

  std::filesystem::path path;
};

/// The bytes of a file.
inline std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// `content` as a raw deflate stream, which may go on afterwards unless it is the last part.
inline std::string deflated(std::string content, bool last = true, int window_bits = -MAX_WBITS) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, content.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(content.data());
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, last ? Z_FINISH : Z_FULL_FLUSH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}
/// `content` as one gzip member.
inline std::string gzipped(const std::string& content, bool last = true) {
  return deflated(content, last, MAX_WBITS + 16);
}

/// An IDX file: type, big-endian sizes, and the elements' bytes.
inline std::string idx(char type, std::initializer_list<uint32_t> sizes,
                       const std::string& elements) {
  std::string file{'\0', '\0', type, static_cast<char>(sizes.size())};
  for (uint32_t size : sizes)
    for (int shift : {24, 16, 8, 0}) file += static_cast<char>(size >> shift & 0xff);
  return file + elements;
}
