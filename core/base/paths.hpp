#pragma once
#include <atomic>
#include <cstdint>
#include <iterator>
#include <string_view>

// Where several pieces of code can compute an operation, each of them is a path and has a name. The
// code calls `take` to ask whether a path is to be used, or `enter` if no other path is left. This
// shows tests which path was used. They can also choose another path than the fastest one, and they
// compare every path with the definition of its operation. A path that no comparison has used fails
// tests/core/kernels/test_paths.cpp.

namespace [[gnu::visibility("default")]] descent { namespace detail {

inline constexpr std::string_view kPaths[] = {
    // products: blas.cpp, gemm.cpp, matmul.cpp
    "gemm unpacked", "gemm packed", "gemm turned", "gemm cut", "gemv row", "gemv column",
    "matmul transposed", "matmul copied", "matmul joined", "matmul tiles", "matmul batch",
    "linear bias",
    // convolutions: convolve.cpp, im2col.hpp
    "im2col forward", "im2col input", "im2col weight", "winograd forward", "winograd input",
    "winograd weight", "depthwise forward", "depthwise input", "depthwise weight", "conv pixels",
    "conv pixels input", "conv few channels", "conv images", "conv rows", "conv parts",
    "conv accumulated", "conv planes copied", "im2col eight", "im2col lanes", "im2col in place",
    "im2col cells",
    // conv.cpp
    "conv taps",
    // pool.cpp
    "max_pool2d squares", "max_pool2d sweep", "max_pool2d route squares", "max_pool2d route sweep",
    "max_pool2d pick", "avg_pool2d squares", "avg_pool2d sweep", "avg_pool2d spread squares",
    "avg_pool2d spread sweep",
    // reduce.cpp, reduction.cpp
    "reduce rows", "reduce columns", "reduce cut", "reduce passes", "softmax", "log_softmax",
    "softmax turned", "logsumexp",
    // loss.cpp
    "cross_entropy", "cross_entropy backward"};

/// A path, given by its name. A name that is not among kPaths does not compile.
struct Path {
  consteval Path(const char* name) : index(0) {
    while (kPaths[index] != name) ++index;
  }
  std::size_t index;
};

/// When to use a path that can be used. Only tests choose another value than the first.
enum class Choice : uint8_t { what_pays, always, never };

struct PathState {
  std::atomic<int64_t> calls{0};
  std::atomic<Choice> choice{Choice::what_pays};
};
extern constinit std::atomic<bool> watching_paths;  // true in tests only
extern constinit PathState path_states[std::size(kPaths)];
[[gnu::cold]] bool take_watched(Path path, bool pays);

/// Whether to use a path that can be used. `pays` says whether it is the fastest one.
inline bool take(Path path, bool pays = true) {
  if (watching_paths.load(std::memory_order_relaxed)) [[unlikely]]
    return take_watched(path, pays);
  return pays;
}
/// Notes that a path is used, where no other one is left.
[[gnu::always_inline]] inline void enter(Path path) { take(path); }

}}  // namespace descent::detail
