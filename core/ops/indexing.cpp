#include "descent/core/ops/indexing.hpp"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "descent/core/base/checked.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/kernels/reduce.hpp"
#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

// ---- checks

void check_kind(const char* op, const char* name, const In& x, DType need) {
  detail::check(op, x);
  if (x.dtype() != need)
    fail<DtypeError>(x.at, "{}: {} is {}: need {} (use to())", op, name, x.dtype(), need);
}

/// IndexError unless every element of `index` (int64) lies in [0, the size of x along dim).
void check_index(const char* op, const Shape& x, int dim, const In& index) {
  check_kind(op, "index", index, int64);
  const Tensor flat = detail::pack(index);
  const int64_t *value = flat.data<int64_t>(), size = x[dim];
  for (int64_t i = 0; i < flat.numel(); ++i) {
    if (value[i] >= 0 && value[i] < size) [[likely]]
      continue;
    fail<IndexError>(index.at, "{}: index{} is {}, but dim {} of {} {}", op,
                     index.dim() == 0 ? std::string() : str(detail::indices_of(i, index.shape())),
                     value[i], dim, x,
                     size == 0 ? "has none" : fmt::format("allows 0..{}", size - 1));
  }
}

/// Checks that `index` fits x as gather and scatter_add require it.
void check_full_index(const char* op, const In& x, int dim, const In& index) {
  check_kind(op, "index", index, int64);
  bool fits = index.dim() == x.dim();
  for (int d = 0; fits && d < x.dim(); ++d) fits = d == dim || index.shape()[d] <= x.shape()[d];
  if (!fits)
    fail<ShapeError>(
        index.at,
        "{}: index {} does not fit x {}: need its rank, and no larger sizes but for dim {}", op,
        index.shape(), x.shape(), dim);
  check_index(op, x.shape(), dim, index);
}

// ---- the kernel

// What is done with an element of x that an index picks, and with its partner, which stands in a
// tensor of the index's shape where the index stands: `one` serves a pair, `row` a row of pairs.
struct Fetch {
  static constexpr bool meet = false;
  template <class T> static void one(const T& picked, T& partner) { partner = picked; }
  template <class T> static void row(int64_t n, const T* picked, T* partner) {
    std::memcpy(partner, picked, static_cast<std::size_t>(n) * sizeof(T));
  }
};
struct Add {
  static constexpr bool meet = true;  // partners that meet in one element keep their order
  template <class T> static void one(T& picked, const T& partner) {
    picked = detail::ring::add(picked, partner);
  }
  template <class T> static void row(int64_t n, T* picked, const T* partner) {
    simd::for_each([](T& p, const T& q) { p = detail::ring::add(p, q); }, n, picked, partner);
  }
};
struct Put {
  static constexpr bool meet = true;
  template <class T> static void one(T& picked, const T& partner) { picked = partner; }
  template <class T> static void row(int64_t n, T* picked, const T* partner) {
    std::memcpy(picked, partner, static_cast<std::size_t>(n) * sizeof(T));
  }
};

/// The axis to cut into tiles: the first long axis, or else the longest; never `fixed`, unless it
/// is the only axis.
int axis_to_cut(const Shape& shape, int fixed) {
  int axis = -1;
  for (int d = 0; d < shape.rank(); ++d) {
    if (d == fixed) continue;
    if (shape[d] >= 64) return d;
    if (axis < 0 || shape[d] > shape[axis]) axis = d;
  }
  return axis < 0 ? fixed : axis;
}

