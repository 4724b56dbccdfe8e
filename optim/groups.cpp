#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/core.h>

#include "descent/optim/optimizer.hpp"

// Groups of parameters: how their options are stored, combined and checked.

namespace [[gnu::visibility("default")]] descent { namespace optim {

void detail::check_option(const RuleInfo& info, std::size_t option, double value, At at) {
  const Range range = info.ranges[option];
  const int choices = info.choices[option];
  if (choices == 0 && range == Range::any && value == value) return;
  const double low = range == Range::at_least_one ? 1 : 0;
  const double end = choices > 0 ? choices : range == Range::below_one ? 1 : HUGE_VAL;
  if (value >= low && value < end && (choices == 0 || value == std::floor(value))) return;
  const char* words[] = {"a number", "at least 0", "[0, 1)", "at least 1"};
  fail<ValueError>(at, "{}: {} is {}: need {}", info.name, info.hyper.at[option], value,
                   choices > 0 ? fmt::format("a whole number from 0 to {}", choices - 1)
                               : words[static_cast<int>(range)]);
}

static_assert(sizeof(Setting) == sizeof(detail::Cell));
static constexpr double kInherited = 0.25;  // what a Choice that is not set adds to its number

detail::Cell detail::cell_of(const RuleInfo& info, const Group& group, std::size_t option) {
  Cell cell{0, true};
  const std::byte* at = group.options + offset_of(info, option);
  std::memcpy(&cell, at, info.choices[option] ? sizeof(double) : sizeof cell);
  if (!info.choices[option]) return cell;
  const double number = std::floor(cell.value);
  return {number, cell.value == number};
}

void detail::put_cell(const RuleInfo& info, Group& group, std::size_t option, Cell cell) {
  if (info.choices[option] && !cell.set) cell.value += kInherited;
  std::byte* at = group.options + offset_of(info, option);
  std::memcpy(at, &cell, info.choices[option] ? sizeof(double) : sizeof cell);
}

detail::Group::Group(const RuleInfo& info, std::string_view pattern_) : pattern(pattern_) {
  for (std::size_t i = 0; i < info.hyper.count; ++i) put_cell(info, *this, i, {0, false});
}

/// The mixes that `slots` need; each slot gets the number of its own. The first, for the defaults,
/// is null.
OptimizerBase::Mixes OptimizerBase::mix(const Groups& groups, std::vector<Slot>& slots) {
  Mixes mixes(1);
  for (Slot& slot : slots) {
    auto own = std::make_unique<detail::Mix>();
    for (const auto& group : groups)
      if (matches(group->pattern, slot.name)) own->groups.push_back(group.get());
    slot.mix = 0;
    if (own->groups.empty()) continue;
    auto same = [&](const auto& other) { return other && other->groups == own->groups; };
    const auto known = std::ranges::find_if(mixes, same);
    slot.mix = static_cast<std::size_t>(known - mixes.begin());
    if (known == mixes.end()) mixes.push_back(std::move(own));
  }
  return mixes;
}

void OptimizerBase::adopt(Mixes mixes) noexcept {
  mixes[0] = std::move(mixes_[0]);
  mixes_ = std::move(mixes);
}

/// Computes the options of all mixes but the first: the defaults, replaced by what each group has
/// set.
void OptimizerBase::overlay(const Mixes& mixes) const {
  for (std::size_t m = 1; m < mixes.size(); ++m) {
    std::memcpy(mixes[m]->options, mixes[0]->options, sizeof mixes[0]->options);
    for (const detail::Group* group : mixes[m]->groups)
      for (std::size_t i = 0; i < info_.hyper.count; ++i)
        if (const detail::Cell cell = detail::cell_of(info_, *group, i); cell.set)
          std::memcpy(mixes[m]->options + i * sizeof(double), &cell.value, sizeof(double));
  }
}

void OptimizerBase::resolve(const Mixes& mixes, At at) const {
  overlay(mixes);
  for (const auto& m : mixes) {
    double values[Names::most];
    std::memcpy(values, m->options, sizeof values);
    for (std::size_t i = 0; i < info_.hyper.count; ++i)
      detail::check_option(info_, i, values[i], at);
    if (info_.check) info_.check(m->options, at);
  }
}

/// Gives the options that `group` has not set the values that hold for the first matching slot.
void OptimizerBase::inherit(detail::Group& group, const Mixes& mixes,
                            const std::vector<Slot>& slots) const noexcept {
  const auto fits = [&](const Slot& slot) { return matches(group.pattern, slot.name); };
  const std::byte* now = mixes[std::ranges::find_if(slots, fits)->mix]->options;
  for (std::size_t i = 0; i < info_.hyper.count; ++i) {
    if (detail::cell_of(info_, group, i).set) continue;
    detail::Cell cell{0, false};
    std::memcpy(&cell.value, now + i * sizeof cell.value, sizeof cell.value);
    detail::put_cell(info_, group, i, cell);
  }
}

void* OptimizerBase::find_group(std::string_view pattern, At at) {
  find_slots(pattern, at);
  auto known = std::ranges::find_if(groups_, [&](const auto& g) { return g->pattern == pattern; });
  if (known == groups_.end()) {
    groups_.push_back(std::make_unique<detail::Group>(info_, pattern));
    known = groups_.end() - 1;
    try {
      std::vector<Slot> slots = slots_;
      Mixes mixes = mix(groups_, slots);
      for (std::size_t i = 0; i < slots.size(); ++i) slots_[i].mix = slots[i].mix;
      adopt(std::move(mixes));
    } catch (...) {
      groups_.pop_back();
      throw;
    }
  }
  overlay(mixes_);
  inherit(**known, mixes_, slots_);
  return (*known)->options;
}

std::vector<double> OptimizerBase::hyper(std::size_t mix) const {
  std::vector<double> values(info_.hyper.count);
  std::memcpy(values.data(), mixes_[mix]->options, values.size() * sizeof(double));
  return values;
}

std::vector<double> OptimizerBase::options_of(const Slot& slot) const {
  std::vector<double> values = hyper(slot.mix);
  values[0] *= lr_factor_ * slot.lr_multiplier;
  return values;
}

std::size_t OptimizerBase::first_alike(std::size_t mix) const {
  const auto alike = [own = options_at(mix)](const auto& other) {
    return std::memcmp(own, other->options, sizeof other->options) == 0;
  };
  return static_cast<std::size_t>(std::ranges::find_if(mixes_, alike) - mixes_.begin());
}

}}  // namespace descent::optim
