#include "descent/core/ops/join.hpp"

#include <algorithm>

#include "descent/core/base/checked.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/ops/view.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

/// Checks that all are defined and have the same dtype, rank and sizes, except for the size along
/// `free_dim` (-1: without exception).
void check_fit(const char* op, const std::vector<Tensor>& tensors, int free_dim, At at) {
  const Tensor& first = tensors[0];
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& x = tensors[i];
    if (!x.defined()) fail<ValueError>(at, "{}: tensors[{}] is undefined", op, i);
    if (x.dtype() != first.dtype())
      fail<DtypeError>(at, "{}: tensors[{}] is {}, but tensors[0] is {}: need one dtype (use to())",
                       op, i, x.dtype(), first.dtype());
    bool fits = x.dim() == first.dim();
    for (int d = 0; fits && d < x.dim(); ++d)
      fits = d == free_dim || x.shape()[d] == first.shape()[d];
    if (!fits)
      fail<ShapeError>(at, "{}: tensors[{}] is {}, but tensors[0] is {}: need equal sizes{}", op, i,
                       x.shape(), first.shape(),
                       free_dim < 0 ? "" : " but for dim " + str(free_dim));
  }
}

const Tensor& first_of(const char* op, const std::vector<Tensor>& tensors, At at) {
  if (tensors.empty()) fail<ValueError>(at, "{}: the list of tensors is empty", op);
  if (!tensors[0].defined()) fail<ValueError>(at, "{}: tensors[0] is undefined", op);
  return tensors[0];
}

/// A new tensor `out` of `shape`, whose view part(out, i) receives the elements of inputs[i].
template <class Part>
Tensor record_join(const char* op, const std::vector<Tensor>& inputs, const Shape& shape, At at,
                   Part part) {
  const Tensor out = detail::empty(op, shape, inputs[0].dtype(), at);
  {
    NoGradGuard no_grad;
    for (std::size_t i = 0; i < inputs.size(); ++i) part({out, at}, i).copy_({inputs[i], at});
  }
  return record(
      op, out, inputs, [part](const Tensor& g, std::size_t i) { return part(g, i); }, at);
}

}  // namespace

Tensor cat(const std::vector<Tensor>& tensors, int64_t dim, At at) {
  const Tensor& first = first_of("cat", tensors, at);
  if (first.dim() == 0)
    fail<ShapeError>(at, "cat: tensors[0] is a scalar, which has no axis: use stack");
  const int d = detail::wrap_dim("cat", dim, first.dim(), at);
  check_fit("cat", tensors, d, at);

  Shape shape = first.shape();
  shape[d] = 0;
  std::vector<int64_t> start;
  for (const Tensor& x : tensors) {
    start.push_back(shape[d]);
    shape[d] = checked_add(shape[d], x.shape()[d], "cat", at);
  }
  return record_join("cat", tensors, shape, at,
                     [d, start, end = shape[d]](const In& input, std::size_t i) {
                       const int64_t next = i + 1 < start.size() ? start[i + 1] : end;
                       return narrow(input, d, start[i], next - start[i]);
                     });
}

Tensor stack(const std::vector<Tensor>& tensors, int64_t dim, At at) {
  const Tensor& first = first_of("stack", tensors, at);
  detail::check_rank("stack", first.dim() + 1, at);
  const int d = detail::wrap_dim("stack", dim, first.dim() + 1, at);
  check_fit("stack", tensors, -1, at);

  Shape shape = first.shape();
  shape.insert(d, checked_size(tensors.size(), "stack", at));
  return record_join("stack", tensors, shape, at, [d](const In& input, std::size_t i) {
    return select(input, d, static_cast<int64_t>(i));
  });
}

std::vector<Tensor> split(const In& x, int64_t size, int64_t dim) {
  const int d = detail::axis_of("split", x, dim);
  if (size < 1) fail<ValueError>(x.at, "split: size {}: need at least 1", size);
  int64_t left = x.shape()[d];
  std::vector<int64_t> sizes;
  do {  // at least once: an axis of size 0 has one part
    sizes.push_back(std::min(size, left));
    left -= sizes.back();
  } while (left > 0);
  return split(x, sizes, d);
}

std::vector<Tensor> split(const In& x, const std::vector<int64_t>& sizes, int64_t dim) {
  const int d = detail::axis_of("split", x, dim);
  int64_t left = x.shape()[d];
  for (int64_t size : sizes) left = size < 0 || size > left ? -1 : left - size;
  if (left != 0)
    fail<ShapeError>(x.at, "split: sizes {} do not add up to dim {} of {}", sizes, d, x.shape());
  std::vector<Tensor> parts;
  int64_t start = 0;
  for (int64_t size : sizes) {
    parts.push_back(narrow(x, d, start, size));
    start += size;
  }
  return parts;
}

std::vector<Tensor> chunk(const In& x, int64_t count, int64_t dim) {
  const int d = detail::axis_of("chunk", x, dim);
  if (count < 1) fail<ValueError>(x.at, "chunk: count {}: need at least 1", count);
  const int64_t size = x.shape()[d];
  if (size == 0) return split(x, std::vector<int64_t>(static_cast<std::size_t>(count), 0), d);
  return split(x, (size - 1) / count + 1, d);
}

Tensor parameters_to_vector(const NamedTensors& parameters, At at) {
  if (parameters.empty()) fail<ValueError>(at, "parameters_to_vector: there are no parameters");
  std::vector<Tensor> parts;
  for (const auto& [name, p] : parameters) {
    if (p.dtype() != parameters[0].second.dtype())
      fail<DtypeError>(at, "parameters_to_vector: {} is {} and {} is {}: need one dtype", name,
                       p.dtype(), parameters[0].first, parameters[0].second.dtype());
    parts.push_back(p.detach().reshape({-1}, at));
  }
  return cat(parts, 0, at).clone(at);
}

void vector_to_parameters(const In& vector, const NamedTensors& parameters) {
  int64_t n = 0, begin = 0;
  for (const auto& [name, p] : parameters) n += p.numel();
  if (!(vector.shape() == Shape{n}))
    fail<ShapeError>(vector.at,
                     "vector_to_parameters: vector {} for parameters of {} elements: need {}",
                     vector.shape(), n, Shape{n});
  for (const auto& [name, p] : parameters) {
    p.copy_({vector.narrow(0, begin, p.numel()).reshape(p.shape()), vector.at});
    begin += p.numel();
  }
}

}  // namespace descent
