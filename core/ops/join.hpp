#pragma once
/// @file
/// Functions that join tensors along an axis, or split one.

#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Joins the tensors, one after the other, along `dim`; the result is a copy. They have the same
/// dtype (any), the same rank, which is at least 1, and the same sizes except along `dim`.
/// ValueError if the list is empty; a ShapeError or DtypeError names the tensor that does not fit
/// by its place in the list.
[[nodiscard]] Tensor cat(const std::vector<Tensor>& tensors, int64_t dim = 0, At at = At::here());
/// Joins n tensors of the same shape and dtype along a new axis of size n, which stands in front of
/// axis `dim`, in [-rank - 1, rank]. Everything else is as for `cat`.
[[nodiscard]] Tensor stack(const std::vector<Tensor>& tensors, int64_t dim = 0, At at = At::here());

/// Copies the elements of all parameters, in their order, into one vector. DtypeError unless all
/// have the same dtype, ValueError if there are none.
[[nodiscard]] Tensor parameters_to_vector(const NamedTensors& parameters, At at = At::here());
/// Copies the elements of such a vector back into the parameters: a change in place, for which
/// parameters that require a gradient need a NoGradGuard. ShapeError unless the vector has as many
/// elements as all parameters together.
void vector_to_parameters(const In& vector, const NamedTensors& parameters);

/// Splits x along `dim` into views of `size` indices each; the last one may be smaller.
[[nodiscard]] std::vector<Tensor> split(const In& x, int64_t size, int64_t dim = 0);
/// Splits x along `dim` into views of sizes[0], sizes[1], ... indices. ShapeError unless the sizes
/// add up to x's size along `dim`.
[[nodiscard]] std::vector<Tensor> split(const In& x, const std::vector<int64_t>& sizes,
                                        int64_t dim = 0);
/// Splits x along `dim` into at most `count` views of equal size; the last one may be smaller, and
/// there are fewer if fewer have all indices. ValueError unless count > 0.
[[nodiscard]] std::vector<Tensor> chunk(const In& x, int64_t count, int64_t dim = 0);

}  // namespace descent
