#include "descent/core/autograd/functional.hpp"

#include <cstring>
#include <unordered_set>

#include "descent/core/autograd/backward.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/graph/joint_gradients.hpp"
#include "descent/core/kernels/element.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/core/ops/random.hpp"

namespace [[gnu::visibility("default")]] descent {

std::vector<Tensor> detail::gradients(const Tensor& y, const std::vector<Tensor>& inputs,
                                      const Tensor& v, bool create_graph, At at) {
  std::vector<Tensor> wanted, all;
  for (const Tensor& x : inputs)
    if (x.requires_grad()) wanted.push_back(x);
  std::vector<Tensor> found(wanted.size());
  if (y.requires_grad())
    found =
        grad({y}, wanted,
             {.create_graph = create_graph, .retain_graph = true, .allow_unused = true}, {v}, at);
  auto next = found.begin();
  for (const Tensor& x : inputs) {
    if (!x.requires_grad()) all.emplace_back();
    else if (Tensor g = *next++; g.defined()) all.push_back(std::move(g));
    else all.push_back(zeros_like(x));
  }
  return all;
}

namespace {

using detail::gradients;

/// Leaves with the elements of the inputs.
std::vector<Tensor> leaves_like(const char* op, const std::vector<Tensor>& inputs, At at) {
  if (inputs.empty()) fail<ValueError>(at, "{}: there are no inputs", op);
  if (!grad_enabled()) fail<GraphError>(at, "{}: recording is off here (NoGradGuard)", op);
  std::vector<Tensor> leaves;
  for (const Tensor& x : inputs) leaves.push_back(x.detach().requires_grad_(true, at));
  return leaves;
}

void check_direction(const char* op, const std::vector<Tensor>& x, const std::vector<Tensor>& v,
                     At at) {
  if (x.size() != v.size())
    fail<ShapeError>(at, "{}: {} tensors v for {} inputs", op, static_cast<int64_t>(v.size()),
                     static_cast<int64_t>(x.size()));
  for (std::size_t i = 0; i < v.size(); ++i) {
    check_inputs(op, {v[i], at}, {x[i], at}, "v", "an input");
    if (!(v[i].shape() == x[i].shape()))
      fail<ShapeError>(at, "{}: v[{}] is {} for an input {}: need the same", op,
                       static_cast<int64_t>(i), v[i].shape(), x[i].shape());
  }
}

/// The sum of all products a[i] b[i].
Tensor inner_product(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  Tensor total = sum(a[0] * b[0]);
  for (std::size_t i = 1; i < a.size(); ++i) total = total + sum(a[i] * b[i]);
  return total;
}

void check_scalar_value(const char* op, const Tensor& y, At at) {
  if (y.numel() != 1) fail<ShapeError>(at, "{}: f returned {}: need one element", op, y.shape());
}

}  // namespace

Products vjp(const TensorFunction& f, const std::vector<Tensor>& inputs, const Tensor& v, At at) {
  const Frame frame(at);
  const std::vector<Tensor> x = leaves_like("vjp", inputs, at);
  const Tensor y = f(x);
  check_direction("vjp", {y}, {v}, at);
  return {y.detach(), gradients(y, x, v, false, at)};
}

Products hvp(const TensorFunction& f, const std::vector<Tensor>& inputs,
             const std::vector<Tensor>& v, At at) {
  const Frame frame(at);
  const std::vector<Tensor> x = leaves_like("hvp", inputs, at);
  check_direction("hvp", x, v, at);
  const Tensor y = f(x);
  check_scalar_value("hvp", y, at);
  const Tensor slope = inner_product(gradients(y, x, ones_like(y), true, at), v);
  return {y.detach(), gradients(slope, x, ones_like(slope), false, at)};
}

Tangent jvp(const TensorFunction& f, const std::vector<Tensor>& inputs,
            const std::vector<Tensor>& v, At at) {
  const Frame frame(at);
  const std::vector<Tensor> x = leaves_like("jvp", inputs, at);
  check_direction("jvp", x, v, at);
  const Tensor y = f(x), u = zeros_like(y).requires_grad_();
  const Tensor slope = inner_product(gradients(y, x, u, true, at), v);
  return {y.detach(), gradients(slope, {u}, ones_like(slope), false, at)[0]};
}

std::vector<Tensor> jacobian(const TensorFunction& f, const std::vector<Tensor>& inputs, At at) {
  const Frame frame(at);
  const std::vector<Tensor> x = leaves_like("jacobian", inputs, at);
  const Tensor y = f(x), units = eye(y.numel(), y.dtype());
  std::vector<std::vector<Tensor>> rows(x.size());
  for (int64_t k = 0; k < y.numel(); ++k) {
    const auto row = gradients(y, x, units.select(0, k).reshape(y.shape()), false, at);
    for (std::size_t i = 0; i < x.size(); ++i) rows[i].push_back(row[i]);
  }
  std::vector<Tensor> all;
  for (std::size_t i = 0; i < x.size(); ++i) {
    Shape shape = y.shape();
    for (const int64_t size : x[i].shape()) shape.push_back(size);
    all.push_back(rows[i].empty() ? zeros(shape, x[i].dtype()) : stack(rows[i]).reshape(shape));
  }
  return all;
}

Tensor hessian(const TensorFunction& f, const Tensor& input, At at) {
  const Frame frame(at);
  const auto slope = [&](const std::vector<Tensor>& x) {
    const Tensor y = f(x);
    check_scalar_value("hessian", y, at);
    return gradients(y, x, ones_like(y), true, at)[0];
  };
  return jacobian(slope, {input}, at)[0];
}

// ---- checkpoint

namespace {

/// Handles on the leaves that y depends on, apart from `known`, in the order in which a walk from y
/// meets them. They have no elements: only their nodes count.
std::vector<Tensor> find_leaves(const Tensor& y, const std::vector<Tensor>& known) {
  std::vector<Tensor> leaves;
  std::unordered_set<detail::Node*> seen;
  for (const Tensor& x : known) seen.insert(Peek::node(x));
  std::vector<detail::Node*> stack{Peek::node(y)};
  while (!stack.empty()) {
    detail::Node* n = stack.back();
    stack.pop_back();
    if (!n || !seen.insert(n).second) continue;
    if (n->is_leaf) {
      leaves.push_back(empty({0}, n->dtype));
      detail::retain(n->refs);
      Peek::set_node(leaves.back(), n);
    }
    for (std::size_t i = 0; i < n->inputs; ++i) stack.push_back(n->input[i]);
  }
  return leaves;
}

/// While it lives, the default generator continues at another state.
class RandomGuard : Pinned {
 public:
  explicit RandomGuard(Generator::State state) { default_generator().set_state(state); }
  ~RandomGuard() { default_generator().set_state(before_); }

