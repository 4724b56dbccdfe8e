#include "descent/core/ops/products.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>

#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

bool has(const std::string& names, char c) { return names.find(c) != std::string::npos; }

/// The names of the axes of a, of b and of the result.
std::array<std::string, 3> parse(const std::string& equation, At at) {
  std::array<std::string, 3> names;
  const std::size_t comma = std::min(equation.find(','), equation.size()),
                    arrow = std::min(equation.find("->"), equation.size());
  bool fits = comma < arrow && arrow < equation.size();
  for (std::size_t i = 0; i < equation.size() && fits; ++i) {
    const char c = equation[i];
    if (c == ' ' || i == comma || i == arrow || i == arrow + 1) continue;
    std::string& list = names[i < comma ? 0 : i < arrow ? 1 : 2];
    fits = std::isalpha(static_cast<unsigned char>(c)) && !has(list, c) &&
           (i < arrow || has(names[0] + names[1], c));
    list += c;
  }
  if (!fits)
    fail<ValueError>(at,
                     "einsum: \"{}\": need three lists of letters, as in \"ik,kj->ij\", each "
                     "letter once in a list, and those of the result in another one too",
                     equation);
  return names;
}

/// x, whose axes have these names, summed over those that are not `wanted`, in that order.
Tensor arrange(const In& x, const std::string& names, const std::string& wanted) {
  Dims summed{}, order{};
  std::string left;
  for (int d = 0; d < x.dim(); ++d) {
    const char c = names[static_cast<std::size_t>(d)];
    if (has(wanted, c)) left += c;
    else summed.push_back(d);
  }
  for (const char c : wanted) order.push_back(static_cast<int64_t>(left.find(c)));
  return permute(summed.rank() == 0 ? Tensor(x) : sum(x, summed), order);
}

}  // namespace

Tensor einsum(const std::string& equation, const In& a, const In& b) {
  check_inputs("einsum", a, b);
  check_floating("einsum", a);
  const auto [of_a, of_b, of_result] = parse(equation, a.at);
  std::map<char, int64_t> size;
  auto name_axes = [&size](const In& x, const std::string& names) {
    bool fits = x.dim() == std::ssize(names);
    for (std::size_t d = 0; fits && d < names.size(); ++d) {
      const int64_t n = x.shape()[static_cast<int>(d)];
      fits = size.emplace(names[d], n).first->second == n;
    }
    return fits;
  };
  if (!name_axes(a, of_a) || !name_axes(b, of_b))
    fail<ShapeError>(a.at,
                     "einsum: a {} and b {} do not fit \"{}\": need a letter for each axis, and "
                     "one size for each letter",
                     a.shape(), b.shape(), equation);

  // The letters of both and the result, of one and the result, and of both alone. Others are summed
  // before the product.
  std::string batch, left, right, summed;
  for (const auto& [c, n] : size) {
    const bool result = has(of_result, c), in_a = has(of_a, c);
    if (in_a && has(of_b, c)) (result ? batch : summed) += c;
    else if (result) (in_a ? left : right) += c;
  }
  auto count = [&size](const std::string& names) {
    int64_t product = 1;
    for (const char c : names) product *= size[c];
    return product;
  };
  const Frame frame(a.at);
  const Tensor x = reshape(arrange(a, of_a, batch + left + summed),
                           {count(batch), count(left), count(summed)}),
               y = reshape(arrange(b, of_b, batch + summed + right),
                           {count(batch), count(summed), count(right)});
  const std::string all = batch + left + right;
  Shape shape;
  for (const char c : all) shape.push_back(size[c]);
  return arrange(reshape(matmul(x, y), shape), all, of_result);
}

/// Checks that two tensors have this rank and, if it is 3, that their matrices chain.
static void check_product(const char* op, const In& a, const In& b, int rank, const char* need) {
  check_inputs(op, a, b);
  const Shape &x = a.shape(), &y = b.shape();
  const bool ranks = x.rank() == rank && y.rank() == rank;
  if (!ranks || (rank == 3 && (x[0] != y[0] || x[2] != y[1])))
    fail<ShapeError>(a.at, "{}: a {} and b {}: need {}", op, x, y, need);
}
Tensor outer(const In& a, const In& b) {
  check_product("outer", a, b, 1, "two vectors");
  const Frame frame(a.at);
  return unsqueeze(a, 1) * b;
}
Tensor bmm(const In& a, const In& b) {
  check_product("bmm", a, b, 3, "[N, n, k] and [N, k, m]");
  return matmul(a, b);
}

Tensor cosine_similarity(const In& a, const In& b, int64_t dim, double eps) {
  const char* op = "cosine_similarity";
  check_inputs(op, a, b);
  check_floating(op, a);
  const Shape shape = broadcast_shapes(op, a.shape(), b.shape(), a.at);
  if (!(eps > 0)) fail<ValueError>(a.at, "{}: eps is {}: need above 0", op, eps);
  const int d = detail::axis_of(op, {expand(a, shape), a.at}, dim);
  const Frame frame(a.at);
  auto unit = [&](const In& x) {
    const Tensor wide = expand(x, shape), length = norm(wide, d, true);
    return wide / where(length < eps, eps, length);
  };
  return sum(unit(a) * unit(b), d);
}

}  // namespace descent
