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

/// A place in a source file: the name of the file and the line, packed into 8 bytes (48 bits for
/// the pointer to the name, 16 for the line; a larger line reads 0). Public functions take `At at =
/// At::here()` as their last argument, so that an error names the line of the caller.
class At {
  struct Key {};  // private, so that `{}` and `{0, 1}` do not make a place

 public:
  /// The place of a call, where this is a default argument of the function that is called.
  static At here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return At(Key{}, reinterpret_cast<uint64_t>(file) << 16 |
                         static_cast<uint64_t>(line < 0x10000 ? line : 0));
  }
  /// No place of its own: an error takes that of an enclosing Frame, if there is one.
  static At unknown() { return At(Key{}, 0); }
  /// The file, null if it is not known, and the line in it, from 1 on, 0 if it is not known.
  const char* file() const { return reinterpret_cast<const char*>(bits_ >> 16); }
  int line() const { return static_cast<int>(bits_ & 0xffff); }

 private:
  At(Key, uint64_t bits) : bits_(bits) {}
  uint64_t bits_;
};

/// Base of classes whose objects are neither copied nor moved.
struct Pinned {
  Pinned() = default;
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
};

/// While a Frame lives, errors of its thread name `at`, the line that called the library, and
/// `module`, one name of the module path. `module` is null in a function that calls other
/// operations. The frames of a thread form a list on its stack.
class Frame : Pinned {
 public:
  /// `module` must live as long as the frame; it is null in a function that calls operations.
  explicit Frame(At at, const char* module = nullptr);
  ~Frame();

  /// The innermost frame of this thread; null if there is none.
  static const Frame* current();
  /// The path of the modules that are being called, such as "encoder.fc1", and their number.
  static std::pair<std::string, int> path();
  /// The place that the constructor was given.
  At at() const { return at_; }
  /// The frame around this one, or null.
  const Frame* up() const { return up_; }

 private:
  At at_;
  const char* module_;
  Frame* up_;
};

namespace detail {
/// The innermost place outside the library: `at` itself or that of an enclosing Frame.
At caller(At at);
}  // namespace detail

/// "(train.cpp:42, in encoder.fc1)": the innermost place outside the library, which is `at` itself
/// or that of an enclosing Frame, and the path of the modules that are being called.
std::string where(At at);

/// Base of all errors that descent throws, except OutOfMemory. what() is "<op>: <what is wrong,
/// with shapes>: <rule> (place)".
class Error : public std::runtime_error {
 public:
  /// An error that says `message`, followed by the place.
  explicit Error(const std::string& message, At at = At::here());
  ~Error() override;  // defined in error.cpp, as those below: no other file has a copy of the type
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
/// A size that is too large to compute with.
struct SizeError : Error {
  using Error::Error;
  ~SizeError() override;
};
/// An option or argument outside its range.
struct ValueError : Error {
  using Error::Error;
  ~ValueError() override;
};
/// The operating system refused a request. The message has the text of errno.
struct IoError : Error {
  using Error::Error;
  ~IoError() override;
};
/// A file that is not what it claims to be. The message names the path, the byte offset or row, and
/// what was expected.
struct FormatError : Error {
  using Error::Error;
  ~FormatError() override;
};

/// Writes "descent: <text>" to standard error, if that is open. It is for what looks like a mistake
/// but is no error.
void report(const std::string& text) noexcept;

/// A value as messages show it.
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
/// A text with one {} for each of A. The compiler counts them: a wrong number does not compile.
template <class... A> struct Message {
  consteval Message(const char* text_) : text(text_) {
    std::size_t places = 0;
    for (const char* p = text; *p != 0; ++p) places += p[0] == '{' && p[1] == '}';
    if (places != sizeof...(A)) throw "need as many arguments as there are {}";
  }
  const char* text;
};
template <class T> std::string text_of(const void* p) { return str(*static_cast<const T*>(p)); }
extern template std::string text_of<int>(const void*);
extern template std::string text_of<int64_t>(const void*);
extern template std::string text_of<std::size_t>(const void*);
extern template std::string text_of<const char*>(const void*);
extern template std::string text_of<std::string>(const void*);
/// A value and the `str` of its type. `str` is called where the message is made, so that the code
/// of each `fail` is short.
struct Argument {
  template <class T>
  [[gnu::always_inline]] Argument(const T& value_) : value(&value_), text(text_of<T>) {}
  const void* value;
  std::string (*text)(const void*);
};
std::string insert_arguments(const char* text, std::initializer_list<Argument> arguments);
}  // namespace detail

/// Throws an E that says `message`, in which the `str` of an argument replaces each {}:
///     fail<ShapeError>(x.at, "my_op: x {} has rank {}: need 2", x.shape(), x.dim());
template <class E, class... A>
[[noreturn, gnu::cold]] void fail(At at, detail::Message<std::type_identity_t<A>...> message,
                                  const A&... arguments) {
  throw E(detail::insert_arguments(message.text, {arguments...}), at);
}

/// There is no memory left, because the system or `set_memory_limit` refuses it. what() is "<op>:
/// out of memory: <how much> (place)".
class OutOfMemory : public std::bad_alloc {
 public:
  /// `bytes` bytes were asked for while `live` bytes were in use; `limit` is the limit that
  /// `set_memory_limit` has set, or 0.
  OutOfMemory(std::size_t bytes, std::size_t live, std::size_t limit);
  /// The same error with the op that asked for the memory, and the place of its call.
  OutOfMemory(const OutOfMemory& cause, const char* op, At at);
  /// The message.
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

}  // namespace descent