/// Applies the Action to x[index[i, ...], ...] and y[i, ...] for dim = 0, and likewise for other
/// axes; y has index's shape.
template <class Action, class T>
void for_each_picked(const Tensor& x, int dim, const Tensor& index, const Tensor& y) {
  const Shape& shape = index.shape();
  if (index.numel() == 0) return;
  const int fixed = Action::meet ? dim : -1;  // cut elsewhere, tiles share no element
  const int axis = axis_to_cut(shape, fixed);
  const int64_t size = shape[axis], others = index.numel() / size;
  // No row is cut into pieces that are shorter than a few cache lines.
  const int64_t least = axis == fixed ? size : axis == shape.rank() - 1 ? 64 : 1;
  const int64_t count = std::max(least, detail::kTileElements / others);

  // x with the index's shape and a stride of 0 along `dim`, where the index says how far to go.
  const detail::Header* h = Peek::header(x);
  const int64_t step = h->strides[dim];
  Strides strides = h->strides;
  strides[dim] = 0;
  const Tensor still = detail::view_of(h->storage, h->data, h->dtype, shape, strides);

  parallel_for(detail::ceil_div(size, count), [&](int64_t tile) {
    const int64_t begin = tile * count;
    Shape part = shape;
    part[axis] = std::min(count, size - begin);
    const auto walk = detail::plan<3>(part, others * part[axis],
                                      {Peek::header(still), Peek::header(y), Peek::header(index)});
    T* const first_x = elements_of<T>(still) + begin * strides[axis];
    T* const first_y = elements_of<T>(y) + begin * y.strides()[axis];
    const int64_t* first = elements_of<int64_t>(index) + begin * index.strides()[axis];
    const int64_t* stride = walk.stride[0];
    detail::for_each_run(walk, 0, walk.numel, [&](int64_t n, const std::array<int64_t, 3>& offset) {
      T *picked = first_x + offset[0], *partner = first_y + offset[1];
      const int64_t* place = first + offset[2];
      // An index that repeats along the innermost axis picks whole rows.
      if (stride[0] == 1 && stride[1] == 1 && stride[2] == 0)
        return Action::row(n, picked + *place * step, partner);
      for (int64_t i = 0; i < n; ++i)
        Action::one(picked[i * stride[0] + place[i * stride[2]] * step], partner[i * stride[1]]);
    });
  });
}

// ---- ops on indices that have been checked: each is the derivative of the other

Tensor record_gather(const char* op, const In& x, int dim, const In& index);

/// Adds src to `into`, which holds x's values in elements that no other tensor sees.
Tensor record_scatter(const char* op, const In& x, const Tensor& into, int dim, const In& index,
                      const In& src) {
  detail::check(op, index);
  detail::check(op, src);
  visit<Kinds::numeric>(op, src.dtype(), src.at, [&](auto zero) {
    for_each_picked<Add, decltype(zero)>(into, dim, index, src);
  });
  return record(op, into, wrt(x, [](const Tensor& g) { return g; }),
                wrt(src, [dim, index = saved(index)](const Tensor& g) {
                  return record_gather("scatter_add_backward", g, dim, index);
                }));
}

Tensor record_gather(const char* op, const In& x, int dim, const In& index) {
  detail::check(op, x);
  detail::check(op, index);
  Tensor out = detail::empty(op, index.shape(), x.dtype(), x.at);
  visit<Kinds::any>(op, x.dtype(), x.at,
                    [&](auto zero) { for_each_picked<Fetch, decltype(zero)>(x, dim, index, out); });
  return record(op, out, wrt(x, [shape = x.shape(), dim, index = saved(index)](const Tensor& g) {
                  const Tensor zero = zeros(shape, g.dtype());
                  return record_scatter("gather_backward", zero, zero, dim, index, g);
                }));
}

/// The index of x that picks the entries index[0], index[1], ... along `dim`.
Tensor spread_index(const In& x, int dim, const In& index) {
  Shape column = Shape::filled(x.dim(), 1), shape = x.shape();
  column[dim] = shape[dim] = index.numel();
  return expand({reshape(index, column), x.at}, shape);
}
Tensor record_select(const char* op, const In& x, int dim, const In& index) {
  return record_gather(op, x, dim, spread_index(x, dim, index));
}

