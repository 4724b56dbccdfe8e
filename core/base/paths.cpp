#include "descent/core/base/paths.hpp"

namespace [[gnu::visibility("default")]] descent { namespace detail {

constinit std::atomic<bool> watching_paths{false};
constinit PathState path_states[std::size(kPaths)];

bool take_watched(Path path, bool pays) {
  PathState& state = path_states[path.index];
  const Choice choice = state.choice.load(std::memory_order_relaxed);
  const bool taken = choice == Choice::what_pays ? pays : choice == Choice::always;
  if (taken) state.calls.fetch_add(1, std::memory_order_relaxed);
  return taken;
}

}}  // namespace descent::detail
