#include <cmath>

#include "support.hpp"

using namespace descent;

namespace {

struct Net : nn::Module {
  nn::Linear fc = register_module("fc", nn::Linear(3, 2));
  Tensor forward(const In& x) const override { return log(fc(x) * 0.0); }
};
struct Model : nn::Module {
  Net net = register_module("net", Net());
  Tensor forward(const In& x) const override { return net(x) * 2.0; }
};

/// The text of the NumericError of f under a guard, with its place.
template <class F> std::string found(F f) {
  return full_refusal<NumericError>([&] {
    const AnomalyGuard guard;
    f();
  });
}
std::string line(int number, const std::string& module = "") {
  return " (test_anomaly.cpp:" + std::to_string(number) +
         (module.empty() ? ")" : ", in " + module + ")");
}

}  // namespace

TEST_CASE("the op that makes the first number that is not finite is named, with its inputs") {
  const Tensor x = tensor({{1., 0.}, {2., -3.}}).requires_grad_();
  int at = __LINE__ + 1;
  std::string text = found([&] { (void)(exp(log(abs(x.narrow(1, 0, 1) * 0.0))) + 1.0); });
  CHECK(text ==
        "log: it made -inf at [0, 0] of [2, 1] of finite inputs: [2, 1] in [0, 0]" + line(at));
  at = __LINE__ + 1;
  text = found([&] { (void)(x / (x - 1.0)); });
  CHECK(text ==
        "div: it made inf at [0, 0] of [2, 2] of finite inputs: [2, 2] in [-3, 2], [2, 2] "
        "in [-4, 1]" +
            line(at));
  at = __LINE__ + 1;
  text = found([&] { (void)exp(full({2}, 100)); });
  CHECK(text == "exp: it made inf at [0] of [2] of finite inputs: [2] in [100, 100]" + line(at));
  text = found([&] { (void)cat({sqrt(x)}); });
  CHECK(text.find("sqrt: it made ") == 0);
  CHECK(text.find("nan at [1, 1] of [2, 2]") != std::string::npos);
  text = found([&] { (void)stack({x, x * 1e30, x * 1e30 * 1e30}); });
  CHECK(text.starts_with("mul: it made inf at [0, 0] of [2, 2]"));
  const NoGradGuard off;
  CHECK(found([&] { (void)log(zeros({1})); }).starts_with("log: it made -inf at [0] of [1]"));
}

TEST_CASE("an op inside a module is named with the module's path") {
  const Model model;
  const std::string text = found([&] { (void)model(ones({1, 3})); });
  CHECK(text.starts_with("log: it made -inf at [0, 0] of [1, 2] of finite inputs: [1, 2] in "));
  CHECK(text.ends_with(", in net)"));
}

TEST_CASE("a derivative that makes a gradient that is not finite is named") {
  const Tensor x = tensor({4., 0.}).requires_grad_();
  int at = 0;
  const std::string text = found([&] {
    at = __LINE__ + 1;
    const Tensor y = sqrt(x);
    sum(y * 3.0).backward();
  });
  CHECK(text ==
        "sqrt: its derivative made inf at [1] of [2] for input 0 of a finite gradient [2] in "
        "[3, 3]" +
            line(at));
}

TEST_CASE("what only passes on is not named, and neither is what a program writes itself") {
  const Tensor x = tensor({1., kInf, kNan}).requires_grad_(),
               y = tensor({1., 2., 3.}).requires_grad_();
  const Tensor mask = tensor({true, false, false});
  CHECK(found([&] {
          sum(x * 2.0 + exp(x)).backward();
          sum(softmax(masked_fill(y, mask, -kInf))).backward();
          (void)max(where(mask, y, kInf));
        }) == kNothingThrown);
}

TEST_CASE("a healthy run is silent, and without a guard nothing is refused") {
  manual_seed(1);
  nn::Sequential net{nn::Linear(3, 8), relu, nn::Linear(8, 2)};
  optim::Adam opt(net.named_parameters(), {.lr = 0.01});
  const Tensor x = noise({6, 3}, 1), target = tensor({0, 1, 0, 1, 1, 0});
  CHECK(found([&] {
          for (int step = 0; step < 5; ++step) {
            opt.zero_grad();
            nn::cross_entropy(net(x), target).backward();
            opt.step();
          }
        }) == kNothingThrown);
  CHECK(values(log(zeros({1}))) == Values{-kInf});
  {
    const AnomalyGuard outer;
    { const AnomalyGuard inner; }
    CHECK_THROWS_AS((void)log(zeros({1})), NumericError);
  }
  CHECK(values(log(zeros({1}))) == Values{-kInf});
}
