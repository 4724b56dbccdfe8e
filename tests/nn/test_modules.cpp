#include <doctest/doctest.h>

#include "support.hpp"

// Modules of any signature, in lists, and what is reached by name.

using namespace descent;

namespace {

struct Gate : nn::ModuleOf<Tensor(const In& a, const In& b)> {
  explicit Gate(int64_t n) : n_(n) {}
  nn::Linear left = register_module("left", nn::Linear(4, 3));
  nn::Linear right = register_module("right", nn::Linear(2, 3));
  Tensor forward(const In& a, const In& b) const override {
    const Tensor first = left(a);
    return first * right(b) * n_;
  }

 private:
  int64_t n_;
};

/// A sequence [T, N, D] and a state [N, H], and what they become.
struct Cell : nn::ModuleOf<std::pair<Tensor, Tensor>(const In& sequence, const In& state)> {
  nn::Linear input = register_module("input", nn::Linear(2, 3));
  nn::Linear recurrent = register_module("recurrent", nn::Linear(3, 3));
  std::pair<Tensor, Tensor> forward(const In& sequence, const In& state) const override {
    Tensor h = state;
    std::vector<Tensor> all;
    for (int64_t t = 0; t < sequence.size(0); ++t) {
      const Tensor next = input(sequence.select(0, t));
      all.push_back(h = tanh(next + recurrent(h)));
    }
    return {stack(all), h};
  }
};

struct Two : nn::Module {
  Gate both = register_module("both", Gate(2));
  Cell cell = register_module("cell", Cell());
  Tensor forward(const In& x) const override {
    const auto [all, last] = cell(stack({x, x}), zeros({x.size(0), 3}));
    return both(x.select(1, 0).unsqueeze(1).expand({x.size(0), 4}), x) + last + all.select(0, 0);
  }
};

}  // namespace

TEST_CASE("a module of any signature names its path, trains, and tells what it returned") {
  manual_seed(1);
  Two net;
  const Tensor x = randn({5, 2});
  CHECK(net(x).shape() == Shape{5, 3});
  CHECK(net.named_parameters()[0].first == "both.left.weight");
  net(x).sum().backward();
  for (const auto& named : net.named_parameters()) {
    CAPTURE(named.first);
    CHECK(named.second.grad().defined());
  }
  const std::string line = std::to_string(__LINE__ + 2);
  const std::string wrong = full_refusal<ShapeError>([&] {
    net.both(zeros({5, 4}), zeros({5, 3}));
  });
  CHECK(wrong ==
        "linear: x [5, 3] and weight [3, 2] do not chain: need x [.., in] and weight [out, in] "
        "(did you mean weight.t()?) (test_modules.cpp:" +
            line + ", in both.right)");

  std::vector<std::string> seen;
  {
    nn::Observer observer([&](const nn::Call& call) {
      seen.push_back(call.path + ":" + std::to_string(call.outputs.size()));
    });
    net(x);
  }
  CHECK(seen == std::vector<std::string>{"cell.input:1", "cell.recurrent:1", "cell.input:1",
                                         "cell.recurrent:1", "cell:2", "both.left:1",
                                         "both.right:1", "both:1", ":1"});
}

TEST_CASE("summary shows layers however they are called") {
  Two net;
  const std::string table = nn::summary(net.cell, [&] {
    net.cell(zeros({4, 5, 2}), zeros({5, 3}));
  });
  CHECK(table.find("cell (Cell)") != std::string::npos);
  CHECK(table.find("[4, 5, 3], [5, 3]") != std::string::npos);
  CHECK(table.ends_with("21 parameters, 21 trainable\n"));
  CHECK(nn::summary(net, {5, 2}).find("input float32 [5, 2], 45 parameters") != std::string::npos);
}

