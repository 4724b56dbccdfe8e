#pragma once
/// @file
/// The tensor, which is a handle on elements, a gradient and a node of the graph; and how functions
/// take a tensor.

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "descent/core/base/dtype.hpp"
#include "descent/core/base/number.hpp"
#include "descent/core/base/shape.hpp"
#include "descent/core/runtime/memory.hpp"

namespace [[gnu::visibility("default")]] descent {

class Tensor;

namespace detail {
class Borrowed;
struct Node;
/// Removes an owner of a node: see graph.hpp.
void drop(Node* node);

/// A buffer that counts its owners. Its elements follow this struct in memory, or are where
/// `memory` points to, which keeps them alive. Views share the buffer and its version.
struct alignas(64) Storage {
  uint32_t refs = 1;
  uint32_t version = 0;          // every change in place adds 1
  const char* writer = nullptr;  // the op that changed it last
  int64_t bytes = 0;             // of elements that follow
  std::shared_ptr<void> memory = nullptr;
  std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
};

/// What a Tensor is a handle on: a view of a storage, and a node of the graph.
struct Header {
  uint32_t refs = 1;
  DType dtype = float32;
  bool contiguous = true;
  Storage* storage = nullptr;
  std::byte* data = nullptr;
  Node* node = nullptr;
  int64_t numel = 0;
  Shape shape;
  Strides strides;
};

void destroy(Header* header);
/// A tensor that views `storage`, and is one of its owners.
Tensor view_of(Storage* storage, std::byte* data, DType dtype, const Shape& shape,
               const Strides& strides);
/// Adds an owner.
inline void retain(uint32_t& refs) { __atomic_fetch_add(&refs, 1U, __ATOMIC_RELAXED); }
/// Removes an owner; whether it was the last one.
inline bool release(uint32_t& refs) {
  if (__atomic_load_n(&refs, __ATOMIC_ACQUIRE) == 1) return true;  // saves a locked instruction
  return __atomic_fetch_sub(&refs, 1U, __ATOMIC_ACQ_REL) == 1;
}
}  // namespace detail

/// How a function takes a tensor: `Tensor f(const In& x)`. An In can be used like the tensor. It
/// also knows the line of the call (`x.at`), for errors, and the version that the storage had then
/// (`x.version`), so that later changes in place are noticed. It borrows a tensor that has a name
/// and takes over a temporary one. It lives only as long as the call, so use it for parameters
/// only. To keep the tensor, write `Tensor t = x`. In `p == 0 ? Tensor(x) : x * p`, Tensor(x) gives
/// both branches one type. For a derivative, see `saved`.
using In = const detail::Borrowed;

/// A C++ number as the right side of a change in place, and the place of the call.
struct Scalar {
  /// The number v.
  template <class T>
  requires std::is_arithmetic_v<T> Scalar(T v, At at_ = At::here()) : value(v), at(at_) {}
  Scalar(Number v, At at_) : value(v), at(at_) {}
  Number value;  ///< the number
  At at;         ///< the place of the call
};

/// An argument of `x(1, slice(2, 5), all)`: an integer, a slice, or the function `all`, which
/// stands for the whole axis; and the place of the call.
struct AxisIndex {
  /// From any integer; a negative one counts from the back.
  template <std::integral T>
  AxisIndex(T i, At at_ = At::here()) : start(static_cast<int64_t>(i)), removed(true), at(at_) {}
  /// From a function.
  AxisIndex(Tensor (*)(const In&, const Dims&, KeepDim), At at_ = At::here())
      : removed(false), at(at_) {}
  int64_t start = 0;        ///< the index, or the first one
  int64_t end = INT64_MAX;  ///< where the indices end
  int64_t step = 1;         ///< from one index to the next
  bool removed;             ///< whether the axis goes, because of an integer
  At at;                    ///< the place of the call
};
/// The indices start, start + step, ... below `end`, for `x(...)`: see `slice` of a tensor.
[[nodiscard]] inline AxisIndex slice(int64_t start, int64_t end = INT64_MAX, int64_t step = 1,
                                     At at = At::here()) {
  AxisIndex some(start, at);
  some.end = end, some.step = step, some.removed = false;
  return some;
}

/// What `Tensor::register_hook` takes: a function that sees a gradient on its way back. If it
/// returns a defined tensor, that replaces the gradient.
using TensorHook = std::function<Tensor(const Tensor& grad)>;
/// What `Tensor::register_post_accumulate_grad_hook` takes: a function that sees a leaf after a
/// backward has added to its gradient.
using AccumulateHook = std::function<void(const Tensor& leaf)>;

/// A handle on an n-dimensional array, its gradient and its node in the graph. Copies of the handle
/// share all three; `clone()` copies the elements. const concerns the handle, not the elements:
/// members that change the elements or the gradient are const too. The rank is at most 8. Strides
/// are in elements.
///
/// Operations that read well from left to right are methods; all others are free functions.
class Tensor {
 public:
  Tensor() = default;
  /// A copy is another handle on the same tensor.
  Tensor(const Tensor& other) : header_(other.header_) {
    if (header_) detail::retain(header_->refs);
  }
  Tensor(Tensor&& other) noexcept : header_(std::exchange(other.header_, nullptr)) {}
  Tensor& operator=(Tensor other) noexcept {
    std::swap(header_, other.header_);
    return *this;
  }
  ~Tensor() {
    if (header_ && detail::release(header_->refs)) detail::destroy(header_);
  }

