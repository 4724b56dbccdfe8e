// A straight line: w and b by gradient descent, against NIST's certified digits.
#include <cmath>

#include "options.hpp"

using namespace descent;

/// Norris, calibration of ozone monitors: y = B0 + B1 x. Certified values from NIST's Statistical
/// Reference Datasets.
constexpr double kB0 = -0.262323073774029, kB1 = 1.00211681802045;

struct Line {
  double b0, b1, loss;
  /// Correct decimal digits of the worse coefficient.
  double digits() const {
    auto correct = [](double x, double certified) {
      return x == certified ? 15 : -std::log10(std::abs(x - certified) / std::abs(certified));
    };
    const double worse = std::min(correct(b0, kB0), correct(b1, kB1));
    return std::isfinite(worse) ? std::clamp(worse, 0.0, 15.0) : 0;
  }
};

struct Run {
  const char* what;
  int64_t batch_size, epochs;
  double lr, decay;  // per epoch
};

/// y = w x + b on columns of mean 0 and deviation 1, from w = b = 0 by `step()` alone.
static Line fit(const Tensor& x, const Tensor& y, const Run& run, uint64_t seed) {
  const data::Standardizer sx(x), sy(y);
  Tensor w = zeros({}, float64).requires_grad_();
  Tensor b = zeros({}, float64).requires_grad_();

  optim::SGD opt({{"w", w}, {"b", b}}, {.lr = run.lr});
  optim::Scheduler schedule(opt, optim::exponential(run.decay));
  data::DataLoader loader(data::TensorDataset(sx(x), sy(y)),
                          {.batch_size = run.batch_size, .shuffle = true, .seed = seed});
  for (int64_t epoch = 0; epoch < run.epochs; ++epoch) {
    for (auto [u, v] : loader) {
      opt.zero_grad();
      Tensor prediction = w * u + b;
      Tensor loss = nn::mse_loss(prediction, v);
      loss.backward();
      opt.step();
    }
    schedule.step();
  }

  NoGradGuard no_grad;
  const double loss = nn::mse_loss(w * sx(x) + b, sy(y)).item();
  const double b1 = w.item() * sy.std.item() / sx.std.item();
  return {sy.mean.item() + sy.std.item() * b.item() - b1 * sx.mean.item(), b1, loss};
}

static void train(const Options& options) {
  const data::Csv table = data::read_csv(options.data + "/norris.csv");
  const Tensor x = table.column("x"), y = table.column("y");
  const Run chosen{"full batch", options.batch_size, options.epochs, options.lr, 1};
  const Run runs[] = {
      chosen,
      {"one example at a time", 1, 40, 0.02, 1},
      {"the same, decaying", 1, 400, 0.1, 0.95},
      {"mini-batches of 6", 6, 40, 0.1, 1},
      {"a rate too large", data::kFullBatch, 100, 1.05, 1},
      {"a rate too small", data::kFullBatch, 100, 0.0005, 1},
  };
  if (!options.quiet) {
    std::printf("read norris: %ld points\n\n", x.numel());
    std::printf("%-22s %7s %7s %12s %20s %18s %7s\n", "", "lr", "epochs", "loss", "B0", "B1",
                "digits");
    for (const Run& run : runs) {
      const Line line = fit(x, y, run, options.seed);
      std::printf("%-22s %7g %7ld %12.4g %20.13g %18.13g %7.1f\n", run.what, run.lr, run.epochs,
                  line.loss, line.b0, line.b1, line.digits());
    }
    std::printf("%-22s %7s %7s %12s %20.13g %18.13g\n\n", "NIST's certified", "", "", "", kB0, kB1);
    std::printf(
        "On these columns the loss is a round bowl, (w, b) with curvature 2 each way: a step "
        "goes\n(1 - 2 lr) of the way past the bottom, so 0 < lr < 1 converges and 0.5 lands at "
        "once. "
        "Single\nexamples pull in different directions: their noise stays unless the rate "
        "decays.\n\n");
  }
  const Line line = fit(x, y, chosen, options.seed);
  std::printf("regression: data=norris digits=%.1f b0=%.13g b1=%.13g epochs=%ld lr=%g\n",
              line.digits(), line.b0, line.b1, options.epochs, options.lr);
  if (line.digits() < 9)
    throw NumericError("fewer than 9 digits agree with NIST's: another --lr or more --epochs?");
}

int main(int argc, char** argv) {
  return run_example(argc, argv, "regression", "Fits a line to NIST's Norris data.",
                     {.data = DESCENT_DATA "/nist", .epochs = 200, .batch_size = 0, .lr = 0.1},
                     train);
}
