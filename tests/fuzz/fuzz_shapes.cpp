#include <optional>

#include "fuzz.hpp"

// The input chooses an operation, the shapes and dtypes of tiny tensors, and other arguments. The
// result has the shape that a rule written here says, or the operation refuses where the rule does.

using namespace descent;

namespace {

/// A call, and the shape of its result; nothing if it must be refused.
struct Case {
  std::optional<Shape> shape;
  std::function<Tensor()> call;
};
constexpr std::nullopt_t refused = std::nullopt;

// ---- arguments

DType any_dtype(Input& in) {
  const int64_t n = in.below(16);
  return n < 4 ? static_cast<DType>(n) : float64;
}
Shape any_shape(Input& in, int64_t most_axes = 4) {
  Shape shape;
  for (int64_t n = in.below(most_axes + 1); n > 0; --n) {
    const uint8_t size = in.byte();
    shape.push_back(size >= 0xf0 ? 0 : 1 + size % 3);
  }
  return shape;
}
Tensor filled(const Shape& shape, DType dtype) {
  const Tensor x = arange(zeros(shape).numel(), dtype == boolean ? int64 : dtype).reshape(shape);
  return dtype == boolean ? x == 1 : is_floating(dtype) ? x.detach().requires_grad_() : x;
}
Tensor any_tensor(Input& in, int64_t most_axes = 4) {
  const Shape shape = any_shape(in, most_axes);
  return filled(shape, any_dtype(in));
}
/// A number from -2 to 5.
int64_t any_number(Input& in) { return in.below(8) - 2; }
/// Mostly axes that there are.
int64_t any_dim(Input& in, int64_t rank) {
  const uint8_t n = in.byte();
  return n >= 0xe0 ? n % 16 - 8 : n % std::max<int64_t>(2 * rank, 1) - rank;
}

// ---- rules

std::optional<int64_t> axis(int64_t dim, int64_t rank) {
  if (dim < -rank || dim >= rank) return refused;
  return dim < 0 ? dim + rank : dim;
}
std::optional<Shape> broadcast(const Shape& a, const Shape& b) {
  Shape out = a.rank() > b.rank() ? a : b;
  for (int i = 1; i <= std::min(a.rank(), b.rank()); ++i) {
    if (a[-i] != b[-i] && a[-i] != 1 && b[-i] != 1) return refused;
    out[-i] = a[-i] == 1 ? b[-i] : a[-i];
  }
  return out;
}
Shape part(const Shape& shape, int begin, int end) {
  Shape out;
  for (int i = begin; i < end; ++i) out.push_back(shape[i]);
  return out;
}
Shape with_size(Shape shape, int64_t dim, int64_t size) {
  shape[static_cast<int>(dim)] = size;
  return shape;
}

Case arithmetic(Input& in) {
  const Tensor a = any_tensor(in), b = any_tensor(in);
  const bool divide = in.below(2) == 1;
  const bool right = divide ? is_floating(a.dtype()) : a.dtype() != boolean;
  return {a.dtype() == b.dtype() && right ? broadcast(a.shape(), b.shape()) : refused,
          [=] { return divide ? a / b : a + b; }};
}

Case reshaped(Input& in) {
  const Tensor x = any_tensor(in);
  Shape shape;
  for (int64_t n = in.below(5); n > 0; --n) shape.push_back(any_number(in));
  if (in.below(2) == 0) {  // one that fits
    shape = {-1};
    for (const int64_t size : x.shape()) shape.insert(in.below(2) == 0 ? 0 : shape.rank(), size);
    shape[static_cast<int>(in.below(shape.rank()))] = 1;
  }
  int64_t known = 1, free = -1;
  std::optional<Shape> expected = shape;
  for (int i = 0; i < shape.rank(); ++i)
    if (shape[i] == -1 && free == -1) free = i;
    else if (shape[i] < 0) expected = refused;
    else known *= shape[i];
  if (free >= 0 && (known == 0 || x.numel() % known != 0)) expected = refused;
  else if (free >= 0 && expected) *expected = with_size(shape, free, x.numel() / known);
  else if (known != x.numel()) expected = refused;
  return {expected, [=] { return reshape(x, shape); }};
}

Case sliced(Input& in) {
  const Tensor x = any_tensor(in);
  const int64_t dim = any_dim(in, x.dim()), start = any_number(in), end = any_number(in) + 1,
                step = in.below(4);
  const Case refusal{refused, [=] { return slice(x, dim, start, end, step); }};
  const std::optional<int64_t> d = axis(dim, x.dim());
  if (!d || step == 0) return refusal;
  const int64_t size = x.shape()[static_cast<int>(*d)];
  const auto place = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + size : i, 0, size); };
  int64_t count = 0;
  for (int64_t i = place(start); i < place(end); i += step) ++count;
  return {with_size(x.shape(), *d, count), refusal.call};
}

