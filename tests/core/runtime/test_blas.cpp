#include <array>
#include <barrier>
#include <cmath>
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <sys/resource.h>
#include <thread>

#include "descent/core/runtime/blas.hpp"

#include "support.hpp"

namespace blas = descent::blas;

namespace {

/// One product with its operands: rows padded by `pad` elements, whole numbers of at most 8 so that
/// every sum is exact.
template <class T> struct Product {
  bool ta, tb;
  int64_t m, n, k, pad = 0;
  int64_t lda = (ta ? m : k) + pad, ldb = (tb ? k : n) + pad, ldc = n + pad;
  std::vector<T> a = entries((ta ? k : m) * lda, 7), b = entries((tb ? n : k) * ldb, 5);
  std::vector<T> c = entries(m * ldc, 3);

  static std::vector<T> entries(int64_t count, int64_t stride) {
    std::vector<T> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<T>(i * stride % 17 - 8));
    return values;
  }
  T a_at(int64_t i, int64_t l) const { return a.data()[ta ? l * lda + i : i * lda + l]; }
  T b_at(int64_t l, int64_t j) const { return b.data()[tb ? j * ldb + l : l * ldb + j]; }

  std::vector<T> expected(T alpha, T beta) const {
    std::vector<T> result = c;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        T sum = 0;
        for (int64_t l = 0; l < k; ++l) sum += a_at(i, l) * b_at(l, j);
        T& out = result.data()[i * ldc + j];
        out = alpha * sum + (beta == 0 ? T(0) : beta * out);
      }
    }
    return result;
  }
  std::vector<T> computed(T alpha, T beta) const {
    std::vector<T> result = c;
    blas::gemm(ta, tb, m, n, k, alpha, a.data(), lda, b.data(), ldb, beta, result.data(), ldc);
    return result;
  }
};

template <class F> void for_all_transpositions(F f) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) f(ta, tb);
}

/// Runs one skipped test case of this program in a process of its own, where OpenBLAS starts with
/// its Haswell kernels, and returns whether it passed.
bool passes_alone(const std::string& test, const std::string& environment) {
  std::array<char, 4096> self{};
  REQUIRE(readlink("/proc/self/exe", self.data(), self.size() - 1) > 0);
  const std::string command = environment + " OPENBLAS_CORETYPE=Haswell '" + self.data() +
                              "' --no-skip --minimal --test-case='" + test + "'";
  return std::system(command.c_str()) == 0;
}

/// While it lives, the process may take `more` bytes of address space.
struct ShortAddressSpace {
  rlimit before;
  explicit ShortAddressSpace(rlim_t more) {
    rlim_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    REQUIRE(pages > 0);
    getrlimit(RLIMIT_AS, &before);
    const rlimit now{pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + more, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_AS, &now) == 0);
  }
  ~ShortAddressSpace() { setrlimit(RLIMIT_AS, &before); }
};

bool kernels_can_change() {
#if defined(__x86_64__)
  return blas::config().find("DYNAMIC_ARCH") != std::string::npos &&
         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

}  // namespace

TEST_CASE_TEMPLATE("gemm equals a plain loop for every shape, transposition, scale and padding", T,
                   float, double) {
  struct Size {
    int64_t m, n, k;
  };
  const Size sizes[] = {{1, 1, 1},     {1, 1, 70},    {1, 33, 40},    {47, 1, 40},    {33, 1, 1},
                        {1, 33, 1},    {2, 2, 2},     {3, 5, 7},      {16, 16, 16},   {65, 33, 17},
                        {64, 10, 128}, {31, 97, 200}, {128, 64, 256}, {130, 120, 110}};
  int products = 0;
  for_all_transpositions([&](bool ta, bool tb) {
    for (const Size& s : sizes) {
      for (const int64_t pad : {0, 3}) {
        const Product<T> product{ta, tb, s.m, s.n, s.k, pad};
        for (const T alpha : {T(1), T(-2)}) {
          for (const T beta : {T(0), T(1), T(0.5)}) {
            CAPTURE(s.m);
            CAPTURE(s.n);
            CAPTURE(s.k);
            CHECK(product.computed(alpha, beta) == product.expected(alpha, beta));
            ++products;
          }
        }
      }
    }
  });
  CHECK(products == 4 * 14 * 2 * 6);
}

