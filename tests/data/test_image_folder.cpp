#include <cstdio>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#if DESCENT_HAVE_PNG
#include <png.h>
#endif
#if DESCENT_HAVE_TURBOJPEG
#include <turbojpeg.h>
#endif

#include "descent/data/formats/file.hpp"

#include "files.hpp"

using namespace descent;
namespace fs = std::filesystem;

namespace {

/// A number of an image, which depends on its place.
[[maybe_unused]] int number(int y, int x, int c) { return (37 * y + 11 * x + 5 * c + 3) % 256; }

/// The most memory that this process has had so far, in KiB.
[[maybe_unused]] int64_t most_memory() {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;)
    if (int64_t number = 0; word == "VmHWM:" && file >> number) return number;
  return 0;
}

}  // namespace

#if DESCENT_HAVE_PNG

namespace {

/// What a PNG file is made of.
struct Png {
  int width = 5, height = 3, type = PNG_COLOR_TYPE_RGB, bits = 8;
  bool interlaced = false, transparent = false;
  std::string text = "";  // of a chunk that nobody needs
};

int channels_of(int type) {
  return type == PNG_COLOR_TYPE_RGB          ? 3
         : type == PNG_COLOR_TYPE_RGB_ALPHA  ? 4
         : type == PNG_COLOR_TYPE_GRAY_ALPHA ? 2
                                             : 1;
}

/// The color at place k of a palette.
png_color color(int k) {
  return {static_cast<png_byte>(10 * k), static_cast<png_byte>(255 - 7 * k),
          static_cast<png_byte>(k * k)};
}

/// The file; numbers of 16 bits are `number` times 256 plus 7.
std::string make_png(const Png& p) {
  std::string file;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &file,
      [](png_structp s, png_bytep bytes, std::size_t n) {
        static_cast<std::string*>(png_get_io_ptr(s))->append(reinterpret_cast<char*>(bytes), n);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(p.width), static_cast<png_uint_32>(p.height),
               p.bits, p.type, p.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_color palette[16];
  png_byte alpha[16]{};
  if (p.type == PNG_COLOR_TYPE_PALETTE) {
    for (int k = 0; k < 16; ++k) palette[k] = color(k);
    png_set_PLTE(png, info, palette, 16);
    if (p.transparent) png_set_tRNS(png, info, alpha, 16, nullptr);
  }
  png_color_16 clear{};
  clear.gray = 1;
  if (p.transparent && p.type == PNG_COLOR_TYPE_GRAY) png_set_tRNS(png, info, nullptr, 0, &clear);
  if (!p.text.empty()) {
    std::string text = p.text;
    char key[] = "Comment";
    png_text chunk{};
    chunk.compression = PNG_TEXT_COMPRESSION_zTXt;
    chunk.key = key;
    chunk.text = text.data();
    chunk.text_length = text.size();
    png_set_text(png, info, &chunk, 1);
  }
  png_write_info(png, info);
  if (p.bits < 8) png_set_packing(png);
  const int channels = channels_of(p.type), item = p.bits == 16 ? 2 : 1;
  std::vector<std::vector<png_byte>> rows;
  std::vector<png_bytep> pointers;
  for (int y = 0; y < p.height; ++y) {
    std::vector<png_byte> row;
    for (int x = 0; x < p.width; ++x)
      for (int c = 0; c < channels; ++c) {
        const int limit = p.type == PNG_COLOR_TYPE_PALETTE ? 16 : 1 << std::min(p.bits, 8);
        row.push_back(static_cast<png_byte>(number(y, x, c) % limit));
        if (item == 2) row.push_back(7);
      }
    rows.push_back(row);
  }
  for (auto& row : rows) pointers.push_back(row.data());
  png_write_image(png, pointers.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return file;
}

/// What `read_image` shall make of it; without conversions between gray and RGB.
Tensor expected(const Png& p, int channels) {
  Values all;
  for (int c = 0; c < channels; ++c)
    for (int y = 0; y < p.height; ++y)
      for (int x = 0; x < p.width; ++x) {
        const int from = channels_of(p.type) < 3 ? 0 : c, n = number(y, x, from);
        const png_color k = color(n % 16);
        if (p.type == PNG_COLOR_TYPE_PALETTE) {
          const int rgb[] = {k.red, k.green, k.blue};
          all.push_back(rgb[c] / 255.);
        } else if (p.bits == 16) {
          all.push_back((n * 256 + 7) / 65535.);
        } else {
          const int levels = 1 << p.bits;
          all.push_back(n % levels / (levels - 1.));
        }
      }
  return tensor(all, float32).reshape({channels, p.height, p.width});
}

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  return abs(a - b).max().item();
}

std::string big_endian(uint32_t n) {
  std::string bytes;
  for (int shift : {24, 16, 8, 0}) bytes += static_cast<char>(n >> shift & 0xff);
  return bytes;
}

/// A chunk with its right checksum.
std::string chunk(const std::string& type, const std::string& data) {
  const std::string body = type + data;
  const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(body.data()), body.size());
  return big_endian(static_cast<uint32_t>(data.size())) + body +
         big_endian(static_cast<uint32_t>(crc));
}

/// The file without its header, whose 13 bytes are replaced.
std::string with_size(const std::string& png, uint32_t width, uint32_t height) {
  return png.substr(0, 8) +
         chunk("IHDR", big_endian(width) + big_endian(height) + png.substr(24, 5)) + png.substr(33);
}

}  // namespace

