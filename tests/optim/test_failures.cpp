#include <cstdio>
#include <doctest/doctest.h>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "inject.hpp"
#include "optim.hpp"

// Every allocation of a step, a load and a save fails once: what throws has changed nothing.

using namespace descent;

TEST_CASE("the injector fails each allocation once, the library's and the standard library's") {
  const inject::Watch watch;
  const int64_t before = inject::failures;
  int64_t k = 1;
  std::vector<double> list;
  std::string text;
  auto work = [&] {
    const Tensor x = zeros({3});    // a header and a storage
    list = std::vector<double>(5);  // one
    text = std::string(100, 'x');   // one
  };
  for (; inject::fails(k, work) != 0; ++k) CHECK(k <= 4);
  CHECK(k == 5);
  CHECK(inject::failures - before == 4);
  CHECK(inject::fails(0, work) == 0);
}

namespace {

/// All that a run has, to be compared bit by bit.
struct State {
  NamedTensors tensors;
  std::string text;
};
bool same(const State& a, const State& b) {
  bool equal = a.text == b.text && a.tensors.size() == b.tensors.size();
  for (std::size_t i = 0; equal && i < a.tensors.size(); ++i) {
    const auto& [name, x] = a.tensors[i];
    const auto& [other, y] = b.tensors[i];
    equal = name == other && x.defined() == y.defined();
    if (!equal || !x.defined()) continue;
    const Values v = values(x), w = values(y);
    equal = x.dtype() == y.dtype() && x.shape() == y.shape() && same_bits(v, w);
    if (!equal) MESSAGE(name << " differs");
  }
  return equal;
}

/// A run goes on by calls of act(). Before each call, or another attempt at it, ready() makes what
/// it needs.
struct Run {
  std::function<void()> ready, act;
  std::function<State()> state;
  void go() const {
    ready();
    act();
  }
};

// Under a sanitizer, which is slow, only every 7th allocation fails.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t stride = 7;
#else
constexpr int64_t stride = 1;
#endif

/// After `warm` calls of act(), each allocation of the next call fails once, each in a run of its
/// own: the failure changes nothing, and the run goes on like one that has never failed.
void fail_each_allocation(const std::function<Run()>& make, int warm) {
  auto begin = [&] {
    Run run = make();
    for (int i = 0; i < warm; ++i) run.go();
    run.ready();
    return run;
  };
  const Run smooth = begin();
  const State before = smooth.state();
  smooth.act();
  const State after = smooth.state();
  smooth.go();
  const State later = smooth.state();
  int64_t k = 1;
  for (int outcome = 1; outcome != 0; k += stride) {
    CAPTURE(k);
    const Run run = begin();
    outcome = inject::fails(k, run.act);
    CHECK(same(run.state(), outcome == 1 ? before : after));
    if (outcome == 1) run.go();
    CHECK(same(run.state(), after));
    run.go();
    CHECK(same(run.state(), later));
  }
}

/// Two parameters, their optimizer and its ledger.
template <class Opt> struct Training {
  explicit Training(const typename Opt::Rule& options) : opt(parameters, options) {
    opt.on_report([](const std::string&) {});
    opt.group("q").lr = 0.02;
    opt.trace(ledger);
  }
  void set_gradients() const { ::set_gradients(parameters, static_cast<int>(opt.steps())); }
  /// With the gradients, unless a closure computes them again.
  State state(bool with_gradients = true) const {
    State all{opt.state_dict(), ledger.json_lines() + ledger.text()};
    for (const auto& [name, x] : parameters) {
      all.tensors.emplace_back(name, x.detach().clone());
      const Tensor g = x.grad();
      if (with_gradients) all.tensors.emplace_back(name, g.defined() ? g.clone() : g);
    }
    all.text += std::to_string(opt.steps()) + " " + std::to_string(opt.lr_factor());
    return all;
  }
  Tensor p = matrix(3, 4, -0.5), q = matrix(4, 2, 0.25);
  NamedTensors parameters{{"p", p}, {"q", q}};
  Opt opt;
  optim::Ledger ledger;
};

const Tensor kLoss = tensor(1.5, float64);

/// A run of step(training, around), where `around` was made for the optimizer.
template <class Opt, class Around>
Run run_of(const typename Opt::Rule& options, bool with_gradients,
           std::function<void(Training<Opt>&, Around&)> step) {
  struct Both {
    explicit Both(const typename Opt::Rule& o) : training(o), around(training.opt) {}
    Training<Opt> training;
    Around around;
  };
  const auto both = std::make_shared<Both>(options);
  return {[both] { both->training.set_gradients(); },
          [both, step] { step(both->training, both->around); },
          [both, with_gradients] {
            State all = both->training.state(with_gradients);
            if constexpr (requires { both->around.state_dict(); })
              for (auto& entry : both->around.state_dict()) all.tensors.push_back(entry);
            return all;
          }};
}
/// Lookahead that blends in each second step.
struct Look : optim::Lookahead {
  explicit Look(optim::OptimizerBase& o) : Lookahead(o, {.k = 2}) {}
};
struct Nothing {
  explicit Nothing(optim::OptimizerBase&) {}
};

}  // namespace

