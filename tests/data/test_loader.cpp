#include <atomic>
#include <chrono>
#include <doctest/doctest.h>
#include <fstream>
#include <memory>
#include <pthread.h>
#include <sys/resource.h>
#include <system_error>
#include <thread>

#include "inject.hpp"
#include "support.hpp"

using namespace descent;
using namespace std::chrono_literals;

namespace {

/// What the threads of a test share.
struct Shared {
  std::atomic<int> gets = 0, running = 0, at_once = 0;
  std::atomic<int64_t> highest = -1;  // example
  std::atomic<int64_t> broken = -1;   // the example that throws
};

/// Examples whose x, [3], follows from the example and the epoch, and takes a while to get.
struct Slow {
  int64_t examples;
  std::chrono::microseconds pause{0};
  std::shared_ptr<Shared> shared = std::make_shared<Shared>();
  int64_t size() const { return examples; }
  data::Example get(int64_t i, int64_t epoch) const {
    const int running = ++shared->running;
    if (running > shared->at_once) shared->at_once = running;
    ++shared->gets;
    if (i > shared->highest) shared->highest = i;
    std::this_thread::sleep_for(pause);
    --shared->running;
    if (i == shared->broken) throw std::runtime_error("the disk is gone");
    Generator generator = data::example_generator(5, epoch, i);
    return {randn({3}, float32, generator), tensor(i)};
  }
};

/// The batches of one epoch. In place of those that throw, nothing, and the loop is over.
std::vector<Tensor> epoch(data::DataLoader& loader, std::string* error = nullptr) {
  std::vector<Tensor> all;
  try {
    for (auto [x, y] : loader) all.push_back(x), all.push_back(y);
  } catch (const std::exception& e) {
    REQUIRE(error != nullptr);
    *error = e.what();
  }
  return all;
}

bool same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  bool equal = a.size() == b.size();
  for (std::size_t i = 0; equal && i < a.size(); ++i) equal = same_bits(a[i], b[i]);
  return equal;
}

constexpr int worker_numbers[] = {1, 2, 8};

/// A number that the system tells about this process, such as "Threads" or "VmSize" (in KiB).
std::size_t status(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;)
    if (std::size_t number = 0; word == name + ":" && file >> number) return number;
  return 0;
}

}  // namespace

TEST_CASE("the batches have the same bits in the same order with any number of workers") {
  for (const bool shuffle : {false, true})
    for (const int64_t n : {1, 7, 40}) {
      data::LoaderOptions options{.batch_size = 4, .shuffle = shuffle, .seed = 3};
      data::DataLoader alone(Slow{n}, options);
      const std::vector<Tensor> first = epoch(alone), second = epoch(alone);
      CHECK_FALSE(same(first, second));  // another epoch, other examples
      for (const int workers : worker_numbers) {
        CAPTURE(workers);
        options.workers = workers;
        data::DataLoader loader(Slow{n, 100us}, options);
        CHECK(same(epoch(loader), first));
        CHECK(same(epoch(loader), second));
        CHECK(loader.state().epoch == 2);
        CHECK(loader.state().batch == 0);
      }
    }
}

TEST_CASE("a dataset of tensors has workers too") {
  const data::TensorDataset dataset(noise({10, 2}, 1), arange(10));
  for (const bool shuffle : {false, true}) {
    data::DataLoader alone(dataset, {.batch_size = 3, .shuffle = shuffle});
    data::DataLoader loader(dataset, {.batch_size = 3, .shuffle = shuffle, .workers = 2});
    CHECK(same(epoch(loader), epoch(alone)));
  }
}

TEST_CASE("workers read two batches each ahead of the loop, and no more") {
  const Slow dataset{100};
  data::DataLoader loader(dataset, {.batch_size = 2, .workers = 2});
  int64_t taken = 0;
  for (const data::Batch& batch : loader) {
    taken += batch.size();
    if (taken > 10) break;
    // All that they may read is read after a while, and then it stays so.
    while (dataset.shared->gets < taken + 8) std::this_thread::yield();
    std::this_thread::sleep_for(5ms);
    CHECK(dataset.shared->gets == taken + 8);
  }
  CHECK(dataset.shared->at_once <= 2);
}

TEST_CASE("the position counts what the loop has taken, not what was read ahead") {
  const Slow dataset{20};
  data::DataLoader whole(dataset, {.batch_size = 2, .shuffle = true});
  const std::vector<Tensor> want = epoch(whole);
  for (const int workers : worker_numbers)
    for (const int64_t n : {1, 3, 9, 10}) {
      CAPTURE(n);
      data::DataLoader loader(dataset, {.batch_size = 2, .shuffle = true, .workers = workers});
      std::vector<Tensor> got;
      int64_t taken = 0;
      for (auto [x, y] : loader) {
        got.push_back(x), got.push_back(y);
        std::this_thread::sleep_for(1ms);
        CHECK(loader.state().batch == taken + 1);
        if (++taken == n) break;
      }
      CHECK(loader.state().epoch == 0);
      data::DataLoader resumed(dataset, {.batch_size = 2, .shuffle = true, .workers = workers});
      resumed.load_state_dict(loader.state_dict());
      if (n < 10)
        for (const Tensor& x : epoch(resumed)) got.push_back(x);
      CHECK(same(got, want));
    }
}

