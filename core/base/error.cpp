#include "descent/core/base/error.hpp"

#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <string_view>

#include "descent/core/base/context.hpp"

namespace [[gnu::visibility("default")]] descent {

constinit thread_local bool detail::grad_mode = true;
constinit thread_local Frame* detail::innermost = nullptr;
constinit thread_local const char* detail::deriving = nullptr;
constinit thread_local detail::OpObserver* detail::op_observer = nullptr;
using detail::innermost;

namespace {

/// The path of the folder that holds core/, taken from the path of this file.
std::string_view root() {
  static const std::string_view self = __FILE__;
  return self.substr(0, self.size() - std::strlen("core/base/error.cpp"));
}

bool in_library_folder(std::string_view path) {
  for (std::string_view folder : {"core/", "nn/", "optim/", "data/"})
    if (path.starts_with(folder)) return true;
  return false;
}

/// Whether `file` is part of the library. A source is known by the folder that it was compiled in,
/// a header by the path that it is included by.
bool is_library(std::string_view file) {
  if (file.starts_with(root()) && in_library_folder(file.substr(root().size()))) return true;
  constexpr std::string_view include = "include/descent/";
  std::size_t i = file.find(include);
  return i != std::string_view::npos && in_library_folder(file.substr(i + include.size()));
}

bool is_library(At at) { return at.file() == nullptr || is_library(std::string_view(at.file())); }

}  // namespace

Frame::Frame(At at, const char* module) : at_(at), module_(module), up_(innermost) {
  innermost = this;
}
Frame::~Frame() { innermost = up_; }
const Frame* Frame::current() { return innermost; }

At detail::caller(At at) {
  for (const Frame* f = innermost; f && is_library(at); f = f->up()) at = f->at();
  return at;
}

std::pair<std::string, int> Frame::path() {
  std::pair<std::string, int> path;
  for (const Frame* f = innermost; f; f = f->up_)
    if (f->module_)
      path.first = path.second++ == 0 ? f->module_ : fmt::format("{}.{}", f->module_, path.first);
  return path;
}

std::string where(At at) {
  const std::string path = Frame::path().first;
  at = detail::caller(at);
  if (is_library(at)) return path.empty() ? "" : fmt::format("(in {})", path);
  std::string_view file = at.file();
  file = file.substr(file.rfind('/') + 1);
  return path.empty() ? fmt::format("({}:{})", file, at.line())
                      : fmt::format("({}:{}, in {})", file, at.line(), path);
}

void report(const std::string& text) noexcept {
  std::fprintf(stderr, "descent: %s\n", text.c_str());
}

std::string str(double value) { return fmt::to_string(value); }

namespace detail {
template std::string text_of<int>(const void*);
template std::string text_of<int64_t>(const void*);
template std::string text_of<std::size_t>(const void*);
template std::string text_of<const char*>(const void*);
template std::string text_of<std::string>(const void*);
}  // namespace detail

std::string detail::insert_arguments(const char* text, std::initializer_list<Argument> arguments) {
  std::string message = text;
  std::size_t place = 0;
  for (const Argument& argument : arguments) {
    const std::string value = argument.text(argument.value);
    place = message.find("{}", place);
    message.replace(place, 2, value);
    place += value.size();
  }
  return message;
}

/// The message, followed by the place if that is known.
static std::string append_place(const std::string& message, At at) {
  const std::string place = where(at);
  return place.empty() ? message : message + " " + place;
}

Error::Error(const std::string& message, At at) : std::runtime_error(append_place(message, at)) {}

Error::~Error() = default;
ShapeError::~ShapeError() = default;
DtypeError::~DtypeError() = default;
IndexError::~IndexError() = default;
GraphError::~GraphError() = default;
NumericError::~NumericError() = default;
SizeError::~SizeError() = default;
ValueError::~ValueError() = default;
IoError::~IoError() = default;
FormatError::~FormatError() = default;

OutOfMemory::OutOfMemory(std::size_t bytes, std::size_t live, std::size_t limit)
    : message_(fmt::format("out of memory: {} bytes asked with {} in use{}", bytes, live,
                           limit == 0 ? "" : fmt::format(": the limit is {}", limit))) {}
OutOfMemory::OutOfMemory(const OutOfMemory& cause, const char* op, At at)
    : message_(append_place(fmt::format("{}: {}", op, cause.message_), at)) {}

}  // namespace descent
