// A small transformer learns to continue a text, character by character.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "options.hpp"
using namespace descent;

constexpr int64_t kContext = 64, kWidth = 128, kHeads = 4, kLayers = 3, kSteps = 100;

/// A file; or of a folder the texts *.md and *.hpp in it, in the order of their paths.
static std::string read_text(const std::string& path) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  if (!fs::exists(path)) throw IoError("there is no " + path);
  if (!fs::is_directory(path)) files.emplace_back(path);
  else
    for (auto i = fs::recursive_directory_iterator(path); i != fs::end(i); ++i) {
      const std::string name = i->path().filename(), kind = i->path().extension();
      if (name == "build" || name == "tests" || name[0] == '.') i.disable_recursion_pending();
      else if (kind == ".md" || kind == ".hpp") files.push_back(i->path());
    }
  std::ostringstream text;
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) text << std::ifstream(file).rdbuf();
  return text.str();
}

/// Learned positions, blocks with the norms in front, and the logits of the next character.
struct Net : nn::Module {
  explicit Net(int64_t characters)
      : words(register_module("words", nn::Embedding(characters, kWidth))),
        head(register_module("head", nn::Linear(kWidth, characters))) {}
  nn::Embedding words;
  nn::Embedding places = register_module("places", nn::Embedding(kContext, kWidth));
  nn::TransformerEncoder blocks = register_module(
      "blocks", nn::TransformerEncoder(
                    kLayers, kWidth, kHeads,
                    {.dim_feedforward = 4 * kWidth, .batch_first = true, .norm_first = true}));
  nn::LayerNorm norm = register_module("norm", nn::LayerNorm(kWidth));
  nn::Linear head;
  Tensor forward(const In& x) const override {
    const Tensor h = words(x) + places.weight.narrow(0, 0, x.size(1));
    return head(norm(blocks(h, {.causal = true})));
  }
};

/// The cross-entropy, in nats per character, of windows of `codes` that begin at `starts`.
static Tensor loss_of(const Net& net, const Tensor& codes, const Tensor& starts) {
  const Tensor window = index(codes, starts.unsqueeze(1) + arange(kContext + 1)),
               output = net(window.narrow(1, 0, kContext));
  return nn::cross_entropy(flatten(output, 0, 1), flatten(window.narrow(1, 1, kContext)));
}

/// The same of a model that counts pairs of characters, and adds a tenth to each count.
static double bigram_loss(const Tensor& seen, const Tensor& codes, int64_t n) {
  auto pairs = [n](const Tensor& x) { return slice(x, 0, 0, -1) * n + slice(x, 0, 1); };
  const Tensor counts = bincount(pairs(seen), n * n).to(float64).reshape({n, n}) + 0.1;
  return -index(log(counts / counts.sum(1, true)).reshape({n * n}), pairs(codes)).mean().item();
}

/// The text, continued by `length` characters that are drawn as the network predicts them.
static Tensor go_on(const Net& net, Tensor text, int64_t length) {
  for (int64_t i = 0; i < length; ++i) {
    const Tensor context = slice(text, 0, -kContext).unsqueeze(0);
    const Tensor logits = net(context)[0][context.size(1) - 1] / 0.7;
    // The largest logit, with the noise of Gumbel added, is a sample of their softmax.
    text = cat({text, argmax(logits - log(-log(rand(logits.shape())))).reshape({1})});
  }
  return text;
}

static void train(const Options& options) {
  const std::string text = read_text(options.data);
  const Unique known = unique(tensor(std::vector<int64_t>(text.begin(), text.end())));
  const int64_t n = known.values.size(0), size = known.inverse.size(0), held = size / 10;
  const Tensor seen = known.inverse.narrow(0, 0, size - held),
               unseen = known.inverse.narrow(0, size - held, held);
  const double bigrams = bigram_loss(seen, unseen, n);
  Net net(n);
  optim::AdamW opt(net.named_parameters(), {.lr = options.lr});
  optim::Scheduler schedule(
      opt, optim::schedule::warmup(kSteps) * optim::schedule::cosine(options.epochs * kSteps));
  auto test = [&] {
    nn::EvalGuard eval(net);
    NoGradGuard no_grad;
    return loss_of(net, unseen, arange(0, held - kContext - 1, kContext)).item();
  };
  if (!options.quiet) std::printf("%ld characters, %ld different; pairs: %.3f\n", size, n, bigrams);
  for (int64_t epoch = 1; epoch <= options.epochs; ++epoch) {
    nn::RunningMean mean;
    for (int64_t step = 0; step < kSteps; ++step) {
      opt.zero_grad();
      Tensor loss = loss_of(net, seen, randint(0, seen.size(0) - kContext, {options.batch_size}));
      loss.backward();
      opt.step();
      schedule.step();
      mean.add(loss.item());
    }
    if (!options.quiet)
      std::printf("%5ld steps: training loss %.3f, of the last tenth %.3f\n", epoch * kSteps,
                  mean.mean, test());
  }
  nn::EvalGuard eval(net);
  NoGradGuard no_grad;
  if (!options.quiet) {
    const Tensor words = index(known.values, go_on(net, unseen.narrow(0, 0, kContext), 400));
    for (int64_t c : words.to_vector<int64_t>()) std::putchar(int(c));
    std::puts("\n");
  }
  std::printf("char_lm: characters=%ld test_loss=%.3f bigram_loss=%.3f steps=%ld\n", size, test(),
              bigrams, options.epochs * kSteps);
}

int main(int argc, char** argv) {
  return run_example(argc, argv, "char_lm", "Continues a text.",
                     {.data = DESCENT_DATA "/../..", .epochs = 25, .batch_size = 32, .lr = 2e-3},
                     train);
}
