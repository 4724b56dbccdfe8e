// How times grow with the size of the work, as CSV files.
#include <cstdio>
#include <fstream>
#include <unistd.h>

#include "bench.hpp"

namespace bench { namespace {

/// A CSV file in the folder of --out.
std::ofstream table(const Run& run, const std::string& name, const std::string& header) {
  std::ofstream file(run.out + "/" + name + ".csv");
  if (!file) throw IoError("cannot write " + run.out + "/" + name + ".csv");
  std::printf("descent scaling file %s/%s.csv\n", run.out.c_str(), name.c_str());
  file << header << "\n";
  return file;
}

void graphs(const Run& run) {
  std::ofstream file = table(run, "graph", "ops,ns_per_op");
  const Tensor a = ones({4}).requires_grad_();
  for (int64_t ops = 10; ops <= 1'000'000; ops *= 10) {
    const double time = per_call([&] {
      Tensor b = a;
      for (int64_t i = 1; i < ops; ++i) b = b * a;
      b.sum().backward();
      a.zero_grad();
    });
    file << ops << "," << time / static_cast<double>(ops) * 1e9 << std::endl;
  }
}

/// A step of an MLP with `depth` hidden layers.
double mlp_step(int64_t batch, int64_t width, int64_t depth) {
  nn::Sequential net{nn::Linear(width, width)};
  for (int64_t i = 0; i < depth; ++i) net.push_back(tanh).push_back(nn::Linear(width, width));
  optim::SGD opt(net.named_parameters(), {.lr = 1e-3});
  const Tensor x = randn({batch, width}), y = randn({batch, width});
  return per_call([&] {
    opt.zero_grad();
    nn::mse_loss(net(x), y).backward();
    opt.step();
  });
}

void steps(const Run& run) {
  std::ofstream file = table(run, "step", "axis,value,batch,width,depth,ms");
  auto line = [&](const char* axis, int64_t value, int64_t batch, int64_t width, int64_t depth) {
    file << axis << "," << value << "," << batch << "," << width << "," << depth << ","
         << mlp_step(batch, width, depth) * 1e3 << std::endl;
  };
  for (int64_t n = 1; n <= 4096; n *= 4) line("batch", n, n, 256, 2);
  for (int64_t n = 16; n <= 4096; n *= 2) line("width", n, 64, n, 2);
  for (int64_t n : {1, 3, 10, 30, 100, 300, 1000}) line("depth", n, 64, 64, n);
}

double adam_step(int64_t n) {
  const Tensor p = zeros({n}).requires_grad_();
  p.set_grad(ones({n}));
  optim::Adam opt({{"p", p}}, {});
  opt.set_nonfinite(optim::NonFinite::ignore);
  opt.on_report([](const std::string&) {});
  return per_call([&] { opt.step(); });
}

void optimizer(const Run& run) {
  std::ofstream file = table(run, "optimizer", "parameters,ms,GB_per_s");
  const double memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  for (int64_t n = 1000; n <= 100'000'000 && 16. * static_cast<double>(n) < memory / 2; n *= 10) {
    const double time = adam_step(n);
    file << n << "," << time * 1e3 << "," << 28. * static_cast<double>(n) / time / 1e9 << std::endl;
  }
}

void threads(const Run& run) {
  std::ofstream file = table(run, "threads", "threads,gemm_1024_ms,mlp_step_ms,adam_10M_step_ms");
  const int all = run.threads.back();
  for (int n = 1; n <= all; ++n) {
    set_num_threads(n);
    file << n << "," << gemm_time(1024) * 1e3 << "," << mlp_step(256, 1024, 2) * 1e3 << ","
         << adam_step(10'000'000) * 1e3 << std::endl;
  }
}

void scaling(Run& run) {
  graphs(run);
  steps(run);
  optimizer(run);
  threads(run);
}

const Register entry{"scaling", scaling};

}  // namespace
}  // namespace bench
