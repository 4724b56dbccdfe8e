// Workloads that are also written for other frameworks (see peers/ and compare), and figures of
// single operations: bench WORKLOAD [--threads N] [--seconds S] [--out FOLDER].
// Lines are `system workload metric value`; times are the best of several repeats.
#include "bench.hpp"

#include <cstdio>
#include <cstdlib>
#include <descent/core/runtime/blas.hpp>

namespace bench {
namespace {

constexpr int64_t kBeyondCache = 50'000'000;  // elements that no cache holds

}  // namespace

void report(const std::string& subject, const std::string& metric, double value) {
  std::printf("descent %s %s %.6g\n", subject.c_str(), metric.c_str(), value);
  std::fflush(stdout);
}

std::map<std::string, Workload>& workloads() {
  static std::map<std::string, Workload> all;
  return all;
}

data::TensorDataset Run::digits() {
  const double start = now();
  data::TensorDataset train = data::mnist(DESCENT_DATA "/mnist").train;
  reading_ += now() - start;
  return train;
}

void Run::first_step_done() { startup_ = now() - started - reading_; }

void Run::finish(double time, Cost cost) const {
  report("peak_MB", measure::peak_memory());  // before the roofline takes memory of its own
  report("startup_ms", startup_ * 1e3);

  constexpr int64_t n = 1024;
  const double flops = 2. * n * n * n, all = flops / gemm_time(n);
  const double copy = copy_bandwidth(), update = update_bandwidth();
  const int threads_before = num_threads();
  set_num_threads(1);
  report("roofline_gemm_GFLOP/s", all / 1e9);
  report("roofline_gemm_1_thread_GFLOP/s", flops / gemm_time(n) / 1e9);
  report("roofline_copy_GB/s", copy / 1e9);
  report("roofline_update_GB/s", update / 1e9);
  set_num_threads(threads_before);
  if (cost.flops + cost.bytes > 0)
    report("roofline_share", (cost.flops / all + cost.bytes / update) / time);
}

void Run::each_thread_count(const std::string& subject, const std::string& unit, double quantity,
                            const std::function<void()>& f) const {
  for (const int n : threads) {
    set_num_threads(n);
    bench::report(subject, unit + "@" + std::to_string(n), quantity / per_call(f));
  }
}

double gemm_time(int64_t n) {
  const Tensor a = randn({n, n}), b = randn({n, n}), c = zeros({n, n});
  const float *pa = a.data<float>(), *pb = b.data<float>();
  float* pc = c.mutable_data<float>();
  const int64_t strips = std::min<int64_t>(num_threads(), n);
  return per_call([&] {
    parallel_for(strips, [&](int64_t i) {
      const int64_t row = n * i / strips, rows = n * (i + 1) / strips - row;
      blas::gemm(false, false, rows, n, n, 1.f, pa + row * n, n, pb, n, 0.f, pc + row * n, n);
    });
  });
}

double copy_bandwidth() {
  const Tensor source = ones({kBeyondCache}), target = zeros({kBeyondCache});
  return 8. * kBeyondCache / per_call([&] { target.copy_(source); });
}

double update_bandwidth() {
  const Tensor source = ones({kBeyondCache}), target = zeros({kBeyondCache});
  return 12. * kBeyondCache / per_call([&] { target += source; });
}

}  // namespace bench

namespace {

int usage() {
  std::fprintf(stderr, "usage: bench WORKLOAD [--threads N] [--seconds S] [--out FOLDER]\n ");
  for (const auto& [name, run] : bench::workloads()) std::fprintf(stderr, " %s", name.c_str());
  std::fprintf(stderr, "\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) try {
  bench::Run run;
  run.started = measure::process_start(argv);
  if (argc < 2 || argc % 2 != 0 || !bench::workloads().contains(argv[1])) return usage();
  run.workload = argv[1];
  run.threads = {1};
  if (descent::num_threads() > 1) run.threads.push_back(descent::num_threads());
  for (int i = 2; i < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--threads") run.threads = {std::atoi(argv[i + 1])};
    else if (option == "--seconds") run.seconds = std::atof(argv[i + 1]);
    else if (option == "--out") run.out = argv[i + 1];
    else return usage();
  }
  descent::set_num_threads(run.threads.back());
  descent::manual_seed(1);
  bench::workloads()[run.workload](run);
} catch (const std::exception& e) {
  std::fprintf(stderr, "bench: %s\n", e.what());
  return 1;
}
