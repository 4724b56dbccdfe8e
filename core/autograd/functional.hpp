#pragma once
/// @file
/// Derivatives of functions as functions: products with the Jacobian and the Hessian, both of them
/// as tensors, and a function that is computed again in backward in place of being kept.
///
/// `f` takes a list of tensors and returns one. Its inputs are floating; it is called with tensors
/// of the same elements that require gradients, records what it does with them, and must be
/// deterministic. Nothing is added to the gradients of leaves, and results have no graph. An input
/// on which f does not depend has derivatives 0. ValueError if there are no inputs, DtypeError if
/// one is not floating, GraphError while ops are not recorded.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// A function of some tensors.
using TensorFunction = std::function<Tensor(const std::vector<Tensor>&)>;

/// The value of a function, and for each input a product with a derivative.
struct Products {
  Tensor value;                  ///< f(inputs)
  std::vector<Tensor> products;  ///< of the shapes of the inputs
};
/// v^T J: the gradients of sum(v f(inputs)); v has the shape and dtype of f's value (ShapeError).
[[nodiscard]] Products vjp(const TensorFunction& f, const std::vector<Tensor>& inputs,
                           const Tensor& v, At at = At::here());
/// H v: the derivative of the gradient along v, by a second backward through the first. f returns
/// one element (ShapeError); v has the shapes and dtypes of the inputs (ShapeError). Pearlmutter
/// 1994.
[[nodiscard]] Products hvp(const TensorFunction& f, const std::vector<Tensor>& inputs,
                           const std::vector<Tensor>& v, At at = At::here());

/// The value of a function and its derivative along a direction.
struct Tangent {
  Tensor value;    ///< f(inputs)
  Tensor tangent;  ///< of the shape of value
};
/// J v: the derivative of f along v, which has the shapes and dtypes of the inputs (ShapeError).
/// Forward mode by two backward walks: v^T J is linear in v, so its derivative along w is J w.
[[nodiscard]] Tangent jvp(const TensorFunction& f, const std::vector<Tensor>& inputs,
                          const std::vector<Tensor>& v, At at = At::here());

/// The derivative of each element of f's value by each element of each input: for an input of
/// shape S and a value of shape R a tensor of shape [R, S]. One backward for each element of the
/// value.
[[nodiscard]] std::vector<Tensor> jacobian(const TensorFunction& f,
                                           const std::vector<Tensor>& inputs, At at = At::here());
/// The second derivatives of a function with one element by the elements of one input: for shape S
/// a tensor of shape [S, S].
[[nodiscard]] Tensor hessian(const TensorFunction& f, const Tensor& input, At at = At::here());

/// f(inputs), of which only the inputs are kept: backward computes f again, to the same bits, and
/// then its gradients, also those of parameters that f uses. It saves memory for time. Random
/// numbers that f draws from the default generator are drawn again. Whatever else f changes
/// (running statistics) is changed twice. GraphError in a backward that is recorded (create_graph).
/// Chen et al. 2016 (arXiv:1604.06174).
[[nodiscard]] Tensor checkpoint(const TensorFunction& f, const std::vector<Tensor>& inputs,
                                At at = At::here());

namespace detail {
/// The gradients of sum(v y) for those of `inputs` that require one, zeros where y does not depend
/// on it; undefined for the others. The graph of y stays.
std::vector<Tensor> gradients(const Tensor& y, const std::vector<Tensor>& inputs, const Tensor& v,
                              bool create_graph, At at);
}  // namespace detail

}  // namespace descent
