// A straight line: shows the theory of parameter updates on w and b, and compares the digits of the
// result with those that NIST certifies.
#include <cmath>
#include <functional>
#include <memory>

#include "saving.hpp"

using namespace descent;

/// Norris, calibration of ozone monitors: y = B0 + B1 x. Certified values from NIST's Statistical
/// Reference Datasets.
constexpr double kB0 = -0.262323073774029, kB1 = 1.00211681802045;

// ---- the rules and schedules to choose from

using Optimizer = std::unique_ptr<optim::OptimizerBase>;
struct Rule {
  const char* name;
  std::function<Optimizer(const NamedTensors&, double lr)> make;
  double lr;  // one that suits this problem
};
template <class Opt> Rule rule(const char* name, double lr, typename Opt::Rule options = {}) {
  return {name,
          [options](const NamedTensors& p, double rate) -> Optimizer {
            auto chosen = options;
            chosen.lr = rate;
            return std::make_unique<Opt>(p, chosen);
          },
          lr};
}
static const std::vector<Rule> kRules{
    rule<optim::SGD>("sgd", 0.1),
    rule<optim::SGD>("momentum", 0.05, {.momentum = 0.7}),
    rule<optim::SGD>("nesterov", 0.1, {.momentum = 0.5, .nesterov = true}),
    rule<optim::Polyak>("polyak", 1),
    rule<optim::Adagrad>("adagrad", 1),
    rule<optim::RMSprop>("rmsprop", 0.01),
    rule<optim::Adadelta>("adadelta", 1),
    rule<optim::Adam>("adam", 0.1),
    rule<optim::AdamW>("adamw", 0.1, {.weight_decay = 0}),
    rule<optim::Adamax>("adamax", 0.1),
    rule<optim::NAdam>("nadam", 0.1),
    rule<optim::RAdam>("radam", 0.1),
    rule<optim::Rprop>("rprop", 0.1),
    rule<optim::ASGD>("asgd", 0.1, {.lambd = 0}),
    rule<optim::Lion>("lion", 0.01),
    rule<optim::LAMB>("lamb", 0.1),
    rule<optim::LARS>("lars", 0.1, {.trust_coefficient = 0.1}),
    rule<optim::Adafactor>("adafactor", 0.1),
    {"lbfgs",
     [](const NamedTensors& p, double lr) -> Optimizer {
       return std::make_unique<optim::LBFGS>(
           p, optim::LBFGSOptions{
                  .lr = lr, .max_iter = 1, .tolerance_grad = 0, .tolerance_change = 0});
     },
     1},
};
static const Rule& find_rule(const std::string& name) {
  return *std::find_if(kRules.begin(), kRules.end(), [&](const Rule& r) { return r.name == name; });
}
/// predict -> loss -> gradient -> update; returns the loss before the update. (L-BFGS needs several
/// losses in one step, so every rule is given a closure.)
static double take_step(optim::OptimizerBase& opt, const std::function<Tensor()>& predict) {
  return opt.step([&] {
    opt.zero_grad();
    Tensor loss = predict();
    loss.backward();
    return loss;
  });
}
static optim::Schedule make_schedule(const std::string& name, int64_t steps) {
  using namespace optim::schedule;
  const int64_t third = std::max<int64_t>(1, steps / 3);
  if (name == "exponential") return exponential(0.01, {.period = steps});
  if (name == "staircase") return exponential(0.1, {.period = third, .staircase = true});
  if (name == "inverse_time") return inverse_time(10, {.period = steps});
  if (name == "linear") return linear(1, 0.01, steps);
  if (name == "cosine") return cosine(steps, {.floor = 0.01});
  if (name == "restarts") return warm_restarts(third, 1, 0.01);
  if (name == "warmup") return warmup(third) * cosine(steps, {.floor = 0.01});
  if (name == "one_cycle") return one_cycle(steps).rate;
  return constant(1);
}

// ---- the model: y = w x + b on columns of mean 0 and deviation 1

