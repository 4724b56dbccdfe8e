#include "descent/core/tensor/state.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fmt/core.h>
#include <map>

#include "descent/core/ops/ops.hpp"
#include "descent/optim/optimizer.hpp"

// How an optimizer saves and loads its state.

namespace [[gnu::visibility("default")]] descent { namespace optim {

namespace {

/// The contents of a state dict.
struct Saved {
  int64_t steps;
  double lr_factor;
  std::vector<std::pair<std::string, std::vector<double>>> groups;  // names and options
  std::vector<detail::Slot> slots;
};
/// Gives each part its name.
void visit(StateVisitor& v, const detail::RuleInfo& info, Saved& saved) {
  const std::string rule = std::string(info.name) + "/";
  v(rule + "steps", saved.steps);
  v(rule + "lr_factor", saved.lr_factor);
  for (auto& [pattern, values] : saved.groups)
    for (std::size_t i = 0; i < values.size(); ++i)
      v(rule + "[" + pattern + "]/" + info.hyper.at[i], values[i]);
  for (detail::Slot& slot : saved.slots) {
    const Shape& shape = slot.parameter.shape();
    const std::string prefix = rule + slot.name + "/";
    v(prefix + "step", slot.step);
    v(prefix + "lr_multiplier", slot.lr_multiplier);
    v.same(prefix + "shape", {shape.begin(), shape.end()}, slot.name);
    const Tensor like = zeros({}, slot.parameter.dtype()).expand(shape);
    for (std::size_t i = 0; i < slot.state.size(); ++i)
      if (i < info.required) v(prefix + info.state.at[i], slot.state[i], like);
      else v.optional(prefix + info.state.at[i], slot.state[i], like);
    for (std::size_t i = 0; i < slot.tensor_state.size(); ++i)
      v.optional(prefix + info.tensor_state.at[i], slot.tensor_state[i], Tensor());
  }
}

/// The groups in a state dict of `rule`: their names "<number> <pattern>", in the order of the
/// numbers.
std::map<int64_t, std::string> read_groups(const NamedTensors& state, const std::string& rule) {
  const std::string head = rule + "/[", tail = "]/lr";
  std::map<int64_t, std::string> names;
  for (const auto& [key, t] : state) {
    if (!key.starts_with(head) || !key.ends_with(tail)) continue;
    const std::string name = key.substr(head.size(), key.size() - head.size() - tail.size());
    int64_t number = 0;
    const auto end = std::from_chars(name.data(), name.data() + name.size(), number).ptr;
    if (number > 0 && *end == ' ') names.emplace(number, name);  // others stay unexpected entries
  }
  return names;
}
std::string pattern_of(const std::string& name) { return name.substr(name.find(' ') + 1); }

/// Throws a ValueError if the state is that of another rule; without this, the error would list
/// every single entry.
void check_rule(const NamedTensors& state, const std::string& rule, At at) {
  std::string other;
  for (const auto& [key, t] : state) {
    if (key == rule + "/steps") return;
    if (key.ends_with("/steps")) other = key.substr(0, key.rfind('/'));
  }
  if (!other.empty())
    fail<ValueError>(at, "load_state_dict: this is the state of {}, and the optimizer is {}", other,
                     rule);
}

}  // namespace

NamedTensors OptimizerBase::state_dict() const {
  Saved saved{steps_, lr_factor_, {{"*", hyper(0)}}, slots_};
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    std::vector<double> values;
    for (std::size_t i = 0; i < info_.hyper.count; ++i) {
      const detail::Cell cell = detail::cell_of(info_, *groups_[g], i);
      values.push_back(cell.set ? cell.value : std::nan(""));
    }
    saved.groups.emplace_back(fmt::format("{} {}", g + 1, groups_[g]->pattern), values);
  }
  StateVisitor v;
  visit(v, info_, saved);
  return v.state_dict();
}

Commit OptimizerBase::prepare_load(NamedTensors state, At at) {
  check_rule(state, info_.name, at);
  const std::vector<double> options(info_.hyper.count);
  const auto loaded = std::make_shared<std::tuple<Saved, Groups, Mixes>>();
  auto& [saved, groups, mixes] = *loaded;
  saved = {0, 1, {{"*", options}}, slots_};
  for (const auto& [number, name] : read_groups(state, info_.name)) {
    saved.groups.emplace_back(name, options);
    find_slots(
        groups.emplace_back(std::make_unique<detail::Group>(info_, pattern_of(name)))->pattern, at);
  }
  StateVisitor v;
  visit(v, info_, saved);
  v.prepare(std::move(state), info_.name, at)();
  detail::check_lr_factor(saved.lr_factor, at);
  for (const Slot& slot : saved.slots)
    detail::require_nonnegative(("load_state_dict: lr_multiplier of " + slot.name).c_str(),
                                slot.lr_multiplier, at);
  mixes = prepare_groups(groups, saved.groups, saved.slots, at);
  return [this, loaded] {
    auto& [from, its_groups, its_mixes] = *loaded;
    take_groups(its_groups, its_mixes);
    slots_ = std::move(from.slots), steps_ = from.steps, lr_factor_ = from.lr_factor;
  };
}

static auto find_in(auto& groups, const std::string& pattern) {
  return std::ranges::find_if(groups, [&](const auto& g) { return g->pattern == pattern; });
}

/// Gives `groups` the options of `saved`: first the defaults, then those of each group. Adds the
/// groups of this optimizer that are not there, with nothing set. ValueError if options contradict
/// each other.
OptimizerBase::Mixes OptimizerBase::prepare_groups(
    Groups& groups, const std::vector<std::pair<std::string, std::vector<double>>>& saved,
    std::vector<Slot>& slots, At at) {
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (find_in(groups, groups[g]->pattern) - groups.begin() != static_cast<std::ptrdiff_t>(g))
      fail<ValueError>(at, "load_state_dict: two groups have the pattern \"{}\"",
                       groups[g]->pattern);
    for (std::size_t i = 0; i < info_.hyper.count; ++i)
      if (const double value = saved[g + 1].second[i]; value == value) {
        if (info_.choices[i] > 0) detail::check_option(info_, i, value, at);  // stores no others
        detail::put_cell(info_, *groups[g], i, {value, true});
      }
  }
  for (const auto& old : groups_)
    if (find_in(groups, old->pattern) == groups.end())
      groups.push_back(std::make_unique<detail::Group>(info_, old->pattern));
  Mixes mixes = mix(groups, slots);
  mixes[0] = std::make_unique<detail::Mix>();
  std::memcpy(mixes[0]->options, saved[0].second.data(), info_.hyper.count * sizeof(double));
  resolve(mixes, at);
  for (const auto& group : groups) inherit(*group, mixes, slots);
  return mixes;
}

/// Replaces the groups by these. References to groups stay valid.
void OptimizerBase::take_groups(Groups& groups, Mixes& mixes) {
  std::memcpy(mixes_[0]->options, mixes[0]->options, sizeof mixes[0]->options);
  for (auto& group : groups)
    if (const auto old = find_in(groups_, group->pattern); old != groups_.end()) {
      std::memcpy((*old)->options, group->options, sizeof group->options);
      for (const auto& m : mixes)
        for (const detail::Group*& member : m->groups)
          if (member == group.get()) member = old->get();
      std::swap(group, *old);
    }
  groups_ = std::move(groups);
  adopt(std::move(mixes));
}

}}  // namespace descent::optim