TEST_CASE("an exception of the dataset arrives in the place of its batch") {
  for (const int64_t broken : {0, 7, 19}) {
    const Slow dataset{20};
    dataset.shared->broken = broken;
    data::DataLoader alone(dataset, {.batch_size = 2});
    std::string message;
    const std::vector<Tensor> want = epoch(alone, &message);
    CHECK(want.size() == static_cast<std::size_t>(broken / 2 * 2));
    CHECK(message == "the disk is gone");
    for (const int workers : worker_numbers) {
      CAPTURE(workers);
      data::DataLoader loader(dataset, {.batch_size = 2, .workers = workers});
      message.clear();
      CHECK(same(epoch(loader, &message), want));
      CHECK(message == "the disk is gone");
      CHECK(loader.state().epoch == alone.state().epoch);
      CHECK(loader.state().batch == alone.state().batch);
      // Continued where it failed, and then the loop that follows, as without workers.
      dataset.shared->broken = -1;
      loader.load_state_dict(loader.state_dict());
      data::DataLoader rest(dataset, {.batch_size = 2});
      rest.load_state_dict(alone.state_dict());
      CHECK(same(epoch(loader), epoch(rest)));
      CHECK(same(epoch(loader), epoch(rest)));
      dataset.shared->broken = broken;
    }
  }
}

TEST_CASE("a loop by hand may go on after an exception, repeat a batch, skip some, copy itself") {
  for (const int workers : {0, 1, 2, 8}) {
    CAPTURE(workers);
    const Slow dataset{40};
    data::DataLoader alone(dataset, {.batch_size = 2});
    const std::vector<Tensor> want = epoch(alone);
    dataset.shared->broken = 5;
    data::DataLoader loader(dataset, {.batch_size = 2, .workers = workers});
    auto it = loader.begin();
    CHECK(same_bits((*it).x, want[0]));
    CHECK(same_bits((*it).x, want[0]));  // again
    ++it, ++it;
    CHECK_THROWS_AS(*it, std::runtime_error);
    CHECK(loader.state().batch == 1);
    dataset.shared->broken = -1;
    CHECK(same_bits((*it).x, want[4]));  // tried again
    auto copy = it;
    for (int k = 0; k < 12; ++k) ++it;  // more than are read ahead by few workers
    CHECK(same_bits((*it).x, want[28]));
    CHECK(loader.state().batch == 15);
    CHECK(same_bits((*copy).x, want[4]));
    auto moved = std::move(it);
    ++moved;
    CHECK(same_bits((*moved).x, want[30]));
    for (; moved != loader.end(); ++moved) *moved;
    CHECK(refusal<Error>([&] { *moved; }) != kNothingThrown);  // there is none
  }
}

TEST_CASE("a loop that ends early waits for no more than the examples in progress") {
  const std::size_t before = status("Threads");
  for (const int workers : {1, 2, 8})
    for (const int n : {0, 1, 3}) {
      const Slow dataset{1000, 2ms};
      data::DataLoader loader(dataset, {.batch_size = 2, .workers = workers});
      const auto leave = [&](bool by_exception) {
        int taken = 0;
        if (n == 0) {
          loader.begin();
          return;
        }
        for (auto [x, y] : loader)
          if (++taken == n && by_exception) throw 1;
          else if (taken == n) break;
      };
      leave(false);
      CHECK(status("Threads") == before);
      const int gets = dataset.shared->gets;
      CHECK(gets <= 2 * (n + 2 * workers));
      CHECK(dataset.shared->running == 0);
      if (n > 0) CHECK_THROWS_AS(leave(true), int);
      CHECK(status("Threads") == before);
    }
}

TEST_CASE("a loop may outlive its loader's dataset and the batches their loop") {
  std::vector<Tensor> kept;
  {
    data::DataLoader loader(Slow{6}, {.batch_size = 2, .workers = 2});
    for (auto [x, y] : loader) kept.push_back(x);
  }
  CHECK(kept.size() == 3);
  auto loader =
      std::make_unique<data::DataLoader>(Slow{100, 1ms}, data::LoaderOptions{.workers = 3});
  auto it = loader->begin();
  loader.reset();  // its threads are still at work
}

TEST_CASE("workers record operations if the loop's thread does") {
  struct Scaled {
    Tensor weight;
    int64_t size() const { return 4; }
    data::Example get(int64_t i) const { return {weight * 2.0, tensor(i)}; }
  };
  const Tensor weight = ones({2}).requires_grad_();
  for (const int workers : {0, 1, 2}) {
    data::DataLoader loader(Scaled{weight}, {.batch_size = 2, .workers = workers});
    for (auto [x, y] : loader) {
      CHECK(x.requires_grad());
      weight.zero_grad();
      x.sum().backward();
      CHECK(values(weight.grad()) == Values{4, 4});
    }
    const NoGradGuard none;
    for (auto [x, y] : loader) CHECK_FALSE(x.requires_grad());
  }
}

