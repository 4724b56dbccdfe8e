#pragma once
#include <cstdint>
#include <string>

/// Matrix products of a CBLAS, which is OpenBLAS if it is installed. Each call runs on one thread,
/// and any number of calls may run at once. Callers cut a large product into tiles and run the
/// tiles in the thread pool.
namespace [[gnu::visibility("default")]] descent { namespace blas {

/// OpenBLAS does not pack the operands of a product with at most this many multiplications.
inline constexpr int64_t kUnpackedProducts = 1'000'000;

/// C = alpha * op(A) * op(B) + beta * C, for T float or double, all matrices row-major.
///
/// op(A) is [m, k] and op(B) is [k, n], where op transposes the stored matrix if its flag is set; C
/// is [m, n]. `lda`, `ldb`, `ldc` are the distances between stored rows, in elements. With beta 0 C
/// is only written, so it may hold anything. k = 0 scales C by beta; m = 0 or n = 0 does nothing.
/// The same arguments give the same bits on the same machine, however many threads call. SizeError
/// if a dimension exceeds BLAS's 32-bit integers, ValueError if stored rows overlap, OutOfMemory if
/// it is the thread's first product and the address space has no room for the 128 MiB that OpenBLAS
/// wants for each thread that multiplies. After an error C is unchanged.
template <class T>
void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a,
          int64_t lda, const T* b, int64_t ldb, T beta, T* c, int64_t ldc);

/// The name of the kernels in use: "SkylakeX", or "Haswell -> SkylakeX" if OpenBLAS's own choice
/// ignored the AVX-512 of the processor and was corrected; "unknown" for another CBLAS. There is no
/// correction if the environment has OPENBLAS_CORETYPE, which names the kernels, or
/// DESCENT_BLAS_CORE=keep, which keeps OpenBLAS's choice.
std::string core();

/// The library's description of itself, such as "OpenBLAS 0.3.21 DYNAMIC_ARCH ...".
std::string config();

namespace detail {

/// Selects OpenBLAS's AVX-512 kernels if the processor has AVX-512 and OpenBLAS does not use it.
/// Goes back to the former kernels unless `correct` returns true. Returns what core() reports. The
/// first product calls it once; no other product may run meanwhile.
std::string choose_core(bool (*correct)());

}  // namespace detail

}}  // namespace descent::blas
