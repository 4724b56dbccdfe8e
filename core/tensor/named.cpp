#include "descent/core/tensor/named.hpp"

#include <map>

namespace [[gnu::visibility("default")]] descent {

NamedTensors join(std::initializer_list<NamedTensors> lists) {
  NamedTensors all;
  for (const NamedTensors& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

bool matches(std::string_view pattern, std::string_view name) {
  // Where a character does not fit, the last '*' takes one more: those before it need not change.
  std::size_t p = 0, n = 0, star = std::string_view::npos, taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

NamedTensors cloned(NamedTensors tensors) {
  for (auto& [name, t] : tensors) t = t.detach().clone();
  return tensors;
}

std::vector<Tensor> fitting(const NamedTensors& own, const NamedTensors& state,
                            const std::string& who, bool strict, At at) {
  std::map<std::string_view, const Tensor*> left;
  for (const auto& [name, t] : state) left.emplace(name, &t);
  std::vector<Tensor> found;
  std::string wrong;
  for (const auto& [name, t] : own) {
    const auto there = left.find(name);
    const Tensor other = there == left.end() ? Tensor() : *there->second;
    if (there == left.end()) {
      if (strict) wrong += "\n  " + name + " is missing";
    } else if (left.erase(there); !other.defined()) {
      wrong += "\n  " + name + " is undefined there";
    } else if (!(other.shape() == t.shape()) || other.dtype() != t.dtype()) {
      wrong += "\n  " + name + " is " + str(t.dtype()) + " " + str(t.shape()) + " here and " +
               str(other.dtype()) + " " + str(other.shape()) + " there";
    }
    found.push_back(other);
  }
  for (const auto& [name, t] : left)
    if (strict) wrong += "\n  " + std::string(name) + " is unexpected";
  if (!wrong.empty())
    fail<ValueError>(at, "load_state_dict: the state does not fit {}:{}\n", who, wrong);
  return found;
}

}  // namespace descent