/// Checks that `index` is a vector that picks entries of x along `dim`, and returns the axis.
int check_vector_index(const char* op, const In& x, int64_t dim, const In& index) {
  const int d = detail::axis_of(op, x, dim);
  check_kind(op, "index", index, int64);
  if (index.dim() != 1)
    fail<ShapeError>(index.at, "{}: index {} has rank {}: need a vector", op, index.shape(),
                     index.dim());
  check_index(op, x.shape(), d, index);
  return d;
}

/// The positions in row-major order, int64 [count], of the elements that are not zero.
Tensor find_nonzero(const char* op, const In& x) {
  const Tensor flags = detail::pack({x.detach().to(boolean, x.at), x.at});
  const bool* flag = flags.data<bool>();
  const int64_t count = std::count(flag, flag + flags.numel(), true);
  Tensor out = detail::empty(op, {count}, int64, x.at);
  int64_t* position = elements_of<int64_t>(out);
  for (int64_t i = 0, found = 0; found < count; ++i) {  // without a branch to mispredict
    position[found] = i;
    found += flag[i];
  }
  return out;
}

}  // namespace

Tensor index_select(const In& x, int64_t dim, const In& index) {
  return record_select("index_select", x, check_vector_index("index_select", x, dim, index), index);
}

Tensor gather(const In& x, int64_t dim, const In& index) {
  const int d = detail::axis_of("gather", x, dim);
  check_full_index("gather", x, d, index);
  return record_gather("gather", x, d, index);
}

/// The axis `dim` of x, after the checks of a scatter.
static int scatter_axis(const char* op, const In& x, int64_t dim, const In& index, const In& src) {
  const int d = detail::axis_of(op, x, dim);
  check_inputs(op, src, x, "src", "x");
  check_full_index(op, x, d, index);
  if (!(src.shape() == index.shape()))
    fail<ShapeError>(src.at, "{}: src {} and index {} differ: need one shape", op, src.shape(),
                     index.shape());
  return d;
}

Tensor scatter_add(const In& x, int64_t dim, const In& index, const In& src) {
  const int d = scatter_axis("scatter_add", x, dim, index, src);
  return record_scatter("scatter_add", x, x.detach().clone(x.at), d, index, src);
}

Tensor index_add(const In& x, int64_t dim, const In& index, const In& source) {
  const int d = check_vector_index("index_add", x, dim, index);
  const Frame frame(x.at);
  const Tensor full = spread_index(x, d, index);
  check_inputs("index_add", source, x, "source", "x");
  if (!(source.shape() == full.shape()))
    fail<ShapeError>(source.at, "index_add: source {}: need {}", source.shape(), full.shape());
  return record_scatter("index_add", x, x.detach().clone(x.at), d, full, source);
}

Tensor scatter(const In& x, int64_t dim, const In& index, const In& src) {
  const int d = scatter_axis("scatter", x, dim, index, src);
  const Tensor out = x.detach().clone(x.at);
  visit<Kinds::any>("scatter", x.dtype(), x.at,
                    [&](auto zero) { for_each_picked<Put, decltype(zero)>(out, d, index, src); });
  return record("scatter", out,
                wrt(x,
                    [d, index = saved(index)](const Tensor& g) {
                      return scatter(g, d, index, zeros(index->shape(), g.dtype()));
                    }),
                wrt(src, [d, index = saved(index)](const Tensor& g) {
                  // Each place in src, and the place of the one that stayed there.
                  const Tensor place = arange(index->numel()).reshape(index->shape());
                  const Tensor stayed =
                      gather(scatter(zeros(g.shape(), int64), d, index, place), d, index);
                  return where(stayed == place, gather(g, d, index), 0);
                }));
}

