#include "descent/data/formats/events.hpp"

#include <algorithm>
#include <cerrno>
#include <cfloat>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <unistd.h>

#include "descent/core/kernels/crc32c.hpp"
#include "descent/data/formats/file.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr std::size_t kBufferBytes = 1 << 16;
constexpr double kLongestWaitSeconds = 1;

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// ---- JSON

/// A text, or some, as JSON; refuses what is not UTF-8.
std::string as_json(const char* op, const nlohmann::json& text, At at) {
  try {
    return text.dump();
  } catch (const nlohmann::json::type_error&) {
    constexpr auto replace = nlohmann::json::error_handler_t::replace;
    fail<ValueError>(at, "{}: {} is not UTF-8", op, text.dump(-1, ' ', true, replace));
  }
}

std::string as_json(const Number& number) {
  const auto x = number.to<double>();
  if (std::isfinite(x)) return str(number);
  return std::isnan(x) ? "\"NaN\"" : x > 0 ? "\"Infinity\"" : "\"-Infinity\"";
}

std::string as_json(const char* op, const NamedValues& values, At at) {
  std::string object;
  std::set<std::string> names;
  for (const auto& [name, value] : values) {
    const std::string key = as_json(op, name, at);
    if (!names.insert(key).second) fail<ValueError>(at, "{}: the name {} occurs twice", op, key);
    object += (object.empty() ? "{" : ",") + key + ":";
    if (value.kind == LogValue::Kind::text) object += as_json(op, value.text, at);
    else if (value.kind == LogValue::Kind::number) object += as_json(value.number);
    else object += value.number.to<bool>() ? "true" : "false";
  }
  return object + (object.empty() ? "{}" : "}");
}

// ---- protocol buffers: a message is the sum of its fields

template <class T> std::string raw(T v) { return {reinterpret_cast<const char*>(&v), sizeof v}; }
std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string integer(uint64_t field, uint64_t value) { return varint(field << 3) + varint(value); }
std::string real(uint64_t field, double value) { return varint(field << 3 | 1) + raw(value); }
std::string real32(uint64_t field, float value) { return varint(field << 3 | 5) + raw(value); }
/// A text, a message, or numbers.
std::string bytes(uint64_t field, const std::string& value) {
  return varint(field << 3 | 2) + varint(value.size()) + value;
}

std::string with_crc(const std::string& text) {
  const uint32_t crc = crc32c(text.data(), text.size());
  return text + raw((crc >> 15 | crc << 17) + 0xa282ead8);
}

/// The record of an Event that has wall_time and `what`.
std::string record(const std::string& what) {
  const std::string event = real(1, unix_seconds()) + what;
  return with_crc(raw(uint64_t{event.size()})) + with_crc(event);
}

/// The record of a Summary.Value that has `tag` and `value`.
std::string record(const char* op, const std::string& tag, int64_t step, const std::string& value,
                   At at) {
  if (as_json(op, tag, at) == "\"\"") fail<ValueError>(at, "{}: the tag is empty", op);
  const std::string when = step == 0 ? "" : integer(2, static_cast<uint64_t>(step));
  return record(when + bytes(5, bytes(1, bytes(1, tag) + value)));
}

/// Value.metadata: a SummaryMetadata whose plugin_data is for this plugin.
std::string metadata(const std::string& plugin, const std::string& content) {
  return bytes(9, bytes(1, bytes(1, plugin) + (content.empty() ? "" : bytes(2, content))));
}

/// Makes the folder; the name of a new file in it.
std::string new_path(const std::string& folder, At at) {
  std::error_code error;
  // The system would read a name up to its first NUL byte.
  std::filesystem::create_directories(folder.find('\0') == folder.npos ? folder : "", error);
  if (error) fail<IoError>(at, "EventWriter: cannot make {}: {}", folder.c_str(), error.message());
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const std::string seconds = str(static_cast<int64_t>(unix_seconds())), process = str(::getpid());
  std::string path = folder + "/events.out.tfevents." + seconds + "." + host + "." + process;
  while (std::filesystem::exists(path, error)) path += ".1";
  return path;
}

/// The upper limits of TensorFlow's buckets.
std::vector<double> bucket_limits() {
  std::set<double> limits{-DBL_MAX, 0, DBL_MAX};
  for (double v = 1e-12; v < 1e20; v *= 1.1) limits.insert({v, -v});
  return {limits.begin(), limits.end()};
}

}  // namespace

// ---- files

LogFile::LogFile(const char* op, const std::string& path, At at)
    : label_(std::string(op) + ": cannot write " + path + ": ") {
  std::error_code error;
  if (path.find('\0') != path.npos || std::filesystem::exists(path, error)) {
    const InputFile old(op, path, at);  // refuses what is not a regular file
    char last = '\n';
    if (old.size() > 0) old.read_at(old.size() - 1, &last, 1);
    if (last != '\n') buffer_ = "\n";
  }
  fd_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  if (fd_ < 0)
    fail<IoError>(at, "{}: cannot open {}: {}", op, path, std::string(std::strerror(errno)));
}

