// Few examples: a network that has learned to read digits learns another question about them.
#include <memory>

#include "saving.hpp"

using namespace descent;

/// The network of the example mnist; its head tells two kinds of digits from each other.
struct Net : nn::Module {
  nn::Linear fc1 = register_module("fc1", nn::Linear(784, 128));
  nn::Linear fc2 = register_module("fc2", nn::Linear(128, 2));
  Tensor forward(const In& x) const override { return fc2(relu(fc1(flatten(x, 1)))); }
};

/// Whether each digit is odd, for the first `count` images, whose pixels get mean 0 and standard
/// deviation 1.
static data::TensorDataset odd_or_even(const data::TensorDataset& set, int64_t count,
                                       const Tensor& mean, const Tensor& deviation) {
  const Tensor labels = set.y().narrow(0, 0, count);
  return {(set.x().narrow(0, 0, count) - mean) / deviation,
          index_select(tensor({0, 1, 0, 1, 0, 1, 0, 1, 0, 1}), 0, labels)};
}

/// Trains on the few examples; returns the share of the test set that is classified correctly.
static double fit(Net& net, const data::TensorDataset& few, const data::TensorDataset& test,
                  const Options& options) {
  optim::Adam opt(net.named_parameters(), {.lr = options.lr});
  data::DataLoader loader(
      few, {.batch_size = options.batch_size, .shuffle = true, .seed = options.seed});
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch)
    for (const auto& [x, y] : loader) {
      opt.zero_grad();
      nn::cross_entropy(net(x), y).backward();
      opt.step();
    }
  NoGradGuard no_grad;
  return nn::accuracy(net(test.x()), test.y());
}

static std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

static void train(const Options& options) {
  constexpr int64_t kFew = 200;
  const data::Mnist digits = data::mnist(options.data);
  if (digits.train.x().numel() != digits.train.size() * 784)
    throw FormatError(options.data + " has images of another size: need 28 by 28");
  const Tensor mean = digits.train.x().mean(), deviation = sqrt(var(digits.train.x()));
  const data::TensorDataset few = odd_or_even(digits.train, kFew, mean, deviation),
                            test = odd_or_even(digits.test, digits.test.size(), mean, deviation);

  Net scratch, net;
  // Everything but the head fits; what does not fit is named.
  const IncompatibleKeys left = net.load_state_dict(load(options.weights), {.strict = false});
  if (!left.missing.empty() || !left.unexpected.empty())
    throw FormatError(options.weights + " has the weights of another network: missing " +
                      list(left.missing) + "; unexpected " + list(left.unexpected));
  net.freeze("fc1.*");
  if (!options.quiet)
    std::printf("odd or even, from %ld examples; new: %s\n\n", kFew, list(left.mismatched).c_str());
  const double from_scratch = fit(scratch, few, test, options),
               tuned = fit(net, few, test, options);
  if (!options.export_to.empty()) save(options.export_to, net.state_dict());
  std::printf("finetune: data=%s examples=%ld test_accuracy=%.2f from_scratch=%.2f\n",
              digits.name.c_str(), kFew, 100 * tuned, 100 * from_scratch);
}

int main(int argc, char** argv) {
  return run_example(
      argc, argv, "finetune", "Gives a trained network a new head.",
      {.data = DESCENT_DATA "/mnist", .epochs = 30, .batch_size = 20, .takes_weights = true},
      train);
}