Tensor embedding(const In& input, const In& weight, const EmbeddingOptions& options) {
  detail::check("embedding", weight);
  detail::check("embedding", input);
  if (weight.dim() != 2)
    fail<ShapeError>(weight.at, "embedding: weight {}: need [V, D]", weight.shape());
  check_index("embedding", weight.shape(), 0, input);
  const int64_t size = weight.shape()[0], padding = options.padding_idx.value_or(0);
  if (options.padding_idx && (padding < -size || padding >= size))
    fail<IndexError>(weight.at, "embedding: padding_idx is {}: need {} to {}", padding, -size,
                     size - 1);
  const Frame frame(weight.at);
  const Tensor y = index(weight, input);
  if (!options.padding_idx) return y;
  return where((input == (padding < 0 ? padding + size : padding)).unsqueeze(-1), y.detach(), y);
}

Tensor one_hot(const In& x, int64_t num_classes) {
  check_kind("one_hot", "x", x, int64);
  const Frame frame(x.at);
  if (num_classes == -1 && x.numel() > 0)
    num_classes = checked_add(std::max<int64_t>(max(x).item<int64_t>(), -1), 1, "one_hot", x.at);
  if (num_classes < 0)
    fail<ValueError>(x.at, "one_hot: x {}, num_classes {}: need at least 0", x.shape(),
                     num_classes);
  check_index("one_hot", {num_classes}, 0, x);
  return to(unsqueeze(x, -1) == arange(num_classes), int64);
}

Tensor masked_select(const In& x, const In& mask) {
  detail::check("masked_select", x);
  check_kind("masked_select", "mask", mask, boolean);
  const Shape shape = broadcast_shapes("masked_select", x.shape(), mask.shape(), x.at);
  return index({expand(x, shape), x.at}, expand(mask, shape));
}

Tensor index(const In& x, const In& index) {
  detail::check("index", x);
  detail::check("index", index);
  if (index.dtype() == boolean) {
    const Shape& mask = index.shape();
    if (mask.rank() > x.dim() || !std::equal(mask.begin(), mask.end(), x.shape().begin()))
      fail<ShapeError>(index.at,
                       "index: mask {} does not fit x {}: need the sizes of its leading axes", mask,
                       x.shape());
    detail::check_rank("index", 1 + x.dim() - mask.rank(), x.at);
    Shape rows = {index.numel()};
    for (int d = mask.rank(); d < x.dim(); ++d) rows.push_back(x.shape()[d]);
    return record_select("index", {reshape(x, rows), x.at}, 0, find_nonzero("index", index));
  }
  const int d = detail::axis_of("index", x, 0);
  check_index("index", x.shape(), d, index);
  detail::check_rank("index", index.dim() + x.dim() - 1, x.at);
  Shape shape = index.shape();
  for (int i = 1; i < x.dim(); ++i) shape.push_back(x.shape()[i]);
  return reshape({record_select("index", x, d, {reshape(index, {index.numel()}), index.at}), x.at},
                 shape);
}

Tensor masked_fill(const In& x, const In& mask, Number value) {
  detail::check("masked_fill", x);
  check_kind("masked_fill", "mask", mask, boolean);
  detail::check_scalar("masked_fill", x.dtype(), value, x.at);
  broadcast_shapes("masked_fill", x.shape(), mask.shape(), x.at);
  return where(mask, value, x);
}

/// x where `keep` holds for the column's number less the row's, and 0 elsewhere.
template <class F> static Tensor keep_side(const char* op, const In& x, F keep) {
  detail::check(op, x);
  if (x.dim() < 2) fail<ShapeError>(x.at, "{}: x {}: need [.., n, m]", op, x.shape());
  const Frame frame(x.at);
  return where(keep(arange(x.shape()[-1]) - arange(x.shape()[-2]).unsqueeze(1)), x, 0);
}
Tensor tril(const In& x, int64_t diagonal) {
  return keep_side("tril", x, [=](const Tensor& off) { return off <= diagonal; });
}
Tensor triu(const In& x, int64_t diagonal) {
  return keep_side("triu", x, [=](const Tensor& off) { return off >= diagonal; });
}

