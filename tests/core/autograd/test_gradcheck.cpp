#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "gradients/table.hpp"

using namespace gradients;

namespace {

/// The names of the functions in the public headers that take a tensor and return one.
std::set<std::string> public_functions() {
  std::set<std::string> names;
  for (const char* folder : {"core/ops", "nn"})
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(std::string(DESCENT_ROOT "/") + folder)) {
      if (entry.path().extension() != ".hpp") continue;
      std::ifstream file(entry.path());
      for (std::string line; std::getline(file, line);) {
        if (const std::string mark = "[[nodiscard]] "; line.starts_with(mark))
          line.erase(0, mark.size());
        const std::size_t open = line.find('('), space = line.find(' ');
        const std::string type = line.substr(0, space);
        if (open == std::string::npos || (type != "Tensor" && type != "std::vector<Tensor>"))
          continue;
        const std::string arguments = line.substr(open);
        if (arguments.starts_with("(const char* op")) continue;  // a kernel: it records nothing
        if (arguments.find("const In&") != std::string::npos ||
            arguments.find("const std::vector<Tensor>&") != std::string::npos)
          names.insert(line.substr(space + 1, open - space - 1));
      }
    }
  return names;
}

/// The layers in the public headers: classes that are modules, but for the bases of others.
std::set<std::string> public_layers() {
  std::set<std::string> layers, bases{"Module"};
  std::string line, kind, name, colon, access, base;
  for (const auto& entry : std::filesystem::directory_iterator(DESCENT_ROOT "/nn/layers")) {
    std::ifstream file(entry.path());
    std::stringstream all;  // a long class-head is one line here
    for (std::string before; std::getline(file, line); before = line)
      all << (line.starts_with("    : public") ? " " : "\n") << line;
    while (std::getline(all, line)) {
      std::istringstream words(line);
      words >> kind >> name >> colon >> access >> base;
      if (kind != "class" || colon != ":" || base == "ModuleBase") continue;
      layers.insert(name);
      bases.insert(base.substr(0, base.find('<')));
    }
  }
  for (const std::string& each : bases) layers.erase(each);
  return layers;
}

/// Each time with the same numbers, which are float32's in either dtype.
void run_all(Tally& tally, DType dtype) {
  kNumber = dtype;
  manual_seed(1);
  for (auto rows : Family::all()) rows(tally);
  kNumber = float64;
}

}  // namespace

TEST_CASE("every differentiable function has the derivative it says, to the second order") {
  Tally tally;
  run_all(tally, float64);
  MESSAGE(tally.checks, " gradient checks of ", tally.functions.size(),
          " functions and layers, worst error ", tally.worst);
  CHECK(tally.checks >= 10'000);

  std::set<std::string> missing = public_functions();
  CHECK(missing.size() > 60);
  for (const char* none : {"eq",          "ne",
                           "lt",          "le",
                           "gt",          "ge",
                           "logical_and", "logical_or",
                           "logical_not", "isnan",
                           "isfinite",    "argmax",
                           "argmin",      "any",
                           "all",         "nonzero",
                           "zeros_like",  "ones_like",
                           "full_like",   "argsort",
                           "bincount",    "count_nonzero",
                           "one_hot",     "isinf",
                           "logical_xor", "multinomial",
                           "rand_like",   "randn_like"})
    missing.erase(none);
  missing.erase("confusion_matrix");
  for (const std::string& name : public_layers()) missing.insert(name);
  for (const auto& row : tally.functions) {
    missing.erase(row.first);
    INFO(row.first);
    CHECK(row.second >= 20);
  }
  for (const std::string& name : missing)
    FAIL_CHECK(name, " has no row in the table of gradient checks");
}

TEST_CASE("float32 gives what float64 gives, values and gradients, to 64 units of the last place") {
  Tally tally{.mode = Mode::expect};
  run_all(tally, float64);
  tally.mode = Mode::compare;
  run_all(tally, float32);
  CHECK(tally.compared == tally.expected.size());
  CHECK(tally.compared > 4500);
  std::printf(
      "float32: %lld values compared with float64, of %zu rows of %zu functions and layers, "
      "off by at most %.1f ulp (%s)\n",
      static_cast<long long>(tally.checks), tally.compared, tally.functions.size(), tally.worst,
      tally.worst_row.c_str());
}

TEST_CASE("a wrong derivative is found, and its cause named") {
  const Tensor x = tensor({0.5, -1.25}, float64).requires_grad_();
  auto wrong = [](double factor) {
    return [factor](const Tensors& in) {
      return record(
          "wrong", map("wrong", in[0], [](auto v) { return v * v; }),
          wrt(In(in[0]), [x = saved(in[0]), factor](const Tensor& g) { return g * x * factor; }));
    };
  };
  CHECK(gradcheck(wrong(2), {x}).ok);
  CHECK(gradcheck(wrong(-2), {x}).message.find("the sign is wrong") != std::string::npos);
  CHECK(gradcheck(wrong(0), {x}).message.find("the derivative is missing") != std::string::npos);
  CHECK(gradcheck(wrong(2 + 1e-7), {x}).ok == false);
  const std::string message = gradcheck(wrong(4), {x}).message;
  CHECK(message.find("first order, input 0 [2], element [0] = 0.5") != std::string::npos);
  CHECK(message.find("off by a factor of 2") != std::string::npos);
}

TEST_CASE("a kink that is crossed is named as the cause") {
  const Tensor x = tensor({0.5, 1e-5}, float64).requires_grad_();
  const GradcheckResult r = gradcheck([](const Tensors& in) { return relu(in[0]); }, {x});
  CHECK_FALSE(r.ok);
  CHECK(r.message.find("a kink is crossed") != std::string::npos);
  CHECK(values(x) == Values{0.5, 1e-5});
}

TEST_CASE("a wrong second derivative is found") {
  // The derivative is right, but its own derivative takes x for a constant.
  auto f = [](const Tensors& in) {
    const Tensor constant = in[0].detach();
    return record(
        "cube", map("cube", in[0], [](auto v) { return v * v * v; }),
        wrt(In(in[0]), [constant](const Tensor& g) { return g * constant * constant * 3; }));
  };
  const Tensor x = tensor({0.5, -1.25}, float64).requires_grad_();
  CHECK(gradcheck(f, {x}).ok);
  CHECK(gradcheck(f, {x}, {.order = 2}).message.find("second order") != std::string::npos);
}

TEST_CASE("gradcheck refuses what it cannot judge") {
  const Function id = [](const Tensors& x) { return x[0] * 1.0; };
  CHECK(refusal<DtypeError>([&] {
          gradcheck(id, {tensor({1., 2.}).requires_grad_()});
        }) == "gradcheck: inputs[0] is float32: need float64");
  CHECK(refusal<ValueError>([&] {
          gradcheck(id, {tensor({1., 2.}, float64)});
        }) == "gradcheck: no input requires a gradient");
}

TEST_CASE("gradcheck takes functions that differentiate themselves") {
  const auto slope = [](const Tensors& in) {  // |d/dx sum x^3|^2 = 9 x^4
    return square(grad({pow(in[0], 3).sum()}, {in[0]}, {.create_graph = true})[0]).sum();
  };
  const Tensor x = tensor({0.5, -1.5, 2.0}, float64).requires_grad_();
  const GradcheckResult result = gradcheck(slope, {x}, {.order = 2});
  INFO(result.message);
  CHECK(result.ok);
  CHECK(result.checks == 3);  // x to both orders, and the outer gradient
}
