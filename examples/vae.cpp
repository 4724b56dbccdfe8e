// A variational autoencoder learns to write digits, and writes a picture of a hundred new ones.
#include "saving.hpp"

using namespace descent;

constexpr int64_t kLatent = 20, kPixels = 784;

/// Kingma & Welling 2014 (arXiv:1312.6114), with 400 hidden units on each side.
struct Vae : nn::ModuleOf<std::tuple<Tensor, Tensor, Tensor>(const In&)> {
  nn::Linear fc1 = register_module("fc1", nn::Linear(kPixels, 400));
  nn::Linear mean = register_module("mean", nn::Linear(400, kLatent));
  nn::Linear log_variance = register_module("log_variance", nn::Linear(400, kLatent));
  nn::Linear fc3 = register_module("fc3", nn::Linear(kLatent, 400));
  nn::Linear fc4 = register_module("fc4", nn::Linear(400, kPixels));

  /// The logit of each pixel.
  Tensor decode(const In& z) const { return fc4(relu(fc3(z))); }
  /// Logits, mean and logarithm of the variance. The noise enters as a factor, so that the gradient
  /// reaches both.
  std::tuple<Tensor, Tensor, Tensor> forward(const In& x) const override {
    const Tensor h = relu(fc1(x)), mu = mean(h), s = log_variance(h);
    return {decode(mu + exp(0.5 * s) * randn(mu.shape())), mu, s};
  }
};

/// The negative evidence lower bound, per image: what the picture costs given z, and the
/// Kullback-Leibler divergence of q(z | x) from N(0, 1), appendix B.
static Tensor negative_elbo(const std::tuple<Tensor, Tensor, Tensor>& output, const Tensor& x) {
  const auto& [logits, mu, s] = output;
  const Tensor reconstruction =
      nn::binary_cross_entropy_with_logits(logits, x, {.reduction = Reduction::sum});
  return (reconstruction - 0.5 * sum(1 + s - square(mu) - exp(s))) / x.size(0);
}

/// Writes images [100, 784] of numbers in [0, 1] as a square of ten by ten, in the format PGM.
static void write_picture(const std::string& path, const Tensor& images) {
  const Tensor square = images.reshape({10, 10, 28, 28}).permute({0, 2, 1, 3});
  std::vector<unsigned char> pixels;
  for (float v : square.to_vector<float>())
    pixels.push_back(static_cast<unsigned char>(std::lround(255 * v)));
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (!file) throw IoError("cannot write " + path);
  std::fprintf(file, "P5\n280 280\n255\n");
  const bool written = std::fwrite(pixels.data(), 1, pixels.size(), file) == pixels.size();
  if (std::fclose(file) != 0 || !written) throw IoError("cannot write " + path);
}

static void train(const Options& options) {
  const data::Mnist digits = data::mnist(options.data);
  const Tensor test = digits.test.x().reshape({-1, kPixels});
  Vae net;
  optim::Adam opt(net.named_parameters(), {.lr = options.lr});
  data::DataLoader loader(
      digits.train, {.batch_size = options.batch_size, .shuffle = true, .seed = options.seed});
  auto test_loss = [&] {
    NoGradGuard no_grad;
    return negative_elbo(net(test), test).item();
  };
  int64_t epoch = 0;
  Checkpoint run(options.checkpoint, net, opt, loader);
  run.add("epoch", epoch);
  Saving saving(options, run);
  Log log(options);
  while (epoch < options.epochs) {
    nn::RunningMean mean;
    for (auto [images, label] : loader) {
      opt.zero_grad();
      Tensor x = images.reshape({-1, kPixels});
      Tensor loss = negative_elbo(net(x), x);
      loss.backward();
      opt.step();
      mean.add(loss.item(), static_cast<double>(x.size(0)));
      saving.after_step();
    }
    ++epoch;
    const double tested = test_loss();
    if (!options.quiet)
      std::printf("epoch %ld: -ELBO %.2f nats per image, on the test set %.2f\n", epoch, mean.mean,
                  tested);
    log.scalars(epoch, {{"loss/train", mean.mean}, {"loss/test", tested}});
    saving.save();
  }
  if (!options.export_to.empty()) save(options.export_to, net.state_dict());

  NoGradGuard no_grad;
  write_picture("vae.pgm", sigmoid(net.decode(randn({100, kLatent}))));
  std::printf("vae: data=%s test_loss=%.2f epochs=%ld picture=vae.pgm\n", digits.name.c_str(),
              test_loss(), options.epochs);
}

int main(int argc, char** argv) {
  return run_example(
      argc, argv, "vae", "Learns to write digits.",
      {.data = DESCENT_DATA "/mnist", .epochs = 5, .batch_size = 128, .trains = true}, train);
}
