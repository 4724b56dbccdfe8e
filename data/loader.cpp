#include "descent/data/loader.hpp"

#include <algorithm>
#include <condition_variable>
#include <future>
#include <mutex>
#include <sys/resource.h>
#include <thread>

#include "descent/core/graph/graph.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/runtime/threads.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

static constexpr int kMostWorkers = 256, kBatchesPerWorker = 2;
// An operation waits for the slowest of its threads: with the same priority, a worker would take
// the processor of one of them in the middle of it. With a much lower one, it would starve beside
// other programs.
static constexpr int kNicer = 5;

/// Threads that compute the batches `first` to `end` - 1 of an epoch in order, each as a whole, at
/// most kBatchesPerWorker per thread beyond the loop's. One thread takes them.
class Prefetcher : Pinned {
 public:
  /// load(k) computes batch k. The threads record ops if the calling thread does.
  Prefetcher(std::function<Batch(int64_t k)> load, int64_t first, int64_t end, int workers)
      : load_(std::move(load)), first_(first), end_(end), current_(first), claimed_(first) {
    const int64_t count = std::min<int64_t>(end - first, workers);
    while (size() <= kBatchesPerWorker * count) slots_.emplace_back(load_, first + size());
    const SignalGuard none;
    try {
      while (std::ssize(threads_) < count)
        threads_.emplace_back([this, recording = grad_enabled()] { work(recording); });
    } catch (const std::exception&) {  // the others do the work, or the thread that takes it
    }
  }
  /// Waits for the calls of `load` that are in progress; no others begin.
  ~Prefetcher() {
    const std::lock_guard lock(mutex_);
    claimed_ = end_;
    changed_.notify_all();
  }

  /// Batch k, or the exception that computing it has thrown. Batches before it are given up: if k
  /// is one of them, if it was taken before, or if there are no threads, the calling thread
  /// computes it.
  Batch take(int64_t k) {
    std::future<Batch> made;
    if (std::unique_lock lock(mutex_); !threads_.empty() && k >= current_ && k < end_) {
      for (; current_ < k; ++current_) slot(current_) = Slot(load_, current_ + size());
      claimed_ = std::max(claimed_, k);
      made = std::move(slot(k).made);
    }
    changed_.notify_all();
    return made.valid() ? made.get() : load_(k);
  }

 private:
  struct Slot {
    Slot(const std::function<Batch(int64_t)>& load, int64_t k)
        : task([&load, k] { return load(k); }), made(task.get_future()) {}
    std::packaged_task<Batch()> task;  // until a thread claims it
    std::future<Batch> made;           // until it is taken
  };
  int64_t size() const { return static_cast<int64_t>(slots_.size()); }
  Slot& slot(int64_t k) { return slots_[static_cast<std::size_t>((k - first_) % size())]; }

  void work(bool recording) {
    const GradModeGuard mode(recording);
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + kNicer);  // of this thread alone
    const SerialGuard alone;  // the pool is for the thread that trains
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return claimed_ >= end_ || claimed_ < current_ + size(); });
      if (claimed_ >= end_) return;
      std::packaged_task<Batch()> task = std::move(slot(claimed_++).task);
      lock.unlock();
      task();
      lock.lock();
    }
  }

  const std::function<Batch(int64_t k)> load_;
  const int64_t first_, end_;
  std::mutex mutex_;  // of all that follows, but for threads_
  std::condition_variable changed_;
  int64_t current_, claimed_;  // the batch that the loop has or waits for; the next for a thread
  std::vector<Slot> slots_;    // of the batches from current_ on
  std::vector<std::jthread> threads_;
};

DataLoader::DataLoader(int64_t examples, const LoaderOptions& options, At at)
    : options_(options), at_(at), examples_(examples), batch_size_(options.batch_size) {
  if (batch_size_ < 0)
    fail<ValueError>(at, "DataLoader: batch_size {}: need at least 1 or kFullBatch", batch_size_);
  if (options.workers < 0 || options.workers > kMostWorkers)
    fail<ValueError>(at, "DataLoader: workers {}: need 0 to {}", options.workers, kMostWorkers);
  if (examples <= 0) fail<ValueError>(at, "DataLoader: the dataset has no examples");
  if (batch_size_ == kFullBatch) batch_size_ = examples;
  batches_ = examples / batch_size_ + (examples % batch_size_ != 0 && !options.drop_last);
  if (batches_ == 0)
    fail<ValueError>(at, "DataLoader: batch_size {} with drop_last leaves nothing of {} examples",
                     batch_size_, examples);
}

Commit DataLoader::prepare_move(const LoaderState& to, At at) {
  if (to.epoch < 0 || to.epoch >= UINT32_MAX || to.batch < 0 || to.batch > batches_)
    fail<ValueError>(at, "DataLoader: epoch {}, batch {}: need epoch 0 to {} and batch 0 to {}",
                     to.epoch, to.batch, UINT32_MAX - 1, batches_);
  return [this, to] { state_ = next_loop_ = to; };
}

DataLoader::Iterator::Iterator(DataLoader& loader) : loader_(loader), place_(loader.next_loop_) {
  const At at = loader.at_;
  Generator generator;  // each epoch has its own part of the seed's stream
  generator.set_state({loader.options_.seed, (static_cast<uint64_t>(place_.epoch) + 1) << 32});
  const Tensor order = loader.options_.shuffle ? randperm(loader.examples_, generator, at)
                                               : arange(loader.examples_, int64, at);
  const auto load = [load = loader.load_, size = loader.batch_size_, epoch = place_.epoch, order,
                     at](int64_t k) {
    const int64_t start = k * size, count = std::min(size, order.size(0) - start);
    const Batch batch = (*load)(order.narrow(0, start, count, at), epoch);
    for (const Tensor& t : {batch.x, batch.y})
      if (t.defined() && (t.dim() == 0 || t.size(0) != count))
        fail<ShapeError>(at, "DataLoader: a batch of {} has a tensor {}: need that first axis",
                         count, t.shape());
    return batch;
  };
  batches_ =
      std::make_shared<Prefetcher>(load, place_.batch, loader.batches_, loader.options_.workers);
  if (place_.batch >= loader.batches_) loader.end_epoch(place_.epoch);
}

Batch DataLoader::Iterator::operator*() const {
  const Batch batch = batches_->take(place_.batch);
  loader_.next_loop_ = {place_.epoch + 1, 0};
  loader_.state_ = {place_.epoch, place_.batch + 1};
  return batch;
}

}}  // namespace descent::data
