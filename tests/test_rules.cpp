#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <doctest/doctest.h>
#include <map>
#include <sstream>

#include "descent/descent.hpp"

#include "files.hpp"

// Every update rule against 100 steps of PyTorch's, or of its paper's formula: golden/optim.py.

using namespace descent;

namespace {

using Values = std::vector<double>;
using Series = std::vector<Values>;

/// "RULE/NAME DTYPE" and its lines of numbers.
std::map<std::string, Series> read_golden() {
  std::map<std::string, Series> all;
  std::istringstream text(gunzip(DESCENT_ROOT "/tests/golden/optim.txt.gz"));
  std::string line;
  Series* series = nullptr;
  while (std::getline(text, line)) {
    if (line[0] == '#') continue;
    if (line.compare(0, 5, "case ") == 0) {
      series = &all[line.substr(5)];
      continue;
    }
    Values& row = series->emplace_back();
    for (char* p = line.data(); *p != 0;) row.push_back(std::strtod(p, &p));
  }
  return all;
}
const std::map<std::string, Series> golden = read_golden();
int trajectories64 = 0, trajectories32 = 0;
double worst64 = 0, worst32 = 0;

std::vector<Shape> shapes_of(const std::string& rule) {
  if (rule == "Muon") return {{2, 3}, {3, 2}, {4, 4}};
  if (rule == "Adafactor") return {{3}, {2, 3}, {4, 2}};
  return {{3}, {2, 2}, {}};
}

NamedTensors make_parameters(const std::string& rule, DType dtype) {
  NamedTensors all;
  for (const Shape& shape : shapes_of(rule)) {
    const auto p = static_cast<int64_t>(all.size());
    Values start(static_cast<std::size_t>(zeros(shape).numel()));
    for (std::size_t i = 0; i < start.size(); ++i)
      start[i] = static_cast<double>((5 * static_cast<int64_t>(i) + 3 * p) % 7 - 3) / 4 + 0.1;
    all.emplace_back("p" + str(p), tensor(start, shape).to(dtype).requires_grad_());
  }
  return all;
}

/// Sets the gradients of step t; returns the loss that Polyak's rule is told.
Tensor set_gradients(const NamedTensors& parameters, int64_t t, double diagonal = 0) {
  double loss = 1 + static_cast<double>(t % 5) / 4;
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const Tensor& x = parameters[p].second;
    Values g = x.to_vector<double>();
    for (std::size_t k = 0; k < g.size(); ++k) {
      const auto i = static_cast<int64_t>(k);
      loss += g[k] * g[k] / 2;
      const bool on_diagonal = diagonal != 0 && i % (x.size(1) + 1) == 0;
      g[k] = g[k] * static_cast<double>(i + 1) / 4 +
             (static_cast<double>((7 * t + 3 * i + 5 * static_cast<int64_t>(p)) % 11 - 5) / 8 +
              (on_diagonal ? diagonal : 0));
    }
    x.set_grad(tensor(g, x.shape()).to(x.dtype()));
  }
  return tensor(loss, float64);
}

/// The largest of |before|, |after| and |after - before|: what errors are measured by.
double size(double before, double after) {
  return std::max({std::abs(before), std::abs(after), std::abs(after - before)});
}
double relative(double found, double expected, double scale) {
  return found == expected ? 0 : std::abs(found - expected) / scale;
}
double ulp(double x) {
  const auto single = static_cast<float>(x);
  return static_cast<double>(std::nextafter(single, INFINITY)) - static_cast<double>(single);
}

Values all_values(const NamedTensors& tensors) {
  Values all;
  for (const auto& [name, x] : tensors)
    for (double v : x.to_vector<double>()) all.push_back(v);
  return all;
}

template <class Opt> void walk64(const std::string& name, const typename Opt::Rule& options) {
  const Series& series = golden.at(name + " float64");
  CHECK(series.size() == 100);
  const NamedTensors parameters = make_parameters(Opt::Rule::name, float64);
  Opt opt(parameters, options);
  double worst = 0;
  for (std::size_t t = 0; t < series.size(); ++t) {
    const Values before = all_values(parameters);
    const double diagonal = std::is_same_v<Opt, optim::Muon> ? 4 : 0;
    opt.step(set_gradients(parameters, static_cast<int64_t>(t) + 1, diagonal));
    const Values found = all_values(parameters), &wanted = series[t];
    REQUIRE(found.size() == wanted.size());
    for (std::size_t k = 0; k < found.size(); ++k)
      worst = std::max(worst, relative(found[k], wanted[k], size(before[k], wanted[k])));
  }
  CHECK(worst <= 1e-12);
  worst64 = std::max(worst64, worst);
  ++trajectories64;
}

/// Where a line of the float32 series goes: theta and the state tensors of each parameter.
std::vector<Tensor> read_line(const Values& line, const std::vector<Tensor>& like) {
  std::vector<Tensor> all;
  std::size_t at = 0;
  for (const Tensor& x : like) {
    const auto n = static_cast<std::size_t>(x.numel());
    const Values part(line.begin() + static_cast<int64_t>(at),
                      line.begin() + static_cast<int64_t>(at + n));
    all.push_back(tensor(part, x.shape()).to(x.dtype()));
    at += n;
  }
  CHECK(at == line.size());
  return all;
}

