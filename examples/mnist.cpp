// Handwritten digits: a small network learns to read them from 60,000 examples.
#include <chrono>
#include <memory>

#include "saving.hpp"

using namespace descent;

struct Net : nn::Module {
  nn::Linear fc1 = register_module("fc1", nn::Linear(784, 128));
  nn::Linear fc2 = register_module("fc2", nn::Linear(128, 10));
  Tensor forward(const In& x) const override { return fc2(relu(fc1(flatten(x, 1)))); }
};

/// Its two convolutions find strokes and corners anywhere in the image.
struct Cnn : nn::Module {
  nn::Conv2d conv1 = register_module("conv1", nn::Conv2d(1, 32, 3));
  nn::Conv2d conv2 = register_module("conv2", nn::Conv2d(32, 64, 3));
  nn::Dropout dropout1 = register_module("dropout1", nn::Dropout(0.25));
  nn::Linear fc1 = register_module("fc1", nn::Linear(64 * 12 * 12, 128));
  nn::Dropout dropout2 = register_module("dropout2", nn::Dropout(0.5));
  nn::Linear fc2 = register_module("fc2", nn::Linear(128, 10));
  Tensor forward(const In& x) const override {
    Tensor h = max_pool2d(relu(conv2(relu(conv1(x)))), 2);
    return fc2(dropout2(relu(fc1(flatten(dropout1(h), 1)))));
  }
};

/// The share of a dataset that the model classifies correctly, in batches of a thousand.
static double test(nn::Module& net, const data::TensorDataset& dataset) {
  nn::EvalGuard eval(net);
  NoGradGuard no_grad;
  double right = 0;
  data::DataLoader loader(dataset, {.batch_size = 1000});
  for (const data::Batch& batch : loader)
    right += nn::accuracy(net(batch.x), batch.y) * static_cast<double>(batch.size());
  return right / static_cast<double>(dataset.size());
}

static void train(const Options& options) {
  const data::Mnist digits = data::mnist(options.data);
  if (digits.train.x().numel() != digits.train.size() * 784)
    throw FormatError(options.data + " has images of another size: need 28 by 28");
  // The pixels get mean 0 and standard deviation 1, both measured on the training set.
  const Tensor mean = digits.train.x().mean(), deviation = sqrt(var(digits.train.x()));
  auto normalize = [&](const data::TensorDataset& set) {
    return data::TensorDataset((set.x() - mean) / deviation, set.y());
  };
  const data::TensorDataset train_set = normalize(digits.train);
  const data::TensorDataset test_set = normalize(digits.test);
  const auto model = options.model == "cnn" ? std::unique_ptr<nn::Module>(new Cnn)
                                            : std::unique_ptr<nn::Module>(new Net);
  nn::Module& net = *model;
  if (!options.quiet) {
    std::printf("read %s: %ld training and %ld test images\n\n", digits.name.c_str(),
                train_set.size(), test_set.size());
    std::printf("%s\n", nn::summary(net, {1, 1, 28, 28}).c_str());
  }

  optim::Adam opt(net.named_parameters(), {.lr = options.lr});
  optim::Scheduler schedule(opt, optim::schedule::exponential(0.7));
  data::DataLoader loader(
      train_set, {.batch_size = options.batch_size, .shuffle = true, .seed = options.seed});
  int64_t epoch = 0, step = 0;
  double total = 0;  // of the losses of this epoch
  Checkpoint run(options.checkpoint, net, opt, schedule, loader);
  run.add("epoch", epoch);
  run.add("step", step);
  run.add("total", total);
  Saving saving(options, run);
  Log log(options);

  const int64_t first = epoch;
  double accuracy = epoch < options.epochs ? 0 : test(net, test_set);
  std::chrono::duration<double> training{};
  while (epoch < options.epochs) {
    const auto start = std::chrono::steady_clock::now();
    const std::string title =
        "epoch " + std::to_string(epoch + 1) + "/" + std::to_string(options.epochs);
    optim::Progress bar(loader.size(), title, options.progress_options());
    bar.update(loader.state().batch);
    for (auto [x, y] : loader) {
      opt.zero_grad();
      Tensor output = net(x);
      Tensor loss = nn::cross_entropy(output, y);
      loss.backward();
      opt.step();
      total += loss.item();
      bar.postfix("loss", loss.item());
      bar.update();
      if (++step % 50 == 0) log.scalars(step, {{"loss/train", loss.item()}, {"lr", opt.lr()}});
      saving.after_step();
    }
    bar.close();
    schedule.step();
    training += std::chrono::steady_clock::now() - start;
    if (!std::isfinite(total)) throw NumericError("the loss is not finite: a smaller --lr?");
    accuracy = test(net, test_set);
    ++epoch;
    if (!options.quiet)
      std::printf("epoch %ld: training loss %.4f, test accuracy %.2f %%\n", epoch,
                  total / static_cast<double>(loader.size()), 100 * accuracy);
    log.scalars(step, {{"accuracy/test", accuracy}});
    log.histograms(step, net.named_parameters());
    total = 0;
    saving.save();
  }
  if (!options.export_to.empty()) save(options.export_to, net.state_dict());

  const int64_t trained = std::max<int64_t>(1, epoch - first);
  int64_t parameters = 0;
  for (const Tensor& p : net.parameters()) parameters += p.numel();
  std::printf(
      "mnist: data=%s model=%s test_accuracy=%.2f epochs=%ld seconds_per_epoch=%.2f "
      "parameters=%ld\n",
      digits.name.c_str(), options.model.c_str(), 100 * accuracy, options.epochs,
      training.count() / static_cast<double>(trained), parameters);
}

int main(int argc, char** argv) {
  return run_example(
      argc, argv, "mnist", "Trains a network on handwritten digits.",
      {.data = DESCENT_DATA "/mnist", .model = "mlp", .models = {"mlp", "cnn"}, .trains = true},
      train);
}
