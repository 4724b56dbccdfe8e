#include <cstdio>
#include <filesystem>

#include "descent/descent.hpp"

using namespace descent;

// The C++ half of run_with_python: `exchange write FOLDER` writes files, which exchange.py checks
// before it writes some of its own; `exchange read FOLDER` checks those.

namespace {

int checked = 0;

void must(bool holds, const std::string& what) {
  ++checked;
  if (holds) return;
  std::fprintf(stderr, "exchange: not so: %s\n", what.c_str());
  std::exit(1);
}

/// Element i is (37 i mod 101 - 50) / 8, which float16 and bfloat16 hold; without the division for
/// integers, and whether it is positive for bools.
Tensor pattern(const Shape& shape, DType dtype) {
  std::vector<double> values;
  for (int64_t i = 0; i < zeros(shape).numel(); ++i)
    values.push_back(static_cast<double>(37 * i % 101 - 50));
  const Tensor x = tensor(values, float64).reshape(shape);
  if (dtype == boolean) return x > 0;
  return is_floating(dtype) ? (x / 8).to(dtype) : x.to(dtype);
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && all(a == b).item<bool>();
}

constexpr DType kDTypes[] = {float32, float64, int64, boolean};
const std::vector<Shape> kShapes = {{}, {5}, {3, 4}, {2, 0, 3}, {2, 3, 4, 5}};

NamedTensors patterns() {
  NamedTensors all;
  for (const DType dtype : kDTypes)
    for (const Shape& shape : kShapes)
      all.emplace_back(std::string(str(dtype)) + "." + std::to_string(all.size()),
                       pattern(shape, dtype));
  all.emplace_back("größe \"損失\"", pattern({2}, float32));
  return all;
}

void write(const std::string& folder) {
  save(folder + "ours.safetensors", patterns());
  save(folder + "plain.safetensors", patterns(), {.checksums = false});
  data::write_npz(folder + "ours.npz", patterns());
  data::write_npz(folder + "empty.npz", {});
  for (const auto& [name, x] : patterns())
    if (name.find('"') == std::string::npos) data::write_npy(folder + name + ".npy", x);
  data::write_csv(
      folder + "ours.csv",
      {{"x", "kind"}, tensor({{0.1, 0.}, {-2.5, 1.}}, float64), {{}, {"a, b", "\"c\""}}});

  manual_seed(1);
  nn::Linear net(4, 3);
  optim::Adam opt(net.named_parameters(), {.lr = 0.01});
  Checkpoint run(folder + "checkpoint.safetensors", net, opt);
  for (int step = 0; step < 2; ++step) {
    opt.zero_grad();
    net(pattern({5, 4}, float32)).square().mean().backward();
    opt.step();
  }
  run.save();
  save(folder + "linear.safetensors", net.state_dict());
  data::write_npy(folder + "output.npy", net(pattern({5, 4}, float32)));
}

void read(const std::string& folder) {
  const auto check = [](const NamedTensors& all, const std::string& file) {
    must(all.size() >= 8, file + " has its tensors");
    for (const auto& [name, x] : all)
      must(equal(x, pattern(x.shape(), x.dtype())), file + ": " + name);
  };
  const data::SafeTensors theirs = load(folder + "theirs.safetensors", {.convert = true});
  must(!theirs.verified, "others write no checksums");
  check(theirs, "theirs.safetensors");
  check(load(folder + "theirs.safetensors", {.convert = true, .map = true}), "mapped");
  check(data::read_npz(folder + "theirs.npz"), "theirs.npz");
  check(data::read_npz(folder + "compressed.npz"), "compressed.npz");
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "npy")) {
    const Tensor x = data::read_npy(entry.path().string(), {.convert = true});
    must(equal(x, pattern(x.shape(), x.dtype())), entry.path().string());
    ++files;
  }
  must(files >= 60, "NumPy's files are there");
  const data::Csv table = data::read_csv(folder + "theirs.csv", {.text = {"kind"}});
  must(equal(table.values, tensor({{0.1, 0.}, {-2.5, 1.}}, float64)), "theirs.csv");
  must(table.categories[1] == std::vector<std::string>{"a, b", "\"c\""}, "its texts");

  nn::Linear net(4, 3);
  net.load_state_dict(load(folder + "torch.safetensors"));
  const Tensor difference = net(pattern({5, 4}, float32)) - data::read_npy(folder + "torch.npy");
  must(max(abs(difference)).item() < 1e-5, "a model of PyTorch gives the same here");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc == 3 ? argv[1] : "",
                    folder = argc == 3 ? argv[2] + std::string("/") : "";
  if (what == "write") write(folder);
  else if (what == "read") read(folder);
  else return std::fprintf(stderr, "usage: exchange write|read FOLDER\n"), 2;
  if (what == "read") std::printf("descent: %d checks of files of others\n", checked);
}
