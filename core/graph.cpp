#include "descent/core/graph.hpp"

#include <algorithm>
#include <atomic>
#include <unordered_set>

#include "descent/core/elementwise.hpp"
#include "descent/core/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail {

constinit thread_local bool grad_mode = true;

namespace {

class Backward;
constinit thread_local Backward* running = nullptr;

constinit std::atomic<uint32_t> lives = 0;  // of leaves

/// Where a gradient ends up. One backward at a time may feed it: two at once are a GraphError.
struct LeafNode final : Node {
  LeafNode(const Tensor& x, At at_) : Node("leaf", at_) {
    is_leaf = true;
    shape = x.shape();
    dtype = x.dtype();
    age.life = lives.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  Tensor derivative(std::size_t, const Tensor&, const Tensor&) override { return {}; }
  void release() override {}

  void replace(const Tensor& with) {
    grad = with;
    ++age.changes;
    age.added = with.defined();
  }

  Tensor grad;
  GradientAge age;
  std::atomic<const Backward*> owner = nullptr;
};

LeafNode* leaf_node(const Tensor& x) {
  Node* n = Peek::node(x);
  return n && n->is_leaf ? static_cast<LeafNode*>(n) : nullptr;
}

// Nodes whose last owner has gone. Destroying one may drop others: they queue here, so that the
// stack stays flat however long the chain.
constinit thread_local Node* doomed = nullptr;
constinit thread_local bool destroying = false;

}  // namespace

GradientAge gradient_age(const Tensor& leaf) {
  const LeafNode* node = leaf_node(leaf);
  return node ? node->age : GradientAge();
}

Tensor* gradient_of(const Tensor& leaf) {
  LeafNode* node = leaf_node(leaf);
  return node && node->grad.defined() ? &node->grad : nullptr;
}

void drop(Node* node) {
  if (!release(node->refs)) return;
  node->next = std::exchange(doomed, node);
  if (destroying) return;
  destroying = true;
  while (doomed) delete std::exchange(doomed, doomed->next);
  destroying = false;
}

Node::~Node() {
  delete hooks;
  count_node(-1);
}

void Node::disconnect() {
  for (std::size_t i = 0; i < inputs; ++i)
    if (input[i]) drop(input[i]);
}

void Node::connect(std::size_t i, const In& x) {
  input[i] = Peek::node(x);
  retain(input[i]->refs);
  depth = std::max(depth, input[i]->depth + 1);
}

Tensor Node::saved_output(bool create_graph) {
  if (!needs_output) return {};
  const Storage* s = Peek::header(output)->storage;
  if (s->version != output_version)
    fail<GraphError>(at,
                     "{}: its output {} was changed in place by {} (it is at version {}, saved at "
                     "{}): clone() it first, or change it after backward",
                     name, shape, s->writer, s->version, output_version);
  if (!create_graph) return output;
  Tensor y = output.detach();
  retain(refs);
  Peek::set_node(y, this);
  return y;
}

Tensor attach(Tensor value, Node* node) {
  struct Guard {
    Node* node;
    ~Guard() {
      if (node) drop(node);
    }
  } guard{node};
  // A view of an input must not put its node on the input's own header.
  if (Peek::node(value) || Peek::header(value)->refs > 1) value = value.detach();
  node->shape = value.shape();
  node->dtype = value.dtype();
  if (!is_floating(node->dtype))
    fail<DtypeError>(node->at, "{}: the result is {}: only floating tensors have gradients",
                     node->name, node->dtype);
  if (node->needs_output) {
    node->output = value.detach();
    node->output_version = Peek::header(value)->storage->version;
  }
  Peek::set_node(value, std::exchange(guard.node, nullptr));
  return value;
}

void set_data(const Tensor& x, const Tensor& value) {
  Header *h = Peek::header(x), *v = Peek::header(value);
  // Whoever saved x must see the change, though its new storage has versions of its own.
  v->storage->version = std::max(h->storage->version, v->storage->version) + 1;
  v->storage->writer = "set_data";
  std::swap(h->storage, v->storage);
  std::swap(h->data, v->data);
  std::swap(h->dtype, v->dtype);
  std::swap(h->contiguous, v->contiguous);
  std::swap(h->numel, v->numel);
  std::swap(h->shape, v->shape);
  std::swap(h->strides, v->strides);
  if (auto* leaf = leaf_node(x)) {
    leaf->replace({});
    if (leaf->output.defined()) leaf->output = x.detach();
    leaf->shape = h->shape;
    leaf->dtype = h->dtype;
  }
}

ListNode::ListNode(const char* name_, At at_, const std::vector<In>& x, Derivative f)
    : Node(name_, at_), nodes_(x.size()), f_(std::move(f)) {
  saves = true;
  input = nodes_.data();
  inputs = x.size();
  for (std::size_t i = 0; i < inputs; ++i)
    if (x[i].requires_grad()) connect(i, x[i]);
}

namespace {

constexpr auto shallower = [](const Node* a, const Node* b) { return a->depth < b->depth; };

/// One backward: nodes wait in a heap by depth. A consumer is deeper than its inputs, so whatever
/// is popped has all of its gradient; ties fall as the same program always pushes them.
class Backward : detail::Pinned {
 public:
  Backward(const char* op, bool create_graph, bool retain_graph, At at)
      : op_(op), create_(create_graph), retain_(retain_graph), at_(at), mode_(create_graph) {
    roots_.reserve(16), heap_.reserve(16), claimed_.reserve(16);  // as a rule, no more is needed
    // In a hook or a derivative of another one: what waits in that one's nodes steps aside.
    if (outer_)
      for (Node* n : outer_->heap_) set_aside_.push_back(std::exchange(n->pending, {}));
  }
  ~Backward() {
    for (Node* n : heap_) n->pending = {};
    for (LeafNode* leaf : claimed_) leaf->owner.store(nullptr, std::memory_order_release);
    for (Node* n : roots_) drop(n);
    for (std::size_t i = 0; i < set_aside_.size(); ++i)
      outer_->heap_[i]->pending = std::move(set_aside_[i]);
    running = outer_;
  }