TEST_CASE("a list of modules is part of its parent") {
  struct Deep : nn::Module {
    nn::ModuleList<nn::Linear> layers =
        register_module("layers", nn::ModuleList<nn::Linear>({nn::Linear(2, 3), nn::Linear(3, 2)}));
    Tensor forward(const In& x) const override {
      Tensor h = x;
      for (const nn::Linear& layer : layers) h = tanh(layer(h));
      return h;
    }
  };
  Deep deep;
  CHECK(deep(zeros({1, 2})).shape() == Shape{1, 2});
  CHECK(deep.named_parameters()[2].first == "layers.1.weight");
  deep.layers.push_back(nn::Linear(2, 5));
  CHECK(deep.layers.size() == 3);
  CHECK(deep(zeros({1, 2})).shape() == Shape{1, 5});
  CHECK(deep.parameters().size() == 6);
  CHECK(full_refusal<IndexError>([&] { deep.layers[3]; }) ==
        "ModuleList: module 3: need at least 0 and below 3");
  CHECK(full_refusal<ShapeError>([&] { deep(zeros({1, 3})); }).ends_with(", in layers.0)"));
}

TEST_CASE("parameters and modules are found by name") {
  Two net;
  CHECK(values(net.get_parameter("cell.input.weight")) == values(net.cell.input.weight));
  CHECK(&net.get_submodule("") == &net);
  CHECK(net.get_submodule("cell.input").type() == "Linear");
  CHECK(refusal<ValueError>([&] { net.get_parameter("cell.input"); }) ==
        "get_parameter: Two has no parameter \"cell.input\"");
  CHECK(refusal<ValueError>([&] { net.get_submodule("cell.output"); }) ==
        "get_submodule: Two has no module \"cell.output\"");
}

TEST_CASE("several modules train in one optimizer, each under its own prefix") {
  const nn::Linear encoder(2, 3), decoder(3, 2);
  optim::SGD opt(join({encoder.named_parameters("encoder"), decoder.named_parameters("decoder")}),
                 {.lr = 0.1});
  opt.group("decoder.*").lr = 0;
  const Tensor before = decoder.weight.detach().clone(), own = encoder.weight.detach().clone();
  decoder(encoder(ones({1, 2}))).sum().backward();
  opt.step();
  CHECK(values(decoder.weight) == values(before));
  CHECK(values(encoder.weight) != values(own));
}

TEST_CASE("copy_state makes two models equal that share nothing") {
  struct Own : nn::Module {
    Tensor scale = register_parameter("scale", ones({3}));
    Tensor running = register_buffer("running", zeros({3}));
    nn::Linear inner = register_module("inner", nn::Linear(2, 3));
    Tensor forward(const In& x) const override { return inner(x) * scale; }
  };
  Own first, second;
  first.running.fill_(2);
  first.inner.eval();
  nn::copy_state(first, second);
  const Tensor x = ones({4, 2});
  CHECK(values(first(x)) == values(second(x)));
  CHECK(values(first.running) == values(second.running));
  CHECK_FALSE(second.inner.training());
  CHECK(second.training());
  const NamedTensors before = second.state_dict();
  optim::SGD opt(first.named_parameters(), {.lr = 0.1});
  first(x).sum().backward();
  opt.step();
  first.running.fill_(3);
  CHECK(values(first(x)) != values(second(x)));
  const NamedTensors after = second.state_dict();
  for (std::size_t i = 0; i < before.size(); ++i)
    CHECK(values(before[i].second) == values(after[i].second));
  nn::Linear other(3, 3);
  CHECK(refusal<ValueError>([&] { nn::copy_state(first, other); }) ==
        "copy_state: Own has 2 modules and Linear has 1: need two of one model");
  struct Other : nn::Module {
    nn::Linear outer = register_module("outer", nn::Linear(2, 2));
    Tensor forward(const In& x) const override { return outer(x); }
  } renamed;
  CHECK(refusal<ValueError>([&] {
          nn::copy_state(first, renamed);
        }).starts_with("copy_state: Other has no module \"inner\": need two of one model"));
}

