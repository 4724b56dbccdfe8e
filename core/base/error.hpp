#pragma once
/// @file
/// The errors that descent throws, and the places in your source that they name.

#if !defined(__cpp_rtti)
#error "descent: modules and exceptions are told apart by their types: compile without -fno-rtti"
#endif
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace [[gnu::visibility("default")]] descent {

/// A place in somebody's source: file and line, packed in 8 bytes (48 bits of pointer, 16 of line;
/// a line beyond that reads 0). Public functions take `At at = At::here()` last, so that an error
/// names the caller's line.
class At {
  struct Key {};  // keeps `{}` and `{0, 1}` from meaning a place

 public:
  /// The line that calls the function of which this is a default argument.
  static At here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return At(Key{}, reinterpret_cast<uint64_t>(file) << 16 |
                         static_cast<uint64_t>(line < 0x10000 ? line : 0));
  }
  /// No place: an error names none.
  static At unknown() { return At(Key{}, 0); }
  /// The file, or null, and the line in it, from 1, or 0: where it is not known.
  const char* file() const { return reinterpret_cast<const char*>(bits_ >> 16); }
  int line() const { return static_cast<int>(bits_ & 0xffff); }

 private:
  At(Key, uint64_t bits) : bits_(bits) {}
  uint64_t bits_;
};

/// Base of what is neither copied nor moved.
struct Pinned {
  Pinned() = default;
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
};

/// While it lives, errors below it name `at`, the line of the library's caller, and `module`, one
/// step of the module path (null in a composite function). Frames form a list on each thread's
/// stack.
class Frame : Pinned {
 public:
  /// `module` lives as long as the frame; null in a composite function.
  explicit Frame(At at, const char* module = nullptr);
  ~Frame();

  /// This thread's innermost; null if none lives.
  static const Frame* current();
  /// The modules that are being called, "encoder.fc1", and how many they are.
  static std::pair<std::string, int> path();
  /// The line that was given.
  At at() const { return at_; }
  /// The frame around this one, or null.
  const Frame* up() const { return up_; }

 private:
  At at_;
  const char* module_;
  Frame* up_;
};

namespace detail {
/// The innermost place at or above `at` outside the library.
At caller(At at);
}  // namespace detail

/// "(train.cpp:42, in encoder.fc1)": the innermost place at or above `at` that is not a file of
/// the library itself, and the path of the modules being called.
std::string where(At at);

/// Base of all errors that descent throws; what() is "<op>: <what, with shapes>: <rule> (place)".
class Error : public std::runtime_error {
 public:
  /// Says `message`, with the place behind it.
  explicit Error(const std::string& message, At at = At::here());
  ~Error() override;  // in one place, like each of these: no other file holds a copy of the type
};
/// Shapes or ranks that do not fit.
struct ShapeError : Error {
  using Error::Error;
  ~ShapeError() override;
};
/// Dtypes that do not fit: there is no implicit promotion between tensors.
struct DtypeError : Error {
  using Error::Error;
  ~DtypeError() override;
};
/// An index, label or dimension out of range.
struct IndexError : Error {
  using Error::Error;
  ~IndexError() override;
};
/// Misuse of the autograd graph.
struct GraphError : Error {
  using Error::Error;
  ~GraphError() override;
};
/// A number that is not finite, or otherwise not usable.
struct NumericError : Error {
  using Error::Error;
  ~NumericError() override;
};
/// A size that does not fit in memory arithmetic.
struct SizeError : Error {
  using Error::Error;
  ~SizeError() override;
};
/// An option or argument outside its range.
struct ValueError : Error {
  using Error::Error;
  ~ValueError() override;
};
/// The operating system refused: the message carries errno's text.
struct IoError : Error {
  using Error::Error;
  ~IoError() override;
};
/// A file that is not what it claims to be: path, byte offset or row, what was expected.
struct FormatError : Error {
  using Error::Error;
  ~FormatError() override;
};

/// Writes "descent: <text>" to standard error, if there is one: a report of what looks like a
/// mistake.
void report(const std::string& text) noexcept;

/// Numbers and words as messages show them.
std::string str(double value);
inline std::string str(std::string_view text) { return std::string(text); }
template <class T>
requires std::is_integral_v<T> std::string str(T value) { return std::to_string(value); }
template <class T> std::string str(const std::vector<T>& list) {
  std::string text = "[";
  for (const T& item : list) text += (text.size() == 1 ? "" : ", ") + str(item);
  return text + "]";
}

namespace detail {
/// A text with a {} for each of A, which the compiler counts.
template <class... A> struct Message {
  consteval Message(const char* text_) : text(text_) {
    std::size_t places = 0;
    for (const char* p = text; *p != 0; ++p) places += p[0] == '{' && p[1] == '}';
    if (places != sizeof...(A)) throw "need as many arguments as there are {}";
  }
  const char* text;
};
template <class T> std::string text_of(const void* p) { return str(*static_cast<const T*>(p)); }
/// A value and its `str`, which is called where messages are made: each `fail` is short.
struct Argument {
  template <class T>
  [[gnu::always_inline]] Argument(const T& value_) : value(&value_), text(text_of<T>) {}
  const void* value;
  std::string (*text)(const void*);
};
std::string filled(const char* text, std::initializer_list<Argument> arguments);
}  // namespace detail

/// Throws an E that says `message`, with each {} replaced by an argument's `str`:
///     fail<ShapeError>(x.at, "my_op: x {} has rank {}: need 2", x.shape(), x.dim());
template <class E, class... A>
[[noreturn, gnu::cold]] void fail(At at, detail::Message<std::type_identity_t<A>...> message,
                                  const A&... arguments) {
  throw E(detail::filled(message.text, {arguments...}), at);
}

/// Memory ran out, by the system's word or by `set_memory_limit`:
/// "<op>: out of memory: <how much> (place)".
class OutOfMemory : public std::bad_alloc {
 public:
  /// `bytes` were asked for while `live` were in use; `limit` is that of `set_memory_limit`, or 0.
  OutOfMemory(std::size_t bytes, std::size_t live, std::size_t limit);
  /// The same in an op that somebody called.
  OutOfMemory(const OutOfMemory& cause, const char* op, At at);
  /// The message.
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

}  // namespace descent
