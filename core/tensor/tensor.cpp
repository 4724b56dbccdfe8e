#include "descent/core/tensor/tensor.hpp"

#include "descent/core/base/checked.hpp"
#include "descent/core/base/context.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace detail {

static void drop(Storage* storage) {
  if (!storage || !release(storage->refs)) return;  // null if making the tensor failed
  int64_t bytes = storage->bytes;
  std::destroy_at(storage);
  count_storage(-1, -bytes);
  deallocate(storage, sizeof(Storage) + static_cast<std::size_t>(bytes));
}

void destroy(Header* header) {
  if (header->node) drop(header->node);
  drop(header->storage);
  deallocate(header, sizeof(Header));
}

/// A header without elements. If `strides` is null, it has the strides of a contiguous tensor.
[[gnu::always_inline]] static inline Header* new_header(void* memory, DType dtype,
                                                        const Shape& shape, const Strides* strides,
                                                        int64_t numel) {
  auto* h = new (memory) Header;
  h->dtype = dtype, h->numel = numel, h->shape = shape;
  h->strides = strides ? *strides : contiguous_strides(shape);
  return h;
}

Tensor view_of(Storage* storage, std::byte* data, DType dtype, const Shape& shape,
               const Strides& strides) {
  int64_t n = numel("view", shape, At::unknown());
  Tensor t;
  t.header_ = new_header(allocate(sizeof(Header)), dtype, shape, &strides, n);
  retain(storage->refs);
  t.header_->storage = storage;
  t.header_->data = data;
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0 && n != 0; --i) {
    if (shape[i] == 1) continue;  // its stride never matters
    if (strides[i] != step) t.header_->contiguous = false;
    step *= shape[i];
  }
  return t;
}

[[gnu::noinline]] static void* allocate_slow_for(const char* op, std::size_t bytes, At at) {
  try {
    return allocate_slow(bytes);
  } catch (const OutOfMemory& cause) { throw OutOfMemory(cause, op, at); }
}
/// allocate(bytes), with an error that names the op and the place of its call. (The part that may
/// throw is a function of its own, because it takes time to enter.)
[[gnu::always_inline]] static inline void* allocate_for(const char* op, std::size_t bytes, At at) {
  void* block = allocate_cached(bytes);
  return block ? block : allocate_slow_for(op, bytes, at);
}

/// A contiguous tensor of n uninitialised elements. `strides` are its strides, or null if the
/// caller does not know them.
static Tensor allocate_tensor(const char* op, DType dtype, const Shape& shape,
                              const Strides* strides, int64_t n, At at) {
  int64_t bytes = checked_mul(n, itemsize(dtype), op, at);
  auto total = checked_add(bytes, static_cast<int64_t>(sizeof(Storage)), op, at);
  Header* h = new_header(allocate_for(op, sizeof(Header), at), dtype, shape, strides, n);
  Tensor t;
  Peek::set_header(t, h);
  h->storage = new (allocate_for(op, static_cast<std::size_t>(total), at)) Storage;
  h->data = h->storage->data();
  h->storage->bytes = bytes;
  count_storage(1, bytes);
  return t;
}

Tensor empty(const char* op, const Shape& shape, DType dtype, At at) {
  return allocate_tensor(op, dtype, shape, nullptr, numel(op, shape, at), at);
}

Tensor empty_like(const char* op, const In& x, DType dtype) {
  const Header& h = *Peek::header(x);
  return allocate_tensor(op, dtype, h.shape, h.contiguous ? &h.strides : nullptr, h.numel, x.at);
}

void refuse_input(const char* op, const In& x) {
  if (!x.defined())
    fail<ValueError>(
        x.at, "{}: an input is an undefined tensor (as a gradient is before backward())", op);
  const Storage* s = Peek::header(x)->storage;
  const char* saved_by = deriving;
  fail<GraphError>(x.at,
                   "{}: {} {} was changed in place by {} (it is at version {}, {} at {}): "
                   "clone() it first{}",
                   saved_by ? saved_by : op, saved_by ? "a saved tensor" : "an argument", x.shape(),
                   s->writer ? s->writer : "a write", s->version, saved_by ? "saved" : "passed",
                   x.version, saved_by ? ", or change it after backward" : "");
}

}  // namespace detail

void check_not_expanded(const char* op, const Tensor& x, At at) {
  const detail::Header* h = Peek::header(x);
  for (int i = 0; !h->contiguous && i < h->shape.rank(); ++i)
    if (h->strides[i] == 0 && h->shape[i] > 1)
      fail<ShapeError>(at,
                       "{}: an expanded tensor {} is changed in place: several of its elements are "
                       "one in memory: clone() it first",
                       op, x.shape());
}

void will_write(const char* op, const Tensor& x, At at) {
  if (x.requires_grad() && detail::grad_mode)
    fail<GraphError>(at,
                     "{}: a tensor {} that requires a gradient is changed in place: do it under "
                     "NoGradGuard, or on detach()",
                     op, x.shape());
  check_not_expanded(op, x, at);
  detail::Header* h = Peek::header(x);
  ++h->storage->version;
  h->storage->writer = op;
}

void Tensor::refuse_undefined(const char* op, At at) {
  fail<ValueError>(at, "{}: this tensor is undefined (as a gradient is before backward())", op);
}

int64_t Tensor::size(int64_t d, At at) const {
  const Shape& shape = get("size", at).shape;
  if (shape.rank() == 0) fail<IndexError>(at, "size: dim {} of a scalar: it has no axes", d);
  return shape[detail::wrap_dim("size", d, shape.rank(), at)];
}

const void* Tensor::elements(const char* op, DType want, At at) const {
  const detail::Header& h = get(op, at);
  if (h.dtype != want) fail<DtypeError>(at, "{}: the tensor is {}, asked as {}", op, h.dtype, want);
  if (!h.contiguous)
    fail<ShapeError>(at, "{}: tensor {} with strides {} is not contiguous: use contiguous()", op,
                     h.shape, h.strides);
  return h.data;
}

void* Tensor::mutable_elements(DType want, At at) const {
  elements("mutable_data", want, at);
  will_write("mutable_data", *this, at);
  return get().data;
}

const detail::Header& Tensor::sole_element(At at) const {
  const detail::Header& h = get("item", at);
  if (h.numel != 1)
    fail<ShapeError>(at, "item: tensor {} has {} elements: need one", h.shape, h.numel);
  return h;
}

Tensor Tensor::detach() const {
  const detail::Header& h = get();
  return detail::view_of(h.storage, h.data, h.dtype, h.shape, h.strides);
}

}  // namespace descent
