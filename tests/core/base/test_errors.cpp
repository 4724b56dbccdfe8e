#include <cstdio>
#include <functional>
#include <string>

#include "support.hpp"

using namespace descent;

// Every message here is compared as a whole: its text and its place, which is the line of the
// statement that is refused.

namespace {

/// The line on which here() was called last: each statement that is refused begins with it.
int line = 0;
void here(int now = __builtin_LINE()) { line = now; }

/// The place with which the message must end.
std::string place(const std::string& module = "") {
  return " (test_errors.cpp:" + std::to_string(line) +
         (module.empty() ? ")" : ", in " + module + ")");
}

/// f throws an E that says `text` and names the line of here(), in `module` if there is one.
template <class E, class F>
void refuses(const std::string& text, F f, const std::string& module = "") {
  const std::string message = full_refusal<E>(f);  // which sets the line
  CHECK(message == text + place(module));
}

struct Net : nn::Module {
  nn::Linear fc1 = register_module("fc1", nn::Linear(4, 3));
  nn::Linear fc2 = register_module("fc2", nn::Linear(3, 2));
  Tensor forward(const In& x) const override { return fc2(relu(fc1(x))); }
};
struct Mixed : nn::Module {
  nn::Linear fc = register_module("fc", nn::Linear(4, 3));
  Tensor forward(const In& x) const override { return here(), fc(x) + zeros({5}); }
};

const char* undefined = ": an input is an undefined tensor (as a gradient is before backward())";

}  // namespace

TEST_CASE("operations say which shapes do not fit") {
  const Tensor a = zeros({64, 10}), b = zeros({64}), w = zeros({3, 4});
  refuses<ShapeError>(
      "add: cannot broadcast a [64, 10] with b [64]: dim 1 is 10 vs 64 (b aligns to the right; "
      "b.reshape({64, 1})?)",
      [&] { here(), a + b; });
  refuses<ShapeError>("mul: cannot broadcast a [3, 4] with b [64, 10]: dim 1 is 4 vs 10",
                      [&] { here(), w* a; });
  refuses<ShapeError>("where: cannot broadcast a [2] with b [3]: dim 0 is 2 vs 3",
                      [&] { here(), where(zeros({2}, boolean), zeros({2}), zeros({3})); });
  refuses<ShapeError>(
      "add_: [64, 10] does not broadcast to [64]: a tensor does not change its "
      "shape in place",
      [&] { here(), b += a; });
  refuses<ShapeError>(
      "matmul: a [2, 4] and b [3, 4] do not chain: need a [.., n, k] and b [.., k, m] (did you "
      "mean b.t()?)",
      [&] {
        here(), matmul(zeros({2, 4}), w);
      });
  refuses<ShapeError>(
      "linear: x [2, 5] and weight [3, 4] do not chain: need x [.., in] and weight "
      "[out, in]",
      [&] {
        here(), linear(zeros({2, 5}), w);
      });
  refuses<ShapeError>(
      "reshape: [64, 10] has 640 elements: shape [-1, 7] does not hold them: need sizes of at "
      "least 0, of which one may be -1 if the others determine it",
      [&] {
        here(), a.reshape({-1, 7});
      });
  refuses<ShapeError>("expand: [64] does not broadcast to [2, 3]: only axes of size 1 repeat", [&] {
    here(), b.expand({2, 3});
  });
  refuses<ShapeError>("permute: dims [0, 0] of a tensor [64, 10]: need each axis once", [&] {
    here(), a.permute({0, 0});
  });
  refuses<ShapeError>("t: tensor [1, 1, 1] has rank 3: need at most 2 (use transpose or permute)",
                      [&] {
                        here(), zeros({1, 1, 1}).t();
                      });
  refuses<ShapeError>("item: tensor [64] has 64 elements: need one", [&] { here(), b.item(); });
  refuses<ShapeError>(
      "cat: tensors[1] is [3, 4], but tensors[0] is [64, 10]: need equal sizes but "
      "for dim 0",
      [&] {
        here(), cat({a, w});
      });
  refuses<ShapeError>("max: no element of [0] to choose from: need at least one",
                      [&] { here(), max(zeros({0})); });
  refuses<ShapeError>("sum: dims [0, -2] of a tensor [64, 10] name an axis twice", [&] {
    here(), a.sum({0, -2});
  });
  refuses<ShapeError>("tensor: 3 values do not fill shape [2, 2]", [&] {
    here(), tensor(std::vector<float>{1, 2, 3}, {2, 2});
  });
  refuses<ShapeError>("tensor: row 1 has 1 elements, row 0 has 2: need equal rows", [&] {
    here(), tensor({{1., 2.}, {3.}});
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
        here(), net(zeros({2, 5}));
      },
      "fc1");
  refuses<ShapeError>(
      text,
      [&] {
        here(), model(zeros({2, 5}));
      },
      "0.fc1");
  refuses<ShapeError>(text, [&] { here(), nn::Linear(4, 3)(zeros({2, 5})); });
  refuses<DtypeError>(
      "linear: x is float64 and weight is float32: need one dtype (use to())",
      [&] {
        here(), model(zeros({2, 4}, float64));
      },
      "0.fc1");
  refuses<ValueError>(
      std::string("linear") + undefined, [&] { here(), model(Tensor()); }, "0.fc1");
  // Of an op in a user's own layer: the innermost line that is the user's.
  refuses<ShapeError>(
      "add: cannot broadcast a [2, 3] with b [5]: dim 1 is 3 vs 5",
      [&] {
        mixed(zeros({2, 4}));
      },
      "1");
  refuses<ValueError>("Linear: 0 inputs and 3 outputs: need at least one",
                      [] { here(), nn::Linear(0, 3); });
  refuses<ValueError>("Dropout: p is 1.5: need [0, 1]", [] { here(), nn::Dropout(1.5); });
  refuses<ValueError>("Dropout: p is -0.5: need [0, 1]", [] { here(), nn::Dropout(-0.5); });
  refuses<DtypeError>("to: a module of int64: need float32 or float64",
                      [&] { here(), Net().to(int64); });
  refuses<ValueError>("freeze: no parameter of Net matches \"conv*\"",
                      [] { here(), Net().freeze("conv*"); });
}

