#include "descent/optim/optimizer.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <fmt/core.h>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/optim/insight/ledger.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

void detail::require(bool holds, const char* what, double value, const char* rule, At at) {
  if (!holds) fail<ValueError>(at, "{} is {}: need {}", what, value, rule);
}

OptimizerBase::OptimizerBase(const detail::RuleInfo& info, const void* options)
    : info_(info), self_(this, [](OptimizerBase*) {}) {
  mixes_.push_back(std::make_unique<detail::Mix>());
  std::memcpy(mixes_[0]->options, options, info.hyper.count * sizeof(double));
}
OptimizerBase::~OptimizerBase() = default;

detail::OptimizerRef::OptimizerRef(OptimizerBase& optimizer, const char* who)
    : optimizer_(optimizer.self_), who_(who) {}
OptimizerBase& detail::OptimizerRef::get(At at) const {
  OptimizerBase* optimizer = optimizer_.lock().get();
  if (!optimizer) fail<ValueError>(at, "{}: its optimizer has gone", who_);
  return *optimizer;
}

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
    slot.next_state.resize(info_.state.count);
    slot.whole.resize(info_.whole.count);
    slot.fields.resize(info_.fields.count);
    slot.quantities.resize(info_.quantities.count);
  }
  std::vector<Slot> all = slots_;
  std::ranges::move(added, std::back_inserter(all));
  check_overlaps(all, at);
  Mixes mixes = mix(groups_, all);
  slots_ = std::move(all);
  adopt(std::move(mixes));
}