struct Line {
  explicit Line(const Tensor& x, const Tensor& y) : sx(x), sy(y), u(sx(x)), v(sy(y)) {}
  NamedTensors parameters() const { return {{"w", w}, {"b", b}}; }
  void visit(StateVisitor& visitor) { visitor("w", w), visitor("b", b); }
  Tensor loss(const Tensor& x, const Tensor& y) const { return nn::mse_loss(w * x + b, y); }
  double loss() const {
    NoGradGuard no_grad;
    return loss(u, v).item();
  }
  double b1() const { return w.item() * sy.std.item() / sx.std.item(); }
  double b0() const { return sy.mean.item() + sy.std.item() * b.item() - b1() * sx.mean.item(); }
  /// Correct decimal digits of the worse coefficient.
  double digits() const {
    auto correct = [](double x, double certified) {
      return x == certified ? 15 : -std::log10(std::abs(x - certified) / std::abs(certified));
    };
    const double worse = std::min(correct(b0(), kB0), correct(b1(), kB1));
    return std::isfinite(worse) ? std::clamp(worse, 0.0, 15.0) : 0;
  }

  data::Standardizer sx, sy;
  Tensor u, v;
  Tensor w = zeros({}, float64).requires_grad_(), b = zeros({}, float64).requires_grad_();
};

struct Run {
  const char* what;
  const char* rule;
  int64_t batch_size, epochs;
  double lr;
  optim::Schedule schedule = optim::schedule::constant(1);  // per epoch
};

/// Fits the line from w = b = 0, by calls of `step()` alone. It is saved and logged if there are
/// `options`.
static Line fit(const Tensor& x, const Tensor& y, const Run& run, uint64_t seed,
                optim::Ledger* ledger = nullptr, const Options& options = {}) {
  Line line(x, y);
  const Optimizer opt = find_rule(run.rule).make(line.parameters(), run.lr);
  opt->set_nonfinite(optim::NonFinite::skip);  // show a run that diverges
  opt->trace(ledger);
  optim::Scheduler schedule(*opt, run.schedule);
  data::DataLoader loader(data::TensorDataset(line.u, line.v),
                          {.batch_size = run.batch_size, .shuffle = true, .seed = seed});
  int64_t epoch = 0;
  Checkpoint checkpoint(options.checkpoint, line, *opt, schedule, loader);
  checkpoint.add("epoch", epoch);
  Saving saving(options, checkpoint);
  Log log(options);
  for (; epoch < run.epochs; saving.save()) {
    for (auto [u, v] : loader) {
      take_step(*opt, [&, &u = u, &v = v] { return line.loss(u, v); });
      saving.after_step();
    }
    log.scalars(epoch, {{"loss", line.loss()}, {"lr", opt->lr()}});
    schedule.step();
    ++epoch;
  }
  if (!options.export_to.empty()) save(options.export_to, line.parameters());
  return line;
}

// ---- the output

