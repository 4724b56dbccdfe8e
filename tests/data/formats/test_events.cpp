#include <algorithm>
#include <cfloat>
#include <chrono>
#include <cmath>
#include <csignal>
#include <doctest/doctest.h>
#include <map>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

#include "files.hpp"

using namespace descent;
namespace fs = std::filesystem;

namespace {

std::string content(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes)
    for (const int shift : {4, 0}) text += "0123456789abcdef"[c >> shift & 15];
  return text;
}

template <class T> T load(const std::string& bytes, std::size_t at) {
  T value{};
  REQUIRE(at + sizeof value <= bytes.size());
  std::memcpy(&value, &bytes[at], sizeof value);
  return value;
}

/// CRC-32C, a bit at a time, masked as TFRecord has it.
uint32_t masked_crc(const std::string& bytes) {
  uint32_t crc = ~0U;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

/// The messages of the whole records that a file has; all of it if it is `whole`.
std::vector<std::string> records(const std::string& file, bool whole = true) {
  std::vector<std::string> messages;
  std::size_t at = 0;
  while (at + 12 <= file.size()) {
    const auto length = load<uint64_t>(file, at);
    CHECK(load<uint32_t>(file, at + 8) == masked_crc(file.substr(at, 8)));
    if (at + 16 + length > file.size()) break;
    messages.push_back(file.substr(at + 12, length));
    CHECK(load<uint32_t>(file, at + 12 + length) == masked_crc(messages.back()));
    at += 16 + length;
  }
  if (whole) CHECK(at == file.size());
  return messages;
}

uint64_t take_varint(const std::string& message, std::size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(message.at(at++));
    value |= uint64_t{byte & 0x7fU} << shift;
    if (byte < 0x80) return value;
  }
}

/// The last field of this number, as its bytes; of a varint, eight.
std::string field(const std::string& message, uint64_t number) {
  std::string found;
  for (std::size_t at = 0; at < message.size();) {
    const uint64_t key = take_varint(message, at);
    const std::size_t fixed[] = {0, 8, 0, 0, 0, 4};
    std::string value;
    if ((key & 7) == 0) {
      const uint64_t integer = take_varint(message, at);
      value.assign(reinterpret_cast<const char*>(&integer), sizeof integer);
    } else {
      const std::size_t size = (key & 7) == 2 ? take_varint(message, at) : fixed[key & 7];
      value = message.substr(at, size);
      at += size;
    }
    if (key >> 3 == number) found = value;
  }
  return found;
}
std::string field(const std::string& message, std::initializer_list<uint64_t> path) {
  std::string part = message;
  for (const uint64_t number : path) part = field(part, number);
  return part;
}

std::vector<double> doubles(const std::string& bytes) {
  std::vector<double> all;
  for (std::size_t at = 0; at < bytes.size(); at += 8) all.push_back(load<double>(bytes, at));
  return all;
}

/// The only file of a folder.
std::string sole_file(const fs::path& folder) {
  REQUIRE(std::distance(fs::directory_iterator(folder), {}) == 1);
  return fs::directory_iterator(folder)->path().string();
}

/// The messages that f(EventWriter&) writes, behind the first.
template <class F> std::vector<std::string> written(F f) {
  const Folder folder("events");
  {
    data::EventWriter log(folder.path.string());
    f(log);
  }
  std::vector<std::string> messages = records(content(sole_file(folder.path)));
  messages.erase(messages.begin());
  return messages;
}

/// The message with the time 1.0.
std::string at_one(std::string message) {
  const double one = 1, now = load<double>(message, 1);
  CHECK(message[0] == 9);
  CHECK(std::abs(now - static_cast<double>(std::time(nullptr))) < 100);
  std::memcpy(&message[1], &one, sizeof one);
  return message;
}

