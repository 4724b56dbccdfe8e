#pragma once
/// @file
/// Batches of a dataset, epoch by epoch.

#include <functional>
#include <iterator>

#include "descent/core/tensor/state.hpp"
#include "descent/data/dataset.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// The batch size that stands for the whole dataset.
inline constexpr int64_t kFullBatch = 0;

/// How a loader orders a dataset and divides it into batches.
struct LoaderOptions {
  int64_t batch_size = 1;  ///< kFullBatch, or at least 1; the last batch of an epoch may be smaller
  bool shuffle = false;    ///< a new random order in each epoch, from the seed and its number
  bool drop_last = false;  ///< leave out a last batch that is not full
  uint64_t seed = 0;       ///< of the random orders
};

/// The position of a loader: the next batch that it will give.
struct LoaderState {
  int64_t epoch = 0;  ///< counts from 0
  int64_t batch = 0;  ///< in the epoch, counts from 0
};

/// Batches of a dataset: `for (auto [x, y] : loader)` is one epoch.
///
/// Each such loop is a new epoch, also if the last loop was left early. Only one loop may run at a
/// time. The order of epoch k depends on the options and k alone. Without shuffling, batches of a
/// TensorDataset are views of its tensors: clone() one before you change it in place.
class DataLoader : public Loadable<DataLoader> {
 public:
  /// ValueError for a negative batch size, or if there would be no batch at all.
  template <Dataset D>
  explicit DataLoader(D dataset, const LoaderOptions& options = {}, At at = At::here())
      : DataLoader(dataset.size(), options, at) {
    if constexpr (std::same_as<D, TensorDataset>) {
      if (!options.shuffle) {  // rows that follow each other need no copy
        load_ = [dataset, at](const Tensor&, int64_t start, int64_t count) -> Batch {
          return {dataset.x().narrow(0, start, count, at), dataset.y().narrow(0, start, count, at)};
        };
        return;
      }
    }
    load_ = [dataset = std::move(dataset), at](const Tensor& order, int64_t start, int64_t count) {
      return batch(dataset, order.narrow(0, start, count, at), at);
    };
  }

  /// The loop over one epoch.
  class Iterator {
   public:
    /// What a range-based `for` needs.
    explicit Iterator(DataLoader& loader);
    Batch operator*() const;
    Iterator& operator++() {
      ++place_.batch;
      return *this;
    }
    bool operator==(std::default_sentinel_t) const { return place_.batch >= loader_.batches_; }

   private:
    DataLoader& loader_;
    LoaderState place_;
    Tensor order_;  // the examples in the order of the epoch: int64 [examples]
  };
  /// Begins the next epoch, or continues where `load_state_dict` or `set_epoch` says.
  Iterator begin() { return Iterator(*this); }
  std::default_sentinel_t end() const { return {}; }

  /// The options that were given.
  const LoaderOptions& options() const { return options_; }
  /// The number of batches per epoch.
  [[nodiscard]] int64_t size() const { return batches_; }

  /// The position after the current batch, which counts as used.
  [[nodiscard]] LoaderState state() const { return state_; }
  /// The position, as "DataLoader/epoch" and "DataLoader/batch" (int64), and "DataLoader/options",
  /// on which the order of the examples depends. A loop that was left early, or that an exception
  /// of the dataset ended, is continued after `load_state_dict(state_dict())`.
  [[nodiscard]] NamedTensors state_dict() const { return saved_state(*this); }
  /// Prepares to continue from this position, which may be in the middle of an epoch, in the next
  /// loop. ValueError if the state does not fit, if there is no such batch, or if it was saved with
  /// other options or another number of examples.
  [[nodiscard]] Commit prepare_load(NamedTensors state, At at = At::here());
  /// The next loop is epoch k. ValueError unless 0 <= k < 2^32 - 1.
  void set_epoch(int64_t k, At at = At::here());
  /// Names what is saved: see StateVisitor.
  template <class V> void visit(V& v) {
    v("DataLoader/epoch", state_.epoch), v("DataLoader/batch", state_.batch);
    v.same("DataLoader/options", order_options(),
           "what a DataLoader's order depends on (examples, batch_size, shuffle, drop_last, seed)");
  }

 private:
  DataLoader(int64_t examples, const LoaderOptions& options, At at);
  void check(const LoaderState& state, At at) const;
  [[nodiscard]] std::vector<int64_t> order_options() const;

  LoaderOptions options_;
  At at_;
  int64_t examples_, batch_size_, batches_;
  LoaderState state_, next_loop_;
  std::function<Batch(const Tensor& order, int64_t start, int64_t count)> load_;
};

}}  // namespace descent::data
