#include <doctest/doctest.h>

#include "descent/core/kernels/element.hpp"

using namespace descent;

TEST_CASE("the extent of a shape in bytes, in which a 0 hides no size that is too large") {
  CHECK(extent_in_bytes(Element::int16, {}) == 2);
  CHECK(extent_in_bytes(Element::float64, {2, 3}) == 48);
  CHECK(extent_in_bytes(Element::float64, {2, 0, 3}) == 0);
  CHECK(extent_in_bytes(Element::float64, {2, 3}, 48) == 48);
  CHECK(extent_in_bytes(Element::float64, {2, 3}, 47) == std::nullopt);
  CHECK(extent_in_bytes(Element::float64, {0, 2, 3}, 47) == std::nullopt);
  CHECK(extent_in_bytes(Element::float64, {2, 3, 0}, 47) == std::nullopt);
  CHECK(extent_in_bytes(Element::float64, {2, 0}, 15) == std::nullopt);
  CHECK(extent_in_bytes(Element::uint8, {INT64_MAX, 1}) == INT64_MAX);
  CHECK(extent_in_bytes(Element::uint16, {INT64_MAX}) == std::nullopt);
  CHECK(extent_in_bytes(Element::uint8, {INT64_MAX, INT64_MAX, 4}) == std::nullopt);
}
