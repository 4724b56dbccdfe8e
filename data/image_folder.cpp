#include "descent/data/image_folder.hpp"

#include <algorithm>
#include <filesystem>

#include "descent/core/ops/factory.hpp"
#include "descent/data/formats/image.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

namespace fs = std::filesystem;

/// Whether a file's name says that it is an image. ValueError if nothing here can read it.
bool is_image(const fs::path& path, At at) {
  std::string extension = path.extension().native();
  for (char& c : extension)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  const bool png = extension == ".png", jpeg = extension == ".jpg" || extension == ".jpeg";
  if ((png && !reads_png()) || (jpeg && !reads_jpeg()))
    fail<ValueError>(at, "ImageFolder: {}: descent was built without {}", path.native(),
                     png ? "libpng" : "libturbojpeg");
  return png || jpeg;
}

}  // namespace

ImageFolder::ImageFolder(const std::string& path, int channels, At at) : channels_(channels) {
  if (channels != 1 && channels != 3)
    fail<ValueError>(at, "ImageFolder: channels {}: need 1 or 3", channels);
  std::vector<std::pair<int64_t, std::string>> images;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(path))
      if (entry.is_directory()) classes_.push_back(entry.path().filename().native());
    std::ranges::sort(classes_);
    for (const std::string& name : classes_) {
      const std::string folder = path + "/" + name;
      const std::size_t before = images.size();
      for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
        if (entry.is_directory() && entry.is_symlink())
          fail<IoError>(at, "ImageFolder: {} is a link to a folder: need the folder itself",
                        entry.path().native());
        else if (!entry.is_directory() && is_image(entry.path(), at))
          images.emplace_back(&name - classes_.data(), entry.path().native());
      if (images.size() == before)
        fail<ValueError>(at, "ImageFolder: {} has no images: need .png, .jpg or .jpeg", folder);
    }
  } catch (const fs::filesystem_error& e) {
    fail<IoError>(at, "ImageFolder: cannot list {}: {}", e.path1().native(), e.code().message());
  }
  if (classes_.empty())
    fail<ValueError>(at, "ImageFolder: {} has no folders: need one for each class", path);
  std::ranges::sort(images);
  images_ = std::make_shared<const decltype(images)>(std::move(images));
}

const std::string& ImageFolder::path(int64_t i, At at) const {
  if (i < 0 || i >= size())
    fail<IndexError>(at, "ImageFolder: example {}: need at least 0 and below {}", i, size());
  return (*images_)[static_cast<std::size_t>(i)].second;
}

Example ImageFolder::get(int64_t i, At at) const {
  const Tensor x = read_image(path(i, at), channels_, at);
  return {x, tensor((*images_)[static_cast<std::size_t>(i)].first)};
}

}}  // namespace descent::data
