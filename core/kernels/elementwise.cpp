#include "descent/core/kernels/elementwise.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace [[gnu::visibility("default")]] descent {
namespace detail {

int plan_walk(const Shape& shape, const Header* const* operands, std::size_t n, int64_t* size,
              int64_t* stride) {
  auto stride_of = [&](std::size_t k, int axis) -> int64_t {
    const Header& h = *operands[k];
    int own = axis - (shape.rank() - h.shape.rank());
    return own < 0 || h.shape[own] == 1 ? 0 : h.strides[own];
  };
  int rank = 0;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    if (shape[axis] == 1) continue;
    int64_t* const row = stride + static_cast<std::size_t>(rank) * n;
    bool merges = rank > 0;
    for (std::size_t k = 0; k < n; ++k) {
      row[k] = stride_of(k, axis);
      merges = merges && row[k] == (row - n)[k] * size[rank - 1];
    }
    if (merges) size[rank - 1] *= shape[axis];
    else size[rank++] = shape[axis];
  }
  if (rank == 0) {  // one element
    size[rank++] = 1;
    std::fill_n(stride, n, 1);
  }
  return rank;
}

template <std::size_t N>
void map_all(MapRun run, void* f, const std::array<const Header*, N>& operands) {
  const Header* const out = operands[0];
  int64_t stride[N], size[N];
  std::byte* start[N];
  bool flat = out->contiguous;
  for (std::size_t k = 0; k < N; ++k) {
    const Header& x = *operands[k];
    stride[k] = k > 0 && x.numel == 1 ? 0 : 1;
    size[k] = itemsize(x.dtype);
    start[k] = x.data;
    // An input that broadcasts to out and has as many elements has one element for each of out's.
    flat = flat && (stride[k] == 0 || (x.contiguous && x.numel == out->numel));
  }
  auto run_at = [&](int64_t n, const int64_t* strides, auto offset) {
    std::byte* at[N];
    for (std::size_t k = 0; k < N; ++k) at[k] = start[k] + offset(k) * size[k];
    run(f, n, strides, at);
  };
  if (flat)
    return parallel_for(count_tiles(out->numel), [&](int64_t tile) {
      const int64_t begin = tile * kTileElements;
      run_at(std::min(kTileElements, out->numel - begin), stride,
             [&](std::size_t k) { return begin * stride[k]; });
    });
  const Walk<N> w = plan<N>(out->shape, out->numel, operands);
  parallel_for(count_tiles(out->numel), [&](int64_t tile) {
    const int64_t begin = tile * kTileElements, end = std::min(begin + kTileElements, out->numel);
    for_each_run(w, begin, end, [&](int64_t n, const std::array<int64_t, N>& offset) {
      run_at(n, w.stride[0], [&](std::size_t k) { return offset[k]; });
    });
  });
}
template void map_all(MapRun, void*, const std::array<const Header*, 2>&);
template void map_all(MapRun, void*, const std::array<const Header*, 3>&);
template void map_all(MapRun, void*, const std::array<const Header*, 4>&);

void refuse_dtypes(const char* op, const In& a, const In& b, const char* name_of_a,
                   const char* name_of_b) {
  fail<DtypeError>(a.at, "{}: {} is {} and {} is {}: need one dtype (use to())", op, name_of_a,
                   a.dtype(), name_of_b, b.dtype());
}

Tensor empty_broadcast(const char* op, const In& a, const In& b, DType dtype) {
  if (a.shape() == b.shape()) return empty_like(op, a, dtype);
  return empty(op, broadcast_shapes(op, a.shape(), b.shape(), a.at), dtype, a.at);
}

}  // namespace detail

bool broadcasts_to(const Shape& from, const Shape& to) {
  int shift = to.rank() - from.rank();
  if (shift < 0) return false;
  for (int i = 0; i < from.rank(); ++i)
    if (from[i] != 1 && from[i] != to[i + shift]) return false;
  return true;
}

Shape broadcast_shapes(const char* op, const Shape& x, const Shape& y, At at) {
  const int rank = std::max(x.rank(), y.rank());
  Shape result = Shape::filled(rank, 1);
  for (int back = 1; back <= rank; ++back) {
    int64_t m = back <= x.rank() ? x[x.rank() - back] : 1;
    int64_t n = back <= y.rank() ? y[y.rank() - back] : 1;
    if (m != n && m != 1 && n != 1) {
      std::string hint;
      if (y.rank() == 1 && x.rank() == 2 && y[0] == x[0])
        hint = fmt::format(" (b aligns to the right; b.reshape({{{}, 1}})?)", y[0]);
      fail<ShapeError>(at, "{}: cannot broadcast a {} with b {}: dim {} is {} vs {}{}", op, x, y,
                       rank - back, m, n, hint);
    }
    result[rank - back] = m == 1 ? n : m;
  }
  return result;
}

}  // namespace descent
