#pragma once
/// @file
/// How a thread's processor rounds, and what it does with denormal numbers (those below 1e-38, or
/// 1e-308, with fewer digits). (On x86; elsewhere nothing changes.)

namespace [[gnu::visibility("default")]] descent { namespace simd {

/// While it lives, this thread computes as IEEE 754 has it by default, whatever mode it was in:
/// rounded to nearest, with denormal numbers. Every kernel does, on every thread.
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
  /// Whether sums come out as in another mode. To read the mode itself takes ten times as long.
  static bool differs() {
    using Floats [[gnu::vector_size(16)]] = float;
    using Bits [[gnu::vector_size(16)]] = int;
    // Rounding away from, and towards 0; operands and results without denormal numbers.
    constexpr Floats a{1, 1, 0x1p-128f, 0}, b{0x1p-26f, -0x1p-26f, 0x1p-128f, 0};
    constexpr Floats expected{1, 1, 0x1p-127f, 0};
    Floats unknown = a;
    asm volatile("" : "+x"(unknown));  // or the compiler would add them
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

/// The same, but denormal numbers count as 0, in operands and in results: a CPU needs a hundred
/// cycles for each.
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
