#include <algorithm>
#include <climits>
#include <cmath>
#include <doctest/doctest.h>
#include <unistd.h>

#include "support.hpp"

using namespace descent;
using namespace descent::optim;

namespace {

/// What f(fd) writes.
template <class F> std::string written(F f) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  f(ends[1]);
  ::close(ends[1]);
  std::string text(4096, '\0');
  text.resize(static_cast<std::size_t>(::read(ends[0], text.data(), text.size())));
  ::close(ends[0]);
  return text;
}

}  // namespace

TEST_CASE("a bar reads as tqdm's does") {
  const ProgressView view{"epoch 1/5", 394, 938, 1.3, 310.52, {{"loss", 0.28414}}};
  CHECK(format_bar(view, {.width = 80}) ==
        "epoch 1/5:  42%|██████▎        | 394/938 [00:01<00:01, 310.52it/s, loss=0.2841]");
  CHECK(format_bar(view, {.width = 80, .unicode = false}) ==
        "epoch 1/5:  42%|######         | 394/938 [00:01<00:01, 310.52it/s, loss=0.2841]");
  const std::string wide = format_bar(view, {.width = 200, .unicode = false});
  CHECK(wide.size() == 199);
  CHECK(wide.starts_with("epoch 1/5:  42%|######"));
  CHECK(std::count(wide.begin(), wide.end(), '#') == 56);  // of 135: 42 %
  CHECK(format_bar(view, {.width = 20}) == "epoch 1/5:  42% 394");
  CHECK(format_bar(view, {.width = 20, .unicode = false}) == "epoch 1/5:  42% 394");
  CHECK(format_bar(view, {.width = 80, .color = true}).find("|\x1b[32m███") != std::string::npos);
  CHECK(format_bar({"", 5, 5, 7384, 0.25}, {.width = 50}) ==
        "100%|█████████████| 5/5 [2:03:04<00:00, 4.00s/it]");
}

TEST_CASE("the percentage is rounded as tqdm's is") {
  CHECK(format_bar({"", 29, 100, 9, 1}, {.width = 50}).starts_with(" 29%|"));
  CHECK(format_bar({"", 999'999, 1'000'000, 9, 1}, {.width = 50}).starts_with("100%|"));
}

TEST_CASE("what is not known is not made up") {
  CHECK(format_bar({"", 7, 0, 2, 0}, {.width = 60}) == "7it [00:02, ?it/s]");
  CHECK(format_bar({"", 0, 9, 0, 0}, {.width = 40}) == "  0%|            | 0/9 [00:00<?, ?it/s]");
  CHECK(format_bar({"", 12, 9, 3, 12345}, {.width = 60}) == "12it [00:03, 12.35kit/s]");
  CHECK(format_line({"a", 1, 0, 2, 0.5, {{"loss", NAN}}}) ==
        "a: step=1 seconds=2.0 rate=0.5 loss=nan");
  CHECK(format_bar({"a", 1, 4, 2, 0.5, {{"loss", NAN}}}, {.width = 56, .unicode = false}) ==
        "a:  25%|##      | 1/4 [00:02<00:06, 2.00s/it, loss=nan]");
  CHECK(format_bar({"", -1, 9, 1, NAN}, {.width = 60}) == "-1it [00:01, ?it/s]");
  CHECK(format_line({"", 394, 938, 1.26, 310.52}) == "step=394 total=938 seconds=1.3 rate=310.5");
}

TEST_CASE("a bar is never wider than the terminal, and full where there is room for one") {
  for (int width = 0; width < 120; ++width)
    for (int64_t done : {0, 1, 33, 99, 100})
      for (bool unicode : {false, true}) {
        const std::string bar = format_bar({"ü", done, 100, 9, 3.5, {{"x", 1}}}, {width, unicode});
        const auto columns = std::count_if(bar.begin(), bar.end(), [](char c) {
          return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
        });
        CHECK(columns <= std::max(width - 1, 0));
        if (width > 60) CHECK(columns == width - 1);
      }
}

TEST_CASE("off a terminal there is one line at the end, and nothing if none is asked for") {
  auto run = [](ProgressMode mode) {
    return written([mode](int fd) {
      Progress bar(3, "a", {.mode = mode, .fd = fd});
      for (int i = 0; i < 3; ++i) {
        bar.postfix("loss", 0.5 * i);
        bar.update();
      }
    });
  };
  for (ProgressMode mode : {ProgressMode::automatic, ProgressMode::lines}) {
    const std::string text = run(mode);
    CHECK(text.starts_with("a: step=3 total=3 seconds="));
    CHECK(text.ends_with(" loss=1\n"));
    CHECK(text.find('\r') == std::string::npos);
  }
  CHECK(written([](int fd) {
          Progress bar(3, "a", {.mode = ProgressMode::none, .fd = fd});
          bar.update(3);
          if (::write(fd, "x", 1) != 1) throw 1;
        }) == "x");
  const std::string drawn = run(ProgressMode::bar);
  CHECK(drawn.starts_with("\ra:   0%|"));
  CHECK(drawn.find("100%") != std::string::npos);
  CHECK(drawn.ends_with("\x1b[K\n"));
}

TEST_CASE("more steps than can be counted stay the most that can") {
  const std::string text = written([](int fd) {
    Progress bar(0, "", {.mode = ProgressMode::lines, .fd = fd});
    bar.update(INT64_MAX);
    bar.update(5);
  });
  CHECK(text.starts_with("step=9223372036854775807 "));
  CHECK(format_bar({.title = "", .done = 1, .total = INT64_MAX}, {.width = INT_MIN}).empty());
}

TEST_CASE("a negative total is refused, and a closed descriptor does no harm") {
  CHECK(refusal<ValueError>([&] { Progress(-1); }) == "Progress: total -1 is negative");
  Progress bar(2, "", {.mode = ProgressMode::bar, .fd = 9999});
  bar.update(2);
}
