#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <doctest/doctest.h>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "descent/data/formats/file.hpp"
#include "descent/descent.hpp"

#include "optim.hpp"

// Every update rule against 100 steps of PyTorch's, or of its paper's formula: golden/optim.py.

using namespace descent;

namespace {

/// Its name in the golden file, and an optimizer with its options.
struct Case {
  std::string rule, name;
  std::function<std::unique_ptr<optim::OptimizerBase>(const NamedTensors&)> make;
};
template <class Opt> Case on(const char* name, const typename Opt::Rule& options) {
  return {Opt::Rule::name, name,
          [options](const NamedTensors& p) { return std::make_unique<Opt>(p, options); }};
}

using namespace optim;
const Case cases[] = {
    on<SGD>("no_momentum", {.lr = 0.1, .dampening = 0.5}),
    on<SGD>("momentum", {.lr = 0.1, .momentum = 0.9}),
    on<SGD>("dampening", {.lr = 0.1, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.01}),
    on<SGD>("nesterov", {.lr = 0.05, .momentum = 0.8, .weight_decay = 0.02, .nesterov = true}),
    on<SGD>("maximize", {.lr = 0.002, .momentum = 0.5, .weight_decay = 0.1, .maximize = true}),
    on<Adagrad>("plain", {.lr = 0.1}),
    on<Adagrad>("lr_decay", {.lr = 0.5, .lr_decay = 0.1}),
    on<Adagrad>("decay", {.lr = 0.1, .weight_decay = 0.1, .eps = 1e-3}),
    on<Adagrad>("initial", {.lr = 0.1, .initial_accumulator_value = 0.5}),
    on<Adagrad>("maximize", {.lr = 0.02, .lr_decay = 0.01, .maximize = true}),
    on<RMSprop>("plain", {.lr = 0.02}),
    on<RMSprop>("momentum", {.lr = 0.01, .alpha = 0.9, .momentum = 0.8}),
    on<RMSprop>("centered", {.lr = 0.02, .eps = 1e-3, .centered = true}),
    on<RMSprop>("all", {.lr = 0.01,
                        .alpha = 0.95,
                        .eps = 1e-2,
                        .weight_decay = 0.1,
                        .momentum = 0.5,
                        .centered = true}),
    on<RMSprop>("maximize", {.lr = 0.002, .weight_decay = 0.01, .maximize = true}),
    on<Adadelta>("plain", {}),
    on<Adadelta>("rho", {.lr = 0.5, .rho = 0.8, .eps = 1e-3}),
    on<Adadelta>("decay", {.lr = 2, .weight_decay = 0.1}),
    on<Adadelta>("maximize", {.lr = 0.1, .eps = 1e-4, .maximize = true}),
    on<Adam>("plain", {.lr = 0.05}),
    on<Adam>("amsgrad", {.lr = 0.05, .beta2 = 0.9, .amsgrad = true}),
    on<Adam>("decay", {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-3, .weight_decay = 0.1}),
    on<Adam>("no_beta1", {.lr = 0.02, .beta1 = 0, .beta2 = 0.95}),
    on<Adam>("maximize", {.lr = 0.01, .weight_decay = 0.05, .amsgrad = true, .maximize = true}),
    on<AdamW>("plain", {.lr = 0.05}),
    on<AdamW>("amsgrad", {.lr = 0.05, .beta2 = 0.9, .weight_decay = 0.1, .amsgrad = true}),
    on<AdamW>("no_decay",
              {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-3, .weight_decay = 0}),
    on<AdamW>("maximize", {.lr = 0.01, .weight_decay = 0.2, .maximize = true}),
    on<Adamax>("plain", {.lr = 0.05}),
    on<Adamax>("betas", {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.9}),
    on<Adamax>("decay", {.lr = 0.05, .eps = 1e-1, .weight_decay = 0.1}),
    on<Adamax>("maximize", {.lr = 0.01, .weight_decay = 0.01, .maximize = true}),
    on<NAdam>("plain", {.lr = 0.05}),
    on<NAdam>("momentum_decay",
              {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-3, .momentum_decay = 0.1}),
    on<NAdam>("decay", {.lr = 0.05, .weight_decay = 0.1}),
    on<NAdam>("decoupled", {.lr = 0.05, .weight_decay = 0.1, .decoupled_weight_decay = true}),
    on<NAdam>("maximize", {.lr = 0.01, .momentum_decay = 0, .maximize = true}),
    on<RAdam>("plain", {.lr = 0.05}),
    on<RAdam>("unrectified", {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.6}),
    on<RAdam>("decay", {.lr = 0.05, .beta2 = 0.9, .eps = 1e-3, .weight_decay = 0.1}),
    on<RAdam>("decoupled", {.lr = 0.05, .weight_decay = 0.1, .decoupled_weight_decay = true}),
    on<RAdam>("maximize", {.lr = 0.01, .maximize = true}),
    on<Rprop>("plain", {}),
    on<Rprop>("etas", {.lr = 0.05, .eta_minus = 0.3, .eta_plus = 1.5}),
    on<Rprop>("bounds", {.lr = 0.01, .step_min = 0.005, .step_max = 0.02}),
    on<Rprop>("maximize", {.lr = 0.001, .step_max = 0.01, .maximize = true}),
    on<ASGD>("plain", {.lr = 0.05}),
    on<ASGD>("average", {.lr = 0.05, .t0 = 10}),
    on<ASGD>("alpha", {.lr = 0.2, .lambd = 0.1, .alpha = 0.5, .t0 = 0}),
    on<ASGD>("decay", {.lr = 0.05, .lambd = 0, .t0 = 50, .weight_decay = 0.1}),
    on<ASGD>("maximize", {.lr = 0.002, .lambd = 0.01, .alpha = 1, .t0 = 5, .maximize = true}),
    on<Adafactor>("plain", {}),
    on<Adafactor>("decay", {.lr = 0.1, .weight_decay = 0.1}),
    on<Adafactor>("beta2", {.lr = 0.2, .beta2_decay = -0.5, .eps1 = 0.3, .eps2 = 0.5}),
    on<Adafactor>("clipping", {.lr = 0.1, .beta2_decay = -0.3, .d = 1.5}),
    on<Adafactor>("still", {.lr = 0.05}),
    on<Adafactor>("maximize", {.lr = 0.01, .weight_decay = 0.01, .maximize = true}),
    on<Lion>("plain", {.lr = 0.01}),
    on<Lion>("decay", {.lr = 0.01, .weight_decay = 0.1}),
    on<Lion>("betas", {.lr = 0.02, .beta1 = 0.5, .beta2 = 0.8}),
    on<Lion>("maximize", {.lr = 0.01, .weight_decay = 0.01, .maximize = true}),
    on<LAMB>("plain", {.lr = 0.02}),
    on<LAMB>("decay", {.lr = 0.02, .weight_decay = 0.1}),
    on<LAMB>("betas", {.lr = 0.05, .beta1 = 0.8, .beta2 = 0.9, .eps = 1e-2}),
    on<LAMB>("origin", {.lr = 0.02, .weight_decay = 0.01}),
    on<LAMB>("still", {.lr = 0.02}),
    on<LAMB>("maximize", {.lr = 0.005, .weight_decay = 0.1, .maximize = true}),
    on<LARS>("plain", {.lr = 0.5, .trust_coefficient = 0.1}),
    on<LARS>("decay", {.lr = 0.5, .momentum = 0.5, .weight_decay = 0.1, .trust_coefficient = 0.1}),
    on<LARS>("nesterov", {.lr = 0.3, .trust_coefficient = 0.1, .nesterov = true}),
    on<LARS>("origin", {.lr = 0.01, .momentum = 0, .trust_coefficient = 1}),
    on<LARS>("still", {.lr = 0.1, .weight_decay = 0.01, .trust_coefficient = 0.1}),
    on<LARS>("maximize", {.lr = 0.05, .momentum = 0.5, .trust_coefficient = 0.1, .maximize = true}),
    on<Muon>("plain", {.lr = 0.02}),
    on<Muon>("ema", {.lr = 0.02, .weight_decay = 0, .momentum = 0.9, .nesterov = false}),
    on<Muon>("match_rms", {.lr = 0.02, .momentum = 0.5, .adjust_lr = MuonScale::match_rms_adamw}),
    on<Muon>("spectral", {.lr = 0.01,
                          .a = 3,
                          .b = -3.2,
                          .c = 1.2,
                          .ns_steps = 3,
                          .adjust_lr = MuonScale::spectral_unclamped}),
    on<Muon>("eps", {.lr = 0.02, .eps = 20, .ns_steps = 2}),
    on<Muon>("still", {.lr = 0.02}),
    on<Muon>("maximize", {.lr = 0.005, .maximize = true}),
    on<Polyak>("plain", {}),
    on<Polyak>("capped", {.lr = 0.05}),
    on<Polyak>("f_star", {.f_star = 0.9}),
    on<Polyak>("still", {.lr = 0.3, .f_star = 0.5}),
    on<Polyak>("maximize", {.lr = 0.01, .f_star = 100, .maximize = true}),
};

// ---- The golden file.

/// Parameters ("p0") and, in float32, their state ("p0/m"), before the first step and after each.
using Moment = std::map<std::string, Values>;
using Trajectory = std::vector<Moment>;

/// Each series under its "RULE/NAME DTYPE".
std::map<std::string, Trajectory> read_golden() {
  data::InputFile file("golden", DESCENT_ROOT "/tests/golden/optim.txt.gz", At::here());
  std::istringstream text(file.take(std::size_t{1} << 30));
  std::map<std::string, Trajectory> all;
  std::vector<std::pair<std::string, int>> columns;
  Trajectory* series = nullptr;
  for (std::string line, word; std::getline(text, line);) {
    std::istringstream words(line);
    if (line.starts_with("case ")) {
      std::string name, dtype;
      words >> word >> name >> dtype;
      series = &all[name + " " + dtype];
      for (columns.clear(); words >> word;) {
        const auto colon = word.find(':');
        columns.emplace_back(word.substr(0, colon), std::stoi(word.substr(colon + 1)));
      }
    } else if (!line.starts_with("#")) {
      Moment& moment = series->emplace_back();
      const char* at = line.c_str();
      for (const auto& [column, count] : columns)
        for (char* end; moment[column].size() < static_cast<std::size_t>(count); at = end)
          moment[column].push_back(std::strtod(at, &end));
      CHECK(*at == '\0');
    }
  }
  return all;
}

// ---- The walk.

NamedTensors parameters_at(const std::string& rule, const Moment& moment, DType dtype) {
  std::vector<Shape> shapes{{3}, {2, 2}, {}};
  if (rule == "Adafactor") shapes = {{3}, {2, 3}, {4, 2}};
  if (rule == "Muon") shapes = {{2, 3}, {3, 2}, {4, 4}};
  NamedTensors all;
  for (const Shape& shape : shapes) {
    const std::string name = "p" + std::to_string(all.size());
    all.emplace_back(name, tensor(moment.at(name), shape, dtype).requires_grad_());
  }
  return all;
}

/// One step along the golden gradients.
void take_step(const Case& c, OptimizerBase& opt, int64_t t) {
  double squares = 0;
  int64_t p = 0;
  for (const auto& [name, x] : opt.parameters()) {
    Values g = x.to_vector<double>();
    int64_t i = 0;
    for (double& v : g) {
      squares += v * v / 2;
      const double on_diagonal = c.rule == "Muon" && i % (x.size(1) + 1) == 0 ? 4 : 0;
      v = v * static_cast<double>(i % 4 + 1) / 4 +
          (static_cast<double>((7 * t + 3 * i + 5 * p) % 11 - 5) / 8 + on_diagonal);
      ++i;
    }
    x.set_grad(tensor(g, x.shape(), x.dtype()));
    ++p;
  }
  const double loss = 1 + static_cast<double>(t % 5) / 4 + squares;
  if (c.rule == "Polyak") opt.step(tensor(loss, float64));
  else opt.step();
}

/// Puts `opt`, which has taken a step, where the other one stood after t of them.
void stand_at(const Case& c, OptimizerBase& opt, const Moment& moment, int64_t t) {
  const auto as = [&](const Tensor& x, const std::string& name) {
    return tensor(moment.at(name), x.shape(), x.dtype());
  };
  for (const auto& [name, x] : opt.parameters()) {
    NoGradGuard no_grad;
    x.copy_(as(x, name));
  }
  NamedTensors state = opt.state_dict();
  for (auto& [key, x] : state) {
    const std::string name = key.substr(c.rule.size() + 1);
    if (moment.count(name) != 0) x = as(x, name);
    else if (name.ends_with("/step")) x = tensor(t, int64);
  }
  opt.load_state_dict(state);
}

// ---- The comparison.

double ulp(double x) {
  const auto single = static_cast<float>(x);
  return static_cast<double>(std::nextafter(single, INFINITY)) - static_cast<double>(single);
}

/// The largest error of what `opt` came to from `before`: in float64 relative to the number or to
/// its change, in float32 in ulps of these.
double error_at(const Case& c, const OptimizerBase& opt, const Moment& before, const Moment& wanted,
                DType dtype) {
  std::map<std::string, Tensor> found;
  for (const auto& [key, x] : opt.state_dict()) found[key.substr(c.rule.size() + 1)] = x;
  for (const auto& [name, x] : opt.parameters()) found[name] = x;
  double worst = 0;
  for (const auto& entry : wanted) {
    const std::string& name = entry.first;
    const Values& values = entry.second;
    CAPTURE(name);
    REQUIRE(found.count(name) == 1);
    const Values ours = found.at(name).to_vector<double>(), &from = before.at(name);
    const bool is_state = name.find('/') != std::string::npos;
    REQUIRE(ours.size() == values.size());
    for (std::size_t i = 0; i < ours.size(); ++i) {
      if (ours[i] == values[i]) continue;
      const double change = is_state ? 0 : std::abs(values[i] - from[i]);
      const double size = std::max({std::abs(from[i]), std::abs(values[i]), change});
      const double error = std::abs(ours[i] - values[i]) / (dtype == float32 ? ulp(size) : size);
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
  }
  return worst;
}

struct Tally {
  int trajectories = 0, steps = 0;
  double worst = 0;

  void add(const Case& c, const Trajectory& golden, DType dtype, double limit) {
    const std::string name = c.rule + "/" + c.name;
    CAPTURE(name);
    CHECK(golden.size() == 101);
    const auto opt = c.make(parameters_at(c.rule, golden[0], dtype));
    for (std::size_t t = 1; t < golden.size(); ++t, ++steps) {
      CAPTURE(t);
      const auto step = static_cast<int64_t>(t);
      if (dtype == float32 && t > 1) stand_at(c, *opt, golden[t - 1], step - 1);
      take_step(c, *opt, step);
      const double error = error_at(c, *opt, golden[t - 1], golden[t], dtype);
      CHECK(error <= limit);
      worst = std::max(worst, error);
    }
    ++trajectories;
  }
};

}  // namespace

TEST_CASE("every rule walks as PyTorch's or its paper's does") {
  const auto golden = read_golden();
  Tally exact, single;
  for (const Case& c : cases) {
    const std::string name = c.rule + "/" + c.name;
    exact.add(c, golden.at(name + " f64"), float64, 1e-12);
    const auto more = golden.find(name + " f32");
    if (more != golden.end()) single.add(c, more->second, float32, 8);
  }
  CHECK(exact.trajectories == 85);
  CHECK(single.trajectories == 57);
  CHECK(golden.size() == 85 + 57);
  std::printf(
      "golden: %d trajectories, %d steps in float64, off by %.1e; "
      "%d trajectories, %d steps in float32, off by %.1f ulp\n",
      exact.trajectories, exact.steps, exact.worst, single.trajectories, single.steps,
      single.worst);
}

TEST_CASE("the names of hyper-parameters are those of the members, in their order") {
  std::map<std::string, std::vector<std::string>> members;  // as the headers declare them
  for (const char* header : {"rules", "adam", "tensor_rules"}) {
    std::ifstream file(std::string(DESCENT_ROOT "/optim/") + header + ".hpp");
    std::vector<std::string>* own = nullptr;
    for (std::string line; std::getline(file, line);) {
      const std::size_t rule = line.find("> struct ");
      if (rule != std::string::npos) {
        own = &members[line.substr(rule + 9, line.find("Rule {") - rule - 9)];
        continue;
      }
      if (line.find("static constexpr") != std::string::npos) own = nullptr;
      if (!own || line.find("///") != std::string::npos) continue;
      for (std::size_t at = 0; (at = line.find(" = ", at)) != std::string::npos; ++at)
        own->push_back(line.substr(line.rfind(' ', at - 1) + 1, at - line.rfind(' ', at - 1) - 1));
    }
  }
  int rules = 0;
  for_every_rule([&]<class Opt>(typename Opt::Rule) {
    const auto& hyper = Opt::Rule::hyper;
    CHECK(members[Opt::Rule::name] == std::vector<std::string>(hyper.begin(), hyper.end()));
    ++rules;
  });
  CHECK(rules == static_cast<int>(members.size()));
}
