#pragma once

// How a thread's processor rounds, and what it does with denormal numbers (those below 1e-38, or
// 1e-308, with fewer digits). (On x86; elsewhere nothing changes.)

namespace [[gnu::visibility("default")]] descent { namespace simd {

/// While it lives, this thread computes as IEEE 754 has it by default, whatever mode it was in:
/// rounded to nearest, with denormal numbers. Every kernel does, on every thread.
class DefaultFloatMode {
 public:
  DefaultFloatMode(const DefaultFloatMode&) = delete;
#if defined(__x86_64__)
  DefaultFloatMode() {
    if ((before_ & changed) != 0) [[unlikely]]
      __builtin_ia32_ldmxcsr(before_ & ~changed);
  }
  ~DefaultFloatMode() {
    if ((before_ & changed) != 0) [[unlikely]]
      __builtin_ia32_ldmxcsr(before_);
  }

 private:
  static constexpr unsigned changed = 0xe040;  // the bits of other modes
  const unsigned before_ = __builtin_ia32_stmxcsr();
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
