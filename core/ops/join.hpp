#pragma once
/// @file
/// Tensors put together and taken apart along an axis.

#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The tensors one after the other along `dim`: of one rank, at least 1, one dtype, any, and equal
/// sizes but for `dim`. A copy. ValueError for an empty list; ShapeError or DtypeError names the
/// tensor that does not fit by its place in the list.
[[nodiscard]] Tensor cat(const std::vector<Tensor>& tensors, int64_t dim = 0, At at = At::here());
/// n tensors of one shape and dtype along a new axis of size n before axis `dim`, in
/// [-rank - 1, rank]. Otherwise as cat.
[[nodiscard]] Tensor stack(const std::vector<Tensor>& tensors, int64_t dim = 0, At at = At::here());

/// The elements of all parameters as one vector, in their order: a copy. DtypeError unless they
/// have one dtype, ValueError if there are none.
[[nodiscard]] Tensor parameters_to_vector(const NamedTensors& parameters, At at = At::here());
/// Puts the elements of such a vector back into the parameters, in place. ShapeError unless it has
/// as many.
void vector_to_parameters(const In& vector, const NamedTensors& parameters);

/// Views of `size` indices each along `dim`; the last one may be smaller.
[[nodiscard]] std::vector<Tensor> split(const In& x, int64_t size, int64_t dim = 0);
/// Views of sizes[0], sizes[1], ... indices along `dim`, which add up to its size (ShapeError).
[[nodiscard]] std::vector<Tensor> split(const In& x, const std::vector<int64_t>& sizes,
                                        int64_t dim = 0);

}  // namespace descent