  /// Only nodes in `wanted`'s ancestry are visited, and gradients land in `found`, not in leaves.
  /// GraphError, before anything is done, if the outputs do not depend on one of them.
  void restrict_to(const std::vector<Tensor>& outputs, const std::vector<Tensor>& wanted,
                   bool allow_unused);
  void seed(const Tensor& output, const Tensor& gradient) {
    roots_.push_back(Peek::node(output));  // a hook may drop the user's own handle
    retain(roots_.back()->refs);
    feed(roots_.back(), gradient.defined() ? gradient : ones(output.shape(), output.dtype()));
  }
  void run();
  const char* current_op() const { return current_ ? current_->name : nullptr; }
  std::vector<Tensor> found;

 private:
  bool visits(Node* n) const { return targets_.empty() || on_path_.count(n) != 0; }
  void claim(LeafNode* leaf);
  void add(Tensor& sum, const Tensor& g) const {
    if (!create_ && Peek::unique(sum)) accumulate(sum, g);
    else sum = sum + g;
  }
  void feed(Node* n, Tensor g);
  void finish(LeafNode* leaf, Tensor g);
  void expand(Node* n, const Tensor& g);
  Tensor fitted(const Node* n, const Node* input, Tensor g) const;
  Tensor run_hooks(const Node* n, Tensor g) const;

