#pragma once
/// @file
/// A loop over the elements of many tensors at once, as an optimizer's step is one.

#include <vector>

#include "descent/core/kernels/elementwise.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Arrays of any sizes, cut into tiles for several threads. Small ones are bundled, so that a small
/// model's step wakes no thread.
///
///     Tiles tiles;
///     for (std::size_t i = 0; i < tensors.size(); ++i) tiles.add(i, tensors[i].numel());
///     tiles.for_each([&](const Tiles::Tile& t) { work(tensors[t.array], t.begin, t.count); });
class Tiles {
 public:
  /// Some neighbouring elements of one array.
  struct Tile {
    std::size_t array;  ///< its number
    int64_t begin;      ///< its first element
    int64_t count;      ///< at most 2^15
  };
  /// Forgets all arrays.
  void clear();
  /// The n elements of array number `array`.
  void add(std::size_t array, int64_t n);
  /// f(tile) for all of them, in any order.
  template <class F> void for_each(F f) const {
    parallel_for(static_cast<int64_t>(bundles_.size()), [&](int64_t i) {
      const auto [begin, end] = bundles_[static_cast<std::size_t>(i)];
      for (std::size_t t = begin; t < end; ++t) f(tiles_[t]);
    });
  }

 private:
  struct Bundle {
    std::size_t begin, end;
  };
  std::vector<Tile> tiles_;
  std::vector<Bundle> bundles_;
  int64_t room_ = 0;  // elements that the last bundle may still take
};

/// The first of `count` elements from `begin` on that is a NaN or an infinity; -1 if none is. The
/// tensor is floating and contiguous.
int64_t first_nonfinite(const Tensor& x, int64_t begin, int64_t count);

}  // namespace descent
