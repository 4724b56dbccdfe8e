#pragma once
/// @file
/// Steps from some tensors towards others, by their places in two lists, and copies to go back to.

#include <span>

#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Named tensors that somebody else keeps.
using NamedSpan = std::span<const NamedTensors::value_type>;
/// Throws a ShapeError, as `who`, unless tensors at the same place have the same shape and floating
/// dtypes, which need not be the same one.
void check_blend(const char* who, NamedSpan into, NamedSpan from, At at);
/// into[i] += weight (from[i] - into[i]) for all i that both have. It starts from the nearer of the
/// two, so that a weight of 0 or 1 is exact (1 copies). All are checked first, as by check_blend;
/// after that nothing fails, because it needs no memory. The graph names `op` as what changed them.
void blend(const char* op, NamedSpan into, NamedSpan from, double weight);

/// Copies the elements of some tensors, and puts them back when it ends. One that has got another
/// shape by then stays as it is.
struct ElementsGuard : Pinned {
  /// Copies the elements of `all`.
  explicit ElementsGuard(const NamedTensors& all);
  ~ElementsGuard();
  NamedTensors tensors;  ///< what is put back; nothing is, if it is cleared
  NamedTensors copies;   ///< with these elements
};

}  // namespace descent
