#include "descent/core/autograd/backward.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail { namespace {

class Backward;
constinit thread_local Backward* running = nullptr;

constexpr auto shallower = [](const Node* a, const Node* b) { return a->depth < b->depth; };

/// Makes room for one more element, so that push_back cannot fail.
template <class T> void make_room(std::vector<T>& list) {
  if (list.size() == list.capacity()) list.reserve(std::max<std::size_t>(16, 2 * list.size()));
}

/// One backward walk. Nodes wait in a heap that is ordered by depth. An op is deeper than its
/// inputs, so a node that is popped has received all of its gradient. Nodes of equal depth are
/// popped in an order that depends only on the order of the pushes, which is the same in every run.
///
/// Two walks on different threads must not share a node. A node with a single owner is reached only
/// through that owner, so the first node that two walks share has several owners. Therefore a walk
/// claims only nodes with several owners, and keeps its claims until it ends. It is an error to
/// reach a node that the walk of another thread has claimed. After an exception, no claims and no
/// collected gradients are left.
class Backward : Pinned {
 public:
  Backward(const char* op, bool create_graph, bool retain_graph, At at)
      : op_(op), create_(create_graph), retain_(retain_graph), at_(at), mode_(create_graph) {
    make_room(roots_), make_room(heap_), make_room(claimed_);  // usually enough
    if (outer_) set_aside_.reserve(outer_->heap_.size());
    // Nothing fails from here on. If this walk runs in a hook or a derivative of another walk, the
    // gradients that wait in the nodes of that walk are set aside until this one ends.
    if (outer_)
      for (Node* n : outer_->heap_) set_aside_.push_back(std::exchange(n->pending, {}));
    running = this;
    deriving = nullptr;
  }
  ~Backward() {
    running = outer_;
    deriving = outer_deriving_;
    for (Node* n : heap_) n->pending = {};
    for (Node* n : claimed_) n->walker.store(nullptr, std::memory_order_release);
    for (Node* n : roots_) drop(n);
    for (std::size_t i = 0; i < set_aside_.size(); ++i)
      outer_->heap_[i]->pending = std::move(set_aside_[i]);
  }

  /// Makes the walk visit only nodes between `outputs` and `wanted`, and put the gradients into
  /// found_, not into leaves. GraphError, before any gradient is computed, if the outputs do not
  /// depend on one of `wanted`, unless `allow_unused`.
  void restrict_to(const std::vector<Tensor>& outputs, const std::vector<Tensor>& wanted,
                   bool allow_unused);
  void seed(const Tensor& output, const Tensor& gradient) {
    roots_.push_back(Peek::node(output));  // a hook may drop the user's own handle
    retain(roots_.back()->refs);
    feed(roots_.back(), gradient.defined() ? gradient : ones(output.shape(), output.dtype()));
  }
  void run();
  /// The gradient of each wanted tensor, which shares its elements with no other tensor.
  std::vector<Tensor> take_found();

 private:
  bool visits(Node* n) const { return places_.empty() || on_path_.count(n) != 0; }
  void claim(Node* n);
  void add(Tensor& sum, const Tensor& g) const {
    if (!create_ && Peek::unique(sum)) accumulate(sum, g);
    else sum = sum + g;
  }
  void feed(Node* n, Tensor g);
  [[noreturn]] void refuse_changed(const Node* leaf, const Tensor& g) const;
  void finish(LeafNode* leaf, Tensor g);
  void expand(Node* n, const Tensor& g);
  Tensor fit(const Node* n, const Node* input, Tensor g) const;
  Tensor run_hooks(const Node* n, Tensor g) const;

  const char* op_;
  bool create_, retain_;
  At at_;
  GradModeGuard mode_;
  Backward* const outer_ = running;
  const char* const outer_deriving_ = deriving;
  std::vector<Tensor> set_aside_;  // gradients that wait in the outer walk while this one runs
  std::vector<Node*> roots_;
  std::vector<Node*> heap_;
  std::vector<Node*> claimed_;
  std::vector<Node*> targets_;                     // what `grad` asks for; none in `backward`
  std::vector<Tensor> found_;                      // indexed by the first place of each target
  std::unordered_map<Node*, std::size_t> places_;  // the first place of each target in targets_
  std::unordered_set<Node*> on_path_;
};

