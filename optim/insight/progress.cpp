#include "descent/optim/insight/progress.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace [[gnu::visibility("default")]] descent { namespace optim {
namespace {

using enum ProgressMode;

constexpr double kSmoothing = 0.3;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// Whether the locale that the environment names uses UTF-8. (The locale of the program says
/// nothing: a program may never call setlocale.)
bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
    if (const std::string locale(environment(name)); !locale.empty())
      return ::strcasestr(locale.c_str(), "utf-8") || ::strcasestr(locale.c_str(), "utf8");
  return false;
}

/// How many columns a text takes: one per character, that is, per byte that begins a character.
int64_t columns(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

/// The text in one line: spaces replace control characters.
std::string plain(std::string text) {
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < ' '; }, ' ');
  return text;
}

std::string heading(const ProgressView& v) { return v.title.empty() ? "" : v.title + ": "; }

/// "01:23", "2:01:23".
std::string clock(double seconds) {
  if (!(seconds >= 0 && seconds < 1e9)) return "?";
  const auto s = static_cast<int64_t>(seconds);
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
  const char* const eighths[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
  auto filled = static_cast<int64_t>(fraction * static_cast<double>(width * 8));
  std::string text;
  for (; width > 0; --width, filled -= 8)
    text += unicode ? eighths[std::clamp<int64_t>(filled, 0, 8)] : filled >= 8 ? "#" : " ";
  return text;
}

}  // namespace

std::string format_bar(const ProgressView& v, const ProgressStyle& style) {
  const int64_t width = std::max(style.width, 1) - 1;
  const bool total_known = v.done >= 0 && v.total > 0 && v.done <= v.total;
  const double fraction = static_cast<double>(v.done) / static_cast<double>(v.total);
  std::string head = heading(v), tail = fmt::format("{}it [{}", v.done, clock(v.seconds));
  if (total_known) {
    const double left = static_cast<double>(v.total - v.done) / v.rate;
    head += fmt::format("{:3.0f}%", fraction * 100);
    tail = fmt::format(" {}/{} [{}<{}", v.done, v.total, clock(v.seconds), clock(left));
  }
  tail += ", " + speed(v.rate);
  for (const auto& [name, value] : v.postfix) tail += fmt::format(", {}={:.4g}", name, value);
  tail += "]";
  const int64_t room = width - columns(head) - columns(tail) - 2;
  if (total_known && room > 0)
    return fmt::format("{}|{}{}{}|{}", head, style.color ? "\x1b[32m" : "",
                       cells(fraction, room, style.unicode), style.color ? "\x1b[0m" : "", tail);
  std::string text = head + tail;
  while (columns(text) > width) text.pop_back();
  return text;
}

std::string format_line(const ProgressView& v) {
  std::string line = heading(v) + fmt::format("step={}", v.done);
  if (v.total > 0) line += fmt::format(" total={}", v.total);
  line += fmt::format(" seconds={:.1f} rate={:.4g}", v.seconds, v.rate);
  for (const auto& [name, value] : v.postfix) line += fmt::format(" {}={:.4g}", name, value);
  return line;
}

Progress::Progress(int64_t total, const std::string& title, ProgressOptions options, At at)
    : options_(options), start_(now()), view_{.title = plain(title), .total = total} {
  if (total < 0) fail<ValueError>(at, "Progress: total {} is negative", total);
  if (options_.mode == automatic)
    options_.mode = ::isatty(options_.fd) && environment("TERM") != "dumb" ? bar : lines;
  if (options_.mode == bar) draw(false);
}

Progress::~Progress() {
  // There may be no memory for the text.
  try {
    close();
  } catch (...) {}
}

void Progress::update(int64_t steps) {
  if (__builtin_add_overflow(view_.done, steps, &view_.done))
    view_.done = steps > 0 ? INT64_MAX : INT64_MIN;
  const double interval = options_.mode == bar ? 0.1 : 30;
  if (options_.mode != none && now() - start_ - view_.seconds >= interval) draw(false);
}

void Progress::postfix(const char* text, double value) {
  const std::string name = plain(text);
  for (auto& entry : view_.postfix)
    if (entry.first == name) return void(entry.second = value);
  view_.postfix.emplace_back(name, value);
}

void Progress::close() {
  if (options_.mode != none) draw(true);
  options_.mode = none;
}

void Progress::draw(bool last) {
  const double seconds = now() - start_, done = static_cast<double>(view_.done);
  recent_steps_ += kSmoothing * (done - drawn_ - recent_steps_);
  recent_seconds_ += kSmoothing * (seconds - view_.seconds - recent_seconds_);
  drawn_ = done;
  view_.seconds = seconds;
  view_.rate = last ? done / seconds : recent_steps_ / recent_seconds_;  // at last of the whole

  winsize size{};  // stays empty where there is no terminal
  ::ioctl(options_.fd, TIOCGWINSZ, &size);
  const bool color = ::isatty(options_.fd) && environment("NO_COLOR").empty();
  const ProgressStyle style{size.ws_col > 0 ? size.ws_col : 80, locale_is_utf8(), color};
  const std::string text = options_.mode == lines
                               ? format_line(view_) + "\n"
                               : "\r" + format_bar(view_, style) + "\x1b[K" + (last ? "\n" : "");
  // Progress that cannot be shown must not stop the loop.
  if (::write(options_.fd, text.data(), text.size()) < 0) return;
}

}}  // namespace descent::optim
