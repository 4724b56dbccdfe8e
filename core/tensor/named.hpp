#pragma once
/// @file
/// Tensors with names, as models, optimizers and files exchange them.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Tensors with their dotted names, in a fixed order: how models, optimizers and files exchange
/// parameters.
struct NamedTensors : std::vector<std::pair<std::string, Tensor>> {
  using vector::vector;
  NamedTensors() = default;
  /// The pairs of a plain vector.
  NamedTensors(vector all) : vector(std::move(all)) {}
  NamedTensors(const std::vector<Tensor>& unnamed) __attribute__((
      unavailable("give named parameters: net.named_parameters(), or {{\"w\", w}, {\"b\", b}}")));
};

/// The lists one after the other: `join({encoder.named_parameters("encoder"), ...})`.
[[nodiscard]] NamedTensors join(std::initializer_list<NamedTensors> lists);

/// Whether `name` fits `pattern`, in which '*' stands for any characters and '?' for one.
[[nodiscard]] bool matches(std::string_view pattern, std::string_view name);

/// The same names, with copies of the elements and no graph.
[[nodiscard]] NamedTensors clone_all(NamedTensors tensors);

/// The entries whose names begin with `prefix`, and the others.
[[nodiscard]] std::pair<NamedTensors, NamedTensors> split_by_prefix(const NamedTensors& all,
                                                                    std::string_view prefix);

/// Puts zeros in the place of every gradient that there is: of all or, if memory runs out, of none.
void zero_gradients(const NamedTensors& parameters);

/// Two that have elements in common, by their places; none: {0, 0}.
[[nodiscard]] std::pair<std::size_t, std::size_t> find_shared(const NamedTensors& tensors);

/// What `state` has under the names of `own`, in their order; undefined where it has nothing and
/// need not (`strict` = false). ValueError, as `who`, that lists all that does not fit: names that
/// are missing or, if strict, unexpected, and other dtypes or shapes.
[[nodiscard]] std::vector<Tensor> match_state(const NamedTensors& own, const NamedTensors& state,
                                              const std::string& who, bool strict, At at);

}  // namespace descent
