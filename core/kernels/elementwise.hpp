#pragma once
/// @file
/// Elementwise kernels for ops of the library and for your own: a scalar formula becomes a loop
/// over tensors of any shape, stride and broadcast, vectorised and threaded. Kernels compute values
/// and record nothing: `record` adds the derivative.

#include <array>

#include "descent/core/runtime/simd.hpp"
#include "descent/core/runtime/threads.hpp"
#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// A pointer to the first element of a tensor, for loops that know its dtype and its strides. The
/// graph does not notice a change through this pointer: see `will_write`.
template <class T> T* elements_of(const Tensor& t) {
  return reinterpret_cast<T*>(Peek::header(t)->data);
}

namespace detail {

/// How to walk through an output and N - 1 inputs of one shape together. Neighbouring axes are
/// merged if they have a common stride in each operand. The innermost axis comes first. Strides are
/// in elements.
template <std::size_t N> struct Walk {
  int rank = 0;
  int64_t numel = 0;
  int64_t size[kMaxRank];
  int64_t stride[kMaxRank][N];
};

/// Fills `size` and `stride` (rows of n) and returns the rank. Each operand broadcasts to `shape`.
int plan_walk(const Shape& shape, const Header* const* operands, std::size_t n, int64_t* size,
              int64_t* stride);

template <std::size_t N>
Walk<N> plan(const Shape& shape, int64_t numel, const std::array<const Header*, N>& operands) {
  Walk<N> w;
  w.numel = numel;
  w.rank = plan_walk(shape, operands.data(), N, w.size, &w.stride[0][0]);
  return w;
}

/// The elements of a tile. It is a constant, so that results do not depend on the threads.
inline constexpr int64_t kTileElements = 1 << 15;
/// a / b, rounded up; a >= 0, b > 0.
inline int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b > 0); }
/// The number of tiles for n elements.
inline int64_t count_tiles(int64_t n) { return ceil_div(n, kTileElements); }

/// Calls body(n, offset) for each run of [begin, end). A run is n elements along the innermost
/// axis, which start offset[k] elements into operand k.
template <std::size_t N, class Body>
void for_each_run(const Walk<N>& w, int64_t begin, int64_t end, Body&& body) {
  int64_t index[kMaxRank], rest = begin;
  std::array<int64_t, N> offset{};
  for (int d = 0; d < w.rank; ++d) {
    index[d] = rest % w.size[d];
    rest /= w.size[d];
    for (std::size_t k = 0; k < N; ++k) offset[k] += index[d] * w.stride[d][k];
  }
  for (int64_t at = begin; at < end;) {
    int64_t n = std::min(w.size[0] - index[0], end - at);
    body(n, offset);
    at += n;
    index[0] += n;
    for (std::size_t k = 0; k < N; ++k) offset[k] += n * w.stride[0][k];
    for (int d = 0; d + 1 < w.rank && index[d] == w.size[d]; ++d) {
      ++index[d + 1];
      for (std::size_t k = 0; k < N; ++k)
        offset[k] += w.stride[d + 1][k] - w.size[d] * w.stride[d][k];
      index[d] = 0;
    }
  }
}

/// to[i] = from[i] for i in [0, n), and nothing beyond. It is inlined, because rows may be too
/// short to call a function for each.
template <class T> inline void copy_exactly(const T* from, int64_t n, T* to) {
  constexpr int lanes = 8;
  for (; n >= lanes; n -= lanes, from += lanes, to += lanes)
    __builtin_memcpy(to, from, lanes * sizeof(T));
  for (; n > 0; --n) *to++ = *from++;
}

/// An input of a kernel: a tensor whose elements are T, or a number.
template <class T> struct Operand {
  explicit Operand(const Tensor& t) : header(Peek::header(t)) {}
  explicit Operand(const Header& number) : header(&number) {}
  const T* data() const { return reinterpret_cast<const T*>(header->data); }
  const Header* header;
};

/// A header that shows `number` as a tensor. The number must live as long as the header.
template <class T> Header header_of(T& number) {
  Header header;
  header.dtype = dtype_of<T>();
  header.data = reinterpret_cast<std::byte*>(&number);
  header.numel = 1;
  return header;
}

/// An operand of a run: a pointer to its elements, or the one element that is repeated.
template <bool repeated, class T> auto run_operand(const T* p) {
  if constexpr (repeated) return simd::Scalar{*p};
  else return p;
}