TEST_CASE("a PNG of every kind is read as RGB and as gray") {
  const Folder folder("png");
  for (const int type : {PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGB_ALPHA, PNG_COLOR_TYPE_GRAY,
                         PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_PALETTE})
    for (const int bits : {1, 2, 4, 8, 16})
      for (const bool interlaced : {false, true})
        for (const bool transparent : {false, true}) {
          const bool few = type == PNG_COLOR_TYPE_GRAY || type == PNG_COLOR_TYPE_PALETTE;
          if ((bits < 8 && !few) || (type == PNG_COLOR_TYPE_PALETTE && (bits < 4 || bits == 16)))
            continue;
          CAPTURE(type);
          CAPTURE(bits);
          CAPTURE(interlaced);
          const Png png{.width = 19,
                        .height = 13,
                        .type = type,
                        .bits = bits,
                        .interlaced = interlaced,
                        .transparent = transparent};
          const std::string path = folder.write("x.png", make_png(png));
          const Tensor rgb = data::read_image(path);
          CHECK(rgb.dtype() == float32);
          CHECK(distance(rgb, expected(png, 3)) < 1e-7);
          const Tensor gray = data::read_image(path, 1);
          const Tensor weights = tensor({0.299, 0.587, 0.114}, float32).reshape({3, 1, 1});
          CHECK(distance(gray, (rgb * weights).sum(0, true)) < 1e-6);
          if (channels_of(type) < 3 && type != PNG_COLOR_TYPE_PALETTE)
            CHECK(same_bits(gray, rgb.narrow(0, 0, 1)));
        }
}

TEST_CASE("a PNG that is cut off anywhere is refused") {
  const Folder folder("cut-png");
  for (const bool interlaced : {false, true}) {
    const std::string whole = make_png({.interlaced = interlaced, .text = "hello"});
    for (std::size_t n = 0; n < whole.size(); ++n) {
      CAPTURE(n);
      const std::string path = folder.write("x.png", whole.substr(0, n));
      CHECK(refusal<FormatError>([&] {
              data::read_image(path);
            }).starts_with("read_image: " + path + ": byte "));
    }
    CHECK(data::read_image(folder.write("x.png", whole + "more")).numel() == 45);
  }
}

TEST_CASE("a PNG with a wrong bit anywhere that matters is refused, and crashes nothing") {
  const Folder folder("bits-png");
  const std::string whole = make_png({.text = "hello"});
  const std::size_t text = whole.find("zTXt") - 4, behind = whole.find("IDAT") - 4;
  for (std::size_t i = 0; i < whole.size(); ++i)
    for (const int bit : {0, 3, 7}) {
      CAPTURE(i);
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ 1 << bit);
      const std::string path = folder.write("x.png", damaged);
      const std::string text_of_error = full_refusal<FormatError>([&] { data::read_image(path); });
      if (i < text || i >= behind) CHECK(text_of_error != kNothingThrown);
    }
}

