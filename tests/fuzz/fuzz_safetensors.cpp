#include "fuzz.hpp"

// The first byte: 1 elements are converted, 2 written with checksums. The rest is the file.

using namespace descent;

int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  Input in(data, size);
  const uint8_t options = in.byte();
  const std::string file = in.rest();
  data::SafeTensors all;
  const std::size_t most_bytes = 8 * file.size();  // uint8 becomes int64
  const auto read = [&] { all = load(file_of(file), {.convert = (options & 1) != 0}); };
  if (!accepts<FormatError, DtypeError>(most_bytes, read)) return 0;

  const data::SafeTensors mapped =
      load(file_of(file), {.convert = (options & 1) != 0, .map = true});
  must(same_bits(mapped, all), "what is mapped is what is copied");
  must(!has_twice(by_name(all)), "names differ");
  data::SaveOptions save_options{.checksums = (options & 2) != 0, .metadata = {}};
  const auto check = [&] {
    const data::SafeTensors again = load(path_to_write());
    must(same_bits(by_name(again), by_name(all)), "what is written reads equal");
    must(again.metadata == save_options.metadata, "texts that are written read equal");
    must(again.verified == save_options.checksums, "checksums are verified if there are any");
  };
  save(path_to_write(), all, save_options);
  check();
  save_options.metadata = all.metadata;
  // The reader accepts longer names of texts than the writer.
  const auto write = [&] { save(path_to_write(), all, save_options); };
  if (accepts<ValueError>(most_bytes, write)) check();
  return 0;
}