void Backward::restrict_to(const std::vector<Tensor>& outputs, const std::vector<Tensor>& wanted,
                           bool allow_unused) {
  for (const Tensor& t : wanted) {
    places_.emplace(Peek::node(t), targets_.size());
    targets_.push_back(Peek::node(t));
  }
  found_.resize(wanted.size());
  on_path_.insert(targets_.begin(), targets_.end());
  std::unordered_set<Node*> seen;
  std::vector<std::pair<Node*, std::size_t>> stack;
  for (const Tensor& t : outputs) {
    if (seen.insert(Peek::node(t)).second) stack.emplace_back(Peek::node(t), 0);
    while (!stack.empty()) {
      Node* n = stack.back().first;
      if (stack.back().second < n->inputs) {
        Node* next = n->input[stack.back().second++];
        if (next && seen.insert(next).second) stack.emplace_back(next, 0);
        continue;
      }
      stack.pop_back();
      for (std::size_t i = 0; i < n->inputs; ++i)
        if (n->input[i] && on_path_.count(n->input[i]) != 0) on_path_.insert(n);
    }
  }
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (!allow_unused && seen.count(targets_[i]) == 0)
      fail<GraphError>(at_,
                       "grad: the outputs do not depend on inputs[{}] {}: pass "
                       "allow_unused if that is meant",
                       i, wanted[i].shape());
}

void Backward::claim(Node* n) {
  if (n->walker.load(std::memory_order_relaxed) == this) return;
  make_room(claimed_);
  const void* walker = nullptr;
  if (n->walker.compare_exchange_strong(walker, this, std::memory_order_acquire))
    return claimed_.push_back(n);
  for (const Backward* own = this; own; own = own->outer_)
    if (own == walker) return;
  fail<GraphError>(
      at_,
      "{}: another thread's backward is passing through {} {} now: run them one after the other",
      op_, n->name, n->shape);
}

void Backward::feed(Node* n, Tensor g) {
  // A root is always claimed, since `seed` is its second owner. The load acquires, because an owner
  // that is gone now may have walked here before, on another thread.
  if (__atomic_load_n(&n->refs, __ATOMIC_ACQUIRE) > 1) claim(n);
  if (n->pending.defined()) return add(n->pending, g);
  heap_.push_back(n);
  n->pending = std::move(g);
  std::push_heap(heap_.begin(), heap_.end(), shallower);
}

Tensor Backward::run_hooks(const Node* n, Tensor g) const {
  if (!n->hooks) return g;
  if (!Peek::unique(g)) g = g.clone();  // a hook may change it in place
  for (std::size_t i = 0, count = n->hooks->on_grad.size(); i < count; ++i) {
    const TensorHook hook = n->hooks->on_grad[i];  // a hook may add others
    Tensor replaced = hook(g);
    if (!replaced.defined()) continue;
    if (!(replaced.shape() == n->shape) || replaced.dtype() != n->dtype)
      fail<GraphError>(n->at, "{}: a hook returned a gradient {} {} for a tensor {} {}", n->name,
                       replaced.dtype(), replaced.shape(), n->dtype, n->shape);
    g = replaced;
  }
  return g;
}

void Backward::refuse_changed(const Node* leaf, const Tensor& g) const {
  fail<GraphError>(
      at_,
      "{}: a gradient {} {} arrives at a leaf that has become {} {} meanwhile: convert "
      "it before the forward pass",
      op_, g.dtype(), g.shape(), leaf->dtype, leaf->shape);
}

void Backward::finish(LeafNode* leaf, Tensor g) {
  if (!places_.empty()) return;
  if (g.dtype() != leaf->dtype || !(g.shape() == leaf->shape)) refuse_changed(leaf, g);
  if (leaf->grad.defined()) add(leaf->grad, g);
  else leaf->grad = Peek::unique(g) ? std::move(g) : g.clone();  // it shares elements with nobody
  ++leaf->age.changes;
  ++leaf->age.added;
  if (!leaf->hooks || leaf->hooks->on_accumulate.empty()) return;
  Tensor handle = leaf->output.detach();  // the leaf again: the same elements and node
  retain(leaf->refs);
  Peek::set_node(handle, leaf);
  for (std::size_t i = 0, count = leaf->hooks->on_accumulate.size(); i < count; ++i) {
    const AccumulateHook hook = leaf->hooks->on_accumulate[i];
    hook(handle);
  }
}

/// The gradient that a derivative returned, summed to the shape of the input if that was broadcast.
Tensor Backward::fit(const Node* n, const Node* input, Tensor g) const {
  if (g.defined() && g.dtype() == input->dtype) {
    if (g.shape() == input->shape) return g;
    if (broadcasts_to(input->shape, g.shape())) return sum_to(g, input->shape);
  }
  if (!g.defined())
    fail<GraphError>(n->at, "{}: its derivative returned no gradient for an input {}", n->name,
                     input->shape);
  if (input->is_leaf && g.dtype() == n->dtype && g.dtype() != input->dtype)
    refuse_changed(input, g);
  fail<GraphError>(n->at, "{}: its derivative returned a gradient {} {} for an input {} {}",
                   n->name, g.dtype(), g.shape(), input->dtype, input->shape);
}

