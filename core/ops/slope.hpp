#pragma once
/// @file
/// Derivatives that are one kernel, where a chain of ops would pass over memory several times.

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/arithmetic.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {

/// The derivative f(g, v) of a function of one element, where v is its input or its output: an op,
/// which is linear in g. `bend(g h, v)`, written in ops, is its own derivative with respect to v.
template <class F, class B> struct Slope {
  const char* op;  ///< the name of the op
  F f;             ///< a formula of numbers
  B bend;          ///< a function of tensors
  /// The gradient of the function's input, from the gradient g of its output.
  Tensor operator()(const In& g, const In& v) const {
    return record(
        op, zip(op, g, v, f),
        wrt(g, [v = saved(v), s = *this](const Tensor& h) { return s(h, v); }),
        wrt(v, [g = saved(g), v = saved(v), b = bend](const Tensor& h) { return b(g * h, *v); }));
  }
};
/// Slope{op, f, bend} has the types of f and bend.
template <class F, class B> Slope(const char*, F, B) -> Slope<F, B>;

}}  // namespace descent::detail
