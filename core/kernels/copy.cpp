#include "descent/core/kernels/copy.hpp"

#include <cstring>

#include "descent/core/kernels/elementwise.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// ValueError if Out does not hold an element of x, whose elements are T.
template <class T, class Out> static void check_elements(const char* op, const In& x) {
  const Tensor source = pack(x), fits = empty_like(op, x, boolean);
  transform<bool>([](T v) { return holds<Out>(v); }, fits, Operand<T>(source));
  const bool* first = elements_of<bool>(fits);
  const auto* misfit =
      static_cast<const bool*>(std::memchr(first, 0, static_cast<std::size_t>(fits.numel())));
  if (!misfit) return;
  const int64_t i = misfit - first;
  check_element<Out>(op, elements_of<T>(source)[i], i, x.shape(), x.at);
}

Tensor convert(const char* op, const In& x, DType dtype) {
  Tensor out = empty_like(op, x, dtype);
  visit<Kinds::any>(op, x.dtype(), x.at, [&](auto from) {
    visit<Kinds::any>(op, dtype, x.at, [&](auto into) {
      using T = decltype(from);
      using Out = decltype(into);
      if constexpr (std::is_same_v<Out, int64_t> && std::is_floating_point_v<T>)
        check_elements<T, Out>(op, x);
      transform<Out>([](T v) { return static_cast<Out>(v); }, out, Operand<T>(x));
    });
  });
  return out;
}

Tensor pack(const In& x) {
  return x.is_contiguous() ? Tensor(x) : convert("contiguous", x, x.dtype());
}

}}  // namespace descent::detail
