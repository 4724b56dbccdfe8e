#include "descent/core/kernels/reduce.hpp"

#include <algorithm>

#include "descent/core/base/paths.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {

Axes::Axes(const char* op, const In& x, const Shape& dims) {
  check(op, x);
  input = x.shape();
  if (dims.rank() == 0) mask = (1U << x.dim()) - 1;
  for (int64_t dim : dims) {
    const int d = wrap_dim(op, dim, x.dim(), x.at);
    if (contain(d))
      fail<ShapeError>(x.at, "{}: dims {} of a tensor {} name an axis twice", op, dims, input);
    mask |= 1U << d;
  }
  for (int i = 0; i < x.dim(); ++i)
    if (contain(i)) count *= input[i];
}

Shape Axes::left(bool keepdim) const {
  Shape shape;
  for (int i = 0; i < input.rank(); ++i)
    if (!contain(i) || keepdim) shape.push_back(contain(i) ? 1 : input[i]);
  return shape;
}

Passes::Passes(const Axes& axes) {
  size_[0] = 1;
  for (int i = axes.input.rank() - 1; i >= 0; --i) {
    if (axes.input[i] == 1) continue;
    if (axes.contain(i) != (count_ % 2 == 0)) size_[count_++] = 1;
    size_[count_ - 1] *= axes.input[i];
  }
}

Pass Passes::next() {
  Pass p{1, count_ > 1 ? size_[1] : 1, size_[0], 0, 0};
  for (int i = 2; i < count_; ++i) p.outer *= size_[i];
  enter(p.inner == 1 ? Path("reduce rows") : Path("reduce columns"));
  p.height = p.inner == 1 ? kTileElements : kRunResults * kRunResults;
  if (p.n > 2 && take("reduce cut", p.n > p.height)) p.height = std::min(p.height, p.n - 1);
  p.cuts = std::max<int64_t>(ceil_div(p.n, p.height), 1);
  if (p.cuts > 1) {
    size_[1] = p.cuts;
  } else {  // the kept axes around the reduced one are neighbours now
    if (count_ > 2) size_[0] *= size_[2];
    for (int i = 3; i < count_; ++i) size_[i - 2] = size_[i];
    count_ = std::max(count_ - 2, 1);
  }
  if (!done()) enter("reduce passes");
  return p;
}

}}  // namespace descent::detail