Tensor flip(const In& x, const Dims& dims) {
  const detail::Axes axes("flip", x, dims);
  const Frame frame(x.at);
  Tensor y = x.clone();
  for (int d = 0; d < x.dim() && dims.rank() > 0; ++d)
    if (axes.contain(d)) y = index_select(y, d, arange(x.shape()[d] - 1, -1, -1));
  return y;
}

Tensor roll(const In& x, const Dims& shifts, const Dims& dims) {
  detail::check("roll", x);
  if (shifts.rank() != dims.rank())
    fail<ShapeError>(x.at, "roll: shifts {} and dims {}: need one length", shifts, dims);
  const Frame frame(x.at);
  Tensor y = x.clone();
  for (int i = 0; i < dims.rank(); ++i) {
    const int d = detail::axis_of("roll", x, dims[i]);
    const int64_t n = std::max<int64_t>(x.shape()[d], 1);
    y = index_select(y, d, remainder(arange(x.shape()[d]) - shifts[i] % n, n));
  }
  return y;
}
Tensor roll(const In& x, int64_t shift) {
  detail::check("roll", x);
  const Frame frame(x.at);
  return reshape(roll(reshape(x, {x.numel()}), shift, 0), x.shape());
}

/// The entries of x, again and again along its last axes.
static Tensor repeat(const char* op, const In& x, const Shape& counts, bool fewer) {
  detail::check(op, x);
  const bool positive = std::ranges::all_of(counts, [](int64_t n) { return n >= 0; });
  if (!positive || (counts.rank() < x.dim() && !fewer))
    fail<ShapeError>(x.at, "{}: counts {} of x {}: need at least 0{}", op, counts, x.shape(),
                     fewer ? "" : ", one for each axis");
  const Frame frame(x.at);
  Tensor y = x.clone();
  while (y.dim() < counts.rank()) y = unsqueeze(y, 0);
  for (int i = 1; i <= counts.rank(); ++i) {
    const int64_t n = y.shape()[-i], all = checked_mul(n, counts[-i], op, x.at);
    y = index_select(y, -i, remainder(arange(all), std::max<int64_t>(n, 1)));
  }
  return y;
}
Tensor repeat(const In& x, const Shape& counts) { return repeat("repeat", x, counts, false); }
Tensor tile(const In& x, const Shape& counts) { return repeat("tile", x, counts, true); }

Tensor diag(const In& x, int64_t diagonal) {
  detail::check("diag", x);
  if (x.dim() < 1 || x.dim() > 2)
    fail<ShapeError>(x.at, "diag: x {}: need a vector or a matrix", x.shape());
  const Frame frame(x.at);
  const bool matrix = x.dim() == 2;
  const int64_t farthest = matrix ? std::max(x.shape()[0], x.shape()[1]) : int64_t{1} << 62;
  const int64_t off = std::clamp(diagonal, -farthest, farthest);
  const int64_t right = std::max<int64_t>(off, 0), down = right - off;
  const int64_t n = matrix ? x.shape()[0] : checked_add(x.numel(), right + down, "diag", x.at),
                m = matrix ? x.shape()[1] : n;
  const Tensor all = matrix ? Tensor(x) : zeros({n, n}, x.dtype());
  const int64_t count = std::max<int64_t>(std::min(n - down, m - right), 0);
  const Tensor places = arange(count) * (m + 1) + (right + down * m);
  const Tensor flat = reshape(all, {all.numel()});
  return matrix ? index_select(flat, 0, places) : reshape(index_add(flat, 0, places, x), {n, n});
}

Tensor nonzero(const In& x) {
  detail::check("nonzero", x);
  const Tensor found = find_nonzero("nonzero", x);
  const int64_t* position = found.data<int64_t>();
  Tensor out = detail::empty("nonzero", {found.numel(), x.dim()}, int64, x.at);
  int64_t* to = elements_of<int64_t>(out);
  for (int64_t i = 0; i < found.numel(); ++i) {
    const Shape indices = detail::indices_of(position[i], x.shape());
    to = std::copy(indices.begin(), indices.end(), to);
  }
  return out;
}

}  // namespace descent