  /// False for a default-constructed handle, which has no elements, shape or dtype.
  [[nodiscard]] bool defined() const { return header_ != nullptr; }
  /// The size of each axis, and the distance between neighbours along it.
  [[nodiscard]] const Shape& shape() const& { return get().shape; }
  [[nodiscard]] const Strides& strides() const& { return get().strides; }
  /// The same by value, because nobody holds this tensor after the call.
  [[nodiscard]] Shape shape() && { return get().shape; }
  [[nodiscard]] Strides strides() && { return get().strides; }
  /// The rank.
  [[nodiscard]] int dim() const { return get().shape.rank(); }
  /// The size of axis `d`; a negative d counts from the back.
  [[nodiscard]] int64_t size(int64_t d, At at = At::here()) const;
  /// The number of elements.
  [[nodiscard]] int64_t numel() const { return get().numel; }
  /// The type of the elements.
  [[nodiscard]] DType dtype() const { return get().dtype; }
  /// Whether the elements lie in row-major order, without gaps.
  [[nodiscard]] bool is_contiguous() const { return get().contiguous; }

  /// The elements of a contiguous tensor, for reading. T must be the C++ type of the dtype.
  template <class T> [[nodiscard]] const T* data(At at = At::here()) const& {
    return static_cast<const T*>(elements("data", dtype_of<T>(), at));
  }
  /// The elements of a contiguous tensor, for writing. The call counts as a change in place.
  template <class T> T* mutable_data(At at = At::here()) const& {
    return static_cast<T*>(mutable_elements(dtype_of<T>(), at));
  }
  template <class T> const T* data() && = delete;  // a temporary would free the elements first
  template <class T> T* mutable_data() && = delete;
  /// The elements in row-major order, converted to T as C++ does. ValueError if T is an integer
  /// type that does not hold one of them.
  template <class T> [[nodiscard]] std::vector<T> to_vector(At at = At::here()) const {
    get("to_vector", at);
    const Tensor source = detach().contiguous(at);
    std::vector<T> values(static_cast<std::size_t>(numel()));
    visit<Kinds::any>("to_vector", dtype(), at, [&](auto zero) {
      const auto* p = source.data<decltype(zero)>();
      for (std::size_t i = 0; i < values.size(); ++i) {
        detail::check_element<T>("to_vector", p[i], static_cast<int64_t>(i), shape(), at);
        values[i] = static_cast<T>(p[i]);
      }
    });
    return values;
  }
  /// The only element of a tensor with one element (ShapeError otherwise), converted to T: see
  /// `to_vector`.
  template <class T = double> [[nodiscard]] T item(At at = At::here()) const {
    const detail::Header& h = sole_element(at);
    return visit<Kinds::any>("item", h.dtype, at, [&](auto zero) {
      const auto v = *reinterpret_cast<const decltype(zero)*>(h.data);
      detail::check_element<T>("item", v, 0, {}, at);
      return static_cast<T>(v);
    });
  }

