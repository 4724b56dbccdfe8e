#include <cstdio>
#include <functional>
#include <optional>

#include "support.hpp"

using namespace descent;

// All operations with all pairs of shapes, also empty ones: NumPy's shape, or an error that says
// why. Under the address sanitizer nothing may be touched before the shapes are checked.

namespace {

const std::vector<Shape> kPairs = {
    {},        {0},          {1},          {2},          {3},          {1, 1},
    {1, 3},    {3, 1},       {2, 3},       {3, 2},       {0, 3},       {3, 0},
    {1, 2, 3}, {2, 1, 3},    {2, 3, 1},    {2, 3, 4},    {0, 2, 3},    {2, 0, 3},
    {2, 3, 3}, {1, 2, 3, 4}, {2, 1, 1, 4}, {2, 3, 4, 5}, {0, 3, 4, 5}, {2, 2, 2, 2}};

/// NumPy's rule: the axes, counted from the back, are equal, or one of them is 1 or missing.
std::optional<Shape> broadcast(const Shape& a, const Shape& b) {
  Shape wide = a.rank() < b.rank() ? b : a;
  const Shape& other = a.rank() < b.rank() ? a : b;
  for (int back = 1; back <= other.rank(); ++back) {
    int64_t& size = wide[wide.rank() - back];
    const int64_t own = other[other.rank() - back];
    if (size == 1) size = own;
    else if (own != 1 && own != size) return {};
  }
  return wide;
}

/// The shape of np.matmul(a, b).
std::optional<Shape> product(Shape a, Shape b) {
  if (a.rank() == 0 || b.rank() == 0) return {};
  const bool row = a.rank() == 1, column = b.rank() == 1;
  if (row) a.insert(0, 1);
  if (column) b.push_back(1);
  if (a[-1] != b[-2]) return {};
  auto front = [](const Shape& shape) {
    Shape axes;
    for (int d = 0; d + 2 < shape.rank(); ++d) axes.push_back(shape[d]);
    return axes;
  };
  std::optional<Shape> shape = broadcast(front(a), front(b));
  if (shape && !row) shape->push_back(a[-2]);
  if (shape && !column) shape->push_back(b[-1]);
  return shape;
}

using Op = std::function<Tensor(const Tensor&, const Tensor&)>;
struct Outcomes {
  int64_t results = 0, refusals = 0;
};

/// Calls f, which may give a result or throw an error of the library about its arguments.
template <class F> std::optional<Shape> attempt(Outcomes& outcomes, F f) {
  try {
    const Tensor y = f();
    ++outcomes.results;
    (void)y.to(float64).to_vector<double>();  // reads all of it
    return y.shape();
  } catch (const ShapeError&) {
  } catch (const IndexError&) {
  } catch (const ValueError&) {
  } catch (const DtypeError&) {}
  ++outcomes.refusals;
  return {};
}

}  // namespace

TEST_CASE("elementwise operations and products have NumPy's shape, or a ShapeError") {
  const std::pair<const char*, Op> ops[] = {
      {"add", [](auto& a, auto& b) { return a + b; }},
      {"sub", [](auto& a, auto& b) { return a - b; }},
      {"mul", [](auto& a, auto& b) { return a * b; }},
      {"div", [](auto& a, auto& b) { return a / b; }},
      {"pow", [](auto& a, auto& b) { return pow(a, b); }},
      {"maximum", [](auto& a, auto& b) { return maximum(a, b); }},
      {"minimum", [](auto& a, auto& b) { return minimum(a, b); }},
      {"eq", [](auto& a, auto& b) { return a == b; }},
      {"lt", [](auto& a, auto& b) { return a < b; }},
      {"ge", [](auto& a, auto& b) { return a >= b; }},
      {"logical_and", [](auto& a, auto& b) { return logical_and(a > 0, b > 0); }},
      {"logical_or", [](auto& a, auto& b) { return logical_or(a > 0, b > 0); }},
      {"logical_xor", [](auto& a, auto& b) { return logical_xor(a > 0, b > 0); }},
      {"remainder", [](auto& a, auto& b) { return remainder(a, b); }},
      {"floor_divide", [](auto& a, auto& b) { return floor_divide(a, b); }},
      {"where", [](auto& a, auto& b) { return where(a > 0, a, b); }}};
  Outcomes outcomes;
  for (const auto& op : ops)
    for (const Shape& a : kPairs)
      for (const Shape& b : kPairs)
        for (const DType dtype : {float32, int64}) {
          if (dtype == int64 && (op.first == std::string("div") || op.first == std::string("pow")))
            continue;
          const Tensor x = ones(a, dtype), y = ones(b, dtype);
          INFO(op.first, " ", str(a), " ", str(b));
          CHECK(attempt(outcomes, [&] { return op.second(x, y); }) == broadcast(a, b));
        }
  for (const Shape& a : kPairs)
    for (const Shape& b : kPairs)
      for (const DType dtype : {float32, float64}) {
        INFO(str(a), " ", str(b));
        CHECK(attempt(outcomes, [&] { return matmul(ones(a, dtype), ones(b, dtype)); }) ==
              product(a, b));
      }
  std::printf("shapes: %lld results and %lld refusals by NumPy's rule\n",
              static_cast<long long>(outcomes.results), static_cast<long long>(outcomes.refusals));
  CHECK(outcomes.results > 4000);
  CHECK(outcomes.refusals > 8000);
}

