#include "files.hpp"
#include "inject.hpp"

// A step, a save or a load that finds no memory has changed nothing, and the next attempt is right.

using namespace descent;

namespace {

struct Run {
  explicit Run(const std::string& path)
      : checkpoint(path, net, opt, schedule, window, average, loader) {
    opt.group("2.*").weight_decay = 0.1;
    checkpoint.add("step", step);
  }
  void train(const data::Batch& batch) {
    window.backward(nn::mse_loss(net(batch.x), batch.y), batch.size());
    average.update();
  }
  NamedTensors state() {
    return join({net.state_dict(),
                 opt.state_dict(),
                 schedule.state_dict(),
                 window.state_dict(),
                 average.state_dict(),
                 loader.state_dict(),
                 {{"step", tensor(step)}}});
  }
  nn::Sequential net{nn::Linear(3, 4), nn::Linear(4, 4), nn::Linear(4, 1)};
  optim::Adam opt{net.named_parameters(), {.lr = 0.01}};
  optim::Scheduler schedule{opt, optim::schedule::exponential(0.9)};
  optim::Accumulate window{opt, 2};
  optim::WeightAverage average{net.named_parameters()};
  data::DataLoader loader{data::TensorDataset(noise({8, 3}, 1), noise({8, 1}, 2)),
                          {.batch_size = 2, .shuffle = true}};
  int64_t step = 3;
  Checkpoint checkpoint;
};

}  // namespace

TEST_CASE("a save that finds no memory leaves the file and the run as they were") {
  const NumThreads one(1);
  const Folder folder("memory");
  const std::string path = (folder.path / "run.safetensors").string();
  Run run(path);
  for (const data::Batch& batch : run.loader) run.train(batch);
  run.checkpoint.save();
  const std::string before = content_of(path);
  run.step = 4;
  const NamedTensors state = run.state();
  const inject::Watch watch;
  int64_t injected = 0;
  for (int64_t k = 1, failed; (failed = inject::fails(k, [&] { run.checkpoint.save(); })) != 0;
       ++k) {
    ++injected;
    if (failed < 0) continue;  // it got along without
    REQUIRE(content_of(path) == before);
    REQUIRE(same_bits(run.state(), state));
  }
  CHECK(content_of(path) != before);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
  Run other(path);
  other.checkpoint.resume();
  CHECK(same_bits(other.state(), state));
  std::printf("injected: %ld allocations of a save failed\n", static_cast<long>(injected));
}

TEST_CASE("a load that finds no memory has changed nothing") {
  const NumThreads one(1);
  const Folder folder("memory");
  const std::string path = (folder.path / "run.safetensors").string();
  Run run(path);
  for (const data::Batch& batch : run.loader) {
    run.train(batch);
    if (run.loader.state().batch == 3) break;  // in the middle of a window
  }
  run.checkpoint.save();
  const NamedTensors saved = run.state();
  Run other(path);
  const data::Batch first = *other.loader.begin();
  other.train(first);
  const NamedTensors before = other.state();
  const inject::Watch watch;
  int64_t injected = 0;
  for (int64_t k = 1, failed; (failed = inject::fails(k, [&] { other.checkpoint.resume(); })) != 0;
       ++k) {
    ++injected;
    if (failed > 0) REQUIRE(same_bits(other.state(), before));
  }
  CHECK(same_bits(other.state(), saved));
  std::printf("injected: %ld allocations of a load failed\n", static_cast<long>(injected));
}

TEST_CASE("a step that finds no memory has changed nothing") {
  const NumThreads one(1);
  Run run("");
  const data::Batch batch = *run.loader.begin();
  run.train(batch);
  const NamedTensors before = run.state();
  const inject::Watch watch;
  int64_t injected = 0;
  for (int64_t k = 1, failed;
       (failed = inject::fails(
            k, [&] { run.window.backward(nn::mse_loss(run.net(batch.x), batch.y), 2); })) != 0;
       ++k) {
    ++injected;
    if (failed > 0) REQUIRE(same_bits(run.state(), before));
  }
  CHECK(run.opt.steps() == 1);
  std::printf("injected: %ld allocations of a step failed\n", static_cast<long>(injected));
}
