#pragma once
#include <doctest/doctest.h>
#include <functional>
#include <vector>

#include "values.hpp"

/// f with 1 thread and with 2, which both had tiles of it: the same bits, and at least 8 tiles.
inline void same_with_threads(const std::function<std::vector<descent::Tensor>()>& f) {
  const int before = descent::num_threads();
  descent::set_num_threads(1);
  const std::vector<descent::Tensor> one = f();
  descent::set_num_threads(2);
  descent::detail::PoolStats stats{};
  std::vector<descent::Tensor> two;
  while (stats.participants < 2) {  // on a busy machine one thread may take all tiles
    descent::detail::reset_pool_stats();
    two = f();
    stats = descent::detail::pool_stats();
    REQUIRE(stats.tiles >= 8);
  }
  descent::set_num_threads(before);
  REQUIRE(one.size() == two.size());
  for (std::size_t i = 0; i < one.size(); ++i) CHECK(values(one[i]) == values(two[i]));
}