  const char* op_;
  bool create_, retain_;
  At at_;
  GradModeGuard mode_;
  Backward* outer_ = std::exchange(running, this);
  const Node* current_ = nullptr;  // whose derivative is being computed
  std::vector<Tensor> set_aside_;
  std::vector<Node*> roots_;
  std::vector<Node*> heap_;
  std::vector<LeafNode*> claimed_;
  std::vector<Node*> targets_;
  std::unordered_set<Node*> on_path_;
};

void Backward::restrict_to(const std::vector<Tensor>& outputs, const std::vector<Tensor>& wanted,
                           bool allow_unused) {
  for (const Tensor& t : wanted) targets_.push_back(Peek::node(t));
  found.resize(wanted.size());
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

void Backward::claim(LeafNode* leaf) {
  if (leaf->owner.load(std::memory_order_relaxed) == this) return;
  const Backward* owner = nullptr;
  if (leaf->owner.compare_exchange_strong(owner, this, std::memory_order_acquire)) {
    claimed_.push_back(leaf);
    return;
  }
  for (const Backward* own = this; own; own = own->outer_)
    if (own == owner) return;
  fail<GraphError>(at_,
                   "{}: another backward is adding to the same leaf {} now: run them one after the "
                   "other",
                   op_, leaf->shape);
}

void Backward::feed(Node* n, Tensor g) {
  if (n->is_leaf) claim(static_cast<LeafNode*>(n));  // before a look at what it has
  if (n->pending.defined()) return add(n->pending, g);
  heap_.push_back(n);
  n->pending = std::move(g);
  std::push_heap(heap_.begin(), heap_.end(), shallower);
}

Tensor Backward::run_hooks(const Node* n, Tensor g) const {
  if (!n->hooks) return g;
  if (!create_ && !Peek::unique(g)) g = g.clone();  // a hook may change it in place
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

void Backward::finish(LeafNode* leaf, Tensor g) {
  if (!targets_.empty()) return;
  ++leaf->age.changes;
  ++leaf->age.added;
  if (leaf->grad.defined()) add(leaf->grad, g);
  else leaf->grad = Peek::unique(g) ? std::move(g) : g.clone();  // it shares elements with nobody
  if (!leaf->hooks || leaf->hooks->on_accumulate.empty()) return;
  Tensor handle = leaf->output.detach();  // the leaf again: same elements, same node
  retain(leaf->refs);
  Peek::set_node(handle, leaf);
  for (std::size_t i = 0, count = leaf->hooks->on_accumulate.size(); i < count; ++i) {
    const AccumulateHook hook = leaf->hooks->on_accumulate[i];
    hook(handle);
  }
}

/// The gradient an op returned, brought to its input's shape where broadcasting had widened it.
Tensor Backward::fitted(const Node* n, const Node* input, Tensor g) const {
  if (g.defined() && g.dtype() == input->dtype) {
    if (g.shape() == input->shape) return g;
    if (broadcasts_to(input->shape, g.shape())) return sum_to(g, input->shape);
  }
  if (!g.defined())
    fail<GraphError>(n->at, "{}: its derivative returned no gradient for an input {}", n->name,
                     input->shape);
  fail<GraphError>(n->at, "{}: its derivative returned a gradient {} {} for an input {} {}",
                   n->name, g.dtype(), g.shape(), input->dtype, input->shape);
}

void Backward::expand(Node* n, const Tensor& g) {
  const auto wanted = [this](Node* x) { return x && visits(x); };
  if (!targets_.empty() && std::none_of(n->input, n->input + n->inputs, wanted)) return;
  if (n->released)
    fail<GraphError>(at_,
                     "{}: a second time through {}, whose saved tensors are gone: pass "
                     "retain_graph the first time",
                     op_, n->name);
  Frame frame(n->at);
  current_ = n;
  Tensor y = n->saved_output(create_);
  for (std::size_t i = 0; i < n->inputs; ++i) {
    Node* input = n->input[i];
    if (wanted(input)) feed(input, fitted(n, input, n->derivative(i, g, y)));
  }
  current_ = nullptr;
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
    for (std::size_t i = 0; i < targets_.size(); ++i)
      if (targets_[i] == n) found[i] = g;
    if (n->is_leaf) finish(static_cast<LeafNode*>(n), std::move(g));
    else if (targets_.empty() || on_path_.count(n) != 0) expand(n, g);
  }
}

void check_seed(const char* op, const Tensor& output, const Tensor& gradient, At at) {
  if (!output.defined()) fail<ValueError>(at, "{}: an output is an undefined tensor", op);
  if (!output.requires_grad())
    fail<GraphError>(
        at, "{}: tensor {} has no graph: nothing that it was computed from requires a gradient", op,
        output.shape());
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

const char* detail::backward_op() { return running ? running->current_op() : nullptr; }

GradModeGuard::GradModeGuard(bool on) : before_(std::exchange(detail::grad_mode, on)) {}
GradModeGuard::~GradModeGuard() { detail::grad_mode = before_; }
bool grad_enabled() { return detail::grad_mode; }

Tensor record(const char* name, Tensor value, const std::vector<In>& inputs,
              detail::ListNode::Derivative derivative) {
  const auto wanted = [](const In& x) { return x.requires_grad(); };
  if (!detail::grad_mode || std::ranges::none_of(inputs, wanted)) return value;
  return detail::attach(std::move(value), new detail::ListNode(name, detail::caller(inputs[0].at),
                                                               inputs, std::move(derivative)));
}

bool Tensor::is_leaf() const { return !get().node || get().node->is_leaf; }

const Tensor& Tensor::requires_grad_(bool on, At at) const {
  detail::Header& h = get("requires_grad_", at);
  if (!is_leaf())
    fail<GraphError>(at, "requires_grad_: the result of an op is not a leaf: detach() it first");
  if (on && !is_floating(h.dtype))
    fail<DtypeError>(at, "requires_grad_: a tensor of {} has no gradient", h.dtype);
  if (on && !h.node) h.node = new detail::LeafNode(*this, at);
  if (!on && h.node) detail::drop(std::exchange(h.node, nullptr));
  return *this;
}

Tensor Tensor::grad() const {
  const auto* leaf = detail::leaf_node(*this);
  return leaf ? leaf->grad : Tensor();
}

void Tensor::set_grad(const Tensor& grad, At at) const {
  auto* leaf = detail::leaf_node(*this);
  if (!leaf) fail<GraphError>(at, "set_grad: only a leaf that requires a gradient holds one");
  if (grad.defined() && (!(grad.shape() == shape()) || grad.dtype() != dtype()))
    fail<ShapeError>(at, "set_grad: gradient {} {} for a tensor {} {}: need the same", grad.dtype(),
                     grad.shape(), dtype(), shape());
  leaf->replace(grad);
}

void Tensor::zero_grad() const {
  if (auto* leaf = detail::leaf_node(*this)) leaf->replace({});
}

void Tensor::backward(At at) const { backward(Tensor(), false, at); }

void Tensor::backward(const Tensor& gradient, bool retain_graph, At at) const {
  detail::check_seed("backward", *this, gradient, at);
  detail::Backward walk("backward", false, retain_graph, at);
  walk.seed(*this, gradient);
  walk.run();
}

std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         GradOptions options, const std::vector<Tensor>& grad_outputs, At at) {
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
  return std::move(walk.found);
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
  hooks_of("register_post_accumulate_grad_hook", *this, at)
      .on_accumulate.push_back(std::move(hook));
  if (auto* leaf = detail::leaf_node(*this); !leaf->output.defined()) leaf->output = detach();
}

}  // namespace descent
