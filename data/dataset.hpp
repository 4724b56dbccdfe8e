#pragma once
/// @file
/// A dataset is anything with `int64_t size() const` and `Example get(int64_t i) const`; one that
/// can give many examples at once faster has `Batch batch(const Tensor& index) const` as well.
/// Datasets are values: loaders, maps and subsets keep a copy, and tensors are cheap to copy.

#include <array>
#include <concepts>

#include "descent/core/ops/indexing.hpp"
#include "descent/core/ops/join.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// One example: an input and what belongs to it.
struct Example {
  /// Of any shape and dtype; in a batch, all alike.
  Tensor x, y;
};

/// Examples put together along a new first axis, N.
struct Batch {
  /// The inputs [N, ...], and what belongs to them, [N, ...].
  Tensor x, y;
  /// N.
  [[nodiscard]] int64_t size() const { return x.size(0); }
};

/// What has examples, and says how many: `size()` and `get(i)`.
template <class D>
concept Dataset = requires(const D& dataset, int64_t i) {
  { dataset.size() } -> std::convertible_to<int64_t>;
  { dataset.get(i) } -> std::convertible_to<Example>;
};

/// Examples index[0], index[1], ... of a dataset; `index` is int64 [N]. Where the dataset has no
/// `batch` of its own they are stacked: ShapeError or DtypeError if they differ, ValueError if
/// there are none.
template <Dataset D>
[[nodiscard]] Batch batch(const D& dataset, const Tensor& index, At at = At::here()) {
  const Frame frame(at);
  if constexpr (requires { Batch(dataset.batch(index)); }) {
    return dataset.batch(index);
  } else {
    std::vector<Tensor> x, y;
    for (int64_t i : index.to_vector<int64_t>(at)) {
      const Example example = dataset.get(i);
      x.push_back(example.x);
      y.push_back(example.y);
    }
    return {stack(x, 0, at), stack(y, 0, at)};
  }
}

/// Examples along the first axis of two tensors, x [N, ...] and y [N, ...].
class TensorDataset {
 public:
  /// ShapeError unless both have a first axis, of the same size.
  TensorDataset(Tensor x, Tensor y, At at = At::here());

  /// The two tensors.
  [[nodiscard]] const Tensor& x() const { return x_; }
  [[nodiscard]] const Tensor& y() const { return y_; }
  /// N.
  [[nodiscard]] int64_t size() const { return x_.size(0); }
  /// x[i] and y[i], as views. IndexError outside [0, N).
  [[nodiscard]] Example get(int64_t i, At at = At::here()) const;
  /// A copy of the rows index[0], index[1], ...
  [[nodiscard]] Batch batch(const Tensor& index, At at = At::here()) const;

 private:
  Tensor x_, y_;
};

/// f(example) in place of each example, worked out anew whenever one is asked for:
/// `map(dataset, [](Example e) { return Example{e.x * 2, e.y}; })`.
template <Dataset D, std::invocable<Example> F> auto map(D dataset, F f) {
  struct Mapped {
    int64_t size() const { return dataset.size(); }
    Example get(int64_t i) const { return f(dataset.get(i)); }
    D dataset;
    F f;
  };
  return Mapped{std::move(dataset), std::move(f)};
}

/// Some examples of a dataset: its i-th is the dataset's index[i].
template <Dataset D> class Subset {
 public:
  /// `index`: int64 [size()].
  Subset(D dataset, Tensor index) : dataset_(std::move(dataset)), index_(std::move(index)) {}
  /// Which examples: int64 [size()].
  [[nodiscard]] const Tensor& index() const { return index_; }
  /// How many.
  [[nodiscard]] int64_t size() const { return index_.size(0); }
  /// The dataset's example index[i]. IndexError outside [0, size()).
  [[nodiscard]] Example get(int64_t i, At at = At::here()) const {
    const Frame frame(at);
    return dataset_.get(index_.select(0, i).item<int64_t>());
  }
  /// Several of them, by their places in this subset.
  [[nodiscard]] Batch batch(const Tensor& index, At at = At::here()) const {
    return data::batch(dataset_, index_select(In(index_, at), 0, In(index, at)), at);
  }

 private:
  D dataset_;
  Tensor index_;
};

/// The numbers 0 to size - 1, shuffled and dealt out: int64 [sizes[0]], [sizes[1]], ...
/// Fractions of `size` are rounded down, unless they are whole but for the rounding of doubles, and
/// what is left goes to the first parts, one each. ValueError if a part is negative, or if the
/// sizes do not add up to `size` or the fractions, to within 1e-6, to 1.
[[nodiscard]] std::vector<Tensor> deal(int64_t size, const std::vector<int64_t>& sizes,
                                       uint64_t seed = 0, At at = At::here());
[[nodiscard]] std::vector<Tensor> deal(int64_t size, const std::vector<double>& fractions,
                                       uint64_t seed = 0, At at = At::here());
/// Sizes or fractions as a list: `deal(10, {8, 2})`, `deal(10, {0.8, 0.2})`.
template <class T, std::size_t N>
[[nodiscard]] std::vector<Tensor> deal(int64_t size, const T (&parts)[N], uint64_t seed = 0,
                                       At at = At::here()) {
  using Part = std::conditional_t<std::is_floating_point_v<T>, double, int64_t>;
  return deal(size, std::vector<Part>(parts, parts + N), seed, at);
}

/// Subsets that share no example and together have all of them, in an order that follows from
/// `seed` alone: `auto [train, test] = split(dataset, {0.8, 0.2});`, or by sizes, `{50000, 10000}`.
/// Errors as deal.
template <Dataset D, class T, std::size_t N>
std::array<Subset<D>, N> split(const D& dataset, const T (&parts)[N], uint64_t seed = 0,
                               At at = At::here()) {
  const std::vector<Tensor> index = deal(dataset.size(), parts, seed, at);
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::array<Subset<D>, N>{Subset<D>(dataset, index[I])...};
  }
  (std::make_index_sequence<N>());
}

/// Brings columns to mean 0 and standard deviation 1: z = (x - mean - rest) / std, where std
/// divides by N.
struct Standardizer {
  /// [D...], of x's dtype; what rounding takes from the mean is in `rest`.
  Tensor mean, rest;
  /// As mean; 1 for a column whose values are all equal.
  Tensor std;

  /// Measures x [N, D...], which is floating: ValueError for N = 0, NumericError if a column has a
  /// number that is not finite, or a deviation that x's dtype does not hold.
  explicit Standardizer(const In& x);
  /// z for x [..., D...].
  Tensor operator()(const In& x) const;
  /// x for z [..., D...].
  [[nodiscard]] Tensor inverse(const In& z) const;
};

}}  // namespace descent::data
