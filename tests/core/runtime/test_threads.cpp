#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <sched.h>
#include <signal.h>
#include <stdexcept>
#include <sys/wait.h>
#include <thread>

#include "support.hpp"

using namespace descent;
using namespace std::chrono_literals;

namespace {

// ThreadSanitizer cannot follow threads that start in the child of a fork.
constexpr int jobs = kThreadSanitizer ? 10'000 : 100'000;

/// The exit code of a child process that runs f, or minus the signal that ended it.
template <class F> int in_child(F f) {
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(120);
    _exit(f());
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// The sum of 0 .. n - 1, one tile each.
int64_t sum_below(int64_t n) {
  std::vector<int64_t> parts(static_cast<std::size_t>(n));
  parallel_for(n, [&](int64_t t) { parts[static_cast<std::size_t>(t)] = t; });
  int64_t sum = 0;
  for (int64_t part : parts) sum += part;
  return sum;
}

/// A tile function that returns only when `threads` threads are in it at once.
struct Meeting {
  int threads;
  std::atomic<int> here = 0;
  void operator()(int64_t) {
    ++here;
    const auto end = std::chrono::steady_clock::now() + 120s;
    while (here < threads && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  }
};

std::size_t threads_of_process() {
  std::size_t n = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task"))
    n += task.exists();
  return n;
}

/// Whether one of the skipped cases below, run in a fresh process, ends with verdict(true).
bool fresh_process(const std::string& environment, const std::string& name) {
  const auto self = std::filesystem::read_symlink("/proc/self/exe").string();
  const auto command = environment + " '" + self + "' --no-skip -tc='" + name + "' > /dev/null";
  const int status = std::system(command.c_str());
  return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}
void verdict(bool good) { std::exit(good ? 42 : 1); }

/// Exits in the midst of a job; a signal ends the process if it hangs.
void exit_from(bool worker) {
  alarm(120);
  set_num_threads(2);
  const auto caller = std::this_thread::get_id();
  Meeting meeting{2};
  parallel_for(2, [&](int64_t t) {
    meeting(t);
    if ((std::this_thread::get_id() != caller) == worker) verdict(true);
    while (true) std::this_thread::sleep_for(1s);
  });
}

}  // namespace

TEST_CASE("each tile runs exactly once, whatever the number of threads") {
  for (int threads : {1, 2, 3, 8}) {
    NumThreads guard(threads);
    for (int64_t tiles : {0, 1, 2, 3, 7, 31, 32, 33, 127, 128, 129, 1000, 100'003}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tiles));
      parallel_for(tiles, [&](int64_t t) { ++runs.at(static_cast<std::size_t>(t)); });
      int64_t once = 0;
      for (auto& n : runs) once += n == 1;
      CHECK(once == tiles);
    }
  }
  parallel_for(-3, [](int64_t) { FAIL("no tile is below -3"); });
}

TEST_CASE("a sum over tiles has the same bits for 1, 2, 3 and 8 threads") {
  auto sum = [](int threads) {
    NumThreads guard(threads);
    std::vector<double> parts(64);
    parallel_for(64, [&](int64_t t) {
      double part = 0;
      for (int i = 0; i < 1000; ++i) part += std::sin(static_cast<double>(t * 1000 + i));
      parts[static_cast<std::size_t>(t)] = part;
    });
    double total = 0;
    for (double part : parts) total += part;
    return total;
  };
  const double serial = sum(1);
  for (int threads : {2, 3, 8}) CHECK(sum(threads) == serial);
}

TEST_CASE("no tile is lost over many small jobs") {
  NumThreads guard(3);
  int64_t wrong = 0;
  for (int i = 0; i < jobs; ++i) {
    const int64_t tiles = 2 + i % 9;
    wrong += sum_below(tiles) != tiles * (tiles - 1) / 2;
  }
  CHECK(wrong == 0);
}

TEST_CASE("workers take part, and the statistics say so") {
  NumThreads guard(3);
  detail::reset_pool_stats();
  parallel_for(3, Meeting{3});
  parallel_for(3, Meeting{3});
  parallel_for(1, [](int64_t) {});
  const auto stats = detail::pool_stats();
  CHECK(stats.jobs == 2);
  CHECK(stats.tiles == 6);
  CHECK(stats.participants == 3);
  detail::reset_pool_stats();
  CHECK(detail::pool_stats().participants == 0);
}

TEST_CASE("the caller gets the exception of the lowest tile that throws, and the pool lives on") {
  for (int threads : {1, 2, 4}) {
    NumThreads guard(threads);
    for (int64_t k = 0; k < 40; ++k) {
      std::string message;
      try {
        parallel_for(40, [&](int64_t t) {
          if (t >= k && (t - k) % 3 == 0) throw std::runtime_error("tile " + std::to_string(t));
        });
      } catch (const std::runtime_error& e) { message = e.what(); }
      CHECK(message == "tile " + std::to_string(k));
      CHECK(sum_below(50) == 1225);
    }
  }
}

TEST_CASE("which exception the caller gets does not depend on which is thrown first") {
  NumThreads guard(2);
  // 32 chunks of two tiles: tiles 0 and 2 meet on two threads.
  auto thrown = [](auto first, auto third) {
    Meeting meeting{2};
    try {
      parallel_for(64, [&](int64_t t) {
        if (t == 0 || t == 2) meeting(t);
        if (t == 0) first();
        if (t == 2) third();
        if (t == 1) throw 1;
      });
    } catch (int tile) { return tile; }
    return -1;
  };
  auto wait = [] { std::this_thread::sleep_for(50ms); };
  CHECK(thrown(wait, [] { throw 2; }) == 1);
  CHECK(thrown([] { throw 0; }, [&] { wait(), throw 2; }) == 0);
}

TEST_CASE("nested calls run on the thread that makes them") {
  NumThreads guard(4);
  std::atomic<int> calls = 0, elsewhere = 0;
  parallel_for(8, [&](int64_t) {
    const auto me = std::this_thread::get_id();
    parallel_for(8, [&](int64_t) {
      ++calls;
      elsewhere += std::this_thread::get_id() != me;
    });
  });
  CHECK(calls == 64);
  CHECK(elsewhere == 0);
}

TEST_CASE("under a SerialGuard a thread calls all tiles itself, in order") {
  NumThreads guard(3);
  const auto order = [] {
    std::vector<int64_t> tiles;
    parallel_for(100, [&](int64_t t) { tiles.push_back(t); });
    return tiles;
  };
  const SerialGuard outer;
  {
    const SerialGuard inner;
    CHECK(order().size() == 100);
  }
  detail::reset_pool_stats();
  const std::vector<int64_t> tiles = order();
  CHECK(std::is_sorted(tiles.begin(), tiles.end()));
  CHECK(tiles.size() == 100);
  CHECK(detail::pool_stats().jobs == 0);
  std::thread([] {  // others share their loops
    detail::reset_pool_stats();
    CHECK(sum_below(100) == 4950);
    CHECK(detail::pool_stats().jobs == 1);
  })
      .join();
}

TEST_CASE("several threads may call at once") {
  NumThreads guard(3);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < jobs / 100; ++i) wrong += sum_below(20) != 190;
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("a caller does not wait for another caller's job") {
  NumThreads guard(2);
  std::atomic<bool> inside = false, done = false;
  std::thread other([&] {
    parallel_for(2, [&](int64_t) {
      inside = true;
      while (!done) std::this_thread::yield();
    });
  });
  while (!inside) std::this_thread::yield();
  CHECK(sum_below(100) == 4950);
  done = true;
  other.join();
}

TEST_CASE("set_num_threads takes 1 to 256 and works between jobs, from tiles and from threads") {
  NumThreads guard(2);
  for (int n : {0, -1, 257})
    CHECK(refusal<ValueError>([&] { set_num_threads(n); }) ==
          "set_num_threads: " + std::to_string(n) + ": need 1 to 256");
  CHECK(num_threads() == 2);
  for (int round = 0; round < 20; ++round) {
    for (int n : {1, 4, 2, 5}) {
      set_num_threads(n);
      CHECK(num_threads() == n);
      detail::reset_pool_stats();
      parallel_for(n, Meeting{n});
      CHECK(detail::pool_stats().participants == (n == 1 ? 0 : n));
      parallel_for(8, [&](int64_t t) { set_num_threads(static_cast<int>(t % 4) + 1); });
      CHECK(sum_below(100) == 4950);
    }
  }
  set_num_threads(256);
  CHECK(sum_below(1000) == 499'500);
}

TEST_CASE("a process forked after the pool was used can use it") {
  NumThreads guard(3);
  parallel_for(3, Meeting{3});
  auto child = [] {
    detail::reset_pool_stats();
    if (!kThreadSanitizer) parallel_for(3, Meeting{3});
    const bool all = kThreadSanitizer || detail::pool_stats().participants == 3;
    set_num_threads(kThreadSanitizer ? 1 : 2);
    return sum_below(100) == 4950 && all ? 0 : 1;
  };
  for (int i = 0; i < 10; ++i) CHECK(in_child(child) == 0);
  CHECK(sum_below(100) == 4950);
}

TEST_CASE("a process forked by one thread while another uses the pool can use it") {
  NumThreads guard(3);
  std::atomic<bool> stop = false;
  std::thread busy([&] {
    while (!stop) sum_below(50);
  });
  for (int i = 0; i < 50; ++i) {
    CHECK(in_child([] {
            if (kThreadSanitizer) set_num_threads(1);
            return sum_below(100) == 4950 ? 0 : 1;
          }) == 0);
  }
  stop = true;
  busy.join();
}

TEST_CASE("a process forked inside a tile can use the pool but cannot finish the section") {
  NumThreads guard(3);
  std::atomic<int> wrong = 0;
  parallel_for(6, [&](int64_t) {
    wrong += in_child([] {
      if (kThreadSanitizer) set_num_threads(1);
      return sum_below(100) != 4950;
    });
  });
  CHECK(wrong == 0);

  set_num_threads(2);
  const pid_t parent = getpid();
  const auto caller = std::this_thread::get_id();
  std::atomic<int> children = 0;
  Meeting meeting{2};  // so that the worker holds a tile while the caller forks
  try {
    parallel_for(2, [&](int64_t t) {
      meeting(t);
      if (std::this_thread::get_id() != caller) return;
      const pid_t pid = fork();
      if (pid == 0) {
        alarm(120);
        return;
      }
      int status = 0;
      waitpid(pid, &status, 0);
      children += WIFEXITED(status) && WEXITSTATUS(status) == 3;
    });
  } catch (const Error& e) {
    if (getpid() != parent)
      _exit(std::string(e.what()).find("forked") == std::string::npos ? 4 : 3);
    throw;
  }
  if (getpid() != parent) _exit(5);
  CHECK(children == 1);
  CHECK(sum_below(100) == 4950);
}

TEST_CASE("exit from a worker, and from the caller while workers are busy, does not hang") {
  CHECK(fresh_process("", "fresh: a worker exits"));
  CHECK(fresh_process("", "fresh: the caller exits"));
}

TEST_CASE("workers leave signals to the program's own threads, faults excepted") {
  NumThreads guard(2);
  const auto caller = std::this_thread::get_id();
  std::atomic<int> right = 0;
  Meeting meeting{2};
  parallel_for(2, [&](int64_t t) {
    meeting(t);
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    const bool worker = std::this_thread::get_id() != caller;
    right += sigismember(&blocked, SIGINT) == worker && sigismember(&blocked, SIGTERM) == worker &&
             !sigismember(&blocked, SIGSEGV);
  });
  CHECK(right == 2);
}

TEST_CASE("DESCENT_NUM_THREADS sets the number of threads, or is refused") {
  CHECK(fresh_process("DESCENT_NUM_THREADS=3", "fresh: three threads"));
  CHECK(fresh_process("DESCENT_NUM_THREADS=", "fresh: a thread per CPU"));
  CHECK(fresh_process("unset DESCENT_NUM_THREADS;", "fresh: a thread per CPU"));
  CHECK(fresh_process("unset DESCENT_NUM_THREADS;", "fresh: one CPU"));
  for (std::string bad : {"0", "257", "-1", "2x", "two", "' 2'", "99999999999"}) {
    CHECK_MESSAGE(fresh_process("DESCENT_NUM_THREADS=" + bad, "fresh: a refused value"), bad);
  }
}

TEST_CASE("no thread starts before it is needed") {
  CHECK(fresh_process("", "fresh: no threads at first"));
}

TEST_SUITE("run in a process of their own" * doctest::skip()) {
  TEST_CASE("fresh: three threads") { verdict(num_threads() == 3); }

  TEST_CASE("fresh: a thread per CPU") {
    verdict(num_threads() == static_cast<int>(std::thread::hardware_concurrency()));
  }

  TEST_CASE("fresh: one CPU") {
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    verdict(sched_setaffinity(0, sizeof here, &here) == 0 && num_threads() == 1);
  }

  TEST_CASE("fresh: a refused value") {
    bool refused = false;
    try {
      sum_below(9);
    } catch (const ValueError& e) {
      refused = std::string(e.what()).find("need 1 to 256") != std::string::npos;
    }
    set_num_threads(2);
    verdict(refused && sum_below(9) == 36);
  }

  TEST_CASE("fresh: no threads at first") {
    const auto before = threads_of_process();
    set_num_threads(4);
    parallel_for(1, [](int64_t) {});
    const auto idle = threads_of_process();
    parallel_for(2, [](int64_t) {});
    verdict(idle == before && threads_of_process() >= before + 3);
  }

  TEST_CASE("fresh: a worker exits") { exit_from(true); }

  TEST_CASE("fresh: the caller exits") { exit_from(false); }
}