  // ---- autograd
  /// Whether a gradient flows to this tensor, and on to the leaves that it was made of.
  [[nodiscard]] bool requires_grad() const { return get().node != nullptr; }
  /// Whether this is a leaf, which is not the result of a recorded op. Only leaves that require a
  /// gradient keep one, in `grad()`.
  [[nodiscard]] bool is_leaf() const;
  /// Sets whether a floating leaf collects a gradient. `false` forgets the gradient and the hooks,
  /// and graphs that were recorded before no longer reach it. GraphError on the result of an op.
  Tensor requires_grad_(bool on = true, At at = At::here()) const;
  /// The gradient that backward has accumulated; undefined before the first backward and after
  /// `zero_grad()`. If you hold a handle on the gradient, the next backward adds into a new tensor
  /// and leaves yours as it is. GraphError on the result of an op, which keeps no gradient.
  [[nodiscard]] Tensor grad(At at = At::here()) const;
  /// Replaces the gradient by `grad`, which has this shape and dtype, or is undefined to forget the
  /// gradient. The new gradient shares the elements of `grad`, but not its graph, which would lead
  /// back to this tensor.
  void set_grad(const Tensor& grad, At at = At::here()) const;
  /// Forgets the gradient.
  void zero_grad() const;
  /// Replaces the elements, dtype and shape of this tensor, a leaf, by a copy of those of `value`;
  /// a temporary is taken over without a copy. Every handle on this tensor sees the new ones. The
  /// gradient is forgotten. GraphError for the result of an op; DtypeError if this tensor requires
  /// a gradient and `value` is not floating.
  void set_data(Tensor value, At at = At::here()) const;
  /// Adds d(this)/d(leaf) to the gradient of every leaf that this tensor was made of. This tensor
  /// must have one element.
  void backward(At at = At::here()) const;
  /// The same, starting from `gradient`, which has this tensor's shape; `retain_graph` allows
  /// another backward.
  void backward(const Tensor& gradient, bool retain_graph = false, At at = At::here()) const;
  /// A tensor that shares the elements, and their version, but has no graph.
  [[nodiscard]] Tensor detach() const;
  /// `hook` sees this tensor's gradient on its way back, and may change it or return another one in
  /// its place. A hook that captures this tensor, not its detach(), keeps it alive for ever.
  void register_hook(TensorHook hook, At at = At::here()) const;
  /// `hook` runs after a backward has added to this leaf's gradient.
  void register_post_accumulate_grad_hook(AccumulateHook hook, At at = At::here()) const;

  // ---- views and copies
  /// The functions of these names: see view.hpp.
  [[nodiscard]] Tensor reshape(const Shape& shape, At at = At::here()) const;
  [[nodiscard]] Tensor t(At at = At::here()) const;
  [[nodiscard]] Tensor transpose(int64_t dim0, int64_t dim1, At at = At::here()) const;
  [[nodiscard]] Tensor permute(const Dims& dims, At at = At::here()) const;
  [[nodiscard]] Tensor narrow(int64_t dim, int64_t start, int64_t length, At at = At::here()) const;
  [[nodiscard]] Tensor select(int64_t dim, int64_t index, At at = At::here()) const;
  [[nodiscard]] Tensor squeeze(int64_t dim, At at = At::here()) const;
  [[nodiscard]] Tensor squeeze(At at = At::here()) const;
  [[nodiscard]] Tensor unsqueeze(int64_t dim, At at = At::here()) const;
  [[nodiscard]] Tensor expand(const Shape& shape, At at = At::here()) const;
  [[nodiscard]] Tensor contiguous(At at = At::here()) const;
  [[nodiscard]] Tensor clone(At at = At::here()) const;
  [[nodiscard]] Tensor to(DType dtype, At at = At::here()) const;