/// Computes one run. stride[0] is the stride of `out`, the others are those of the inputs. The run
/// is vectorised if all strides are 1, or if one input of several is repeated.
template <std::size_t... I, class F, class Out, class... T>
void map_run(std::index_sequence<I...>, F& f, int64_t n, const int64_t* stride, Out* out,
             const T*... in) {
  if (stride[0] == 1 && ((stride[I + 1] == 1) && ...)) return simd::map(f, n, out, in...);
  if constexpr (sizeof...(T) > 1) {
    auto repeats = [&]<std::size_t K>(std::integral_constant<std::size_t, K>) {
      if (!((stride[I + 1] == (I == K ? 0 : 1)) && ...)) return false;
      simd::map(f, n, out, run_operand<I == K>(in)...);
      return true;
    };
    if (stride[0] == 1 && (repeats(std::integral_constant<std::size_t, I>{}) || ...)) return;
  }
  for (int64_t i = 0; i < n; ++i) out[i * stride[0]] = f(in[i * stride[I + 1]]...);
}

/// Computes one run with the formula `f`; at[0] is where its results go, the others are its inputs.
using MapRun = void (*)(void* f, int64_t n, const int64_t* stride, std::byte* const* at);
/// Computes all runs, on several threads. operands[0] is the output, to whose shape the others
/// broadcast. It knows neither the formula nor the types, so that there is one for each N.
template <std::size_t N>
void map_all(MapRun run, void* f, const std::array<const Header*, N>& operands);

template <class F, class Out, class... T, std::size_t... I>
constexpr MapRun run_of(std::index_sequence<I...>) {
  return [](void* f, int64_t n, const int64_t* stride, std::byte* const* at) {
    map_run(std::index_sequence<I...>(), *static_cast<F*>(f), n, stride,
            reinterpret_cast<Out*>(at[0]), reinterpret_cast<const T*>(at[I + 1])...);
  };
}
/// out[i] = f(in[i]...), where the inputs broadcast to out's shape. An input may be out itself, but
/// may not overlap it otherwise. There are at most three inputs.
template <class Out, class F, class... T> void transform(F f, const Tensor& out, Operand<T>... in) {
  constexpr MapRun run = run_of<F, Out, T...>(std::index_sequence_for<T...>());
  const Header* const to = Peek::header(out);
  auto even = [to](const Header& x) { return x.contiguous && x.numel == to->numel; };
  // Few elements without gaps are one run: here a call costs more than they do.
  if (to->contiguous && to->numel <= kTileElements &&
      ((in.header->numel == 1 || even(*in.header)) && ...)) {
    const int64_t stride[] = {1, in.header->numel == 1 ? 0 : 1 ...};
    std::byte* const at[] = {to->data, in.header->data...};
    return run(&f, to->numel, stride, at);
  }
  map_all<sizeof...(T) + 1>(run, &f, {to, in.header...});
}

[[noreturn]] void refuse_dtypes(const char* op, const In& a, const In& b, const char* name_of_a,
                                const char* name_of_b);

/// An uninitialised tensor of the shape that a and b broadcast to.
Tensor empty_broadcast(const char* op, const In& a, const In& b, DType dtype);

/// Sums, differences and products of elements, in which int64 wraps around at its ends.
namespace ring {
template <class T> using Wrapping = std::conditional_t<std::is_same_v<T, int64_t>, uint64_t, T>;
template <class T> [[gnu::always_inline]] inline T add(T a, T b) {
  return static_cast<T>(Wrapping<T>(a) + Wrapping<T>(b));
}
template <class T> [[gnu::always_inline]] inline T sub(T a, T b) {
  return static_cast<T>(Wrapping<T>(a) - Wrapping<T>(b));
}
template <class T> [[gnu::always_inline]] inline T mul(T a, T b) {
  return static_cast<T>(Wrapping<T>(a) * Wrapping<T>(b));
}
template <class T> [[gnu::always_inline]] inline T neg(T a) {
  return static_cast<T>(-Wrapping<T>(a));
}
}  // namespace ring

}  // namespace detail

