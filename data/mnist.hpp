#pragma once
/// @file
/// The MNIST digits, and datasets of the same form.

#include <string>

#include "descent/data/dataset.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// The MNIST handwritten digits, or a dataset of the same form (Fashion-MNIST, KMNIST).
///
/// x: images, float32 [N, 1, H, W] in [0, 1] (28 by 28 in the three named here). y: labels, int64
/// [N], 0 to 9.
struct Mnist {
  TensorDataset train;  ///< 60,000 examples in MNIST itself
  TensorDataset test;   ///< 10,000 examples in MNIST itself
  std::string name;     ///< "mnist" if these are the genuine files, else the folder's name
};

/// Reads the four files of `folder`: train-images-idx3-ubyte, train-labels-idx1-ubyte and the same
/// with t10k, each name with or without .gz at its end.
///
/// Checks everything before it returns anything. IoError if a file is missing or cannot be read;
/// FormatError if a file is not what its name says, if there are not as many labels as images, if
/// the images of the two sets differ in size, or if a label is above 9.
/// Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
[[nodiscard]] Mnist mnist(const std::string& folder, At at = At::here());

}}  // namespace descent::data
