#include <cmath>
#include <limits>

#include "files.hpp"

// Checkpoints: what is saved, what is refused, and that an error loses and changes nothing.

using namespace descent;

namespace {

struct Net : nn::Module {
  explicit Net(int64_t classes = 2) : head(register_module("head", nn::Linear(4, classes))) {}
  nn::Linear trunk = register_module("trunk", nn::Linear(3, 4));
  nn::Linear head;
  nn::Dropout dropout = register_module("dropout", nn::Dropout(0.5));
  Tensor forward(const In& x) const override { return head(dropout(tanh(trunk(x)))); }
};

/// A class of a user's own, which only names what it remembers.
struct Counter {
  int64_t calls = 0;
  template <class V> void visit(V& v) { v("Counter/calls", calls); }
};

data::TensorDataset ten_points() {
  return {noise({10, 3}, 1), tensor({0, 1, 0, 1, 1, 0, 1, 0, 0, 1})};
}

/// A whole run, every part of which changes in each step.
struct Run {
  explicit Run(const std::string& path, int64_t classes = 2)
      : net(classes), checkpoint(path, net, opt, schedule, average, loader, counter) {
    checkpoint.add("step", step);
    checkpoint.add("loss", loss);
    checkpoint.add("noise", generator);
  }
  void train(int steps) {
    while (steps > 0)
      for (const auto& [x, y] : loader) {
        opt.zero_grad();
        const Tensor l = nn::cross_entropy(net(x + randn(x.shape(), float32, generator)), y);
        l.backward();
        opt.step(), average.update(), schedule.step();
        loss += l.item();
        ++step, ++counter.calls;
        if (--steps == 0) break;
      }
  }
  NamedTensors state() {
    return join({net.state_dict(),
                 opt.state_dict(),
                 schedule.state_dict(),
                 average.state_dict(),
                 loader.state_dict(),
                 generator.state_dict(),
                 default_generator().state_dict(),
                 saved_state(counter),
                 {{"step", tensor(step)}, {"loss", tensor(loss, float64)}}});
  }

  Net net;
  optim::Adam opt{net.named_parameters(), {.lr = 0.01}};
  optim::Scheduler schedule{opt, optim::schedule::exponential(0.5)};
  optim::WeightAverage average{net.named_parameters()};
  data::DataLoader loader{ten_points(), {.batch_size = 3, .shuffle = true, .seed = 5}};
  Generator generator{7};
  Counter counter;
  int64_t step = 0;
  double loss = 0;
  Checkpoint checkpoint;
};

std::string path_in(const Folder& folder, const std::string& name = "run.safetensors") {
  return (folder.path / name).string();
}

/// What resuming says.
std::string complaint_of(Run& run) {
  std::string text = "nothing was thrown";
  const NamedTensors before = run.state();
  try {
    run.checkpoint.resume();
  } catch (const Error& e) { text = e.what(); }
  CHECK(same_bits(run.state(), before));
  return text.substr(0, text.rfind(" ("));
}

/// Saves the file of `path` again, after a change.
template <class F> void rewrite(const std::string& path, F change) {
  data::SafeTensors all = load(path);
  change(all);
  save(path, all, {.metadata = all.metadata});
}

}  // namespace

TEST_CASE("a checkpoint has everything in a run that changes") {
  const Folder folder("checkpoint");
  manual_seed(1);
  Run first(path_in(folder));
  CHECK_FALSE(first.checkpoint.resume());
  first.train(7);
  first.checkpoint.save();
  const NamedTensors saved = first.state();
  manual_seed(99);
  Run second(path_in(folder));
  second.train(2);
  const data::Resumed resumed = second.checkpoint.resume();
  CHECK(resumed.found);
  CHECK(resumed.exact);
  CHECK(same_bits(second.state(), saved));
  // Others find the weights under the names of the model.
  const data::SafeTensors all = load(path_in(folder));
  CHECK(all.verified);
  Net other;
  const IncompatibleKeys rest = other.load_state_dict(all, {.strict = false});
  CHECK(rest.missing.empty());
  CHECK(same_bits(other.state_dict(), first.net.state_dict()));
  CHECK(all.metadata.at("descent.checkpoint") == "1");
  CHECK(all.metadata.at("descent.build").starts_with("descent " + version()));
}

