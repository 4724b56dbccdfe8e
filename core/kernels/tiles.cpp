#include "descent/core/kernels/tiles.hpp"

#include <cmath>

namespace [[gnu::visibility("default")]] descent {

void Tiles::clear() {
  tiles_.clear();
  bundles_.clear();
  room_ = 0;
}

void Tiles::add(std::size_t array, int64_t n) {
  for (int64_t begin = 0; begin < n; begin += detail::kTileElements) {
    const Tile tile{array, begin, std::min(detail::kTileElements, n - begin)};
    if (room_ < tile.count) {
      bundles_.push_back({tiles_.size(), tiles_.size()});
      room_ = detail::kTileElements;
    }
    room_ -= tile.count;
    tiles_.push_back(tile);
    bundles_.back().end = tiles_.size();
  }
}

/// Whether none of n numbers is a NaN or an infinity. The exponent of those is all ones, so that 1
/// added to its last bit carries into the sign.
template <class Bits> static bool finite(const Bits* bits, int64_t n, Bits exponent) {
  const Bits one = exponent & -exponent;
  return simd::call([=] {
    Bits carries = 0;
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)  // vectorised, because 64 is a constant
      for (int64_t j = 0; j < 64; ++j) carries |= (bits[i + j] & exponent) + one;
    for (; i < n; ++i) carries |= (bits[i] & exponent) + one;
    return carries <= exponent;
  });
}

int64_t first_nonfinite(const Tensor& x, int64_t begin, int64_t count) {
  const auto search = [=](const auto* numbers, auto exponent) {
    using Bits = decltype(exponent);
    if (finite(reinterpret_cast<const Bits*>(numbers) + begin, count, exponent)) return int64_t{-1};
    int64_t i = begin;
    while (std::isfinite(numbers[i])) ++i;
    return i;
  };
  return x.dtype() == float32 ? search(elements_of<float>(x), 0x7f800000U)
                              : search(elements_of<double>(x), uint64_t{0x7ff0000000000000});
}

}  // namespace descent
