// How fast files are read and written: bench_files WHAT FOLDER prints one figure, in seconds; see
// tests/bench/compare_files, which runs it in turns with others.
//
//   make        1 GB of float32 as safetensors with and without checksums, and as NPY; a CSV table
//   load, load_plain, npy   read such a file, until the sum of each tensor is known
//   map, map_plain          the same, where the tensors are the file's own pages
//   save, save_plain, write_npy   write one
//   csv         read the table
#include "descent/descent.hpp"

#include "measure.hpp"

using namespace descent;

namespace {

constexpr int64_t kTensors = 10, kRows = 25'600, kColumns = 1024;  // 1.05 GB

NamedTensors weights() {
  NamedTensors all;
  for (int64_t i = 0; i < kTensors; ++i)
    all.emplace_back("w" + std::to_string(i), rand({kRows, kColumns}));
  return all;
}
double sum_of(const NamedTensors& all) {
  double total = 0;
  for (const auto& [name, tensor] : all) total += tensor.sum().item();
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string what = argv[1], folder = std::string(argv[2]) + "/";
  if (what == "make") {
    const NamedTensors all = weights();
    save(folder + "sums.safetensors", all);
    save(folder + "plain.safetensors", all, {.checksums = false});
    data::write_npy(folder + "x.npy", rand({kTensors * kRows, kColumns}));
    data::Csv table{{}, randn({1'200'000, 10}), {}};
    for (int i = 0; i < 10; ++i) table.columns.push_back("c" + std::to_string(i));
    data::write_csv(folder + "x.csv", table);
    return 0;
  }
  const bool writes = what.find("save") == 0 || what == "write_npy";
  const NamedTensors all = writes ? weights() : NamedTensors();
  (void)ones({1 << 20}).sum();  // starts the threads
  const double start = measure::now();
  double total = 0;
  if (what == "load") total = sum_of(load(folder + "sums.safetensors"));
  else if (what == "load_plain") total = sum_of(load(folder + "plain.safetensors"));
  else if (what == "map") total = sum_of(load(folder + "sums.safetensors", {.map = true}));
  else if (what == "map_plain") total = sum_of(load(folder + "plain.safetensors", {.map = true}));
  else if (what == "npy") total = data::read_npy(folder + "x.npy").sum().item();
  else if (what == "csv") total = data::read_csv(folder + "x.csv").values.sum().item();
  else if (what == "save") save(folder + "out", all);
  else if (what == "save_plain") save(folder + "out", all, {.checksums = false});
  else if (what == "write_npy") data::write_npy(folder + "out", all[0].second);
  else return 2;
  std::printf("%.4f\n", measure::now() - start);
  return total == 0 && !writes;
}