TEST_CASE("what does not fit is listed for all parts in one message, and changes nothing") {
  const Folder folder("checkpoint");
  const std::string path = path_in(folder);
  Run first(path);
  first.train(2);
  first.checkpoint.save();
  rewrite(path, [](data::SafeTensors& all) {
    std::erase_if(all, [](const auto& entry) {
      return entry.first == "trunk.bias" || entry.first == "Scheduler/step";
    });
    for (auto& [name, tensor] : all) {
      if (name == "head.bias") tensor = zeros({3});
      if (name == "WeightAverage/head.bias/average") tensor = tensor.to(float64);
      if (name == "Counter/calls") name = "Other/calls";
    }
  });
  Run second(path);
  CHECK(complaint_of(second) ==
        "Checkpoint: " + path +
            " does not fit this run:\n"
            "  Other/calls is unexpected\n"
            "load_state_dict: the state does not fit Net:\n"
            "  trunk.bias is missing\n"
            "  head.bias is float32 [2] here and float32 [3] there\n\n"
            "load_state_dict: the state does not fit Scheduler:\n"
            "  Scheduler/step is missing\n\n"
            "load_state_dict: the state does not fit this average:\n"
            "  WeightAverage/head.bias/average is float32 [2] here and float64 [2] there\n\n"
            "load_state_dict: the state does not fit this run:\n"
            "  Counter/calls is missing\n");
  // A model with another head takes the rest, and what was left is named.
  const NamedTensors before = second.state();
  const data::Resumed resumed = second.checkpoint.resume({.strict = false});
  CHECK(resumed.left_out.missing == std::vector<std::string>{"trunk.bias"});
  CHECK(resumed.left_out.unexpected == std::vector<std::string>{"Other/calls"});
  CHECK(resumed.left_out.mismatched ==
        std::vector<std::string>{"head.bias", "Scheduler/", "WeightAverage/", "Counter/"});
  CHECK(same_bits(second.opt.state_dict(), first.opt.state_dict()));
  CHECK(same_bits(second.net.trunk.weight, first.net.trunk.weight));
  CHECK(second.counter.calls == 0);
}

TEST_CASE("files that are no checkpoints, or of a newer format, are refused") {
  const Folder folder("checkpoint");
  const std::string path = path_in(folder);
  Run run(path);
  run.checkpoint.save();
  const std::string good = content_of(path);
  rewrite(path, [](data::SafeTensors& all) { all.metadata["descent.checkpoint"] = "2"; });
  CHECK(complaint_of(run) ==
        "Checkpoint: " + path + ": byte 8: format 2: this version reads format 1");
  rewrite(path, [](data::SafeTensors& all) { all.metadata.erase("descent.checkpoint"); });
  CHECK(complaint_of(run) == "Checkpoint: " + path + ": byte 8: this is no checkpoint");
  save(path, run.net.state_dict(), {.checksums = false});
  CHECK(complaint_of(run) == "Checkpoint: " + path + ": byte 8: this is no checkpoint");
  for (const std::size_t n : {std::size_t{0}, std::size_t{7}, good.size() / 2, good.size() - 1}) {
    folder.write("run.safetensors", good.substr(0, n));
    CHECK(complaint_of(run).starts_with("load: " + path + ": byte "));
  }
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  CHECK(complaint_of(run) == "load: cannot read " + path + ": it is not a regular file");
}

TEST_CASE("another build or other kernels are reported") {
  const Folder folder("checkpoint");
  const std::string path = path_in(folder);
  Run run(path);
  run.checkpoint.save();
  rewrite(path, [](data::SafeTensors& all) {
    all.metadata["descent.build"] = "descent 0.0.9\nBLAS kernels: Other\n";
  });
  data::Resumed resumed;
  const std::string said = standard_error([&] { resumed = run.checkpoint.resume(); });
  CHECK(resumed.found);
  CHECK_FALSE(resumed.exact);
  CHECK(said.starts_with("descent: Checkpoint: " + path +
                         " was saved by another build or on other kernels, so that what follows is "
                         "not bit-exact. There:\ndescent 0.0.9\nBLAS kernels: Other\nHere:\n"));
}

