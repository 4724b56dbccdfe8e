#pragma once
/// @file
/// The only code that chooses an instruction set. It has three builds of a loop over a callable,
/// and the CPU decides which one runs. A lambda is inlined into all three. So no file is compiled
/// twice, one binary is fast on every CPU, and your formula uses wide vectors in a plain -O2 build.

#include <cstdint>

#include "descent/core/base/float_mode.hpp"

/// @cond
// glibc declares these functions without [[gnu::const]], because they set errno. With it both
// compilers hoist and vectorise them, also in your own rules. The price: in a file that includes
// this one, nobody can rely on errno after them.
extern "C" {
[[gnu::const]] float sqrtf(float) noexcept;
[[gnu::const]] double sqrt(double) noexcept;
[[gnu::const]] double pow(double, double) noexcept;
}

// GCC fuses a*b + c if the target has the instruction, and bits would depend on the build of a
// loop. (Only a macro can choose an attribute. These three are undefined at the end of the file.)
#if defined(__clang__) || !defined(__GNUC__)
#define DESCENT_NO_CONTRACTION
#else
#define DESCENT_NO_CONTRACTION , gnu::optimize("fp-contract=off")
#endif
#if defined(__x86_64__)
#define DESCENT_TARGET(features) \
  gnu::target(features), gnu::flatten, gnu::noinline DESCENT_NO_CONTRACTION
#endif
#define DESCENT_BASELINE gnu::flatten, gnu::noinline DESCENT_NO_CONTRACTION
/// @endcond

namespace [[gnu::visibility("default")]] descent { namespace simd {

/// The instruction sets that loops are built for.
enum class Isa { baseline, avx2, avx512 };

/// The widest instruction set that this CPU has, or the one that the environment variable
/// DESCENT_ISA names if that is narrower: baseline or avx2.
Isa detect_isa();
/// Whether the CPU has AVX-512 with all the parts that run_avx512 is built for.
bool cpu_has_avx512();
namespace detail {
inline Isa current_isa = detect_isa();  // tests lower it
}
/// The instruction set in use.
inline Isa isa() { return detail::current_isa; }

/// An operand that has one value for all elements. It stands in place of a pointer.
template <class T> struct Scalar {
  T value;  ///< of all elements
};
/// Scalar{v} has the type of v.
template <class T> Scalar(T) -> Scalar<T>;

namespace detail {

template <class P> struct RestrictedPointer { using type = P; };
template <class T> struct RestrictedPointer<T*> { using type = T* __restrict; };
template <class P> using Restricted = typename RestrictedPointer<P>::type;

template <class T> T& at(T* p, int64_t i) { return p[i]; }
template <class T> const T& at(const Scalar<T>& s, int64_t) { return s.value; }

/// The inner loop has a constant count, because at -O2 GCC vectorises no other loops.
template <class Body, class... P>
[[gnu::always_inline, gnu::flatten]] inline void loop(Body& body, int64_t n, P... p) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; ++j) body(at(p, i + j)...);
  for (; i < n; ++i) body(at(p, i)...);
}

template <class... P, class F> [[DESCENT_BASELINE]] auto run_baseline(F& f, Restricted<P>... p) {
  return f(p...);
}
#if defined(__x86_64__)
template <class... P, class F>
[[DESCENT_TARGET("avx2,fma")]] auto run_avx2(F& f, Restricted<P>... p) {
  return f(p...);
}
template <class... P, class F>
[[DESCENT_TARGET("avx512f,avx512dq,avx512bw,avx512vl,avx512cd,avx2,fma")]] auto run_avx512(
    F& f, Restricted<P>... p) {
  return f(p...);
}
template <class... P, class F>
[[DESCENT_TARGET("avx2")]] void exact_avx2(F& f, Restricted<P>... p) {
  f(p...);
}
#endif

template <class F, class... P> auto run(F&& f, P... p) {
#if defined(__x86_64__)
// With AddressSanitizer, gcc before 14 does not align variables of 64 bytes on the stack.
#if !defined(__SANITIZE_ADDRESS__) || __GNUC__ > 13
  if (isa() == Isa::avx512) return run_avx512<P...>(f, p...);
#endif
  if (isa() != Isa::baseline) return run_avx2<P...>(f, p...);
#endif
  return run_baseline<P...>(f, p...);
}
}  // namespace detail

/// Returns f(), whose whole body is compiled for the instruction set in use.
template <class F> auto call(F&& f) { return detail::run(f); }

/// Calls body(p[i]...) for i in [0, n). A pointer to const gives a const reference. Two pointers
/// may be equal, but what they point to may not overlap otherwise.
template <class Body, class... P> void for_each(Body body, int64_t n, P... p) {
  detail::run([=](auto... q) mutable { detail::loop(body, n, q...); }, p...);
}

/// Like for_each, but with the same bits in every build and on every CPU: it uses AVX2 at most and
/// fuses nothing. Update rules run in it, so that a replay finds the numbers that were stored. They
/// lose no time, because memory limits their speed.
template <class Body, class... P> void for_each_exact(Body body, int64_t n, P... p) {
  auto all = [=](auto... q) mutable { detail::loop(body, n, q...); };
#if defined(__x86_64__)
  if (isa() != Isa::baseline) return detail::exact_avx2<P...>(all, p...);
#endif
  detail::run_baseline<P...>(all, p...);
}

/// out[i] = f(in[i]...) for i in [0, n); an input is a pointer or a Scalar. `out` may be an input.
template <class F, class Out, class... P> void map(F f, int64_t n, Out* out, P... in) {
  auto assign = [f](auto& to, const auto&... from) __attribute__((always_inline, flatten)) {
    to = f(from...);
  };
  for_each(assign, n, out, in...);
}

}}  // namespace descent::simd

#undef DESCENT_NO_CONTRACTION
#undef DESCENT_TARGET
#undef DESCENT_BASELINE
