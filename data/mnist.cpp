#include "descent/data/mnist.hpp"

#include <filesystem>
#include <zlib.h>

#include "descent/data/formats/idx.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

namespace fs = std::filesystem;

Idx load(const std::string& folder, const std::string& name, int rank, At at) {
  std::error_code ignored;
  fs::path path = fs::path(folder) / name;
  if (!fs::exists(path, ignored)) path += ".gz";
  Idx idx = load_idx(path.string(), at);
  if (idx.type != 0x08 || idx.shape.rank() != rank)
    fail<FormatError>(at, "mnist: {}: byte 2: type {}, rank {}: need type 8 (uint8), rank {}",
                      idx.path, idx.type, idx.shape.rank(), rank);
  return idx;
}

/// The training or the test set.
struct Half {
  Half(const std::string& folder, const std::string& which, At at)
      : images(load(folder, which + "-images-idx3-ubyte", 3, at)),
        labels(load(folder, which + "-labels-idx1-ubyte", 1, at)) {
    const Shape& shape = images.shape;
    if (shape[0] * shape[1] * shape[2] == 0)
      fail<FormatError>(at, "mnist: {}: byte 4: shape {} has no pixels", images.path, shape);
    if (labels.shape[0] != shape[0])
      fail<FormatError>(at, "mnist: {}: byte 4: {} labels for the {} images of {}", labels.path,
                        labels.shape[0], shape[0], images.path);
    for (std::size_t i = 0; i < labels.bytes.size(); ++i)
      if (const auto y = static_cast<unsigned char>(labels.bytes[i]); y > 9)
        fail<FormatError>(at, "mnist: {}: byte {}: label {}: need 0 to 9", labels.path, 8 + i, y);
  }

  /// Makes the dataset, and frees the bytes of the images, which would be a fifth of the memory.
  TensorDataset take(At at) {
    const Tensor pixels = images.to(float32, at);
    std::string().swap(images.bytes);
    pixels /= 255;
    return {pixels.reshape({-1, 1, images.shape[1], images.shape[2]}), labels.to(int64, at), at};
  }

  Idx images, labels;
};

bool genuine(const Half& train, const Half& test) {
  uLong crc = 0;
  for (const Idx* idx : {&train.images, &train.labels, &test.images, &test.labels})
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(idx->bytes.data()), idx->bytes.size());
  return train.images.shape == Shape{60000, 28, 28} && crc == 0x1939f699;
}

}  // namespace

Mnist mnist(const std::string& folder, At at) {
  Half train(folder, "train", at), test(folder, "t10k", at);
  const Shape &a = train.images.shape, &b = test.images.shape;
  if (a[1] != b[1] || a[2] != b[2])
    fail<FormatError>(at, "mnist: {}: byte 8: shape {}, but {} has {}", test.images.path, b,
                      train.images.path, a);
  std::error_code ignored;
  const std::string name = genuine(train, test)
                               ? "mnist"
                               : fs::canonical(fs::path(folder) / ".", ignored).filename().string();
  return {train.take(at), test.take(at), name};
}

}}  // namespace descent::data