TEST_CASE("the files before and the best one are kept") {
  const Folder folder("checkpoint");
  int64_t step = 0;
  Checkpoint run(path_in(folder));
  run.add("step", step);
  const auto step_in = [&](const std::string& name) {
    int64_t found = -1;
    Checkpoint reader(path_in(folder, name));
    reader.add("step", found);
    reader.resume();
    return found;
  };
  run.keep_last(3);
  for (step = 1; step <= 5; ++step) run.save();
  CHECK(step_in("run.safetensors") == 5);
  CHECK(step_in("run.1.safetensors") == 4);
  CHECK(step_in("run.2.safetensors") == 3);
  CHECK(step_in("run.3.safetensors") == -1);
  const std::pair<double, bool> metrics[] = {{3, true},    {kNan, false}, {2, true},
                                             {2.5, false}, {2, false},    {-kInf, true}};
  step = 10;
  for (const auto& [metric, better] : metrics) {
    ++step;
    CHECK(run.keep_best(metric) == better);
    if (better) CHECK(step_in("run.best.safetensors") == step);
  }
  // The best metric is part of the run.
  run.save();
  Checkpoint resumed(path_in(folder));
  resumed.add("step", step);
  resumed.resume();
  CHECK_FALSE(resumed.keep_best(-1e300));
  Checkpoint accuracy(path_in(folder, "accuracy.safetensors"));
  CHECK(accuracy.keep_best(0.5, data::Better::higher));
  CHECK_FALSE(accuracy.keep_best(0.4, data::Better::higher));
  CHECK(accuracy.keep_best(0.6, data::Better::higher));
  int64_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path)) {
    (void)entry;
    ++files;
  }
  CHECK(files == 5);  // and nothing else is left behind
  CHECK(refusal<ValueError>([&] { run.keep_last(0); }) == "keep_last: 0 files: need 1 to 1000");
}

TEST_CASE("keeping files before touches nothing else, and follows links") {
  const Folder folder("checkpoint"), other("checkpoint-target");
  const std::string link = path_in(folder);
  std::filesystem::create_symlink(other.path / "real.safetensors", link);
  folder.write("run.before.safetensors", "a file of the user");
  int64_t step = 1;
  Checkpoint run(link);
  run.add("step", step);
  save((other.path / "real.safetensors").string(), {});  // the link leads somewhere
  run.save();
  run.keep_last(2);
  const std::string first = content_of(link);
  step = 2;
  run.save();
  CHECK(std::filesystem::is_symlink(link));
  CHECK(content_of(path_in(folder, "run.1.safetensors")) == first);
  CHECK(content_of(link) != first);
  CHECK(content_of(path_in(folder, "run.before.safetensors")) == "a file of the user");
  // A save that fails keeps no second name.
  Net a, b;
  Checkpoint two(link, a, b);
  two.keep_last(2);
  CHECK_THROWS_WITH_AS(two.save(), doctest::Contains("two parts have entries"), ValueError);
  CHECK(std::distance(std::filesystem::directory_iterator(other.path), {}) == 1);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 3);
}

TEST_CASE("a model that cannot be written in place is refused before another part is changed") {
  struct Expanded : nn::Module {
    Tensor buffer = register_buffer("buffer", zeros({1}).expand({3}));
    Tensor forward(const In& x) const override { return x; }
  } net;
  const Folder folder("checkpoint");
  int64_t step = 1;
  Checkpoint run(path_in(folder), net);
  run.add("step", step);
  run.save();
  step = 2;
  CHECK_THROWS_WITH_AS(run.resume(), doctest::Contains("an expanded tensor [3]"), ShapeError);
  CHECK(step == 2);
}

TEST_CASE("parts that would mix are refused") {
  const Folder folder("checkpoint");
  Net a, b;
  Generator mine;
  Checkpoint two(path_in(folder), a, b);
  CHECK(refusal<ValueError>([&] { two.save(); }) ==
        "Checkpoint: two parts have entries like \"trunk.weight\": add(\"NAME\", part) gives those "
        "of one a name in front");
  CHECK(refusal<ValueError>([&] { Checkpoint(path_in(folder), mine).save(); }) ==
        "Checkpoint: two parts have entries like \"Generator/seed\": add(\"NAME\", part) gives "
        "those of one a name in front");
  Checkpoint named(path_in(folder), a, default_generator());
  named.add("second", b);
  named.save();
  CHECK(named.resume());
  int64_t n = 0;
  for (const std::string name : {"second", "best"})
    CHECK(refusal<ValueError>([&] { named.add(name, n); }) ==
          "Checkpoint: add(\"" + name + "\"): this name is taken");
  for (const std::string name : {"", "a/b"})
    CHECK(refusal<ValueError>([&] { named.add(name, n); }) ==
          "Checkpoint: add(\"" + name + "\"): need a name without \"/\"");
}

