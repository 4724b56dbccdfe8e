#include "descent/core/simd.hpp"

#include <cstdlib>
#include <string_view>
#include <utility>

namespace [[gnu::visibility("default")]] descent { namespace simd {

Isa detect_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
  const char* wish = std::getenv("DESCENT_ISA");
  const std::string_view at_most = wish ? wish : "avx512";
  if (avx512 && at_most == "avx512") return Isa::avx512;
  if (avx2 && at_most != "baseline") return Isa::avx2;
#endif
  return Isa::baseline;
}

Isa detail::set_isa(Isa isa) { return std::exchange(current_isa, isa); }

}}  // namespace descent::simd