TEST_CASE_TEMPLATE("with beta 0 the old contents of C do not matter, NaN included", T, float,
                   double) {
  for_all_transpositions([](bool ta, bool tb) {
    for (const int64_t m : {1, 20, 130}) {
      for (const int64_t n : {1, 20, 130}) {
        Product<T> product{ta, tb, m, n, 80};
        const std::vector<T> expected = product.expected(T(1), T(0));
        product.c.assign(product.c.size(), static_cast<T>(kNan));
        CHECK(product.computed(T(1), T(0)) == expected);
      }
    }
  });
}

TEST_CASE_TEMPLATE("a NaN in an operand reaches the product, against zeros too", T, float, double) {
  for_all_transpositions([](bool ta, bool tb) {
    for (const int64_t m : {1, 20}) {
      for (const int64_t n : {1, 20}) {
        Product<T> nan_in_a{ta, tb, m, n, 30};
        nan_in_a.a[0] = static_cast<T>(kNan);
        nan_in_a.b.assign(nan_in_a.b.size(), T(0));
        CHECK(std::isnan(nan_in_a.computed(T(1), T(0))[0]));

        Product<T> nan_in_b{ta, tb, m, n, 30};
        nan_in_b.b[0] = static_cast<T>(kNan);
        nan_in_b.a.assign(nan_in_b.a.size(), T(0));
        CHECK(std::isnan(nan_in_b.computed(T(1), T(0))[0]));
      }
    }
  });
}

TEST_CASE("a depth of 0 scales C, and a product without rows or columns does nothing") {
  std::vector<float> c = {1, 2, 99, 3, 4, 99};
  blas::gemm<float>(false, false, 2, 2, 0, 1, nullptr, 0, nullptr, 2, 0.5f, c.data(), 3);
  CHECK(c == std::vector<float>{0.5f, 1, 99, 1.5f, 2, 99});
  c[0] = static_cast<float>(kNan);
  blas::gemm<float>(false, false, 2, 2, 0, 1, nullptr, 0, nullptr, 2, 0, c.data(), 3);
  CHECK(c == std::vector<float>{0, 0, 99, 0, 0, 99});
  blas::gemm<float>(false, false, 0, 2, 3, 1, nullptr, 3, nullptr, 2, 0, nullptr, 2);
  blas::gemm<float>(false, false, 2, 0, 3, 1, nullptr, 3, nullptr, 0, 0, nullptr, 0);
}

TEST_CASE("gemm refuses what BLAS cannot take, by name, before touching C") {
  const auto call = [](int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc) {
    blas::gemm<double>(false, false, m, n, k, 1, nullptr, lda, nullptr, ldb, 0, nullptr, ldc);
  };
  const int64_t big = int64_t{1} << 31;
  const auto error = [&](auto... sizes) -> std::string {
    try {
      call(sizes...);
    } catch (const descent::Error& e) { return e.what(); }
    return "";
  };
  CHECK_THROWS_AS(call(big, 1, 1, 1, 1, 1), descent::SizeError);
  CHECK_THROWS_AS(call(2, 2, 3, 2, 2, 2), descent::ValueError);
  CHECK(error(big, 1, 1, 1, 1, 1)
            .starts_with("gemm: m is 2147483648: BLAS takes at most 2147483647"));
  CHECK(error(1, big, 1, 1, big, big).starts_with("gemm: n is"));
  CHECK(error(1, 1, big, big, 1, 1).starts_with("gemm: k is"));
  CHECK(error(1, 1, 1, big, 1, 1).starts_with("gemm: lda is"));
  CHECK(error(1, 1, 1, 1, big, 1).starts_with("gemm: ldb is"));
  CHECK(error(1, 1, 1, 1, 1, big).starts_with("gemm: ldc is"));
  CHECK(error(2, 2, 3, 2, 2, 2).starts_with("gemm: lda is 2: a stored row has 3 elements"));
  CHECK(error(2, 4, 3, 3, 3, 4).starts_with("gemm: ldb is 3: a stored row has 4 elements"));
  CHECK(error(2, 4, 3, 3, 4, 3).starts_with("gemm: ldc is 3: a stored row has 4 elements"));
}

