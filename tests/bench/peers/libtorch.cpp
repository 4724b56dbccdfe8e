// The workloads of `bench` with PyTorch's C++ library: libtorch WORKLOAD [--threads N]
// [--seconds S] [--channels-last 1]. MNIST_DIR names the folder of the raw training files.
// Lines, repeats and what is timed are those of `bench`; see ../compare, which builds this.
#include <iterator>
#include <torch/torch.h>
#include <vector>

#include "../measure.hpp"

using measure::now;
using torch::Tensor;
namespace nn = torch::nn;
namespace optim = torch::optim;

namespace {

std::string workload;
double seconds = 2, started = 0, reading = 0;
bool channels_last = false;

void report(const std::string& subject, const std::string& metric, double value) {
  std::printf("libtorch-%d.%d %s %s %.6g\n", TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR,
              subject.c_str(), metric.c_str(), value);
  std::fflush(stdout);
}
void report(const std::string& metric, double value) { report(workload, metric, value); }

/// Time per call of `pass`, `count` at a time, after a first one that ends the start-up.
double time_of(int count, const std::function<void()>& pass) {
  pass();
  report("startup_ms", (now() - started - reading) * 1e3);
  return measure::best(seconds, [&] {
    const double start = now();
    for (int i = 0; i < count; ++i) pass();
    return (now() - start) / count;
  });
}

Tensor read_idx(const std::string& name, std::size_t header) {
  std::ifstream file(std::string(std::getenv("MNIST_DIR")) + "/" + name, std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.size() <= header) throw std::runtime_error("MNIST_DIR has no " + name);
  const auto count = static_cast<int64_t>(bytes.size() - header);
  return torch::from_blob(bytes.data() + header, {count}, torch::kUInt8).clone();
}

void train_on_digits(optim::Optimizer& opt, int steps,
                     const std::function<Tensor(const Tensor& x, const Tensor& y)>& loss) {
  const double before = now();
  const Tensor x =
      read_idx("train-images-idx3-ubyte", 16).to(torch::kFloat).div_(255).view({-1, 1, 28, 28});
  const Tensor y = read_idx("train-labels-idx1-ubyte", 8).to(torch::kLong);
  reading = now() - before;
  Tensor last;
  auto epoch = [&](int batches) {
    const double start = now();
    const Tensor order = torch::randperm(x.size(0));
    for (int i = 0; i < batches; ++i) {
      const Tensor index = order.slice(0, 64 * i, 64 * (i + 1));
      const Tensor input = x.index_select(0, index), target = y.index_select(0, index);
      opt.zero_grad();
      last = loss(input, target);
      last.backward();
      opt.step();
    }
    return now() - start;
  };
  epoch(1);
  report("startup_ms", (now() - started - reading) * 1e3);
  report("s/epoch", measure::best(seconds, [&] { return epoch(steps); }) * 938 / steps);
  report("loss", last.item<double>());
}

void train_on_batch(nn::Sequential& net, optim::Optimizer& opt, int steps, const Tensor& x,
                    const Tensor& y, const std::function<void(double)>& print) {
  Tensor loss;
  print(time_of(steps, [&] {
    opt.zero_grad();
    loss = torch::mse_loss(net->forward(x), y);
    loss.backward();
    opt.step();
  }));
  report("loss", loss.item<double>());
}

struct LeNet : nn::Module {
  nn::Conv2d conv1 = register_module("conv1", nn::Conv2d(nn::Conv2dOptions(1, 10, 5)));
  nn::Conv2d conv2 = register_module("conv2", nn::Conv2d(nn::Conv2dOptions(10, 20, 5)));
  nn::Dropout2d drop2d = register_module("drop2d", nn::Dropout2d());
  nn::Linear fc1 = register_module("fc1", nn::Linear(320, 50));
  nn::Linear fc2 = register_module("fc2", nn::Linear(50, 10));
  Tensor forward(const Tensor& x) {
    Tensor h = torch::relu(torch::max_pool2d(conv1(x), 2));
    h = torch::relu(torch::max_pool2d(drop2d(conv2(h)), 2));
    h = torch::relu(fc1(h.flatten(1)));
    return torch::log_softmax(fc2(torch::dropout(h, 0.5, is_training())), 1);
  }
};

struct Cnn : nn::Module {
  nn::Conv2d conv1 = register_module("conv1", nn::Conv2d(nn::Conv2dOptions(1, 32, 3)));
  nn::Conv2d conv2 = register_module("conv2", nn::Conv2d(nn::Conv2dOptions(32, 64, 3)));
  nn::Linear fc1 = register_module("fc1", nn::Linear(9216, 128));
  nn::Linear fc2 = register_module("fc2", nn::Linear(128, 10));
  Tensor forward(const Tensor& x) {
    Tensor h = torch::relu(conv2(torch::relu(conv1(x))));
    h = torch::dropout(torch::max_pool2d(h, 2), 0.25, is_training());
    return fc2(torch::dropout(torch::relu(fc1(h.flatten(1))), 0.5, is_training()));
  }
};

/// Kernels in the memory format that was asked for; results follow them.
template <class Net> Net laid_out(Net net) {
  torch::NoGradGuard no_grad;
  for (Tensor p : net.parameters())
    if (channels_last && p.dim() == 4) p.set_data(p.contiguous(at::MemoryFormat::ChannelsLast));
  return net;
}

void mlp() {
  nn::Sequential net(nn::Flatten(), nn::Linear(784, 128), nn::ReLU(), nn::Linear(128, 10));
  optim::Adam opt(net->parameters(), optim::AdamOptions(1e-3));
  train_on_digits(opt, 938, [&](const Tensor& x, const Tensor& y) {
    return nn::functional::cross_entropy(net->forward(x), y);
  });
}

void lenet() {
  LeNet net = laid_out(LeNet());
  optim::SGD opt(net.parameters(), optim::SGDOptions(0.01).momentum(0.5));
  train_on_digits(opt, 938, [&](const Tensor& x, const Tensor& y) {
    return torch::nll_loss(net.forward(x), y);
  });
}

void cnn() {
  Cnn net = laid_out(Cnn());
  optim::SGD opt(net.parameters(), optim::SGDOptions(0.05).momentum(0.5));
  train_on_digits(opt, 100, [&](const Tensor& x, const Tensor& y) {
    return nn::functional::cross_entropy(net.forward(x), y);
  });
}

void wide() {
  nn::Sequential net(nn::Linear(1024, 4096), nn::ReLU(), nn::Linear(4096, 4096), nn::ReLU(),
                     nn::Linear(4096, 1024));
  optim::Adam opt(net->parameters(), optim::AdamOptions(1e-4));
  train_on_batch(net, opt, 5, torch::randn({256, 1024}), torch::randn({256, 1024}),
                 [](double time) { report("ms/step", time * 1e3); });
}

void tiny() {
  nn::Sequential net(nn::Linear(1, 16), nn::Tanh(), nn::Linear(16, 16), nn::Tanh(),
                     nn::Linear(16, 1));
  optim::SGD opt(net->parameters(), optim::SGDOptions(0.01));
  const Tensor x = torch::randn({32, 1});
  train_on_batch(net, opt, 5000, x, torch::sin(x),
                 [](double time) { report("steps/s", 1 / time); });
}

void predict(nn::Module& net, at::IntArrayRef shape,
             const std::function<Tensor(const Tensor&)>& forward) {
  net.eval();
  const c10::InferenceMode no_graph;
  const Tensor x = torch::randn(shape);
  forward(x);
  report("startup_ms", (now() - started) * 1e3);
  auto call = [&] { return measure::per_call([&] { forward(x); }); };
  report("us/call", measure::best(seconds, call) * 1e6);
}

void predict_mlp() {
  nn::Sequential net(nn::Linear(784, 256), nn::ReLU(), nn::Linear(256, 128), nn::ReLU(),
                     nn::Linear(128, 10));
  predict(*net, {1, 784}, [&](const Tensor& x) { return net->forward(x); });
}

template <class Net> void predict_digit() {
  Net net = laid_out(Net());
  predict(net, {1, 1, 28, 28}, [&](const Tensor& x) { return net.forward(x); });
}

void scalar() {
  const Tensor a = torch::randn({4}, torch::requires_grad());
  const double time = time_of(20'000, [&] {
    Tensor b = a;
    for (int i = 0; i < 10; ++i) b = b * a + a;
    b.sum().backward();
    a.mutable_grad().reset();
  });
  report("ns/op", time / 21 * 1e9);
}