/// HistogramProto, and what is written beside it.
struct Buckets {
  explicit Buckets(const Tensor& x) {
    const auto messages = written([&](data::EventWriter& log) { log.histogram("x", x, 1); });
    const std::string histogram = field(messages.at(0), {5, 1, 5});
    for (uint64_t i = 1; i <= 5; ++i) numbers.push_back(load<double>(field(histogram, i), 0));
    limits = doubles(field(histogram, 6));
    counts = doubles(field(histogram, 7));
    if (messages.size() > 1) {
      CHECK(field(messages[1], {5, 1, 1}) == "x/nonfinite");
      nonfinite = load<float>(field(messages[1], {5, 1, 2}), 0);
    }
    REQUIRE(limits.size() == counts.size());
    CHECK(std::adjacent_find(limits.begin(), limits.end(), std::greater_equal<>()) == limits.end());
    double sum = 0;
    for (const double count : counts) sum += count;
    CHECK(sum == numbers[2]);
    for (std::size_t i = 1; i < counts.size(); ++i) CHECK(counts[i] + counts[i - 1] > 0);
    if (!counts.empty()) CHECK(counts.front() * counts.back() > 0);
  }
  /// The lower and upper limit of the bucket that has this number of elements.
  [[nodiscard]] std::pair<double, double> around(double count) const {
    const auto found = std::find(counts.begin(), counts.end(), count);
    const auto i = static_cast<std::size_t>(found - counts.begin());
    return {i == 0 ? numbers[0] : limits[i - 1], limits.at(i)};
  }
  Values numbers, limits, counts;  // min, max, num, sum, sum_squares
  float nonfinite = 0;
};

/// Lets this process write files of at most `bytes` bytes.
bool limit_files(rlim_t bytes) {
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = bytes;
  return ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
}

/// What f says on standard error in a process that may write files of at most `bytes` bytes.
template <class F> std::string with_full_disk(rlim_t bytes, F f) {
  return standard_error([&] {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      std::signal(SIGXFSZ, SIG_IGN);
      bool good = limit_files(bytes);
      try {
        f();
      } catch (...) { good = false; }
      std::fflush(stderr);
      ::_exit(good ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  });
}

/// Closes this process's descriptor of a file, as a program might by mistake.
void close_descriptor_of(const std::string& path) {
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    if (fs::read_symlink(entry.path(), error) == path)
      ::close(std::stoi(entry.path().filename().string()));
  }
}

}  // namespace

// ---- events

TEST_CASE("an event file has the name and the first record that TensorBoard looks for") {
  const Folder folder("events");
  const fs::path inner = folder.path / "runs" / "first";
  char host[256] = "";
  ::gethostname(host, sizeof host);
  { data::EventWriter log(inner.string()); }
  const std::string path = sole_file(inner), name = fs::path(path).filename().string();
  CHECK(name.starts_with("events.out.tfevents."));
  CHECK(name.ends_with(std::string(".") + host + "." + std::to_string(::getpid())));
  CHECK(std::abs(std::stol(name.substr(20)) - std::time(nullptr)) < 100);
  const std::string file = content(path);
  CHECK(hex(file.substr(0, 12)) == "1800000000000000a37f4b22");
  REQUIRE(records(file).size() == 1);
  CHECK(hex(at_one(records(file)[0])) == "09000000000000f03f1a0d627261696e2e4576656e743a32");
}

TEST_CASE("two event files of one second have different names") {
  const Folder folder("events");
  {
    data::EventWriter a(folder.path.string()), b(folder.path.string()), c(folder.path.string());
    b.scalar("b", 1, 1);
  }
  std::size_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder.path)) {
    records(content(entry.path()));
    bytes = std::max(bytes, content(entry.path()).size());
  }
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 3);
  CHECK(bytes == 40 + 16 + 9 + 2 + 12);
}

