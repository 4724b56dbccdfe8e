#include "descent/data/loader.hpp"

#include <algorithm>

#include "descent/core/factory.hpp"
#include "descent/core/random.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

BatchPlan::BatchPlan(int64_t examples, const LoaderOptions& options, At at)
    : examples_(examples), options_(options), at_(at) {
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

int64_t BatchPlan::count(int64_t b) const { return std::min(batch_size_, examples_ - start(b)); }

Tensor BatchPlan::order(int64_t epoch) const {
  if (!options_.shuffle) return arange(examples_, int64, at_);
  Generator generator;  // each epoch has a stretch of the seed's stream to itself
  generator.set_state({options_.seed, (static_cast<uint64_t>(epoch) + 1) << 32});
  return randperm(examples_, generator, at_);
}

void BatchPlan::set_state(const LoaderState& state, At at) {
  if (state.epoch < 0 || state.epoch >= UINT32_MAX || state.batch < 0 || state.batch >= batches_)
    fail<ValueError>(at, "DataLoader: there is no batch {} in epoch {}: an epoch has {}",
                     state.batch, state.epoch, batches_);
  next_ = state;
  resumed_ = true;
}

LoaderState BatchPlan::begin() {
  if (next_.batch > 0 && !resumed_) next_ = {next_.epoch + 1, 0};
  return next_;
}

void BatchPlan::given(const LoaderState& batch) {
  resumed_ = false;
  next_ = {batch.epoch, batch.batch + 1};
  if (next_.batch == batches_) next_ = {batch.epoch + 1, 0};
}

}}  // namespace descent::data