TEST_CASE("the same product has the same bits wherever its operands lie in memory") {
  const auto irregular = [](std::vector<float>& values) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i) * 1.7f);
  };
  for_all_transpositions([&](bool ta, bool tb) {
    for (const int64_t m : {1, 37}) {
      for (const int64_t n : {1, 21}) {
        Product<float> product{ta, tb, m, n, 123};
        irregular(product.a);
        irregular(product.b);
        const std::vector<float> expected = product.computed(1, 0);
        for (size_t shift = 1; shift < 16; ++shift) {
          std::vector<float> a(shift), b(shift), c(shift + product.c.size());
          a.insert(a.end(), product.a.begin(), product.a.end());
          b.insert(b.end(), product.b.begin(), product.b.end());
          blas::gemm(ta, tb, m, n, product.k, 1.0f, &a[shift], product.lda, &b[shift], product.ldb,
                     0.0f, &c[shift], product.ldc);
          c.erase(c.begin(), c.begin() + static_cast<std::ptrdiff_t>(shift));
          CHECK(same_bits(c, expected));
        }
      }
    }
  });
}

TEST_CASE("eight threads at once get the same bits as one") {
  std::vector<Product<float>> products;
  for (const int64_t size : {1, 7, 24, 50, 110})
    for_all_transpositions([&](bool ta, bool tb) {
      products.push_back({ta, tb, size + 3, size, size + 1});
    });
  std::vector<std::vector<float>> expected;
  for (const auto& product : products) expected.push_back(product.expected(1, 0));

  std::array<int, 8> wrong{};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 1000; ++i) {
        const size_t which = (i * 7 + t) % products.size();
        if (!same_bits(products[which].computed(1, 0), expected[which])) ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::array<int, 8>{});
}

TEST_CASE("core and config name the library, whose own threads are off") {
  CHECK(!blas::core().empty());
  CHECK(!blas::config().empty());
  const auto ask = [](const char* name) {
    void* function = dlsym(RTLD_DEFAULT, name);
    return function ? reinterpret_cast<int (*)()>(function)() : -1;
  };
  const bool openmp = ask("openblas_get_parallel") == 2;  // there it is set around each product
  if (!openmp) CHECK(std::abs(ask("openblas_get_num_threads")) == 1);
}

TEST_CASE("build_info says what decides results and speed") {
  CHECK(descent::version() == std::to_string(descent::version_major) + "." +
                                  std::to_string(descent::version_minor) + "." +
                                  std::to_string(descent::version_patch));
  const std::string info = descent::build_info();
  const std::string lines[] = {
      "descent " + descent::version(),
      "compiler: ",
      "instructions: ",
      "BLAS: " + blas::config(),
      "BLAS kernels: " + blas::core(),
      "threads: " + std::to_string(descent::num_threads()),
  };
  for (const std::string& line : lines) CHECK(("\n" + info).find("\n" + line) != std::string::npos);
}

TEST_CASE("kernels that ignore the processor's AVX-512 are replaced, unless somebody objects") {
  if (!kernels_can_change()) {
    MESSAGE("not tried: no OpenBLAS with a choice of kernels, or no AVX-512");
    return;
  }
  CHECK(passes_alone("alone: the first products*", "DESCENT_BLAS_CORE=auto"));
  CHECK(passes_alone("alone: the kernels stay*", "DESCENT_BLAS_CORE=keep"));
  CHECK(passes_alone("alone: OPENBLAS_CORETYPE*", ""));
  CHECK(passes_alone("alone: wrong products*", ""));
}