TEST_CASE("the sizes that a PNG claims are checked before memory is taken") {
  const Folder folder("huge-png");
  const std::string small = make_png({});
  const std::string bomb = make_png({.text = std::string(100 << 20, 'a')});
  const int64_t before = most_memory();
  const std::size_t most = data::most_inflated(0) / 3;
  for (const auto& [width, height] : {std::pair<uint32_t, uint32_t>{100'000, 100'000},
                                      {1, 900'000},
                                      {2'000'000'000, 2'000'000'000},
                                      {static_cast<uint32_t>(most / 1000 + 1), 1000},
                                      {0, 5},
                                      {5, 0},
                                      {0xffffffff, 1}}) {
    const uint32_t w = width, h = height;
    CAPTURE(w);
    CAPTURE(h);
    const std::string path = folder.write("x.png", with_size(small, w, h));
    CHECK(refusal<FormatError>([&] { data::read_image(path); }) != kNothingThrown);
  }
  const std::string path = folder.write("x.png", with_size(small, 100'000, 100'000));
  CHECK(refusal<FormatError>([&] {
          data::read_image(path);
        }).ends_with(": it has no pixels, or too many for a file of its size"));
  // A chunk in front of the header that looks like another header.
  const std::string front = chunk("zzZz", big_endian(1) + big_endian(1) + small.substr(24, 5));
  CHECK(refusal<FormatError>([&] {
          data::read_image(folder.write("x.png", small.substr(0, 8) + front + small.substr(8)));
        }) != kNothingThrown);
  // A text of 100 MB in 100 kB.
  CHECK(bomb.size() < 200'000);
  CHECK(data::read_image(folder.write("x.png", bomb)).numel() == 45);
  if (!kAddressSanitizer && !kThreadSanitizer) CHECK(most_memory() - before < 50'000);
  // As large as it may be.
  const Png blank{.width = 1000, .height = 1000};
  CHECK(data::read_image(folder.write("x.png", make_png(blank))).numel() == 3'000'000);
}

#endif
#if DESCENT_HAVE_TURBOJPEG

namespace {

/// A JPEG of a colour that changes slowly, so that little is lost.
std::string make_jpeg(int channels, int width = 16, int height = 8, bool progressive = false,
                      int sampling = TJSAMP_444) {
  std::vector<unsigned char> pixels;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c)
        pixels.push_back(static_cast<unsigned char>(40 + 5 * x + 3 * y + 20 * c));
  const tjhandle jpeg = tjInitCompress();
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  const int format = channels == 1 ? TJPF_GRAY : channels == 3 ? TJPF_RGB : TJPF_CMYK;
  REQUIRE(tjCompress2(jpeg, pixels.data(), width, 0, height, format, &bytes, &size,
                      channels == 1 ? TJSAMP_GRAY : sampling, 100,
                      progressive ? TJFLAG_PROGRESSIVE : 0) == 0);
  std::string file(reinterpret_cast<char*>(bytes), size);
  tjFree(bytes);
  tjDestroy(jpeg);
  return file;
}

}  // namespace

TEST_CASE("a JPEG in RGB or gray is read as both") {
  const Folder folder("jpeg");
  for (const bool progressive : {false, true})
    for (const int channels : {1, 3}) {
      const std::string path = folder.write("x.jpg", make_jpeg(channels, 16, 8, progressive));
      Tensor rgb = data::read_image(path), gray = data::read_image(path, 1);
      CHECK(rgb.shape() == Shape{3, 8, 16});
      CHECK(gray.shape() == Shape{1, 8, 16});
      for (int c = 0; c < 3; ++c)
        for (int y : {0, 7})
          for (int x : {0, 15}) {
            const double want = (40 + 5 * x + 3 * y + (channels == 3 ? 20 * c : 0)) / 255.;
            CHECK(std::abs(rgb.select(0, c).select(0, y).select(0, x).item() - want) < 0.02);
          }
      if (channels == 1) CHECK(same_bits(rgb, cat({gray, gray, gray}, 0)));
    }
  CHECK(refusal<FormatError>([&] {
          data::read_image(folder.write("x.jpg", make_jpeg(4)));
        }).ends_with(": it is neither gray nor RGB, but CMYK: convert it"));
}

TEST_CASE("a JPEG with a sampling that has no name is read") {
  // The blocks of 4:1:1, four of brightness and one of each colour, one under the other instead.
  std::string file = make_jpeg(3, 32, 8, false, TJSAMP_411);
  const std::size_t frame = file.find("\xff\xc0") + 5;
  std::swap(file[frame + 1], file[frame + 3]);
  CHECK(file[frame + 6] == 0x41);
  file[frame + 6] = 0x14;
  const Folder folder("sampling-jpeg");
  CHECK(data::read_image(folder.write("x.jpg", file)).shape() == Shape{3, 32, 8});
}

TEST_CASE("a JPEG that is cut off anywhere is refused") {
  const Folder folder("cut-jpeg");
  for (const bool progressive : {false, true}) {
    const std::string whole = make_jpeg(3, 16, 8, progressive);
    for (std::size_t n = 0; n < whole.size(); ++n) {
      CAPTURE(n);
      const std::string path = folder.write("x.jpg", whole.substr(0, n));
      CHECK(refusal<FormatError>([&] {
              data::read_image(path);
            }).starts_with("read_image: " + path + ": byte "));
    }
  }
}

TEST_CASE("a JPEG with wrong bits crashes nothing") {
  const Folder folder("bits-jpeg");
  for (const bool progressive : {false, true}) {
    const std::string whole = make_jpeg(3, 16, 8, progressive);
    for (std::size_t i = 0; i < whole.size(); ++i)
      for (const int bit : {0, 4, 7}) {
        std::string damaged = whole;
        damaged[i] = static_cast<char>(damaged[i] ^ 1 << bit);
        const std::string path = folder.write("x.jpg", damaged);
        try {
          data::read_image(path);
        } catch (const FormatError& e) {
          CHECK(std::string(e.what()).find(path) != std::string::npos);
        }
      }
  }
}

TEST_CASE("the sizes that a JPEG claims are checked before memory is taken") {
  const Folder folder("huge-jpeg");
  for (const bool progressive : {false, true}) {
    std::string file = make_jpeg(3, 16, 8, progressive);
    const std::size_t frame = file.find(progressive ? "\xff\xc2" : "\xff\xc0") + 5;
    for (const std::string& size :
         {std::string("\xff\xdc\xff\xdc"), std::string("\x40\x00\x40\x00", 4),
          std::string("\x00\x00\x00\x10", 4)}) {
      file.replace(frame, 4, size);
      const std::string path = folder.write("x.jpg", file);
      CHECK(refusal<FormatError>([&] { data::read_image(path); }) != kNothingThrown);
    }
  }
}

#endif

TEST_CASE("what is no image is refused") {
  const Folder folder("none");
  const std::string path = folder.write("x.png", "GIF89a");
  CHECK(refusal<FormatError>([&] { data::read_image(path); }) ==
        "read_image: " + path +
            ": byte 0: this is no PNG or JPEG file, as far as descent was built to read them");
  CHECK(refusal<FormatError>([&] { data::read_image(folder.write("x.png", "")); }) !=
        kNothingThrown);
  CHECK(refusal<IoError>([&] { data::read_image(folder.path / "none.png"); }) != kNothingThrown);
  CHECK(refusal<IoError>([&] { data::read_image(folder.path); }) != kNothingThrown);
  CHECK(refusal<ValueError>([&] { data::read_image(path, 4); }) ==
        "read_image: channels 4: need 1 or 3");
  CHECK(refusal<ValueError>([&] { data::ImageFolder(folder.path, 2); }) ==
        "ImageFolder: channels 2: need 1 or 3");
}

TEST_CASE("images that nothing can read are refused when the folder is listed") {
  const Folder folder("built-without");
  fs::create_directories(folder.path / "a");
  for (const auto& [name, reads, library] : {std::tuple{"x.PNG", data::reads_png(), "libpng"},
                                             {"x.jPeG", data::reads_jpeg(), "libturbojpeg"}}) {
    const std::string path = folder.write("a/" + std::string(name), "");
    const std::string message =
        refusal<ValueError>([&] { data::ImageFolder(folder.path.string()); });
    CHECK(message == (reads ? std::string(kNothingThrown)
                            : "ImageFolder: " + path + ": descent was built without " + library));
    fs::remove(path);
  }
}

#if DESCENT_HAVE_PNG && DESCENT_HAVE_TURBOJPEG

TEST_CASE("a folder of images is a dataset: classes and files by name") {
  const Folder folder("classes");
  const std::string png = make_png({}), jpeg = make_jpeg(1, 5, 3);
  for (const char* name : {"dog", "Cat", "\xff\xfe", "dog/young", "empty-is-a-file"})
    if (std::string(name) != "empty-is-a-file") fs::create_directories(folder.path / name);
  folder.write("README.txt", "no class");
  folder.write("dog/b.png", png), folder.write("dog/a.JPG", jpeg), folder.write("dog/c.txt", "x");
  folder.write("dog/young/z.jpeg", jpeg), folder.write("Cat/10.PnG", png),
      folder.write("Cat/9.png", png);
  folder.write("\xff\xfe/\n\xff.png", png);
  const data::ImageFolder images(folder.path.string());
  CHECK(images.classes() == std::vector<std::string>{"Cat", "dog", "\xff\xfe"});
  std::vector<std::string> names;
  Ints labels;
  for (int64_t i = 0; i < images.size(); ++i) {
    names.push_back(images.path(i).substr(folder.path.string().size() + 1));
    const data::Example e = images.get(i);
    CHECK(e.x.shape() == Shape{3, 3, 5});
    CHECK(e.y.shape() == Shape{});
    CHECK(e.y.dtype() == int64);
    labels.push_back(e.y.item<int64_t>());
  }
  CHECK(names == std::vector<std::string>{"Cat/10.PnG", "Cat/9.png", "dog/a.JPG", "dog/b.png",
                                          "dog/young/z.jpeg", "\xff\xfe/\n\xff.png"});
  CHECK(labels == Ints{0, 0, 1, 1, 1, 2});
  CHECK(data::ImageFolder(folder.path.string(), 1).get(3).x.shape() == Shape{1, 3, 5});
  CHECK(refusal<IndexError>([&] { images.get(6); }) ==
        "ImageFolder: example 6: need at least 0 and below 6");
  CHECK(refusal<IndexError>([&] { images.path(-1); }) ==
        "ImageFolder: example -1: need at least 0 and below 6");

  for (const int workers : {0, 2}) {
    data::DataLoader loader(images, {.batch_size = 4, .workers = workers});
    Ints seen;
    for (auto [x, y] : loader)
      for (int64_t label : ints(y)) seen.push_back(label);
    CHECK(seen == labels);
  }
  folder.write("Cat/9.png", png.substr(0, 60));
  data::DataLoader loader(images, {.workers = 1});
  const std::string line = std::to_string(__LINE__ - 1), path = images.path(1);
  int taken = 0;
  CHECK(full_refusal<FormatError>([&] {
          for (auto [x, y] : loader) ++taken;
        }).ends_with("(test_image_folder.cpp:" + line + ")"));
  CHECK(taken == 1);
}

TEST_CASE("folders that are no classes, and links, are treated as is documented") {
  const Folder folder("links"), outside("outside");
  const std::string path = folder.path.string();
  CHECK(refusal<ValueError>([&] { data::ImageFolder images(path); }) ==
        "ImageFolder: " + path + " has no folders: need one for each class");
  CHECK(refusal<IoError>([&] { data::ImageFolder images(path + "/none"); }) ==
        "ImageFolder: cannot list " + path + "/none: No such file or directory");
  fs::create_directories(folder.path / "a");
  CHECK(refusal<ValueError>([&] { data::ImageFolder images(path); }) ==
        "ImageFolder: " + path + "/a has no images: need .png, .jpg or .jpeg");
  const std::string image = outside.write("1.png", make_png({}));
  fs::create_symlink(image, folder.path / "a/link.png");
  fs::create_directory_symlink(outside.path, folder.path / "b");
  const data::ImageFolder images(path);
  CHECK(images.size() == 2);
  CHECK(same_bits(images.get(0).x, images.get(1).x));
  fs::create_symlink(outside.path / "none.png", folder.path / "a/broken.png");
  const data::ImageFolder broken(path);
  CHECK(broken.size() == 3);
  CHECK(refusal<IoError>([&] { broken.get(0); }) != kNothingThrown);
  fs::create_directory_symlink(folder.path, folder.path / "a/loop");
  CHECK(refusal<IoError>([&] { data::ImageFolder again(path); }) ==
        "ImageFolder: " + path + "/a/loop is a link to a folder: need the folder itself");
}

#endif
