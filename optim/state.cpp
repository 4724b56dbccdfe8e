#include <algorithm>
#include <cstring>
#include <fmt/core.h>
#include <map>

#include "descent/core/ops.hpp"
#include "descent/optim/optimizer.hpp"

// What an optimizer saves, and how it takes it back.

namespace [[gnu::visibility("default")]] descent { namespace optim {

namespace {

/// What a state dict holds.
struct Saved {
  int64_t steps;
  std::vector<std::pair<std::string, std::vector<double>>> groups;  // patterns and options
  std::vector<detail::Slot> slots;
};
/// One entry of it.
struct Entry {
  std::string key;
  Tensor value, like;  // what there is now, and what one has to look like; undefined: anything
  bool always;         // or as far as there is one
  std::function<void(const Tensor&)> put;
};

std::vector<Entry> entries(const detail::RuleInfo& info, Saved& saved, At at) {
  std::vector<Entry> all;
  const std::string rule = std::string(info.name) + "/";
  auto number = [&]<class T>(const std::string& key, T& place) {
    const Tensor now = tensor(place, dtype_of<T>());
    all.push_back({rule + key, now, now, true, [&](const Tensor& t) { place = t.item<T>(); }});
  };
  auto state = [&](const std::string& prefix, const Names& names, std::vector<Tensor>& tensors,
                   std::size_t always, const Tensor& like) {
    for (std::size_t i = 0; i < tensors.size(); ++i)
      all.push_back({prefix + names.at[i], tensors[i], like, i < always,
                     [&x = tensors[i]](const Tensor& t) { x = t; }});
  };
  number("steps", saved.steps);
  for (auto& [pattern, values] : saved.groups)
    for (std::size_t i = 0; i < values.size(); ++i)
      number("[" + pattern + "]/" + info.hyper.at[i], values[i]);
  for (detail::Slot& slot : saved.slots) {
    const std::string prefix = rule + slot.name + "/";
    const Shape& shape = slot.parameter.shape();
    const std::vector<int64_t> sizes(shape.begin(), shape.end());
    number(slot.name + "/step", slot.step);
    number(slot.name + "/lr_multiplier", slot.lr_multiplier);
    const Tensor now = tensor(sizes, {shape.rank()});
    all.push_back({prefix + "shape", now, now, true, [&slot, sizes, at](const Tensor& t) {
                     if (t.to_vector<int64_t>() != sizes)
                       fail<ValueError>(at, "load_state_dict: {} is {} here, not there", slot.name,
                                        sizes);
                   }});
    state(prefix, info.state, slot.state, info.required,
          zeros({}, slot.parameter.dtype()).expand(shape));
    state(prefix, info.whole, slot.whole, 0, Tensor());
  }
  return all;
}

}  // namespace

NamedTensors OptimizerBase::state_dict() const {
  Saved saved{steps_, {}, slots_};
  for (std::size_t i = 0; i < patterns_.size(); ++i)
    saved.groups.emplace_back(patterns_[i], hyper(i));
  NamedTensors all;
  for (const Entry& e : entries(info_, saved, At::unknown()))
    if (e.always || e.value.defined())
      all.emplace_back(e.key, (e.value.defined() ? e.value : e.like).clone());
  return all;
}

NamedTensors detail::copied(const NamedTensors& like, const NamedTensors& state,
                            const std::string& who, At at) {
  const std::vector<Tensor> found = fitting(like, state, who, true, at);
  NamedTensors copies;
  for (std::size_t i = 0; i < like.size(); ++i) {
    const std::string& name = like[i].first;
    const Tensor& t = copies.emplace_back(name, found[i].detach().clone()).second;
    if (t.dtype() != int64 || t.dim() != 0) continue;
    if (const auto n = t.item<int64_t>(); n < 0 || n > int64_t{1} << 53)  // formulas take doubles
      fail<ValueError>(at, "load_state_dict: {} is {}: need a count up to 2^53", name, n);
  }
  return copies;
}

void OptimizerBase::load_state_dict(const NamedTensors& state, At at) {
  const std::map<std::string, Tensor> there(state.begin(), state.end());
  const std::string head = fmt::format("{}/[", info_.name), tail = "]/lr";
  const std::vector<double> options(info_.hyper.count);
  Saved saved{0, {{"*", options}}, slots_};
  for (const auto& [key, t] : state)
    if (key.starts_with(head) && key.ends_with(tail) && key != head + "*" + tail)
      saved.groups.emplace_back(key.substr(head.size(), key.size() - head.size() - tail.size()),
                                options);
  for (const auto& group : saved.groups) matching(group.first, at);  // or refused, before a change
  std::vector<Entry> wanted;
  NamedTensors like;
  for (Entry& e : entries(info_, saved, at)) {
    const auto found = there.find(e.key);
    if (found == there.end() && !e.always) {
      e.put({});
      continue;
    }
    like.emplace_back(e.key, e.like.defined() ? e.like : found->second);
    wanted.push_back(std::move(e));
  }
  const NamedTensors copies = detail::copied(like, state, info_.name, at);
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i].put(copies[i].second);
  std::vector<std::string> patterns = patterns_;
  std::vector<std::unique_ptr<detail::Options>> fresh;
  for (const auto& group : saved.groups)
    if (std::ranges::find(patterns, group.first) == patterns.end()) {
      patterns.push_back(group.first);
      fresh.push_back(std::make_unique<detail::Options>());
    }
  groups_.reserve(patterns.size());
  // Nothing fails from here on.
  slots_ = std::move(saved.slots);
  patterns_ = std::move(patterns);
  std::ranges::move(fresh, std::back_inserter(groups_));
  for (const auto& [pattern, values] : saved.groups)
    std::memcpy(groups_[find_group(pattern, at)]->bytes, values.data(),
                info_.hyper.count * sizeof(double));
  for (Slot& slot : slots_) regroup(slot);
  steps_ = saved.steps;
}

}}  // namespace descent::optim
