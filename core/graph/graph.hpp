#pragma once
/// @file
/// Recording: how an op becomes a node of the graph. An op calls `record(name, value, wrt(input,
/// derivative)...)`: it gives a value and, for each differentiable input, a derivative, which turns
/// the gradient of the output into that of the input. Read `wrt` and `record`, at the end of this
/// file, first: they are all that an op uses. The walk back is in core/autograd/backward.cpp; the
/// two together are called the engine. It has no list of ops, and no op depends on how it walks.

#include <atomic>
#include <optional>
#include <tuple>

#include "descent/core/base/context.hpp"
#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent {

/// While it lives, it decides whether ops on this thread are recorded.
class GradModeGuard : Pinned {
 public:
  /// Ops are recorded if `on`.
  explicit GradModeGuard(bool on);
  ~GradModeGuard();

 private:
  bool before_;
};
/// While it lives, ops on this thread record nothing, and in-place changes of parameters are legal.
struct NoGradGuard : GradModeGuard {
  NoGradGuard() : GradModeGuard(false) {}
};
/// While it lives, ops on this thread are recorded, also in a derivative or a hook.
struct EnableGradGuard : GradModeGuard {
  EnableGradGuard() : GradModeGuard(true) {}
};
/// Whether ops on this thread are recorded.
[[nodiscard]] bool grad_enabled();

/// Tells an optimizer what has happened to a leaf's gradient since its last step: nothing, which
/// means that a backward is missing, or only additions, which means that zero_grad was forgotten.
/// requires_grad_(false) ends a life of the leaf, and requires_grad_(true) begins another one.
struct GradientAge {
  uint32_t changes = 0;  ///< how often the gradient has changed
  uint32_t added = 0;    ///< the number of gradients that are summed in it
  uint32_t life = 0;     ///< a number of its own for each life of each leaf
  bool operator==(const GradientAge&) const = default;
};
/// The age of a leaf's gradient; for a tensor that has none, GradientAge().
[[nodiscard]] GradientAge gradient_age(const Tensor& leaf);
/// The gradient that a leaf holds, for changing it without changing its age; null if there is none.
[[nodiscard]] Tensor* gradient_of(const Tensor& leaf);

namespace detail {

struct Hooks {
  std::vector<TensorHook> on_grad;
  std::vector<AccumulateHook> on_accumulate;
};

/// One recorded op, or a leaf. A node owns the nodes of its inputs, and the header of its output
/// owns the node. `output` is a detached handle that does not own the node, so ops cannot build a
/// cycle. Nodes are destroyed and walked by loops, not by recursion, because a long chain would
/// overflow the call stack.
struct Node : Pinned {
  Node(const char* name_, At at_) : name(name_), at(at_) { count_node(1); }
  virtual ~Node();
  static void* operator new(std::size_t bytes) { return allocate(bytes); }
  static void operator delete(void* p, std::size_t bytes) { deallocate(p, bytes); }

  /// The gradient of input i, from the output's gradient g; y is the output, if `needs_output`.
  virtual Tensor derivative(std::size_t i, const Tensor& g, const Tensor& y) = 0;
  /// Destroys the derivatives, and with them the saved tensors. (detail::release counts owners.)
  virtual void release() = 0;

  /// Makes x's node input i, and this node one of its owners.
  void connect(std::size_t i, const Tensor& x);
  /// Derived classes call this at the end of their destructors: they hold the list of inputs.
  void disconnect();
  /// The saved output, after a check that nobody has changed it. If the backward is itself recorded
  /// (`create_graph`, see backward.hpp), the result has this node.
  Tensor saved_output(bool create_graph);

  uint32_t refs = 1;
  // 0 for a leaf, else 1 + that of the deepest input. The walk takes the deepest node first, so the
  // gradient of a node is complete when the node is taken.
  uint32_t depth = 0;
  uint32_t output_version = 0;
  bool needs_output = false;
  bool saves = false;     // a derivative keeps tensors
  bool released = false;  // a backward has released them
  bool is_leaf = false;
  const char* name;
  At at;
  std::size_t inputs = 0;
  Node** input = nullptr;                     // null where no gradient is wanted
  Node* next = nullptr;                       // in the list of nodes to destroy
  std::atomic<const void*> walker = nullptr;  // the backward that is walking here; only one may
  Hooks* hooks = nullptr;
  Tensor pending;  // the gradient that the running backward has collected so far
  Tensor output;   // of an op: if a derivative takes it; of a leaf: if hooks after accumulation do
  Shape shape;
  DType dtype = float32;
};
/// The node of a leaf, which keeps its gradient.
struct LeafNode final : Node {
  LeafNode(const Tensor& x, At at_);
  Tensor derivative(std::size_t, const Tensor&, const Tensor&) override { return {}; }
  void release() override {}

  void replace(const Tensor& with) {
    grad = with;
    ++age.changes;
    age.added = with.defined();
  }

