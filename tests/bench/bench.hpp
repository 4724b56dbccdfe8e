#pragma once
#include <descent/descent.hpp>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "measure.hpp"

// What the parts of the program `bench` share: the clock, the lines it prints, and the list of
// workloads, which every file adds its own to.

namespace bench {

using namespace descent;

using measure::now;
using measure::per_call;

/// Prints `descent subject metric value`.
void report(const std::string& subject, const std::string& metric, double value);

/// What the hardware cannot avoid: arithmetic at the speed of a large product, and memory traffic
/// at the speed of an update in place.
struct Cost {
  double flops = 0, bytes = 0;
};

/// One run of the program: what the command line asked for, and what has been noted so far.
class Run {
 public:
  std::string workload, out = ".";
  std::vector<int> threads;  // the numbers to try, where a workload tries several
  double seconds = 2;        // how long to go on repeating
  double started = 0;        // the process, on now()'s clock

  void report(const std::string& metric, double value) const {
    bench::report(workload, metric, value);
  }
  /// The MNIST digits. The time to read them does not count as start-up: it is no step's.
  data::TensorDataset digits();
  /// Call it at the end of the first step.
  void first_step_done();
  /// The shortest of several repeats, at least two; `repeat` returns its time.
  double best(const std::function<double()>& repeat) const {
    return measure::best(seconds, repeat);
  }
  /// Prints memory and start-up, and how near `time` comes to what `cost` takes at least.
  void finish(double time, Cost cost) const;
  /// `quantity / time` of an operation for each number of threads, as `unit@threads`.
  void each_thread_count(const std::string& subject, const std::string& unit, double quantity,
                         const std::function<void()>& f) const;

 private:
  double reading_ = 0, startup_ = 0;
};

using Workload = std::function<void(Run&)>;
std::map<std::string, Workload>& workloads();
struct Register {
  Register(const char* name, Workload workload) { workloads()[name] = std::move(workload); }
};

/// Trains on the digits in batches of 64 and prints seconds per epoch (938 steps). Of a longer
/// epoch only the first `steps` are timed.
void train_on_digits(Run& run, optim::OptimizerBase& opt, int steps, double flops_per_image,
                     const data::TensorDataset& digits,
                     const std::function<Tensor(const data::Batch&)>& loss);

/// Seconds per step of training on one batch, timed `steps` at a time.
double step_time(Run& run, optim::OptimizerBase& opt, int steps,
                 const std::function<Tensor()>& loss);

/// Times `net` on one example of this shape, in evaluation mode and without a graph.
void predict(Run& run, nn::Module& net, const Shape& shape);

/// The seconds of one product [n, n] x [n, n] cut into strips of rows, one for each thread.
double gemm_time(int64_t n);
/// Bytes per second, read and written, of copying what no cache holds. The memory moves half as
/// much again: what is written is read first.
double copy_bandwidth();
/// The same of adding to something in place: all that the memory moves.
double update_bandwidth();

}  // namespace bench