 private:
  const Generator::State before_ = default_generator().state();
};

/// The inputs without their graphs; those that require a gradient as leaves.
std::vector<Tensor> cut_off(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> x;
  for (const Tensor& input : inputs)
    x.push_back(input.detach().requires_grad_(input.requires_grad()));
  return x;
}

bool same_elements(const Tensor& a, const Tensor& b) {
  const Tensor x = a.detach().contiguous(), y = b.detach().contiguous();
  return x.shape() == y.shape() && std::memcmp(bytes_of(x), bytes_of(y), byte_count(x)) == 0;
}

/// A function that backward computes again: once for each gradient that arrives, however many
/// inputs it has.
struct Recomputation {
  TensorFunction f;
  Generator::State random;     // of the default generator when f was called
  std::vector<Tensor> inputs;  // and the other leaves behind them
  std::vector<Saved> kept;     // the arguments and the value, whose elements must not change
  At at;
  JointGradients joint = {};

  Tensor derivative(const Tensor& g, std::size_t i) {
    if (grad_enabled())
      fail<GraphError>(at, "checkpoint: it has no second derivative: call the function itself");
    return joint.take(i, g, [this](const Tensor& from) { return compute(from); });
  }

  /// A gradient for each of the inputs that wants one.
  std::vector<Tensor> compute(const Tensor& g) const {
    const EnableGradGuard recording;
    for (const Saved& x : kept) static_cast<void>(*x);  // refuses what has changed
    const std::vector<Tensor> x = cut_off({inputs.begin(), inputs.begin() + std::ssize(kept) - 1});
    const Tensor y = [&] {
      const RandomGuard guard(random);
      return f(x);
    }();
    if (!same_elements(y, *kept.back()))
      fail<GraphError>(at,
                       "checkpoint: the function gave other bits in backward than before: it draws "
                       "from a generator of its own, or what it uses has changed");
    std::vector<Tensor> all = x;
    all.insert(all.end(), inputs.begin() + std::ssize(x), inputs.end());
    return gradients(y, all, g, false, at);
  }
};

}  // namespace

Tensor checkpoint(const TensorFunction& f, const std::vector<Tensor>& inputs, At at) {
  const Frame frame(at);
  if (!grad_enabled()) return f(inputs);
  const Generator::State random = default_generator().state();
  const std::vector<Tensor> x = cut_off(inputs);
  const Tensor y = f(x);
  if (!y.requires_grad()) return y;
  std::vector<Tensor> all = inputs;
  for (const Tensor& leaf : find_leaves(y, x)) all.push_back(leaf);
  const Tensor value = y.detach();
  std::vector<Saved> kept;
  for (const Tensor& input : inputs) kept.push_back(saved({input, at}));
  kept.push_back(saved({value, at}));
  auto again = std::make_shared<Recomputation>(Recomputation{f, random, all, std::move(kept), at});
  return record(
      "checkpoint", value, all,
      [again](const Tensor& g, std::size_t i) { return again->derivative(g, i); }, at);
}

}  // namespace descent
