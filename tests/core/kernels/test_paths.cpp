#include <cstdio>
#include <doctest/doctest.h>

#include "paths.hpp"

// Every path that can serve a product, a convolution, a pooling, a reduction, a softmax or a loss
// against the definition: see core/base/paths.hpp, and paths/*.cpp for what is compared.

TEST_CASE("every path is compared with its definition, value and gradients, and is right") {
  using namespace paths;
  constexpr int64_t kAll = 20'000, kEach = 1'000;
  Tally tally;
  compare_products(tally);
  compare_convolutions(tally);
  compare_pooling(tally);
  compare_reductions(tally);
  compare_losses(tally);

  for (const std::string_view path : detail::kPaths) {
    const std::string name(path);
    CAPTURE(name);
    const Tally::Path& of = tally.path(name);
    std::printf("paths: %s: %lld comparisons (%lld in float32), %lld calls, off by %.2f of %g\n",
                name.c_str(), static_cast<long long>(of.comparisons[0] + of.comparisons[1]),
                static_cast<long long>(of.comparisons[0]), static_cast<long long>(of.calls),
                of.worst, bound(path));
    CHECK(of.comparisons[0] > 0);
    CHECK(of.comparisons[0] + of.comparisons[1] >= kEach / kShare);
  }
  std::printf(
      "paths: %lld comparisons with the definition, of %lld pairs of values; 1 of %lld cases\n",
      static_cast<long long>(tally.comparisons), static_cast<long long>(tally.pairs),
      static_cast<long long>(kShare));
  CHECK(tally.comparisons >= kAll / kShare);
  CHECK(tally.failures == 0);
}
