#include "descent/optim/optimizer.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fmt/core.h>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "descent/core/elementwise.hpp"
#include "descent/core/ops.hpp"
#include "descent/optim/insight/ledger.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

void detail::require(bool holds, const char* what, double value, const char* rule, At at) {
  if (!holds) fail<ValueError>(at, "{} is {}: need {}", what, value, rule);
}

void detail::check_option(const char* rule, const char* option, double value, At at) {
  static constexpr std::string_view below_one[] = {"beta", "beta1", "beta2"},
                                    nonnegative[] = {"lr",
                                                     "lr_decay",
                                                     "momentum",
                                                     "weight_decay",
                                                     "eps",
                                                     "eps1",
                                                     "eps2",
                                                     "alpha",
                                                     "lambd",
                                                     "momentum_decay",
                                                     "initial_accumulator_value",
                                                     "trust_coefficient",
                                                     "step_min"};
  const bool beta = std::ranges::count(below_one, option) > 0;
  const bool rate = std::ranges::count(nonnegative, option) > 0;
  const bool holds = beta   ? value >= 0 && value < 1
                     : rate ? value >= 0 && std::isfinite(value)
                            : value == value;
  if (!holds)
    fail<ValueError>(at, "{}: {} is {}: need {}", rule, option, value,
                     beta   ? "[0, 1)"
                     : rate ? "at least 0"
                            : "a number");
}

OptimizerBase::OptimizerBase(const detail::RuleInfo& info) : info_(info), patterns_{"*"} {}
OptimizerBase::~OptimizerBase() = default;

// ---- parameters and groups

void OptimizerBase::add(const NamedTensors& parameters, At at) {
  if (parameters.empty()) fail<ValueError>(at, "{}: no parameters to optimize", info_.name);
  std::unordered_set<std::string> names;
  std::unordered_map<const void*, std::string> tensors;
  for (const Slot& slot : slots_) {
    names.insert(slot.name);
    tensors.emplace(Peek::header(slot.parameter), slot.name);
  }
  std::vector<Slot> added;
  for (const auto& [name, p] : parameters) {
    check_parameter(name, p, at);
    if (!names.insert(name).second)
      fail<ValueError>(at, "{}: two parameters are called {}", info_.name, name);
    auto [same, fresh] = tensors.emplace(Peek::header(p), name);
    if (!fresh)
      fail<ValueError>(at, "{}: {} and {} are the same tensor", info_.name, same->second, name);
    Slot& slot = added.emplace_back();
    slot.name = name;
    slot.parameter = p;
    slot.state.resize(info_.state.count);
    slot.whole.resize(info_.whole.count);
    slot.fields.resize(info_.fields.count);
    slot.quantities.resize(info_.quantities.count);
    regroup(slot);
  }
  std::move(added.begin(), added.end(), std::back_inserter(slots_));
}

void OptimizerBase::check_parameter(const std::string& name, const Tensor& p, At at) const {
  const std::string who = fmt::format("{}: parameter {}", info_.name, name);
  if (!p.defined()) fail<ValueError>(at, "{} is undefined", who);
  if (!p.is_leaf()) fail<GraphError>(at, "{} is the result of an op: need a leaf", who);
  if (!is_floating(p.dtype()))
    fail<DtypeError>(at, "{} is {}: need a floating dtype", who, p.dtype());
  if (!p.is_contiguous()) fail<ValueError>(at, "{} is not contiguous: clone() it", who);
  if (const char* why = info_.refuses ? info_.refuses(p) : nullptr)
    fail<ValueError>(at, "{} {}", who, why);
}

NamedTensors OptimizerBase::parameters() const {
  NamedTensors all;
  for (const Slot& slot : slots_) all.emplace_back(slot.name, slot.parameter);
  return all;
}

void OptimizerBase::regroup(Slot& slot) {
  for (std::size_t i = 0; i < patterns_.size(); ++i)
    if (matches(patterns_[i], slot.name)) slot.group = i;
}