TEST_CASE("all other operations give a result or say what does not fit, for all pairs of shapes") {
  auto index_of = [](const Tensor& b) { return zeros(b.shape(), int64); };
  auto sizes = [](const Tensor& b) { return b.shape(); };
  const std::pair<const char*, Op> ops[] = {
      {"linear", [](auto& a, auto& b) { return linear(a, b); }},
      {"cat",
       [](auto& a, auto& b) {
         return cat({a, b}, -1);
       }},
      {"stack",
       [](auto& a, auto& b) {
         return stack({a, b}, 1);
       }},
      {"expand", [=](auto& a, auto& b) { return expand(a, sizes(b)); }},
      {"reshape", [=](auto& a, auto& b) { return reshape(a, sizes(b)); }},
      {"sum_to", [=](auto& a, auto& b) { return sum_to(a, sizes(b)); }},
      {"index", [=](auto& a, auto& b) { return index(a, index_of(b)); }},
      {"index by mask", [](auto& a, auto& b) { return index(a, b > 0); }},
      {"index_select", [=](auto& a, auto& b) { return index_select(a, 0, index_of(b)); }},
      {"gather", [=](auto& a, auto& b) { return gather(a, 0, index_of(b)); }},
      {"gather last", [=](auto& a, auto& b) { return gather(a, -1, index_of(b)); }},
      {"scatter", [=](auto& a, auto& b) { return scatter(a, 0, index_of(b), b); }},
      {"scatter_add", [=](auto& a, auto& b) { return scatter_add(a, -1, index_of(b), b); }},
      {"atan2", [](auto& a, auto& b) { return atan2(a, b); }},
      {"lerp", [](auto& a, auto& b) { return lerp(a, b, a); }},
      {"index_add", [=](auto& a, auto& b) { return index_add(a, 0, index_of(b), b); }},
      {"einsum", [](auto& a, auto& b) { return einsum("ij,jk->ik", a, b); }},
      {"outer", [](auto& a, auto& b) { return outer(a, b); }},
      {"bmm", [](auto& a, auto& b) { return bmm(a, b); }},
      {"cosine_similarity", [](auto& a, auto& b) { return cosine_similarity(a, b, 0); }},
      {"roll", [=](auto& a, auto& b) { return roll(a, {b.numel()}, {0}); }},
      {"repeat", [=](auto& a, auto& b) { return repeat(a, sizes(b)); }},
      {"diag", [](auto& a, auto& b) { return diag(a, b.dim()); }},
      {"embedding", [=](auto& a, auto& b) { return embedding(index_of(a), b); }},
      {"masked_select", [](auto& a, auto& b) { return masked_select(a, b > 0); }},
      {"masked_fill", [](auto& a, auto& b) { return masked_fill(a, b > 0, 1); }},
      {"conv2d", [](auto& a, auto& b) { return conv2d(a, b, {.padding = 1}); }},
      {"conv2d groups", [](auto& a, auto& b) { return conv2d(a, b, {.stride = 2, .groups = 2}); }},
      {"conv1d", [](auto& a, auto& b) { return conv1d(a, b); }},
      {"conv_transpose2d", [](auto& a, auto& b) { return conv_transpose2d(a, b); }},
      {"conv_transpose1d", [](auto& a, auto& b) { return conv_transpose1d(a, b); }},
      {"batch_norm", [](auto& a, auto& b) { return batch_norm(a, b, b, b, b); }},
      {"batch_norm training",
       [](auto& a, auto& b) { return batch_norm(a, b, b, b, b, {.training = true}); }},
      {"instance_norm", [](auto& a, auto& b) { return instance_norm(a, b, b); }},
      {"layer_norm", [=](auto& a, auto& b) { return layer_norm(a, sizes(b), b); }},
      {"group_norm", [](auto& a, auto& b) { return group_norm(a, 1, b); }},
      {"rms_norm", [=](auto& a, auto& b) { return rms_norm(a, sizes(b), b); }},
      {"prelu", [](auto& a, auto& b) { return prelu(a, b); }},
      {"attention", [](auto& a, auto& b) { return nn::scaled_dot_product_attention(a, b, b); }},
      {"attention mask",
       [](auto& a, auto& b) { return nn::scaled_dot_product_attention(a, a, a, {.mask = b}); }},
      {"mse_loss", [](auto& a, auto& b) { return nn::mse_loss(a, b); }},
      {"kl_div", [](auto& a, auto& b) { return nn::kl_div(a, b); }},
      {"cross_entropy", [=](auto& a, auto& b) { return nn::cross_entropy(a, index_of(b)); }},
      {"cross_entropy shares", [](auto& a, auto& b) { return nn::cross_entropy(a, b); }},
      {"nll_loss", [=](auto& a, auto& b) { return nn::nll_loss(a, index_of(b)); }},
      {"cosine_embedding_loss",
       [](auto& a, auto& b) { return nn::cosine_embedding_loss(a, b, ones({a.size(0)})); }},
      {"gaussian_nll_loss", [](auto& a, auto& b) { return nn::gaussian_nll_loss(a, a, b); }}};
  Outcomes outcomes;
  int64_t never = 0;
  for (const auto& op : ops) {
    Outcomes own;
    for (const Shape& a : kPairs)
      for (const Shape& b : kPairs) {
        INFO(op.first, " ", str(a), " ", str(b));
        CHECK_NOTHROW(attempt(own, [&] { return op.second(ones(a), ones(b)); }));
      }
    CAPTURE(op.first);
    CHECK(own.results > 0);
    never += own.refusals == 0;
    outcomes.results += own.results, outcomes.refusals += own.refusals;
  }
  CHECK(never == 0);
  std::printf("shapes: %lld results and %lld refusals of operations with rules of their own\n",
              static_cast<long long>(outcomes.results), static_cast<long long>(outcomes.refusals));
}

