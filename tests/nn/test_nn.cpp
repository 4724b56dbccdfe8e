#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "support.hpp"

using namespace descent;

namespace {

std::vector<std::string> names(const NamedTensors& tensors) {
  std::vector<std::string> all;
  for (const auto& [name, t] : tensors) all.push_back(name);
  return all;
}
using Names = std::vector<std::string>;

struct Net : nn::Module {
  nn::Linear fc1 = register_module("fc1", nn::Linear(4, 3));
  nn::Dropout drop = register_module("drop", nn::Dropout(0.5));
  nn::Linear fc2 = register_module("fc2", nn::Linear(3, 2));
  Tensor scale = register_buffer("scale", full({2}, 2));
  Tensor forward(const In& x) const override { return fc2(drop(relu(fc1(x)))) * scale; }
};

/// A custom layer: at most 8 lines.
struct Scaled : nn::Module {
  explicit Scaled(int64_t n) : gain(register_parameter("gain", ones({n}))) {}
  Tensor gain;
  Tensor forward(const In& x) const override { return x * gain; }
};

struct Tied : nn::Module {
  nn::Linear in = register_module("in", nn::Linear(3, 3));
  Tensor out = register_parameter("out", in.weight);
  Tensor forward(const In& x) const override { return linear(in(x), out); }
};

template <class Inner> struct Box : nn::ModuleBase {};

}  // namespace

TEST_CASE("Linear has PyTorch's names, shapes and initial distribution") {
  manual_seed(1);
  const nn::Linear fc(400, 300);
  CHECK(names(fc.named_parameters()) == Names{"weight", "bias"});
  CHECK(fc.weight.shape() == Shape{300, 400});
  CHECK(fc.bias.shape() == Shape{300});
  const double bound = 1 / std::sqrt(400.0);
  double total = 0, squares = 0, largest = 0;
  for (double w : values(fc.weight)) {
    largest = std::max(largest, std::abs(w));
    total += w;
    squares += w * w;
  }
  const double n = 120000, sd = bound / std::sqrt(3.0);
  CHECK(std::abs(total / n) < 4 * sd / std::sqrt(n));
  CHECK(squares / n == doctest::Approx(sd * sd).epsilon(0.02));
  for (double b : values(fc.bias)) CHECK(std::abs(b) <= bound);
  CHECK(largest <= bound);
  CHECK(largest > 0.99 * bound);

  CHECK(names(nn::Linear(2, 2, {.bias = false}).named_parameters()) == Names{"weight"});
  CHECK(refusal<ValueError>([&] { nn::Linear(0, 2); }) ==
        "Linear: 0 inputs and 2 outputs: need at least one");
}

TEST_CASE("Linear is x W^T + b, with or without a bias and for leading axes") {
  const nn::Linear fc(2, 2), bare(2, 1, {.bias = false});
  {
    NoGradGuard no_grad;
    fc.weight.copy_(tensor({{1., 2.}, {3., 4.}}));
    fc.bias.copy_(tensor({10., 20.}));
    bare.weight.copy_(tensor({{5., 6.}}));
  }
  CHECK(values(fc(tensor({{1., 1.}, {0., 2.}}))) == Values{13, 27, 14, 28});
  CHECK(values(bare(tensor({{1., 2.}}))) == Values{17});
  CHECK(fc(zeros({3, 5, 2})).shape() == Shape{3, 5, 2});
  CHECK(fc(zeros({0, 2})).shape() == Shape{0, 2});
}