  Tensor grad;
  GradientAge age;
};
/// x's node if x is a leaf that requires a gradient, else null.
LeafNode* leaf_node(const Tensor& x);
/// Makes `value` the output of `node`.
Tensor attach(Tensor value, Node* node);

/// Watches what is computed on the thread whose `op_observer` points to it. What it throws ends the
/// op or the backward.
class OpObserver : Pinned {
 public:
  virtual ~OpObserver() = default;
  /// An op has computed `value`; inputs may be undefined.
  virtual void after_op(const char* op, const Tensor& value, const std::vector<Tensor>& inputs,
                        At at) = 0;
  /// The value of the last op is recorded as this node.
  virtual void after_record(const Node* node) = 0;
  /// The derivative of a node has turned the gradient g into `result`, that of input i.
  virtual void after_derivative(const Node* node, std::size_t i, const Tensor& g,
                                const Tensor& result) = 0;
};
/// Tells the observer of this thread, which there is.
void observe_op(const char* op, const Tensor& value, std::initializer_list<const In*> inputs);

/// Whether an op on these inputs must be recorded.
[[nodiscard]] bool records(const auto&... x) { return grad_mode && (Peek::node(x) || ...); }

template <class F> struct Wrt {
  const In& x;
  F f;
};

[[noreturn]] void refuse_reference(const char* op, const In& x);
/// GraphError if the closure f is only a pointer to one of the op's arguments: it captures that by
/// reference, and the argument is gone when the op has returned. (A larger closure is not checked,
/// because it may have padding bytes that nobody has written.)
template <class F>
void check_captures(const char* op, const F& f, std::initializer_list<const In*> arguments) {
  if constexpr (sizeof(F) == sizeof(void*)) {
    const void* captured;
    __builtin_memcpy(&captured, static_cast<const void*>(&f), sizeof captured);
    for (const In* x : arguments)
      if (captured == x) [[unlikely]]
        refuse_reference(op, *x);
  }
}

template <class... F> class OpNode final : public Node {
 public:
  OpNode(const char* name_, At at_, Wrt<F>&... wrt) : Node(name_, at_) {
    input = nodes_;
    inputs = sizeof...(F);
    save(std::index_sequence_for<F...>{}, wrt...);
  }
  ~OpNode() override { disconnect(); }
  Tensor derivative(std::size_t i, const Tensor& g, const Tensor& y) override {
    return pick(std::index_sequence_for<F...>{}, i, g, y);
  }
  void release() override {
    std::apply([](auto&... f) { (f.reset(), ...); }, closures_);
  }

 private:
  template <class G>
  static constexpr bool takes_output = std::is_invocable_v<G&, const Tensor&, const Tensor&>;

  template <std::size_t... I> void save(std::index_sequence<I...>, Wrt<F>&... wrt) {
    (save_one<I>(wrt), ...);
  }
  template <std::size_t I, class G> void save_one(Wrt<G>& wrt) {
    if (!Peek::node(wrt.x)) return;  // destroys the derivative and what it saved
    connect(I, wrt.x);
    needs_output |= takes_output<G>;
    saves |= takes_output<G> || !std::is_trivially_destructible_v<G>;
    std::get<I>(closures_).emplace(std::move(wrt.f));
  }
  template <std::size_t... I>
  Tensor pick(std::index_sequence<I...>, std::size_t i, const Tensor& g, const Tensor& y) {
    Tensor result;
    (void)((I == i && (result = call(*std::get<I>(closures_), g, y), true)) || ...);
    return result;
  }
  template <class G> static Tensor call(G& f, const Tensor& g, const Tensor& y) {
    if constexpr (takes_output<G>) return f(g, y);
    else return f(g);
  }

  Node* nodes_[sizeof...(F)] = {};
  std::tuple<std::optional<F>...> closures_;
};

/// An op with a list of inputs that it treats alike (cat, stack).
class ListNode final : public Node {
 public:
  using Derivative = std::function<Tensor(const Tensor& g, std::size_t i)>;
  ListNode(const char* name_, At at_, const std::vector<Tensor>& x, Derivative f);
  ~ListNode() override { disconnect(); }
  Tensor derivative(std::size_t i, const Tensor& g, const Tensor&) override { return f_(g, i); }
  void release() override { f_ = nullptr; }

 private:
  std::vector<Node*> nodes_;
  Derivative f_;
};
}  // namespace detail

/// How the result depends on `x`: `derivative(g)` or `derivative(g, y)` turns the gradient g of the
/// result y into the gradient of x. It computes with ops, so that it can be differentiated again.
/// The gradient that it returns may still have the shape to which x was broadcast: the engine sums
/// it to the shape of x.
///
/// It is called long after the op has returned. So it captures everything by value, and tensors as
/// `[x = saved(x)]`, which makes the engine check later that their elements have not changed.
/// Arguments and local variables that it captures by reference (`[&]`) are gone by then: a
/// GraphError if it captures only one of the op's arguments, undefined behaviour otherwise.
/// An optional input that is undefined has no gradient.
template <class F> detail::Wrt<F> wrt(const In& x, F derivative) {
  return {x, std::move(derivative)};
}
/// Deleted, because a Tensor does not know the version that it had when the op was called: take x
/// as `const In& x`, or pass In(x).
template <class F> detail::Wrt<F> wrt(const Tensor& x, F derivative) = delete;

/// Makes `value` the result of an op called `name` (a literal). `value` is computed from raw
/// elements (`map`, `zip`, `data`), or is a view.
template <class... F>
[[nodiscard]] Tensor record(const char* name, Tensor value, detail::Wrt<F>... inputs) {
  if (detail::op_observer) [[unlikely]]
    detail::observe_op(name, value, {&inputs.x...});
  if (!detail::records(inputs.x...)) return value;
  (detail::check_captures(name, inputs.f, {&inputs.x...}), ...);
  const At places[] = {inputs.x.at...};
  return detail::attach(std::move(value),
                        new detail::OpNode<F...>(name, detail::caller(places[0]), inputs...));
}
/// The same for a list of inputs; `derivative(g, i)` is the gradient of inputs[i].
[[nodiscard]] Tensor record(const char* name, Tensor value, const std::vector<Tensor>& inputs,
                            detail::ListNode::Derivative derivative, At at = At::here());

}  // namespace descent