std::vector<detail::Slot*> OptimizerBase::matching(std::string_view pattern, At at) {
  std::vector<Slot*> found;
  for (Slot& slot : slots_)
    if (matches(pattern, slot.name)) found.push_back(&slot);
  if (found.empty()) fail<ValueError>(at, "{}: no parameter matches \"{}\"", info_.name, pattern);
  return found;
}

std::size_t OptimizerBase::find_group(std::string_view pattern, At at) {
  const auto known = std::find(patterns_.begin() + 1, patterns_.end(), pattern);
  if (known != patterns_.end()) return static_cast<std::size_t>(known - patterns_.begin());
  const std::vector<Slot*> slots = matching(pattern, at);
  copy_defaults();
  patterns_.emplace_back(pattern);
  for (Slot* slot : slots) slot->group = patterns_.size() - 1;
  return patterns_.size() - 1;
}

void OptimizerBase::zero_grad(bool set_to_none) {
  for (Slot& slot : slots_) {
    const Tensor g = slot.parameter.grad();
    if (set_to_none) slot.parameter.zero_grad();
    else if (g.defined()) slot.parameter.set_grad(zeros(g.shape(), g.dtype()));
  }
}

void OptimizerBase::set_lr_factor(double factor, At at) {
  detail::require(factor >= 0 && std::isfinite(factor), "optimizer: the learning rate's factor",
                  factor, "a number of at least 0", at);
  lr_factor_ = factor;
}

void OptimizerBase::set_lr_multiplier(std::string_view pattern, double multiplier, At at) {
  detail::require(multiplier >= 0 && std::isfinite(multiplier), "set_lr_multiplier: multiplier",
                  multiplier, "a number of at least 0", at);
  for (Slot* slot : matching(pattern, at)) slot->lr_multiplier = multiplier;
}

void OptimizerBase::set_momentum(double momentum, At at) {
  const auto is_momentum = [](const std::string_view name) {
    return name == "momentum" || name == "beta1";
  };
  const auto option = std::find_if(info_.hyper.begin(), info_.hyper.end(), is_momentum);
  if (option == info_.hyper.end())
    fail<ValueError>(at, "set_momentum: {} has neither momentum nor beta1", info_.name);
  detail::check_option(info_.name, *option, momentum, at);
  for (std::size_t group = 0; group < patterns_.size(); ++group) {
    std::vector<double> values = hyper(group);
    values[static_cast<std::size_t>(option - info_.hyper.begin())] = momentum;
    set_hyper(group, values);
  }
}

// ---- a step

void OptimizerBase::step(At at) {
  loss_ = std::nan("");
  if (info_.needs_loss)
    fail<ValueError>(at, "{}: a step needs the loss: step(loss) or step(closure)", info_.name);
  advance(at);
}

void OptimizerBase::step(const In& loss) {
  loss_ = loss.item(loss.at);
  advance(loss.at);
}

double OptimizerBase::step(const Closure& closure, At at) {
  Tensor loss;
  {
    EnableGradGuard grad;
    loss = closure();
  }
  step(In(loss, at));
  return loss_;
}

void OptimizerBase::collect_gradients(At at) {
  NoGradGuard no_grad;
  for (Slot& slot : slots_) slot.grad = slot.parameter.grad();
  for (Slot& slot : slots_) {  // may allocate: before anything changes
    if (!slot.grad.defined()) continue;
    const DType dtype = slot.parameter.dtype();
    slot.grad = slot.grad.detach().contiguous();
    slot.next_whole = slot.whole;
    for (std::size_t i = 0; i < slot.state.size(); ++i) {
      Tensor& state = slot.state[i];
      if (!state.defined() && uses(slot.group, i)) state = zeros(slot.parameter.shape(), dtype, at);
      if (state.defined() && state.dtype() != dtype)
        fail<DtypeError>(at,
                         "step: parameter {} is {}, its state {}: convert a model before its "
                         "optimizer is made",
                         slot.name, dtype, state.dtype());
    }
  }
}

