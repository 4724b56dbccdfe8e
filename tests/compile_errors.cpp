// What the compiler says to mistakes that are easily made: `test_compile_errors` compiles each case
// of this file by itself, as the body of a function with the arguments below. A case begins with
//     // refused: TEXT   TEXT stands in the first lines of the errors
//     // accepted        it compiles: the same thing, written correctly

using namespace descent;
using Net = nn::Linear;
template <class... T> void use(const T&...) {}
void body(Tensor x, Net net, NamedTensors named) {}

// accepted
use(x.permute({1, 0}), x.sum({0, 1}), x.sum(0, true), sum(x, -1, true), x.argmax(0, true));
use(x.max(0), max(x, {0}, true), var(x, 0, true), var(x, 0, true, {.correction = 0}), x[0][1]);
use(x.exp().min(), x.sum({}, true), all(x, {}, true));
use(zeros({2, 3}), x.reshape({2, 3}), x.expand({4}), tensor(std::vector<double>{1, 2}, {2, 1}));

// refused: descent::At
x.permute(1, 0);

// refused: keepdim is true or false; write several axes as one list: sum(x, {0, 1})
x.sum(0, 1);

// refused: keepdim is true or false; write several axes as one list: sum(x, {0, 1})
logsumexp(x, 0, -1);

// refused: keepdim is true or false; write several axes as one list: sum(x, {0, 1})
argmax(x, 0, 1);

// refused: an axis is an integer, or a list of them: sum(x, 0), sum(x, {0, 1}, true)
x.sum(true);

// refused: an axis is an integer, or a list of them: sum(x, 0), sum(x, {0, 1}, true)
mean(x, 1.5);

// refused: write the sizes as one list: zeros({2, 3})
zeros(3);

// refused: write the sizes as one list: zeros({2, 3})
zeros(2, 3);

// refused: write the sizes as one list: randn({2, 3})
randn(2, 3, 4);

// refused: Shape
x.reshape(2, 3);

// refused: write the sizes as one list: zeros({2, 3})
rand(5);

// accepted
std::cout << x << x.shape() << x.strides() << x.dtype() << Dims{0, 1};

// accepted
use(tensor({1, 2.5}), tensor({INFINITY, 1.}), tensor({{1, 2.5}, {3., 4}}), tensor({1, .5}, int64));
use(tensor({NAN, 1}), tensor({1, 2L}), tensor({true, false}), tensor({{1}, {2.5}}), tensor({{1.}}));
use(tensor(std::initializer_list<double>{1, 2}), tensor({1}, int64), tensor({{{1, 2.}}, {{3, 4}}}));

// accepted
use(data::deal(10, {0.8, 0.2}), data::deal(10, {8, 2}, 1), data::deal(10, {0.8, 0.2}, 1));
use(data::deal(10, std::vector<int64_t>{8, 2}, 1), data::deal(10, std::vector<double>{1, 0}, 1));

// accepted
optim::Adam a(named), b(named, {}), c(named, {.lr = 1}), d(named, {.beta1 = 0.5, .eps = 1e-3});
optim::SGD e({{"w", x}}, {.lr = 0.1}), f({{"w", x}, {"b", x}}), g({}), h(net.named_parameters());
std::vector<std::pair<std::string, Tensor>> pairs{{"w", x}};
optim::SGD k(pairs), l(NamedTensors({{"w", x}}));
use(optim::clip_grad_norm(named, 1), optim::clip_grad_norm({{"w", x}}, 1));

// refused: write .beta1 and .beta2, the formula's letters, in place of .betas
optim::Adam opt(named, {.betas = {0.9, 0.99}});

// refused: write .beta1 and .beta2, the formula's letters, in place of .betas
optim::AdamW opt(named, {.lr = 1e-3, .betas = {0.9, 0.99}, .weight_decay = 0.1});

// refused: give named parameters: net.named_parameters(), or {{"w", w}, {"b", b}}
optim::Adam opt(net.parameters(), {.lr = 1e-3});

// refused: give named parameters: net.named_parameters(), or {{"w", w}, {"b", b}}
optim::SGD opt(net.parameters());

// refused: give named parameters: net.named_parameters(), or {{"w", w}, {"b", b}}
optim::LBFGS opt(net.parameters());

// refused: give named parameters: net.named_parameters(), or {{"w", w}, {"b", b}}
optim::clip_grad_norm(net.parameters(), 1.);

// refused: give named parameters: net.named_parameters(), or {{"w", w}, {"b", b}}
optim::WeightAverage average(net.parameters());

// accepted
const Tensor& w = zeros({2}).requires_grad_();
for (const int64_t size : (x + 1).shape()) use(size);
use(record("same", x, wrt(In(x), [](const Tensor& g) { return g; })), w);
x.select(0, 0) += 1, x.select(0, 0).fill_(2);

// refused: deleted
use(wrt(x, [](const Tensor& g) { return g; }));

// refused: deleted
use((x + 1).data<float>());

// refused: deleted
use((x + 1).mutable_data<float>());

// refused: ignoring return value of
x + 1;

// refused: ignoring return value of
x.detach();

// refused: ignoring return value of
softmax(x, 1);

// refused: ignoring return value of
net.state_dict();

// refused: ignoring return value of
grad({x}, {x});

// accepted
const auto mine = [](const In& a, bool on) -> Tensor {
  const Tensor own = a;
  const Tensor y = on ? Tensor(a) : a * 2;
  return record("mine", own * 2,
                wrt(a, [a = saved(a)](const Tensor& g) { return g * a * a->dim(); }));
};
use(mine(x, true));

// refused: a parameter is not kept: save it by name for a derivative, [x = saved(x)]
const auto mine = [](const In& a) {
  return record("mine", a * 2, wrt(a, [a](const Tensor& g) { return g * a; }));
};
use(mine(x));

// refused: a parameter is not kept: save it by name for a derivative, [x = saved(x)]
const auto mine = [](const In& a) {
  return record("mine", a * 2, wrt(a, [=](const Tensor& g) { return g * a; }));
};
use(mine(x));

// refused: or own the tensor, Tensor t = x
const auto mine = [](const In& a) {
  auto kept = a;
  return kept + 1;
};
use(mine(x));

// refused: forward
struct Misspelt : nn::Module {
  Tensor forward(const Tensor& x) const { return x; }
};
use(Misspelt()(x));

// refused: a step takes one tensor and returns one
struct Pair : nn::ModuleOf<Tensor(const In& a, const In& b)> {
  Tensor forward(const In& a, const In& b) const override { return a + b; }
};
use(nn::Sequential{relu, Pair()});
