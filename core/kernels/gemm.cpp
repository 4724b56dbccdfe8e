#include "descent/core/kernels/gemm.hpp"

#include <algorithm>

#include "descent/core/base/paths.hpp"
#include "descent/core/kernels/copy.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/runtime/blas.hpp"
#include "descent/core/runtime/threads.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {
namespace {

// ---- operands

/// The matrices of a tensor's last two axes as BLAS reads them: stored by rows `ld` apart, to be
/// taken as they are or transposed. A vector is a row.
template <class T> struct Matrices {
  const T* data;
  int64_t rows, columns, ld;
  bool transposed;
  int64_t steps[kMaxRank];  // to the next one along each batch axis; 0 where the same serves again

  const T* element(int64_t row, int64_t column) const {
    return data + (transposed ? column * ld + row : row * ld + column);
  }
};

/// Those of x, or of a contiguous `copy` if BLAS cannot read them where they are; transposed if
/// `turned`, repeated over the first `batch` axes of the result.
template <class T> Matrices<T> matrices_of(const Tensor& x, bool turned, int batch, Tensor& copy) {
  const Shape &shape = x.shape(), &strides = x.strides();
  const int last = shape.rank() - 1;
  const int64_t columns = shape[last], column_step = strides[last];
  const int64_t rows = last > 0 ? shape[last - 1] : 1, row_step = last > 0 ? strides[last - 1] : 0;
  // Rows, or columns, must lie one behind the other without gaps within.
  const bool by_rows = (columns == 1 || column_step == 1) && (rows == 1 || row_step >= columns);
  const bool by_columns = (rows == 1 || row_step == 1) && (columns == 1 || column_step >= rows);
  const bool in_place = !take("matmul copied", !by_rows && !by_columns);
  const bool stored_by_rows = by_rows || !in_place;
  if (!stored_by_rows) enter("matmul transposed");
  const Tensor& source = in_place ? x : copy = pack(x);

  Matrices<T> m{elements_of<T>(source), rows, columns, 0, stored_by_rows == turned, {}};
  if (stored_by_rows) m.ld = rows == 1 || !in_place ? columns : row_step;
  else m.ld = columns == 1 ? rows : column_step;
  if (turned) std::swap(m.rows, m.columns);
  for (int i = 0, own = last - 1 - batch; i < batch; ++i, ++own)
    m.steps[i] = own < 0 || shape[own] == 1 ? 0 : source.strides()[own];
  return m;
}

// ---- tiles

/// Fewer tiles than this leave threads idle, ...
constexpr int64_t kLeastTiles = 8;
/// ... smaller ones cost more than they save (see `work`), ...
constexpr double kTileProducts = 800'000;
/// ... and longer sides gain nothing. Each tile packs its operands anew: short sides cost most.
constexpr int64_t kTileSide = 512;

/// What a product costs, in multiply-adds: an element loaded weighs 8, a call to BLAS 4096.
double work(int64_t m, int64_t n, int64_t k) {
  return static_cast<double>(m + 8) * static_cast<double>(n + 8) * static_cast<double>(k) + 4096;
}

/// The longer one of two nearly equal parts, in whole vectors.
int64_t half(int64_t size) { return std::min(size, (size + 31) / 32 * 16); }

/// How `batch` products [m, k] [k, n] are cut up: by their sizes alone, so that the bits of the
/// result do not depend on the threads.
struct Cut {
  int64_t rows, columns, matrices = 1;  // of one tile

  Cut(int64_t batch, int64_t m, int64_t n, int64_t k) : rows(m), columns(n) {
    for (;;) {
      const bool enough = batch * ceil_div(m, rows) * ceil_div(n, columns) >= kLeastTiles;
      int64_t& side = rows > columns ? rows : columns;
      const int64_t other = rows > columns ? columns : rows;
      if ((enough && side <= kTileSide) || half(side) == side) break;
      if (!take("matmul tiles", work(half(side), other, k) >= kTileProducts)) break;
      side = half(side);
    }
    if (batch == 1) return;
    const double in_a_tile = kTileProducts / work(rows, columns, k);
    if (take("matmul batch", in_a_tile >= 1))
      matrices = std::min(batch, static_cast<int64_t>(in_a_tile) + 1);
  }
};

// ---- the product

/// c[i] = a[i] b[i], for each i in the batch, plus `bias` on every row where there is one.
template <class T> struct Product {
  Matrices<T> a, b;
  const T* bias;
  T* c;
  const Shape& shape;                         // of the result: its batch axes come first
  int batch = std::max(shape.rank() - 2, 0);  // how many of them are left
  int64_t m = a.rows, n = b.columns, k = a.columns, count = 1;

  void run();

 private:
  void tile(const Cut& cut, int64_t t) const;
};

/// Tiles run along a row of c first, then down, then through the batch.
template <class T> void Product<T>::tile(const Cut& cut, int64_t t) const {
  auto next = [&t](int64_t size, int64_t step) {
    if (size <= step) return std::pair<int64_t, int64_t>(0, size);
    const int64_t of = ceil_div(size, step), start = t % of * step;
    t /= of;
    return std::pair(start, std::min(step, size - start));
  };
  const auto [column, columns] = next(n, cut.columns);
  const auto [row, rows] = next(m, cut.rows);
  const auto [first, matrices] = next(count, cut.matrices);
  for (int64_t i = first; i < first + matrices; ++i) {
    int64_t in_a = 0, in_b = 0, rest = i;
    for (int d = batch - 1; d >= 0; rest /= shape[d--]) {
      in_a += rest % shape[d] * a.steps[d];
      in_b += rest % shape[d] * b.steps[d];
    }
    T* const corner = c + (i * m + row) * n + column;
    for (int64_t r = 0; bias && r < rows; ++r) copy_exactly(bias + column, columns, corner + r * n);
    blas::gemm<T>(a.transposed, b.transposed, rows, columns, k, 1, a.element(row, 0) + in_a, a.ld,
                  b.element(0, column) + in_b, b.ld, bias ? 1 : 0, corner, n);
  }
}

template <class T> void Product<T>::run() {
  // Matrices of `a` that lie one under the other and share their `b` are one matrix.
  auto joins = [&](int axis) {
    return shape[axis] == 1 || (b.steps[axis] == 0 && !a.transposed && a.steps[axis] == m * a.ld &&
                                take("matmul joined"));
  };
  for (; batch > 0 && joins(batch - 1); --batch) m *= shape[batch - 1];
  for (int axis = 0; axis < batch; ++axis) count *= shape[axis];
  const Cut cut(count, m, n, k);
  parallel_for(ceil_div(count, cut.matrices) * ceil_div(m, cut.rows) * ceil_div(n, cut.columns),
               [&](int64_t t) { tile(cut, t); });
}

}  // namespace

template <class T>
void multiply(const Tensor& a, const Tensor& b, bool turned, const T* bias, const Shape& shape,
              T* c) {
  Tensor copies[2];
  const int batch = std::max(shape.rank() - 2, 0);
  Product<T>{matrices_of<T>(a, false, batch, copies[0]),
             matrices_of<T>(b, turned, batch, copies[1]), bias, c, shape}
      .run();
}
template void multiply(const Tensor&, const Tensor&, bool, const float*, const Shape&, float*);
template void multiply(const Tensor&, const Tensor&, bool, const double*, const Shape&, double*);

}}  // namespace descent::detail
