#pragma once
/// @file
/// Shapes, and the lists of axes that functions take.

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "descent/core/base/error.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The largest rank of a tensor.
inline constexpr int kMaxRank = 8;

/// The sizes of a tensor's axes: a small array of at most 8. `Shape{}` is the shape of a scalar. To
/// add a ninth axis is a ShapeError.
class Shape {
 public:
  Shape() = default;
  /// A shape with these sizes, in their order.
  Shape(std::initializer_list<int64_t> sizes) {
    for (int64_t size : sizes) push_back(size);
  }
  template <std::integral I>
  Shape(I size) __attribute__((unavailable("write the sizes as one list: zeros({2, 3})")));
  /// `rank` axes of size `size`.
  [[nodiscard]] static Shape filled(int rank, int64_t size) {
    Shape s;
    while (s.rank_ < rank) s.push_back(size);
    return s;
  }

  /// The number of axes.
  [[nodiscard]] int rank() const { return rank_; }
  /// The size of axis i; a negative i counts from the back. IndexError if there is no such axis.
  [[nodiscard]] int64_t operator[](int i) const { return size_[place(i)]; }
  int64_t& operator[](int i) { return size_[place(i)]; }
  /// The sizes as a range.
  const int64_t* begin() const { return size_; }
  const int64_t* end() const { return size_ + rank_; }
  /// The last size. IndexError if the shape has no axes.
  [[nodiscard]] int64_t back() const { return size_[place(-1)]; }

  /// Adds an axis behind the last one.
  void push_back(int64_t size) {
    if (rank_ == kMaxRank) refuse_rank();
    size_[rank_++] = size;
  }
  /// Adds an axis in front of axis i, which is in [0, rank].
  void insert(int i, int64_t size) {
    push_back(size);
    for (int k = rank_ - 1; k > i; --k) size_[k] = size_[k - 1];
    size_[i] = size;
  }

  /// Whether both have the same sizes.
  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a.size_[i] != b.size_[i]) return false;
    return true;
  }

 private:
  unsigned place(int i) const {
    const auto place = static_cast<unsigned>(i < 0 ? i + rank_ : i);
    if (place >= rank_) [[unlikely]]
      refuse_axis();
    return place;
  }
  [[noreturn]] static void refuse_rank();
  [[noreturn]] void refuse_axis() const;
  uint8_t rank_ = 0;
  int64_t size_[kMaxRank] = {};
};

/// The distance between neighbours along each axis, in elements.
using Strides = Shape;

/// A list of axes, as reductions take it: `sum(x, 0)`, `sum(x, {0, -1})`. Negative axes count from
/// the back.
struct Dims : Shape {
  /// One axis, or several.
  Dims(int64_t dim) : Shape{dim} {}
  Dims(std::initializer_list<int64_t> dims) : Shape(dims) {}
  template <class T>
  requires(std::same_as<T, bool> || std::floating_point<T>) Dims(T dim)
  __attribute__((
      unavailable("an axis is an integer, or a list of them: sum(x, 0), sum(x, {0, 1}, true)")));
};

/// Whether a reduction keeps its axes, with size 1. It is a type of its own, so that an integer,
/// which is meant as another axis, does not compile.
struct KeepDim {
  /// `keepdim` as true or false.
  KeepDim(bool on_) : on(on_) {}
  template <std::integral I>
  KeepDim(I on_) __attribute__((
      unavailable("keepdim is true or false; write several axes as one list: sum(x, {0, 1})")));
  /// The same flag.
  operator bool() const { return on; }
  bool on;  ///< whether the axes stay
};

/// "[2, 3]".
[[nodiscard]] std::string str(const Shape& shape);

namespace detail {
/// The number of elements. ShapeError for a negative size, SizeError if the product
/// of the sizes that are not 0 is above 2^63 - 1.
int64_t numel(const char* op, const Shape& shape, At at);
/// ShapeError if a result of this rank would have more than 8 axes.
void check_rank(const char* op, int rank, At at);
/// Strides of a C-contiguous tensor.
[[nodiscard]] Strides contiguous_strides(const Shape& shape);
/// The index along each axis of the element at `position` in row-major order.
[[nodiscard]] Shape indices_of(int64_t position, const Shape& shape);
/// `dim` counted from the front, in [0, rank). IndexError if it is outside [-rank, rank). A scalar
/// counts as if it had one axis.
[[nodiscard]] int wrap_dim(const char* op, int64_t dim, int rank, At at);
}  // namespace detail

}  // namespace descent