// The messages are those of tests/golden/events.py.
TEST_CASE("scalars, histograms and texts are the bytes of TensorBoard's own protocol buffers") {
  const auto messages = written([](data::EventWriter& log) {
    log.scalar("loss", 0.25, 300);
    log.scalar("loss", 0, 0);
    log.scalar("é", -kInf, -1);
    log.histogram("w", tensor({0.5, 0.5, -2.}), 7);
    log.text("note", "**warm-up**", 2);
  });
  REQUIRE(messages.size() == 5);
  CHECK(hex(at_one(messages[0])) == "09000000000000f03f10ac022a0d0a0b0a046c6f7373150000803e");
  CHECK(hex(at_one(messages[1])) == "09000000000000f03f2a0d0a0b0a046c6f73731500000000");
  CHECK(hex(at_one(messages[2])) ==
        "09000000000000f03f10ffffffffffffffffff012a0b0a090a02c3a915000080ff");
  CHECK(hex(at_one(messages[3])) ==
        "09000000000000f03f10072a680a660a01772a610900000000000000c011000000000000e03f190000000000"
        "00084021000000000000f0bf2900000000000012403218dc94cd2e8d75ffbffae55a25d31fde3fb03125ee80"
        "91e03f3a18000000000000f03f00000000000000000000000000000040");
  CHECK(hex(at_one(messages[4])) ==
        "09000000000000f03f10022a250a230a046e6f7465421108071200420b2a2a7761726d2d75702a2a4a080a060a"
        "0474657874");
}

TEST_CASE("hyper-parameters are the bytes of TensorBoard's own protocol buffers") {
  auto messages = written([](data::EventWriter& log) {
    log.hyperparameters({{"nesterov", false}}, {"loss"});
  });
  REQUIRE(messages.size() == 2);
  CHECK(hex(at_one(messages[0])) ==
        "09000000000000f03f2a410a3f0a145f68706172616d735f2f6578706572696d656e744a270a250a0768706172"
        "616d73121a1218220c0a086e65737465726f7620022a080a0612046c6f7373");
  std::string start = at_one(messages[1]);  // ends with the time of the start
  CHECK(std::abs(load<double>(start, start.size() - 8) - load<double>(messages[1], 1)) < 10);
  start.replace(start.size() - 8, 8, start.substr(1, 8));
  CHECK(hex(start) ==
        "09000000000000f03f2a4a0a480a1c5f68706172616d735f2f73657373696f6e5f73746172745f696e666f4a28"
        "0a260a0768706172616d73121b1a190a0e0a086e65737465726f761202200029000000000000f03f");
  messages = written([](data::EventWriter& log) {
    log.hyperparameters({{"lr", 0.5}, {"n", std::size_t{64}}, {"rule", "Adam"}});
  });
  REQUIRE(messages.size() == 1);
  const std::string text = hex(field(messages[0], {5, 1, 9, 1, 2, 3}));
  CHECK(
      text.starts_with("0a0f0a026c721209"
                       "11000000000000e03f"
                       "0a0e0a016e1209"
                       "110000000000005040"
                       "0a0e0a0472756c651206"
                       "1a044164616d"));
}

TEST_CASE("scalars are rounded to float32, and written as they are if they are not finite") {
  const auto messages = written([](data::EventWriter& log) {
    for (const double x : {0.1, 1e300, kNan, kInf}) log.scalar("x", x, INT64_MAX);
  });
  std::vector<float> read;
  for (const auto& message : messages) {
    read.push_back(load<float>(field(message, {5, 1, 2}), 0));
    CHECK(load<int64_t>(field(message, 2), 0) == INT64_MAX);
  }
  REQUIRE(read.size() == 4);
  CHECK(read[0] == 0.1F);
  CHECK(read[1] == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(read[2]));
  CHECK(read[3] == std::numeric_limits<float>::infinity());
}

