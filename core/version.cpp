#include "descent/core/version.hpp"

#include <fmt/core.h>

#include "descent/core/blas.hpp"
#include "descent/core/simd.hpp"
#include "descent/core/threads.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

std::string compiler() {
#if defined(__clang__)
  return fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  return fmt::format("gcc {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

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
  return fmt::format(
      "descent {}\ncompiler: {}\ninstructions: {}\nBLAS: {}\nBLAS kernels: {}\nthreads: {}\n",
      version(), compiler(), instructions(), blas::config(), blas::core(), num_threads());
}

}  // namespace descent