TEST_CASE("operations say which dtypes do not fit") {
  const Tensor f = zeros({2}), d = zeros({2}, float64), i = zeros({2}, int64);
  const Tensor flag = zeros({2}, boolean);
  refuses<DtypeError>("add: a is float32 and b is float64: need one dtype (use to())",
                      [&] { here(), f + d; });
  refuses<DtypeError>("matmul: a is float32 and b is float64: need one dtype (use to())",
                      [&] { here(), matmul(f, d); });
  refuses<DtypeError>("mul_: a is float32 and b is int64: need one dtype (use to())",
                      [&] { here(), f *= i; });
  refuses<DtypeError>("exp: the input is int64: need float32 or float64 (use to())",
                      [&] { here(), exp(i); });
  refuses<DtypeError>("add: the input is bool: need float32, float64 or int64 (use to())",
                      [&] { here(), flag + flag; });
  refuses<DtypeError>(
      "add: an int64 tensor with 0.5: need a whole number from -2^63 to 2^63 - 1 (use to())",
      [&] { here(), i + 0.5; });
  refuses<DtypeError>(
      "mul_: an int64 tensor with 1.5: need a whole number from -2^63 to 2^63 - 1 (use to())",
      [&] { here(), i *= 1.5; });
  refuses<DtypeError>("where: condition is float32: need bool", [&] { here(), where(f, f, f); });
  refuses<DtypeError>("data: the tensor is float32, asked as float64",
                      [&] { here(), f.data<double>(); });
  refuses<DtypeError>("index_select: index is float32: need int64 (use to())",
                      [&] { here(), index_select(f, 0, f); });
}