TEST_CASE("a step of any rule that finds no memory has changed nothing") {
  const inject::Watch watch;
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    auto step = [](Training<Opt>& x, Nothing&) {
      x.opt.clip_grad_norm(1);
      x.opt.step(kLoss);
    };
    fail_each_allocation([&] { return run_of<Opt, Nothing>(options, false, step); }, 0);
    auto last = [](Training<Opt>& x, Nothing&) { x.opt.step(kLoss); };
    fail_each_allocation([&] { return run_of<Opt, Nothing>(options, true, last); }, 2);
  });
}

TEST_CASE("a step under any wrapper that finds no memory has changed nothing") {
  const inject::Watch watch;
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    auto closure = [](Training<Opt>& x) {
      return [&x] {
        x.set_gradients();
        return kLoss;
      };
    };
    auto look = [](Training<Opt>&, Look& around) { around.step(kLoss); };
    auto sam = [&](Training<Opt>& x, optim::SAM& around) { around.step(closure(x)); };
    fail_each_allocation([&] { return run_of<Opt, Look>(options, true, look); }, 1);
    fail_each_allocation([&] { return run_of<Opt, optim::SAM>(options, false, sam); }, 1);
  });
}

TEST_CASE("clipping that finds no memory has changed nothing") {
  const inject::Watch watch;
  auto run = [](bool by_norm, bool seen) {
    struct Clipped : Training<optim::Adam> {
      using Training::Training;
      Tensor handle;
    };
    const auto x = std::make_shared<Clipped>(optim::Adam::Rule());
    return Run{[x, seen] {
                 x->set_gradients();
                 if (seen) x->handle = x->q.grad();  // q's gradient is copied, p's changes in place
               },
               [x, by_norm] {
                 if (by_norm) x->opt.clip_grad_norm(0.5);
                 else x->opt.clip_grad_value(0.25);
               },
               [x] {
                 State all = x->state();
                 if (x->handle.defined()) all.tensors.emplace_back("handle", x->handle.clone());
                 return all;
               }};
  };
  for (bool by_norm : {false, true})
    for (bool seen : {false, true}) fail_each_allocation([&] { return run(by_norm, seen); }, 0);
}

TEST_CASE("an average that finds no memory has changed nothing, nor has its guard") {
  const inject::Watch watch;
  auto run = [](bool guarded) {
    struct Averaged : Training<optim::Adam> {
      using Training::Training;
      optim::WeightAverage average{parameters};
    };
    const auto x = std::make_shared<Averaged>(optim::Adam::Rule());
    return Run{[x] {
                 x->set_gradients();
                 if (x->opt.steps() == x->average.updates())
                   x->opt.step(kLoss);  // not again after a failure
               },
               [x, guarded] {
                 if (!guarded) return x->average.update();
                 const optim::AverageGuard averaged(x->average);
                 x->p.detach().fill_(7);
               },
               [x] {
                 State all = x->state();
                 for (auto& entry : x->average.state_dict()) all.tensors.push_back(entry);
                 return all;
               }};
  };
  fail_each_allocation([&] { return run(false); }, 2);
  fail_each_allocation([&] { return run(true); }, 2);
}

