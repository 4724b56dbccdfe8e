#pragma once
/// @file
/// A dataset is any class with `int64_t size() const` and `Example get(int64_t i) const`. If it can
/// give many examples at once faster than one by one, it has `Batch batch(const Tensor& index)
/// const` as well. If its examples are others in each epoch, both take the number of the epoch as
/// well: `get(int64_t i, int64_t epoch)`, `batch(const Tensor& index, int64_t epoch)`. Datasets are
/// values: loaders, maps and subsets keep copies of them, which are cheap, because copies of a
/// tensor share its elements.

#include <array>
#include <concepts>

#include "descent/core/ops/indexing.hpp"
#include "descent/core/ops/join.hpp"
#include "descent/core/ops/random.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// One example: an input and its target.
struct Example {
  /// The input and the target. Their shapes and dtypes are the same for all examples of a batch.
  Tensor x, y;
};

/// Examples that are stacked along a new first axis, N.
struct Batch {
  /// The inputs [N, ...] and the targets [N, ...].
  Tensor x, y;
  /// The number of examples, N.
  [[nodiscard]] int64_t size() const { return x.size(0); }
};

/// A dataset with `get(i, epoch)`: example i as it is in an epoch, which counts from 0. (The braces
/// leave out a second parameter that would narrow the number, such as a bool with a default.)
template <class D>
concept ByEpoch = requires(const D& dataset, int64_t i) {
  { dataset.get(i, {i}) } -> std::convertible_to<Example>;
};

/// A class with `size()`, the number of its examples, and `get(i)` or `get(i, epoch)`, example i.
template <class D>
concept Dataset = requires(const D& dataset, int64_t i) {
  { dataset.size() } -> std::convertible_to<int64_t>;
  requires ByEpoch<D> || requires { Example(dataset.get(i)); };
};

/// Example i of a dataset in an epoch: `get(i, epoch)` if the dataset has it, else `get(i)`.
template <Dataset D>
[[nodiscard]] Example get_example(const D& dataset, int64_t i, int64_t epoch = 0) {
  if constexpr (ByEpoch<D>) return dataset.get(i, epoch);
  else return dataset.get(i);
}

/// The examples index[0], index[1], ... of a dataset in an epoch; `index` is int64 [N]. If the
/// dataset has no `batch` of its own (with the epoch, if `get` has it), its examples are stacked:
/// ShapeError or DtypeError if their shapes or dtypes differ, ValueError if there are none.
template <Dataset D>
[[nodiscard]] Batch batch(const D& dataset, const Tensor& index, int64_t epoch = 0,
                          At at = At::here()) {
  const Frame frame(at);
  if constexpr (requires { Batch(dataset.batch(index, {epoch})); }) {
    return dataset.batch(index, epoch);
  } else if constexpr (!ByEpoch<D> && requires { Batch(dataset.batch(index)); }) {
    return dataset.batch(index);
  } else {
    std::vector<Tensor> x, y;
    for (int64_t i : index.to_vector<int64_t>(at)) {
      const Example example = get_example(dataset, i, epoch);
      x.push_back(example.x);
      y.push_back(example.y);
    }
    return {stack(x, 0, at), stack(y, 0, at)};
  }
}

/// Examples along the first axis of two tensors, x [N, ...] and y [N, ...].
class TensorDataset {
 public:
  /// ShapeError unless both have a first axis of the same size; ValueError if one is undefined.
  TensorDataset(Tensor x, Tensor y, At at = At::here());

  /// The two tensors.
  [[nodiscard]] const Tensor& x() const { return x_; }
  [[nodiscard]] const Tensor& y() const { return y_; }
  /// The number of examples, N.
  [[nodiscard]] int64_t size() const { return x_.size(0); }
  /// x[i] and y[i], as views. IndexError outside [0, N).
  [[nodiscard]] Example get(int64_t i, At at = At::here()) const;
  /// A copy of the rows index[0], index[1], ...
  [[nodiscard]] Batch batch(const Tensor& index, At at = At::here()) const;

 private:
  Tensor x_, y_;
};

/// The generator that belongs to example i in an epoch. Its numbers follow from (seed, epoch, i)
/// alone: 64 bits of the stream of `seed`, block 2^64 - 1 - epoch, are the seed of a stream for the
/// epoch, of which example i has the 2^32 blocks from i 2^32 on. (A loader with the same seed takes
/// its orders from other blocks.) IndexError unless epoch and i are at least 0 and below 2^32.
[[nodiscard]] Generator example_generator(uint64_t seed, int64_t epoch, int64_t i,
                                          At at = At::here());