/// Each step of a float32 series from where PyTorch stood before it.
template <class Opt> void steps32(const std::string& name, const typename Opt::Rule& options) {
  const Series& series = golden.at(name + " float32");
  CHECK(series.size() == 101);
  const NamedTensors parameters = make_parameters(Opt::Rule::name, float32);
  Opt opt(parameters, options);
  double worst = 0;
  std::vector<Tensor> before;
  for (int64_t t = 1; t <= 100; ++t) {
    if (t > 1) {  // stand where the line before says
      NamedTensors state = opt.state_dict();
      std::size_t k = 0;
      for (const auto& [name_, x] : parameters) {
        NoGradGuard no_grad;
        x.copy_(before[k++]);
        for (auto& [key, s] : state)
          if (key.find("/" + name_ + "/") != std::string::npos && s.dtype() != int64 &&
              !key.ends_with("lr_multiplier"))
            s = before[k++].to(s.dtype());
      }
      opt.load_state_dict(state);
    }
    opt.step(set_gradients(parameters, t));
    std::vector<Tensor> after;  // theta and state, in the order of the file
    const NamedTensors state = opt.state_dict();
    for (const auto& [name_, x] : parameters) {
      after.push_back(x.detach().clone());
      for (const auto& [key, s] : state)
        if (key.find("/" + name_ + "/") != std::string::npos && s.dtype() != int64 &&
            !key.ends_with("lr_multiplier"))
          after.push_back(s);
    }
    const auto expected = read_line(series[static_cast<std::size_t>(t)], after);
    for (std::size_t k = 0; k < after.size(); ++k) {
      const Values found = after[k].to_vector<double>(), wanted = expected[k].to_vector<double>();
      const Values from = t > 1 ? before[k].to_vector<double>() : Values(found.size());
      for (std::size_t i = 0; i < found.size(); ++i)
        worst = std::max(worst, relative(found[i], wanted[i], ulp(size(from[i], wanted[i]))));
    }
    before = expected;
  }
  CHECK(worst <= 8);
  worst32 = std::max(worst32, worst);
  ++trajectories32;
}

template <class Opt> void compare(const char* name, const typename Opt::Rule& options) {
  const std::string full = std::string(Opt::Rule::name) + "/" + name;
  CAPTURE(full);
  walk64<Opt>(full, options);
  if (golden.count(full + " float32") != 0) steps32<Opt>(full, options);
}

}  // namespace

TEST_CASE("rules without bias correction walk as PyTorch's and the papers' do") {
  using namespace optim;
  compare<SGD>("plain", {.lr = 0.1});
  compare<SGD>("momentum", {.lr = 0.1, .momentum = 0.9});
  compare<SGD>("dampening", {.lr = 0.1, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.01});
  compare<SGD>("nesterov", {.lr = 0.05, .momentum = 0.8, .weight_decay = 0.02, .nesterov = true});
  compare<SGD>("maximize", {.lr = 0.001, .momentum = 0.5, .maximize = true});
  compare<Adagrad>("plain", {.lr = 0.1});
  compare<Adagrad>("lr_decay", {.lr = 0.1, .lr_decay = 0.05});
  compare<Adagrad>("initial", {.lr = 0.1, .initial_accumulator_value = 0.5, .eps = 1e-4});
  compare<Adagrad>("decay", {.lr = 0.1, .weight_decay = 0.1});
  compare<Adagrad>("maximize", {.lr = 0.01, .maximize = true});
  compare<RMSprop>("plain", {.lr = 0.01});
  compare<RMSprop>("momentum", {.lr = 0.01, .alpha = 0.9, .momentum = 0.8});
  compare<RMSprop>("centered", {.lr = 0.01, .eps = 1e-3, .centered = true});
  compare<RMSprop>(
      "both", {.lr = 0.01, .eps = 1e-2, .weight_decay = 0.1, .momentum = 0.5, .centered = true});
  compare<RMSprop>("maximize", {.lr = 0.001, .maximize = true});
  compare<Adadelta>("plain", {});
  compare<Adadelta>("rho", {.lr = 0.5, .rho = 0.8});
  compare<Adadelta>("eps", {.eps = 1e-3});
  compare<Adadelta>("decay", {.weight_decay = 0.1});
  compare<Adadelta>("maximize", {.lr = 0.1, .maximize = true});
  compare<Rprop>("plain", {});
  compare<Rprop>("etas", {.lr = 0.05, .eta_minus = 0.3, .eta_plus = 1.5});
  compare<Rprop>("sizes", {.lr = 0.01, .step_min = 0.005, .step_max = 0.02});
  compare<Rprop>("maximize", {.lr = 0.001, .maximize = true});
  compare<ASGD>("plain", {});
  compare<ASGD>("average", {.lr = 0.05, .t0 = 10});
  compare<ASGD>("decay", {.lr = 0.05, .lambd = 0.01, .alpha = 0.5, .weight_decay = 0.1});
  compare<ASGD>("maximize", {.lr = 0.001, .t0 = 0, .maximize = true});
  compare<Lion>("plain", {.lr = 0.01});
  compare<Lion>("decay", {.lr = 0.01, .weight_decay = 0.1});
  compare<Lion>("betas", {.lr = 0.01, .beta1 = 0.8, .beta2 = 0.9});
  compare<Lion>("maximize", {.lr = 0.01, .maximize = true});
}

