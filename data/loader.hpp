#pragma once
#include "descent/data/dataset.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// The batch size that takes the whole dataset.
inline constexpr int64_t kFullBatch = 0;

struct LoaderOptions {
  int64_t batch_size = 1;  ///< kFullBatch, or at least 1; the last batch of an epoch may be smaller
  bool shuffle = false;    ///< another order in every epoch, from the seed and the epoch's number
  bool drop_last = false;  ///< leave out a last batch that is not full
  uint64_t seed = 0;
};

/// Where a loader stands: the next batch it will give. With the options, all that a checkpoint
/// needs.
struct LoaderState {
  int64_t epoch = 0, batch = 0;
};

/// Which examples come when. What a DataLoader knows without its dataset.
class BatchPlan {
 public:
  /// ValueError for a negative batch size, and if there would be no batch.
  BatchPlan(int64_t examples, const LoaderOptions& options, At at);

  const LoaderOptions& options() const { return options_; }
  /// Batches per epoch.
  int64_t size() const { return batches_; }
  /// The examples of batch b are number start(b) to start(b) + count(b) of the epoch's order.
  int64_t start(int64_t b) const { return b * batch_size_; }
  int64_t count(int64_t b) const;
  /// int64 [examples].
  Tensor order(int64_t epoch) const;

  const LoaderState& state() const { return next_; }
  /// ValueError for a place that does not exist.
  void set_state(const LoaderState& state, At at);
  /// Goes to the next epoch if this one has been begun, unless by `set_state`.
  LoaderState begin();
  /// Notes that this batch has been given.
  void given(const LoaderState& batch);

 private:
  int64_t examples_, batch_size_, batches_;
  LoaderOptions options_;
  At at_;
  LoaderState next_;
  bool resumed_ = false;
};

/// Batches of a dataset: `for (auto [x, y] : loader)` is one epoch.
///
/// Each such loop is a new epoch, also after one that was left early; one loop at a time. The order
/// of epoch k follows from the options and k alone. Without shuffling, batches of a TensorDataset
/// are views of its tensors: clone() one before changing it in place.
template <Dataset D> class DataLoader {
 public:
  /// ValueError for a negative batch size, and if there would be no batch at all.
  explicit DataLoader(D dataset, const LoaderOptions& options = {}, At at = At::here())
      : dataset_(std::move(dataset)), plan_(dataset_.size(), options, at), at_(at) {}

  struct End {};
  class Iterator {
   public:
    Batch operator*() const {
      Batch batch = loader_.load(order_, place_.batch);
      loader_.plan_.given(place_);
      return batch;
    }
    Iterator& operator++() {
      ++place_.batch;
      return *this;
    }
    bool operator==(End) const { return place_.batch >= loader_.size(); }

   private:
    friend DataLoader;
    explicit Iterator(DataLoader& loader)
        : loader_(loader), place_(loader.plan_.begin()), order_(loader.plan_.order(place_.epoch)) {}
    DataLoader& loader_;
    LoaderState place_;
    Tensor order_;
  };
  Iterator begin() { return Iterator(*this); }
  End end() const { return {}; }

  const D& dataset() const { return dataset_; }
  const LoaderOptions& options() const { return plan_.options(); }
  /// Batches per epoch.
  int64_t size() const { return plan_.size(); }

  /// Where it stands. Inside a loop: behind the batch in hand, which counts as used.
  LoaderState state() const { return plan_.state(); }
  /// The next loop goes on from there, in the middle of an epoch if need be. ValueError if there is
  /// no such batch.
  void set_state(const LoaderState& state, At at = At::here()) { plan_.set_state(state, at); }
  /// The next loop is epoch k.
  void set_epoch(int64_t k, At at = At::here()) { plan_.set_state({k, 0}, at); }

 private:
  Batch load(const Tensor& order, int64_t b) const {
    const int64_t start = plan_.start(b), count = plan_.count(b);
    if constexpr (requires { dataset_.slice(start, count); })
      if (!options().shuffle) return dataset_.slice(start, count, at_);
    return data::batch(dataset_, order.narrow(0, start, count, at_), at_);
  }

  D dataset_;
  BatchPlan plan_;
  At at_;
};

}}  // namespace descent::data