TEST_CASE("a layer of another signature that nobody registered is named") {
  struct Careless : nn::Module {
    Gate both{1};
    Tensor forward(const In& x) const override { return both(x, x.narrow(1, 0, 2)); }
  };
  const Careless careless;
  const std::string text = standard_error([&] { careless(ones({1, 4})); });
  CHECK(text.starts_with("descent: Careless calls a Gate that was never registered"));
  struct Careful : nn::Module {
    Gate both = register_module("both", Gate(1));
    Tensor forward(const In& x) const override { return both(x, x.narrow(1, 0, 2)); }
  };
  const Careful careful;
  CHECK(standard_error([&] { careful(ones({1, 4})); }).empty());
}

TEST_CASE("a module that is reached in many ways is visited once") {
  std::vector<nn::Sequential> levels{nn::Sequential{nn::Linear(1, 1)}};
  for (int i = 0; i < 40; ++i) {  // 2^40 ways down
    nn::Sequential twice;
    twice.push_back(levels.back()).push_back(levels.back());
    levels.push_back(twice);
  }
  CHECK(levels.back().named_parameters().size() == 2);
  CHECK(levels.back().named_modules().size() == 42);
  levels.back().eval();
  CHECK_FALSE(levels.front().training());
  levels.back().to(float64);
}

TEST_CASE("a frozen parameter is found by its name") {
  Two net;
  net.freeze("cell.input.*");
  CHECK(values(net.get_parameter("cell.input.weight")) == values(net.cell.input.weight));
}

TEST_CASE("a state is copied only to the same modules") {
  struct Before : nn::Module {
    nn::Dropout drop = register_module("drop", nn::Dropout(0.5));
    nn::Linear fc = register_module("fc", nn::Linear(2, 2));
    Tensor forward(const In& x) const override { return fc(drop(x)); }
  } before;
  struct After : nn::Module {
    nn::Linear fc = register_module("fc", nn::Linear(2, 2));
    nn::Dropout drop = register_module("drop", nn::Dropout(0.5));
    Tensor forward(const In& x) const override { return drop(fc(x)); }
  } after;
  before.drop.eval();
  nn::copy_state(before, after);
  CHECK_FALSE(after.drop.training());
  CHECK(after.fc.training());
  CHECK(values(after.fc.weight) == values(before.fc.weight));

  struct Less : nn::Module {
    nn::Linear fc = register_module("fc", nn::Linear(2, 2));
    Tensor forward(const In& x) const override { return fc(x); }
  } less;
  const Values weight = values(less.fc.weight);
  CHECK(refusal<ValueError>([&] { nn::copy_state(before, less); }) ==
        "copy_state: Before has 3 modules and Less has 2: need two of one model");
  CHECK(refusal<ValueError>([&] { nn::copy_state(less, before); }) ==
        "copy_state: Less has 2 modules and Before has 3: need two of one model");
  CHECK(values(less.fc.weight) == weight);
}

TEST_CASE("a call that asks for no mode is not said to depend on one") {
  struct Plain : nn::Module {
    Tensor forward(const In& x) const override {
      const nn::EvalGuard guard(const_cast<Plain&>(*this));
      return x * 2;
    }
  };
  struct Net : nn::Module {
    Plain plain;  // never registered
    Tensor forward(const In& x) const override { return plain(x); }
  } net;
  CHECK(standard_error([&] { (void)net(ones({2})); }).empty());
}

TEST_CASE("accuracy refuses a target that is no class, and an empty weight needs no bound") {
  CHECK(refusal<IndexError>([] {
          (void)nn::accuracy(zeros({3, 2}), tensor({0, 2, 1}));
        }) == "accuracy: target[1] is 2, but logits [3, 2] allow 0..1");
  CHECK(refusal<IndexError>([] {
          (void)nn::accuracy(zeros({2, 2}), tensor({0, -1}));
        }) == "accuracy: target[1] is -1, but logits [2, 2] allow 0..1");
  CHECK(refusal<DtypeError>([] {
          (void)nn::accuracy(zeros({2, 2}), tensor({1., 5.5}));
        }) == "accuracy: target is float32: need int64 class numbers");
  nn::init::kaiming_uniform_(zeros({3, 0}));
}
