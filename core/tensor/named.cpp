#include "descent/core/tensor/named.hpp"

#include <algorithm>
#include <fnmatch.h>
#include <map>
#include <tuple>

namespace [[gnu::visibility("default")]] descent {

NamedTensors join(std::initializer_list<NamedTensors> lists) {
  NamedTensors all;
  for (const NamedTensors& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

bool matches(std::string_view pattern, std::string_view name) {
  return ::fnmatch(std::string(pattern).c_str(), std::string(name).c_str(), FNM_NOESCAPE) == 0;
}

NamedTensors clone_all(NamedTensors tensors) {
  for (auto& [name, t] : tensors) t = t.detach().clone();
  return tensors;
}

std::pair<NamedTensors, NamedTensors> split_by_prefix(NamedTensors all, std::string_view prefix) {
  std::pair<NamedTensors, NamedTensors> parts;
  for (auto& entry : all)
    (entry.first.starts_with(prefix) ? parts.first : parts.second).push_back(std::move(entry));
  return parts;
}

void zero_gradients(const NamedTensors& parameters) {
  std::vector<std::pair<Tensor, Tensor>> zeroed;
  for (const auto& [name, p] : parameters)
    if (p.grad().defined())
      zeroed.emplace_back(p,
                          detail::empty("zero_grad", p.shape(), p.dtype(), At::unknown()).fill_(0));
  for (const auto& [p, g] : zeroed) p.set_grad(g);
}

std::pair<std::size_t, std::size_t> find_shared(const NamedTensors& tensors) {
  std::vector<std::tuple<const std::byte*, const std::byte*, std::size_t>> all;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (const auto* h = Peek::header(tensors[i].second); h->numel > 0)
      all.emplace_back(h->data, h->data + h->numel * itemsize(h->dtype), i);
  std::ranges::sort(all);
  for (std::size_t i = 1; i < all.size(); ++i)
    if (std::get<0>(all[i]) < std::get<1>(all[i - 1]))
      return {std::get<2>(all[i - 1]), std::get<2>(all[i])};
  return {0, 0};
}

std::vector<Tensor> match_state(const NamedTensors& own, const NamedTensors& state,
                                const std::string& who, IncompatibleKeys* left_out, At at) {
  std::map<std::string_view, const Tensor*> left;
  for (const auto& [name, t] : state) left.emplace(name, &t);
  std::vector<Tensor> found;
  IncompatibleKeys keys;
  std::string wrong;
  const auto note = [&wrong](std::vector<std::string>& list, std::string_view name,
                             const std::string& what) {
    list.emplace_back(name);
    wrong += "\n  " + list.back() + " is " + what;
  };
  for (const auto& [name, t] : own) {
    const auto there = left.find(name);
    Tensor other;
    if (there == left.end()) {
      note(keys.missing, name, "missing");
    } else if (other = *there->second, left.erase(there); !other.defined()) {
      note(keys.missing, name, "undefined there");
    } else if (!(other.shape() == t.shape()) || other.dtype() != t.dtype()) {
      note(keys.mismatched, name,
           std::string(str(t.dtype())) + " " + str(t.shape()) + " here and " + str(other.dtype()) +
               " " + str(other.shape()) + " there");
      other = {};
    }
    found.push_back(other);
  }
  for (const auto& [name, t] : left) note(keys.unexpected, name, "unexpected");
  if (!wrong.empty() && !left_out)
    fail<ValueError>(at, "load_state_dict: the state does not fit {}:{}\n", who, wrong);
  if (left_out) {
    const auto append = [](auto& to, auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(left_out->missing, keys.missing);
    append(left_out->unexpected, keys.unexpected);
    append(left_out->mismatched, keys.mismatched);
  }
  return found;
}

}  // namespace descent
