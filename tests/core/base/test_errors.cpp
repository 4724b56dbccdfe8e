#include <cstdio>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "descent/descent.hpp"

using namespace descent;

// Every refusal here is compared as a whole: text, and the place, which is a line of this file.

namespace {

/// The names of the library's own files, which no message may contain.
const std::vector<std::string>& library_files() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    for (const char* folder : {"core", "nn", "optim", "data"})
      for (const auto& entry : std::filesystem::recursive_directory_iterator(
               std::filesystem::path(DESCENT_ROOT) / folder))
        found.push_back("(" + entry.path().filename().string() + ":");
    return found;
  }();
  return names;
}

/// f throws an E that says `text` and names a line next to `line`, in `module` if there is one.
template <class E, class F>
void refuses(const std::string& text, F f, const std::string& module = "",
             int line = __builtin_LINE()) {
  CAPTURE(text);
  CAPTURE(line);
  std::string message = "nothing was thrown";
  try {
    f();
  } catch (const E& e) { message = e.what(); } catch (const std::exception& e) {
    message = std::string("another error: ") + e.what();
  }
  const std::string place = " (test_errors.cpp:";
  const std::size_t at = message.rfind(place);
  CHECK(message.substr(0, at) == text);
  REQUIRE(at != std::string::npos);
  const char* number = message.c_str() + at + place.size();
  char* end = nullptr;
  const long named = std::strtol(number, &end, 10);
  CHECK(std::labs(named - line) <= 4);
  CHECK(end == (module.empty() ? ")" : ", in " + module + ")"));
  for (const std::string& file : library_files())
    CHECK_MESSAGE(message.find(file) == std::string::npos, message);
}

struct Net : nn::Module {
  nn::Linear fc1 = register_module("fc1", nn::Linear(4, 3));
  nn::Linear fc2 = register_module("fc2", nn::Linear(3, 2));
  Tensor forward(const In& x) const override { return fc2(relu(fc1(x))); }
};
struct Mixed : nn::Module {
  nn::Linear fc = register_module("fc", nn::Linear(4, 3));
  Tensor forward(const In& x) const override { return fc(x) + zeros({5}); }
};

const char* undefined = ": an input is an undefined tensor (as a gradient is before backward())";

}  // namespace

TEST_CASE("shapes that do not fit") {
  const Tensor a = zeros({64, 10}), b = zeros({64}), w = zeros({3, 4});
  refuses<ShapeError>(
      "add: cannot broadcast a [64, 10] with b [64]: dim 1 is 10 vs 64 (b aligns to the right; "
      "b.reshape({64, 1})?)",
      [&] { a + b; });
  refuses<ShapeError>("mul: cannot broadcast a [3, 4] with b [64, 10]: dim 1 is 4 vs 10",
                      [&] { w* a; });
  refuses<ShapeError>("where: cannot broadcast a [2] with b [3]: dim 0 is 2 vs 3",
                      [&] { where(zeros({2}, boolean), zeros({2}), zeros({3})); });
  refuses<ShapeError>(
      "add_: [64, 10] does not broadcast to [64]: a tensor does not change its "
      "shape in place",
      [&] { b += a; });
  refuses<ShapeError>(
      "matmul: a [2, 4] and b [3, 4] do not chain: need a [.., n, k] and b [.., k, m] (did you "
      "mean b.t()?)",
      [&] {
        matmul(zeros({2, 4}), w);
      });
  refuses<ShapeError>(
      "linear: x [2, 5] and weight [3, 4] do not chain: need x [.., in] and weight "
      "[out, in]",
      [&] {
        linear(zeros({2, 5}), w);
      });
  refuses<ShapeError>("reshape: [64, 10] has 640 elements: shape [-1, 7] does not hold them", [&] {
    a.reshape({-1, 7});
  });
  refuses<ShapeError>("expand: [64] does not broadcast to [2, 3]: only axes of size 1 repeat", [&] {
    b.expand({2, 3});
  });
  refuses<ShapeError>("permute: dims [0, 0] of a tensor [64, 10]: need each axis once", [&] {
    a.permute({0, 0});
  });
  refuses<ShapeError>("t: tensor [1, 1, 1] has rank 3: need at most 2 (use transpose or permute)",
                      [&] {
                        zeros({1, 1, 1}).t();
                      });
  refuses<ShapeError>("item: tensor [64] has 64 elements: need one", [&] { b.item(); });
  refuses<ShapeError>(
      "cat: tensors[1] is [3, 4], but tensors[0] is [64, 10]: need equal sizes but "
      "for dim 0",
      [&] {
        cat({a, w});
      });
  refuses<ShapeError>("max: no element of [0] to choose from: need at least one",
                      [&] { max(zeros({0})); });
  refuses<ShapeError>("sum: dims [0, -2] of a tensor [64, 10] name an axis twice", [&] {
    a.sum({0, -2});
  });
  refuses<ShapeError>("tensor: 3 values do not fill shape [2, 2]", [&] {
    tensor(std::vector<float>{1, 2, 3}, {2, 2});
  });
  refuses<ShapeError>("tensor: row 1 has 1 elements, row 0 has 2: need equal rows", [&] {
    tensor({{1., 2.}, {3.}});
  });
}

