#pragma once
#include <cstdio>
#include <cstring>
#include <doctest/doctest.h>
#include <functional>
#include <limits>
#include <string>
#include <unistd.h>
#include <vector>

#include "descent/descent.hpp"

// What tests of every room need.

// ---- sanitizers

#if defined(__has_feature)
#define DESCENT_HAS(feature) __has_feature(feature)
#else
#define DESCENT_HAS(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || DESCENT_HAS(address_sanitizer)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif
#if defined(__SANITIZE_THREAD__) || DESCENT_HAS(thread_sanitizer)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

// ---- elements

using Values = std::vector<double>;
using Ints = std::vector<int64_t>;
using Bools = std::vector<bool>;
inline Values values(const descent::Tensor& x) { return x.to_vector<double>(); }
inline Ints ints(const descent::Tensor& x) { return x.to_vector<int64_t>(); }
inline Bools bools(const descent::Tensor& x) { return x.to_vector<bool>(); }

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Normal numbers, the same ones for the same seed.
inline descent::Tensor noise(const descent::Shape& shape, uint64_t seed,
                             descent::DType dtype = descent::float32) {
  descent::Generator generator(seed);
  return randn(shape, dtype, generator);
}

// ---- equal bits

template <class T> bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
/// Whether both have one shape, one dtype and the same bits.
inline bool same_bits(const descent::Tensor& a, const descent::Tensor& b) {
  using descent::Peek;
  const descent::Tensor x = a.detach().contiguous(), y = b.detach().contiguous();
  const auto bytes = static_cast<std::size_t>(x.numel() * itemsize(x.dtype()));
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         (bytes == 0 || std::memcmp(Peek::header(x)->data, Peek::header(y)->data, bytes) == 0);
}
/// The same, with the same names in the same order.
inline bool same_bits(const descent::NamedTensors& a, const descent::NamedTensors& b) {
  bool same = a.size() == b.size();
  for (std::size_t i = 0; same && i < a.size(); ++i)
    same = a[i].first == b[i].first && same_bits(a[i].second, b[i].second);
  return same;
}

// ---- threads

/// While it lives, operations use n threads.
struct NumThreads {
  int before = descent::num_threads();
  explicit NumThreads(int n) { descent::set_num_threads(n); }
  ~NumThreads() { descent::set_num_threads(before); }
};

/// f gives the same bits with 1 thread and with each of these numbers of threads, where at least
/// two take part in at least 8 tiles.
inline void same_with_threads(const std::function<std::vector<descent::Tensor>()>& f,
                              std::initializer_list<int> numbers = {2}) {
  const NumThreads restored(1);
  const std::vector<descent::Tensor> alone = f();
  for (const int threads : numbers) {
    CAPTURE(threads);
    descent::set_num_threads(threads);
    descent::detail::PoolStats stats{};
    while (stats.participants < 2) {  // on a busy machine one thread may take all tiles
      descent::detail::reset_pool_stats();
      const std::vector<descent::Tensor> together = f();
      stats = descent::detail::pool_stats();
      REQUIRE(stats.tiles >= 8);
      REQUIRE(together.size() == alone.size());
      for (std::size_t i = 0; i < alone.size(); ++i) CHECK(same_bits(together[i], alone[i]));
    }
  }
}

// ---- strides

/// How the elements of a tensor may lie in memory.
enum class Placement { contiguous, reversed_axes, every_second };
inline constexpr Placement placements[] = {Placement::contiguous, Placement::reversed_axes,
                                           Placement::every_second};

/// Numbers 0, 1, 2, ... in row-major order, wherever they lie.
inline descent::Tensor numbered(const descent::Shape& shape,
                                Placement placement = Placement::contiguous,
                                descent::DType dtype = descent::float64) {
  using namespace descent;
  const Tensor x = arange(zeros(shape).numel(), dtype).reshape(shape);
  if (placement == Placement::reversed_axes) {
    Dims back{};
    for (int d = shape.rank() - 1; d >= 0; --d) back.push_back(d);
    return x.permute(back).clone().permute(back);
  }
  if (placement == Placement::every_second)
    return slice(stack({x, x * 0 - 1}, -1).reshape({-1}), 0, 0, INT64_MAX, 2).reshape(shape);
  return x;
}

/// The position in row-major order of the element at this index, and the index at a position.
inline std::size_t position_of(const descent::Shape& index, const descent::Shape& shape) {
  int64_t position = 0;
  for (int d = 0; d < shape.rank(); ++d) position = position * shape[d] + index[d];
  return static_cast<std::size_t>(position);
}
inline descent::Shape index_of(std::size_t position, const descent::Shape& shape) {
  descent::Shape index = shape;
  auto rest = static_cast<int64_t>(position);
  for (int d = shape.rank() - 1; d >= 0; --d) {
    index[d] = rest % shape[d];
    rest /= shape[d];
  }
  return index;
}

// ---- messages

inline constexpr const char* kNothingThrown = "nothing was thrown";

/// The message of the E that f throws, with its place.
template <class E, class F> std::string full_refusal(F f) {
  try {
    f();
  } catch (const E& e) { return e.what(); }
  return kNothingThrown;
}
/// The same without its place, " (FILE:LINE)", which must be in the test's own file.
template <class E, class F> std::string refusal(F f, std::string file = __builtin_FILE()) {
  const std::string text = full_refusal<E>(f);
  if (text == kNothingThrown) return text;
  const std::size_t place = text.rfind(" (" + file.substr(file.rfind('/') + 1) + ":");
  return place == std::string::npos ? text + " <- not a line of the test" : text.substr(0, place);
}

/// What f writes to standard error.
template <class F> std::string standard_error(F f) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  std::fflush(stderr);
  const int before = ::dup(2);
  ::dup2(::fileno(file), 2);
  f();
  std::fflush(stderr);
  ::dup2(before, 2);
  ::close(before);
  std::string text(static_cast<std::size_t>(std::ftell(file)), 0);
  std::rewind(file);
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}