LogFile::~LogFile() {
  flush();
  ::close(fd_);
}

void LogFile::append(const std::string& record) {
  if (!ended_) buffer_ += record;
  // A clock that was set back must not make records wait.
  const bool waited = std::abs(unix_seconds() - written_) >= kLongestWaitSeconds;
  if (buffer_.size() >= kBufferBytes || waited) flush();
}

void LogFile::flush() noexcept try {
  const std::string records = std::exchange(buffer_, "");
  written_ = unix_seconds();
  for (std::string_view rest = records; !rest.empty() && !ended_;) {
    const ssize_t n = ::write(fd_, rest.data(), rest.size());
    if (n > 0) rest.remove_prefix(static_cast<std::size_t>(n));
    ended_ = n < 0 && errno != EINTR;
    if (ended_) report(label_ + std::strerror(errno) + ": the log ends here");
  }
} catch (...) {  // no memory for the report
}

// ---- JSON lines

void JsonLines::write(NamedValues values, At at) {
  if (options_.time) values.insert(values.begin(), {"time", unix_seconds()});
  append(as_json("write", values, at) + "\n");
}

// ---- events

EventWriter::EventWriter(const std::string& folder, At at)
    : LogFile("EventWriter", new_path(folder, at), at) {
  append(record(bytes(3, "brain.Event:2")));  // file_version
}

void EventWriter::scalar(const std::string& tag, double value, int64_t step, At at) {
  append(record("scalar", tag, step, real32(2, static_cast<float>(value)), at));
}

void EventWriter::histogram(const std::string& tag, const In& values, int64_t step) {
  static const std::vector<double> limits = bucket_limits();
  if (!values.defined()) fail<ValueError>(values.at, "histogram: {}: the tensor is undefined", tag);
  std::vector<double> buckets(limits.size());
  double min = DBL_MAX, max = -DBL_MAX, count = 0, sum = 0, squares = 0, nonfinite = 0;
  for (const double x : values.to_vector<double>(values.at)) {
    nonfinite += !std::isfinite(x);
    if (!std::isfinite(x)) continue;
    const auto above = std::upper_bound(limits.begin(), limits.end() - 1, x);
    ++buckets[static_cast<std::size_t>(above - limits.begin())];
    ++count, sum += x, squares += x * x, min = std::min(min, x), max = std::max(max, x);
  }
  if (count == 0) min = max = 0;
  std::string ends, counts;
  for (std::size_t i = 0; i < limits.size(); ++i) {
    // A run of empty buckets becomes one; none is at an end, where TensorBoard puts min and max.
    const bool needless = ends.empty() || i + 1 == limits.size() || buckets[i + 1] == 0;
    if (buckets[i] == 0 && needless) continue;
    ends += raw(limits[i]), counts += raw(buckets[i]);
  }
  // Value.histo: min, max, num, sum, sum_squares, bucket_limit, bucket.
  const auto numbers =
      real(1, min) + real(2, max) + real(3, count) + real(4, sum) + real(5, squares);
  append(record("histogram", tag, step, bytes(5, numbers + bytes(6, ends) + bytes(7, counts)),
                values.at));
  if (nonfinite > 0) scalar(tag + "/nonfinite", nonfinite, step, values.at);
}

void EventWriter::text(const std::string& tag, const std::string& text, int64_t step, At at) {
  as_json("text", text, at);  // refuses what is not UTF-8
  // Value.tensor: dtype DT_STRING, a shape without dimensions, string_val.
  const std::string tensor = bytes(8, integer(1, 7) + bytes(2, "") + bytes(8, text));
  append(record("text", tag, step, tensor + metadata("text", ""), at));
}

void EventWriter::hyperparameters(const NamedValues& values,
                                  const std::vector<std::string>& metrics, At at) {
  const char* const op = "hyperparameters";
  as_json(op, values, at), as_json(op, metrics, at);  // refuse what is wrong
  std::string start, experiment;
  for (const auto& [name, value] : values) {
    std::string v;  // google.protobuf.Value
    if (value.kind == LogValue::Kind::text) v = bytes(3, value.text);
    else if (value.kind == LogValue::Kind::number) v = real(2, value.number.to<double>());
    else v = integer(4, value.number.to<bool>());
    start += bytes(1, bytes(1, name) + bytes(2, v));
    experiment += bytes(4, bytes(1, name) + integer(4, static_cast<uint64_t>(value.kind)));
  }
  for (const auto& tag : metrics) experiment += bytes(5, bytes(1, bytes(2, tag)));
  start += real(5, unix_seconds());
  if (!metrics.empty())
    append(record(op, "_hparams_/experiment", 0, metadata("hparams", bytes(2, experiment)), at));
  append(record(op, "_hparams_/session_start_info", 0, metadata("hparams", bytes(3, start)), at));
}

}}  // namespace descent::data
