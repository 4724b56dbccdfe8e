#pragma once
/// @file
/// How a thread rounds, and whether it computes with denormal numbers (those below 1e-38 in float32
/// and 1e-308 in float64, which have fewer digits). The classes do this on x86; on other processors
/// they do nothing.

namespace [[gnu::visibility("default")]] descent { namespace simd {

/// While it lives, this thread computes in the default mode of IEEE 754, whatever mode it was in
/// before: it rounds to nearest and has denormal numbers. Every kernel does so, on every thread.
class DefaultFloatMode {
 public:
  DefaultFloatMode(const DefaultFloatMode&) = delete;
#if defined(__x86_64__)
  DefaultFloatMode() {
    if (other_) [[unlikely]] {
      before_ = __builtin_ia32_stmxcsr();
      __builtin_ia32_ldmxcsr(before_ & ~0xe040U);
    }
  }
  ~DefaultFloatMode() {
    if (other_) [[unlikely]]
      __builtin_ia32_ldmxcsr(before_);
  }

 private:
  /// Whether the thread is in another mode. It looks at the results of sums, because reading the
  /// mode itself takes ten times as long.
  static bool differs() {
    using Floats [[gnu::vector_size(16)]] = float;
    using Bits [[gnu::vector_size(16)]] = int;
    // The first sum differs if the thread rounds up, the second if it rounds down or towards 0, and
    // the third if denormal operands or results count as 0.
    constexpr Floats a{1, 1, 0x1p-128f, 0}, b{0x1p-26f, -0x1p-26f, 0x1p-128f, 0};
    constexpr Floats expected{1, 1, 0x1p-127f, 0};
    Floats unknown = a;
    asm volatile("" : "+x"(unknown));  // otherwise the compiler would compute the sums
    const Floats sum = unknown + b;
    return __builtin_ia32_movmskps((Floats)((Bits)sum != (Bits)expected)) != 0;
  }

  const bool other_ = differs();
  unsigned before_ = 0;
#else
  DefaultFloatMode() {}
  ~DefaultFloatMode() {}
#endif
};

/// While it lives, this thread rounds to nearest, and denormal numbers count as 0, in operands and
/// in results: a CPU needs a hundred cycles for each of them.
class FlushDenormals {
 public:
  FlushDenormals(const FlushDenormals&) = delete;
#if defined(__x86_64__)
  FlushDenormals() { __builtin_ia32_ldmxcsr((before_ & ~0xe040U) | 0x8040); }
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(before_); }

 private:
  const unsigned before_ = __builtin_ia32_stmxcsr();
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
};

}}  // namespace descent::simd