/// Explains one step that can be checked by hand, then the chosen rule's first two on the real
/// data.
static void explain(const Tensor& x, const Tensor& y, const Run& run, uint64_t seed) {
  std::printf(
      "One step by hand: the points (1, 3), (2, 5), (3, 7), the model y = w x + b, w = b = 0.\n"
      "  predict   0, 0, 0;  errors e = prediction - y = -3, -5, -7\n"
      "  loss      mean e^2 = (9 + 25 + 49)/3 = 27.6667\n"
      "  gradient  dL/dw = mean 2 e x = 2(-3 - 10 - 21)/3 = -22.6667\n"
      "            dL/db = mean 2 e   = 2(-3 - 5 - 7)/3 = -10\n"
      "  update    theta = theta - lr g with lr = 0.1: w = 2.26667, b = 1\n"
      "The program's own account of it:\n\n");
  const Tensor hx = tensor({1.0, 2.0, 3.0}, float64), hy = tensor({3.0, 5.0, 7.0}, float64);
  Tensor w = zeros({}, float64).requires_grad_(), b = zeros({}, float64).requires_grad_();
  optim::SGD sgd({{"w", w}, {"b", b}}, {.lr = 0.1});
  optim::Ledger by_hand;
  sgd.trace(by_hand);
  for (int step = 0; step < 2; ++step) {
    sgd.zero_grad();
    const Tensor loss = nn::mse_loss(w * hx + b, hy);
    loss.backward();
    sgd.step(loss);
  }
  std::printf("%s\n%s\n", by_hand.explain("w", 1).c_str(), by_hand.explain("b", 1).c_str());
  std::printf(
      "Two such steps; `predicted` is the decrease of the loss to first order, |g|^2 lr:\n%s\n",
      by_hand.text().c_str());

  if (run.rule == std::string("lbfgs")) {
    std::printf("L-BFGS has no formula for one element: see optim/lbfgs.hpp.\n\n");
    return;
  }
  std::printf("The rule %s on the first two steps of the Norris data:\n\n", run.rule);
  optim::Ledger ledger;
  Run two = run;
  two.epochs = 2;
  two.batch_size = data::kFullBatch;
  fit(x, y, two, seed, &ledger);
  std::printf("%s\n%s\n", ledger.explain("w", 1).c_str(), ledger.explain("w", 2).c_str());
}

/// How a rule performs in a valley: the line on columns of standard deviation 3 and 2, where the
/// loss is curved 9 times as much along w as along b.
struct Descent {
  int steps = 0;      // after these, the excess stays at 1e-4 or below
  bool held = false;  // whether it is there after the last step
  double excess = 1;  // the loss above the lowest, as a share of what it was at first
};
static Descent descend(const Tensor& u, const Tensor& v, const Rule& rule, double lr, double best) {
  const Tensor w = zeros({}, float64).requires_grad_(), b = zeros({}, float64).requires_grad_();
  const Optimizer opt = rule.make({{"w", w}, {"b", b}}, lr);
  opt->set_nonfinite(optim::NonFinite::skip);
  Descent found;
  double first = 0;
  for (int step = 0; step <= 2000; ++step) {
    const double loss = take_step(*opt, [&] { return nn::mse_loss(w * u + b, v); });
    if (step == 0) first = loss;
    found.excess = (loss - best) / (first - best);
    const bool there = found.excess <= 1e-4;
    if (there && !found.held) found.steps = step;
    found.held = there;
    if (!(found.excess < 1e12)) break;  // it diverges
  }
  return found;
}

/// Compares all rules on the full batch, each at rates from 1e-4 to 31.
static void race(const Tensor& x, const Tensor& y) {
  const data::Standardizer sx(x), sy(y);
  const Tensor u = sx(x) * 3, v = sy(y) * 2 + 1;
  const double best = 4 * fit(x, y, {"", "sgd", data::kFullBatch, 300, 0.25}, 1).loss();
  std::printf("%-10s %9s %7s %12s   %s\n", "rule", "best lr", "steps", "final excess",
              "rates that work: within 1e-4 of the lowest loss in 2,000 steps");
  for (const Rule& rule : kRules) {
    double at = 0, low = 0, high = 0;
    Descent fewest;
    for (int k = -8; k <= 3; ++k) {
      const double lr = std::pow(10, k / 2.0);
      const Descent found = descend(u, v, rule, lr, best);
      if (!found.held) continue;
      if (low == 0) low = lr;
      high = lr;
      if (at == 0 || found.steps < fewest.steps) {
        fewest = found;
        at = lr;
      }
    }
    if (at > 0)
      std::printf("%-10s %9.2g %7d %12.1e   %.2g to %.2g\n", rule.name, at, fewest.steps,
                  std::max(0.0, fewest.excess), low, high);
    else std::printf("%-10s %9s %7s %12s   none of those tried\n", rule.name, "-", "-", "-");
  }
  std::printf("\n");
}

