#include "fuzz.hpp"

// The first three bytes choose the delimiter and the header; what stands for a missing value; the
// columns of texts. The rest is the file.

using namespace descent;

namespace {

bool same(const data::Csv& a, const data::Csv& b) {
  return a.columns == b.columns && a.categories == b.categories && same_bits(a.values, b.values);
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using Names = std::vector<std::string>;
  static const Names missing[] = {{}, {"", "NA"}, {"?"}, {"-1", "nan"}, {"x\"y", "\n"}};
  static const Names text[] = {{}, {"0"}, {"a"}, {"a", "b"}, {"1", "0"}};
  Input in(data, size);
  data::CsvOptions options;
  options.delimiter = ",;\t| :"[in.below(6)];
  options.header = static_cast<data::Header>(in.below(3));
  options.missing = missing[in.below(std::ssize(missing))];
  options.text = text[in.below(std::ssize(text))];
  const std::string file = in.rest();

  data::Csv table;
  const std::size_t most_bytes = 64 * most_content(file) + (16 << 20);
  const auto read = [&] { table = data::read_csv(file_of(file), options); };
  if (!accepts<FormatError, ValueError>(most_bytes, read)) return 0;
  must(table.values.shape()[1] == std::ssize(table.columns), "each column has a name");
  must(table.categories.size() == table.columns.size(), "each column has a list of categories");
  // The writer refuses what the reader would take for something else, such as -1.0 where "-1" is
  // a missing value.
  const auto write = [&] { data::write_csv(path_to_write(), table, options); };
  if (accepts<ValueError>(most_bytes, write))
    must(same(data::read_csv(path_to_write(), options), table), "what is written reads equal");
  return 0;
}
