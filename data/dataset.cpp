#include "descent/data/dataset.hpp"

#include <cmath>

#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

TensorDataset::TensorDataset(Tensor x, Tensor y, At at) : x_(std::move(x)), y_(std::move(y)) {
  if (!x_.defined() || !y_.defined())
    fail<ValueError>(at, "TensorDataset: {} is undefined", x_.defined() ? "y" : "x");
  if (x_.dim() == 0 || y_.dim() == 0 || x_.size(0) != y_.size(0))
    fail<ShapeError>(at, "TensorDataset: x {} and y {}: need a first axis of the same size",
                     x_.shape(), y_.shape());
}

Example TensorDataset::get(int64_t i, At at) const {
  if (i < 0 || i >= size())
    fail<IndexError>(at, "TensorDataset: example {}: need at least 0 and below {}", i, size());
  return {x_.select(0, i, at), y_.select(0, i, at)};
}

Batch TensorDataset::batch(const Tensor& index, At at) const {
  return {index_select(In(x_, at), 0, In(index, at)), index_select(In(y_, at), 0, In(index, at))};
}

Generator example_generator(uint64_t seed, int64_t epoch, int64_t i, At at) {
  if (epoch < 0 || epoch > UINT32_MAX || i < 0 || i > UINT32_MAX)
    fail<IndexError>(at, "example_generator: epoch {}, example {}: need 0 to 2^32 - 1", epoch, i);
  Generator generator;
  generator.set_state({seed, ~static_cast<uint64_t>(epoch)});
  generator.set_state({generator.next(), static_cast<uint64_t>(i) << 32});
  return generator;
}

std::vector<Tensor> deal(int64_t size, const std::vector<int64_t>& sizes, uint64_t seed, At at) {
  int64_t left = size;
  for (int64_t n : sizes) left = n < 0 || n > left ? -1 : left - n;
  if (left != 0)
    fail<ValueError>(at, "split: sizes {} for {} examples: need that sum", sizes, size);
  Generator generator(seed);
  return descent::split(randperm(size, generator, at), sizes);
}

std::vector<Tensor> deal(int64_t size, const std::vector<double>& fractions, uint64_t seed, At at) {
  double sum = 0;
  for (double f : fractions) sum += f >= 0 ? f : NAN;
  if (!(std::abs(sum - 1) <= 1e-6))
    fail<ValueError>(at, "split: fractions {}: need at least 0 each, and a sum of 1", fractions);
  // In doubles, 0.29 * 100 is 28.999999999999996; rounding that down must give 29.
  const double total = static_cast<double>(size) * (1 + 0x1p-50);
  std::vector<int64_t> sizes;
  int64_t left = size;
  for (double f : fractions) left -= sizes.emplace_back(static_cast<int64_t>(f / sum * total));
  for (std::size_t i = 0; left > 0; ++i, --left) ++sizes[i % sizes.size()];
  return deal(size, sizes, seed, at);
}

Standardizer::Standardizer(const In& x) {
  if (!is_floating(x.dtype()))
    fail<DtypeError>(x.at, "Standardizer: x is {}: need a floating dtype", x.dtype());
  if (x.dim() == 0 || x.size(0) == 0)
    fail<ValueError>(x.at, "Standardizer: x {} has no rows to measure", x.shape());
  const Tensor wide = x.detach().to(float64);
  const Tensor constant = wide.max(0) == min(wide, 0), center = wide.mean(0);
  mean = where(constant, wide.select(0, 0), center).to(x.dtype());
  const Tensor off = wide - mean.to(float64), offset = off.mean(0);
  rest = offset.to(x.dtype());
  // The norm is right even where float64 cannot hold the squares of a variance.
  const Tensor deviation = norm(off - offset, 0) / std::sqrt(static_cast<double>(x.size(0)));
  const double smallest = x.dtype() == float32 ? 0x1p-149 : 0x1p-1074;
  std = where(constant, 1, maximum(deviation, full({}, smallest, float64))).to(x.dtype());
  if (!all(logical_and(isfinite(mean), isfinite(std))).item<bool>())
    fail<NumericError>(x.at, "Standardizer: x {} has NaN, infinite or too large numbers",
                       x.shape());
}

Tensor Standardizer::operator()(const In& x) const { return (x - mean - rest) / std; }

Tensor Standardizer::inverse(const In& z) const { return z * std + rest + mean; }

}}  // namespace descent::data
