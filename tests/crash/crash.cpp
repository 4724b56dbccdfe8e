// What tests/crash/run lets fail: see there.
//
//   crash save FILE STATE      save a state to a checkpoint; 0, or 1 after an IoError
//   crash check FILE STATE...  0 if the file is a checkpoint of one of these states
//   crash shrink FROM TO N     write the first N examples of each half of MNIST as IDX files
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "descent/descent.hpp"

using namespace descent;

namespace {

struct Run {
  explicit Run(const std::string& path) : checkpoint(path, net, opt) {
    checkpoint.add("state", state);
  }
  nn::Linear net{100, 100};
  optim::Adam opt{net.named_parameters()};
  int64_t state = 0;
  Checkpoint checkpoint;
};

void shrink(const std::string& from, const std::string& to, int64_t n) {
  const data::Mnist digits = data::mnist(from);
  for (const auto& [name, set] :
       {std::pair("train", digits.train), std::pair("t10k", digits.test)}) {
    const Tensor x = set.x().narrow(0, 0, n).squeeze(1) * 255, y = set.y().narrow(0, 0, n);
    const std::string path = to + "/" + name;
    data::write_idx(path + "-images-idx3-ubyte", (x + 0.5).to(int64), Element::uint8);
    data::write_idx(path + "-labels-idx1-ubyte", y, Element::uint8);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 4) return 2;
  const std::string what = argv[1], path = argv[2];
  if (what == "shrink") {
    shrink(path, argv[3], std::atol(argv[4]));
    return 0;
  }
  Run run(path);
  if (what == "save") {
    run.state = std::atol(argv[3]);
    run.checkpoint.save();
    return 0;
  }
  if (!run.checkpoint.resume()) return 1;
  for (int i = 3; i < argc; ++i)
    if (run.state == std::atol(argv[i])) return 0;
  std::fprintf(stderr, "state %ld\n", static_cast<long>(run.state));
  return 1;
} catch (const IoError& e) {
  std::fprintf(stderr, "IoError: %s\n", e.what());
  return 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 4;
}
