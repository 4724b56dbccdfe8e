#include "descent/core/inspect/version.hpp"

#include <fmt/core.h>

#include "descent/core/runtime/blas.hpp"
#include "descent/core/runtime/simd.hpp"
#include "descent/core/runtime/threads.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

const char* instructions() {
  switch (simd::isa()) {
    case simd::Isa::avx512: return "AVX-512";
    case simd::Isa::avx2: return "AVX2 and FMA";
    case simd::Isa::baseline: break;
  }
  return "baseline";
}

}  // namespace

std::string version() {
  return fmt::format("{}.{}.{}", version_major, version_minor, version_patch);
}

std::string build_info() {
#if defined(__clang__)
  constexpr const char* compiler = __VERSION__;
#else
  constexpr const char* compiler = "gcc " __VERSION__;
#endif
  return fmt::format(
      "descent {}\ncompiler: {}\ninstructions: {}\nBLAS: {}\nBLAS kernels: {}\nthreads: {}\n",
      version(), compiler, instructions(), blas::config(), blas::core(), num_threads());
}

}  // namespace descent
