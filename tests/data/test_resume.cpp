#include "files.hpp"

// A run that is saved after any step and resumed by fresh objects ends with the same file, byte for
// byte, as one that was not interrupted.

using namespace descent;

namespace {

constexpr int64_t kSteps = 40;
constexpr int kSplits = 100;

data::TensorDataset points(int64_t n, const Shape& shape) {
  Shape all{n};
  for (const int64_t size : shape) all.push_back(size);
  Generator generator(3);
  return {noise(all, 2), randint(0, 3, {n}, generator)};
}

/// What all configurations have.
struct Run {
  explicit Run(const std::string& path) : checkpoint(path) { checkpoint.add("step", step); }
  int64_t step = 0;
  Checkpoint checkpoint;
};

void take_step(const nn::Module& net, optim::OptimizerBase& opt, const data::Batch& batch) {
  opt.zero_grad();
  nn::cross_entropy(net(batch.x), batch.y).backward();
  opt.step();
}

/// A perceptron, Adam and groups, batches of 4 with a smaller last one.
struct Perceptron : Run {
  explicit Perceptron(const std::string& path) : Run(path) {
    opt.group("*.bias").weight_decay = 0.1;
    opt.group("0.*").lr = 0.05;
    opt.set_lr_multiplier("2.weight", 0.5);
    checkpoint.add("net", net), checkpoint.add("opt", opt), checkpoint.add("loader", loader);
  }
  void train(const data::Batch& batch) { take_step(net, opt, batch); }
  void end_epoch() {}
  nn::Sequential net{nn::Linear(5, 8), [](const In& x) { return tanh(x); }, nn::Linear(8, 3)};
  optim::Adam opt{net.named_parameters(), {.lr = 0.01}};
  data::DataLoader loader{points(22, {5}), {.batch_size = 4, .shuffle = true, .seed = 9}};
};

/// A convolution, momentum and a schedule that steps after each epoch.
struct Convolution : Run {
  explicit Convolution(const std::string& path) : Run(path) {
    checkpoint.add("net", net), checkpoint.add("opt", opt), checkpoint.add("loader", loader);
    checkpoint.add("schedule", schedule);
  }
  void train(const data::Batch& batch) { take_step(net, opt, batch); }
  void end_epoch() { schedule.step(); }
  nn::Sequential net{nn::Conv2d(1, 4, 3), [](const In& x) { return relu(x); }, nn::MaxPool2d(2),
                     nn::Flatten(), nn::Linear(16, 3)};
  optim::SGD opt{net.named_parameters(), {.lr = 0.1, .momentum = 0.9, .nesterov = true}};
  optim::Scheduler schedule{opt, optim::schedule::warmup(2) * optim::schedule::exponential(0.9)};
  data::DataLoader loader{points(14, {1, 6, 6}), {.batch_size = 4, .shuffle = true, .seed = 4}};
};

/// h = tanh(x_t U + h V) over time, with dropout.
struct Recurrent : nn::Module {
  nn::Linear input = register_module("input", nn::Linear(2, 6));
  nn::Linear hidden = register_module("hidden", nn::Linear(6, 6));
  nn::Linear output = register_module("output", nn::Linear(6, 3));
  nn::Dropout dropout = register_module("dropout", nn::Dropout(0.3));
  Tensor forward(const In& x) const override {  // x [N, T, D]
    Tensor h = zeros({x.size(0), 6});
    for (int64_t t = 0; t < x.size(1); ++t) h = dropout(tanh(input(x.select(1, t)) + hidden(h)));
    return output(h);
  }
};
/// It, with windows of three micro-batches that the end of an epoch closes.
struct Sequence : Run {
  explicit Sequence(const std::string& path) : Run(path) {
    checkpoint.add("net", net), checkpoint.add("opt", opt), checkpoint.add("loader", loader);
    checkpoint.add("window", window);
  }
  void train(const data::Batch& batch) {
    window.backward(nn::cross_entropy(net(batch.x), batch.y), batch.size());
  }
  void end_epoch() { window.flush(); }
  Recurrent net;
  optim::RMSprop opt{net.named_parameters(), {.lr = 0.01, .momentum = 0.5}};
  optim::Accumulate window{opt, 3};
  data::DataLoader loader{points(15, {4, 2}), {.batch_size = 2, .shuffle = true, .seed = 1}};
};

/// Examples with noise that differs from epoch to epoch.
auto augmented_points() {
  return data::augment(
      points(13, {5}),
      [](data::Example e, Generator& generator) {
        return data::Example{e.x + randn(e.x.shape(), float32, generator) * 0.1, e.y};
      },
      8);
}
/// Averaged weights, examples that are augmented and computed ahead.
struct Averaged : Run {
  explicit Averaged(const std::string& path) : Run(path) {
    checkpoint.add("net", net), checkpoint.add("opt", opt), checkpoint.add("loader", loader);
    checkpoint.add("average", average);
  }
  void train(const data::Batch& batch) {
    take_step(net, opt, batch);
    average.update();
  }
  void end_epoch() {}
  nn::Linear net{5, 3};
  optim::Adam opt{net.named_parameters(), {.lr = 0.01}};
  optim::WeightAverage average{net.named_parameters(), {.decay = 0.9}};
  data::DataLoader loader{augmented_points(),
                          {.batch_size = 3, .shuffle = true, .seed = 2, .workers = 2}};
};

/// Goes on to step `stop` from what the file has, as a new process would, and saves.
template <class Configuration> void train_to(const std::string& path, int64_t stop) {
  Configuration run(path);
  run.checkpoint.resume();
  while (run.step < stop) {
    for (const data::Batch& batch : run.loader) {
      run.train(batch);
      if (++run.step == stop) break;
    }
    if (run.step < stop) run.end_epoch();
  }
  run.checkpoint.save();
}

template <class Configuration> void check_resume(const std::string& name) {
  CAPTURE(name);
  const Folder folder("resume-" + name);
  const std::string whole = (folder.path / "whole.safetensors").string(),
                    parts = (folder.path / "parts.safetensors").string();
  manual_seed(5);
  train_to<Configuration>(whole, kSteps);
  const std::string expected = content_of(whole);
  Generator generator(6);
  int different = 0;
  for (int split = 0; split < kSplits; ++split) {
    const NumThreads threads(1 + split % 3);
    std::filesystem::remove(parts);
    manual_seed(5);
    int64_t stop = 0;
    do {  // one stop or several
      stop += 1 + static_cast<int64_t>(generator.bounded(kSteps - static_cast<uint64_t>(stop)));
      train_to<Configuration>(parts, stop);
      manual_seed(generator.next());  // a new process would not know the state of this one
    } while (stop < kSteps);
    different += content_of(parts) != expected;
  }
  CHECK(different == 0);
  std::printf("resumed: %d runs of %s at random steps\n", kSplits, name.c_str());
}

}  // namespace

TEST_CASE("a perceptron with Adam and groups resumes to the byte") {
  check_resume<Perceptron>("Perceptron");
}
TEST_CASE("a convolution with momentum and a schedule resumes to the byte") {
  check_resume<Convolution>("Convolution");
}
TEST_CASE("a recurrent net with dropout and accumulation resumes to the byte") {
  check_resume<Sequence>("Sequence");
}
TEST_CASE("an average with augmented examples that are computed ahead resumes to the byte") {
  check_resume<Averaged>("Averaged");
}