bool OptimizerBase::begin_step(At at) {
  collect_gradients(at);
  tiles_.clear();
  for (Slot& slot : slots_) {
    if (!slot.grad.defined()) continue;
    const int64_t n = slot.parameter.numel();
    for (int64_t begin = 0; begin < n; begin += descent::detail::kGrain)
      tiles_.push_back({&slot, begin, std::min(descent::detail::kGrain, n - begin)});
  }
  check_freshness();
  if (nonfinite_ != NonFinite::ignore && !all_finite(at)) {
    ++skipped_;
    let_go();
    return false;
  }
  if (ledger_) ledger_->before_step(*this);
  return true;
}

namespace {
/// Whether none of n numbers is a NaN or an infinity: their exponent is all ones, so that 1 in its
/// last place carries into the sign.
template <class Bits> bool finite(const void* numbers, int64_t n, Bits exponent) {
  const auto* bits = static_cast<const Bits*>(numbers);
  const Bits one = exponent & -exponent;
  return simd::call([=] {
    Bits carries = 0;
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)  // a constant count, or it is not vectorised
      for (int64_t j = 0; j < 64; ++j) carries |= (bits[i + j] & exponent) + one;
    for (; i < n; ++i) carries |= (bits[i] & exponent) + one;
    return carries <= exponent;
  });
}
}  // namespace

bool OptimizerBase::all_finite(At at) {
  std::atomic<const Tile*> bad = nullptr;
  parallel_for(static_cast<int64_t>(tiles_.size()), [&](int64_t i) {
    const Tile& tile = tiles_[static_cast<std::size_t>(i)];
    const Tensor& g = tile.slot->grad;
    const bool good =
        g.dtype() == float32
            ? finite(g.data<float>() + tile.begin, tile.count, 0x7f800000U)
            : finite(g.data<double>() + tile.begin, tile.count, uint64_t{0x7ff0000000000000});
    if (good) return;
    const Tile* first = bad.load();  // the first in order, whichever thread finds it
    while ((!first || &tile < first) && !bad.compare_exchange_weak(first, &tile)) {}
  });
  if (!bad) return true;
  if (nonfinite_ == NonFinite::skip) return false;
  const Tile& tile = *bad;
  const Tensor g = tile.slot->grad.reshape({tile.slot->grad.numel()});
  int64_t i = tile.begin;
  while (std::isfinite(g.select(0, i).item())) ++i;
  const double value = g.select(0, i).item();
  const std::string name = tile.slot->name;
  let_go();
  fail<NumericError>(at,
                     "step: the gradient of {} is {} at element {}: nothing was updated; "
                     "set_nonfinite() chooses what happens",
                     name, value, i);
}

void OptimizerBase::check_freshness() {
  bool any = false, all_old = true;
  std::string unreached;
  for (Slot& slot : slots_) {
    if (!slot.grad.defined()) {
      if (steps_ == 0 && slot.parameter.requires_grad())
        unreached += (unreached.empty() ? "" : ", ") + slot.name;
      continue;
    }
    any = true;
    const auto now = descent::detail::gradient_age(slot.parameter), seen = slot.seen;
    all_old &= seen.added > 0 && now == seen;
    const bool piled_up = now != seen && now.changes - seen.changes == now.added - seen.added;
    if (seen.added > 0 && piled_up && first_time("zero_grad"))
      report(
          fmt::format("step: the gradient of {} still holds what the last step used: call "
                      "zero_grad() before backward()",
                      slot.name));
    slot.seen = now;
  }
  if (any && all_old && first_time("stale"))
    report("step: no gradient is new since the last step: was backward() called?");
  if (!unreached.empty())
    report("step: no gradient has reached " + unreached +
           ": not part of the loss, or detached from it?");
}

