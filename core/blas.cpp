#include "descent/core/blas.hpp"

#include <algorithm>
#include <cblas.h>
#include <climits>
#include <cstdlib>
#include <dlfcn.h>
#include <limits>
#include <string_view>
#include <strings.h>
#include <vector>

#include "descent/core/error.hpp"
#include "descent/core/simd.hpp"

namespace [[gnu::visibility("default")]] descent { namespace blas {
namespace {

template <class Function> Function* find(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

/// What OpenBLAS offers beyond CBLAS, looked up at run time: null in another library.
struct OpenBlas {
  char* (*config)() = find<char*()>("openblas_get_config");
  char* (*corename)() = find<char*()>("openblas_get_corename");
  int (*parallel)() = find<int()>("openblas_get_parallel");
  void (*set_num_threads)(int) = find<void(int)>("openblas_set_num_threads");
  void (*read_env)() = find<void()>("openblas_read_env");
  void (*dynamic_quit)() = find<void()>("gotoblas_dynamic_quit");
  void (*dynamic_init)() = find<void()>("gotoblas_dynamic_init");

  bool can_select() const { return corename && read_env && dynamic_quit && dynamic_init; }

  /// Chooses kernels again, as if the program had been started with OPENBLAS_CORETYPE=name. The
  /// variable is unset afterwards, as it was before: child processes choose for themselves.
  void select(const char* name) const {
    setenv("OPENBLAS_CORETYPE", name, 1);
    read_env();
    dynamic_quit();
    dynamic_init();
    unsetenv("OPENBLAS_CORETYPE");
  }
};

bool is_avx512_core(const char* name) {
  constexpr const char* kNames[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
  return std::ranges::any_of(kNames, [&](const char* n) { return strcasecmp(n, name) == 0; });
}

bool environment_decides() {
  const char* keep = std::getenv("DESCENT_BLAS_CORE");
  return std::getenv("OPENBLAS_CORETYPE") || (keep && std::string_view(keep) == "keep");
}

CBLAS_TRANSPOSE op(bool transpose) { return transpose ? CblasTrans : CblasNoTrans; }

void matrix_matrix(bool ta, bool tb, int m, int n, int k, float alpha, const float* a, int lda,
                   const float* b, int ldb, float beta, float* c, int ldc) {
  cblas_sgemm(CblasRowMajor, op(ta), op(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void matrix_matrix(bool ta, bool tb, int m, int n, int k, double alpha, const double* a, int lda,
                   const double* b, int ldb, double beta, double* c, int ldc) {
  cblas_dgemm(CblasRowMajor, op(ta), op(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/// y += alpha * op(A) * x, where A is stored as [rows, columns].
void add_matrix_vector(bool transpose, int rows, int columns, float alpha, const float* a, int lda,
                       const float* x, int incx, float* y, int incy) {
  cblas_sgemv(CblasRowMajor, op(transpose), rows, columns, alpha, a, lda, x, incx, 1, y, incy);
}
void add_matrix_vector(bool transpose, int rows, int columns, double alpha, const double* a,
                       int lda, const double* x, int incx, double* y, int incy) {
  cblas_dgemv(CblasRowMajor, op(transpose), rows, columns, alpha, a, lda, x, incx, 1, y, incy);
}

/// Whether products come out right, against a plain loop. Small whole numbers make every sum exact,
/// so there is no tolerance; the two depths lie on both sides of the 10^6 multiplications where
/// OpenBLAS changes from its kernels for small matrices to the others.
template <class T> bool multiplies_correctly() {
  constexpr int m = 67, n = 99;
  for (const int k : {9, 180}) {
    const auto entries = [](int count, int stride) {
      std::vector<T> values(static_cast<size_t>(count));
      for (int i = 0; i < count; ++i) values[static_cast<size_t>(i)] = T(i * stride % 17 - 8);
      return values;
    };
    const std::vector<T> a = entries(m * k, 7), b = entries(k * n, 5);
    std::vector<T> c(m * n, std::numeric_limits<T>::quiet_NaN()), expected(m * n, T(0));
    for (int i = 0; i < m; ++i)
      for (int l = 0; l < k; ++l)
        for (int j = 0; j < n; ++j)
          expected.data()[i * n + j] += a.data()[i * k + l] * b.data()[l * n + j];
    matrix_matrix(false, false, m, n, k, T(1), a.data(), k, b.data(), n, T(0), c.data(), n);
    if (c != expected) return false;
  }
  return true;
}

/// The library, ready for use: its own threads off, its kernels chosen.
struct Library {
  OpenBlas open_blas;
  std::string core;

  Library() {
    if (open_blas.set_num_threads) open_blas.set_num_threads(1);
    // Built with OpenMP, it follows the calling thread's OpenMP setting instead.
    constexpr int kOpenMp = 2;
    const auto omp = find<void(int)>("omp_set_num_threads");
    if (omp && open_blas.parallel && open_blas.parallel() == kOpenMp) omp(1);
    core = detail::choose_core(
        [] { return multiplies_correctly<float>() && multiplies_correctly<double>(); });
  }
};

const Library& library() {
  static const Library& ready = *new Library;  // never destroyed: threads may outlive main
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
  std::string before = lib.corename();
  if (!lib.can_select() || environment_decides() || !simd::cpu_has_avx512() ||
      is_avx512_core(before.c_str()))
    return before;
  lib.select("SkylakeX");
  const char* after = lib.corename();
  if (is_avx512_core(after) && correct()) return before + " -> " + after;
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
  if (m > 1 && n > 1)
    return matrix_matrix(transpose_a, transpose_b, rows, columns, depth, alpha, a, step_a, b,
                         step_b, beta, c, step_c);
  // A product with a vector is bound by memory: the matrix is read in place, not packed, which is
  // up to five times faster. gemv is not trusted to leave out C when beta is 0.
  if (beta != 1) scale(m, n, beta, c, ldc);
  if (n == 1)
    add_matrix_vector(transpose_a, transpose_a ? depth : rows, transpose_a ? rows : depth, alpha, a,
                      step_a, b, transpose_b ? 1 : step_b, c, step_c);
  else
    add_matrix_vector(!transpose_b, transpose_b ? columns : depth, transpose_b ? depth : columns,
                      alpha, b, step_b, a, transpose_a ? step_a : 1, c, 1);
}

std::string core() { return library().core; }

std::string config() {
  const OpenBlas& lib = library().open_blas;
  return lib.config ? lib.config() : "a CBLAS other than OpenBLAS";
}

template void gemm(bool, bool, int64_t, int64_t, int64_t, float, const float*, int64_t,
                   const float*, int64_t, float, float*, int64_t);
template void gemm(bool, bool, int64_t, int64_t, int64_t, double, const double*, int64_t,
                   const double*, int64_t, double, double*, int64_t);

}}  // namespace descent::blas
