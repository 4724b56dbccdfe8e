#pragma once
/// @file
/// A loop over the elements of many tensors at once, such as the step of an optimizer.

#include <vector>

#include "descent/core/kernels/elementwise.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Arrays of any sizes, cut into tiles for several threads. Small tiles are bundled, so that the
/// step of a small model wakes no thread.
///
///     Tiles tiles;
///     for (std::size_t i = 0; i < tensors.size(); ++i) tiles.add(i, tensors[i].numel());
///     tiles.for_each([&](const Tiles::Tile& t) { work(tensors[t.array], t.begin, t.count); });
class Tiles {
 public:
  /// Some neighbouring elements of one array.
  struct Tile {
    std::size_t array;  ///< the number of the array
    int64_t begin;      ///< the first element of the tile
    int64_t count;      ///< the number of elements, at most 2^15
  };
  /// Forgets all arrays.
  void clear();
  /// Adds the n elements of array number `array`.
  void add(std::size_t array, int64_t n);
  /// Calls f(tile) for all tiles, in any order and on several threads.
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

/// The position of the first NaN or infinity among `count` elements from `begin` on; -1 if there is
/// none. The tensor is floating and contiguous.
int64_t first_nonfinite(const Tensor& x, int64_t begin, int64_t count);

}  // namespace descent
