#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <doctest/doctest.h>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "descent/data/formats/file.hpp"
#include "descent/descent.hpp"

// The cases that scripts in golden/ have written, and their comparison. golden/cases.py says how
// they are written.

/// Arguments, options, results and gradients of one call of PyTorch's.
struct GoldenCase {
  std::string name;
  descent::DType dtype;
  std::map<std::string, std::string> options;
  std::map<std::string, descent::Tensor> tensors;

  const descent::Tensor& tensor(const std::string& key) const { return tensors.at(key); }
  /// The tensor, as a leaf that requires a gradient; undefined if the case has none.
  descent::Tensor leaf(const std::string& key) const {
    const auto found = tensors.find(key);
    return found == tensors.end() ? descent::Tensor() : found->second.clone().requires_grad_();
  }
  std::string option(const std::string& key, const std::string& otherwise) const {
    const auto found = options.find(key);
    return found == options.end() ? otherwise : found->second;
  }
  bool flag(const std::string& key, bool otherwise) const {
    return option(key, otherwise ? "True" : "False") == "True";
  }
  double number(const std::string& key, double otherwise) const {
    const auto found = options.find(key);
    return found == options.end() ? otherwise : std::stod(found->second);
  }
  /// `3` or `3x5`.
  descent::Size2d size(const std::string& key, descent::Size2d otherwise) const {
    const auto found = options.find(key);
    if (found == options.end()) return otherwise;
    const std::string& text = found->second;
    const std::size_t x = text.find('x');
    if (x == std::string::npos) return std::stoll(text);
    return {std::stoll(text.substr(0, x)), std::stoll(text.substr(x + 1))};
  }
};

/// "2x3", or "-" for a scalar's.
inline descent::Shape golden_shape(const std::string& text) {
  descent::Shape shape;
  std::istringstream sizes(text == "-" ? "" : text);
  for (std::string size; std::getline(sizes, size, 'x');) shape.push_back(std::stoll(size));
  return shape;
}

/// All cases of `op` in golden/FAMILY.txt.gz.
inline std::vector<GoldenCase> golden_cases(const std::string& op,
                                            const std::string& family = "layers") {
  descent::data::InputFile file("golden", DESCENT_ROOT "/tests/golden/" + family + ".txt.gz",
                                descent::At::here());
  std::istringstream content(file.take(1 << 26));
  std::vector<GoldenCase> cases;
  bool wanted = false;
  for (std::string line; std::getline(content, line);) {
    std::istringstream words(line);
    std::string key, second, third;
    words >> key >> second;
    if (key == "case") {
      wanted = second.starts_with(op + "/");
      if (!wanted) continue;
      words >> third;
      GoldenCase c{second, third == "f32" ? descent::float32 : descent::float64, {}, {}};
      for (std::string option; words >> option;)
        c.options[option.substr(0, option.find('='))] = option.substr(option.find('=') + 1);
      cases.push_back(c);
    } else if (wanted && key != "#") {
      std::vector<double> values;
      for (std::string value; words >> value;)
        values.push_back(std::strtod(value.c_str(), nullptr));
      const std::size_t colon = second.find(':');
      const descent::DType dtype = colon == std::string::npos         ? cases.back().dtype
                                   : second.substr(colon) == ":int64" ? descent::int64
                                                                      : descent::boolean;
      cases.back().tensors[key] =
          descent::tensor(values, golden_shape(second.substr(0, colon)), dtype);
    }
  }
  return cases;
}

/// What was compared, and the largest errors in units of the last place of the largest number.
struct GoldenTally {
  int cases = 0;
  int64_t values = 0;
  double exact = 0, single = 0;  // float64, float32
  double most = 4;               // the largest that is right in float32

  /// Compares `output` and its gradients, those of each leaf with a golden one, to the case's.
  void add(const GoldenCase& c, const descent::Tensor& output,
           const std::map<std::string, descent::Tensor>& leaves) {
    add(c, std::vector<descent::Tensor>{output}, leaves);
  }
  /// The same for several results.
  void add(const GoldenCase& c, const std::vector<descent::Tensor>& outputs,
           const std::map<std::string, descent::Tensor>& leaves) {
    CAPTURE(c.name);
    CAPTURE(str(c.dtype));
    descent::Tensor total = descent::zeros({}, c.dtype);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const std::string key = "output" + (i == 0 ? "" : std::to_string(i + 1));
      compare(c, key, outputs[i]);
      if (c.tensors.count("grad_" + key) == 1)
        total = total + descent::sum(outputs[i] * c.tensor("grad_" + key));
    }
    if (total.requires_grad()) total.backward();
    for (const auto& entry : leaves)
      if (entry.second.defined()) compare(c, "grad_" + entry.first, entry.second.grad());
    ++cases;
  }
  /// Prints what was seen; `wanted` cases must have been compared in each dtype.
  void print(const char* op, int wanted) const {
    std::printf("golden: %s, %d cases, off by %.1e in float64, %.1f ulp in float32\n", op, cases,
                exact, single);
    CHECK(cases == 2 * wanted);
  }

 private:
  void compare(const GoldenCase& c, const std::string& key, const descent::Tensor& ours) {
    CAPTURE(key);
    REQUIRE(c.tensors.count(key) == 1);
    const descent::Tensor& theirs = c.tensor(key);
    REQUIRE(ours.shape() == theirs.shape());
    CHECK(ours.dtype() == theirs.dtype());
    const auto a = ours.to_vector<double>(), b = theirs.to_vector<double>();
    double largest = 0, worst = 0;
    for (double v : b)
      if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
    for (std::size_t i = 0; i < b.size(); ++i) {
      if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
      const double error = std::abs(a[i] - b[i]) / largest;
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
    values += static_cast<int64_t>(b.size());
    if (c.dtype == descent::float64) {
      CHECK(worst <= 1e-12);
      exact = std::max(exact, worst);
    } else {
      CHECK(worst <= most * 0x1p-23);
      single = std::max(single, worst * 0x1p23);
    }
  }
};

/// Gives a layer the parameters of a case, by name, and notes them among the leaves.
template <class Layer>
void load_case(Layer& layer, const GoldenCase& c, std::map<std::string, descent::Tensor>& leaves) {
  layer.to(c.dtype);
  descent::NamedTensors state;
  for (const auto& entry : layer.state_dict())
    state.emplace_back(entry.first, c.tensor(entry.first));
  layer.load_state_dict(state);
  for (const auto& [name, p] : layer.named_parameters()) leaves[name] = p;
}