Case multiplied(Input& in) {
  const DType dtype = any_dtype(in);
  const Shape a = any_shape(in);
  Shape b = any_shape(in);
  if (in.below(4) > 0 && a.rank() > 0 && b.rank() > 0) b[b.rank() > 1 ? -2 : -1] = a[-1];
  const Tensor x = filled(a, dtype), y = filled(b, in.below(8) == 0 ? float32 : dtype);
  const Case refusal{refused, [=] { return matmul(x, y); }};
  if (!is_floating(dtype) || y.dtype() != dtype || a.rank() == 0 || b.rank() == 0) return refusal;
  if (a[-1] != b[b.rank() > 1 ? -2 : -1]) return refusal;
  std::optional<Shape> out = broadcast(part(a, 0, a.rank() - 2), part(b, 0, b.rank() - 2));
  if (out && a.rank() > 1) out->push_back(a[-2]);
  if (out && b.rank() > 1) out->push_back(b[-1]);
  return {out, refusal.call};
}

Case joined(Input& in) {
  const bool stacked = in.below(2) == 1;
  std::vector<Tensor> all{any_tensor(in)};
  const int64_t rank = all[0].dim(), dim = any_dim(in, rank + stacked);
  const std::optional<int64_t> d = axis(dim, rank + stacked);
  int64_t total = !d || stacked ? 0 : all[0].shape()[static_cast<int>(*d)];
  bool right = d && rank + stacked > 0;
  for (int64_t n = in.below(3); n > 0; --n) {
    Shape shape = in.below(6) == 0 ? any_shape(in) : all[0].shape();
    if (!stacked && d && *d < shape.rank()) shape[static_cast<int>(*d)] = in.below(3);
    all.push_back(filled(shape, in.below(8) == 0 ? any_dtype(in) : all[0].dtype()));
    right = right && all.back().dtype() == all[0].dtype() && shape.rank() == rank;
    if (right && !stacked)
      total += std::exchange(shape[static_cast<int>(*d)], all[0].shape()[static_cast<int>(*d)]);
    right = right && shape == all[0].shape();
  }
  std::optional<Shape> out = all[0].shape();
  if (right && stacked) out->insert(static_cast<int>(*d), std::ssize(all));
  else if (right) *out = with_size(*out, *d, total);
  return {right ? out : refused, [=] { return stacked ? stack(all, dim) : cat(all, dim); }};
}

/// How many places a window of `kernel` pixels has along an axis; 0 if the call is refused. With
/// `ceil_mode`, the last one may leave the image, if it begins in it or in front of it; so may the
/// only one.
int64_t places(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
               bool ceil_mode = false) {
  const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  if (size < 1 || kernel < 1 || stride < 1 || padding < 0 || dilation < 1) return 0;
  int64_t count = 0;
  while (count * stride <= room) ++count;
  const bool more = ceil_mode && (count - 1) * stride < room && count * stride < size + padding;
  return count + more;
}

Tensor any_images(Input& in) {
  Shape shape;
  if (in.below(4) > 0) shape.push_back(in.below(3));
  for (int i = in.below(16) == 0; i < 3; ++i)
    shape.push_back(i == 0 ? 1 + in.below(4) : in.below(7));
  return filled(shape, any_dtype(in));
}

