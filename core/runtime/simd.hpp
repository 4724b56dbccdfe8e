#pragma once
/// @file
/// The only code that knows SIMD exists: it runs a loop over a callable in one of three builds of
/// itself, picked by the CPU. A lambda inlines into all three, so nothing is compiled twice, one
/// binary is fast everywhere, and a user's formula gets the wide path in a plain -O2 build.

#include <cstdint>

#include "descent/core/base/float_mode.hpp"

/// @cond
// glibc declares these without `const` because of errno; with it both compilers hoist and
// vectorise, also in your own rules. The price: in a file that includes this, they do not set
// errno.
extern "C" {
[[gnu::const]] float sqrtf(float) noexcept;
[[gnu::const]] double sqrt(double) noexcept;
[[gnu::const]] double pow(double, double) noexcept;
}

// GCC fuses a*b + c wherever the target has the instruction; bits would then depend on the build.
// (An attribute cannot be chosen but by a macro; these three go at the end of the file.)
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

/// The widest that this CPU allows, or DESCENT_ISA if that is narrower: baseline or avx2.
Isa detect_isa();
/// AVX-512 with all the parts that run_avx512 is built for.
bool cpu_has_avx512();
namespace detail {
inline Isa current_isa = detect_isa();  // tests lower it
}
/// The one in use.
inline Isa isa() { return detail::current_isa; }

/// An operand that is the same for every element, in place of a pointer.
template <class T> struct Scalar {
  T value;  ///< every element
};
/// Scalar{v} is one of v's type.
template <class T> Scalar(T) -> Scalar<T>;

namespace detail {

template <class P> struct RestrictedPointer { using type = P; };
template <class T> struct RestrictedPointer<T*> { using type = T* __restrict; };
template <class P> using Restricted = typename RestrictedPointer<P>::type;

template <class T> T& at(T* p, int64_t i) { return p[i]; }
template <class T> const T& at(const Scalar<T>& s, int64_t) { return s.value; }

/// Inner counts are constants: at -O2, GCC vectorises no others.
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
// On the stack that AddressSanitizer keeps, gcc before 14 does not align variables of 64 bytes.
#if !defined(__SANITIZE_ADDRESS__) || __GNUC__ > 13
  if (isa() == Isa::avx512) return run_avx512<P...>(f, p...);
#endif
  if (isa() != Isa::baseline) return run_avx2<P...>(f, p...);
#endif
  return run_baseline<P...>(f, p...);
}
}  // namespace detail

/// f(), all of its body compiled for the best instruction set there is.
template <class F> auto call(F&& f) { return detail::run(f); }

/// body(p[i]...) for i in [0, n). Pointers to const give const references. Two of them may be the
/// same, but they may not overlap otherwise.
template <class Body, class... P> void for_each(Body body, int64_t n, P... p) {
  detail::run([=](auto... q) mutable { detail::loop(body, n, q...); }, p...);
}

/// for_each with the same bits in every build and on every CPU: AVX2 at most, nothing fused. Update
/// rules run here, bound by memory anyway, so that a replay finds the numbers that were stored.
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
