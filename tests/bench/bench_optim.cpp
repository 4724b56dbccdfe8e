// Optimizer steps beside what the machine's memory allows, in one run: bench_optim [PARAMETERS].
// Lines are `system workload metric value`; every time is the best of several rounds in which all
// take turns.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <descent/descent.hpp>
#include <functional>
#include <string>
#include <vector>

using namespace descent;

namespace {

/// Adam again, as a user would write it, compiled with this file: plain -O2.
template <class S = double> struct MyAdamRule {
  S lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  static constexpr auto name = "MyAdam";
  static constexpr optim::Names hyper{"lr", "beta1", "beta2", "eps"}, state{"m", "v"};
  template <class T> void update(T& theta, T g, T& m, T& v, S t) const {
    m += (1 - beta1) * (g - m);
    v = beta2 * v + (1 - beta2) * g * g;
    theta -= lr / (1 - pow(beta1, t)) * m / (sqrt(v) / sqrt(1 - pow(beta2, t)) + eps);
  }
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Contestant {
  std::string name;
  int64_t bytes;  // per parameter
  std::function<void()> step;
  double best = 1e9;
};

/// Reads theta, g and `states` tensors and writes all but g, with hardly any arithmetic.
void bare_loop(float* theta, const float* g, float* const* state, int states, int64_t n) {
  const int64_t grain = 1 << 15;
  parallel_for((n + grain - 1) / grain, [=](int64_t tile) {
    const int64_t at = tile * grain, count = std::min(grain, n - at);
    auto run = [&](auto... s) {
      simd::for_each_exact(
          [](float& t, const float& d, auto&... x) {
            ((x += d), ...);
            t -= d;
          },
          count, theta + at, g + at, s...);
    };
    if (states == 0) run();
    if (states == 1) run(state[0] + at);
    if (states == 2) run(state[0] + at, state[1] + at);
    if (states == 3) run(state[0] + at, state[1] + at, state[2] + at);
  });
}

class Bench {
 public:
  explicit Bench(int64_t n) : theta_(randn({n}).requires_grad_()), target_(zeros({n})), n_(n) {
    theta_.set_grad(randn({n}));
    for (Tensor& s : spare_) s = zeros({n});
  }

  void add_copy() {
    contestants_.push_back({"copy", 8, [this] {
                              NoGradGuard no_grad;
                              target_.copy_(theta_.detach());
                            }});
  }
  void add_bare(int states) {
    contestants_.push_back({"bare_" + std::to_string(states), 12 + 8 * states, [this, states] {
                              NoGradGuard no_grad;
                              const Tensor gradient = theta_.grad();
                              float* s[3];
                              for (int i = 0; i < 3; ++i) s[i] = spare_[i].mutable_data<float>();
                              bare_loop(theta_.mutable_data<float>(), gradient.data<float>(), s,
                                        states, n_);
                            }});
  }
  template <class Opt>
  void add(const std::string& name, int states, typename Opt::Rule options,
           optim::NonFinite policy = optim::NonFinite::ignore, optim::Ledger* ledger = nullptr) {
    auto opt = std::make_shared<Opt>(NamedTensors{{"p", theta_}}, options);
    opt->on_report([](const std::string&) {});
    opt->set_nonfinite(policy);
    opt->trace(ledger);
    contestants_.push_back({name, 12 + 8 * states, [opt] { opt->step(); }});
  }
  /// Rounds in which everybody steps once; the first warms up.
  void run(int rounds) {
    for (int round = 0; round <= rounds; ++round)
      for (Contestant& c : contestants_) {
        const double start = seconds();
        c.step();
        if (round > 0) c.best = std::min(c.best, seconds() - start);
      }
  }
  double best(const std::string& name) const {
    for (const Contestant& c : contestants_)
      if (c.name == name) return c.best;
    return 0;
  }
  void print(const std::string& reference) const {
    for (const Contestant& c : contestants_) {
      std::printf("descent %s ms %.3f\n", c.name.c_str(), c.best * 1e3);
      std::printf("descent %s GB/s %.1f\n", c.name.c_str(),
                  static_cast<double>(c.bytes * n_) / c.best / 1e9);
      if (const double bare = best(reference); bare > 0)
        std::printf("descent %s of_%s %.2f\n", c.name.c_str(), reference.c_str(), bare / c.best);
    }
  }

 private:
  Tensor theta_, target_, spare_[3];
  int64_t n_;
  std::vector<Contestant> contestants_;
};

}  // namespace

int main(int argc, char** argv) {
  using namespace optim;
  const int64_t n = argc > 1 ? std::atoll(argv[1]) : 50'000'000;
  const int rounds = n > 1'000'000 ? 7 : 200;
  std::printf("# %lld parameters, %d threads\n", static_cast<long long>(n), num_threads());
  Ledger ledger({.elements = {0}});
  {
    Bench bench(n);
    bench.add_copy();
    bench.add_bare(2);
    bench.add<Adam>("Adam", 2, {});
    bench.add<Adam>("Adam_checked", 2, {}, NonFinite::error);
    bench.add<Optimizer<MyAdamRule>>("MyAdam", 2, {});
    bench.add<AdamW>("AdamW", 2, {});
    bench.run(rounds);
    bench.print("bare_2");
  }
  {
    Bench bench(n / 8);
    bench.add<Adam>("Adam_untraced", 2, {});
    bench.add<Adam>("Adam_traced", 2, {}, NonFinite::ignore, &ledger);
    bench.run(3);
    bench.print("Adam_untraced");
  }
  auto compare = [&](int states, auto... add) {
    Bench bench(n);
    bench.add_bare(states);
    (add(bench), ...);
    bench.run(rounds);
    bench.print("bare_" + std::to_string(states));
  };
  compare(0, [](Bench& b) { b.add<SGD>("SGD", 0, {}); });
  compare(
      1, [](Bench& b) { b.add<SGD>("SGD_momentum", 1, {.momentum = 0.9}); },
      [](Bench& b) { b.add<Adagrad>("Adagrad", 1, {}); },
      [](Bench& b) { b.add<RMSprop>("RMSprop", 1, {}); },
      [](Bench& b) { b.add<ASGD>("ASGD", 1, {}); }, [](Bench& b) { b.add<Lion>("Lion", 1, {}); });
  compare(
      2, [](Bench& b) { b.add<Adadelta>("Adadelta", 2, {}); },
      [](Bench& b) { b.add<Rprop>("Rprop", 2, {}); },
      [](Bench& b) { b.add<Adamax>("Adamax", 2, {}); },
      [](Bench& b) { b.add<NAdam>("NAdam", 2, {}); },
      [](Bench& b) { b.add<RAdam>("RAdam", 2, {}); });
  compare(
      3, [](Bench& b) { b.add<Adam>("Adam_amsgrad", 3, {.amsgrad = true}); },
      [](Bench& b) { b.add<RMSprop>("RMSprop_both", 3, {.momentum = 0.9, .centered = true}); });
}
