#pragma once
/// @file
/// Tensors with names, as models, optimizers and files exchange them.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Tensors with their dotted names, in a fixed order. Models, optimizers and files exchange
/// parameters in this form.
struct NamedTensors : std::vector<std::pair<std::string, Tensor>> {
  using vector::vector;
  NamedTensors() = default;
  /// Takes over the pairs of a plain vector.
  NamedTensors(vector all) : vector(std::move(all)) {}
  NamedTensors(const std::vector<Tensor>& unnamed) __attribute__((
      unavailable("give named parameters: net.named_parameters(), or {{\"w\", w}, {\"b\", b}}")));
};

/// The lists one after the other: `join({encoder.named_parameters("encoder"), ...})`.
[[nodiscard]] NamedTensors join(std::initializer_list<NamedTensors> lists);

/// Whether `name` fits `pattern`, in which '*' stands for any characters, '?' for one, and "[0-3]"
/// for one of those in brackets, as in file names of a shell.
[[nodiscard]] bool matches(std::string_view pattern, std::string_view name);

/// The same names, with copies of the elements and no graph.
[[nodiscard]] NamedTensors clone_all(NamedTensors tensors);

/// The entries whose names begin with `prefix`, and the others.
[[nodiscard]] std::pair<NamedTensors, NamedTensors> split_by_prefix(NamedTensors all,
                                                                    std::string_view prefix);

/// Replaces every defined gradient by zeros. If memory runs out, no gradient has changed.
void zero_gradients(const NamedTensors& parameters);

/// The positions in the list of two contiguous tensors that share elements; {0, 0} if there are no
/// such two.
[[nodiscard]] std::pair<std::size_t, std::size_t> find_shared(const NamedTensors& tensors);

/// The names of what a load that is not strict has left as it was.
struct IncompatibleKeys {
  std::vector<std::string> missing;     ///< the state does not have these
  std::vector<std::string> unexpected;  ///< the state alone has these
  std::vector<std::string> mismatched;  ///< have another shape or dtype in the state
};

/// The tensors that `state` has under the names of `own`, in the order of `own`. ValueError that
/// names `who` and lists all that does not fit: names that are missing or unexpected, other dtypes
/// and shapes. If `left_out` is given, that is no error: their names are added there, and a tensor
/// that does not fit is undefined in the result.
[[nodiscard]] std::vector<Tensor> match_state(const NamedTensors& own, const NamedTensors& state,
                                              const std::string& who, IncompatibleKeys* left_out,
                                              At at);

}  // namespace descent
