// Your own layer, differentiable function and update rule, in a few lines each.
#include <numbers>

#include "saving.hpp"

using namespace descent;

/// log(cosh(x)) without overflow, with its derivative.
static Tensor log_cosh(const In& x) {
  auto formula = [](auto v) {
    const auto size = vmath::abs(v);
    return size + vmath::log1p(vmath::exp(-2 * size)) - decltype(v)(std::numbers::ln2);
  };
  return record("log_cosh", map("log_cosh", x, formula),
                wrt(x, [x = saved(x)](const Tensor& g) { return g * tanh(x); }));
}

/// log_cosh(x W^T + b), each output with a gain of its own.
struct LogCosh : nn::Module {
  LogCosh(int64_t in, int64_t out)
      : fc(register_module("fc", nn::Linear(in, out))),
        gain(register_parameter("gain", ones({out}))) {}
  nn::Linear fc;
  const Tensor gain;
  Tensor forward(const In& x) const override { return log_cosh(fc(x)) * gain; }
};

/// Signum: Bernstein et al. 2018, Algorithm 2 (arXiv:1802.04434).
template <class S = double> struct SignumRule {
  S lr = 1e-3, beta = 0.9;
  static constexpr auto name = "Signum";
  static constexpr optim::Names hyper{"lr", "beta"}, state{"m"};
  template <class T> void update(T& theta, T g, T& m, S) const {
    m = beta * m + (1 - beta) * g;
    theta -= lr * sign(m);
  }
};
using Signum = optim::Optimizer<SignumRule>;

static void train(const Options& options) {
  const Tensor at = randn({3, 4}, float64).requires_grad_();
  const GradcheckResult check =
      gradcheck([](const std::vector<Tensor>& in) { return log_cosh(in[0]); }, {at}, {.order = 2});
  if (!check) throw NumericError(check.message);

  const Tensor x = linspace(-3, 3, 256).reshape({256, 1}), y = sin(x * 2);
  nn::Sequential net{LogCosh(1, 32), LogCosh(32, 32), nn::Linear(32, 1)};
  Signum opt(net.named_parameters(), {.lr = options.lr});
  const optim::Schedule decay = optim::schedule::exponential(0.01, {.period = options.epochs});
  optim::Scheduler schedule(opt, decay);
  data::DataLoader loader(
      data::TensorDataset(x, y),
      {.batch_size = options.batch_size, .shuffle = true, .seed = options.seed});
  int64_t epoch = 0;
  Checkpoint run(options.checkpoint, net, opt, schedule, loader);
  double loss = 0;  // of the last batch
  run.add("epoch", epoch);
  run.add("loss", loss);
  Saving saving(options, run);
  Log log(options);
  for (; epoch < options.epochs; saving.save()) {
    for (auto [u, v] : loader) {
      opt.zero_grad();
      Tensor output = net(u);
      Tensor l = nn::mse_loss(output, v);
      l.backward();
      opt.step();
      loss = l.item();
      saving.after_step();
    }
    if (!std::isfinite(loss)) throw NumericError("the loss is not finite: a smaller --lr?");
    log.scalars(epoch, {{"loss", loss}, {"lr", opt.lr()}});
    schedule.step();
    ++epoch;
    if (!options.quiet && epoch % 50 == 0)
      std::printf("epoch %4ld: loss %.5f, lr %.2e\n", epoch, loss, opt.lr());
  }
  if (!options.export_to.empty()) save(options.export_to, net.state_dict());
  // A new optimizer continues from the state of the first one, takes one more step and explains it.
  Signum resumed(net.named_parameters());
  resumed.load_state_dict(opt.state_dict());
  optim::Scheduler(resumed, decay).load_state_dict(schedule.state_dict());
  optim::Ledger ledger({.parameters = "2.bias"});
  resumed.trace(ledger);
  net.zero_grad();
  nn::mse_loss(net(x), y).backward();
  resumed.step();
  if (!options.quiet) std::printf("\n%s\n", ledger.explain("2.bias[0]", resumed.steps()).c_str());

  NoGradGuard no_grad;
  std::printf("custom_layer: gradient_checks=%ld worst_error=%.1e loss=%.6f epochs=%ld\n",
              check.checks, check.worst, nn::mse_loss(net(x), y).item(), options.epochs);
}

int main(int argc, char** argv) {
  return run_example(argc, argv, "custom_layer", "Fits a sine with a layer and a rule of our own.",
                     {.epochs = 300, .batch_size = 32, .lr = 0.003, .trains = true}, train);
}