TEST_CASE("layers name themselves and the line that called the model") {
  const Net net;
  const nn::Sequential model{Net(), relu}, mixed{nn::Flatten(), Mixed()};
  const std::string text =
      "linear: x [2, 5] and weight [3, 4] do not chain: need x [.., in] and weight [out, in]";
  refuses<ShapeError>(
      text,
      [&] {
        net(zeros({2, 5}));
      },
      "fc1");
  refuses<ShapeError>(
      text,
      [&] {
        model(zeros({2, 5}));
      },
      "0.fc1");
  refuses<ShapeError>(text, [&] { nn::Linear(4, 3)(zeros({2, 5})); });
  refuses<DtypeError>(
      "linear: x is float64 and weight is float32: need one dtype (use to())",
      [&] {
        model(zeros({2, 4}, float64));
      },
      "0.fc1");
  refuses<ValueError>(
      std::string("linear") + undefined, [&] { model(Tensor()); }, "0.fc1");
  try {  // an op in a user's own layer: the innermost line that is the user's
    mixed(zeros({2, 4}));
    FAIL("nothing was thrown");
  } catch (const ShapeError& e) {
    CHECK(std::string(e.what()).find("add: cannot broadcast a [2, 3] with b [5]: dim 1 is 3 vs 5 "
                                     "(test_errors.cpp:") == 0);
    CHECK(std::string(e.what()).find(", in 1)") != std::string::npos);
  }
  refuses<ValueError>("Linear: 0 inputs and 3 outputs: need at least one",
                      [] { nn::Linear(0, 3); });
  refuses<ValueError>("Dropout: p is 1.5: need [0, 1]", [] { nn::Dropout(1.5); });
  refuses<ValueError>("Dropout: p is -0.5: need [0, 1]", [] { nn::Dropout(-0.5); });
  refuses<DtypeError>("to: a module of int64: need float32 or float64", [&] { Net().to(int64); });
  refuses<ValueError>("freeze: no parameter of Net matches \"conv*\"",
                      [] { Net().freeze("conv*"); });
}

TEST_CASE("dtypes that do not fit") {
  const Tensor f = zeros({2}), d = zeros({2}, float64), i = zeros({2}, int64);
  const Tensor flag = zeros({2}, boolean);
  refuses<DtypeError>("add: a is float32 and b is float64: need one dtype (use to())",
                      [&] { f + d; });
  refuses<DtypeError>("matmul: a is float32 and b is float64: need one dtype (use to())",
                      [&] { matmul(f, d); });
  refuses<DtypeError>("mul_: a is float32 and b is int64: need one dtype (use to())",
                      [&] { f *= i; });
  refuses<DtypeError>("exp: the input is int64: need float32 or float64 (use to())",
                      [&] { exp(i); });
  refuses<DtypeError>("add: the input is bool: need float32, float64 or int64 (use to())",
                      [&] { flag + flag; });
  refuses<DtypeError>(
      "add: an int64 tensor with 0.5: need a whole number from -2^63 to 2^63 - 1 (use to())",
      [&] { i + 0.5; });
  refuses<DtypeError>(
      "mul_: an int64 tensor with 1.5: need a whole number from -2^63 to 2^63 - 1 (use to())",
      [&] { i *= 1.5; });
  refuses<DtypeError>("where: the input is float32: need bool", [&] { where(f, f, f); });
  refuses<DtypeError>("data: the tensor is float32, asked as float64", [&] { f.data<double>(); });
  refuses<DtypeError>("index_select: index is float32: need int64 (use to())",
                      [&] { index_select(f, 0, f); });
}

