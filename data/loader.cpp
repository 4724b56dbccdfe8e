#include "descent/data/loader.hpp"

#include <algorithm>
#include <bit>
#include <condition_variable>
#include <csignal>
#include <exception>
#include <mutex>
#include <sys/resource.h>
#include <thread>

#include "descent/core/graph/graph.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/random.hpp"
#include "descent/core/runtime/threads.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

static constexpr int kMostWorkers = 256, kBatchesPerWorker = 2;
// An operation waits for the slowest of its threads: with the same priority, a worker would take
// the processor of one of them in the middle of it. With a much lower one, it would starve beside
// other programs.
static constexpr int kNicer = 5;

static std::string describe(const Tensor& x) { return x.defined() ? str(x.shape()) : "undefined"; }

/// Threads that compute the batches `first` to `end` - 1 of an epoch in order, each as a whole, at
/// most kBatchesPerWorker per thread beyond those that were taken.
class Prefetcher : Pinned {
 public:
  /// load(k) computes batch k. The threads record ops if the calling thread does.
  Prefetcher(std::function<Batch(int64_t k)> load, int64_t first, int64_t end, int workers)
      : load_(std::move(load)), end_(end), taken_(first), claimed_(first) {
    const auto count = static_cast<std::size_t>(std::clamp<int64_t>(end - first, 0, workers));
    results_.resize(count * kBatchesPerWorker);
    threads_.reserve(count);
    sigset_t signals, before;  // the handlers of a program shall run on its own threads
    sigfillset(&signals);
    for (int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGPROF}) sigdelset(&signals, s);
    pthread_sigmask(SIG_SETMASK, &signals, &before);
    try {
      while (threads_.size() < count)
        threads_.emplace_back([this, recording = grad_enabled()] { work(recording); });
    } catch (const std::exception&) {  // the others do the work, or the thread that takes it
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  /// Waits for the calls of `load` that are in progress; no others begin.
  ~Prefetcher() {
    std::unique_lock lock(mutex_);
    claimed_ = end_;
    lock.unlock();
    room_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  /// Batch k, or the exception that computing it has thrown. Batches before it are given up: if k
  /// is one of them, or the system has refused all threads, the calling thread computes it.
  Batch take(int64_t k) {
    std::unique_lock lock(mutex_);
    if (threads_.empty() || k < taken_ || k >= end_) {
      lock.unlock();
      return load_(k);
    }
    for (; taken_ < k; ++taken_) result(taken_) = {};
    claimed_ = std::max(claimed_, k);
    room_.notify_all();
    ready_.wait(lock, [&] { return result(k).ready; });
    const Result made = std::exchange(result(k), {});
    ++taken_;
    lock.unlock();
    room_.notify_one();
    if (made.error) std::rethrow_exception(made.error);
    return made.batch;
  }

 private:
  struct Result {
    bool ready = false;
    Batch batch;
    std::exception_ptr error;
  };
  Result& result(int64_t k) { return results_[static_cast<std::size_t>(k) % results_.size()]; }

  void work(bool recording) {
    const GradModeGuard mode(recording);
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + kNicer);  // of this thread alone
    const SerialGuard alone;  // the pool is for the thread that trains
    const auto most = static_cast<int64_t>(results_.size());
    std::unique_lock lock(mutex_);
    for (;;) {
      room_.wait(lock, [&] { return claimed_ >= end_ || claimed_ < taken_ + most; });
      if (claimed_ >= end_) return;
      const int64_t k = claimed_++;
      lock.unlock();
      Result made{.ready = true, .batch = {}, .error = {}};
      try {
        made.batch = load_(k);
      } catch (...) { made.error = std::current_exception(); }
      lock.lock();
      if (k < taken_) continue;  // it was given up meanwhile
      result(k) = std::move(made);
      ready_.notify_one();
    }
  }

  const std::function<Batch(int64_t k)> load_;
  const int64_t end_;
  std::mutex mutex_;  // of all that follows, but for threads_
  std::condition_variable room_, ready_;
  int64_t taken_, claimed_;      // all batches below are taken or given up; are claimed by threads
  std::vector<Result> results_;  // of the batches from taken_ on
  std::vector<std::thread> threads_;
};

DataLoader::DataLoader(int64_t examples, const LoaderOptions& options, At at)
    : options_(options), at_(at), examples_(examples) {
  if (options.batch_size < 0)
    fail<ValueError>(at, "DataLoader: batch_size {}: need at least 1, or kFullBatch",
                     options.batch_size);
  if (options.workers < 0 || options.workers > kMostWorkers)
    fail<ValueError>(at, "DataLoader: workers {}: need 0 to {}", options.workers, kMostWorkers);
  if (examples <= 0) fail<ValueError>(at, "DataLoader: the dataset has no examples");
  batch_size_ =
      options.batch_size == kFullBatch ? examples : std::min(options.batch_size, examples);
  if (options.drop_last && options.batch_size > examples)
    fail<ValueError>(at, "DataLoader: batch_size {} with drop_last leaves nothing of {} examples",
                     options.batch_size, examples);
  batches_ = examples / batch_size_ + (examples % batch_size_ != 0 && !options.drop_last);
}

void DataLoader::check(const LoaderState& state, At at) const {
  if (state.epoch < 0 || state.epoch >= UINT32_MAX || state.batch < 0 || state.batch > batches_)
    fail<ValueError>(at, "DataLoader: epoch {}, batch {}: need epoch 0 to {} and batch 0 to {}",
                     state.epoch, state.batch, UINT32_MAX - 1, batches_);
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

/// The examples in the order of an epoch: int64 [examples].
Tensor DataLoader::order(int64_t epoch) const {
  if (!options_.shuffle) return arange(examples_, int64, at_);
  Generator generator;  // each epoch has its own part of the seed's stream
  generator.set_state({options_.seed, (static_cast<uint64_t>(epoch) + 1) << 32});
  return randperm(examples_, generator, at_);
}

DataLoader::Iterator::Iterator(DataLoader& loader) : loader_(loader), place_(loader.next_loop_) {
  if (place_.batch >= loader.batches_) {
    loader.end_epoch(place_.epoch);
    return;
  }
  load_ = [load = loader.load_, order = loader.order(place_.epoch), epoch = place_.epoch,
           size = loader.batch_size_, examples = loader.examples_](int64_t batch) {
    const int64_t start = batch * size;
    return (*load)(order, start, std::min(size, examples - start), epoch);
  };
  if (loader.options_.workers > 0)
    ahead_ =
        std::make_shared<Prefetcher>(load_, place_.batch, loader.batches_, loader.options_.workers);
}

Batch DataLoader::Iterator::operator*() const {
  const int64_t count =
      std::min(loader_.batch_size_, loader_.examples_ - place_.batch * loader_.batch_size_);
  Batch batch = ahead_ ? ahead_->take(place_.batch) : load_(place_.batch);
  for (const Tensor* t : {&batch.x, &batch.y})
    if (t->defined() && (t->dim() == 0 || t->shape()[0] != count))
      fail<ShapeError>(loader_.at_,
                       "DataLoader: the dataset's batch of {} examples has x {} and y {}: need a "
                       "first axis of that size",
                       count, describe(batch.x), describe(batch.y));
  loader_.next_loop_ = {place_.epoch + 1, 0};
  loader_.state_ = {place_.epoch, place_.batch + 1};
  return batch;
}

}}  // namespace descent::data