static void compare_runs(const Tensor& x, const Tensor& y, const Run& chosen, uint64_t seed) {
  const Run runs[] = {
      chosen,
      {"one example at a time", "sgd", 1, 40, 0.02},
      {"the same, decaying", "sgd", 1, 400, 0.1, optim::schedule::exponential(0.95)},
      {"mini-batches of 6", "sgd", 6, 40, 0.1},
      {"a rate too large", "sgd", data::kFullBatch, 100, 1.05},
      {"a rate too small", "sgd", data::kFullBatch, 100, 0.0005},
      {"momentum", "momentum", data::kFullBatch, 100, 0.05},
      {"adaptive rates", "adam", data::kFullBatch, 400, 0.1},
      {"single, as chosen", "sgd", 1, chosen.epochs, 0.1, chosen.schedule},
  };
  std::printf("%-22s %-9s %7s %7s %12s %20s %18s %7s\n", "", "rule", "lr", "epochs", "loss", "B0",
              "B1", "digits");
  for (const Run& run : runs) {
    const Line line = fit(x, y, run, seed);
    std::printf("%-22s %-9s %7g %7ld %12.4g %20.13g %18.13g %7.1f\n", run.what, run.rule, run.lr,
                run.epochs, line.loss(), line.b0(), line.b1(), line.digits());
  }
  std::printf("%-22s %-9s %7s %7s %12s %20.13g %18.13g\n\n", "NIST's certified", "", "", "", "",
              kB0, kB1);
  std::printf(
      "On these columns the loss is a round bowl, (w, b) with curvature 2 each way: a step goes\n"
      "(1 - 2 lr) of the way past the bottom, so 0 < lr < 1 converges and 0.5 lands at once. "
      "Single\nexamples pull in different directions: their noise stays unless the rate decays; "
      "on the full\nbatch there is none, and a decaying rate only arrives later. Momentum adds "
      "up steps that\nagree. Adaptive rules take steps as long as lr, whatever the gradient's "
      "size.\n\n");
}

static void train(const Options& options) {
  const data::Csv table = data::read_csv(options.data + "/norris.csv");
  const Tensor x = table.column("x"), y = table.column("y");
  const bool all = options.optimizer == "all", constant = options.schedule == "constant";
  const std::string name = all ? "sgd" : options.optimizer;
  const Run chosen{"chosen",
                   name.c_str(),
                   options.batch_size,
                   options.epochs,
                   options.lr > 0 ? options.lr : find_rule(name).lr,
                   make_schedule(options.schedule, options.epochs)};
  if (!options.quiet) {
    std::printf("read norris: %ld points\n\n", x.numel());
    if (!constant)
      std::printf("%s, as a factor on the rate:\n%s\n", options.schedule.c_str(),
                  optim::plot(chosen.schedule, options.epochs).c_str());
    if (options.explain) explain(x, y, chosen, options.seed);
    if (all) race(x, y);
    else if (!options.explain) compare_runs(x, y, chosen, options.seed);
  }
  const Line line = fit(x, y, chosen, options.seed, nullptr, options);
  std::printf("regression: data=norris digits=%.1f b0=%.13g b1=%.13g epochs=%ld lr=%g\n",
              line.digits(), line.b0(), line.b1(), options.epochs, chosen.lr);
  if (line.digits() < 9 && name == "sgd" && constant)
    throw NumericError("fewer than 9 digits agree with NIST's: another --lr or more --epochs?");
}

int main(int argc, char** argv) {
  std::vector<std::string> names{"all"};
  for (const Rule& r : kRules) names.push_back(r.name);
  return run_example(argc, argv, "regression", "Fits a line to NIST's Norris data.",
                     {.data = DESCENT_DATA "/nist",
                      .epochs = 200,
                      .batch_size = 0,
                      .lr = 0,
                      .optimizer = "sgd",
                      .schedule = "constant",
                      .optimizers = names,
                      .schedules = {"constant", "exponential", "staircase", "inverse_time",
                                    "linear", "cosine", "restarts", "warmup", "one_cycle"},
                      .trains = true},
                     train);
}
