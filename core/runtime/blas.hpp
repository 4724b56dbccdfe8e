#pragma once
#include <cstdint>
#include <string>

/// Matrix products of a CBLAS (OpenBLAS where it is there): one thread per call, any number of
/// calls at once. Callers cut a large product into tiles and run those in the thread pool.
namespace [[gnu::visibility("default")]] descent { namespace blas {

/// Up to so many multiplications OpenBLAS computes a product without packing its operands first.
inline constexpr int64_t unpacked = 1'000'000;

/// C = alpha * op(A) * op(B) + beta * C, for T float or double, all matrices row-major.
///
/// op(A) is [m, k] and op(B) is [k, n], where op transposes the stored matrix if its flag is set;
/// C is [m, n]. `lda`, `ldb`, `ldc` are the distances between stored rows, in elements. With beta 0
/// C is only written, so it may hold anything. k = 0 scales C by beta; m = 0 or n = 0 does nothing.
/// The same arguments give the same bits on the same machine, however many threads call.
/// Throws, with C unchanged: SizeError if a dimension exceeds BLAS's 32-bit integers, ValueError if
/// stored rows overlap, OutOfMemory if it is the thread's first product and the address space has
/// no room for the 128 MiB that OpenBLAS wants for each thread that multiplies.
template <class T>
void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a,
          int64_t lda, const T* b, int64_t ldb, T beta, T* c, int64_t ldc);

/// The kernels in use: "SkylakeX", or "Haswell -> SkylakeX" where the library's own choice ignored
/// the processor's AVX-512 and was corrected. The environment decides otherwise with
/// OPENBLAS_CORETYPE (names the kernels) or DESCENT_BLAS_CORE=keep (leaves the library's choice).
std::string core();

/// The library's description of itself, such as "OpenBLAS 0.3.21 DYNAMIC_ARCH ...".
std::string config();

namespace detail {

/// Gives OpenBLAS its AVX-512 kernels if it should have them, and takes them back unless `correct`;
/// returns what core() reports. The first product calls it once; no other may run meanwhile.
std::string choose_core(bool (*correct)());

}  // namespace detail

}}  // namespace descent::blas