void adam() {
  constexpr int64_t n = 50'000'000;
  const Tensor p = torch::randn({n}, torch::requires_grad());
  p.mutable_grad() = torch::randn({n});
  optim::Adam opt({p}, optim::AdamOptions(1e-4));
  const double time = time_of(3, [&] { opt.step(); });
  report("ms", time * 1e3);
  report("GB/s", 28. * n / time / 1e9);
}

void conv() {
  for (const measure::ConvCase& c : measure::conv_cases) {
    nn::Conv2d layer(nn::Conv2dOptions(c.in, c.out, c.kernel)
                         .stride(c.stride)
                         .padding(c.padding)
                         .groups(c.groups));
    const Tensor x = torch::randn({c.batch, c.in, c.size, c.size}, torch::requires_grad());
    const Tensor g = torch::ones_like(layer(x).detach());
    const std::string suffix = "@" + std::to_string(torch::get_num_threads());
    const double forward = measure::per_call([&] {
      torch::NoGradGuard no_grad;
      layer(x);
    });
    const double both = measure::per_call([&] {
      layer(x).backward(g);
      layer->zero_grad();
      x.mutable_grad().reset();
    });
    report(c.name(), "forward_ms" + suffix, forward * 1e3);
    report(c.name(), "both_ms" + suffix, both * 1e3);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::pair<const char*, void (*)()> workloads[] = {{"mlp", mlp},
                                                          {"lenet", lenet},
                                                          {"cnn", cnn},
                                                          {"wide", wide},
                                                          {"tiny", tiny},
                                                          {"scalar", scalar},
                                                          {"adam", adam},
                                                          {"conv", conv},
                                                          {"predict_mlp", predict_mlp},
                                                          {"predict_lenet", predict_digit<LeNet>},
                                                          {"predict_cnn", predict_digit<Cnn>}};
  started = measure::process_start(argv);
  workload = argc > 1 ? argv[1] : "";
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--threads") torch::set_num_threads(std::atoi(argv[i + 1]));
    if (option == "--seconds") seconds = std::atof(argv[i + 1]);
    if (option == "--channels-last") channels_last = true;
  }
  torch::manual_seed(1);
  for (const auto& [name, run] : workloads) {
    if (workload != name) continue;
    run();
    report("peak_MB", measure::peak_memory());
    return 0;
  }
  std::fprintf(stderr, "usage: libtorch WORKLOAD [--threads N]: one of");
  for (const auto& entry : workloads) std::fprintf(stderr, " %s", entry.first);
  std::fprintf(stderr, "\n");
  return 2;
}