bool OptimizerBase::first_time(const char* kind) {
  if (std::find(reported_.begin(), reported_.end(), kind) != reported_.end()) return false;
  reported_.push_back(kind);
  return true;
}

void OptimizerBase::on_report(std::function<void(const std::string&)> report) {
  report_ = std::move(report);
}

void OptimizerBase::report(const std::string& text) const {
  if (report_) report_(text);
  else fmt::print(stderr, "descent: {}\n", text);
}

Whole OptimizerBase::whole_of(Slot& slot, bool maximize, std::function<Tensor()> direction) const {
  return {slot.parameter.detach(),
          maximize ? -slot.grad : slot.grad,
          static_cast<double>(slot.step + 1),
          loss_,
          slot.next_whole,
          slot.fields,
          slot.quantities,
          std::move(direction)};
}

void OptimizerBase::widen_fields(Slot& slot) const {
  for (std::size_t i = 0; i < slot.fields.size(); ++i) {
    Tensor& field = slot.fields[i];
    const Tensor& theta = slot.parameter;
    if (!field.defined() || field.dtype() != theta.dtype() ||
        !broadcasts_to(field.shape(), theta.shape()))
      fail<ShapeError>(At::unknown(), "{}: `prepare` made no {} that broadcasts to {} {}",
                       info_.name, info_.fields.at[i], theta.dtype(), theta.shape());
    field = field.expand(theta.shape()).contiguous();
  }
}

void OptimizerBase::commit_step() {
  if (ledger_) ledger_->prepared(*this);
  NoGradGuard no_grad;
  ++steps_;
  for (Slot& slot : slots_) {
    if (!slot.grad.defined()) continue;
    ++slot.step;
    std::swap(slot.whole, slot.next_whole);
    descent::detail::will_write("step", slot.parameter, At::unknown());
  }
}

void OptimizerBase::end_step() {
  if (ledger_) ledger_->after_step(*this);
  let_go();
}

void OptimizerBase::let_go() {
  for (Slot& slot : slots_) {
    slot.grad = {};
    slot.next_whole.clear();
    for (Tensor& field : slot.fields) field = {};
  }
}

// ---- saving

NamedTensors OptimizerBase::state_dict() const {
  NamedTensors all;
  const std::string rule = std::string(info_.name) + "/";
  auto add_number = [&](const std::string& key, auto value) {
    all.emplace_back(rule + key, tensor(value, dtype_of<decltype(value)>()));
  };
  add_number("steps", steps_);
  for (std::size_t group = 0; group < patterns_.size(); ++group)
    for (std::size_t i = 0; i < info_.hyper.count; ++i)
      add_number(fmt::format("[{}]/{}", patterns_[group], info_.hyper.at[i]), hyper(group)[i]);
  for (const Slot& slot : slots_) {
    add_number(slot.name + "/step", slot.step);
    add_number(slot.name + "/lr_multiplier", slot.lr_multiplier);
    const Shape& shape = slot.parameter.shape();
    all.emplace_back(rule + slot.name + "/shape",
                     tensor(std::vector<int64_t>(shape.begin(), shape.end()), {shape.rank()}));
    auto add_state = [&](const Names& names, const std::vector<Tensor>& tensors) {
      for (std::size_t i = 0; i < tensors.size(); ++i)
        if (tensors[i].defined())
          all.emplace_back(rule + slot.name + "/" + names.at[i], tensors[i].clone());
    };
    add_state(info_.state, slot.state);
    add_state(info_.whole, slot.whole);
  }
  return all;
}

