#include "descent/core/runtime/blas.hpp"

#include <algorithm>
#include <cblas.h>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <dlfcn.h>
#include <mutex>
#include <pthread.h>
#include <string_view>
#include <sys/mman.h>
#include <vector>

#include "descent/core/base/error.hpp"
#include "descent/core/base/paths.hpp"
#include "descent/core/runtime/memory.hpp"
#include "descent/core/runtime/simd.hpp"

namespace [[gnu::visibility("default")]] descent { namespace blas {
namespace {

using descent::detail::enter;
using descent::detail::Path;
using descent::detail::take;

template <class Function> Function* find(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

/// Functions of OpenBLAS that CBLAS does not have. They are looked up at run time, because the
/// library may be another one: then they are null.
struct OpenBlas {
  char* (*config)() = find<char*()>("openblas_get_config");
  char* (*corename)() = find<char*()>("openblas_get_corename");
  int (*parallel)() = find<int()>("openblas_get_parallel");
  void (*set_num_threads)(int) = find<void(int)>("openblas_set_num_threads");
  void (*read_env)() = find<void()>("openblas_read_env");
  void (*dynamic_quit)() = find<void()>("gotoblas_dynamic_quit");
  void (*dynamic_init)() = find<void()>("gotoblas_dynamic_init");
  int (*end_threads)() = find<int()>("blas_thread_shutdown_");
  void* (*take_buffer)(int) = find<void*(int)>("blas_memory_alloc");
  void (*put_buffer)(void*) = find<void(void*)>("blas_memory_free");

  /// Lets OpenBLAS choose its kernels again, as if the program had been started with
  /// OPENBLAS_CORETYPE=name. The variable is then unset, as it was before, so that child processes
  /// choose for themselves.
  void select(const char* name) const {
    setenv("OPENBLAS_CORETYPE", name, 1);
    read_env();
    dynamic_quit();
    dynamic_init();
    unsetenv("OPENBLAS_CORETYPE");
  }
};

/// Whether an environment variable forbids choosing other kernels.
bool environment_decides() {
  const char* keep = std::getenv("DESCENT_BLAS_CORE");
  return std::getenv("OPENBLAS_CORETYPE") || (keep && std::string_view(keep) == "keep");
}

/// The routines for elements of type T.
template <class T> struct Cblas;
template <> struct Cblas<float> {
  static constexpr auto gemm = cblas_sgemm;
  static constexpr auto gemv = cblas_sgemv;
};
template <> struct Cblas<double> {
  static constexpr auto gemm = cblas_dgemm;
  static constexpr auto gemv = cblas_dgemv;
};

/// Whether products are right, compared with a plain loop. The elements are small whole numbers, so
/// that every sum is exact and needs no tolerance. The two depths k lie on both sides of the 10^6
/// multiplications where OpenBLAS changes from its kernels for small matrices to the others.
template <class T> bool multiplies_correctly() {
  constexpr int m = 67, n = 99;
  for (const int k : {9, 180}) {
    std::vector<T> a, b, c(m * n, T(NAN)), expected(m * n);
    for (int i = 0; i < m * k; ++i) a.push_back(T(i * 7 % 17 - 8));
    for (int i = 0; i < k * n; ++i) b.push_back(T(i * 5 % 17 - 8));
    for (int i = 0; i < m; ++i)
      for (int l = 0; l < k; ++l)
        for (int j = 0; j < n; ++j)
          expected.data()[i * n + j] += a.data()[i * k + l] * b.data()[l * n + j];
    Cblas<T>::gemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a.data(), k, b.data(), n,
                   0, c.data(), n);
    if (c != expected) return false;
  }
  return true;
}

/// OpenBLAS takes a buffer for each product that runs, and keeps it for later products. If the
/// system refuses a new buffer, OpenBLAS asks again for ever. So each thread adds one buffer to
/// those that OpenBLAS keeps, before its first product.
struct Buffers {
  static constexpr std::size_t kBufferBytes = 128 << 20;  // the largest on x86-64 and ARM
  static constexpr std::size_t kSpareBytes = 16 << 20;    // other threads may take them meanwhile
  static constexpr int kMaxBuffers = 64;                  // OpenBLAS can have about twice as many