TEST_CASE("Adam and its kin walk as PyTorch's do") {
  using namespace optim;
  compare<Adam>("plain", {.lr = 0.05});
  compare<Adam>("amsgrad", {.lr = 0.05, .amsgrad = true});
  compare<Adam>("decay",
                {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1});
  compare<Adam>("maximize", {.lr = 0.01, .weight_decay = 0.05, .amsgrad = true, .maximize = true});
  compare<AdamW>("plain", {.lr = 0.05});
  compare<AdamW>("amsgrad", {.lr = 0.05, .weight_decay = 0.1, .amsgrad = true});
  compare<AdamW>("betas",
                 {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0});
  compare<AdamW>("maximize", {.lr = 0.01, .maximize = true});
  compare<Adamax>("plain", {.lr = 0.05});
  compare<Adamax>("betas", {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.9});
  compare<Adamax>("decay", {.lr = 0.05, .eps = 1e-3, .weight_decay = 0.1});
  compare<Adamax>("maximize", {.maximize = true});
  compare<NAdam>("plain", {.lr = 0.05});
  compare<NAdam>("momentum_decay", {.lr = 0.05, .momentum_decay = 0.1});
  compare<NAdam>("decay",
                 {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1});
  compare<NAdam>("decoupled", {.lr = 0.05, .weight_decay = 0.1, .decoupled_weight_decay = true});
  compare<NAdam>("maximize", {.maximize = true});
  compare<RAdam>("plain", {.lr = 0.05});
  compare<RAdam>("betas", {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.9, .eps = 1e-4});
  compare<RAdam>("decay", {.lr = 0.05, .weight_decay = 0.1});
  compare<RAdam>("decoupled", {.lr = 0.05, .weight_decay = 0.1, .decoupled_weight_decay = true});
  compare<RAdam>("maximize", {.maximize = true});
}

TEST_CASE("rules over whole tensors walk as PyTorch's and the papers' do") {
  using namespace optim;
  compare<Adafactor>("plain", {});
  compare<Adafactor>("decay", {.lr = 0.1, .weight_decay = 0.1});
  compare<Adafactor>("beta2", {.lr = 0.1, .beta2_decay = -0.5, .eps1 = 1e-3, .eps2 = 1e-2});
  compare<Adafactor>("d", {.lr = 0.1, .d = 2});
  compare<Adafactor>("maximize", {.maximize = true});
  compare<LAMB>("plain", {.lr = 0.02});
  compare<LAMB>("decay", {.lr = 0.02, .weight_decay = 0.1});
  compare<LAMB>("betas", {.lr = 0.02, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-3});
  compare<LAMB>("maximize", {.lr = 0.002, .maximize = true});
  compare<LARS>("plain", {.lr = 0.5, .trust_coefficient = 0.1});
  compare<LARS>("decay", {.lr = 0.5, .weight_decay = 0.1, .trust_coefficient = 0.1});
  compare<LARS>("nesterov", {.lr = 0.5, .trust_coefficient = 0.1, .nesterov = true});
  compare<LARS>("maximize",
                {.lr = 0.05, .momentum = 0.5, .trust_coefficient = 0.1, .maximize = true});
  compare<Muon>("plain", {.lr = 0.01});
  compare<Muon>("momentum", {.lr = 0.01, .momentum = 0.9, .nesterov = false});
  compare<Muon>("rms", {.lr = 0.01, .weight_decay = 0, .adjust_lr = MuonScale::match_rms_adamw});
  compare<Muon>("spectral", {.lr = 0.01,
                             .a = 3,
                             .b = -3.2,
                             .c = 1.2,
                             .ns_steps = 3,
                             .adjust_lr = MuonScale::spectral_unclamped});
  compare<Muon>("maximize", {.lr = 0.01, .maximize = true});
  compare<Polyak>("plain", {});
  compare<Polyak>("capped", {.lr = 0.05});
  compare<Polyak>("f_star", {.f_star = 0.9});
  compare<Polyak>("both", {.lr = 0.3, .f_star = 0.5});
}

TEST_CASE("no golden series was left out") {
  CHECK(static_cast<std::size_t>(trajectories64 + trajectories32) == golden.size());
  CHECK(trajectories64 == 76);
  CHECK(trajectories32 == 55);
  std::printf(
      "golden: %d trajectories of 100 steps in float64, worst %.1e; %d in float32, step by step, "
      "worst %.1f ulp\n",
      trajectories64, worst64, trajectories32, worst32);
}
