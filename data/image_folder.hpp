#pragma once
/// @file
/// Folders of images as datasets.

#include <memory>
#include <string>
#include <vector>

#include "descent/data/dataset.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// Images in one folder per class: `FOLDER/cat/1.png`, `FOLDER/dog/1.jpg`.
///
/// The class folders, in the order of their names as bytes, have the labels 0, 1, ...; the images
/// are the files in them, and in folders in these, that end in .png, .jpg or .jpeg (in any case),
/// in the order of their paths. Other files are ignored. Names are listed once, by the constructor;
/// files are read when an example is asked for, and again each time: with `LoaderOptions::workers`
/// a loader does this ahead. Links to files and to class folders are followed, wherever they lead.
class ImageFolder {
 public:
  /// `channels` is 3 for RGB, 1 for gray: see `read_image`.
  ///
  /// IoError if a folder cannot be listed, and for a link to a folder inside a class, which might
  /// lead back to itself. ValueError if there are no class folders, if a class has no images, if
  /// `channels` is neither 1 nor 3, or if descent was built without the library for one of the
  /// files.
  explicit ImageFolder(const std::string& path, int channels = 3, At at = At::here());

  /// The names of the classes, by label.
  [[nodiscard]] const std::vector<std::string>& classes() const { return classes_; }
  /// The number of images.
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(images_->size()); }
  /// The path of image i. IndexError outside [0, size()).
  [[nodiscard]] const std::string& path(int64_t i, At at = At::here()) const;
  /// x: image i, float32 [C, H, W] in [0, 1]; y: its label, int64 []. Errors as for `path` and
  /// `read_image`.
  [[nodiscard]] Example get(int64_t i, At at = At::here()) const;

 private:
  int channels_;
  std::vector<std::string> classes_;
  // Labels and paths, shared so that copies are cheap.
  std::shared_ptr<const std::vector<std::pair<int64_t, std::string>>> images_;
};

}}  // namespace descent::data
