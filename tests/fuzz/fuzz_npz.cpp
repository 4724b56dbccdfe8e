#include "fuzz.hpp"

// The first byte: 1 elements are converted. The rest is the file.

using namespace descent;

int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  Input in(data, size);
  const bool convert = in.byte() % 2 == 1;
  const std::string file = in.rest();
  NamedTensors all;
  // Members that are stored, and those that are compressed, together.
  const std::size_t most_bytes = 16 * (file.size() + data::most_inflated(file.size()));
  const auto read = [&] { all = data::read_npz(file_of(file), {.convert = convert}); };
  if (!accepts<FormatError, DtypeError>(most_bytes, read)) return 0;
  must(!has_twice(by_name(all)), "names differ");
  data::write_npz(path_to_write(), all);
  must(same_bits(data::read_npz(path_to_write()), all), "what is written reads equal");
  return 0;
}