void Backward::expand(Node* n, const Tensor& g) {
  const auto wanted = [this](Node* x) { return x && visits(x); };
  if (!places_.empty() && std::none_of(n->input, n->input + n->inputs, wanted)) return;
  if (n->released)
    fail<GraphError>(at_,
                     "{}: a second time through {}, whose saved tensors are gone: pass "
                     "retain_graph the first time, or detach() what one step hands to the next",
                     op_, n->name);
  Frame frame(n->at);
  deriving = n->name;
  Tensor y = n->saved_output(create_);
  for (std::size_t i = 0; i < n->inputs; ++i) {
    Node* input = n->input[i];
    if (!wanted(input)) continue;
    const Tensor d = n->derivative(i, g, y);
    if (op_observer && d.defined()) [[unlikely]]
      op_observer->after_derivative(n, i, g, d);
    feed(input, fit(n, input, d));
  }
  deriving = nullptr;
  if (!retain_ && n->saves) {
    n->released = true;
    n->release();
    n->output = {};
  }
}

void Backward::run() {
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), shallower);
    Node* n = heap_.back();
    heap_.pop_back();
    Tensor g = run_hooks(n, std::exchange(n->pending, {}));
    if (const auto place = places_.find(n); place != places_.end()) found_[place->second] = g;
    if (n->is_leaf) finish(static_cast<LeafNode*>(n), std::move(g));
    else if (visits(n)) expand(n, g);
  }
}

std::vector<Tensor> Backward::take_found() {
  std::vector<Tensor> all;
  for (Node* target : targets_) all.push_back(found_[places_[target]]);
  found_.clear();
  for (Tensor& g : all)
    if (g.defined() && !Peek::unique(g)) g = g.clone();
  return all;
}

void check_seed(const char* op, const Tensor& output, const Tensor& gradient, At at) {
  if (!output.defined()) fail<ValueError>(at, "{}: an output is an undefined tensor", op);
  if (!output.requires_grad())
    fail<GraphError>(at, "{}: tensor {} has no graph: {}", op, output.shape(),
                     grad_mode ? "nothing that it was computed from requires a gradient, or it was "
                                 "computed under NoGradGuard"
                               : "recording is off here (NoGradGuard)");
  if (!gradient.defined() && output.numel() != 1)
    fail<GraphError>(at,
                     "{}: tensor {} is not a scalar: pass its outer gradient, or reduce it first",
                     op, output.shape());
  if (gradient.defined() &&
      (!(gradient.shape() == output.shape()) || gradient.dtype() != output.dtype()))
    fail<ShapeError>(at, "{}: gradient {} {} for a tensor {} {}: need the same", op,
                     gradient.dtype(), gradient.shape(), output.dtype(), output.shape());
}

}  // namespace
}  // namespace detail

void Tensor::backward(At at) const { backward(Tensor(), false, at); }

void Tensor::backward(const Tensor& gradient, bool retain_graph, At at) const {
  detail::check_seed("backward", *this, gradient, at);
  detail::Backward walk("backward", false, retain_graph, at);
  walk.seed(*this, gradient);
  walk.run();
}

std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         const GradOptions& options, const std::vector<Tensor>& grad_outputs,
                         At at) {
  if (!grad_outputs.empty() && grad_outputs.size() != outputs.size())
    fail<GraphError>(at, "grad: {} grad_outputs for {} outputs", grad_outputs.size(),
                     outputs.size());
  auto outer = [&](std::size_t i) { return grad_outputs.empty() ? Tensor() : grad_outputs[i]; };
  for (std::size_t i = 0; i < outputs.size(); ++i)
    detail::check_seed("grad", outputs[i], outer(i), at);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!inputs[i].defined() || !inputs[i].requires_grad())
      fail<GraphError>(at, "grad: inputs[{}] does not require a gradient", i);
  if (inputs.empty()) return {};

  detail::Backward walk("grad", options.create_graph, options.create_graph || options.retain_graph,
                        at);
  walk.restrict_to(outputs, inputs, options.allow_unused);
  for (std::size_t i = 0; i < outputs.size(); ++i) walk.seed(outputs[i], outer(i));
  walk.run();
  return walk.take_found();
}

static detail::Hooks& hooks_of(const char* op, const Tensor& x, At at) {
  detail::Node* n = Peek::node(x);
  if (!n) fail<GraphError>(at, "{}: the tensor requires no gradient", op);
  if (!n->hooks) n->hooks = new detail::Hooks;
  return *n->hooks;
}

void Tensor::register_hook(TensorHook hook, At at) const {
  hooks_of("register_hook", *this, at).on_grad.push_back(std::move(hook));
}

void Tensor::register_post_accumulate_grad_hook(AccumulateHook hook, At at) const {
  if (!is_leaf())
    fail<GraphError>(at, "register_post_accumulate_grad_hook: only a leaf accumulates");
  detail::Hooks& hooks = hooks_of("register_post_accumulate_grad_hook", *this, at);
  if (auto* leaf = detail::leaf_node(*this); !leaf->output.defined()) leaf->output = detach();
  hooks.on_accumulate.push_back(std::move(hook));
}

}  // namespace descent