TEST_CASE("the counts of a histogram add up, and its limits are TensorFlow's and increase") {
  const Tensor x = noise({3, 1000}, 5);
  const Buckets all(x.t());
  double sum = 0, squares = 0;
  Values sorted = values(x.t());
  for (const double v : sorted) sum += v, squares += v * v;
  std::sort(sorted.begin(), sorted.end());
  CHECK(all.numbers == Values{sorted.front(), sorted.back(), 3000, sum, squares});
  CHECK(all.nonfinite == 0);
  std::map<double, double> expected;  // counts by upper limit
  Values limits{-DBL_MAX, 0, DBL_MAX};
  for (double v = 1e-12; v < 1e20; v *= 1.1) limits.insert(limits.end(), {v, -v});
  CHECK(limits.size() == 1551);
  std::sort(limits.begin(), limits.end());
  for (const double v : sorted)
    ++expected[*std::find_if(limits.begin(), limits.end(), [&](double l) { return v < l; })];
  for (std::size_t i = 0; i < all.limits.size(); ++i) {
    CHECK(all.counts[i] == expected[all.limits[i]]);
    CHECK(std::binary_search(limits.begin(), limits.end(), all.limits[i]));
  }
}

TEST_CASE("a bucket has its lower limit, and the last ones have all that is larger") {
  CHECK(Buckets(zeros({5})).around(5) == std::pair(0., 1e-12));
  CHECK(Buckets(tensor({0., 0., 1e-12}, float64)).around(1) == std::pair(1e-12, 1e-12 * 1.1));
  CHECK(Buckets(tensor({0., 0., -1e-12}, float64)).around(1) == std::pair(-1e-12, 0.));
  const Buckets most(tensor({DBL_MAX, 1e300, 1e20, -DBL_MAX}, float64));
  CHECK(most.around(3).second == DBL_MAX);
  CHECK(most.around(3).first < 1e20);
  CHECK(most.around(1).first == -DBL_MAX);
  CHECK(most.numbers[0] == -DBL_MAX);
  CHECK(most.numbers[1] == DBL_MAX);
}

TEST_CASE("a histogram counts elements that are not finite apart") {
  const Buckets some(tensor({1., kNan, kInf, -kInf, 3.}));
  CHECK(some.numbers == Values{1, 3, 2, 4, 10});
  CHECK(some.nonfinite == 3);
  const Buckets none(tensor({kNan, kInf}).to(float32));
  CHECK(none.numbers == Values{0, 0, 0, 0, 0});
  CHECK(none.limits.empty());
  CHECK(none.nonfinite == 2);
}

TEST_CASE("a histogram takes every dtype and shape, also an empty one and a parameter") {
  CHECK(Buckets(tensor({1, 2, 2})).numbers == Values{1, 2, 3, 5, 9});
  CHECK(Buckets(tensor({1, 2, 2}) > 1).numbers == Values{0, 1, 3, 2, 2});
  CHECK(Buckets(zeros({0, 3})).limits.empty());
  CHECK(Buckets(zeros({0, 3})).nonfinite == 0);
  const Tensor parameter = ones({}).requires_grad_();
  CHECK(Buckets(parameter).numbers == Values{1, 1, 1, 1, 1});
}

TEST_CASE("an event writer refuses tags, texts and names that TensorBoard cannot show") {
  const Folder folder("events");
  data::EventWriter log(folder.path.string());
  const std::string bad = "a\xff";
  CHECK(refusal<ValueError>([&] { log.scalar("", 1, 1); }) == "scalar: the tag is empty");
  CHECK(refusal<ValueError>([&] { log.scalar(bad, 1, 1); }) == "scalar: \"a\\ufffd\" is not UTF-8");
  CHECK(refusal<ValueError>([&] { log.histogram(bad, ones({1}), 1); }) ==
        "histogram: \"a\\ufffd\" is not UTF-8");
  CHECK(refusal<ValueError>([&] { log.histogram("x", Tensor(), 1); }) ==
        "histogram: x: the tensor is undefined");
  CHECK(refusal<ValueError>([&] { log.text(bad, "", 1); }) == "text: \"a\\ufffd\" is not UTF-8");
  CHECK(refusal<ValueError>([&] { log.text("x", "\xed\xa0\x80", 1); }) ==
        "text: \"\\ufffd\\ufffd\\ufffd\" is not UTF-8");
  CHECK(refusal<ValueError>([&] {
          log.hyperparameters({{bad, 1}});
        }) == "hyperparameters: \"a\\ufffd\" is not UTF-8");
  CHECK(refusal<ValueError>([&] {
          log.hyperparameters({{"x", bad}});
        }) == "hyperparameters: \"a\\ufffd\" is not UTF-8");
  CHECK(refusal<ValueError>([&] {
          log.hyperparameters({{"x", 1}, {"x", 2}});
        }) == "hyperparameters: the name \"x\" occurs twice");
  CHECK(refusal<ValueError>([&] {
          log.hyperparameters({}, {"x", bad});
        }) == "hyperparameters: [\"x\",\"a\\ufffd\"] is not UTF-8");
  log.flush();
  CHECK(records(content(sole_file(folder.path))).size() == 1);
}

