#include "descent/core/named.hpp"

namespace [[gnu::visibility("default")]] descent {

bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  const std::string_view rest = pattern.substr(1);
  if (pattern[0] == '*')
    return matches(rest, name) || (!name.empty() && matches(pattern, name.substr(1)));
  return !name.empty() && (pattern[0] == '?' || pattern[0] == name[0]) &&
         matches(rest, name.substr(1));
}

}  // namespace descent
