#pragma once
#include <cstddef>
#include <cstdint>

#include "descent/core/base/error.hpp"

namespace [[gnu::visibility("default")]] descent {

namespace detail {
/// Throws the SizeError. It takes the numbers by value: `fail` takes references, and a number whose
/// address is taken cannot stay in a register of the caller.
[[noreturn, gnu::cold]] void fail_size(const char* what, int64_t a, const char* sign, int64_t b,
                                       At at);
}  // namespace detail

// Compute a size that may overflow with these functions only. `what` is the name of the operation
// in the message, such as "reshape".

/// a + b, or SizeError if it does not fit in an int64_t.
inline int64_t checked_add(int64_t a, int64_t b, const char* what, At at = At::here()) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) detail::fail_size(what, a, "+", b, at);
  return sum;
}

/// a * b, or SizeError if it does not fit in an int64_t.
inline int64_t checked_mul(int64_t a, int64_t b, const char* what, At at = At::here()) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product)) detail::fail_size(what, a, "*", b, at);
  return product;
}

/// n as an int64_t, or SizeError if it does not fit.
inline int64_t checked_size(std::size_t n, const char* what, At at = At::here()) {
  if (n > INT64_MAX)
    fail<SizeError>(at, "{}: {} is too large: sizes end at {}", what, n, INT64_MAX);
  return static_cast<int64_t>(n);
}

}  // namespace descent
