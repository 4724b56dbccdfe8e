#include "descent/data/formats/image.hpp"

#include <csetjmp>

#include "descent/core/ops/factory.hpp"
#include "descent/data/formats/file.hpp"
#if DESCENT_HAVE_PNG
#include <png.h>
#endif
#if DESCENT_HAVE_TURBOJPEG
#include <turbojpeg.h>
#endif

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

/// Refuses a size [C, H, W] that a file must not have.
[[maybe_unused]] void check_size(const InputFile& file, const Shape& size, int64_t item_bytes) {
  const auto most = static_cast<int64_t>(most_inflated(file.size()));
  if (size[1] == 0 || size[2] == 0 || size[1] > most / (size[0] * item_bytes) / size[2])
    file.refuse(0, "it has no pixels, or too many for a file of its size");
}

/// float32 [C, H, W] with value(y, x, c) in each place.
template <class F> Tensor image(const Shape& size, At at, F value) {
  const Tensor out = empty(size, float32, at);
  auto* to = out.mutable_data<float>();
  for (int64_t c = 0; c < size[0]; ++c)
    for (int64_t y = 0; y < size[1]; ++y)
      for (int64_t x = 0; x < size[2]; ++x) *to++ = value(y, x, c);
  return out;
}

#if DESCENT_HAVE_PNG

constexpr std::string_view kPngHeader("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16);

struct Png : Pinned {
  ~Png() { png_destroy_read_struct(&png, &info, nullptr); }
  [[noreturn]] static void stop(png_structp png, const char* text) {
    std::snprintf(static_cast<char*>(png_get_error_ptr(png)), sizeof message, "%s", text);
    png_longjmp(png, 1);
  }
  /// Decodes a whole file. Returns false if libpng stops, with its message. It does so by longjmp,
  /// which runs no destructors: nothing here may need one.
  bool decode(std::FILE* file) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, message, stop,
                                 [](png_structp, const char*) {});
    info = png ? png_create_info_struct(png) : nullptr;
    if (!info) throw std::bad_alloc();
    if (setjmp(png_jmpbuf(png))) return false;
    png_init_io(png, file);
    png_set_benign_errors(png, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // texts, profiles, ...
    png_read_png(png, info, PNG_TRANSFORM_EXPAND | PNG_TRANSFORM_STRIP_ALPHA, nullptr);
    return true;
  }
  png_structp png = nullptr;
  png_infop info = nullptr;
  char message[200] = "";
};

Tensor read_png(std::string& bytes, const InputFile& input, int64_t channels, At at) {
  const auto* header = reinterpret_cast<const unsigned char*>(bytes.data());
  const Shape size{channels, png_get_uint_32(header + 20), png_get_uint_32(header + 16)};
  const int64_t item = header[24] == 16 ? 2 : 1;  // bytes of a number
  check_size(input, size, item);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      ::fmemopen(bytes.data(), bytes.size(), "rb"), std::fclose);
  if (!file) throw std::bad_alloc();
  Png png;
  if (!png.decode(file.get()))
    input.refuse(static_cast<std::size_t>(std::ftell(file.get())), png.message);
  unsigned char** rows = png_get_rows(png.png, png.info);
  const int64_t own = png_get_channels(png.png, png.info);
  const auto value = [&](int64_t y, int64_t x, int64_t c) {
    const unsigned char* p = &rows[y][(x * own + c) * item];
    return item == 1 ? static_cast<float>(*p) / 255 : static_cast<float>(p[0] << 8 | p[1]) / 65535;
  };
  return image(size, at, [&](int64_t y, int64_t x, int64_t c) {
    if (own == 1 || channels == 3) return value(y, x, own == 1 ? 0 : c);
    // As JPEG: ITU-R BT.601.
    return 0.299F * value(y, x, 0) + 0.587F * value(y, x, 1) + 0.114F * value(y, x, 2);
  });
}

#endif
#if DESCENT_HAVE_TURBOJPEG

Tensor read_jpeg(const std::string& bytes, const InputFile& input, int64_t channels, At at) {
  const std::unique_ptr<void, int (*)(tjhandle)> jpeg(tjInitDecompress(), tjDestroy);
  if (!jpeg) throw std::bad_alloc();
  const auto* from = reinterpret_cast<const unsigned char*>(bytes.data());
  int width = 0, height = 0, sampling = 0, space = -1;
  // It fails for an unusual sampling as well, which can be decoded: what counts is what it found.
  tjDecompressHeader3(jpeg.get(), from, bytes.size(), &width, &height, &sampling, &space);
  if (space < 0) input.refuse(0, tjGetErrorStr2(jpeg.get()));
  if (space > TJCS_GRAY) input.refuse(0, "it is neither gray nor RGB, but CMYK: convert it");
  const Shape size{channels, height, width};
  check_size(input, size, 1);
  std::vector<unsigned char> pixels(static_cast<std::size_t>(channels * height * width));
  if (tjDecompress2(jpeg.get(), from, bytes.size(), pixels.data(), width, 0, height,
                    channels == 3 ? TJPF_RGB : TJPF_GRAY,
                    TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS) != 0)
    input.refuse(0, tjGetErrorStr2(jpeg.get()));
  return image(size, at, [&](int64_t y, int64_t x, int64_t c) {
    return static_cast<float>(pixels.data()[(y * width + x) * channels + c]) / 255;
  });
}

#endif

}  // namespace

bool reads_png() { return DESCENT_HAVE_PNG; }
bool reads_jpeg() { return DESCENT_HAVE_TURBOJPEG; }

Tensor read_image(const std::string& path, int channels, At at) {
  if (channels != 1 && channels != 3)
    fail<ValueError>(at, "read_image: channels {}: need 1 or 3", channels);
  InputFile file("read_image", path, at);
  std::string bytes = file.take(file.most_bytes());
#if DESCENT_HAVE_PNG
  if (bytes.size() > 24 && bytes.starts_with(kPngHeader))
    return read_png(bytes, file, channels, at);
#endif
#if DESCENT_HAVE_TURBOJPEG
  if (bytes.starts_with("\xff\xd8\xff")) return read_jpeg(bytes, file, channels, at);
#endif
  file.refuse(0, "this is no PNG or JPEG file, as far as descent was built to read them");
}

}}  // namespace descent::data