// ---- JSON lines

TEST_CASE("JSON lines have the values in their order, with the fewest digits that suffice") {
  const Folder folder("json");
  const std::string path = (folder.path / "x.jsonl").string();
  {
    data::JsonLines log(path);
    log.write({{"step", 3}, {"loss", 0.25}, {"note", "text"}, {"good", true}, {"bad", false}});
    log.write({});
    log.write({{"a", "b"}, {"c", "d"}});
    log.write({{"a", 0.1}, {"b", 1e300}, {"c", 5e-324}, {"d", -0.}, {"e", 1. / 3}, {"f", 0.1F}});
    log.write({{"a", INT64_MIN}, {"b", UINT64_MAX}, {"c", std::size_t{7}}, {"d", 100.}});
    log.write({{"a", kNan}, {"b", kInf}, {"c", -kInf}});
  }
  CHECK(content(path) ==
        "{\"step\":3,\"loss\":0.25,\"note\":\"text\",\"good\":true,\"bad\":false}\n"
        "{}\n"
        "{\"a\":\"b\",\"c\":\"d\"}\n"
        "{\"a\":0.1,\"b\":1e+300,\"c\":5e-324,\"d\":-0,\"e\":0.3333333333333333,"
        "\"f\":0.10000000149011612}\n"
        "{\"a\":-9223372036854775808,\"b\":18446744073709551615,\"c\":7,\"d\":100}\n"
        "{\"a\":\"NaN\",\"b\":\"Infinity\",\"c\":\"-Infinity\"}\n");
}

TEST_CASE("JSON lines escape what JSON does not allow, and keep all other UTF-8") {
  const Folder folder("json");
  const std::string path = (folder.path / "x.jsonl").string();
  {
    data::JsonLines log(path);
    log.write({{"\"\\/", "\b\f\n\r\t"}, {"é\u2028😀", std::string("\x00\x1f\x7f", 3)}, {"", ""}});
  }
  CHECK(content(path) ==
        "{\"\\\"\\\\/\":\"\\b\\f\\n\\r\\t\",\"é\u2028😀\":\"\\u0000\\u001f\x7f\",\"\":\"\"}\n");
}

TEST_CASE("JSON lines refuse what is not UTF-8 and names that occur twice") {
  const Folder folder("json");
  const std::string path = (folder.path / "x.jsonl").string();
  data::JsonLines log(path), timed(path, {.time = true});
  CHECK(refusal<ValueError>([&] {
          log.write({{"loss", 1}, {"\xc0\xaf", 1}});
        }) == "write: \"\\ufffd\\ufffd\" is not UTF-8");
  CHECK(refusal<ValueError>([&] {
          log.write({{"a", "\xf4\x90\x80\x80"}});
        }) == "write: \"\\ufffd\\ufffd\\ufffd\\ufffd\" is not UTF-8");
  CHECK(refusal<ValueError>([&] {
          log.write({{"a", 1}, {"b", 1}, {"a", "x"}});
        }) == "write: the name \"a\" occurs twice");
  CHECK(refusal<ValueError>([&] {
          timed.write({{"time", 1}});
        }) == "write: the name \"time\" occurs twice");
  log.flush();
  CHECK(content(path).empty());
}

