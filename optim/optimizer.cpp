#include "descent/optim/optimizer.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <fmt/core.h>
#include <unordered_set>

#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

void detail::require(bool holds, const char* what, double value, const char* rule, At at) {
  if (!holds) fail<ValueError>(at, "{} is {}: need {}", what, value, rule);
}

OptimizerBase::OptimizerBase(const detail::RuleInfo& info, const void* options) : info_(info) {
  mixes_.push_back(std::make_unique<detail::Mix>());
  std::memcpy(mixes_[0]->options, options, info.hyper.count * sizeof(double));
}
OptimizerBase::~OptimizerBase() = default;

// ---- parameters and groups

static NamedTensors list_parameters(const std::vector<detail::Slot>& slots) {
  NamedTensors all;
  for (const detail::Slot& slot : slots) all.emplace_back(slot.name, slot.parameter);
  return all;
}
NamedTensors OptimizerBase::parameters() const { return list_parameters(slots_); }

void OptimizerBase::add(const NamedTensors& parameters, At at) {
  if (parameters.empty()) fail<ValueError>(at, "{}: no parameters to optimize", info_.name);
  std::unordered_set<std::string> names;
  for (const Slot& slot : slots_) names.insert(slot.name);
  std::vector<Slot> added;
  for (const auto& [name, p] : parameters) {
    check_parameter(name, p, at);
    if (!names.insert(name).second)
      fail<ValueError>(at, "{}: two parameters are called {}", info_.name, name);
    Slot& slot = added.emplace_back();
    slot.name = name;
    slot.parameter = p;
    slot.state.resize(info_.state.count);
    slot.next_state.resize(info_.state.count);
    slot.tensor_state.resize(info_.tensor_state.count);
    slot.fields.resize(info_.fields.count);
    slot.quantities.resize(info_.quantities.count);
  }
  std::vector<Slot> all = slots_;
  std::ranges::move(added, std::back_inserter(all));
  // Two parameters in the same memory, one tensor twice too, would be updated twice, on two threads
  // at once.
  if (const auto [a, b] = find_shared(list_parameters(all)); b > 0 || a > 0)
    fail<ValueError>(at, "{}: {} and {} share elements: need parameters of their own", info_.name,
                     all[a].name, all[b].name);
  Mixes mixes = mix(groups_, all);
  slots_ = std::move(all);
  adopt(std::move(mixes));
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

std::vector<detail::Slot*> OptimizerBase::find_slots(std::string_view pattern, At at) {
  std::vector<Slot*> found;
  for (Slot& slot : slots_)
    if (matches(pattern, slot.name)) found.push_back(&slot);
  if (found.empty()) fail<ValueError>(at, "{}: no parameter matches \"{}\"", info_.name, pattern);
  return found;
}

void OptimizerBase::zero_grad(bool set_to_none) {
  if (!set_to_none) return zero_gradients(parameters());
  for (const Slot& slot : slots_) slot.parameter.zero_grad();
}

void detail::require_nonnegative(const char* what, double value, At at) {
  require(value >= 0 && std::isfinite(value), what, value, "a number of at least 0", at);
}
void detail::check_lr_factor(double factor, At at) {
  require_nonnegative("optimizer: the learning rate's factor", factor, at);
}

void OptimizerBase::set_lr_factor(double factor, At at) {
  detail::check_lr_factor(factor, at);
  lr_factor_ = factor;
}

void OptimizerBase::set_lr_multiplier(std::string_view pattern, double multiplier, At at) {
  detail::require_nonnegative("set_lr_multiplier: multiplier", multiplier, at);
  for (Slot* slot : find_slots(pattern, at)) slot->lr_multiplier = multiplier;
}

std::size_t OptimizerBase::check_momentum(double momentum, At at) const {
  const std::string_view names[] = {"momentum", "beta1"};
  const auto option = std::ranges::find_first_of(info_.hyper, names);
  if (option == info_.hyper.end())
    fail<ValueError>(at, "set_momentum: {} has neither momentum nor beta1", info_.name);
  const auto place = static_cast<std::size_t>(option - info_.hyper.begin());
  detail::check_option(info_, place, momentum, at);
  return place;
}

void OptimizerBase::set_momentum(double momentum, At at) {
  const std::size_t place = check_momentum(momentum, at);
  std::memcpy(mixes_[0]->options + place * sizeof momentum, &momentum, sizeof momentum);
  for (const auto& group : groups_)
    if (detail::cell_of(info_, *group, place).set)
      detail::put_cell(info_, *group, place, {momentum, true});
}

// ---- a step

/// Releases, at the end of a step, what only that step needed, whether it was carried out or not.
class OptimizerBase::Running : Pinned {
 public:
  explicit Running(OptimizerBase& opt) : opt_(opt) { opt.said_ = opt.reported_.size(); }
  ~Running() {
    opt_.reported_.resize(opt_.said_);
    for (Slot& slot : opt_.slots_) {
      slot.grad = {};
      for (Tensor& state : slot.next_state) state = {};
      slot.next_tensor_state.clear();
      for (Tensor& field : slot.fields) field = {};
    }
  }

 private:
  OptimizerBase& opt_;
};

/// A step, from top to bottom. All that can throw comes before `commit`, when nothing has changed.
void OptimizerBase::advance(double loss, At at) {
  if (info_.needs_closure)
    fail<ValueError>(at, "{}: a step needs a closure that computes the loss anew: step(closure)",
                     info_.name);
  const NoGradGuard no_grad;
  const Running running(*this);
  loss_ = loss;
  collect(at);
  if (!check(at)) return;
  tell(&StepObserver::before_step);
  prepare();
  tell(&StepObserver::after_prepare);
  commit();
  tiles_.for_each([this](const detail::Tile& t) { update(slots_[t.array], t); });
  tell(&StepObserver::after_step);
}

void OptimizerBase::step(At at) {
  if (info_.needs_loss)
    fail<ValueError>(at, "{}: a step needs the loss: step(loss) or step(closure)", info_.name);
  advance(std::nan(""), at);
}

void OptimizerBase::step(const In& loss) { advance(loss.item(loss.at), loss.at); }

double OptimizerBase::step(const Closure& closure, At at) {
  Tensor loss;
  {
    EnableGradGuard grad;
    loss = closure();
  }
  step(In(loss, at));
  return loss_;
}

/// Determines the options that hold now, takes each parameter's gradient, and makes the state that
/// is missing.
void OptimizerBase::collect(At at) {
  resolve(at);
  num_threads();  // its first call throws if DESCENT_NUM_THREADS is not valid
  tiles_.clear();
  for (Slot& slot : slots_) {
    slot.grad = slot.parameter.grad();
    if (!slot.grad.defined()) continue;
    const Tensor& theta = slot.parameter;
    const DType dtype = theta.dtype();
    if (slot.grad.dtype() != dtype || slot.grad.numel() != theta.numel())
      fail<DtypeError>(at,
                       "step: parameter {} is {} {}, its gradient {} {}: the parameter was "
                       "converted while backward ran, or after it: zero_grad(), and backward anew",
                       slot.name, dtype, theta.shape(), slot.grad.dtype(), slot.grad.shape());
    if (!slot.grad.is_contiguous()) slot.grad = slot.grad.contiguous();
    slot.next_tensor_state = slot.tensor_state;
    slot.next_step = slot.step + 1;
    for (std::size_t i = 0; i < slot.state.size(); ++i) {
      const Tensor& state = slot.state[i];
      if (!state.defined() && info_.uses(options_at(slot.mix), i)) {
        slot.next_state[i] = zeros(theta.shape(), dtype, at);
        if (info_.required == 0) slot.next_step = 1;
      }
      if (state.defined() && (state.dtype() != dtype || state.numel() != theta.numel()))
        fail<DtypeError>(at,
                         "step: parameter {} is {} {}, its state {} {}: convert a model before its "
                         "optimizer is made",
                         slot.name, dtype, theta.shape(), state.dtype(), state.shape());
    }
    if (!theta.is_contiguous())
      fail<ShapeError>(at, "step: parameter {} is no longer contiguous", slot.name);
    tiles_.add(static_cast<std::size_t>(&slot - slots_.data()), theta.numel());
  }
}

/// Reports what looks like a mistake; false if the step is to be skipped.
bool OptimizerBase::check(At at) {
  check_freshness();
  if (nonfinite_ == NonFinite::ignore || all_finite(at)) return true;
  ++skipped_;
  said_ = reported_.size();
  for (Slot& slot : slots_) slot.seen = slot.next_seen;
  return false;
}

bool OptimizerBase::all_finite(At at) const {
  if (info_.needs_loss && !std::isfinite(loss_)) {
    if (nonfinite_ == NonFinite::skip) return false;
    fail<NumericError>(
        at, "{}: the loss is {}: nothing was updated; set_nonfinite() chooses what happens",
        info_.name, loss_);
  }
  std::atomic<const detail::Tile*> bad = nullptr;
  tiles_.for_each([&](const detail::Tile& tile) {
    if (first_nonfinite(slots_[tile.array].grad, tile.begin, tile.count) < 0) return;
    const detail::Tile* first = bad.load();  // in order, whichever thread finds it
    while ((!first || &tile < first) && !bad.compare_exchange_weak(first, &tile)) {}
  });
  if (!bad) return true;
  if (nonfinite_ == NonFinite::skip) return false;
  const auto [array, begin, count] = *bad.load();
  const Slot& slot = slots_[array];
  const int64_t i = first_nonfinite(slot.grad, begin, count);
  const double value = slot.grad.reshape({slot.grad.numel()}).select(0, i).item();
  fail<NumericError>(at,
                     "step: the gradient of {} is {} at element {}{}: nothing was updated; "
                     "set_nonfinite() chooses what happens",
                     slot.name, value, i,
                     std::isinf(loss_) ? ", for the loss is " + str(loss_) : "");
}

void OptimizerBase::check_freshness() {
  bool any = false, all_old = true;
  std::string unreached;
  for (Slot& slot : slots_) {
    slot.next_seen = slot.seen;
    if (!slot.grad.defined()) {
      if (steps_ == 0 && slot.parameter.requires_grad())
        unreached += (unreached.empty() ? "" : ", ") + slot.name;
      continue;
    }
    any = true;
    const auto now = gradient_age(slot.parameter), seen = slot.seen;
    all_old &= seen.added > 0 && now == seen;
    // Since the last step the gradient was only added to, never replaced or forgotten.
    const bool piled_up = now != seen && now.life == seen.life &&
                          now.changes - seen.changes == now.added - seen.added;
    if (seen.added > 0 && piled_up && first_time("zero_grad"))
      report(
          fmt::format("step: the gradient of {} still holds what the last step used: call "
                      "zero_grad() before backward()",
                      slot.name));
    slot.next_seen = now;
  }
  if (any && all_old && first_time("stale"))
    report("step: no gradient is new since the last step: was backward() called?");
  if (!unreached.empty() && first_time("unreached"))
    report("step: no gradient has reached " + unreached +
           ": not part of the loss, or detached from it?");
}

bool OptimizerBase::first_time(const char* kind) {
  if (std::find(reported_.begin(), reported_.end(), kind) != reported_.end()) return false;
  reported_.push_back(kind);
  return true;
}

void OptimizerBase::report(const std::string& text) const {
  report_ ? report_(text) : descent::report(text);
}

Preparation OptimizerBase::preparation_of(Slot& slot, bool maximize,
                                          std::function<Tensor()> direction) const {
  return {slot.parameter.detach(),
          maximize ? -slot.grad : slot.grad,
          static_cast<double>(slot.next_step),
          loss_,
          slot.next_tensor_state,
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

/// Makes the new state and step counts those of the parameters. Nothing fails from here on:
/// will_write cannot, because nothing is recorded and `collect` has checked that the parameter is
/// contiguous.
void OptimizerBase::commit() {
  ++steps_;
  said_ = reported_.size();
  for (Slot& slot : slots_) {
    slot.seen = slot.next_seen;
    if (!slot.grad.defined()) continue;
    slot.step = slot.next_step;
    std::swap(slot.tensor_state, slot.next_tensor_state);
    for (std::size_t i = 0; i < slot.state.size(); ++i)
      if (slot.next_state[i].defined()) std::swap(slot.state[i], slot.next_state[i]);
    will_write("step", slot.parameter, At::unknown());
  }
}

// ---- who watches

StepObserver::~StepObserver() = default;

void OptimizerBase::tell(void (StepObserver::*event)(const OptimizerBase&)) const {
  if (StepObserver* to = observer()) (to->*event)(*this);
}

void OptimizerBase::trace(StepObserver* to, At at) {
  if (to) to->follow(*this, at);
  StepObserver* before = observer();
  if (before && before != to) before->leave();
  observer_ = Weak(to);
}

double OptimizerBase::clip_grad_norm(double max_norm, ClipNormOptions options, At at) {
  tell(&StepObserver::before_clip);
  return optim::clip_grad_norm(parameters(), max_norm, options, at);
}
void OptimizerBase::clip_grad_value(double limit, At at) {
  tell(&StepObserver::before_clip);
  optim::clip_grad_value(parameters(), limit, at);
}

}}  // namespace descent::optim
