#include "descent/nn/module.hpp"

#include <algorithm>
#include <cstdlib>
#include <cxxabi.h>
#include <fmt/format.h>
#include <map>
#include <mutex>
#include <unordered_set>

#include "descent/core/graph/graph.hpp"
#include "descent/core/ops/view.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

struct ModuleBase::State {
  bool training = true;
  NamedTensors parameters, buffers;
  std::vector<std::pair<std::string, std::shared_ptr<ModuleBase>>> children;
  std::unordered_set<std::string> reported;  // classes whose unregistered modules it called
};

static constinit thread_local Observer* observer = nullptr;

Observer::Observer(std::function<void(const Call&)> seen)
    : seen_(std::move(seen)), before_(std::exchange(observer, this)) {}
Observer::~Observer() { observer = before_; }

// ---- calls

constinit thread_local ModuleBase::Running* ModuleBase::Running::innermost_ = nullptr;

ModuleBase::Running::Running(const ModuleBase& module, At at)
    : module_(module),
      frame_(at, module.name_.empty() ? nullptr : module.name_.c_str()),
      outer_(std::exchange(innermost_, this)) {}

ModuleBase::Running::~Running() {
  innermost_ = outer_;
  if (outer_) outer_->asks_mode_ |= asks_mode_;  // the outer module depends on the mode too
}

bool ModuleBase::Running::observed() { return observer != nullptr; }

void ModuleBase::Running::tell(const std::vector<Tensor>& outputs) const {
  for (const Observer* o = observer; o; o = o->before_) {
    const auto [path, depth] = Frame::path();
    o->seen_({module_, path, depth, outputs});
  }
}

/// Reports this module if none of the modules that are being called owns it, and if that matters:
/// if it has tensors that they do not have, or depends on the mode.
void ModuleBase::Running::check_owner() const {
  if (!outer_) return;
  const State* const parent = outer_->module_.state_.get();
  if (__atomic_load_n(&module_.owner_, __ATOMIC_RELAXED) == parent) return;
  NamedTensors own = module_.handles();
  for (const Running* r = outer_; r; r = r->outer_) {
    if (r->module_.state_ == module_.state_ || r->module_.owns(module_.state_.get()))
      return __atomic_store_n(&module_.owner_, parent, __ATOMIC_RELAXED);
    for (const auto& [name, t] : r->module_.handles())  // trained and saved there
      std::erase_if(own, [header = Peek::header(t)](const auto& o) {
        return Peek::header(o.second) == header;
      });
  }
  if (!own.empty() || asks_mode_) outer_->report_unowned(module_.type(), !own.empty(), frame_.at());
}

void ModuleBase::Running::report_unowned(const std::string& type, bool has_tensors, At at) const {
  static std::mutex mutex;  // several threads may call one model
  {
    const std::lock_guard lock(mutex);
    if (!module_.state_->reported.insert(type).second) return;
  }
  descent::report(fmt::format(
      "{} calls a {} that was never registered: {}: make it a member by register_module(\"...\", "
      "{}(...)) {}",
      module_.type(), type,
      has_tensors ? "its parameters are neither trained nor saved, and it has a mode of its own"
                  : "it does not follow train() and eval()",
      type, where(at)));
}

template class ModuleOf<Tensor(const In&)>;

ModuleBase::ModuleBase() : state_(std::make_shared<State>()) {}

std::string ModuleBase::type() const {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> demangled(
      abi::__cxa_demangle(typeid(*this).name(), nullptr, nullptr, &status), std::free);
  std::string name = demangled ? demangled.get() : typeid(*this).name();
  name = name.substr(0, name.find('<'));
  return name.substr(name.rfind(':') + 1);
}

// ---- parameters and children

