#include "descent/nn/module.hpp"

#include <algorithm>
#include <cstdlib>
#include <cxxabi.h>
#include <fmt/format.h>
#include <unordered_set>

#include "descent/core/graph.hpp"
#include "descent/core/view.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

struct Module::State {
  bool training = true;
  NamedTensors parameters, buffers;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children;
};

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

Tensor Module::forward(In x) const {
  fail<ValueError>(x.at,
                   "{}: no `Tensor forward(In x) const override`: a module needs one (check const "
                   "and the parameter)",
                   type());
}

Tensor Module::operator()(const In& x) const {
  Frame frame(x.at, name_.empty() ? nullptr : name_.c_str());
  Tensor y = forward(x);
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
  const std::vector<Tensor> found = fitting(own, source, type(), options.strict, at);
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
bool Module::training() const { return state_->training; }

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
  for (const auto& [name, t] : handles())
    if (is_floating(t.dtype()) && t.dtype() != dtype) detail::set_data(t, t.detach().to(dtype));
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
