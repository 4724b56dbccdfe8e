// An LSTM foretells a chaotic series: it reads the past, and goes on from its own words.
#include <algorithm>

#include "options.hpp"

using namespace descent;

constexpr int64_t kTraining = 2000, kPast = 100, kFuture = 60;

/// n values, one unit of time apart, of Mackey and Glass (1977): x' = 0.2 x(t - 17) / (1 + x(t -
/// 17)^10) - 0.1 x, in steps of a tenth, around 0.
static Tensor mackey_glass(int64_t n) {
  constexpr std::size_t kPerUnit = 10, kDelay = 17 * kPerUnit, kUnits = 200;  // left out at first
  std::vector<double> x(kDelay + 1, 1.2);
  std::vector<float> series;
  for (std::size_t i = 0; std::ssize(series) < n; ++i) {
    const double now = x.back(), past = x[x.size() - 1 - kDelay];
    x.push_back(now + (0.2 * past / (1 + std::pow(past, 10)) - 0.1 * now) / kPerUnit);
    if (i >= kUnits * kPerUnit && i % kPerUnit == 0) series.push_back(float(now - 0.95));
  }
  return tensor(series);
}

struct Net : nn::Module {
  nn::LSTM lstm = register_module("lstm", nn::LSTM(1, 64, {.batch_first = true}));
  nn::Linear head = register_module("head", nn::Linear(64, 1));
  /// What comes next at each time of the series [N, T, 1].
  Tensor forward(const In& x) const override { return head(lstm(x).output); }

  /// The `count` values that follow the series [1, T, 1], each read again as if it had been seen.
  std::vector<double> go_on(const Tensor& series, int64_t count) const {
    std::vector<double> words;
    nn::RecurrentResult now = lstm(series);
    while (true) {
      const Tensor next = head(now.output.narrow(1, now.output.size(1) - 1, 1));
      words.push_back(next.item());
      if (std::ssize(words) == count) return words;
      now = lstm(next, {now.h, now.c});
    }
  }
};

/// The root of the mean square of the differences.
static double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

/// Times downwards; * is the series, o what was foretold.
static void draw(const std::vector<double>& truth, const std::vector<double>& foretold) {
  auto place = [](double x) {
    return static_cast<std::size_t>(std::clamp((x + 0.6) / 1.2 * 60, 0.0, 60.0));
  };
  for (std::size_t i = 0; i < truth.size(); i += 2) {
    std::string line(61, ' ');
    line[place(foretold[i])] = 'o';
    line[place(truth[i])] = '*';
    std::printf("%3zu %s\n", i + 1, line.c_str());
  }
}

static void train(const Options& options) {
  const Tensor series = mackey_glass(kTraining + kPast + kFuture);
  // Windows of the first part; the target is the same window one step later.
  const Tensor starts = arange(kTraining - kPast), steps = arange(kPast);
  const Tensor windows = index(series, starts.unsqueeze(1) + steps).unsqueeze(2),
               later = index(series, starts.unsqueeze(1) + (steps + 1)).unsqueeze(2);
  data::DataLoader loader(
      data::TensorDataset(windows, later),
      {.batch_size = options.batch_size, .shuffle = true, .seed = options.seed});
  Net net;
  optim::Adam opt(net.named_parameters(), {.lr = options.lr});
  optim::Scheduler schedule(opt, optim::schedule::cosine(options.epochs * loader.size()));
  for (int64_t epoch = 1; epoch <= options.epochs; ++epoch) {
    nn::RunningMean mean;
    for (auto [x, y] : loader) {
      opt.zero_grad();
      Tensor output = net(x);
      Tensor loss = nn::mse_loss(output, y);
      loss.backward();
      optim::clip_grad_norm(net.named_parameters(), 1);
      opt.step();
      schedule.step();
      mean.add(loss.item());
    }
    if (!options.quiet) std::printf("epoch %2ld: mean square of errors %.2e\n", epoch, mean.mean);
  }

  NoGradGuard no_grad;
  const Tensor past = series.narrow(0, kTraining, kPast).reshape({1, kPast, 1});
  const std::vector<double> truth =
      series.narrow(0, kTraining + kPast, kFuture).to_vector<double>();
  const std::vector<double> foretold = net.go_on(past, kFuture);
  const std::vector<double> last(truth.size(), past[0][kPast - 1].item());
  if (!options.quiet) draw(truth, foretold);
  std::printf("lstm: steps_ahead=%ld rms_error=%.4f of_the_last_value=%.4f epochs=%ld\n", kFuture,
              distance(foretold, truth), distance(last, truth), options.epochs);
}

int main(int argc, char** argv) {
  return run_example(argc, argv, "lstm", "Foretells a chaotic series.",
                     {.epochs = 15, .batch_size = 32, .lr = 5e-3}, train);
}