  /// A view of some indices of the leading axes: x(1, slice(2, 5), all) is x[1, 2:5, :] in Python,
  /// and x[1] is x(1). A negative index counts from the back. An integer removes its axis.
  /// IndexError for more arguments than axes.
  [[nodiscard]] Tensor operator[](const AxisIndex& i) const { return view_part({i}); }
  template <class... I>
  [[nodiscard]] Tensor operator()(const AxisIndex& first, const I&... rest) const {
    return view_part({first, AxisIndex(rest)...});
  }

  // ---- elementwise; see pointwise.hpp and arithmetic.hpp
  /// The functions of these names.
  [[nodiscard]] Tensor exp(At at = At::here()) const;
  [[nodiscard]] Tensor log(At at = At::here()) const;
  [[nodiscard]] Tensor sqrt(At at = At::here()) const;
  [[nodiscard]] Tensor square(At at = At::here()) const;
  [[nodiscard]] Tensor abs(At at = At::here()) const;
  [[nodiscard]] Tensor sin(At at = At::here()) const;
  [[nodiscard]] Tensor cos(At at = At::here()) const;
  [[nodiscard]] Tensor tanh(At at = At::here()) const;
  [[nodiscard]] Tensor sigmoid(At at = At::here()) const;
  [[nodiscard]] Tensor relu(At at = At::here()) const;
  [[nodiscard]] Tensor pow(double p, At at = At::here()) const;
  [[nodiscard]] Tensor clamp(Number low, Number high, At at = At::here()) const;

  // ---- reductions
  /// The functions of these names: see reduction.hpp.
  [[nodiscard]] Tensor sum(const Dims& dims = {}, KeepDim keepdim = false,
                           At at = At::here()) const;
  [[nodiscard]] Tensor mean(const Dims& dims = {}, KeepDim keepdim = false,
                            At at = At::here()) const;
  [[nodiscard]] Tensor max(const Dims& dims = {}, KeepDim keepdim = false,
                           At at = At::here()) const;
  [[nodiscard]] Tensor min(const Dims& dims = {}, KeepDim keepdim = false,
                           At at = At::here()) const;
  [[nodiscard]] Tensor argmax(const Dims& dims = {}, KeepDim keepdim = false,
                              At at = At::here()) const;

  // ---- in place
  /// Changes the elements, which views share. GraphError if the tensor requires a gradient, except
  /// under NoGradGuard. The right side broadcasts to this shape and has this dtype. They return
  /// another handle on this tensor.
  Tensor operator+=(const In& other) const;
  Tensor operator-=(const In& other) const;
  Tensor operator*=(const In& other) const;
  Tensor operator/=(const In& other) const;
  Tensor operator+=(Scalar other) const;
  Tensor operator-=(Scalar other) const;
  Tensor operator*=(Scalar other) const;
  Tensor operator/=(Scalar other) const;
  Tensor copy_(const In& source) const;
  Tensor fill_(Number value, At at = At::here()) const;

 protected:
  /// The header that this is a handle on. ValueError if there is none.
  detail::Header& get(const char* op = "tensor", At at = At::unknown()) const {
    if (!header_) [[unlikely]]
      refuse_undefined(op, at);
    return *header_;
  }
  [[noreturn]] static void refuse_undefined(const char* op, At at);
  const detail::Header& sole_element(At at) const;
  const void* elements(const char* op, DType dtype, At at) const;
  void* mutable_elements(DType dtype, At at) const;
  Tensor view_part(std::initializer_list<AxisIndex> parts) const;

