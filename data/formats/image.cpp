#include "descent/data/formats/image.hpp"

#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <vector>

#include "descent/core/ops/factory.hpp"
#include "descent/data/formats/file.hpp"
#if DESCENT_HAVE_PNG
#include <png.h>
#endif
#if DESCENT_HAVE_JPEG
#include <jpeglib.h>
#endif

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

/// What reads an image from memory. The libraries report an error by a call that must not return:
/// `stop` leaves `decode` by longjmp, which runs no destructors. So no function in between may have
/// an object that needs one; what `decode` allocates belongs to the reader.
struct Reader {
  [[noreturn]] void stop(const char* text) {
    std::snprintf(message, sizeof message, "%s", text);
    std::longjmp(back, 1);
  }
  void make_room(std::size_t h, std::size_t w, std::size_t bytes_per_number) {
    if (w == 0 || h == 0 || h > most / (channels * bytes_per_number) / w)
      stop("it has no pixels, or too many for a file of its size");
    height = h, width = w, item = bytes_per_number, row_bytes = w * channels * item;
    pixels.resize(h * row_bytes);
  }

  /// float32 [C, H, W] in [0, 1] of the pixels [H, W, C], which have their highest byte first.
  Tensor result(At at) const {
    const Tensor out = empty(
        {static_cast<int64_t>(channels), static_cast<int64_t>(height), static_cast<int64_t>(width)},
        float32, at);
    auto* to = out.mutable_data<float>();
    for (std::size_t c = 0; c < channels; ++c)
      for (std::size_t i = c; i < height * width * channels; i += channels)
        *to++ = item == 1 ? static_cast<float>(pixels[i]) / 255
                          : static_cast<float>(pixels[2 * i] << 8 | pixels[2 * i + 1]) / 65535;
    return out;
  }

  const std::string& bytes;
  const std::size_t channels, most;  // numbers per pixel; bytes of pixels
  std::size_t height = 0, width = 0, item = 1, row_bytes = 0;
  std::vector<unsigned char> pixels{};
  std::jmp_buf back{};
  char message[200] = "";
};

#if DESCENT_HAVE_PNG

constexpr std::size_t kLongestChunkBytes = std::size_t{4} << 20;  // but for those of the pixels

struct PngReader : Reader {
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }

  std::size_t used() const { return next; }
  static void take(png_structp png, unsigned char* to, std::size_t count) {
    auto& self = *static_cast<PngReader*>(png_get_io_ptr(png));
    if (count > self.bytes.size() - self.next) self.stop("the file ends too early");
    std::memcpy(to, self.bytes.data() + self.next, count);
    self.next += count;
  }
  void decode() {
    png = png_create_read_struct(
        PNG_LIBPNG_VER_STRING, this,
        [](png_structp p, const char* s) {
          static_cast<PngReader*>(png_get_error_ptr(p))->stop(s);
        },
        [](png_structp, const char*) {});
    info = png ? png_create_info_struct(png) : nullptr;
    if (!info) throw std::bad_alloc();
    png_set_read_fn(png, this, take);
    png_set_benign_errors(png, 0);
    png_set_chunk_malloc_max(png, kLongestChunkBytes);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // texts, profiles, ...
    png_read_info(png, info);
    png_set_expand(png);
    png_set_strip_alpha(png);
    if (channels == 3) png_set_gray_to_rgb(png);
    else if (png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR)
      png_set_rgb_to_gray_fixed(png, 1, 29900, 58700);  // as JPEG: ITU-R BT.601
    make_room(png_get_image_height(png, info), png_get_image_width(png, info),
              png_get_bit_depth(png, info) == 16 ? 2 : 1);
    const int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != row_bytes) stop("its rows have an odd length");
    for (int pass = 0; pass < passes; ++pass)
      for (std::size_t y = 0; y < height; ++y) png_read_row(png, &pixels[y * row_bytes], nullptr);
    png_read_end(png, nullptr);
  }

  png_structp png = nullptr;
  png_infop info = nullptr;
  std::size_t next = 0;
};

#endif
#if DESCENT_HAVE_JPEG

struct JpegReader : Reader {
  ~JpegReader() { jpeg_destroy_decompress(&info); }

  std::size_t used() const { return info.src ? bytes.size() - info.src->bytes_in_buffer : 0; }
  static void fail(j_common_ptr common) {
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    static_cast<JpegReader*>(common->client_data)->stop(text);
  }
  void decode() {
    info.err = jpeg_std_error(&errors);
    info.client_data = this;
    errors.error_exit = fail;
    errors.emit_message = [](j_common_ptr common, int level) {
      if (level < 0) fail(common);  // a warning that the file is damaged
    };
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    jpeg_read_header(&info, TRUE);
    if (info.num_components != 1 && info.num_components != 3)
      stop("it is neither gray nor RGB; if it is in CMYK, convert it");
    info.out_color_space = channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
    make_room(info.image_height, info.image_width, 1);
    jpeg_start_decompress(&info);
    while (info.output_scanline < info.output_height) {
      unsigned char* to = &pixels[info.output_scanline * row_bytes];
      jpeg_read_scanlines(&info, &to, 1);
    }
    jpeg_finish_decompress(&info);
  }

  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
};

#endif

/// Whether it was decoded; else there is a message.
template <class R> bool decodes(R& reader) {
  if (setjmp(reader.back)) return false;
  reader.decode();
  return true;
}

template <class R>
Tensor read(const std::string& bytes, const InputFile& file, int channels, At at) {
  R reader{{bytes, static_cast<std::size_t>(channels), most_inflated(file.size())}};
  if (!decodes(reader)) file.refuse(reader.used(), reader.message);
  return reader.result(at);
}

}  // namespace

bool reads_png() { return DESCENT_HAVE_PNG; }
bool reads_jpeg() { return DESCENT_HAVE_JPEG; }

Tensor read_image(const std::string& path, int channels, At at) {
  if (channels != 1 && channels != 3)
    fail<ValueError>(at, "read_image: channels {}: need 1 or 3", channels);
  InputFile file("read_image", path, at);
  const std::string bytes = file.take(file.most_bytes());
#if DESCENT_HAVE_PNG
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return read<PngReader>(bytes, file, channels, at);
#endif
#if DESCENT_HAVE_JPEG
  if (bytes.starts_with("\xff\xd8\xff")) return read<JpegReader>(bytes, file, channels, at);
#endif
  file.refuse(0,
              DESCENT_HAVE_PNG && DESCENT_HAVE_JPEG
                  ? "this is neither a PNG nor a JPEG file"
                  : "descent, as it was built, reads no such file: see reads_png and reads_jpeg");
}

}}  // namespace descent::data