/// For functions of your own: checks an input of the function `op`. ValueError if x is undefined,
/// GraphError if its elements have changed since it was taken or saved.
inline void check_input(const char* op, const In& x) { detail::check(op, x); }
/// The same, and DtypeError unless x is floating.
inline void check_floating(const char* op, const In& x) {
  detail::check(op, x);
  if (!is_floating(x.dtype())) detail::refuse_dtype(op, Kinds::floating, x.dtype(), x.at);
}
/// The same for two inputs, and DtypeError unless they have one dtype. The message uses the names.
inline void check_inputs(const char* op, const In& a, const In& b, const char* name_of_a = "a",
                         const char* name_of_b = "b") {
  detail::check(op, a);
  detail::check(op, b);
  if (a.dtype() != b.dtype()) [[unlikely]]
    detail::refuse_dtypes(op, a, b, name_of_a, name_of_b);
}

/// The shape that a and b broadcast to by NumPy's rule; otherwise a ShapeError that names the axis.
Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b, At at = At::here());
/// Whether a tensor of shape `from` broadcasts to exactly `to`.
[[nodiscard]] bool broadcasts_to(const Shape& from, const Shape& to);

/// f of each element, as a new tensor of x's shape. Its dtype is the one that f returns. `f` is
/// called with the C++ type of x's dtype, which must be among `K`: floating by default.
template <Kinds K = Kinds::floating, class F>
[[nodiscard]] Tensor map(const char* op, const In& x, F f) {
  detail::check(op, x);
  return visit<K>(op, x.dtype(), x.at, [&]<class T>(T) {
    using Out = std::decay_t<decltype(f(T()))>;
    Tensor out = detail::empty_like(op, x, dtype_of<Out>());
    detail::transform<Out>(f, out, detail::Operand<T>(x));
    return out;
  });
}

/// f(a, b) of each pair of elements after broadcasting. a and b have one dtype, which is among `K`.
template <Kinds K = Kinds::floating, class F>
[[nodiscard]] Tensor zip(const char* op, const In& a, const In& b, F f) {
  check_inputs(op, a, b);
  return visit<K>(op, a.dtype(), a.at, [&]<class T>(T) {
    using Out = std::decay_t<decltype(f(T(), T()))>;
    Tensor out = detail::empty_broadcast(op, a, b, dtype_of<Out>());
    detail::transform<Out>(f, out, detail::Operand<T>(a), detail::Operand<T>(b));
    return out;
  });
}
/// f(a, b, c) for a third tensor of their dtype that broadcasts to their shape (ShapeError).
template <Kinds K = Kinds::floating, class F>
[[nodiscard]] Tensor zip(const char* op, const In& a, const In& b, const In& c, F f) {
  check_inputs(op, a, b);
  check_inputs(op, a, c, "a", "c");
  return visit<K>(op, a.dtype(), a.at, [&]<class T>(T) {
    using Out = std::decay_t<decltype(f(T(), T(), T()))>;
    Tensor out = detail::empty_broadcast(op, a, b, dtype_of<Out>());
    if (!broadcasts_to(c.shape(), out.shape()))
      fail<ShapeError>(a.at, "{}: c {} does not broadcast to {}", op, c.shape(), out.shape());
    detail::transform<Out>(f, out, detail::Operand<T>(a), detail::Operand<T>(b),
                           detail::Operand<T>(c));
    return out;
  });
}
/// f(a, b) with a C++ number in place of b. It is converted to a's dtype.
template <Kinds K = Kinds::floating, class F>
[[nodiscard]] Tensor zip(const char* op, const In& a, Number b, F f) {
  detail::check(op, a);
  detail::check_scalar(op, a.dtype(), b, a.at);
  return visit<K>(op, a.dtype(), a.at, [&]<class T>(T) {
    using Out = std::decay_t<decltype(f(T(), T()))>;
    T number = b.to<T>();
    const detail::Header header = detail::header_of(number);
    Tensor out = detail::empty_like(op, a, dtype_of<Out>());
    detail::transform<Out>(f, out, detail::Operand<T>(a), detail::Operand<T>(header));
    return out;
  });
}

/// x[i] = f(x[i]) for each element of x, whose dtype is among `K`. The graph names `op` as what
/// changed x.
template <Kinds K = Kinds::floating, class F>
void map_in_place(const char* op, const Tensor& x, F f) {
  visit<K>(op, x.dtype(), At::unknown(), [&]<class T>(T) {
    will_write(op, x, At::unknown());
    detail::transform<T>([f](T v) { return f(v); }, x, detail::Operand<T>(x));
  });
}

}  // namespace descent