  std::mutex mutex;
  int threads, count;  // threads with a claim; known buffers
  void* known[kMaxBuffers];

  /// OutOfMemory if the system would refuse a buffer.
  static void need_room() {
    void* room = mmap(nullptr, kBufferBytes + kSpareBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
      throw OutOfMemory({kBufferBytes, static_cast<std::size_t>(memory_stats().system_bytes), 0},
                        "OpenBLAS's buffer", At::unknown());
    munmap(room, kBufferBytes + kSpareBytes);
  }

  /// Makes OpenBLAS keep one more buffer: takes buffers from it, the known ones first, until it
  /// gives an unknown one.
  void add(const OpenBlas& lib) {
    need_room();
    void* held[kMaxBuffers];
    int n = 0;
    while (n < kMaxBuffers) {
      void* buffer = held[n++] = lib.take_buffer(0);
      if (std::find(known, known + count, buffer) != known + count) continue;
      known[count++] = buffer;
      break;
    }
    while (n > 0) lib.put_buffer(held[--n]);
  }
};
constinit Buffers buffers{};
static_assert(std::is_trivially_destructible_v<Buffers>);

/// The claim of a thread to one of the buffers, from its first product to its end.
struct Claim {
  bool made;

  void make(const OpenBlas& lib) {
    if (!lib.take_buffer || !lib.put_buffer) return;
    // A fork while another thread holds the lock would leave it locked in the child for ever.
    [[maybe_unused]] static const int once =
        pthread_atfork([] { buffers.mutex.lock(); }, [] { buffers.mutex.unlock(); },
                       [] { buffers.mutex.unlock(); });
    std::lock_guard lock(buffers.mutex);
    if (buffers.threads >= buffers.count && buffers.count < Buffers::kMaxBuffers) buffers.add(lib);
    ++buffers.threads;
    made = true;
  }
  ~Claim() {
    if (!made) return;
    std::lock_guard lock(buffers.mutex);
    --buffers.threads;
  }
};
constinit thread_local Claim claim{};

/// The library, ready for use: its own threads are off, and its kernels are chosen.
struct Library : OpenBlas {
  std::string core;

  Library() {
    if (set_num_threads) set_num_threads(1);
    // If it is built with OpenMP, it follows the OpenMP setting of the calling thread instead.
    constexpr int kThreads = 1, kOpenMp = 2;
    const int kind = parallel ? parallel() : 0;
    const auto omp = find<void(int)>("omp_set_num_threads");
    if (omp && kind == kOpenMp) omp(1);
    if (kind == kThreads && end_threads) {  // its threads may be asking for buffers
      Buffers::need_room();
      end_threads();
    }
    claim.make(*this);
    core = detail::choose_core(
        [] { return multiplies_correctly<float>() && multiplies_correctly<double>(); });
  }
};

const Library& library() {
  static const Library& ready = *new Library;  // never destroyed: threads may outlive main
  if (!claim.made) claim.make(ready);
  return ready;
}

int narrow(const char* name, int64_t size) {
  if (size <= INT_MAX) return static_cast<int>(size);
  fail<SizeError>(At::here(), "gemm: {} is {}: BLAS takes at most {}", name, size, INT_MAX);
}

int row_step(const char* name, int64_t step, int64_t row) {
  if (step >= row) return narrow(name, step);
  fail<ValueError>(At::here(), "gemm: {} is {}: a stored row has {} elements", name, step, row);
}

template <class T> void scale(int64_t m, int64_t n, T beta, T* c, int64_t ldc) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c[i * ldc + j] = beta == 0 ? T(0) : beta * c[i * ldc + j];
}

}  // namespace

std::string detail::choose_core(bool (*correct)()) {
  const OpenBlas lib;
  if (!lib.corename) return "unknown";
  const std::string before = lib.corename();
  const bool can_change = lib.read_env && lib.dynamic_quit && lib.dynamic_init;
  if (!can_change || environment_decides() || !simd::cpu_has_avx512()) return before;
  for (const char* avx512 : {"SkylakeX", "Cooperlake", "SapphireRapids"})
    if (before == avx512) return before;
  lib.select("SkylakeX");
  const std::string after = lib.corename();
  if (after == "SkylakeX" && correct()) return before + " -> " + after;
  lib.select(before.c_str());
  return before;
}

template <class T>
void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, T alpha, const T* a,
          int64_t lda, const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  const int rows = narrow("m", m), columns = narrow("n", n), depth = narrow("k", k);
  const int step_a = row_step("lda", lda, transpose_a ? m : k);
  const int step_b = row_step("ldb", ldb, transpose_b ? k : n);
  const int step_c = row_step("ldc", ldc, n);
  if (m == 0 || n == 0) return;
  if (k == 0) return scale(m, n, beta, c, ldc);