Case convolved(Input& in) {
  const Tensor x = any_images(in);
  Conv2dOptions o{.stride = {in.below(4), 1 + in.below(2)},
                  .padding = {in.below(4) - 1, in.below(2)}};
  o.dilation = in.below(4) == 0 ? in.below(4) : 1;
  o.groups = in.below(4) == 0 ? in.below(4) : 1;
  if (o.stride.h == 0 && in.below(4) > 0) o.stride.h = 1;
  const int64_t channels = x.dim() < 3 ? 1 : x.shape()[-3];
  const int64_t per_group = in.below(8) == 0
                                ? 1 + in.below(3)
                                : std::max<int64_t>(channels / std::max<int64_t>(o.groups, 1), 1);
  const Shape w{1 + in.below(4), per_group, 1 + in.below(3), 1 + in.below(3)};
  const Tensor weight = filled(w, in.below(16) == 0 ? any_dtype(in) : x.dtype());
  const Case refusal{refused, [=] { return conv2d(x, weight, o); }};
  if (x.dim() < 3 || o.groups < 1 || channels != per_group * o.groups || w[0] % o.groups != 0 ||
      !is_floating(x.dtype()) || weight.dtype() != x.dtype())
    return refusal;
  const int64_t h = places(x.shape()[-2], w[2], o.stride.h, o.padding.h, o.dilation.h),
                v = places(x.shape()[-1], w[3], o.stride.w, o.padding.w, o.dilation.w);
  if (h == 0 || v == 0) return refusal;
  return {
      with_size(with_size(with_size(x.shape(), x.dim() - 1, v), x.dim() - 2, h), x.dim() - 3, w[0]),
      refusal.call};
}

Case pooled(Input& in) {
  const Tensor x = any_images(in);
  const bool largest = in.below(2) == 1, ceil_mode = in.below(2) == 1;
  const Size2d kernel{in.below(8) == 0 ? 0 : 1 + in.below(3), 1 + in.below(3)},
      stride{1 + in.below(3), in.below(8) == 0 ? 0 : 1 + in.below(3)},
      padding{in.below(2), in.below(2)};
  const int64_t dilation = largest ? 1 + in.below(2) : 1;
  const Case refusal{refused, [=] {
                       return largest
                                  ? max_pool2d(x, kernel, {stride, padding, dilation, ceil_mode})
                                  : avg_pool2d(x, kernel, {stride, padding, ceil_mode});
                     }};
  if (x.dim() < 3 || !is_floating(x.dtype())) return refusal;
  const int64_t height = x.shape()[-2], width = x.shape()[-1];
  if (2 * padding.h > kernel.h || 2 * padding.w > kernel.w) return refusal;
  if ((padding.h > 0 && dilation > height) || (padding.w > 0 && dilation > width)) return refusal;
  const int64_t h = places(height, kernel.h, stride.h, padding.h, dilation, ceil_mode),
                w = places(width, kernel.w, stride.w, padding.w, dilation, ceil_mode);
  if (h == 0 || w == 0) return refusal;
  return {with_size(with_size(x.shape(), x.dim() - 1, w), x.dim() - 2, h), refusal.call};
}

Case reduced(Input& in) {
  const Tensor x = any_tensor(in);
  Dims dims{};
  for (int64_t n = in.below(3); n > 0; --n) dims.push_back(any_dim(in, x.dim()));
  const bool keepdim = in.below(2) == 1, mean = in.below(2) == 1;
  std::vector<bool> gone(static_cast<std::size_t>(std::max(x.dim(), 1)), dims.rank() == 0);
  bool right = !mean || is_floating(x.dtype());
  for (const int64_t dim : dims) {
    const std::optional<int64_t> d = axis(dim, std::max(x.dim(), 1));  // a scalar has one axis here
    right = right && d && !gone[static_cast<std::size_t>(*d)];
    if (d) gone[static_cast<std::size_t>(*d)] = true;
  }
  Shape out;
  for (int i = 0; i < x.dim(); ++i)
    if (!gone[static_cast<std::size_t>(i)]) out.push_back(x.shape()[i]);
    else if (keepdim) out.push_back(1);
  return {right ? std::optional(out) : refused,
          [=] { return mean ? descent::mean(x, dims, keepdim) : sum(x, dims, keepdim); }};
}

