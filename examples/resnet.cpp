// A residual network with batch normalisation reads handwritten digits.
#include "saving.hpp"

using namespace descent;

/// Two convolutions beside a shortcut: He et al. 2016, section 3.3 (arXiv:1512.03385).
struct Block : nn::Module {
  Block(int64_t in, int64_t out, int64_t stride)
      : conv1(register_module(
            "conv1", nn::Conv2d(in, out, 3, {.stride = stride, .padding = 1, .bias = false}))),
        bn1(register_module("bn1", nn::BatchNorm2d(out))),
        conv2(register_module("conv2", nn::Conv2d(out, out, 3, {.padding = 1, .bias = false}))),
        bn2(register_module("bn2", nn::BatchNorm2d(out))),
        shortcut(register_module("shortcut", nn::Sequential())) {
    if (in != out)  // the shortcut takes on the new shape
      shortcut.push_back(nn::Conv2d(in, out, 1, {.stride = stride, .bias = false}))
          .push_back(nn::BatchNorm2d(out));
  }
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
  nn::Sequential shortcut;
  Tensor forward(const In& x) const override {
    return relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x));
  }
};

static double test(nn::Module& net, const data::TensorDataset& dataset) {
  nn::EvalGuard eval(net);
  NoGradGuard no_grad;
  nn::RunningMean accuracy;
  for (const data::Batch& batch : data::DataLoader(dataset, {.batch_size = 1000}))
    accuracy.add(nn::accuracy(net(batch.x), batch.y), static_cast<double>(batch.size()));
  return accuracy.mean;
}

static void train(const Options& options) {
  const data::Mnist digits = data::mnist(options.data);
  nn::Sequential net{nn::Conv2d(1, 16, 3, {.padding = 1, .bias = false}),
                     nn::BatchNorm2d(16),
                     relu,
                     Block(16, 16, 1),
                     Block(16, 32, 2),
                     Block(32, 64, 2),
                     nn::AdaptiveAvgPool2d(1),
                     nn::Flatten(),
                     nn::Linear(64, 10)};
  if (!options.quiet) std::printf("%s\n", nn::summary(net, {1, 1, 28, 28}).c_str());
  // Each image moves by up to two pixels, another way in each epoch.
  const auto moved = data::augment(digits.train, data::random_crop(28, 2), options.seed);
  data::DataLoader loader(
      moved, {.batch_size = options.batch_size, .shuffle = true, .seed = options.seed});
  optim::SGD opt(net.named_parameters(),
                 {.lr = options.lr, .momentum = 0.9, .weight_decay = 5e-4, .nesterov = true});
  optim::Scheduler schedule(opt, optim::schedule::cosine(options.epochs * loader.size()));
  int64_t epoch = 0;
  Checkpoint run(options.checkpoint, net, opt, schedule, loader);
  run.add("epoch", epoch);
  Saving saving(options, run);
  Log log(options);

  double accuracy = test(net, digits.test);
  while (epoch < options.epochs) {
    nn::RunningMean mean;
    optim::Progress bar(loader.size(), "epoch " + std::to_string(epoch + 1),
                        options.progress_options());
    bar.update(loader.state().batch);
    for (auto [x, y] : loader) {
      opt.zero_grad();
      Tensor output = net(x);
      Tensor loss = nn::cross_entropy(output, y);
      loss.backward();
      opt.step();
      schedule.step();
      mean.add(loss.item());
      bar.postfix("loss", loss.item());
      bar.update();
      saving.after_step();
    }
    bar.close();
    accuracy = test(net, digits.test);
    ++epoch;
    if (!options.quiet)
      std::printf("epoch %ld: training loss %.4f, test accuracy %.2f %%\n", epoch, mean.mean,
                  100 * accuracy);
    log.scalars(epoch, {{"loss/train", mean.mean}, {"accuracy/test", accuracy}});
    saving.save();
  }
  if (!options.export_to.empty()) save(options.export_to, net.state_dict());
  std::printf("resnet: data=%s test_accuracy=%.2f epochs=%ld\n", digits.name.c_str(),
              100 * accuracy, options.epochs);
}

int main(int argc, char** argv) {
  return run_example(
      argc, argv, "resnet", "Trains a residual network on handwritten digits.",
      {.data = DESCENT_DATA "/mnist", .epochs = 5, .batch_size = 128, .lr = 0.1, .trains = true},
      train);
}