TEST_CASE("alone: the first products, by eight threads, come after the change of kernels" *
          doctest::skip()) {
  unsetenv("OPENBLAS_CORETYPE");
  const Product<float> product{false, true, 50, 40, 30};
  const std::vector<float> expected = product.expected(1, 0);
  std::array<bool, 8> right{};
  std::vector<std::thread> threads;
  for (bool& flag : right) threads.emplace_back([&] { flag = product.computed(1, 0) == expected; });
  for (std::thread& thread : threads) thread.join();
  for (const bool flag : right) CHECK(flag);

  CHECK(blas::core() == "Haswell -> SkylakeX");
  CHECK(blas::config().find("SkylakeX") != std::string::npos);
  CHECK(std::getenv("OPENBLAS_CORETYPE") == nullptr);
  CHECK(std::system("test -z \"${OPENBLAS_CORETYPE+set}\"") == 0);
}

TEST_CASE("alone: the kernels stay with DESCENT_BLAS_CORE=keep" * doctest::skip()) {
  unsetenv("OPENBLAS_CORETYPE");
  CHECK(blas::core() == "Haswell");
  CHECK(blas::config().find("Haswell") != std::string::npos);
}

TEST_CASE("alone: OPENBLAS_CORETYPE in the environment has the last word" * doctest::skip()) {
  CHECK(blas::core() == "Haswell");
  CHECK(std::string(std::getenv("OPENBLAS_CORETYPE")) == "Haswell");
}

TEST_CASE("alone: wrong products bring the old kernels back" * doctest::skip()) {
  unsetenv("OPENBLAS_CORETYPE");
  CHECK(blas::detail::choose_core([] { return false; }) == "Haswell");
  CHECK(std::getenv("OPENBLAS_CORETYPE") == nullptr);
  CHECK(blas::core() == "Haswell -> SkylakeX");  // so it was Haswell again
}

TEST_CASE("where OpenBLAS's buffer does not fit in the address space, products throw OutOfMemory") {
  CHECK(passes_alone("alone: a first product*", ""));
  CHECK(passes_alone("alone: threads that have*", ""));
}

TEST_CASE("alone: a first product without room for OpenBLAS's buffer throws, later ones are right" *
          doctest::skip()) {
  alarm(120);
  const Product<float> product{false, false, 130, 120, 110};
  const std::vector<float> expected = product.expected(1, 0);
  const auto throws = [&] {
    try {
      product.computed(1, 0);
    } catch (const std::bad_alloc&) { return true; }
    return false;
  };
  std::thread other([] {});  // whose stack and heap the next thread takes over
  other.join();
  {
    const ShortAddressSpace limit(100 << 20);
    CHECK(throws());
    CHECK(throws());
  }
  CHECK(product.computed(1, 0) == expected);
  const ShortAddressSpace limit(100 << 20);
  CHECK(product.computed(1, 0) == expected);
  bool refused = false, right = false;
  // This thread's buffer is not enough for two that may multiply at once.
  std::thread([&] { refused = throws(); }).join();
  CHECK(refused);
  setrlimit(RLIMIT_AS, &limit.before);
  std::thread([&] { right = product.computed(1, 0) == expected; }).join();
  CHECK(right);
}

TEST_CASE("alone: threads that have multiplied in turn may do so at once when memory is short" *
          doctest::skip()) {
  alarm(120);
  const Product<double> product{true, false, 130, 120, 110};
  const std::vector<double> expected = product.expected(1, 0);
  constexpr int count = 4;
  std::array<bool, count> right{};
  std::barrier all(count + 1);
  std::vector<std::thread> threads;
  for (int t = 0; t < count; ++t) {
    threads.emplace_back([&, t] {
      for (int turn = 0; turn < count; ++turn) {
        if (turn == t) product.computed(1, 0);
        all.arrive_and_wait();
      }
      all.arrive_and_wait();
      bool& good = right.at(static_cast<std::size_t>(t)) = true;
      for (int i = 0; i < 200; ++i) good = good && product.computed(1, 0) == expected;
    });
  }
  for (int turn = 0; turn < count; ++turn) all.arrive_and_wait();
  {
    const ShortAddressSpace limit(100 << 20);
    all.arrive_and_wait();
    for (std::thread& thread : threads) thread.join();
  }
  CHECK(right == std::array<bool, count>{true, true, true, true});
}