TEST_CASE("JSON lines begin with the time if it is asked for") {
  const Folder folder("json");
  const std::string path = (folder.path / "x.jsonl").string();
  data::JsonLines(path, {.time = true}).write({{"a", 1}});
  const std::string line = content(path);
  CHECK(line.starts_with("{\"time\":"));
  CHECK(line.ends_with(",\"a\":1}\n"));
  CHECK(std::abs(std::stod(line.substr(8)) - static_cast<double>(std::time(nullptr))) < 100);
}

TEST_CASE("JSON lines go on in a new line behind what a dead process has left") {
  const Folder folder("json");
  const std::string torn = folder.write("torn", "{\"a\":1}\n{\"a\":"),
                    whole = folder.write("whole", "{\"a\":1}\n"), empty = folder.write("empty", "");
  for (const auto& path : {torn, whole, empty}) data::JsonLines(path).write({{"b", 2}});
  CHECK(content(torn) == "{\"a\":1}\n{\"a\":\n{\"b\":2}\n");
  CHECK(content(whole) == "{\"a\":1}\n{\"b\":2}\n");
  CHECK(content(empty) == "{\"b\":2}\n");
  { data::JsonLines log(folder.write("unused", "x")); }
  CHECK(content(folder.path / "unused") == "x\n");
}

// ---- files

TEST_CASE("a log that cannot be opened is an IoError, and nothing blocks") {
  const Folder folder("log");
  const std::string here = folder.path.string(), fifo = here + "/fifo", nul{"a\0b", 3};
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(refusal<IoError>([&] { data::JsonLines log(fifo); }) ==
        "JsonLines: cannot read " + fifo + ": it is not a regular file");
  CHECK(refusal<IoError>([&] { data::JsonLines log("/dev/full"); }) ==
        "JsonLines: cannot read /dev/full: it is not a regular file");
  CHECK(refusal<IoError>([&] { data::JsonLines log(here); }) ==
        "JsonLines: cannot read " + here + ": it is not a regular file");
  CHECK(refusal<IoError>([&] { data::JsonLines log(here + "/none/x"); }) ==
        "JsonLines: cannot open " + here + "/none/x: No such file or directory");
  CHECK(refusal<IoError>([&] { data::JsonLines log(""); }) ==
        "JsonLines: cannot open : No such file or directory");
  CHECK(refusal<IoError>([&] { data::JsonLines log(here + "/" + nul); }) ==
        "JsonLines: cannot open " + here + "/a: the path goes on after a NUL byte");
  CHECK(refusal<IoError>([&] { data::EventWriter log(here + "/" + nul); }) ==
        "EventWriter: cannot make " + here + "/a: Invalid argument");
  CHECK(refusal<IoError>([&] { data::EventWriter log(""); }) ==
        "EventWriter: cannot make : Invalid argument");
  CHECK(refusal<IoError>([&] { data::EventWriter log(fifo); }) ==
        "EventWriter: cannot make " + fifo + ": Not a directory");
  CHECK(refusal<IoError>([&] {
          data::EventWriter log("/proc/self/x");
        }).starts_with("EventWriter: cannot make /proc/self/x: "));
  CHECK(sole_file(folder.path) == fifo);
}