TEST_CASE("operations say which index or dimension is out of range") {
  const Tensor x = zeros({2, 3}), scalar = tensor(1.);
  refuses<IndexError>("sum: dim 2 is out of range for rank 2: need -2..1",
                      [&] { here(), x.sum(2); });
  refuses<IndexError>("size: dim 0 of a scalar: it has no axes", [&] { here(), scalar.size(0); });
  refuses<IndexError>("softmax: dim -3 is out of range for rank 2: need -2..1",
                      [&] { here(), softmax(x, -3); });
  refuses<IndexError>("narrow: start 1 and length 3 for dim 1 of [2, 3]: need a part of the axis",
                      [&] { here(), x.narrow(1, 1, 3); });
  refuses<IndexError>("select: index 2 for dim 0 of [2, 3]: need -2 to 1",
                      [&] { here(), x.select(0, 2); });
  refuses<IndexError>("unsqueeze: dim 3 is out of range for rank 3: need -3..2",
                      [&] { here(), x.unsqueeze(3); });
  refuses<ValueError>("slice: step 0: need at least 1", [&] { here(), slice(x, 0, 0, 2, 0); });
  refuses<IndexError>("index_select: index[1] is 3, but dim 1 of [2, 3] allows 0..2", [&] {
    here(), index_select(x, 1, tensor({0, 3}));
  });
  refuses<ValueError>("clamp: low 2 and high 1: need low <= high", [&] { here(), clamp(x, 2, 1); });
}

TEST_CASE("losses say what they were given") {
  const Tensor logits = zeros({64, 10}), labels = zeros({64}, int64);
  labels.narrow(0, 17, 1).fill_(10);
  refuses<IndexError>("cross_entropy: target[17] is 10, but logits [64, 10] allow 0..9",
                      [&] { here(), nn::cross_entropy(logits, labels); });
  refuses<ShapeError>(
      "cross_entropy: logits [64] with target [64]: need [N, K, d1, ..] and [N, d1, ..]",
      [&] { here(), nn::cross_entropy(zeros({64}), labels); });
  refuses<DtypeError>("cross_entropy: target is float32: need int64 class numbers",
                      [&] { here(), nn::cross_entropy(logits, zeros({64})); });
  refuses<ValueError>("cross_entropy: label_smoothing is 2: need [0, 1]", [&] {
    here(), nn::cross_entropy(logits, zeros({64}, int64), {.label_smoothing = 2});
  });
  refuses<ShapeError>("cross_entropy: weight is float32 [3]: need float32 [10]", [&] {
    here(), nn::cross_entropy(logits, zeros({64}, int64), {.weight = ones({3})});
  });
  refuses<ShapeError>(
      "cross_entropy: every target is ignored or weighs nothing: there is no mean",
      [&] { here(), nn::cross_entropy(logits, zeros({64}, int64), {.ignore_index = 0}); });
  refuses<ShapeError>("mse_loss: prediction [64, 1] with target [64]: need one shape", [&] {
    here(), nn::mse_loss(zeros({64, 1}), zeros({64}));
  });
  refuses<DtypeError>(
      "mse_loss: prediction is float32 and target is float64: need one dtype (use to())",
      [&] { here(), nn::mse_loss(zeros({2}), zeros({2}, float64)); });
  refuses<DtypeError>("mse_loss: the input is int64: need float32 or float64 (use to())",
                      [&] { here(), nn::mse_loss(zeros({2}, int64), zeros({2}, int64)); });
  refuses<ShapeError>("accuracy: logits [64, 10] with target [3]: need [N, K] and [N], N > 0",
                      [&] { here(), nn::accuracy(logits, zeros({3}, int64)); });
}