TEST_CASE("indices and dimensions out of range") {
  const Tensor x = zeros({2, 3}), scalar = tensor(1.);
  refuses<IndexError>("sum: dim 2 is out of range for rank 2: need -2..1", [&] { x.sum(2); });
  refuses<IndexError>("size: dim 0 of a scalar", [&] { scalar.size(0); });
  refuses<IndexError>("softmax: dim -3 is out of range for rank 2: need -2..1",
                      [&] { softmax(x, -3); });
  refuses<IndexError>("narrow: start 1 and length 3 leave dim 1 of [2, 3]",
                      [&] { x.narrow(1, 1, 3); });
  refuses<IndexError>("select: index 2 is out of range for dim 0 of [2, 3]",
                      [&] { x.select(0, 2); });
  refuses<IndexError>("unsqueeze: dim 3 is out of range for rank 3: need -3..2",
                      [&] { x.unsqueeze(3); });
  refuses<ValueError>("slice: step 0: need at least 1", [&] { slice(x, 0, 0, 2, 0); });
  refuses<IndexError>("index_select: index[1] is 3, but dim 1 of [2, 3] allows 0..2", [&] {
    index_select(x, 1, tensor({0, 3}));
  });
  refuses<ValueError>("clamp: low 2 and high 1: need low <= high", [&] { clamp(x, 2, 1); });
}

TEST_CASE("losses say what they were given") {
  const Tensor logits = zeros({64, 10}), labels = zeros({64}, int64);
  labels.narrow(0, 17, 1).fill_(10);
  refuses<IndexError>("cross_entropy: target[17] is 10, but logits [64, 10] allow 0..9",
                      [&] { nn::cross_entropy(logits, labels); });
  refuses<ShapeError>("cross_entropy: logits [64] with target [64]: need [N, K] and [N]",
                      [&] { nn::cross_entropy(zeros({64}), labels); });
  refuses<DtypeError>("cross_entropy: target is float32: need int64 class numbers",
                      [&] { nn::cross_entropy(logits, zeros({64})); });
  refuses<ValueError>("cross_entropy: label_smoothing is 2: need [0, 1]", [&] {
    nn::cross_entropy(logits, zeros({64}, int64), {.label_smoothing = 2});
  });
  refuses<ShapeError>("cross_entropy: weight is float32 [3]: need float32 [10]", [&] {
    nn::cross_entropy(logits, zeros({64}, int64), {.weight = ones({3})});
  });
  refuses<ShapeError>("cross_entropy: every target is ignored or weighs nothing: there is no mean",
                      [&] { nn::cross_entropy(logits, zeros({64}, int64), {.ignore_index = 0}); });
  refuses<ShapeError>("mse_loss: prediction [64, 1] with target [64]: need one shape", [&] {
    nn::mse_loss(zeros({64, 1}), zeros({64}));
  });
  refuses<DtypeError>(
      "mse_loss: prediction is float32 and target is float64: need one dtype (use to())",
      [&] { nn::mse_loss(zeros({2}), zeros({2}, float64)); });
  refuses<DtypeError>("mse_loss: the input is int64: need float32 or float64 (use to())",
                      [&] { nn::mse_loss(zeros({2}, int64), zeros({2}, int64)); });
  refuses<ShapeError>("accuracy: logits [64, 10] with target [3]: need [N, K] and [N], N > 0",
                      [&] { nn::accuracy(logits, zeros({3}, int64)); });
}

