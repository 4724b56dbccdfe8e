#include "fuzz.hpp"

// The input is a list of edits of a checkpoint, which is then saved with right checksums, and at
// last, perhaps, of a byte of the file. A run that resumes from it has exactly what the file has,
// or, after a refusal, what it had.

using namespace descent;

namespace {

constexpr int kMostEdits = 8;  // some double a tensor

struct Run {
  explicit Run(uint64_t seed) : net(seeded(seed)) { checkpoint.add("epoch", epoch); }
  static nn::Linear seeded(uint64_t seed) {
    manual_seed(seed);
    return nn::Linear(2, 1);
  }
  void train(int64_t epochs) {
    for (; epoch < epochs; ++epoch)
      for (const auto& [x, y] : loader) {
        opt.zero_grad();
        nn::mse_loss(net(x), y).backward();
        opt.step();
      }
  }
  /// What the file of this moment has.
  data::SafeTensors saved() {
    checkpoint.save();
    return load(path_to_write());
  }

  nn::Linear net;
  optim::Adam opt{net.named_parameters(), {.lr = 0.01}};
  data::DataLoader loader{data::TensorDataset(noise({3, 2}, 1), noise({3, 1}, 2)),
                          {.batch_size = 2, .shuffle = true}};
  int64_t epoch = 0;
  Checkpoint checkpoint{path_to_write(), net, opt, loader};
};

/// A tensor like x with a value, a shape or a dtype changed.
Tensor edited(const Tensor& x, Input& in) {
  static const double numbers[] = {0, 1, -1, 3, 1e9, 9007199254740993., kInf, kNan};
  const double number = numbers[in.below(std::ssize(numbers))];
  switch (in.below(6)) {
    case 0: return ones(x.shape(), static_cast<DType>(in.below(4)));
    case 1: return unsqueeze(x, 0);
    case 2: return x.numel() > 1 ? x.reshape({-1}).narrow(0, 1, x.numel() - 1) : x;
    case 3: return cat({x.reshape({-1}), x.reshape({-1})});
    default:
      if (!is_floating(x.dtype()))
        return full_like(x, x.dtype() == boolean ? in.below(2) : in.byte() - 2);
      return full_like(x, number);
  }
}

void edit(data::SafeTensors& file, Input& in) {
  if (file.empty()) return;
  const auto i = static_cast<std::size_t>(in.below(std::ssize(file)));
  auto& [name, tensor] = file[i];
  const std::string other = file[static_cast<std::size_t>(in.below(std::ssize(file)))].first;
  switch (in.below(8)) {
    case 0: file.erase(file.begin() + static_cast<std::ptrdiff_t>(i)); break;
    case 1: file.emplace_back(other + (in.below(2) == 0 ? "/more" : "x"), tensor); break;
    case 2: name += static_cast<char>('/' + in.below(60)); break;
    case 3: name.erase(name.find_first_of("./") + 1); break;
    case 4: file.metadata["descent.checkpoint"] = std::to_string(in.below(3)); break;
    case 5:
      if (in.below(4) == 0) file.metadata.erase("descent.checkpoint");
      break;
    default: tensor = edited(tensor, in);
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  Input in(data, size);
  static Run trained(1);
  trained.train(1);
  static const data::SafeTensors original = trained.saved();
  static const NamedTensors before = by_name(Run(2).saved());
  data::SafeTensors file = original;
  const uint8_t options = in.byte();
  const std::size_t damaged = static_cast<std::size_t>(in.byte()) << 4 | in.byte() % 16U;
  for (int n = 0; n < kMostEdits && !in.ended(); ++n) edit(file, in);
  const NamedTensors wanted = by_name(file);
  if (has_twice(wanted)) return 0;  // `save` refuses it

  Run run(2);
  save(path_to_write(), file, {.metadata = file.metadata});
  if (options >= 0x80) {
    std::string bytes = content_of(path_to_write());
    bytes[damaged % bytes.size()] ^= static_cast<char>(1 << options % 8);
    std::ofstream(path_to_write(), std::ios::binary) << bytes;
  }
  const bool strict = options % 2 == 0;
  data::Resumed resumed;
  const bool accepted = accepts<FormatError, ValueError>(
      16 << 10, [&] { resumed = run.checkpoint.resume({.strict = strict}); });
  must(options < 0x80 || !accepted, "no damage of the file goes unnoticed");

  const NamedTensors after = by_name(run.saved());
  if (!accepted) must(same_bits(after, before), "a refusal has changed nothing");
  else if (strict) must(same_bits(after, wanted), "the run has exactly what the file has");
  must(!accepted || resumed.found, "there was a file");
  const auto has = [](const NamedTensors& all, const auto& entry) {
    return std::any_of(all.begin(), all.end(), [&](const auto& e) {
      return e.first == entry.first && same_bits(e.second, entry.second);
    });
  };
  for (const auto& entry : after)
    must(has(before, entry) || has(wanted, entry), "each entry is of the run or the file");
  return 0;
}