/// Two parameters in the same memory would be updated twice, on two threads at once.
void OptimizerBase::check_overlaps(const std::vector<Slot>& slots, At at) const {
  std::vector<std::tuple<const std::byte*, const std::byte*, const std::string*>> all;
  for (const Slot& slot : slots)
    if (const auto* h = Peek::header(slot.parameter); h->numel > 0)
      all.emplace_back(h->data, h->data + h->numel * itemsize(h->dtype), &slot.name);
  std::ranges::sort(all);
  for (std::size_t i = 1; i < all.size(); ++i)
    if (std::get<0>(all[i]) < std::get<1>(all[i - 1]))
      fail<ValueError>(at, "{}: {} and {} share elements: need parameters of their own", info_.name,
                       *std::get<2>(all[i - 1]), *std::get<2>(all[i]));
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

std::vector<detail::Slot*> OptimizerBase::matching(std::string_view pattern, At at) {
  std::vector<Slot*> found;
  for (Slot& slot : slots_)
    if (matches(pattern, slot.name)) found.push_back(&slot);
  if (found.empty()) fail<ValueError>(at, "{}: no parameter matches \"{}\"", info_.name, pattern);
  return found;
}

void OptimizerBase::zero_grad(bool set_to_none) {
  std::vector<std::pair<Tensor, Tensor>> zeroed;  // all are made before one is put anywhere
  for (Slot& slot : slots_)
    if (set_to_none) slot.parameter.zero_grad();
    else if (const Tensor& p = slot.parameter; p.grad().defined())
      zeroed.emplace_back(p, zeros(p.shape(), p.dtype()));
  for (const auto& [parameter, g] : zeroed) parameter.set_grad(g);
}

void detail::check_lr_factor(double factor, At at) {
  require(factor >= 0 && std::isfinite(factor), "optimizer: the learning rate's factor", factor,
          "a number of at least 0", at);
}

void OptimizerBase::set_lr_factor(double factor, At at) {
  detail::check_lr_factor(factor, at);
  lr_factor_ = factor;
}

void OptimizerBase::set_lr_multiplier(std::string_view pattern, double multiplier, At at) {
  detail::require(multiplier >= 0 && std::isfinite(multiplier), "set_lr_multiplier: multiplier",
                  multiplier, "a number of at least 0", at);
  for (Slot* slot : matching(pattern, at)) slot->lr_multiplier = multiplier;
}

void OptimizerBase::set_momentum(double momentum, At at) {
  const std::string_view names[] = {"momentum", "beta1"};
  const auto option = std::ranges::find_first_of(info_.hyper, names);
  if (option == info_.hyper.end())
    fail<ValueError>(at, "set_momentum: {} has neither momentum nor beta1", info_.name);
  const auto place = static_cast<std::size_t>(option - info_.hyper.begin());
  detail::check_option(info_, place, momentum, at);
  std::memcpy(mixes_[0]->options + place * sizeof momentum, &momentum, sizeof momentum);
  for (const auto& group : groups_)
    if (detail::cell_of(info_, *group, place).set)
      detail::put_cell(info_, *group, place, {momentum, true});
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
    slot.next_whole = slot.whole;
    slot.next_step = slot.step + 1;
    for (std::size_t i = 0; i < slot.state.size(); ++i) {
      const Tensor& state = slot.state[i];
      if (!state.defined() && uses(slot.mix, i)) {
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
  }
}

void OptimizerBase::cut_into_tiles() {
  constexpr int64_t grain = descent::detail::kGrain;
  tiles_.clear();
  bundles_.clear();
  int64_t room = 0;
  for (Slot& slot : slots_) {
    if (!slot.grad.defined()) continue;
    const int64_t n = slot.parameter.numel();
    for (int64_t begin = 0; begin < n; begin += grain) {
      const Tile tile{&slot, begin, std::min(grain, n - begin)};
      if (room < tile.count) {
        bundles_.push_back(tiles_.size());
        room = grain;
      }
      room -= tile.count;
      tiles_.push_back(tile);
    }
  }
  bundles_.push_back(tiles_.size());
}

bool OptimizerBase::begin_step(At at) {
  num_threads();  // which a bad DESCENT_NUM_THREADS refuses, at first
  collect_gradients(at);
  cut_into_tiles();
  check_freshness();
  if (nonfinite_ != NonFinite::ignore && !all_finite(at)) {
    ++skipped_;
    said_ = reported_.size();
    for (Slot& slot : slots_) slot.seen = slot.next_seen;
    return false;
  }
  if (Ledger* to = ledger()) to->before_step(*this);
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
  if (info_.needs_loss && !std::isfinite(loss_)) {
    if (nonfinite_ == NonFinite::skip) return false;
    fail<NumericError>(at, "{}: the loss is {}: nothing was updated; set_nonfinite() chooses",
                       info_.name, loss_);
  }
  std::atomic<const Tile*> bad = nullptr;
  for_each_tile([&](const Tile& tile) {
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
  fail<NumericError>(at,
                     "step: the gradient of {} is {} at element {}{}: nothing was updated; "
                     "set_nonfinite() chooses what happens",
                     tile.slot->name, value, i,
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
    const auto now = descent::detail::gradient_age(slot.parameter), seen = slot.seen;
    all_old &= seen.added > 0 && now == seen;
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

void OptimizerBase::on_report(std::function<void(const std::string&)> report) {
  report_ = std::move(report);
}

void OptimizerBase::report(const std::string& text) const {
  report_ ? report_(text) : descent::report(text);
}

Whole OptimizerBase::whole_of(Slot& slot, bool maximize, std::function<Tensor()> direction) const {
  return {slot.parameter.detach(),
          maximize ? -slot.grad : slot.grad,
          static_cast<double>(slot.next_step),
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
  if (Ledger* to = ledger()) to->prepared(*this);
  NoGradGuard no_grad;
  ++steps_;
  said_ = reported_.size();
  for (Slot& slot : slots_) {
    slot.seen = slot.next_seen;
    if (!slot.grad.defined()) continue;
    slot.step = slot.next_step;
    std::swap(slot.whole, slot.next_whole);
    for (std::size_t i = 0; i < slot.state.size(); ++i)
      if (slot.next_state[i].defined()) std::swap(slot.state[i], slot.next_state[i]);
    descent::detail::will_write("step", slot.parameter, At::unknown());
  }
}

void OptimizerBase::end_step() {
  if (Ledger* to = ledger()) to->after_step(*this);
}

void OptimizerBase::let_go() {
  reported_.resize(said_);
  for (Slot& slot : slots_) {
    slot.grad = {};
    for (Tensor& state : slot.next_state) state = {};
    slot.next_whole.clear();
    for (Tensor& field : slot.fields) field = {};
  }
}

}}  // namespace descent::optim
