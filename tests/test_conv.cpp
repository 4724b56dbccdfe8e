#include <cstdio>
#include <doctest/doctest.h>

#include "golden.hpp"

using namespace descent;

TEST_CASE("conv2d is PyTorch's, and so are its gradients") {
  GoldenTally tally;
  for (const GoldenCase& c : golden_cases("conv2d")) {
    const Tensor input = c.leaf("input"), weight = c.leaf("weight"), bias = c.leaf("bias");
    const Conv2dOptions options{.stride = c.size("stride", 1),
                                .padding = c.size("padding", 0),
                                .dilation = c.size("dilation", 1),
                                .groups = static_cast<int64_t>(c.number("groups", 1))};
    const Tensor output =
        bias.defined() ? conv2d(input, weight, bias, options) : conv2d(input, weight, options);
    tally.add(c, output, {{"input", input}, {"weight", weight}, {"bias", bias}});
  }
  CHECK(tally.cases == 2 * 21);
  std::printf("golden: conv2d, %d cases, off by %.1e in float64, %.1f ulp in float32\n",
              tally.cases, tally.exact, tally.single);
}
