#pragma once
/// @file
/// Logs of metrics that other programs show: TensorBoard's events, and JSON lines.

#include "descent/core/tensor/tensor.hpp"

namespace [[gnu::visibility("default")]] descent { namespace data {

/// What a log says of a name: a text, true or false, or a number.
struct LogValue {
  /// What it is. The numbers are those of TensorBoard's DataType.
  enum class Kind : uint8_t { text = 1, flag = 2, number = 3 };
  /// A text in UTF-8.
  LogValue(const char* v) : text(v) {}
  LogValue(std::string v) : text(std::move(v)) {}
  /// True or false, or a number.
  template <class T>
  requires std::is_arithmetic_v<T> LogValue(T v)
      : kind(std::is_same_v<T, bool> ? Kind::flag : Kind::number), number(v) {}

  Kind kind = Kind::text;  ///< what it is
  std::string text;        ///< the text, if it is one
  Number number = 0;       ///< the number; of true, 1
};
/// Names and what a log says of them, in its order: `{{"step", 3}, {"loss", 0.25}}`.
using NamedValues = std::vector<std::pair<std::string, LogValue>>;

/// What a JsonLines writes beside the values that it is given.
struct JsonLinesOptions {
  bool time = false;  ///< whether each object begins with "time", the seconds since 1970 began
};

/// A file to whose end a program adds records, and which never stops the program.
///
/// Records wait in memory until there are 64 KiB of them, until `flush`, until the destructor, or
/// until a record comes a second or more after the last write; then all are written by one call.
/// The first is written at once. A program that dies loses those that wait; nothing is synced to
/// the disk, so a power cut may lose more.
///
/// The first write that fails, as on a full disk, is reported on standard error, "EventWriter:
/// cannot write PATH: No space left on device: the log ends here". After that records are dropped,
/// and nothing more is written, so that at most the last record of the file is incomplete. (A
/// process that reaches its RLIMIT_FSIZE is killed by SIGXFSZ unless it ignores this signal.)
///
/// One thread at a time may use a log.
class LogFile : Pinned {
 public:
  /// Writes the records that wait in memory.
  void flush() noexcept;

 protected:
  /// Opens the file, or makes it. If its last line has no newline, because the process that wrote
  /// it died, one is written in front of the first record. `op`, a literal, is the name of the log
  /// in errors. IoError with the reason that the system gives, or if there is something of this
  /// name that is not a regular file; opening never blocks.
  LogFile(const char* op, const std::string& path, At at);
  /// Calls `flush`.
  ~LogFile();
  /// Adds a record.
  void append(const std::string& record);

 private:
  std::string label_, buffer_;
  int fd_ = -1;
  bool ended_ = false;  // a write has failed
  double written_ = 0;  // when, in seconds since 1970 began
};

/// Appends JSON objects to a file, one in a line, in UTF-8:
///
///     data::JsonLines log("metrics.jsonl");
///     log.write({{"step", 3}, {"loss", 0.25}, {"note", "warm-up"}});
///
///     {"step":3,"loss":0.25,"note":"warm-up"}
///
/// A file that exists is kept. LogFile says when lines reach the file and what a full disk does.
class JsonLines : public LogFile {
 public:
  /// Opens the file, or makes it. IoError if that fails, or if it is not a regular file.
  explicit JsonLines(const std::string& path, JsonLinesOptions options = {}, At at = At::here())
      : LogFile("JsonLines", path, at), options_(options) {}
  /// Writes an object with these names and values. A number has the fewest digits from which the
  /// same float64 is read again; NaN and the infinities are the texts "NaN", "Infinity" and
  /// "-Infinity". ValueError if a name occurs twice (also "time", with that option), or if a name
  /// or text is not UTF-8.
  void write(NamedValues values, At at = At::here());

 private:
  JsonLinesOptions options_;
};

/// Writes scalars, histograms and texts for TensorBoard, to a new file in a folder:
///
///     data::EventWriter log("runs/first");
///     log.scalar("loss/train", loss.item(), step);
///
/// `tensorboard --logdir runs` shows each folder below `runs` as a run. A tag is the title of a
/// chart; what stands before its first slash is that of a section. Use a tag for values of one kind
/// only: TensorBoard hides those that are of another kind than the first. The steps of a tag should
/// increase: where one does not, TensorBoard believes that training went back to it, and hides the
/// earlier values from that step on. Each value has the time of its call. ValueError if a tag is
/// empty or not UTF-8. LogFile says when values reach the file and what a full disk does.
///
/// The file has the records of TFRecord, each a protocol buffer `Event`, as event.proto and
/// summary.proto in tensorboard/compat/proto define it.
class EventWriter : public LogFile {
 public:
  /// Makes the folder and its parents where they are missing, and in it the file
  /// "events.out.tfevents.SECONDS.HOST.PID", with ".1" behind it, or ".1.1" and so on, if there is
  /// one already. IoError if that fails.
  explicit EventWriter(const std::string& folder, At at = At::here());
  /// Writes a number, rounded to float32: TensorBoard keeps no more. NaN and infinities are written
  /// as they are, and so shown.
  void scalar(const std::string& tag, double value, int64_t step, At at = At::here());
  /// Writes how often values occur in a tensor of any dtype and shape: in TensorFlow's intervals,
  /// which grow by a factor of 1.1, from 1e-12 to 1e20 and from -1e-12 to -1e20. An interval has
  /// its lower limit, but not its upper one. Limits and sums are computed in float64.
  ///
  /// NaN and infinities have no place in a histogram: it is that of all other elements, and the
  /// number of those that are not finite, if there are any, is written as a scalar of the tag
  /// "TAG/nonfinite". While it counts, it takes 8 bytes per element. An empty tensor has an empty
  /// histogram. ValueError if the tensor is undefined.
  void histogram(const std::string& tag, const In& values, int64_t step);
  /// Writes a text, which TensorBoard shows as Markdown. ValueError if it is not UTF-8.
  void text(const std::string& tag, const std::string& text, int64_t step, At at = At::here());
  /// Writes the hyper-parameters of this run, for the table in which TensorBoard compares runs. It
  /// takes integers for float64, and does not show NaN and infinities. Call this once:
  /// TensorBoard ignores a second call.
  ///
  /// `metrics` are the tags of the scalars that the table has. Without any, it has all scalars.
  /// TensorBoard takes the names of hyper-parameters and metrics from one of the runs that state
  /// metrics, if there is one: so these should all have the same names.
  ///
  /// ValueError if a name occurs twice, or a name or text is not UTF-8.
  void hyperparameters(const NamedValues& values, const std::vector<std::string>& metrics = {},
                       At at = At::here());
};

}}  // namespace descent::data
