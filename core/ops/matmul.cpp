#include "descent/core/ops/matmul.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "descent/core/base/paths.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/copy.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/gemm.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/view.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

/// a b + bias, if that is defined, as a new tensor of `shape`; b transposed first if `turned`.
Tensor product(const char* op, const In& a, const In& b, bool turned, const In& bias,
               const Shape& shape) {
  Tensor out = detail::empty(op, shape, a.dtype(), a.at);
  visit<Kinds::floating>(op, a.dtype(), a.at, [&]<class T>(T) {
    if (bias.defined()) detail::enter("linear bias");
    if (a.shape().back() == 0) {
      if (bias.defined()) out.copy_(bias.detach());
      else out.fill_(0);
    } else if (out.numel() > 0) {
      const Tensor row = bias.defined() ? detail::pack(bias) : Tensor();
      try {
        detail::multiply<T>(a, b, turned, row.defined() ? elements_of<T>(row) : nullptr, shape,
                            elements_of<T>(out));
      } catch (const OutOfMemory& cause) { throw OutOfMemory(cause, op, a.at); }
    }
  });
  return out;
}

// ---- checks, at the public door

[[noreturn]] void refuse_chain(const In& a, const In& b) {
  const Shape &x = a.shape(), &y = b.shape();
  const int64_t k = y[std::max(y.rank() - 2, 0)];
  std::string hint;
  auto suggest = [&hint](const char* name, const Shape& shape) {
    hint = fmt::format(" (did you mean {}.{}?)", name,
                       shape.rank() == 2 ? "t()" : "transpose(-1, -2)");
  };
  if (y.rank() > 1 && y.back() == x.back()) suggest("b", y);
  else if (x.rank() > 1 && x[x.rank() - 2] == k) suggest("a", x);
  fail<ShapeError>(a.at, "matmul: a {} and b {} do not chain: need a {} and b {}{}", x, y,
                   x.rank() == 1 ? "[k]" : "[.., n, k]", y.rank() == 1 ? "[k]" : "[.., k, m]",
                   hint);
}

/// The shape of the product, where a vector still counts as a row or column of size 1.
Shape product_shape(const In& a, const In& b) {
  check_inputs("matmul", a, b);
  const Shape &x = a.shape(), &y = b.shape();
  if (x.rank() == 0 || y.rank() == 0)
    fail<ShapeError>(a.at,
                     "matmul: a {} and b {}: a scalar has no axis to sum over: need a [.., n, k] "
                     "and b [.., k, m] (use * to scale)",
                     x, y);
  if (x.back() != y[std::max(y.rank() - 2, 0)]) refuse_chain(a, b);

  const int rank = std::max({x.rank(), y.rank(), 2});
  Shape shape = Shape::filled(rank, 1);
  for (int back = 3; back <= rank; ++back) {
    const int64_t p = back <= x.rank() ? x[x.rank() - back] : 1;
    const int64_t q = back <= y.rank() ? y[y.rank() - back] : 1;
    if (p != q && p != 1 && q != 1)
      fail<ShapeError>(a.at,
                       "matmul: cannot broadcast a {} with b {}: dim -{} is {} vs {}: need one "
                       "size, or 1, before the last two axes",
                       x, y, back, p, q);
    shape[rank - back] = p == 1 ? q : p;
  }
  if (x.rank() > 1) shape[rank - 2] = x[x.rank() - 2];
  if (y.rank() > 1) shape[rank - 1] = y.back();
  return shape;
}

void check_linear(const In& x, const In& weight, const In& bias) {
  check_inputs("linear", x, weight, "x", "weight");
  if (bias.defined()) check_inputs("linear", x, bias, "x", "bias");

  const Shape& w = weight.shape();
  if (x.dim() == 0 || w.rank() != 2 || x.shape().back() != w[1]) {
    const bool turn = x.dim() > 0 && w.rank() == 2 && x.shape().back() == w[0];
    fail<ShapeError>(
        x.at, "linear: x {} and weight {} do not chain: need x [.., in] and weight [out, in]{}",
        x.shape(), w, turn ? " (did you mean weight.t()?)" : "");
  }
  if (bias.defined() && !(bias.shape() == Shape{w[0]}))
    fail<ShapeError>(x.at,
                     "linear: bias {} does not fit weight {}: need weight [out, in] and bias [out]",
                     bias.shape(), w);
}

/// x as one matrix: all axes but the last in one.
Tensor as_matrix(const In& x) {
  detail::check("matmul", x);
  if (x.dim() == 2) return x;
  return x.dim() == 1 ? unsqueeze(x, 0) : flatten(x, 0, -2);
}

}  // namespace

Tensor matmul(const In& a, const In& b) {
  const Shape shape = product_shape(a, b);
  if (b.dim() == 1) return squeeze({matmul(a, {unsqueeze(b, 1), b.at}), a.at}, -1);
  if (a.dim() == 1) return squeeze({matmul({unsqueeze(a, 0), a.at}, b), a.at}, -2);
  Tensor y = product("matmul", a, b, false, Tensor(), shape);
  if (!detail::records(a, b)) return y;
  return record("matmul", std::move(y),
                wrt(a, [b = saved(b)](const Tensor& g) { return matmul(g, transpose(b, -2, -1)); }),
                wrt(b, [a = saved(a), shared = b.dim() == 2](const Tensor& g) {
                  if (!shared) return matmul(transpose(a, -2, -1), g);
                  return matmul(as_matrix(a).t(), as_matrix(g));  // not a sum over the batch
                }));
}

Tensor linear(const In& x, const In& weight, const In& bias) {
  check_linear(x, weight, bias);
  Shape shape = x.shape();
  shape[-1] = weight.shape()[0];
  return record(
      "linear", product("linear", x, weight, true, bias, shape),
      wrt(x, [weight = saved(weight)](const Tensor& g) { return matmul(g, weight); }),
      wrt(weight,
          [x = saved(x)](const Tensor& g) { return matmul(as_matrix(g).t(), as_matrix(x)); }),
      wrt(bias, [](const Tensor& g) { return g; }));
}

}  // namespace descent
