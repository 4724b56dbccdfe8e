#pragma once
/// @file
/// Batches of a dataset, epoch by epoch.

#include <iterator>
#include <memory>

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
  int workers = 0;         ///< threads that compute batches ahead of the loop: 0 to 256
};

/// The position of a loader: the next batch that it will give.
struct LoaderState {
  /// Both count from 0; `batch` is that in the epoch; behind the last one, it is their number.
  int64_t epoch = 0, batch = 0;
};

class Prefetcher;

/// Batches of a dataset: `for (auto [x, y] : loader)` is one epoch.
///
/// Each such loop is a new epoch, also if the last loop was left early. Only one loop may run at a
/// time. The order of epoch k depends on the options and k alone. Without shuffling, batches of a
/// TensorDataset are views of its tensors: clone() one before you change it in place.
///
/// With `workers` above 0, each loop has that many threads, which compute the next batches while
/// the loop's body runs, up to 2 * workers of them beyond the loop's. Batches, their order, errors
/// and the position are those of workers = 0; an error of a batch arrives when its turn comes. It
/// pays if examples take long to get: files, decoding, `augment`. Several threads then call `get`
/// at once: it must be able to stand that, and it must not draw from `default_generator()`, because
/// the threads would do so in any order. The workers' operations run on one thread each, with a
/// lower priority, and are recorded if those of the loop's thread are when the loop begins. If
/// examples take computing, as many workers as processors are best. The end of the loop, also by an
/// exception, waits for calls of `get` that are in progress. Where the system refuses threads, the
/// loop goes on with fewer or with none.
class DataLoader : public Loadable<DataLoader> {
 public:
  /// ValueError for a negative batch size, for a number of workers out of range, or if there
  /// would be no batch at all.
  template <Dataset D>
  explicit DataLoader(D dataset, const LoaderOptions& options = {}, At at = At::here())
      : DataLoader(dataset.size(), options, at) {
    load_ = std::make_shared<Load>([dataset = std::move(dataset), in_order = !options.shuffle, at](
                                       const Tensor& index, int64_t epoch) -> Batch {
      if (in_order)
        if constexpr (std::same_as<D, TensorDataset>) {  // rows that follow each other need no copy
          const int64_t start = index.select(0, 0).item<int64_t>(), count = index.size(0);
          return {dataset.x().narrow(0, start, count, at), dataset.y().narrow(0, start, count, at)};
        }
      return batch(dataset, index, epoch, at);
    });
  }

  /// The loop over one epoch.
  class Iterator {
   public:
    /// What a range-based `for` needs.
    explicit Iterator(DataLoader& loader);
    Batch operator*() const;
    Iterator& operator++() {
      if (++place_.batch >= loader_.batches_) loader_.end_epoch(place_.epoch);
      return *this;
    }
    bool operator==(std::default_sentinel_t) const { return place_.batch >= loader_.batches_; }

   private:
    DataLoader& loader_;
    LoaderState place_;
    std::shared_ptr<Prefetcher> batches_;  // copies share it
  };
  /// Begins the next epoch, or continues where `load_state_dict` or `set_epoch` says.
  Iterator begin() { return Iterator(*this); }
  std::default_sentinel_t end() const { return {}; }

  /// The options that were given.
  const LoaderOptions& options() const { return options_; }
  /// The number of batches per epoch.
  [[nodiscard]] int64_t size() const { return batches_; }

  /// The position after the current batch, which counts as used. Behind the last batch, until the
  /// loop ends, it is the end of this epoch: a loop that continues there has no batches left, so
  /// that what follows a loop over an epoch is neither left out nor done twice.
  [[nodiscard]] LoaderState state() const { return state_; }
  /// The position, as "DataLoader/epoch" and "DataLoader/batch" (int64), and
  /// "DataLoader/options", on which the order of the examples depends. A loop that was left
  /// early, or that an exception of the dataset ended, is continued after
  /// `load_state_dict(state_dict())`.
  [[nodiscard]] NamedTensors state_dict() const { return saved_state(*this); }
  /// Prepares to continue from this position, which may be in the middle of an epoch, in the next
  /// loop. ValueError if the state does not fit, if there is no such batch, or if it was saved
  /// with other options or another number of examples.
  [[nodiscard]] Commit prepare_load(NamedTensors state, At at = At::here()) {
    return prepare_move(with_state(*this, std::move(state), "DataLoader", at).state_, at);
  }
  /// The next loop is epoch k. ValueError unless 0 <= k < 2^32 - 1.
  void set_epoch(int64_t k, At at = At::here()) { prepare_move({k, 0}, at)(); }
  /// Names what is saved: see StateVisitor.
  template <class V> void visit(V& v) {
    v("DataLoader/epoch", state_.epoch), v("DataLoader/batch", state_.batch);
    v.same("DataLoader/options",
           {examples_, options_.batch_size, options_.shuffle, options_.drop_last,
            static_cast<int64_t>(options_.seed)},
           "what a DataLoader's order depends on (examples, batch_size, shuffle, drop_last, seed)");
  }

 private:
  DataLoader(int64_t examples, const LoaderOptions& options, At at);
  Commit prepare_move(const LoaderState& to, At at);
  void end_epoch(int64_t epoch) { state_ = next_loop_ = {epoch + 1, 0}; }

  LoaderOptions options_;
  At at_;
  int64_t examples_, batch_size_, batches_;
  LoaderState state_, next_loop_;
  // The examples of a batch, int64 [N]. Threads of a loop share it: it may outlive the loader.
  using Load = std::function<Batch(const Tensor& index, int64_t epoch)>;
  std::shared_ptr<const Load> load_;
};

}}  // namespace descent::data
