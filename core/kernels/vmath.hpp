#pragma once
/// @file
/// Functions of one element that vectorise: they have no branches, do not set errno and, in the
/// loops of simd.hpp, use no fused multiply-add, so that all instruction sets give the same bits. T
/// is float or double. Results are within 2 ulp of the exact value everywhere, also for zeros,
/// infinities and subnormals; a docstring ends with the bound of its function. The polynomials are
/// minimax fits of our own. The reductions of the argument are Cody & Waite's (Software Manual for
/// the Elementary Functions, 1980) and, for log, Tang's (1990) with s = f / (2 + f). Other
/// functions (sin, pow, ...) are those of std.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "descent/core/runtime/simd.hpp"

#if defined(__clang__)
#pragma float_control(push)
#pragma clang fp contract(off)
#endif

namespace [[gnu::visibility("default")]] descent { namespace vmath {
namespace detail {

template <class T> using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
template <class T> inline constexpr int mantissa = std::numeric_limits<T>::digits - 1;
template <class T> inline constexpr Bits<T> bias = std::numeric_limits<T>::max_exponent - 1;
template <class T> [[gnu::always_inline]] inline Bits<T> bits(T x) {
  return std::bit_cast<Bits<T>>(x);
}
template <class T> [[gnu::always_inline]] inline T from_bits(Bits<T> b) {
  return std::bit_cast<T>(b);
}
template <class T> inline constexpr Bits<T> sign_bit = Bits<T>(1) << (8 * sizeof(T) - 1);
template <class T> [[gnu::always_inline]] inline T copysign(T x, T s) {
  return from_bits<T>((bits(x) & ~sign_bit<T>) | (bits(s) & sign_bit<T>));
}
/// c[0] + z (c[1] + z (c[2] + ...)), from c[I] on.
template <std::size_t I = 0, class T, std::size_t N>
[[gnu::always_inline]] inline T horner(T z, const T (&c)[N]) {
  if constexpr (I == N - 1) return c[I];
  else return c[I] + z * horner<I + 1>(z, c);
}
/// Constants and polynomials of one type.
template <class T> struct K;
template <> struct K<float> {
  static constexpr float magic = 0x1.8p23f, ln2_hi = 0x1.62e4p-1f, ln2_lo = 0x1.7f7d1cp-20f,
                         log2e = 0x1.715476p0f;
  static constexpr float exp_max = 89, exp_min = -104, expm1_min = -18, tanh_max = 17.3f,
                         erf_max = 4, tiny = 0x1p-25f, sqrt_half = 0x1.6a09e6p-1f;
  static constexpr float exp_q[] = {0x1.0p-1f,      0x1.555554p-3f,  0x1.5554bp-5f,
                                    0x1.11118ap-7f, 0x1.6d7348p-10f, 0x1.a032d2p-13f};
  static constexpr float log_r[] = {0x1.555554p-1f, 0x1.999a7cp-2f, 0x1.2438aap-2f, 0x1.e2fda8p-3f};
  static constexpr float erf_p[] = {0x1.06eba8p-3f,  -0x1.81273ep-2f, 0x1.ce2cf8p-4f,
                                    -0x1.b7f90ep-6f, 0x1.5405b2p-8f,  -0x1.a3f702p-11f,
                                    0x1.496a36p-14f};
  static constexpr float erfcx[] = {0x1.6e983p-3f,   -0x1.4e0f22p-2f, 0x1.f70482p-3f,
                                    -0x1.33f8a4p-3f, 0x1.1e1ceap-4f,  -0x1.d8812p-6f};
};
template <> struct K<double> {
  static constexpr double magic = 0x1.8p52, ln2_hi = 0x1.62e42fefa38p-1,
                          ln2_lo = 0x1.ef35793c7673p-45, log2e = 0x1.71547652b82fep0;
  static constexpr double exp_max = 710, exp_min = -746, expm1_min = -38, tanh_max = 37.4,
                          erf_max = 6, tiny = 0x1p-54, sqrt_half = 0x1.6a09e667f3bcdp-1;
  static constexpr double exp_q[] = {
      0x1.0000000000000p-1,  0x1.5555555555559p-3,  0x1.555555555553ep-5,  0x1.111111110f673p-7,
      0x1.6c16c16c1f279p-10, 0x1.a01a01b001f7ep-13, 0x1.a01a017b5da62p-16, 0x1.71ddf7fe4d0bfp-19,
      0x1.27e5369b5bd01p-22, 0x1.af5f689ae72fbp-26, 0x1.1ee887ae2cddcp-29};
  static constexpr double log_r[] = {
      0x1.5555555555593p-1, 0x1.999999997fb5bp-2, 0x1.2492494215b7ap-2, 0x1.c71c51e951227p-3,
      0x1.746645ed33174p-3, 0x1.39a0fad2a9749p-3, 0x1.2f0d587e619cep-3};
  static constexpr double erf_p[] = {
      0x1.06eba8214db69p-3,  -0x1.812746b0379e6p-2,  0x1.ce2f21a042b2p-4,   -0x1.b82ce3128499cp-6,
      0x1.565bcd0db02e1p-8,  -0x1.c02db3d8ed18cp-11, 0x1.f9a321a11c6ap-14,  -0x1.f4d1df393000cp-17,
      0x1.b9def19c99e7bp-20, -0x1.5f1d36b73718ap-23, 0x1.f7a411bcb5e79p-27, -0x1.386abf785b2ccp-30,
      0x1.0579a766a3ac1p-34};
  static constexpr double erfcx[] = {
      0x1.6e9827d229d2fp-3,   -0x1.4e102b9cf8de6p-2, 0x1.f6ff2040ddd44p-3, -0x1.336ffbf093802p-3,
      0x1.258b13c0c1cb2p-4,   -0x1.8fa584abdb7a8p-6, 0x1.17c9d6ef6dc35p-8, 0x1.735b291312114p-11,
      -0x1.37f38fdc1278dp-11, 0x1.a5436d301d99bp-15, 0x1.2c69a2446c0dp-14, -0x1.b03fdd6535635p-18,
      -0x1.b989ab577a386p-18};
};

/// x = n ln2 + r with |r| <= ln2 / 2, and c = exp(r) - 1 - r.
template <class T> struct Reduced {
  T r, c;
  Bits<T> n;
};
template <class T> [[gnu::always_inline]] inline Reduced<T> reduce(T x) {
  const T shifted = x * K<T>::log2e + K<T>::magic;  // its low bits are n
  const T n = shifted - K<T>::magic;
  const T high = x - n * K<T>::ln2_hi, low = n * K<T>::ln2_lo, r = high - low;
  const T lost = (high - r) - low;
  return {r, r * r * horner(r, K<T>::exp_q) + lost, bits(shifted) - bits(K<T>::magic)};
}
template <class T> [[gnu::always_inline]] inline T pow2(Bits<T> n) {
  return from_bits<T>((n + bias<T>) << mantissa<T>);
}

/// log(x) + k0 ln2 + extra, for a normal x.
template <class T> [[gnu::always_inline]] inline T log_core(T x, T extra, T k0) {
  const Bits<T> u = bits(x) - bits(K<T>::sqrt_half) + (bias<T> << mantissa<T>);
  const Bits<T> mask = ~(~Bits<T>(0) << mantissa<T>);
  const T k =
      from_bits<T>(bits(K<T>::magic) + (u >> mantissa<T>)) - (K<T>::magic + T(bias<T>)) + k0;
  const T m = from_bits<T>((u & mask) + bits(K<T>::sqrt_half));
  const T f = m - 1, s = f / (f + 2), h = f * f * T(0.5);
  const T r = s * (h + s * s * horner(s * s, K<T>::log_r));
  return k * K<T>::ln2_hi + (f - (h - (r + (k * K<T>::ln2_lo + extra))));
}

}  // namespace detail

using detail::K;

/// a if c holds, otherwise b. It uses masks, so that compilers make no branch of it.
template <class T> [[gnu::always_inline]] inline T where(bool c, T a, T b) {
  const detail::Bits<T> mask = detail::Bits<T>(0) - static_cast<detail::Bits<T>>(c);
  return detail::from_bits<T>((detail::bits(a) & mask) | (detail::bits(b) & ~mask));
}
/// |x|. It removes the sign of -0 and NaN too.
template <class T> [[gnu::always_inline]] inline T abs(T x) {
  return detail::from_bits<T>(detail::bits(x) & ~detail::sign_bit<T>);
}

/// The square root, exactly rounded. (std::sqrt of a float sets errno, so it does not vectorise.)
[[gnu::always_inline]] inline float sqrt(float x) { return ::sqrtf(x); }
[[gnu::always_inline]] inline double sqrt(double x) { return ::sqrt(x); }

/// exp(x) as 2^n (1 + r + c). 2^n is two factors, for results below the normal range. 0.95 ulp.
template <class T> [[gnu::always_inline]] inline T exp(T x) {
  x = where(x > K<T>::exp_max, K<T>::exp_max, x);
  x = where(x < K<T>::exp_min, K<T>::exp_min, x);
  const auto [r, c, n] = detail::reduce(x);
  const detail::Bits<T> half = ((n + 2 * detail::bias<T>) >> 1) - detail::bias<T>;
  return (1 + (r + c)) * detail::pow2<T>(half) * detail::pow2<T>(n - half);
}

/// exp(x) - 1 from the same parts, before they cancel. 1.4 ulp.
template <class T> [[gnu::always_inline]] inline T expm1(T x) {
  T a = where(x > K<T>::exp_max, K<T>::exp_max, x);
  a = where(a < K<T>::expm1_min, K<T>::expm1_min, a);
  const auto [r, c, n] = detail::reduce(a);
  const T s = detail::pow2<T>(n - 1);
  const T e = 2 * (((s - T(0.5)) + s * r) + s * c);
  return where(abs(x) < K<T>::tiny, x, e);
}

/// 1 / (1 + exp(-x)), from e / (1 + e) with e = exp(-|x|), corrected for the rounding of 1 + e. 1.9
/// ulp.
template <class T> [[gnu::always_inline]] inline T sigmoid(T x) {
  const T e = exp(-abs(x));
  const T d = 1 + e, lost = (1 - d) + e;
  const T y = where(x < 0, e, T(1)) / d;
  return y - (y * lost) * (1 - y);
}

/// tanh(x) as e / (2 + e) with e = exp(2|x|) - 1, corrected for the rounding of 2 + e. 1.95 ulp.
template <class T> [[gnu::always_inline]] inline T tanh(T x) {
  const T a = 2 * abs(x);
  const auto [r, c, n] = detail::reduce(a);
  const T s = detail::pow2<T>(n);
  const T e = (s - 1) + s * (r + c);
  const T d = 2 + e, lost = (2 - d) + e;
  const T y = e / d;
  const T inside = y - (y * lost) * (T(0.5) - T(0.5) * y);
  return detail::copysign(where(a > K<T>::tanh_max, T(1), inside), x);
}

/// The natural logarithm: -inf at 0, NaN below. A subnormal x is first scaled into the normal
/// range. 0.85 ulp.
template <class T> [[gnu::always_inline]] inline T log(T x) {
  using Limits = std::numeric_limits<T>;
  const bool small = x < Limits::min();
  const T scaled = where(small, x * (T(1) / Limits::epsilon()), x);
  const T y = detail::log_core(scaled, T(0), where(small, T(-detail::mantissa<T>), T(0)));
  const T edge = where(x == 0, -Limits::infinity(), Limits::quiet_NaN());
  return where(x > 0, where(x == Limits::infinity(), x, y), edge);
}

/// log(1 + x) as log(u) with u = 1 + x, corrected for the rounding of u. 0.85 ulp.
template <class T> [[gnu::always_inline]] inline T log1p(T x) {
  using Limits = std::numeric_limits<T>;
  const T u = 1 + x;
  const T lost = x - (u - 1);
  const T y = detail::log_core(u, lost / u, T(0));
  const T edge = where(u == 0, -Limits::infinity(), Limits::quiet_NaN());
  return where(abs(x) < K<T>::tiny, x, where(x > -1, where(x == Limits::infinity(), x, y), edge));
}

/// 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x. A polynomial for |x| < 1; above, 1 -
/// exp(-x^2) times a polynomial in (|x| - 3) / (|x| + 3). 1.35 ulp.
template <class T> [[gnu::always_inline]] inline T erf(T x) {
  const T magnitude = abs(x);
  const T a = where(magnitude > K<T>::erf_max, K<T>::erf_max, magnitude);
  const T z = a * a;
  const auto [r, c, n] = detail::reduce(-z);
  const T decay = (1 + (r + c)) * detail::pow2<T>(n);
  const T tail = decay * detail::horner((a - 3) / (a + 3), K<T>::erfcx);
  return where(a < 1, x + x * detail::horner(z, K<T>::erf_p), detail::copysign(1 - tail, x));
}

}}  // namespace descent::vmath

#if defined(__clang__)
#pragma float_control(pop)
#endif