  library();
  // OpenBLAS has kernels for small matrices, but none for A B^T where the rows of both are short.
  // So B is transposed first.
  const bool rows_by_rows = !transpose_a && transpose_b;
  if (T turned[64 * 32];
      rows_by_rows && k <= 32 && n <= 64 && take("gemm turned", k < 32 && m >= n && n >= 8)) {
    for (int64_t j = 0; j < n; ++j)
      for (int64_t l = 0; l < k; ++l) turned[l * n + j] = b[j * ldb + l];
    return gemm(false, false, m, n, k, alpha, a, lda, turned, n, beta, c, ldc);
  }
  // Its kernel for A B^T where the rows of both are long takes results of up to 1200 elements. If A
  // has few rows, packing does not pay, so C is cut into parts that this kernel takes.
  if (constexpr int64_t kMaxElements = 1200;
      rows_by_rows && m <= kMaxElements && m * n > kMaxElements &&
      take("gemm cut", k >= 128 && m <= 32 && k <= kUnpackedProducts / (m * n))) {
    for (int64_t j = 0, part = kMaxElements / m; j < n; j += part)
      gemm(false, true, m, std::min(part, n - j), k, alpha, a, lda, b + j * ldb, ldb, beta, c + j,
           ldc);
    return;
  }
  const auto op = [](bool transpose) { return transpose ? CblasTrans : CblasNoTrans; };
  const Path vector = n == 1 ? Path("gemv column") : Path("gemv row");
  if ((m > 1 && n > 1) || !take(vector)) {
    enter(m * n <= kUnpackedProducts / k ? Path("gemm unpacked") : Path("gemm packed"));
    return Cblas<T>::gemm(CblasRowMajor, op(transpose_a), op(transpose_b), rows, columns, depth,
                          alpha, a, step_a, b, step_b, beta, c, step_c);
  }
  // Memory limits the speed of a product with a vector. So gemv reads the matrix in place and does
  // not pack it, which is up to five times faster. C is scaled here, because gemv might read C even
  // if beta is 0. gemv takes the sizes of the matrix as it is stored.
  if (beta != 1) scale(m, n, beta, c, ldc);
  if (n == 1)
    Cblas<T>::gemv(CblasRowMajor, op(transpose_a), transpose_a ? depth : rows,
                   transpose_a ? rows : depth, alpha, a, step_a, b, transpose_b ? 1 : step_b, 1, c,
                   step_c);
  else
    Cblas<T>::gemv(CblasRowMajor, op(!transpose_b), transpose_b ? columns : depth,
                   transpose_b ? depth : columns, alpha, b, step_b, a, transpose_a ? step_a : 1, 1,
                   c, 1);
}

std::string core() { return library().core; }

std::string config() {
  return library().config ? library().config() : "a CBLAS other than OpenBLAS";
}

template void gemm(bool, bool, int64_t, int64_t, int64_t, float, const float*, int64_t,
                   const float*, int64_t, float, float*, int64_t);
template void gemm(bool, bool, int64_t, int64_t, int64_t, double, const double*, int64_t,
                   const double*, int64_t, double, double*, int64_t);

}}  // namespace descent::blas