TEST_CASE("every function names itself, whatever it is made of") {
  const Tensor none, x = zeros({2, 3}), whole = zeros({2, 3}, int64), labels = zeros({2}, int64);
  const Tensor w = zeros({4, 3}), images = zeros({1, 2, 4, 4});
  using namespace nn;
  int calls = 0;
  auto names = [&](const std::string& name, auto f) {
    CAPTURE(name);
    std::string message = "nothing was thrown";
    try {
      f();
    } catch (const Error& e) { message = e.what(); }
    CHECK_MESSAGE(message.starts_with(name + ":"), message);
    CHECK_MESSAGE(message.find("(test_errors.cpp:") != std::string::npos, message);
    ++calls;
  };
#define ONE(f) std::pair<const char*, void (*)(const In&)>(#f, [](const In& a) { (void)f(a); })
  for (const auto& op :
       {ONE(neg),       ONE(exp),         ONE(log),      ONE(log1p),   ONE(expm1),
        ONE(sin),       ONE(cos),         ONE(erf),      ONE(tanh),    ONE(sigmoid),
        ONE(relu),      ONE(abs),         ONE(sqrt),     ONE(square),  ONE(reciprocal),
        ONE(sign),      ONE(floor),       ONE(ceil),     ONE(round),   ONE(isnan),
        ONE(isfinite),  ONE(logical_not), ONE(sum),      ONE(mean),    ONE(max),
        ONE(min),       ONE(argmax),      ONE(argmin),   ONE(var),     ONE(norm),
        ONE(logsumexp), ONE(any),         ONE(all),      ONE(softmax), ONE(log_softmax),
        ONE(nonzero),   ONE(zeros_like),  ONE(ones_like)})
    names(op.first, [&] { op.second(none); });
  for (const auto& op : {ONE(softmax), ONE(log_softmax), ONE(logsumexp), ONE(var), ONE(norm),
                         ONE(mean), ONE(exp), ONE(sqrt), ONE(sigmoid), ONE(tanh)})
    names(op.first, [&] { op.second(whole); });
#define AXIS(f)                                         \
  std::pair<const char*, void (*)(const In&, int64_t)>( \
      #f, [](const In& a, int64_t dim) { (void)f(a, dim); })
  for (const auto& op :
       {AXIS(sum), AXIS(mean), AXIS(max), AXIS(min), AXIS(argmax), AXIS(argmin), AXIS(var),
        AXIS(norm), AXIS(logsumexp), AXIS(any), AXIS(all), AXIS(softmax), AXIS(log_softmax)})
    names(op.first, [&] { op.second(x, 7); });
#define TWO(f)                                            \
  std::pair<const char*, void (*)(const In&, const In&)>( \
      #f, [](const In& a, const In& b) { (void)f(a, b); })
  for (const auto& op : {TWO(add),
                         TWO(sub),
                         TWO(mul),
                         TWO(div),
                         TWO(pow),
                         TWO(maximum),
                         TWO(minimum),
                         TWO(eq),
                         TWO(ne),
                         TWO(lt),
                         TWO(le),
                         TWO(gt),
                         TWO(ge),
                         TWO(logical_and),
                         TWO(logical_or),
                         TWO(matmul),
                         TWO(linear),
                         TWO(conv2d),
                         TWO(cross_entropy),
                         TWO(nll_loss),
                         TWO(mse_loss),
                         TWO(accuracy)}) {
    names(op.first, [&] { op.second(x, none); });
    names(op.first, [&] { op.second(none, x); });
    names(op.first, [&] { op.second(x, zeros({5})); });
  }
  names("flatten", [&] { (void)flatten(x, 5); });
  names("narrow", [&] { (void)x.narrow(0, 1, 7); });
  names("select", [&] { (void)x.select(0, 7); });
  names("split", [&] { (void)split(x, 0); });
  names("squeeze", [&] { (void)x.squeeze(7); });
  names("unsqueeze", [&] { (void)x.unsqueeze(7); });
  names("transpose", [&] { (void)x.transpose(0, 7); });
  names("permute", [&] { (void)x.permute({0, 0}); });
  names("expand", [&] { (void)x.expand({5, 5}); });
  names("reshape", [&] { (void)x.reshape({5}); });
  names("clamp", [&] { (void)clamp(none, 0, 1); });
  names("full_like", [&] { (void)full_like(none, 1); });
  names("full_like", [&] { (void)full_like(x, 1e300); });
  names("where", [&] { (void)where(x, none, x); });
  names("masked_fill", [&] { (void)masked_fill(x, zeros({5}), 0); });
  names("gather", [&] { (void)gather(x, 7, whole); });
  names("scatter_add", [&] { (void)scatter_add(x, 7, whole, x); });
  names("cat", [&] { (void)cat({x, none}); });
  names("stack", [&] { (void)stack({x, none}); });
  names("stack", [&] { (void)stack({x, zeros({3})}); });
  names("max_pool2d", [&] { (void)max_pool2d(x, 2); });
  names("avg_pool2d", [&] { (void)avg_pool2d(images, 9); });
  names("linspace", [&] { (void)linspace(0, 1, -1); });
  names("arange", [&] { (void)arange(0, 1, 0); });
  names("randperm", [&] { (void)randperm(-1); });
  names("linear", [&] { (void)linear(x, w, zeros({7})); });
  std::printf("errors: %d calls name the function that was called\n", calls);
}

TEST_CASE("undefined tensors") {
  const Tensor none, x = zeros({2});
  const std::string rest = undefined;
  refuses<ValueError>("add" + rest, [&] { none + x; });
  refuses<ValueError>("mul" + rest, [&] { x* none; });
  refuses<ValueError>("exp" + rest, [&] { exp(none); });
  refuses<ValueError>("matmul" + rest, [&] { matmul(x, none); });
  refuses<ValueError>("mean" + rest, [&] { mean(none); });
  refuses<ValueError>("reshape" + rest, [&] { none.reshape({1}); });
  refuses<ValueError>("add_" + rest, [&] { x += none; });
  refuses<ValueError>("cross_entropy" + rest, [&] { nn::cross_entropy(none, x); });
  refuses<ValueError>("cat: tensors[1] is undefined", [&] { cat({x, none}); });
  refuses<ValueError>("cat: the list of tensors is empty", [&] { cat({}); });
}

TEST_CASE("sizes that are none, or too large") {
  refuses<ShapeError>("zeros: shape [2, -1] has a negative size", [] { zeros({2, -1}); });
  refuses<SizeError>(
      "empty: 4611686018427387904 * 4 is too large: sizes end at 9223372036854775807", [] {
        empty({int64_t{1} << 62, 4});
      });
  refuses<ValueError>("arange: from 0 to 1 by 0: need finite ends and a step that is not 0",
                      [] { arange(0, 1, 0); });
  refuses<ValueError>("set_num_threads: 0: need 1 to 256", [] { set_num_threads(0); });
  refuses<ValueError>("randint: [3, 3) is empty: need low < high", [] { randint(3, 3, {1}); });
}

TEST_CASE("memory that ran out") {
  const auto text = [](const std::function<void()>& f) -> std::string {
    trim();
    set_memory_limit(1);
    try {
      f();
    } catch (const OutOfMemory& e) {
      set_memory_limit(0);
      return e.what();
    }
    set_memory_limit(0);
    return "nothing was thrown";
  };
  const std::string made = text([] { zeros({1 << 20}); });
  CHECK(made.starts_with("zeros: out of memory: "));
  CHECK(made.find(": the limit is 1 (test_errors.cpp:") != std::string::npos);
  const Tensor x = ones({1 << 20});
  CHECK(text([&] { exp(x); }).starts_with("exp: out of memory: "));
}

TEST_CASE("optimizers and schedules") {
  const Tensor w = zeros({2}).requires_grad_(), other = zeros({2}).requires_grad_();
  using optim::Adam;
  using optim::SGD;
  refuses<ValueError>("SGD: no parameters to optimize", [] { SGD opt({}); });
  refuses<ValueError>("SGD: two parameters are called w", [&] {
    SGD opt({{"w", w}, {"w", other}});
  });
  refuses<ValueError>("SGD: w and v share elements: need parameters of their own", [&] {
    SGD opt({{"w", w}, {"v", w}});
  });
  refuses<ValueError>("SGD: parameter w is undefined", [] { SGD opt({{"w", Tensor()}}); });
  refuses<GraphError>("SGD: parameter w is the result of an op: need a leaf", [&] {
    SGD opt({{"w", w * 2}});
  });
  refuses<DtypeError>("SGD: parameter w is int64: need a floating dtype", [] {
    SGD opt({{"w", zeros({2}, int64)}});
  });
  refuses<ValueError>("SGD: lr is -1: need at least 0", [&] { SGD opt({{"w", w}}, {.lr = -1}); });
  refuses<ValueError>("Adam: beta1 is 1: need [0, 1)", [&] { Adam opt({{"w", w}}, {.beta1 = 1}); });
  Adam opt({{"w", w}});
  refuses<ValueError>("Adam: no parameter matches \"*.bias\"", [&] { opt.group("*.bias"); });
  opt.options().lr = -2;
  refuses<ValueError>("Adam: lr is -2: need at least 0", [&] { opt.step(); });
  refuses<ValueError>("exponential: rate is 0: need a number above 0",
                      [] { optim::schedule::exponential(0); });
}

TEST_CASE("files and datasets") {
  const std::string path = "/nonexistent/data";
  const std::string rest = " cannot open /nonexistent/data: No such file or directory";
  refuses<IoError>("read_csv:" + rest, [&] { data::read_csv(path); });
  refuses<IoError>("read_idx:" + rest, [&] { data::read_idx(path); });
  refuses<ShapeError>(
      "TensorDataset: x [3, 2] and y [2]: need a first axis of the same size, one "
      "row per example",
      [] {
        data::TensorDataset(zeros({3, 2}), zeros({2}));
      });
  const data::TensorDataset set(zeros({3, 2}), zeros({3}));
  refuses<IndexError>("TensorDataset: example 3 of 3", [&] { set.get(3); });
  refuses<ValueError>("DataLoader: batch_size -1: need at least 1, or kFullBatch",
                      [&] { data::DataLoader loader(set, {.batch_size = -1}); });
  refuses<ValueError>("split: sizes [2, 2] for 3 examples: need sizes that add up to that", [&] {
    data::split(set, {2, 2});
  });
}

TEST_CASE("an error that arises in backward names the line of the forward op") {
  const Tensor x = ones({2, 4}), weight = ones({3}), label = zeros({2}, int64);
  const nn::Linear layer(4, 3);
  auto changed = [](const char* op, const char* shape, const char* by, int now) {
    return std::string(op) + ": a saved tensor " + shape + " was changed in place by " + by +
           " (it is at version " + std::to_string(now) + ", saved at " + std::to_string(now - 1) +
           "): clone() it first, or change it after backward";
  };
  Tensor loss;
  refuses<GraphError>(changed("linear", "[2, 4]", "add_", 2), [&] {
    loss = layer(x).sum();
    x += 1, loss.backward();
  });
  refuses<GraphError>(changed("cross_entropy", "[3]", "fill_", 2), [&] {
    loss = nn::cross_entropy(layer(x), label, {.weight = weight, .label_smoothing = 0.1});
    weight.fill_(2), loss.backward();
  });
  refuses<GraphError>(changed("mul", "[2, 4]", "add_", 3), [&] {
    loss = (x * ones({2, 4}).requires_grad_()).sum();
    x += 1, loss.backward();
  });
  const Tensor leaf = ones({2}).requires_grad_();
  loss = record("mine", map("mine", leaf, [](auto v) { return v; }),
                wrt(In(leaf), [](const Tensor& g) { return matmul(g, zeros({5})); }));
  refuses<ShapeError>(
      "matmul: a [2] and b [5] do not chain: need a [k] and b [k]",
      [&] { loss.backward(ones({2})); }, "", __builtin_LINE() - 4);
}
