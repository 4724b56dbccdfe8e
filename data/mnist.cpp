#include "descent/data/mnist.hpp"

#include <array>
#include <filesystem>
#include <fmt/format.h>

#include "descent/core/factory.hpp"
#include "descent/data/idx.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

namespace fs = std::filesystem;

/// One of the files, with what an error about it has to say.
struct Part {
  Idx idx;
  std::string path;
  At at;

  [[noreturn]] void refuse(const std::string& what) const {
    fail<FormatError>(at, "mnist: {}: {}", path, what);
  }
};

Part load(const std::string& folder, const char* name, const char* what, int rank, At at) {
  std::error_code ignored;
  fs::path path = fs::path(folder) / name;
  if (!fs::exists(path, ignored)) path += ".gz";
  if (!fs::exists(path, ignored))
    fail<IoError>(at, "mnist: there is no {} in {}, with or without .gz", name, folder);
  Part part{load_idx(path.string(), at), path.string(), at};
  if (part.idx.type != IdxType::uint8 || part.idx.shape.rank() != rank)
    part.refuse(fmt::format(
        "byte 2: type {:02x} and rank {} are not those of {}: need type 08 (uint8) and rank {}",
        static_cast<unsigned>(part.idx.type), part.idx.shape.rank(), what, rank));
  return part;
}

struct Half {
  Part images, labels;
};

Half load_half(const std::string& folder, const std::string& which, At at) {
  Half half{load(folder, (which + "-images-idx3-ubyte").c_str(), "images", 3, at),
            load(folder, (which + "-labels-idx1-ubyte").c_str(), "labels", 1, at)};
  const Shape& shape = half.images.idx.shape;
  if (shape[0] * shape[1] * shape[2] == 0)
    half.images.refuse(fmt::format("byte 4: shape {} has no pixels", str(shape)));
  const int64_t images = shape[0], labels = half.labels.idx.shape[0];
  if (images != labels)
    half.labels.refuse(
        fmt::format("byte 4: {} labels for the {} images of {}", labels, images, half.images.path));
  const auto& bytes = half.labels.idx.bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] > 9)
      half.labels.refuse(fmt::format("byte {}: label {} is {}: need 0 to 9", 8 + i, i, bytes[i]));
  return half;
}

Tensor pixels(const Idx& idx, At at) {
  std::array<float, 256> grey;
  for (std::size_t i = 0; i < grey.size(); ++i) grey[i] = static_cast<float>(i) / 255;
  Tensor out = empty({idx.shape[0], 1, idx.shape[1], idx.shape[2]}, float32, at);
  float* p = out.mutable_data<float>();
  for (std::size_t i = 0; i < idx.bytes.size(); ++i) p[i] = grey[idx.bytes[i]];
  return out;
}

TensorDataset dataset(const Half& half, At at) {
  const auto& labels = half.labels.idx.bytes;
  Tensor y = empty(half.labels.idx.shape, int64, at);
  std::copy(labels.begin(), labels.end(), y.mutable_data<int64_t>());
  return {pixels(half.images.idx, at), y, at};
}

std::string name_of(const std::string& folder, const Half& train, const Half& test) {
  const bool genuine = train.images.idx.crc == 0xe9f4d8b3 && train.labels.idx.crc == 0xe0cb4ad2 &&
                       test.images.idx.crc == 0x91373bdf && test.labels.idx.crc == 0x4ab9eff9;
  if (genuine) return "mnist";
  std::error_code ignored;
  const fs::path path = fs::weakly_canonical(folder, ignored);
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

}  // namespace

Mnist mnist(const std::string& folder, At at) {
  const Half train = load_half(folder, "train", at), test = load_half(folder, "t10k", at);
  const Shape &a = train.images.idx.shape, &b = test.images.idx.shape;
  if (a[1] != b[1] || a[2] != b[2])
    test.images.refuse(fmt::format("byte 8: images of {} by {}, those of {} are {} by {}", b[1],
                                   b[2], train.images.path, a[1], a[2]));
  return {dataset(train, at), dataset(test, at), name_of(folder, train, test)};
}

}}  // namespace descent::data