TEST_CASE("schedulers that find no memory have changed nothing") {
  const inject::Watch watch;
  struct Cyclic : optim::Scheduler {
    explicit Cyclic(optim::OptimizerBase& o) : Scheduler(o, optim::schedule::one_cycle(10)) {}
  };
  auto step = [](Training<optim::Adam>&, Cyclic& around) { around.step(); };
  fail_each_allocation([&] { return run_of<optim::Adam, Cyclic>({}, true, step); }, 0);
}

namespace {
/// A run that loads what another one, of three steps, has saved.
template <class Opt, class Around>
Run load_of(const typename Opt::Rule& options,
            std::function<NamedTensors(Training<Opt>&, Around&)> save,
            std::function<void(Training<Opt>&, Around&, const NamedTensors&)> load) {
  struct Both {
    explicit Both(const typename Opt::Rule& o) : training(o), around(training.opt) {}
    void step() {
      training.set_gradients();
      if constexpr (requires { around.step(kLoss); }) around.step(kLoss);
      else training.opt.step(kLoss);
    }
    Training<Opt> training;
    Around around;
  };
  const auto both = std::make_shared<Both>(options);
  Both saved(options);
  saved.training.opt.options().lr = 0.25;
  saved.training.opt.group("p").lr = 0.125;
  for (int i = 0; i < 3; ++i) saved.step();
  both->step();
  return {[] {},
          [both, load, state = save(saved.training, saved.around)] {
            load(both->training, both->around, state);
          },
          [both] {
            State all = both->training.state();
            if constexpr (requires { both->around.state_dict(); })
              for (auto& entry : both->around.state_dict()) all.tensors.push_back(entry);
            return all;
          }};
}
}  // namespace

TEST_CASE("a load that finds no memory has changed nothing") {
  const inject::Watch watch;
  for_every_rule([]<class Opt>(const typename Opt::Rule& options) {
    fail_each_allocation(
        [&] {
          return load_of<Opt, Nothing>(
              options, [](auto& x, auto&) { return x.opt.state_dict(); },
              [](auto& x, auto&, const NamedTensors& state) { x.opt.load_state_dict(state); });
        },
        0);
  });
  fail_each_allocation(
      [] {
        return load_of<optim::Adam, Look>(
            {}, [](auto&, auto& look) { return look.state_dict(); },
            [](auto&, auto& look, const NamedTensors& state) { look.load_state_dict(state); });
      },
      0);
  struct Average : optim::WeightAverage {
    explicit Average(const optim::OptimizerBase& o) : WeightAverage(o.parameters()) {}
  };
  fail_each_allocation(
      [] {
        return load_of<optim::Adam, Average>(
            {}, [](auto&, auto& average) { return average.state_dict(); },
            [](auto&, auto& average, const NamedTensors& state) {
              average.load_state_dict(state);
            });
      },
      0);
}

TEST_CASE("a group, and gradients to be made zeros, that find no memory have changed nothing") {
  const inject::Watch watch;
  auto run = [](void (*act)(optim::OptimizerBase&)) {
    const auto x = std::make_shared<Training<optim::SGD>>(optim::SGD::Rule());
    return Run{[x] { x->set_gradients(); }, [x, act] { act(x->opt); }, [x] { return x->state(); }};
  };
  auto ask = [](optim::OptimizerBase& opt) { static_cast<optim::SGD&>(opt).group("*"); };
  auto clear = [](optim::OptimizerBase& opt) { opt.zero_grad(false); };
  for (int warm : {0, 1}) {  // a group that is new, and one that is known
    fail_each_allocation([&] { return run(ask); }, warm);
    fail_each_allocation([&] { return run(clear); }, warm);
  }
}

TEST_CASE("thousands of failures were injected, and none left a trace") {
  std::printf("injected: %ld failures in steps, loads and clipping, each without a trace\n",
              inject::failures);
  CHECK(inject::failures * stride > 10'000);
}
