#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "descent/descent.hpp"

#include "inject.hpp"

// Every allocation of a step, a load and a save fails once: what throws has changed nothing.

using namespace descent;

TEST_CASE("the injector fails each allocation once, the library's and the standard library's") {
  const inject::Watch watch;
  const int64_t before = inject::failures;
  int64_t k = 1;
  std::vector<double> list;
  std::string text;
  auto work = [&] {
    const Tensor x = zeros({3});    // a header and a storage
    list = std::vector<double>(5);  // one
    text = std::string(100, 'x');   // one
  };
  for (; inject::fails(k, work) != 0; ++k) CHECK(k <= 4);
  CHECK(k == 5);
  CHECK(inject::failures - before == 4);
  CHECK(inject::fails(0, work) == 0);
}