TEST_CASE("every function names itself, whatever it is made of") {
  const Tensor none, x = zeros({2, 3}), whole = zeros({2, 3}, int64), labels = zeros({2}, int64);
  const Tensor w = zeros({4, 3}), images = zeros({1, 2, 4, 4});
  using namespace nn;
  int calls = 0;
  auto names = [&](const std::string& name, auto f) {
    CAPTURE(name);
    const std::string message = full_refusal<Error>(f);
    CHECK_MESSAGE(message.starts_with(name + ":"), message);
    CHECK_MESSAGE(message.ends_with(place()), message);
    ++calls;
  };
#define ONE(f) std::pair<const char*, void (*)(const In&)>(#f, [](const In& a) { (void)f(a); })
  for (const auto& op :
       {ONE(neg),       ONE(exp),         ONE(log),       ONE(log1p),     ONE(expm1),
        ONE(sin),       ONE(cos),         ONE(erf),       ONE(tanh),      ONE(sigmoid),
        ONE(relu),      ONE(abs),         ONE(sqrt),      ONE(square),    ONE(reciprocal),
        ONE(sign),      ONE(floor),       ONE(ceil),      ONE(round),     ONE(isnan),
        ONE(isfinite),  ONE(logical_not), ONE(sum),       ONE(mean),      ONE(max),
        ONE(min),       ONE(argmax),      ONE(argmin),    ONE(var),       ONE(norm),
        ONE(logsumexp), ONE(any),         ONE(all),       ONE(softmax),   ONE(log_softmax),
        ONE(nonzero),   ONE(zeros_like),  ONE(ones_like), ONE(rsqrt),     ONE(tan),
        ONE(asin),      ONE(acos),        ONE(atan),      ONE(sinh),      ONE(cosh),
        ONE(isinf),     ONE(diag),        ONE(rand_like), ONE(randn_like)})
    names(op.first, [&] { here(), op.second(none); });
  for (const auto& op : {ONE(softmax), ONE(log_softmax), ONE(logsumexp), ONE(var), ONE(norm),
                         ONE(mean), ONE(exp), ONE(sqrt), ONE(sigmoid), ONE(tanh)})
    names(op.first, [&] { here(), op.second(whole); });
#define AXIS(f)                                         \
  std::pair<const char*, void (*)(const In&, int64_t)>( \
      #f, [](const In& a, int64_t dim) { (void)f(a, dim); })
  for (const auto& op :
       {AXIS(sum), AXIS(mean), AXIS(max), AXIS(min), AXIS(argmax), AXIS(argmin), AXIS(var),
        AXIS(norm), AXIS(logsumexp), AXIS(any), AXIS(all), AXIS(softmax), AXIS(log_softmax)})
    names(op.first, [&] { here(), op.second(x, 7); });
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
                         TWO(logical_xor),
                         TWO(remainder),
                         TWO(floor_divide),
                         TWO(atan2),
                         TWO(outer),
                         TWO(bmm),
                         TWO(cosine_similarity),
                         TWO(matmul),
                         TWO(linear),
                         TWO(conv2d),
                         TWO(cross_entropy),
                         TWO(nll_loss),
                         TWO(mse_loss),
                         TWO(l1_loss),
                         TWO(huber_loss),
                         TWO(smooth_l1_loss),
                         TWO(binary_cross_entropy),
                         TWO(binary_cross_entropy_with_logits),
                         TWO(soft_margin_loss),
                         TWO(hinge_embedding_loss),
                         TWO(kl_div),
                         TWO(poisson_nll_loss),
                         TWO(roc_auc),
                         TWO(average_precision),
                         TWO(r2_score),
                         TWO(accuracy)}) {
    names(op.first, [&] { here(), op.second(x, none); });
    names(op.first, [&] { here(), op.second(none, x); });
    names(op.first, [&] { here(), op.second(x, zeros({5})); });
  }
  names("flatten", [&] { here(), (void)flatten(x, 5); });
  names("narrow", [&] { here(), (void)x.narrow(0, 1, 7); });
  names("select", [&] { here(), (void)x.select(0, 7); });
  names("split", [&] { here(), (void)split(x, 0); });
  names("squeeze", [&] { here(), (void)x.squeeze(7); });
  names("unsqueeze", [&] { here(), (void)x.unsqueeze(7); });
  names("transpose", [&] { here(), (void)x.transpose(0, 7); });
  names("permute", [&] { here(), (void)x.permute({0, 0}); });
  names("expand", [&] { here(), (void)x.expand({5, 5}); });
  names("reshape", [&] { here(), (void)x.reshape({5}); });
  names("clamp", [&] { here(), (void)clamp(none, 0, 1); });
  names("full_like", [&] { here(), (void)full_like(none, 1); });
  names("full_like", [&] { here(), (void)full_like(x, 1e300); });
  names("where", [&] { here(), (void)where(x, none, x); });
  names("masked_fill", [&] { here(), (void)masked_fill(x, zeros({5}), 0); });
  names("gather", [&] { here(), (void)gather(x, 7, whole); });
  names("scatter_add", [&] { here(), (void)scatter_add(x, 7, whole, x); });
  const std::pair<const char*, std::function<void(const Tensor&)>> chosen[] = {
      {"std", [](auto& a) { here(), (void)descent::std(a, 7); }},
      {"prod", [](auto& a) { here(), (void)prod(a, 7); }},
      {"cumsum", [](auto& a) { here(), (void)cumsum(a, 7); }},
      {"count_nonzero", [](auto& a) { here(), (void)count_nonzero(a, 7); }},
      {"sort", [](auto& a) { here(), (void)sort(a, 7); }},
      {"argsort", [](auto& a) { here(), (void)argsort(a, 7); }},
      {"topk", [](auto& a) { here(), (void)topk(a, 7); }},
      {"max_with_indices", [](auto& a) { here(), (void)max_with_indices(a, 7); }},
      {"min_with_indices", [](auto& a) { here(), (void)min_with_indices(a, 7); }},
      {"median", [](auto& a) { here(), (void)median(a, 7); }},
      {"quantile", [](auto& a) { here(), (void)quantile(a, 0.5, 7); }},
      {"bincount", [](auto& a) { here(), (void)bincount(a); }},
      {"one_hot", [](auto& a) { here(), (void)one_hot(a); }},
      {"embedding", [](auto& a) { here(), (void)embedding(a, a); }},
      {"scatter", [](auto& a) { here(), (void)scatter(a, 7, a, a); }},
      {"masked_select", [](auto& a) { here(), (void)masked_select(a, a); }},
      {"tril", [](auto& a) { here(), (void)tril(a.defined() ? a[0] : a); }},
      {"triu", [](auto& a) { here(), (void)triu(a.defined() ? a[0] : a); }},
      {"flip", [](auto& a) { here(), (void)flip(a, 7); }},
      {"chunk", [](auto& a) { here(), (void)chunk(a, 2, 7); }}};
  for (const auto& op : chosen)
    for (const Tensor& wrong : {none, x}) names(op.first, [&] { op.second(wrong); });
  const std::pair<const char*, std::function<void(const Tensor&)>> normalized[] = {
      {"batch_norm", [](auto& a) { here(), (void)batch_norm(a, a, a); }},
      {"group_norm", [](auto& a) { here(), (void)group_norm(a, 7); }},
      {"instance_norm", [](auto& a) { here(), (void)instance_norm(a, a); }},
      {"layer_norm", [](auto& a) { here(), (void)layer_norm(a, {3}, a); }},
      {"rms_norm", [](auto& a) { here(), (void)rms_norm(a, {2}); }}};
  for (const auto& op : normalized)
    for (const Tensor& wrong : {none, x}) names(op.first, [&] { op.second(wrong); });
  for (const auto& op : {ONE(softplus), ONE(logsigmoid), ONE(silu), ONE(mish), ONE(gelu),
                         ONE(hardtanh), ONE(relu6), ONE(hardsigmoid), ONE(hardswish),
                         ONE(leaky_relu), ONE(elu), ONE(selu), ONE(celu), ONE(softsign), ONE(glu)})
    for (const Tensor& wrong : {none, whole}) names(op.first, [&] { here(), op.second(wrong); });
  names("prelu", [&] { here(), (void)prelu(none, w); });
  names("prelu", [&] { here(), (void)prelu(x, none); });
  names("prelu", [&] { here(), (void)prelu(whole, zeros({1}, int64)); });
  names("unique", [&] { here(), (void)unique(none); });
  names("cat", [&] { here(), (void)cat({x, none}); });
  names("stack", [&] { here(), (void)stack({x, none}); });
  names("stack", [&] { here(), (void)stack({x, zeros({3})}); });
  names("max_pool2d", [&] { here(), (void)max_pool2d(x, 2); });
  names("max_pool1d", [&] { here(), (void)max_pool1d(none, 2); });
  names("avg_pool1d", [&] { here(), (void)avg_pool1d(none, 2); });
  names("adaptive_avg_pool2d", [&] { here(), (void)adaptive_avg_pool2d(x, 2); });
  names("adaptive_avg_pool1d", [&] { here(), (void)adaptive_avg_pool1d(none, 2); });
  names("pad", [&] { here(), (void)pad(x, {1}); });
  names("interpolate", [&] { here(), (void)interpolate(x, {.size = 2}); });
  names("conv1d", [&] { here(), (void)conv1d(x, x); });
  names("conv_transpose1d", [&] { here(), (void)conv_transpose1d(x, x); });
  names("conv_transpose2d", [&] { here(), (void)conv_transpose2d(x, x); });
  names("avg_pool2d", [&] { here(), (void)avg_pool2d(images, 9); });
  names("linspace", [&] { here(), (void)linspace(0, 1, -1); });
  names("arange", [&] { here(), (void)arange(0, 1, 0); });
  names("randperm", [&] { here(), (void)randperm(-1); });
  names("linear", [&] { here(), (void)linear(x, w, zeros({7})); });
  names("gaussian_nll_loss", [&] { here(), (void)gaussian_nll_loss(x, x, none); });
  names("margin_ranking_loss", [&] { here(), (void)margin_ranking_loss(x, none, x); });
  names("cosine_embedding_loss", [&] { here(), (void)cosine_embedding_loss(x, x, w); });
  names("triplet_margin_loss", [&] { here(), (void)triplet_margin_loss(none, x, x); });
  names("top_k_accuracy", [&] { here(), (void)top_k_accuracy(x, labels, 0); });
  names("confusion_matrix", [&] { here(), (void)confusion_matrix(labels, none, 2); });
  names("class_scores", [&] { here(), (void)class_scores(x); });
  std::printf("errors: %d calls name the function that was called\n", calls);
}