/// A dataset with f(example, generator) in place of each example, where the generator is that of
/// `example_generator(seed, epoch, i)`: another one in each epoch, but the same whatever the order,
/// the batch size and the number of workers and threads are. Of several around one another, each
/// needs a seed of its own, because equal seeds give equal numbers.
///
///     augment(augment(dataset, random_crop(32, 4), 1), random_horizontal_flip(), 2)
template <Dataset D, std::invocable<Example, Generator&> F>
auto augment(D dataset, F f, uint64_t seed) {
  struct Augmented {
    int64_t size() const { return dataset.size(); }
    Example get(int64_t i, int64_t epoch = 0) const {
      const Example example = get_example(dataset, i, epoch);
      Generator generator = example_generator(seed, epoch, i);
      return f(example, generator);
    }
    D dataset;
    F f;
    uint64_t seed;
  };
  return Augmented{std::move(dataset), std::move(f), seed};
}

/// A dataset with f(example) in place of each example. It calls f again each time that an example
/// is asked for: `map(dataset, [](Example e) { return Example{e.x * 2, e.y}; })`. Examples that are
/// asked for must be below 2^32.
template <Dataset D, std::invocable<Example> F> auto map(D dataset, F f) {
  return augment(
      std::move(dataset), [f = std::move(f)](Example e, Generator&) { return f(std::move(e)); }, 0);
}

/// Some examples of a dataset: example i of the subset is example index[i] of the dataset.
template <Dataset D> class Subset {
 public:
  /// `index`: int64 [size()].
  Subset(D dataset, Tensor index) : dataset_(std::move(dataset)), index_(std::move(index)) {}
  /// Which examples of the dataset these are: int64 [size()].
  [[nodiscard]] const Tensor& index() const { return index_; }
  /// The number of examples.
  [[nodiscard]] int64_t size() const { return index_.size(0); }
  /// The dataset's example index[i] in an epoch. IndexError outside [0, size()).
  [[nodiscard]] Example get(int64_t i, int64_t epoch = 0, At at = At::here()) const {
    if (i < 0 || i >= size())
      fail<IndexError>(at, "Subset: example {}: need at least 0 and below {}", i, size());
    const Frame frame(at);
    return get_example(dataset_, index_.select(0, i).item<int64_t>(), epoch);
  }
  /// Several examples, by their places in this subset.
  [[nodiscard]] Batch batch(const Tensor& index, int64_t epoch = 0, At at = At::here()) const {
    return data::batch(dataset_, index_select(In(index_, at), 0, In(index, at)), epoch, at);
  }

 private:
  D dataset_;
  Tensor index_;
};

/// Shuffles the numbers 0 to size - 1 and deals them into parts: int64 [sizes[0]], [sizes[1]], ...
/// The seed alone decides the order. With fractions, a part has fraction * size numbers, rounded
/// down; a product that misses an integer only by the rounding of doubles counts as that integer.
/// The numbers that are left go to the first parts, one each. ValueError if a part is negative, if
/// the sizes do not add up to `size`, or if the fractions do not add up to 1 within 1e-6.
[[nodiscard]] std::vector<Tensor> deal(int64_t size, const std::vector<int64_t>& sizes,
                                       uint64_t seed = 0, At at = At::here());
[[nodiscard]] std::vector<Tensor> deal(int64_t size, const std::vector<double>& fractions,
                                       uint64_t seed = 0, At at = At::here());
/// The same for sizes or fractions as a list: `deal(10, {8, 2})`, `deal(10, {0.8, 0.2})`.
template <class T, std::size_t N>
[[nodiscard]] std::vector<Tensor> deal(int64_t size, const T (&parts)[N], uint64_t seed = 0,
                                       At at = At::here()) {
  using Part = std::conditional_t<std::is_floating_point_v<T>, double, int64_t>;
  return deal(size, std::vector<Part>(parts, parts + N), seed, at);
}

/// Splits a dataset into subsets that share no example and together have all of them, by fractions
/// or by sizes, `{50000, 10000}`. The seed alone decides the order. Errors as for `deal`.
///
///     auto [train, test] = split(dataset, {0.8, 0.2});
template <Dataset D, class T, std::size_t N>
auto split(const D& dataset, const T (&parts)[N], uint64_t seed = 0, At at = At::here()) {
  const std::vector<Tensor> index = deal(dataset.size(), parts, seed, at);
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::array{Subset<D>(dataset, index[I])...};
  }
  (std::make_index_sequence<N>());
}

/// Gives columns mean 0 and standard deviation 1: z = (x - mean - rest) / std, where the variance,
/// std^2, divides by N.
struct Standardizer {
  /// [D...], of the dtype of x. `rest` is what `mean` has lost by rounding to that dtype.
  Tensor mean, rest;
  /// The same shape and dtype; 1 for a column whose values are all equal.
  Tensor std;

  /// Measures x [N, D...]. DtypeError unless x is floating; ValueError for N = 0; NumericError if a
  /// column has a number that is not finite, or a mean or deviation that the dtype cannot hold.
  explicit Standardizer(const In& x);
  /// The z of x [..., D...].
  Tensor operator()(const In& x) const;
  /// The x of z [..., D...].
  [[nodiscard]] Tensor inverse(const In& z) const;
};

}}  // namespace descent::data
