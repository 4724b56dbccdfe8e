// The workload `loader`: what reading ahead is worth. A network is trained on batches that are in
// memory, and on the same batches where getting one takes half as long as a step: because it waits,
// as for a disk, or because it computes, as a decoder does.
#include <chrono>
#include <ctime>
#include <thread>

#include "bench.hpp"

namespace bench { namespace {

constexpr int64_t kExamples = 96;
constexpr int kSteps = 16;

double cpu_time(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// One batch of images, kSteps times; before each it waits or computes for some seconds.
struct Images {
  Tensor x = randn({kExamples, 3, 32, 32}), y = randint(0, 10, {kExamples});
  double wait = 0, compute = 0;
  int64_t size() const { return kSteps * kExamples; }
  data::Example get(int64_t i) const {
    return {x.select(0, i % kExamples), y.select(0, i % kExamples)};
  }
  data::Batch batch(const Tensor&) const {
    if (wait > 0) std::this_thread::sleep_for(std::chrono::duration<double>(wait));
    const double end = cpu_time(CLOCK_THREAD_CPUTIME_ID) + compute;
    while (compute > 0 && cpu_time(CLOCK_THREAD_CPUTIME_ID) < end) continue;
    return {x, y};
  }
};

struct Time {
  double wall, cpu;  // seconds per step
};

void loader(Run& run) {
  const nn::Sequential net{nn::Conv2d(3, 64, 3, {.padding = 1}),
                           relu,
                           nn::MaxPool2d(2),
                           nn::Conv2d(64, 128, 3, {.padding = 1}),
                           relu,
                           nn::MaxPool2d(2),
                           nn::Flatten(),
                           nn::Linear(128 * 8 * 8, 10)};
  optim::SGD opt(net.named_parameters(), {.lr = 1e-3});
  const auto time = [&](const Images& images, int workers) {
    data::DataLoader batches(images, {.batch_size = kExamples, .workers = workers});
    Time best{1e9, 1e9};
    run.best([&] {
      const double start = now(), cpu = cpu_time(CLOCK_PROCESS_CPUTIME_ID);
      for (const auto& [x, y] : batches) {
        opt.zero_grad();
        nn::cross_entropy(net(x), y).backward();
        opt.step();
      }
      const Time t{(now() - start) / kSteps, (cpu_time(CLOCK_PROCESS_CPUTIME_ID) - cpu) / kSteps};
      if (t.wall < best.wall) best = t;
      return t.wall;
    });
    return best;
  };
  Images images;
  const Time memory = time(images, 0);
  run.first_step_done();
  run.report("memory_ms/step", memory.wall * 1e3);
  run.report("memory_cpu_ms/step", memory.cpu * 1e3);
  for (const bool computes : {false, true}) {
    (computes ? images.compute : images.wait) = memory.wall / 2;
    (computes ? images.wait : images.compute) = 0;
    // At best: the time of the step alone, or all processors at work all the time.
    const double ideal = computes
                             ? std::max(memory.wall, (memory.cpu + images.compute) / num_threads())
                             : memory.wall;
    const std::string name = computes ? "compute" : "wait";
    run.report(name + "_ideal_ms/step", ideal * 1e3);
    for (const int workers : {0, 1, 2}) {
      const double wall = time(images, workers).wall;
      run.report(name + "_ms/step@" + std::to_string(workers) + "_workers", wall * 1e3);
      run.report(name + "_of_ideal@" + std::to_string(workers) + "_workers", wall / ideal);
    }
  }
  run.report("peak_MB", measure::peak_memory());
}

const Register registered("loader", loader);

}  // namespace
}  // namespace bench
