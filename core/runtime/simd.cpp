#include "descent/core/runtime/simd.hpp"

#include <cstdlib>
#include <string_view>

namespace [[gnu::visibility("default")]] descent { namespace simd {

bool cpu_has_avx512() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
#else
  return false;
#endif
}

Isa detect_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const char* wish = std::getenv("DESCENT_ISA");
  const std::string_view at_most = wish ? wish : "";
  if (at_most == "baseline" || !avx2) return Isa::baseline;
  return at_most == "avx2" || !cpu_has_avx512() ? Isa::avx2 : Isa::avx512;
#else
  return Isa::baseline;
#endif
}

}}  // namespace descent::simd