namespace {
/// A state dict being read: what was asked for, and what is wrong with it.
class StateReader {
 public:
  StateReader(const NamedTensors& state, std::string rule) : rule_(std::move(rule)) {
    for (const auto& [key, t] : state) {
      if (key.compare(0, rule_.size(), rule_) == 0) left_.emplace(key.substr(rule_.size()), t);
      else wrong(key + " is not this rule's");
    }
  }
  /// A copy of what is under `key`, of this dtype and shape if they are given; undefined if it is
  /// not there.
  Tensor take(const std::string& key, std::optional<DType> dtype, const Shape* shape) {
    const auto found = left_.find(key);
    if (found == left_.end()) return {};
    const Tensor t = found->second;
    left_.erase(found);
    if (!t.defined()) {
      wrong(key + " is undefined there");
      return {};
    }
    if ((dtype && t.dtype() != *dtype) || (shape && !(t.shape() == *shape))) {
      wrong(fmt::format("{} is {} {} there, and not what belongs here", key, str(t.dtype()),
                        str(t.shape())));
      return {};
    }
    return t.detach().clone();
  }
  /// A number that must be there, from `low` on.
  template <class T> T number(const std::string& key, double low) {
    const Shape scalar;
    const bool there = left_.count(key) != 0;
    const Tensor t = take(key, dtype_of<T>(), &scalar);
    if (!there) wrong(key + " is missing");
    if (!t.defined()) return {};
    const T value = t.item<T>();
    if (!(static_cast<double>(value) >= low)) wrong(fmt::format("{} is {}", key, str(value)));
    return value;
  }
  void wrong(const std::string& what) { wrong_ += "\n  " + what; }
  void finish(At at) {
    for (const auto& [key, t] : left_) wrong(key + " is unexpected");
    if (!wrong_.empty())
      fail<ValueError>(at, "load_state_dict: the state does not fit {}:{}\n", rule_, wrong_);
  }

 private:
  std::string rule_, wrong_;
  std::map<std::string, Tensor> left_;
};
}  // namespace

void OptimizerBase::load_state_dict(const NamedTensors& state, At at) {
  StateReader in(state, std::string(info_.name) + "/");
  const auto steps = in.number<int64_t>("steps", 0);
  std::vector<std::pair<std::string, std::vector<double>>> groups;
  const std::string head = fmt::format("{}/[", info_.name), tail = "]/lr";
  for (const auto& [key, t] : state) {
    if (!key.starts_with(head) || !key.ends_with(tail)) continue;
    auto& [pattern, values] = groups.emplace_back();
    pattern = key.substr(head.size(), key.size() - head.size() - tail.size());
    for (const char* option : info_.hyper)
      values.push_back(in.number<double>(fmt::format("[{}]/{}", pattern, option), -INFINITY));
  }
  std::vector<Slot> loaded = slots_;
  for (Slot& slot : loaded) {
    const Shape& shape = slot.parameter.shape();
    const Shape rank{shape.rank()};
    slot.step = in.number<int64_t>(slot.name + "/step", 0);
    slot.lr_multiplier = in.number<double>(slot.name + "/lr_multiplier", 0);
    const Tensor saved = in.take(slot.name + "/shape", int64, &rank);
    if (!saved.defined()) in.wrong(slot.name + "/shape is missing, or of another rank");
    else if (saved.to_vector<int64_t>() != std::vector(shape.begin(), shape.end()))
      in.wrong(fmt::format("{} is {} here, not there", slot.name, str(shape)));
    for (std::size_t i = 0; i < slot.state.size(); ++i) {
      slot.state[i] = in.take(slot.name + "/" + info_.state.at[i], slot.parameter.dtype(), &shape);
      if (i < info_.required && slot.step > 0 && !slot.state[i].defined())
        in.wrong(fmt::format("{}/{} is missing", slot.name, info_.state.at[i]));
    }
    for (std::size_t i = 0; i < slot.whole.size(); ++i)
      slot.whole[i] = in.take(slot.name + "/" + info_.whole.at[i], std::nullopt, nullptr);
  }
  in.finish(at);
  slots_ = std::move(loaded);
  for (const auto& [pattern, values] : groups)
    set_hyper(pattern == "*" ? 0 : find_group(pattern, at), values);
  steps_ = steps;
}

}}  // namespace descent::optim