TEST_CASE("operations say that a tensor is undefined") {
  const Tensor none, x = zeros({2});
  const std::string rest = undefined;
  refuses<ValueError>("add" + rest, [&] { here(), none + x; });
  refuses<ValueError>("mul" + rest, [&] { here(), x* none; });
  refuses<ValueError>("exp" + rest, [&] { here(), exp(none); });
  refuses<ValueError>("matmul" + rest, [&] { here(), matmul(x, none); });
  refuses<ValueError>("mean" + rest, [&] { here(), mean(none); });
  refuses<ValueError>("reshape" + rest, [&] { here(), none.reshape({1}); });
  refuses<ValueError>("add_" + rest, [&] { here(), x += none; });
  refuses<ValueError>("cross_entropy" + rest, [&] { here(), nn::cross_entropy(none, x); });
  refuses<ValueError>("cat: tensors[1] is undefined", [&] { here(), cat({x, none}); });
  refuses<ValueError>("cat: the list of tensors is empty", [&] { here(), cat({}); });
}

TEST_CASE("negative sizes, sizes that are too large and empty ranges are refused") {
  refuses<ShapeError>("zeros: shape [2, -1] has a negative size", [] { here(), zeros({2, -1}); });
  refuses<SizeError>(
      "empty: shape [4611686018427387904, 4] is too large: sizes end at 9223372036854775807", [] {
        here(), empty({int64_t{1} << 62, 4});
      });
  refuses<ValueError>("arange: from 0 to 1 by 0: need finite ends and a step that is not 0",
                      [] { here(), arange(0, 1, 0); });
  refuses<ValueError>("set_num_threads: 0: need 1 to 256", [] { here(), set_num_threads(0); });
  refuses<ValueError>("randint: [3, 3) is empty: need low < high",
                      [] { here(), randint(3, 3, {1}); });
}