TEST_CASE(
    "operations along an axis give a result or an IndexError, for every axis of every shape") {
  const std::pair<const char*, std::function<Tensor(const Tensor&, int64_t)>> ops[] = {
      {"sum", [](auto& x, int64_t d) { return sum(x, d); }},
      {"mean", [](auto& x, int64_t d) { return mean(x, d); }},
      {"max", [](auto& x, int64_t d) { return max(x, d); }},
      {"argmin", [](auto& x, int64_t d) { return argmin(x, d); }},
      {"prod", [](auto& x, int64_t d) { return prod(x, d); }},
      {"var", [](auto& x, int64_t d) { return var(x, d); }},
      {"norm", [](auto& x, int64_t d) { return norm(x, d); }},
      {"logsumexp", [](auto& x, int64_t d) { return logsumexp(x, d); }},
      {"cumsum", [](auto& x, int64_t d) { return cumsum(x, d); }},
      {"softmax", [](auto& x, int64_t d) { return softmax(x, d); }},
      {"log_softmax", [](auto& x, int64_t d) { return log_softmax(x, d); }},
      {"sort", [](auto& x, int64_t d) { return sort(x, d).values; }},
      {"topk", [](auto& x, int64_t d) { return topk(x, 1, d).values; }},
      {"median", [](auto& x, int64_t d) { return median(x, d).values; }},
      {"quantile", [](auto& x, int64_t d) { return quantile(x, 0.5, d); }},
      {"glu", [](auto& x, int64_t d) { return glu(x, d); }},
      {"flip", [](auto& x, int64_t d) { return flip(x, d); }},
      {"roll", [](auto& x, int64_t d) { return roll(x, {1}, {d}); }},
      {"cosine_similarity", [](auto& x, int64_t d) { return cosine_similarity(x, x, d); }},
      {"narrow", [](auto& x, int64_t d) { return narrow(x, d, 0, 1); }},
      {"select", [](auto& x, int64_t d) { return select(x, d, 0); }},
      {"split", [](auto& x, int64_t d) { return split(x, 1, d)[0]; }},
      {"unsqueeze", [](auto& x, int64_t d) { return unsqueeze(x, d); }}};
  for (const auto& op : ops)
    for (const Shape& shape : kPairs)
      for (int64_t d = -6; d <= 5; ++d) {
        INFO(op.first, " ", str(shape), " ", d);
        Outcomes outcomes;
        CHECK_NOTHROW(attempt(outcomes, [&] { return op.second(ones(shape), d); }));
        const int rank = shape.rank() + (op.first == std::string("unsqueeze"));
        if (rank > 0 && (d < -rank || d >= rank)) CHECK(outcomes.refusals == 1);
      }
}