static std::string join_names(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

/// Calls f(prefix, state) for this module and all below it, once for each name that they have.
void ModuleBase::visit_all(const std::string& prefix, const Visit& f) const {
  f(prefix, *state_);
  for (const auto& [name, child] : state_->children) child->visit_all(join_names(prefix, name), f);
}
/// Calls f(name, m) for `module` and all below it, once for each, under its first name.
template <class M, class F> void ModuleBase::visit_each(M& module, F f) {
  std::unordered_set<const State*> seen;
  auto walk = [&](auto& self, const std::string& name, M& m) -> void {
    if (!seen.insert(m.state_.get()).second) return;
    f(name, m);
    for (const auto& [own, child] : m.state_->children) self(self, join_names(name, own), *child);
  };
  walk(walk, "", module);
}

NamedTensors ModuleBase::distinct(NamedTensors State::*list) const {
  NamedTensors all;
  std::unordered_set<const void*> seen;
  visit_each(*this, [&](const std::string& prefix, const ModuleBase& m) {
    for (const auto& [name, t] : m.state_.get()->*list)
      if (seen.insert(Peek::header(t)).second) all.emplace_back(join_names(prefix, name), t);
  });
  return all;
}
NamedTensors ModuleBase::named_parameters(const std::string& prefix) const {
  NamedTensors all = distinct(&State::parameters);
  for (auto& [name, p] : all) name = join_names(prefix, name);
  return all;
}
NamedTensors ModuleBase::named_buffers() const { return distinct(&State::buffers); }

std::vector<Tensor> ModuleBase::parameters() const {
  std::vector<Tensor> all;
  for (auto& [name, p] : named_parameters()) all.push_back(p);
  return all;
}

std::vector<std::pair<std::string, ModuleBase*>> ModuleBase::named_modules() {
  std::vector<std::pair<std::string, ModuleBase*>> all;
  visit_each(*this, [&](const std::string& name, ModuleBase& m) { all.emplace_back(name, &m); });
  return all;
}

Tensor ModuleBase::get_parameter(std::string_view name, At at) const {
  Tensor found;
  visit_all("", [&](const std::string& prefix, const State& state) {
    for (const auto& [own, p] : state.parameters)
      if (join_names(prefix, own) == name) found = p;
  });
  if (found.defined()) return found;
  fail<ValueError>(at, "get_parameter: {} has no parameter \"{}\"", type(), name);
}
ModuleBase& ModuleBase::get_submodule(std::string_view name, At at) {
  ModuleBase* module = this;
  for (std::string_view rest = name; !rest.empty();) {
    const std::string_view own = rest.substr(0, rest.find('.'));
    rest.remove_prefix(std::min(own.size() + 1, rest.size()));
    const auto& children = module->state_->children;
    const auto child = std::ranges::find(children, own, [](const auto& c) { return c.first; });
    if (child == children.end())
      fail<ValueError>(at, "get_submodule: {} has no module \"{}\"", type(), name);
    module = child->second.get();
  }
  return *module;
}

/// Whether `state` belongs to a module below this one.
bool ModuleBase::owns(const State* state) const {
  bool found = false;
  visit_each(*this, [&](const std::string& name, const ModuleBase& m) {
    found |= !name.empty() && m.state_.get() == state;
  });
  return found;
}

NamedTensors ModuleBase::handles() const {
  NamedTensors all;
  visit_all("", [&](const std::string& prefix, const State& state) {
    for (const NamedTensors* list : {&state.parameters, &state.buffers})
      for (const auto& [name, t] : *list) all.emplace_back(join_names(prefix, name), t);
  });
  return all;
}

NamedTensors ModuleBase::state_dict() const { return clone_all(handles()); }

IncompatibleKeys ModuleBase::load_state_dict(const NamedTensors& state, const LoadOptions& options,
                                             At at) {
  IncompatibleKeys left_out;
  prepare_load(state, options.strict ? nullptr : &left_out, at)();
  return left_out;
}

Commit ModuleBase::prepare_load(const NamedTensors& source, IncompatibleKeys* left_out, At at) {
  const NamedTensors own = handles();
  std::vector<Tensor> found = match_state(own, source, type(), left_out, at);
  // A source that shares its storage with this module would change while it is copied.
  const auto storage_of = [](const Tensor& t) -> const void* { return Peek::header(t)->storage; };
  std::unordered_set<const void*> storages;
  for (const auto& [name, t] : own) storages.insert(storage_of(t));
  for (Tensor& t : found)
    if (t.defined() && storages.count(storage_of(t)) != 0) t = t.detach().clone(at);
  for (std::size_t i = 0; i < own.size(); ++i)
    if (found[i].defined()) check_not_expanded("load_state_dict", own[i].second, at);
  return [own, found = std::move(found)] {
    NoGradGuard no_grad;
    for (std::size_t i = 0; i < own.size(); ++i)
      if (found[i].defined()) own[i].second.copy_(found[i]);
  };
}

void ModuleBase::apply(const std::function<void(ModuleBase&)>& f) {
  std::unordered_set<const State*> seen;
  auto walk = [&](auto& self, ModuleBase& module) -> void {
    if (!seen.insert(module.state_.get()).second) return;
    for (const auto& [name, child] : module.state_->children) self(self, *child);
    f(module);
  };
  walk(walk, *this);
}

void ModuleBase::train(bool on) {
  for (const auto& [name, module] : named_modules()) module->state_->training = on;
}
bool ModuleBase::training() const {
  Running* const call = Running::innermost_;
  if (call && call->module_.state_ == state_) call->asks_mode_ = true;
  return state_->training;
}

void copy_state(ModuleBase& from, ModuleBase& to, At at) {
  const auto theirs = from.named_modules(), ours = to.named_modules();
  const std::map<std::string, ModuleBase*> own(ours.begin(), ours.end());
  if (own.size() != theirs.size())
    fail<ValueError>(at, "copy_state: {} has {} modules and {} has {}: need two of one model",
                     from.type(), theirs.size(), to.type(), own.size());
  for (const auto& [name, module] : theirs)
    if (own.count(name) == 0)
      fail<ValueError>(at, "copy_state: {} has no module \"{}\": need two of one model", to.type(),
                       name);
  to.load_state_dict(from.state_dict(), {}, at);  // nothing fails after this
  for (const auto& [name, module] : theirs)
    own.at(name)->state_->training = module->state_->training;
}

EvalGuard::EvalGuard(ModuleBase& module) {
  for (const auto& [name, m] : module.named_modules()) modes_.emplace_back(*m, m->state_->training);
  module.eval();
}
EvalGuard::~EvalGuard() {
  for (const auto& [module, on] : modes_) module.state_->training = on;
}

void ModuleBase::set_frozen(bool frozen, const char* op, std::string_view pattern, At at) {
  bool any = false;
  visit_all("", [&](const std::string& prefix, const State& state) {
    for (const auto& [name, p] : state.parameters)
      if (matches(pattern, join_names(prefix, name))) {
        p.requires_grad_(!frozen, at);
        any = true;
      }
  });
  if (!any) fail<ValueError>(at, "{}: no parameter of {} matches \"{}\"", op, type(), pattern);
}
void ModuleBase::freeze(std::string_view pattern, At at) {
  set_frozen(true, "freeze", pattern, at);
}
void ModuleBase::unfreeze(std::string_view pattern, At at) {
  set_frozen(false, "unfreeze", pattern, at);
}

void ModuleBase::to(DType dtype, At at) {
  if (!is_floating(dtype))
    fail<DtypeError>(at, "to: a module of {}: need float32 or float64", dtype);
  std::vector<std::pair<Tensor, Tensor>> values;  // all of them, before the first tensor changes
  for (const NamedTensors& list : {named_parameters(), named_buffers()})
    for (const auto& [name, t] : list)
      if (is_floating(t.dtype()) && t.dtype() != dtype)
        values.emplace_back(t, t.detach().to(dtype, at));
  for (auto& [t, value] : values) t.set_data(std::move(value));
}

void ModuleBase::zero_grad() const {
  for (const Tensor& p : parameters()) p.zero_grad();
}

static bool has(const auto& list, const std::string& name) {
  return std::any_of(list.begin(), list.end(), [&](const auto& e) { return e.first == name; });
}

/// Refuses a name that is empty, has a dot or is taken.
static void check_name(const char* op, const std::string& name, const std::string& type, bool taken,
                       At at) {
  if (name.empty() || name.find('.') != std::string::npos)
    fail<ValueError>(at, "{}: \"{}\" in {}: a name is not empty and has no dot", op, name, type);
  if (taken) fail<ValueError>(at, "{}: {} has a \"{}\" already", op, type, name);
}

void ModuleBase::check_tensor(const char* op, const std::string& name, const Tensor& value,
                              At at) const {
  check_name(op, name, type(), has(state_->parameters, name) || has(state_->buffers, name), at);
  if (!value.defined()) fail<ValueError>(at, "{}: {} of {} is undefined", op, name, type());
}

Tensor ModuleBase::register_parameter(const std::string& name, Tensor value, At at) {
  check_tensor("register_parameter", name, value, at);
  // The caller's own tensor must not change.
  if (!value.requires_grad() || !value.is_leaf()) value = value.detach();
  value.requires_grad_(true, at);
  state_->parameters.emplace_back(name, value);
  return value;
}

Tensor ModuleBase::register_buffer(const std::string& name, Tensor value, At at) {
  check_tensor("register_buffer", name, value, at);
  value = value.detach();
  state_->buffers.emplace_back(name, value);
  return value;
}

void ModuleBase::name_in(ModuleBase& module, const ModuleBase& list, std::size_t i) {
  module.name_ = join_names(list.name_, std::to_string(i));
}

void ModuleBase::add_child(const std::string& name, std::shared_ptr<ModuleBase> child, At at) {
  check_name("register_module", name, type(), has(state_->children, name), at);
  for (const auto& [below, module] : child->named_modules())
    if (module->state_ == state_)
      fail<ValueError>(at, "register_module: {} would be part of itself, as \"{}\"", type(), name);
  child->name_ = name;
  state_->children.emplace_back(name, std::move(child));
}

}}  // namespace descent::nn