TEST_CASE("a save that fails leaves the file before as it was") {
  const Folder folder("checkpoint");
  const std::string path = path_in(folder);
  int64_t step = 1;
  Checkpoint run(path);
  run.add("step", step);
  run.keep_last(2);
  run.save();
  const std::string good = content_of(path);
  step = -1;  // no count: the reader would refuse it
  run.save();
  CHECK(complaint_of(*std::make_unique<Run>(path)).find("step") != std::string::npos);
  std::filesystem::rename(path_in(folder, "run.1.safetensors"), path);
  CHECK(content_of(path) == good);
  Checkpoint nowhere(path_in(folder, "none/run.safetensors"));
  CHECK(refusal<IoError>([&] { nowhere.save(); }) == "save: cannot open " +
                                                         path_in(folder, "none/run.safetensors") +
                                                         ": No such file or directory");
  Checkpoint device("/dev/full");
  CHECK(refusal<IoError>([&] { device.save(); }) ==
        "save: cannot write /dev/full: it is not a regular file");
}

namespace {

/// The run that tests/golden/checkpoint/format1.safetensors was saved from.
struct Format1 {
  explicit Format1(const std::string& path)
      : checkpoint(path, net, opt, schedule, average, loader) {
    checkpoint.add("step", step);
    checkpoint.add("loss", loss);
  }
  nn::Linear net{3, 2};
  optim::Adam opt{net.named_parameters(), {.lr = 0.01}};
  optim::Scheduler schedule{opt, optim::schedule::exponential(0.5)};
  optim::WeightAverage average{net.named_parameters()};
  data::DataLoader loader{
      data::TensorDataset(arange(30).to(float32).reshape({10, 3}) / 30, arange(10)),
      {.batch_size = 3, .shuffle = true, .seed = 5}};
  int64_t step = 0;
  double loss = 0;
  Checkpoint checkpoint;
};
const std::string kGolden = DESCENT_ROOT "/tests/golden/checkpoint/format1.safetensors";

}  // namespace

TEST_CASE("a checkpoint of format 1 loads in this version") {
  Format1 run(kGolden);
  const std::string said = standard_error([&] { CHECK(run.checkpoint.resume()); });
  CHECK(run.step == 6);
  CHECK(run.loss == 0.49319696426391602);
  CHECK(run.opt.steps() == 6);
  CHECK(run.opt.lr_factor() == 1. / 64);
  CHECK(run.average.updates() == 6);
  CHECK(run.loader.state().epoch == 1);
  CHECK(run.loader.state().batch == 2);
  CHECK(static_cast<double>(run.opt.group("bias").weight_decay) == 0.1);
  CHECK(std::abs(run.net.weight.select(0, 0).select(0, 0).item() - 0.4689) < 1e-4);
}

TEST_CASE("no bit of a checkpoint can be lost unseen, and no part of it is taken for all") {
  const Folder folder("checkpoint");
  const std::string good = content_of(kGolden), path = path_in(folder);
  std::filesystem::copy(kGolden, path);
  const data::SafeTensors right = load(path);
  int64_t refused = 0, wrong = 0;
  const auto probe = [&](const std::string& content) {
    folder.write("run.safetensors", content);
    try {
      wrong += !same_bits(load(path), right);
    } catch (const FormatError&) { ++refused; }
  };
  const std::size_t stride = kAddressSanitizer || kThreadSanitizer ? 7 : 1;
  int64_t tried = 0;
  for (std::size_t i = 0; i < 8 * good.size(); i += stride, ++tried) {
    std::string content = good;
    content[i / 8] = static_cast<char>(content[i / 8] ^ 1 << i % 8);
    probe(content);
  }
  for (std::size_t n = 0; n < good.size(); n += stride, ++tried) probe(good.substr(0, n));
  CHECK(wrong == 0);
  CHECK(refused == tried);
  std::printf("damaged: %ld changes of a checkpoint of %zu bytes, all refused\n",
              static_cast<long>(tried), good.size());
}
