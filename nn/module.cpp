#include "descent/nn/module.hpp"

#include <algorithm>
#include <cstdlib>
#include <cxxabi.h>
#include <fmt/format.h>
#include <mutex>
#include <unordered_set>

#include "descent/core/graph/graph.hpp"
#include "descent/core/ops/view.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

struct Module::State {
  bool training = true;
  NamedTensors parameters, buffers;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children;
  std::unordered_set<std::string> reported;  // types of unregistered modules that it has called
};

/// A call of a module on this thread, in the list of those that it is part of.
class Module::Running : detail::Pinned {
 public:
  explicit Running(const Module& module)
      : module_(module), outer_(std::exchange(innermost, this)) {}
  ~Running() {
    innermost = outer_;
    if (outer_) outer_->asks_mode_ |= asks_mode_;  // whoever is below follows the same mode
  }
  /// Notes that the innermost module asked for its mode.
  static void ask_mode(const State* of) {
    if (innermost && innermost->module_.state_.get() == of) innermost->asks_mode_ = true;
  }
  /// Reports a module that is called inside another one, where none owns it, if that matters.
  void check_owner(At at) const {
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
    if (!own.empty() || asks_mode_) outer_->report_unowned(module_.type(), !own.empty(), at);
  }

 private:
  void report_unowned(const std::string& type, bool has_tensors, At at) const {
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

  const Module& module_;
  Running* const outer_;
  bool asks_mode_ = false;
  static constinit thread_local Running* innermost;
};
constinit thread_local Module::Running* Module::Running::innermost = nullptr;

static constinit thread_local Observer* observer = nullptr;

Observer::Observer(std::function<void(const Call&)> seen)
    : seen_(std::move(seen)), before_(std::exchange(observer, this)) {}
Observer::~Observer() { observer = before_; }

Module::Module() : state_(std::make_shared<State>()) {}

std::string Module::type() const {
  int status = 0;
  char* demangled = abi::__cxa_demangle(typeid(*this).name(), nullptr, nullptr, &status);
  std::string name = demangled ? demangled : typeid(*this).name();
  std::free(demangled);
  name = name.substr(0, name.find('<'));
  return name.substr(name.rfind(':') + 1);
}

Tensor Module::forward(const In& x) const {
  fail<ValueError>(
      x.at,
      "{}: no `Tensor forward(const In& x) const override`: a module needs one (check const "
      "and the parameter)",
      type());
}

Tensor Module::operator()(const In& x) const {
  const Frame frame(x.at, name_.empty() ? nullptr : name_.c_str());
  const Running call(*this);
  Tensor y = forward(x);
  call.check_owner(x.at);
  for (const Observer* o = observer; o; o = o->before_) {
    const auto [path, depth] = Frame::path();
    o->seen_({*this, path, depth, y});
  }
  return y;
}

static std::string joined(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

void Module::visit(const std::string& prefix,
                   const std::function<void(const std::string&, const State&)>& f) const {
  f(prefix, *state_);
  for (const auto& [name, child] : state_->children) child->visit(joined(prefix, name), f);
}

NamedTensors Module::distinct(NamedTensors State::*list) const {
  NamedTensors all;
  std::unordered_set<const void*> seen;
  visit("", [&](const std::string& prefix, const State& state) {
    for (const auto& [name, t] : state.*list)
      if (seen.insert(Peek::header(t)).second) all.emplace_back(joined(prefix, name), t);
  });
  return all;
}
NamedTensors Module::named_parameters() const { return distinct(&State::parameters); }
NamedTensors Module::named_buffers() const { return distinct(&State::buffers); }

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> all;
  for (auto& [name, p] : named_parameters()) all.push_back(p);
  return all;
}

std::vector<std::pair<std::string, Module*>> Module::named_modules() {
  std::vector<std::pair<std::string, Module*>> all;
  std::unordered_set<const State*> seen;
  auto walk = [&](auto& self, const std::string& name, Module& module) -> void {
    if (!seen.insert(module.state_.get()).second) return;
    all.emplace_back(name, &module);
    for (const auto& [own, child] : module.state_->children) self(self, joined(name, own), *child);
  };
  walk(walk, "", *this);
  return all;
}

bool Module::owns(const State* state) const {
  return std::ranges::any_of(state_->children, [state](const auto& child) {
    return child.second->state_.get() == state || child.second->owns(state);
  });
}

NamedTensors Module::handles() const {
  NamedTensors all;
  visit("", [&](const std::string& prefix, const State& state) {
    for (const NamedTensors* list : {&state.parameters, &state.buffers})
      for (const auto& [name, t] : *list) all.emplace_back(joined(prefix, name), t);
  });
  return all;
}

NamedTensors Module::state_dict() const { return cloned(handles()); }

void Module::load_state_dict(const NamedTensors& source, LoadOptions options, At at) {
  const NamedTensors own = handles();
  std::vector<Tensor> found = fitting(own, source, type(), options.strict, at);
  // Whatever may fail comes first. What is a part of this module may change while it is copied.
  const auto storage_of = [](const Tensor& t) -> const void* { return Peek::header(t)->storage; };
  std::unordered_set<const void*> storages;
  for (const auto& [name, t] : own) storages.insert(storage_of(t));
  for (Tensor& t : found)
    if (t.defined() && storages.count(storage_of(t)) != 0) t = t.detach().clone(at);
  NoGradGuard no_grad;
  for (std::size_t i = 0; i < own.size(); ++i)
    if (found[i].defined()) own[i].second.copy_(found[i]);
}

void Module::apply(const std::function<void(Module&)>& f) {
  std::unordered_set<const State*> seen;
  auto walk = [&](auto& self, Module& module) -> void {
    if (!seen.insert(module.state_.get()).second) return;
    for (const auto& [name, child] : module.state_->children) self(self, *child);
    f(module);
  };
  walk(walk, *this);
}

void Module::train(bool on) {
  state_->training = on;
  for (const auto& [name, child] : state_->children) child->train(on);
}
bool Module::training() const {
  Running::ask_mode(state_.get());
  return state_->training;
}

EvalGuard::EvalGuard(Module& module) {
  for (const auto& [name, m] : module.named_modules()) modes_.emplace_back(*m, m->training());
  module.eval();
}
EvalGuard::~EvalGuard() {
  for (const auto& [module, on] : modes_) module.state_->training = on;
}

void Module::set_frozen(bool frozen, const char* op, std::string_view pattern, At at) {
  bool any = false;
  visit("", [&](const std::string& prefix, const State& state) {
    for (const auto& [name, p] : state.parameters)
      if (matches(pattern, joined(prefix, name))) {
        p.requires_grad_(!frozen, at);
        any = true;
      }
  });
  if (!any) fail<ValueError>(at, "{}: no parameter of {} matches \"{}\"", op, type(), pattern);
}
void Module::freeze(std::string_view pattern, At at) { set_frozen(true, "freeze", pattern, at); }
void Module::unfreeze(std::string_view pattern, At at) {
  set_frozen(false, "unfreeze", pattern, at);
}

void Module::to(DType dtype, At at) {
  if (!is_floating(dtype))
    fail<DtypeError>(at, "to: a module of {}: need float32 or float64", dtype);
  std::vector<std::pair<Tensor, Tensor>> converted;  // all, before the first is changed
  for (const NamedTensors& list : {named_parameters(), named_buffers()})
    for (const auto& [name, t] : list)
      if (is_floating(t.dtype()) && t.dtype() != dtype)
        converted.emplace_back(t, t.detach().to(dtype, at));
  for (const auto& [t, value] : converted) detail::set_data(t, value);
}

void Module::zero_grad() const {
  for (const Tensor& p : parameters()) p.zero_grad();
}

static bool has(const auto& list, const std::string& name) {
  return std::any_of(list.begin(), list.end(), [&](const auto& e) { return e.first == name; });
}

/// Refuses an empty name, one with a dot, and one that is taken.
static void check_name(const char* op, const std::string& name, const std::string& type, bool taken,
                       At at) {
  if (name.empty() || name.find('.') != std::string::npos)
    fail<ValueError>(at, "{}: \"{}\" in {}: a name is not empty and has no dot", op, name, type);
  if (taken) fail<ValueError>(at, "{}: {} has a \"{}\" already", op, type, name);
}

void Module::check_tensor(const char* op, const std::string& name, const Tensor& value,
                          At at) const {
  check_name(op, name, type(), has(state_->parameters, name) || has(state_->buffers, name), at);
  if (!value.defined()) fail<ValueError>(at, "{}: {} of {} is undefined", op, name, type());
}

Tensor Module::register_parameter(const std::string& name, Tensor value, At at) {
  check_tensor("register_parameter", name, value, at);
  if (!value.requires_grad() || !value.is_leaf()) value = value.detach();  // the caller's own stays
  value.requires_grad_(true, at);
  state_->parameters.emplace_back(name, value);
  return value;
}

Tensor Module::register_buffer(const std::string& name, Tensor value, At at) {
  check_tensor("register_buffer", name, value, at);
  value = value.detach();
  state_->buffers.emplace_back(name, value);
  return value;
}

void Module::add_child(const std::string& name, std::shared_ptr<Module> child, At at) {
  check_name("register_module", name, type(), has(state_->children, name), at);
  for (const auto& [below, module] : child->named_modules())
    if (module->state_ == state_)
      fail<ValueError>(at, "register_module: {} would be part of itself, as \"{}\"", type(), name);
  child->name_ = name;
  state_->children.emplace_back(name, std::move(child));
}

}}  // namespace descent::nn
