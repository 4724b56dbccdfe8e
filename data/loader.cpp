#include "descent/data/loader.hpp"

#include <algorithm>
#include <bit>

#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/random.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

static std::string describe(const Tensor& x) { return x.defined() ? str(x.shape()) : "undefined"; }

DataLoader::DataLoader(int64_t examples, const LoaderOptions& options, At at)
    : options_(options), at_(at), examples_(examples) {
  if (options.batch_size < 0)
    fail<ValueError>(at, "DataLoader: batch_size {}: need at least 1, or kFullBatch",
                     options.batch_size);
  if (examples <= 0) fail<ValueError>(at, "DataLoader: the dataset has no examples");
  batch_size_ =
      options.batch_size == kFullBatch ? examples : std::min(options.batch_size, examples);
  if (options.drop_last && options.batch_size > examples)
    fail<ValueError>(at, "DataLoader: batch_size {} with drop_last leaves nothing of {} examples",
                     options.batch_size, examples);
  batches_ = examples / batch_size_ + (examples % batch_size_ != 0 && !options.drop_last);
}

void DataLoader::check(const LoaderState& state, At at) const {
  if (state.epoch < 0 || state.epoch >= UINT32_MAX || state.batch < 0 || state.batch >= batches_)
    fail<ValueError>(at, "DataLoader: epoch {}, batch {}: need epoch 0 to {} and batch 0 to {}",
                     state.epoch, state.batch, UINT32_MAX - 1, batches_ - 1);
}

void DataLoader::set_epoch(int64_t k, At at) {
  check({k, 0}, at);
  state_ = next_loop_ = {k, 0};
}

std::vector<int64_t> DataLoader::order_options() const {
  return {examples_, options_.batch_size, options_.shuffle, options_.drop_last,
          std::bit_cast<int64_t>(options_.seed)};
}

Commit DataLoader::prepare_load(NamedTensors state, At at) {
  const LoaderState to = with_state(*this, std::move(state), "DataLoader", at).state_;
  check(to, at);
  return [this, to] { state_ = next_loop_ = to; };
}

DataLoader::Iterator::Iterator(DataLoader& loader) : loader_(loader), place_(loader.next_loop_) {
  if (!loader.options_.shuffle) {
    order_ = arange(loader.examples_, int64, loader.at_);
    return;
  }
  Generator generator;  // each epoch has its own part of the seed's stream
  generator.set_state({loader.options_.seed, (static_cast<uint64_t>(place_.epoch) + 1) << 32});
  order_ = randperm(loader.examples_, generator, loader.at_);
}

Batch DataLoader::Iterator::operator*() const {
  const int64_t start = place_.batch * loader_.batch_size_;
  const int64_t count = std::min(loader_.batch_size_, loader_.examples_ - start);
  Batch batch = loader_.load_(order_, start, count);
  for (const Tensor* t : {&batch.x, &batch.y})
    if (t->defined() && (t->dim() == 0 || t->shape()[0] != count))
      fail<ShapeError>(loader_.at_,
                       "DataLoader: the dataset's batch of {} examples has x {} and y {}: need a "
                       "first axis of that size",
                       count, describe(batch.x), describe(batch.y));
  loader_.next_loop_ = {place_.epoch + 1, 0};
  loader_.state_ = place_.batch + 1 < loader_.batches_ ? LoaderState{place_.epoch, place_.batch + 1}
                                                       : loader_.next_loop_;
  return batch;
}

}}  // namespace descent::data