TEST_CASE("a state dict is a copy, and loading it makes another instance equal bit for bit") {
  Net a, b;
  const NamedTensors state = a.state_dict();
  CHECK(names(state) == Names{"scale", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"});
  CHECK(values(a.fc1.weight) != values(b.fc1.weight));
  b.load_state_dict(state);
  a.eval();
  b.eval();
  const Tensor x = randn({5, 4});
  CHECK(values(a(x)) == values(b(x)));
  CHECK(b.fc1.weight.requires_grad());
  CHECK(!state[1].second.requires_grad());
  state[1].second.fill_(7);
  CHECK(values(b.fc1.weight) == values(a.fc1.weight));
}

TEST_CASE("a state that does not fit is refused with all differences, and nothing changes") {
  Net net;
  NamedTensors state = net.state_dict();
  for (auto& [name, t] : state) t.fill_(9);
  state[1].second = zeros({4, 3});                // fc1.weight
  state[2].second = state[2].second.to(float64);  // fc1.bias
  state[3].first = "fc3.weight";                  // instead of fc2.weight
  const NamedTensors before = net.state_dict();
  CHECK(refusal<ValueError>([&] { net.load_state_dict(state); }) ==
        "load_state_dict: the state does not fit Net:\n"
        "  fc1.weight is float32 [3, 4] here and float32 [4, 3] there\n"
        "  fc1.bias is float32 [3] here and float64 [3] there\n"
        "  fc2.weight is missing\n"
        "  fc3.weight is unexpected\n");
  const NamedTensors after = net.state_dict();
  for (std::size_t i = 0; i < before.size(); ++i)
    CHECK(values(before[i].second) == values(after[i].second));
  CHECK(net.load_state_dict(before).missing.empty());

  // What fits is loaded on request, and the rest named.
  const IncompatibleKeys left = net.load_state_dict(state, {.strict = false});
  CHECK(left.missing == std::vector<std::string>{"fc2.weight"});
  CHECK(left.unexpected == std::vector<std::string>{"fc3.weight"});
  CHECK(left.mismatched == std::vector<std::string>{"fc1.weight", "fc1.bias"});
  CHECK(values(net.fc2.bias) == Values{9, 9});
  CHECK(same_bits(net.fc1.weight, before[1].second));
  CHECK(same_bits(net.fc1.bias, before[2].second));
}

TEST_CASE("tied weights count once, are saved under both names, and stay tied") {
  Tied net;
  CHECK(names(net.named_parameters()) == Names{"out", "in.bias"});
  CHECK(names(net.state_dict()) == Names{"out", "in.weight", "in.bias"});
  net(ones({1, 3})).sum().backward();
  CHECK(values(net.out.grad()) == values(net.in.weight.grad()));
  Tied other;
  other.load_state_dict(net.state_dict());
  CHECK(values(other.in.weight) == values(net.in.weight));
  net.to(float64);
  CHECK(net.in.weight.dtype() == float64);
  CHECK(names(net.named_parameters()) == Names{"out", "in.bias"});
}

TEST_CASE("frozen parameters get no gradient until they are unfrozen") {
  Net net;
  net.freeze("fc1.*");
  net(randn({2, 4})).sum().backward();
  CHECK(!net.fc1.weight.grad().defined());
  CHECK(net.fc2.weight.grad().defined());
  net.unfreeze("*.weight");
  net.zero_grad();
  CHECK(!net.fc2.weight.grad().defined());
  net(randn({2, 4})).sum().backward();
  CHECK(net.fc1.weight.grad().defined());
  CHECK(!net.fc1.bias.grad().defined());
  CHECK(refusal<ValueError>([&] { net.freeze("fc9*"); }) ==
        "freeze: no parameter of Net matches \"fc9*\"");
  net.freeze();
  CHECK(!net(randn({2, 4})).requires_grad());
}

TEST_CASE("train, eval and EvalGuard set the mode of everything below") {
  Net net;
  CHECK(net.training());
  net.drop.eval();
  {
    nn::EvalGuard eval(net);
    CHECK(!net.training());
    CHECK(!net.fc1.training());
    net.train();
  }
  CHECK(net.training());
  CHECK(net.fc1.training());
  CHECK(!net.drop.training());  // its own mode, from before
  net.eval();
  CHECK(!net.fc2.training());
  net.train();
  CHECK(net.drop.training());
}

TEST_CASE("Dropout keeps the mean in training and is the identity in evaluation") {
  nn::Dropout drop(0.25);
  const Tensor x = ones({100000});
  manual_seed(3);
  const Values y = values(drop(x));
  double total = 0, strange = 0;
  for (double v : y) {
    strange += v != 0 && std::abs(v - 4.0 / 3) > 1e-6;
    total += v;
  }
  CHECK(strange == 0);
  CHECK(std::abs(total / 1e5 - 1) < 0.01);  // 5 standard deviations
  manual_seed(3);
  CHECK(values(drop(x)) == y);
  CHECK(values(drop(x)) != y);
  CHECK(values(nn::Dropout(0)(x)) == values(x));
  drop.eval();
  CHECK(values(drop(x)) == values(x));
  CHECK(values(nn::Dropout(1)(x)) == Values(100000, 0));
  CHECK(refusal<ValueError>([&] { nn::Dropout(-0.1); }) == "Dropout: p is -0.1: need [0, 1]");
}

TEST_CASE("Flatten joins all axes but the first, or those it is told") {
  const Tensor x = zeros({2, 3, 4, 5});
  CHECK(nn::Flatten()(x).shape() == Shape{2, 60});
  CHECK(nn::Flatten(0)(x).shape() == Shape{120});
  CHECK(nn::Flatten(1, 2)(x).shape() == Shape{2, 12, 5});
}

TEST_CASE("Sequential takes layers, functions, lambdas and itself") {
  const nn::Linear fc(3, 2);
  nn::Sequential inner{fc, relu};
  nn::Sequential net{inner, [](const In& x) { return x * 2.0; }, nn::Flatten()};
  CHECK(net.size() == 3);
  CHECK(names(net.named_parameters()) == Names{"0.0.weight", "0.0.bias"});
  const Tensor x = randn({4, 3});
  CHECK(values(net(x)) == values(relu(fc(x)) * 2.0));
  const nn::Sequential one{fc}, copy{inner};
  CHECK(one.size() == 1);
  CHECK(values(one(x)) == values(fc(x)));
  CHECK(copy.size() == 2);
  CHECK(values(nn::Sequential()(x)) == values(x));
  inner.push_back(nn::Linear(2, 5));
  CHECK(net(x).shape() == Shape{4, 5});  // copies alias
  nn::Sequential more;
  more.push_back(tanh).push_back(fc);
  CHECK(values(more(x)) == values(fc(tanh(x))));
}

TEST_CASE("apply visits children first, and finds layers by their type") {
  nn::Sequential net{nn::Linear(2, 2), relu, nn::Sequential{nn::Linear(2, 2), nn::Dropout()}};
  int layers = 0;
  Names order;
  net.apply([&](nn::ModuleBase& m) {
    order.push_back(m.type());
    if (auto* fc = dynamic_cast<nn::Linear*>(&m)) {
      nn::init::constant_(fc->weight, ++layers);
      CHECK(fc->weight.requires_grad());
    }
  });
  CHECK(layers == 2);
  CHECK(order == Names{"Linear", "Function", "Linear", "Dropout", "Sequential", "Sequential"});
  Names paths;
  for (const auto& [name, m] : net.named_modules()) paths.push_back(name);
  CHECK(paths == Names{"", "0", "1", "2", "2.0", "2.1"});
  CHECK(net.parameters()[2].max().item() == 2);
}

TEST_CASE("to converts parameters and floating buffers under every handle") {
  Net net;
  const Net copy = net;
  const Tensor weight = net.fc1.weight;
  weight.set_grad(zeros_like(weight));
  const Values before = values(weight);
  net.to(float64);
  for (const Tensor& t : {weight, copy.fc1.weight, net.fc2.bias, net.scale})
    CHECK(t.dtype() == float64);
  CHECK(values(weight) == before);
  CHECK(weight.requires_grad());
  CHECK(!weight.grad().defined());
  CHECK(names(net.named_buffers()) == Names{"scale"});
  CHECK(copy(randn({1, 4}, float64)).dtype() == float64);
  CHECK(refusal<DtypeError>([&] { net.to(int64); }) ==
        "to: a module of int64: need float32 or float64");
  const Tensor kept = zeros_like(weight);
  weight.set_grad(kept);
  net.to(float64);  // nothing to do
  CHECK(weight.grad().defined());
}

TEST_CASE("names that are taken, empty or dotted are refused") {
  struct Bad : nn::ModuleBase {
    explicit Bad(const Names& all) {
      for (const std::string& name : all) register_parameter(name, zeros({1}));
    }
    void buffer(const std::string& name) { register_buffer(name, zeros({1})); }
    void child(const std::string& name) { register_module(name, nn::Flatten()); }
  };
  CHECK(refusal<ValueError>([&] {
          Bad({"w", "w"});
        }) == "register_parameter: Bad has a \"w\" already");
  CHECK(refusal<ValueError>([&] { Bad({"a.b"}); }) ==
        "register_parameter: \"a.b\" in Bad: a name is not empty and has no dot");
  CHECK(refusal<ValueError>([&] { Bad({""}); }) ==
        "register_parameter: \"\" in Bad: a name is not empty and has no dot");
  Bad good({"w"});
  CHECK(refusal<ValueError>([&] { good.buffer("w"); }) ==
        "register_buffer: Bad has a \"w\" already");
  good.child("c");
  CHECK(refusal<ValueError>([&] { good.child("c"); }) ==
        "register_module: Bad has a \"c\" already");
  CHECK(refusal<ValueError>([&] { good.child("c.d"); }) ==
        "register_module: \"c.d\" in Bad: a name is not empty and has no dot");
  CHECK(good.named_modules().size() == 2);
}

TEST_CASE("a handle keeps its own name wherever else its layer serves") {
  const Net net;
  const nn::Sequential other{net.fc1, relu, net.fc1};
  const Tensor wide = zeros({2, 5});
  CHECK(full_refusal<ShapeError>([&] { net(wide); }).ends_with(", in fc1)"));
  CHECK(full_refusal<ShapeError>([&] { other(wide); }).ends_with(", in 0)"));
  CHECK(nn::Sequential(other).named_modules().size() == 3);  // the layer counts once
  int visits = 0;
  nn::Sequential(other).apply([&](nn::ModuleBase&) { ++visits; });
  CHECK(visits == 3);
}

TEST_CASE("what would come apart from its module does not compile, or is refused") {
  static_assert(!std::is_copy_assignable_v<nn::Linear>);
  static_assert(!std::is_assignable_v<decltype((std::declval<Net&>().fc1.weight)), Tensor>);
  static_assert(!std::is_constructible_v<nn::Sequential::Step, const nn::Module&>);
  nn::Sequential net{nn::Linear(2, 2), relu};
  CHECK(refusal<ValueError>([&] { net.push_back(net); }) ==
        "register_module: Sequential would be part of itself, as \"2\"");
  CHECK(refusal<ValueError>([&] {
          net.push_back(nn::Sequential{relu, net});
        }) == "register_module: Sequential would be part of itself, as \"2\"");
  CHECK(net.size() == 2);
}

TEST_CASE("a class of its own inside a Sequential stays what it is") {
  struct Residual : nn::Sequential {
    using Sequential::Sequential;
    Tensor forward(const In& x) const override { return x + Sequential::forward(x); }
  };
  const Residual r{nn::Linear(2, 2)};
  const nn::Sequential one{r};
  const Tensor x = randn({3, 2});
  CHECK(values(one(x)) == values(r(x)));
}

TEST_CASE("a parameter is a leaf of its own unless it was one before") {
  struct Own : nn::ModuleBase {
    explicit Own(const Tensor& x) : w(register_parameter("w", x)) {}
    Tensor w;
  };
  const Tensor x = zeros({2});
  const Own own(x);
  CHECK(!x.requires_grad());
  CHECK(own.w.requires_grad());
  CHECK(own.w.data<float>() == x.data<float>());
  CHECK(refusal<ValueError>([&] { Own{Tensor()}; }) == "register_parameter: w of Own is undefined");
}

TEST_CASE("observers are told of every call, and the youngest first") {
  const nn::Sequential net{nn::Linear(2, 2), relu};
  std::vector<std::string> told;
  nn::Observer outer([&](const nn::Call& call) { told.push_back("outer " + call.path); });
  {
    nn::Observer inner([&](const nn::Call& call) { told.push_back("inner " + call.path); });
    net(zeros({1, 2}));
  }
  CHECK(told == Names{"inner 0", "outer 0", "inner 1", "outer 1", "inner ", "outer "});
}

TEST_CASE("copies of a module alias its parameters, modes and children") {
  Net net;
  Net copy = net;
  copy.eval();
  CHECK(!net.training());
  nn::init::constant_(copy.fc1.weight, 3);
  CHECK(net.fc1.weight.max().item() == 3);
}

namespace {
struct Forgetful : nn::Module {
  nn::Linear forgotten{2, 2};
  nn::Dropout drop{0.5};
  nn::MaxPool2d pool{1};
  nn::Linear out = register_module("out", nn::Linear(2, 1));
  static constexpr int line = __LINE__ + 1;
  Tensor forward(const In& x) const override { return out(drop(forgotten(x))); }
};
}  // namespace

TEST_CASE("a layer that is called inside another one and was never registered is named once") {
  const Forgetful net;
  const std::string line = std::to_string(__LINE__ + 2);
  const std::string text = standard_error([&] {
    for (int i = 0; i < 3; ++i) net(ones({1, 2}));
  });
  const std::string rule = " that was never registered: ",
                    cure = ": make it a member by register_module(\"...\", ";
  CHECK(text == "descent: Forgetful calls a Linear" + rule +
                    "its parameters are neither trained nor saved, and it has a mode of its own" +
                    cure + "Linear(...)) (test_nn.cpp:" + line +
                    ")\n"
                    "descent: Forgetful calls a Dropout" +
                    rule + "it does not follow train() and eval()" + cure +
                    "Dropout(...)) (test_nn.cpp:" + std::to_string(Forgetful::line) + ")\n");

  struct Parent : nn::Module {  // a layer may be called by each module inside its owner
    nn::Sequential body = register_module("body", nn::Sequential{nn::Linear(2, 2)});
    nn::Linear shared = register_module("shared", nn::Linear(2, 2));
    nn::Sequential tail =
        register_module("tail", nn::Sequential{[layer = shared](const In& x) { return layer(x); }});
    Tensor forward(const In& x) const override {
      return nn::MaxPool2d(1)(tail(body(x)).unsqueeze(0));
    }
  } parent;
  CHECK(standard_error([&] { parent(ones({2, 2})); }).empty());
  nn::Linear alone(2, 2);
  CHECK(standard_error([&] { alone(ones({2, 2})); }).empty());

  struct Nested
      : nn::Module {  // eval() does not reach the Sequential, though that owns the Dropout
    nn::Sequential block{nn::Dropout(0.5)};
    Tensor forward(const In& x) const override { return block(x); }
  } nested;
  CHECK(standard_error([&] { nested(ones({2})); }).find("Nested calls a Sequential") !=
        std::string::npos);
  struct Again : nn::Module {
    nn::Linear fc = register_module("fc", nn::Linear(2, 2));
    mutable int left = 2;
    Tensor forward(const In& x) const override {
      if (left-- == 0) return nn::Sequential{fc}(x);  // made here, of a layer that is registered
      return fc((*this)(x));
    }
  } again;
  CHECK(standard_error([&] { again(ones({1, 2})); }).empty());
}

TEST_CASE("a module may be loaded with its own tensors, each under another's name") {
  nn::Sequential net{nn::Linear(2, 2), nn::Linear(2, 2)};
  const NamedTensors before = net.state_dict(), own = net.named_parameters();
  net.load_state_dict({{"0.weight", own[2].second},
                       {"0.bias", own[3].second},
                       {"1.weight", own[0].second},
                       {"1.bias", own[1].second}});
  const NamedTensors after = net.state_dict();
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(after[i].second.to_vector<float>() == before[(i + 2) % 4].second.to_vector<float>());
}

TEST_CASE("errors name the module's path, the shapes and the caller's line") {
  struct Outer : nn::Module {
    Net body = register_module("body", Net());
    Tensor forward(const In& x) const override { return body(x); }
  };
  const Outer net;
  const std::string line = std::to_string(__LINE__ + 1);
  const std::string what = full_refusal<ShapeError>([&] { net(zeros({2, 5})); });
  CHECK(what ==
        "linear: x [2, 5] and weight [3, 4] do not chain: need x [.., in] and weight [out, in] "
        "(test_nn.cpp:" +
            line + ", in body.fc1)");

  CHECK(Box<nn::Linear>().type() == "Box");
}

TEST_CASE("a custom layer trains and prints like a built-in one") {
  nn::Sequential net{nn::Linear(3, 2), Scaled(2)};
  CHECK(names(net.named_parameters()) == Names{"0.weight", "0.bias", "1.gain"});
  net(ones({1, 3})).sum().backward();
  CHECK(net.parameters()[2].grad().defined());
}

TEST_CASE("the summary lists the calls with shapes and counts") {
  Net net;
  net.fc1.freeze();
  CHECK(nn::summary(net, {8, 4}) ==
        "layer                            output                 parameters\n"
        "fc1 (Linear)                     [8, 3]                         15\n"
        "drop (Dropout)                   [8, 3]                          0\n"
        "fc2 (Linear)                     [8, 2]                          8\n"
        "Net                              [8, 2]                         23\n"
        "input float32 [8, 4], 23 parameters, 8 trainable\n");
  CHECK(net.training());
}