Case selected(Input& in) {
  const Tensor x = any_tensor(in);
  const int64_t dim = any_dim(in, x.dim());
  Ints index;
  for (int64_t n = in.below(5); n > 0; --n)
    index.push_back(in.below(8) == 0 ? any_number(in) : in.below(2));
  const std::optional<int64_t> d = axis(dim, x.dim());
  bool right = d.has_value();
  for (const int64_t i : index) right = right && i >= 0 && i < x.shape()[static_cast<int>(*d)];
  return {right ? std::optional(with_size(x.shape(), *d, std::ssize(index))) : refused,
          [=] { return index_select(x, dim, tensor(index)); }};
}

Case permuted(Input& in) {
  const Tensor x = any_tensor(in);
  Dims dims{};
  for (int d = 0; d < x.dim(); ++d) dims.push_back(in.below(2) == 0 ? d : d - x.dim());
  for (int d = 1; d < x.dim(); ++d) std::swap(dims[d], dims[static_cast<int>(in.below(d + 1))]);
  if (in.below(4) == 0 && x.dim() > 0) dims[0] = any_dim(in, x.dim());
  if (in.below(16) == 0 && dims.rank() < kMaxRank) dims.push_back(0);
  Shape out;
  std::vector<bool> seen(kMaxRank);
  bool right = dims.rank() == x.dim();
  for (const int64_t dim : dims) {
    const std::optional<int64_t> d = axis(dim, x.dim());
    right = right && d && !seen[static_cast<std::size_t>(*d)];
    if (d)
      seen[static_cast<std::size_t>(*d)] = true, out.push_back(x.shape()[static_cast<int>(*d)]);
  }
  return {right ? std::optional(out) : refused, [=] { return permute(x, dims); }};
}

Case expanded(Input& in) {
  const Tensor x = any_tensor(in);
  Shape shape = any_shape(in);
  for (int i = 1; i <= std::min(shape.rank(), x.dim()); ++i)
    if (in.below(8) > 0 && (x.shape()[-i] != 1 || in.below(4) == 0))
      shape[-i] = in.below(2) == 0 ? -1 : x.shape()[-i];
  if (in.below(16) == 0 && shape.rank() > 0) shape[0] = any_number(in);
  std::optional<Shape> out = shape.rank() < x.dim() ? refused : std::optional(shape);
  for (int i = 1; out && i <= shape.rank(); ++i) {
    const bool is_new = i > x.dim();
    if (shape[-i] == -1 && !is_new) (*out)[-i] = x.shape()[-i];
    else if (shape[-i] < 0 || (!is_new && x.shape()[-i] != 1 && x.shape()[-i] != shape[-i]))
      out = refused;
  }
  return {out, [=] { return expand(x, shape); }};
}

constexpr Case (*operations[])(Input&) = {arithmetic, reshaped,  sliced,  multiplied,
                                          joined,     convolved, pooled,  reduced,
                                          selected,   permuted,  expanded};

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  Input in(data, size);
  const Case c = operations[in.below(std::ssize(operations))](in);
  Tensor y;
  const bool accepted = accepts<ShapeError, DtypeError, IndexError, ValueError, SizeError>(
      1 << 20, [&] { y = c.call(); });
  must(accepted == c.shape.has_value(), "the operation and the rule agree");
  if (!accepted) return 0;
  must(y.shape() == *c.shape, "the shape is that of the rule");
  must(y.to(float64).to_vector<double>().size() == static_cast<std::size_t>(y.numel()),
       "all elements can be read");
  if (y.requires_grad()) y.backward(ones(y.shape(), y.dtype()));  // each derivative fits its input
  return 0;
}
