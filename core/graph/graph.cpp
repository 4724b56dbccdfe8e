#include "descent/core/graph/graph.hpp"

#include <algorithm>

namespace [[gnu::visibility("default")]] descent {
namespace detail {

LeafNode::LeafNode(const Tensor& x, At at_) : Node("leaf", at_) {
  static constinit std::atomic<uint32_t> lives = 0;
  is_leaf = true;
  shape = x.shape();
  dtype = x.dtype();
  age.life = lives.fetch_add(1, std::memory_order_relaxed) + 1;
}

LeafNode* leaf_node(const Tensor& x) {
  Node* n = Peek::node(x);
  return n && n->is_leaf ? static_cast<LeafNode*>(n) : nullptr;
}

namespace {
// Nodes that have no owner left. Destroying one may drop others: they wait in this list, so that a
// long chain does not overflow the call stack.
constinit thread_local Node* doomed = nullptr;
constinit thread_local bool destroying = false;

}  // namespace

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

void Node::connect(std::size_t i, const Tensor& x) {
  input[i] = Peek::node(x);
  retain(input[i]->refs);
  depth = std::max(depth, input[i]->depth + 1);
}

void refuse_reference(const char* op, const In& x) {
  fail<GraphError>(x.at,
                   "{}: its derivative captures an argument {} by reference, which is gone when it "
                   "is called: capture it by value ([x = saved(x)])",
                   op, x.shape());
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
  std::unique_ptr<Node, void (*)(Node*)> guard(node, drop);
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
  if (op_observer) [[unlikely]]
    op_observer->after_record(node);
  Peek::set_node(value, guard.release());
  return value;
}

void observe_op(const char* op, const Tensor& value, std::initializer_list<const In*> inputs) {
  std::vector<Tensor> all;
  for (const In* x : inputs) all.emplace_back(*x);
  op_observer->after_op(op, value, all, (*inputs.begin())->at);
}

ListNode::ListNode(const char* name_, At at_, const std::vector<Tensor>& x, Derivative f)
    : Node(name_, at_), nodes_(x.size()), f_(std::move(f)) {
  saves = true;
  input = nodes_.data();
  inputs = x.size();
  for (std::size_t i = 0; i < inputs; ++i)
    if (x[i].requires_grad()) connect(i, x[i]);
}

}  // namespace detail

GradientAge gradient_age(const Tensor& leaf) {
  const detail::LeafNode* node = detail::leaf_node(leaf);
  return node ? node->age : GradientAge();
}

Tensor* gradient_of(const Tensor& leaf) {
  detail::LeafNode* node = detail::leaf_node(leaf);
  return node && node->grad.defined() ? &node->grad : nullptr;
}

GradModeGuard::GradModeGuard(bool on) : before_(std::exchange(detail::grad_mode, on)) {}
GradModeGuard::~GradModeGuard() { detail::grad_mode = before_; }
bool grad_enabled() { return detail::grad_mode; }

Tensor record(const char* name, Tensor value, const std::vector<Tensor>& inputs,
              detail::ListNode::Derivative derivative, At at) {
  if (detail::op_observer) [[unlikely]]
    detail::op_observer->after_op(name, value, inputs, at);
  const auto wanted = [](const Tensor& x) { return x.requires_grad(); };
  if (!detail::grad_mode || std::ranges::none_of(inputs, wanted)) return value;
  return detail::attach(std::move(value), new detail::ListNode(name, detail::caller(at), inputs,
                                                               std::move(derivative)));
}

bool Tensor::is_leaf() const { return !get().node || get().node->is_leaf; }

Tensor Tensor::requires_grad_(bool on, At at) const {
  detail::Header& h = get("requires_grad_", at);
  if (!is_leaf())
    fail<GraphError>(at, "requires_grad_: the result of an op is not a leaf: detach() it first");
  if (on && !is_floating(h.dtype))
    fail<DtypeError>(at, "requires_grad_: a tensor of {} has no gradient", h.dtype);
  if (on && !h.node) h.node = new detail::LeafNode(*this, at);
  if (!on && h.node) detail::drop(std::exchange(h.node, nullptr));
  return *this;
}

Tensor Tensor::grad(At at) const {
  if (!is_leaf())
    fail<GraphError>(at,
                     "grad: this tensor {} is the result of {}, and only leaves keep a gradient: "
                     "change a parameter in place, under NoGradGuard (w -= ...), or detach() it",
                     shape(), get().node->name);
  const auto* leaf = detail::leaf_node(*this);
  return leaf ? leaf->grad : Tensor();
}

void Tensor::set_grad(const Tensor& grad, At at) const {
  auto* leaf = detail::leaf_node(*this);
  if (!leaf) fail<GraphError>(at, "set_grad: only a leaf that requires a gradient holds one");
  if (grad.defined() && (!(grad.shape() == shape()) || grad.dtype() != dtype()))
    fail<ShapeError>(at, "set_grad: gradient {} {} for a tensor {} {}: need the same", grad.dtype(),
                     grad.shape(), dtype(), shape());
  leaf->replace(grad.defined() && grad.requires_grad() ? grad.detach() : grad);
}

void Tensor::set_data(Tensor value, At at) const {
  detail::Header* h = &get("set_data", at);
  const DType to = value.get("set_data", at).dtype;
  if (!is_leaf()) fail<GraphError>(at, "set_data: the result of an op is not a leaf: detach() it");
  auto* const leaf = detail::leaf_node(*this);
  if (leaf && !is_floating(to))
    fail<DtypeError>(at, "set_data: a parameter gets {}: need a floating dtype", to);
  if (value.requires_grad() || !Peek::unique(value)) value = value.detach().clone(at);
  const Tensor output = leaf && leaf->output.defined() ? value.detach() : Tensor();
  // Derivatives that saved x must notice the change, although the new storage has its own versions.
  detail::Header* v = value.header_;
  v->storage->version = std::max(h->storage->version, v->storage->version) + 1;
  v->storage->writer = "set_data";
  std::swap(h->storage, v->storage);
  h->data = v->data, h->dtype = to, h->contiguous = true;
  h->numel = v->numel, h->shape = v->shape, h->strides = v->strides;
  if (leaf) {
    leaf->replace({});
    leaf->output = output;
    leaf->shape = h->shape;
    leaf->dtype = to;
  }
}

void Tensor::zero_grad() const {
  if (auto* leaf = detail::leaf_node(*this)) leaf->replace({});
}

}  // namespace descent