TEST_CASE("an operation that finds no memory names itself and the limit") {
  const auto text = [](auto f) {
    trim();
    set_memory_limit(1);
    const std::string message = full_refusal<OutOfMemory>(f);
    set_memory_limit(0);
    return message;
  };
  const std::string made = text([] { here(), zeros({1 << 20}); });
  CHECK(made.starts_with("zeros: out of memory: "));
  CHECK(made.ends_with(": the limit is 1" + place()));
  const Tensor x = ones({1 << 20});
  const std::string computed = text([&] { here(), exp(x); });
  CHECK(computed.starts_with("exp: out of memory: "));
  CHECK(computed.ends_with(": the limit is 1" + place()));
}

TEST_CASE("optimizers and schedules name the parameter or the option that is wrong") {
  const Tensor w = zeros({2}).requires_grad_(), other = zeros({2}).requires_grad_();
  using optim::Adam;
  using optim::SGD;
  refuses<ValueError>("SGD: no parameters to optimize", [] { here(), SGD({}); });
  refuses<ValueError>("SGD: two parameters are called w", [&] {
    here(), SGD({{"w", w}, {"w", other}});
  });
  refuses<ValueError>("SGD: w and v share elements: need parameters of their own", [&] {
    here(), SGD({{"w", w}, {"v", w}});
  });
  refuses<ValueError>("SGD: parameter w is undefined", [] { here(), SGD({{"w", Tensor()}}); });
  refuses<GraphError>("SGD: parameter w is the result of an op: need a leaf", [&] {
    here(), SGD({{"w", w * 2}});
  });
  refuses<DtypeError>("SGD: parameter w is int64: need a floating dtype", [] {
    here(), SGD({{"w", zeros({2}, int64)}});
  });
  refuses<ValueError>("SGD: lr is -1: need at least 0", [&] {
    here(), SGD({{"w", w}}, {.lr = -1});
  });
  refuses<ValueError>("Adam: beta1 is 1: need [0, 1)", [&] {
    here(), Adam({{"w", w}}, {.beta1 = 1});
  });
  Adam opt({{"w", w}});
  refuses<ValueError>("Adam: no parameter matches \"*.bias\"",
                      [&] { here(), opt.group("*.bias"); });
  opt.options().lr = -2;
  refuses<ValueError>("Adam: lr is -2: need at least 0", [&] { here(), opt.step(); });
  refuses<ValueError>("exponential: rate is 0: need a number above 0",
                      [] { here(), optim::schedule::exponential(0); });
}