  friend Tensor detail::view_of(detail::Storage*, std::byte*, DType, const Shape&, const Strides&);
  friend struct Peek;
  friend class detail::Borrowed;
  /// Null if undefined.
  detail::Header* header_ = nullptr;
};

class Saved;

namespace detail {
/// See In. (An In is const, so that nobody moves the tensor out of it.)
class Borrowed : public Tensor {
 public:
  Borrowed(const Tensor& tensor, At at_ = At::here())
      : at(at_), version(version_of(tensor)), borrowed_(true) {
    header_ = tensor.header_;
  }
  Borrowed(Tensor&& tensor, At at_ = At::here())
      : Tensor(std::move(tensor)), at(at_), version(version_of(*this)), borrowed_(false) {}
  /// The tensor that a derivative saved, with the version at that moment.
  Borrowed(const Saved& saved, At at_ = At::here());
  Borrowed(const Borrowed& other) __attribute__((
      unavailable("a parameter is not kept: save it by name for a derivative, [x = saved(x)], or "
                  "own the tensor, Tensor t = x")));
  Borrowed& operator=(const Borrowed&) = delete;
  ~Borrowed() {  // a borrowed tensor has not counted this owner, so ~Tensor must not remove it
    if (borrowed_) header_ = nullptr;
  }

  const At at;
  const uint32_t version;

 private:
  static uint32_t version_of(const Tensor& t) {
    return t.header_ ? t.header_->storage->version : 0;
  }
  const bool borrowed_;
};
}  // namespace detail

/// How the library itself reads and sets the header of a tensor.
struct Peek {
  /// Reads or sets the header, or the node; null if there is none.
  static detail::Header* header(const Tensor& t) { return t.header_; }
  static detail::Node* node(const Tensor& t) { return t.header_ ? t.header_->node : nullptr; }
  static void set_header(Tensor& t, detail::Header* h) { t.header_ = h; }
  static void set_node(const Tensor& t, detail::Node* n) { t.header_->node = n; }
  /// Whether nobody else can see these elements, so that they may be changed in place.
  static bool unique(const Tensor& t) {
    auto alone = [](const uint32_t& refs) { return __atomic_load_n(&refs, __ATOMIC_ACQUIRE) == 1; };
    const detail::Storage* s = t.header_->storage;
    return alone(t.header_->refs) && alone(s->refs) && t.header_->contiguous && !s->memory;
  }
};

namespace detail {
/// Throws unless `x` is defined and its elements have not changed since it was taken or saved.
[[noreturn]] void refuse_input(const char* op, const In& x);
inline void check(const char* op, const In& x) {
  Header* h = Peek::header(x);
  if (!h || h->storage->version != x.version) [[unlikely]]
    refuse_input(op, x);
}
}  // namespace detail

/// A tensor that the derivative of an op keeps:
///     wrt(a, [b = saved(b)](const Tensor& g) { return g * b; })
/// It owns the tensor. To pass it to a function, or to read it by `*` or `->`, is a GraphError if
/// the elements have changed since they were saved.
class Saved {
 public:
  /// Keeps x.
  explicit Saved(const In& x) : tensor_(x), at_(x.at), version_(x.version) {}
  /// The tensor. GraphError if its elements have changed.
  const Tensor& operator*() const {
    detail::check("derivative", In(*this));
    return tensor_;
  }
  const Tensor* operator->() const { return &**this; }

 private:
  friend class detail::Borrowed;
  Tensor tensor_;
  At at_;
  uint32_t version_;
};
/// Keeps x for a derivative: see Saved.
[[nodiscard]] inline Saved saved(const In& x) { return Saved(x); }

inline detail::Borrowed::Borrowed(const Saved& saved, At)
    : at(saved.at_), version(saved.version_), borrowed_(true) {
  header_ = saved.tensor_.header_;
}

namespace detail {
/// A contiguous tensor of uninitialised elements, without graph.
Tensor empty(const char* op, const Shape& shape, DType dtype, At at);
/// The same with the shape of x.
Tensor empty_like(const char* op, const In& x, DType dtype);
}  // namespace detail

/// ShapeError if x is expanded: a change in place of one element would change others.
void check_not_expanded(const char* op, const Tensor& x, At at);

/// Adds 1 to the version of x's storage, because `op` is about to change its elements. GraphError
/// if x requires a gradient and ops are recorded, because the graph would not notice the change.
/// ShapeError if x is expanded.
void will_write(const char* op, const Tensor& x, At at);

}  // namespace descent