TEST_CASE("records wait in memory until there are 64 KiB, a second is over or flush is called") {
  const Folder folder("log");
  const std::string path = (folder.path / "x").string();
  data::JsonLines log(path);
  const auto start = std::chrono::steady_clock::now();
  const auto soon = [&] {  // else a slow machine is no mistake
    return std::chrono::steady_clock::now() - start < std::chrono::milliseconds(900);
  };
  log.write({{"a", 1}});
  CHECK(fs::file_size(path) == 8);  // the first
  log.write({{"a", 2}});
  if (soon()) CHECK(fs::file_size(path) == 8);
  log.flush();
  CHECK(content(path) == "{\"a\":1}\n{\"a\":2}\n");
  log.write({{"a", std::string(65519, 'x')}});  // 65,528 bytes
  if (soon()) CHECK(fs::file_size(path) == 16);
  log.write({{"a", 1}});
  if (soon()) CHECK(fs::file_size(path) == 16 + 65528 + 8);
  log.flush();
  log.write({{"a", 1}});
  std::this_thread::sleep_for(std::chrono::milliseconds(1050));
  log.write({{"a", 1}});
  CHECK(fs::file_size(path) == 16 + 65528 + 8 + 16);
}

TEST_CASE("a full disk ends a log with one report, and never the program") {
  const Folder folder("log");
  const std::string text = with_full_disk(100000, [&] {
    data::EventWriter log(folder.path.string());
    for (int i = 0; i < 20000; ++i) {
      log.scalar("loss", i, i);
      if (i % 1000 == 0) log.histogram("w", ones({10}), i);
      if (i % 500 == 0) log.flush();
    }
    log.text("note", std::string(200000, 'x'), 1);
    log.hyperparameters({{"lr", 0.5}});
  });
  const std::string path = sole_file(folder.path), file = content(path);
  CHECK(text ==
        "descent: EventWriter: cannot write " + path + ": File too large: the log ends here\n");
  CHECK(file.size() == 100000);
  CHECK(records(file, false).size() > 2000);
}

TEST_CASE("nothing is written behind half a record, even if there is room again") {
  const Folder folder("log");
  const std::string path = (folder.path / "x").string();
  const std::string text = with_full_disk(1000, [&] {
    data::JsonLines log(path);
    log.write({{"a", std::string(2000, 'x')}});
    REQUIRE(limit_files(1 << 20));
    log.write({{"a", 1}});
    log.flush();
    log.write({{"a", std::string(200000, 'x')}});
  });
  CHECK(text ==
        "descent: JsonLines: cannot write " + path + ": File too large: the log ends here\n");
  CHECK(content(path) == "{\"a\":\"" + std::string(994, 'x'));
}

TEST_CASE("JSON lines go on behind a full disk") {
  const Folder folder("log");
  const std::string path = (folder.path / "x").string();
  const std::string text = with_full_disk(1000, [&] {
    data::JsonLines log(path);
    for (int i = 0; i < 1000; ++i) {
      log.write({{"step", i}});
      if (i % 10 == 0) log.flush();
    }
  });
  CHECK(text ==
        "descent: JsonLines: cannot write " + path + ": File too large: the log ends here\n");
  data::JsonLines(path).write({{"step", 1000}});
  std::istringstream lines(content(path));
  std::string line, last;
  for (int step = 0; std::getline(lines, line); ++step, last = line)
    if (line != "{\"step\":" + std::to_string(step) + "}") break;  // the torn one
  CHECK(line.size() < 12);
  CHECK(std::string("{\"step\":0123456789}").find(line.substr(0, 5)) == 0);
  std::getline(lines, line);
  CHECK(line == "{\"step\":1000}");
  CHECK_FALSE(std::getline(lines, line));
}

TEST_CASE("a log whose descriptor was closed reports it once") {
  const Folder folder("log");
  const std::string path = (folder.path / "x").string();
  const std::string text = standard_error([&] {
    data::JsonLines log(path);
    log.write({{"a", 1}});
    log.flush();
    close_descriptor_of(path);
    log.flush();  // there is nothing to write
    log.write({{"a", 2}});
    log.flush();
    log.write({{"a", 3}});
    log.flush();
  });
  CHECK(text ==
        "descent: JsonLines: cannot write " + path + ": Bad file descriptor: the log ends here\n");
  CHECK(content(path) == "{\"a\":1}\n");
}