TEST_CASE("readers, datasets and loaders say what is wrong") {
  const std::string path = "/nonexistent/data";
  const std::string rest = " cannot open /nonexistent/data: No such file or directory";
  refuses<IoError>("read_csv:" + rest, [&] { here(), data::read_csv(path); });
  refuses<IoError>("read_idx:" + rest, [&] { here(), data::read_idx(path); });
  refuses<ShapeError>("TensorDataset: x [3, 2] and y [2]: need a first axis of the same size", [] {
    here(), data::TensorDataset(zeros({3, 2}), zeros({2}));
  });
  const data::TensorDataset set(zeros({3, 2}), zeros({3}));
  refuses<IndexError>("TensorDataset: example 3: need at least 0 and below 3",
                      [&] { here(), set.get(3); });
  refuses<ValueError>("DataLoader: batch_size -1: need at least 1 or kFullBatch",
                      [&] { here(), data::DataLoader(set, {.batch_size = -1}); });
  refuses<ValueError>("split: sizes [2, 2] for 3 examples: need that sum", [&] {
    here(), data::split(set, {2, 2});
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
    here(), loss = layer(x).sum();
    x += 1, loss.backward();
  });
  refuses<GraphError>(changed("mul", "[3]", "fill_", 2), [&] {
    here(), loss = nn::cross_entropy(layer(x), label, {.weight = weight, .label_smoothing = 0.1});
    weight.fill_(2), loss.backward();
  });
  refuses<GraphError>(changed("mul", "[2, 4]", "add_", 3), [&] {
    here(), loss = (x * ones({2, 4}).requires_grad_()).sum();
    x += 1, loss.backward();
  });
  const Tensor leaf = ones({2}).requires_grad_();
  loss = record("mine", map("mine", leaf, [](auto v) { return v; }),
                wrt(In(leaf), [](const Tensor& g) { return here(), matmul(g, zeros({5})); }));
  refuses<ShapeError>("matmul: a [2] and b [5] do not chain: need a [k] and b [k]",
                      [&] { loss.backward(ones({2})); });
}
