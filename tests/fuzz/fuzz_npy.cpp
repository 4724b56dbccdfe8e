#include "fuzz.hpp"

// The first byte: 1 elements are converted, 2 the target compresses the rest, which is the file.

using namespace descent;

int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  Input in(data, size);
  const uint8_t options = in.byte();
  const std::string content = in.rest(), file = (options & 2) != 0 ? gzipped(content) : content;
  Tensor x;
  const std::size_t most_bytes = 16 * most_content(file);  // 8 is for uint8, and 2 for Fortran
  const auto read = [&] { x = data::read_npy(file_of(file), {.convert = (options & 1) != 0}); };
  if (!accepts<FormatError, DtypeError>(most_bytes, read)) return 0;
  must(x.is_contiguous(), "the tensor is contiguous");
  data::write_npy(path_to_write(), x);
  must(same_bits(data::read_npy(path_to_write()), x), "what is written reads equal");
  return 0;
}
