#include "descent/data/progress.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fmt/format.h>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>

namespace [[gnu::visibility("default")]] descent { namespace data {
namespace {

constexpr double kBarInterval = 0.1, kLineInterval = 30, kSmoothing = 0.3;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// The locale's character set, as the environment has it: a program may never call setlocale.
bool locale_is_utf8() {
  std::string_view locale;
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
    if (locale.empty()) locale = environment(name);
  for (std::string_view charset : {"UTF-8", "utf-8", "UTF8", "utf8"})
    if (locale.find(charset) != std::string_view::npos) return true;
  return false;
}

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

/// Columns on the screen: one per character.
int64_t columns(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); });
}

/// The first `width` characters.
std::string truncated(std::string text, int64_t width) {
  std::size_t end = 0;
  for (; end < text.size(); ++end)
    if (!is_continuation(text[end]) && width-- == 0) break;
  text.resize(end);
  return text;
}

/// In one line: control characters make way for spaces.
std::string plain(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  return text;
}

/// "01:23", "2:01:23".
std::string clock(double seconds) {
  if (!(seconds < 1e9)) return "?";
  const auto s = static_cast<int64_t>(std::max(seconds, 0.0));
  return s < 3600 ? fmt::format("{:02}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

/// "310.52it/s", "12.35kit/s", "2.50s/it".
std::string speed(double rate) {
  if (!(rate > 0) || std::isinf(rate)) return "?it/s";
  if (rate < 1) return fmt::format("{:.2f}s/it", 1 / rate);
  const char* const prefixes[] = {"", "k", "M", "G"};
  std::size_t i = 0;
  for (; rate >= 1000 && i < 3; ++i) rate /= 1000;
  return fmt::format("{:.2f}{}it/s", rate, prefixes[i]);
}

std::string cells(double fraction, int64_t width, bool unicode) {
  const char* const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto parts = static_cast<int64_t>(fraction * static_cast<double>(width * 8));
  std::string bar;
  for (int64_t i = 0; i < parts / 8; ++i) bar += unicode ? "█" : "#";
  if (unicode) bar += eighths[parts % 8];
  return bar.append(static_cast<std::size_t>(width - columns(bar)), ' ');
}

}  // namespace

std::string format_bar(const ProgressView& v, const ProgressStyle& style) {
  const int64_t width = std::max(style.width - 1, 0);
  const bool total_known = v.done >= 0 && v.total > 0 && v.done <= v.total;
  std::string tail;
  for (const auto& [name, value] : v.postfix) tail += fmt::format(", {}={:.4g}", name, value);
  tail = fmt::format(", {}{}]", speed(v.rate), tail);
  std::string head = v.title.empty() ? "" : v.title + ": ";
  if (!total_known)
    return truncated(fmt::format("{}{}it [{}{}", head, v.done, clock(v.seconds), tail), width);

  const double left = static_cast<double>(v.total - v.done) / v.rate;
  const double fraction = static_cast<double>(v.done) / static_cast<double>(v.total);
  head += fmt::format("{:3.0f}%", fraction * 100);
  tail = fmt::format(" {}/{} [{}<{}{}", v.done, v.total, clock(v.seconds),
                     v.rate > 0 ? clock(left) : "?", tail);
  const int64_t room = width - columns(head) - columns(tail) - 2;
  if (room < 1) return truncated(head + tail, width);
  const std::string bar = cells(fraction, room, style.unicode);
  return style.color ? fmt::format("{}|\x1b[32m{}\x1b[0m|{}", head, bar, tail)
                     : fmt::format("{}|{}|{}", head, bar, tail);
}

std::string format_line(const ProgressView& v) {
  std::string line = v.title.empty() ? "" : v.title + ": ";
  line += fmt::format("step={}", v.done);
  if (v.total > 0) line += fmt::format(" total={}", v.total);
  line += fmt::format(" seconds={:.1f} rate={:.4g}", v.seconds, v.rate);
  for (const auto& [name, value] : v.postfix) line += fmt::format(" {}={:.4g}", name, value);
  return line;
}

Progress::Progress(int64_t total, const std::string& title, ProgressOptions options, At at)
    : mode_(options.mode),
      fd_(options.fd),
      total_(total),
      start_(now()),
      drawn_at_(start_),
      title_(plain(title)) {
  if (total < 0) fail<ValueError>(at, "Progress: total {} is negative", total);
  if (mode_ == automatic)
    mode_ = ::isatty(fd_) && environment("TERM") != "dumb" ? ProgressMode::bar : lines;
  if (mode_ == ProgressMode::bar) draw(start_);
  else next_ = start_ + kLineInterval;
}

Progress::~Progress() {
  try {
    close();
  } catch (...) {  // no memory for the text
  }
}

void Progress::postfix(const char* text, double value) {
  if (mode_ == none) return;
  const std::string name = plain(text);
  for (auto& entry : postfix_)
    if (entry.first == name) return void(entry.second = value);
  postfix_.emplace_back(name, value);
}

void Progress::close() {
  if (mode_ == none) return;
  const double time = now();
  write(time, static_cast<double>(done_) / (time - start_), true);
  mode_ = none;
}

void Progress::look() {
  if (const double time = now(); time >= next_) draw(time);
}

void Progress::draw(double time) {
  const auto steps = static_cast<double>(done_ - drawn_);
  recent_steps_ += kSmoothing * (steps - recent_steps_);
  recent_seconds_ += kSmoothing * (time - drawn_at_ - recent_seconds_);
  drawn_ = done_;
  drawn_at_ = time;
  next_ = time + (mode_ == ProgressMode::bar ? kBarInterval : kLineInterval);
  write(time, recent_seconds_ > 0 ? recent_steps_ / recent_seconds_ : 0, false);
}

void Progress::write(double time, double rate, bool last) {
  const ProgressView view{title_, done_, total_, time - start_, rate, postfix_};
  std::string text;
  if (mode_ == lines) {
    text = format_line(view) + "\n";
  } else {
    winsize size{};
    const bool sized = ::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    const bool color = ::isatty(fd_) && environment("NO_COLOR").empty();
    const ProgressStyle style{sized ? size.ws_col : 80, locale_is_utf8(), color};
    text = "\r" + format_bar(view, style) + "\x1b[K" + (last ? "\n" : "");
  }
  // Progress that cannot be shown must not stop what it is about.
  if (::write(fd_, text.data(), text.size()) < 0) return;
}

}}  // namespace descent::data