TEST_CASE("an error in a worker names the line that made the loader") {
  for (const int workers : {0, 2}) {
    struct Ragged {
      int64_t size() const { return 4; }
      data::Example get(int64_t i) const { return {zeros({i}), tensor(i)}; }
    };
    data::DataLoader loader(Ragged{}, {.batch_size = 2, .workers = workers});
    const std::string line = std::to_string(__LINE__ - 1);
    CHECK(full_refusal<ShapeError>([&] {
            for (auto [x, y] : loader) CHECK(x.defined());
          }).ends_with("(test_loader.cpp:" + line + ")"));
  }
}

TEST_CASE("the operations of workers leave the pool's threads to the loop") {
  const NumThreads two(2);
  struct Large {
    std::shared_ptr<std::atomic<int>> tiles = std::make_shared<std::atomic<int>>(0);
    int64_t size() const { return 8; }
    data::Example get(int64_t i) const {
      parallel_for(32, [&](int64_t) { ++*tiles; });
      return {tensor(i), tensor(i)};
    }
  };
  for (const int workers : {0, 2}) {
    const Large dataset;
    data::DataLoader loader(dataset, {.batch_size = 2, .workers = workers});
    detail::reset_pool_stats();
    for (auto [x, y] : loader) CHECK(x.size(0) == 2);
    CHECK(*dataset.tiles == 8 * 32);
    CHECK(detail::pool_stats().jobs == (workers == 0 ? 8 : 0));
  }
}

TEST_CASE("memory that runs out in a worker arrives at the loop, and the next loop is whole") {
  struct Huge {
    std::shared_ptr<std::atomic<bool>> huge = std::make_shared<std::atomic<bool>>(true);
    int64_t size() const { return 6; }
    data::Example get(int64_t i) const {
      if (i == 3 && *huge) throw std::bad_alloc();
      return {tensor(i), tensor(i)};
    }
  };
  const Huge dataset;
  data::DataLoader loader(dataset, {.workers = 2});
  int taken = 0;
  CHECK_THROWS_AS(
      [&] {
        for (auto [x, y] : loader) ++taken;
      }(),
      std::bad_alloc);
  CHECK(taken == 3);
  *dataset.huge = false;
  CHECK(epoch(loader).size() == 12);
}

TEST_CASE("where the system refuses threads, the loop does the work") {
  if (kAddressSanitizer || kThreadSanitizer) {
    MESSAGE("a sanitizer needs the addresses that this test takes away");
    return;
  }
  data::DataLoader loader(Slow{20}, {.batch_size = 2, .workers = 4});
  data::DataLoader alone(Slow{20}, {.batch_size = 2});
  // Stacks larger than all addresses that are left.
  pthread_attr_t small, large;
  REQUIRE(::pthread_getattr_default_np(&small) == 0);
  REQUIRE(::pthread_getattr_default_np(&large) == 0);
  REQUIRE(::pthread_attr_setstacksize(&large, std::size_t{4} << 30) == 0);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_AS, &before) == 0);
  const rlimit less{status("VmSize") * 1024 + (1 << 30), before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_AS, &less) == 0);
  REQUIRE(::pthread_setattr_default_np(&large) == 0);
  bool refused = false, equal = false;
  try {
    std::thread([] {}).join();
  } catch (const std::system_error&) { refused = true; }
  equal = same(epoch(loader), epoch(alone));
  ::setrlimit(RLIMIT_AS, &before);
  ::pthread_setattr_default_np(&small);
  CHECK(refused);
  CHECK(equal);
}

TEST_CASE("where memory runs out in the loop, no thread is left and the position is right") {
  const data::LoaderOptions options{.batch_size = 2, .shuffle = true, .workers = 2};
  const Slow dataset{8};
  data::DataLoader whole(dataset, options);
  const std::vector<Tensor> want = epoch(whole);
  const inject::Watch watch;  // the tensors' memory as well
  const auto before = status("Threads");
  int64_t k = 1;
  for (bool more = true; more; ++k) {
    CAPTURE(k);
    data::DataLoader loader(dataset, options);
    std::vector<Tensor> got(want.size());
    std::size_t n = 0;
    more = inject::fails(k, [&] {
             for (auto [x, y] : loader) got[n++] = x, got[n++] = y;
           }) != 0;
    CHECK(status("Threads") == before);
    CHECK(loader.state().epoch == (n == want.size()));
    CHECK(loader.state().batch == static_cast<int64_t>(n / 2 % 4));
    loader.load_state_dict(loader.state_dict());
    if (n < want.size())
      for (const Tensor& x : epoch(loader)) got[n++] = x;
    CHECK(same(got, want));
  }
  CHECK(k > 10);
}

TEST_CASE("a number of workers out of range is refused") {
  for (const int workers : {-1, 257})
    CHECK(refusal<ValueError>([&] { data::DataLoader(Slow{3}, {.workers = workers}); }) ==
          "DataLoader: workers " + std::to_string(workers) + ": need 0 to 256");
}
