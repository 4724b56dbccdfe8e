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
  std::string name;  // in the parent it was registered with last
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
  return name.substr(name.rfind(':') + 1);
}

Tensor Module::forward(In x) const {
  fail<ValueError>(x.at,
                   "{}: no `Tensor forward(In x) const override`: a module needs one (check const "
                   "and the parameter)",
                   type());
}

Tensor Module::operator()(const In& x) const {
  Frame frame(x.at, state_->name.empty() ? nullptr : state_->name.c_str());
  Tensor y = forward(x);
  if (observer) {
    const auto [path, depth] = Frame::path();
    observer->seen_({*this, path, depth, y});
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

NamedTensors Module::named_parameters() const {
  NamedTensors all;
  std::unordered_set<const void*> seen;
  visit("", [&](const std::string& prefix, const State& state) {
    for (const auto& [name, p] : state.parameters)
      if (seen.insert(Peek::header(p)).second) all.emplace_back(joined(prefix, name), p);
  });
  return all;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> all;
  for (auto& [name, p] : named_parameters()) all.push_back(p);
  return all;
}

NamedTensors Module::named_buffers() const {
  NamedTensors all;
  visit("", [&](const std::string& prefix, const State& state) {
    for (const auto& [name, b] : state.buffers) all.emplace_back(joined(prefix, name), b);
  });
  return all;
}

std::vector<std::pair<std::string, Module*>> Module::named_modules() {
  std::vector<std::pair<std::string, Module*>> all{{"", this}};
  for (const auto& [name, child] : state_->children)
    for (const auto& [below, module] : child->named_modules())
      all.emplace_back(below.empty() ? name : joined(name, below), module);
  return all;
}

/// Parameters and buffers themselves, under every name.
static NamedTensors handles(const NamedTensors& parameters, const NamedTensors& buffers,
                            const std::string& prefix) {
  NamedTensors all;
  for (const NamedTensors* list : {&parameters, &buffers})
    for (const auto& [name, t] : *list) all.emplace_back(joined(prefix, name), t);
  return all;
}

NamedTensors Module::state_dict() const {
  NamedTensors all;
  visit("", [&](const std::string& prefix, const State& state) {
    for (const auto& [name, t] : handles(state.parameters, state.buffers, prefix))
      all.emplace_back(name, t.detach().clone());
  });
  return all;
}

void Module::load_state_dict(const NamedTensors& source, LoadOptions options, At at) {
  NamedTensors own;
  visit("", [&](const std::string& prefix, const State& state) {
    for (auto& entry : handles(state.parameters, state.buffers, prefix)) own.push_back(entry);
  });
  auto find = [](const NamedTensors& list, const std::string& name) {
    return std::find_if(list.begin(), list.end(), [&](const auto& e) { return e.first == name; });
  };
  std::string wrong;
  std::vector<std::pair<Tensor, Tensor>> copies;
  for (const auto& [name, t] : own) {
    auto found = find(source, name);
    if (found == source.end()) {
      if (options.strict) wrong += fmt::format("\n  {} is missing", name);
    } else if (!(found->second.shape() == t.shape()) || found->second.dtype() != t.dtype()) {
      wrong += fmt::format("\n  {} is {} {} here and {} {} there", name, str(t.dtype()),
                           str(t.shape()), str(found->second.dtype()), str(found->second.shape()));
    } else {
      copies.emplace_back(t, found->second);
    }
  }
  for (const auto& [name, t] : source)
    if (options.strict && find(own, name) == own.end())
      wrong += fmt::format("\n  {} is unexpected", name);
  if (!wrong.empty())
    fail<ValueError>(at, "load_state_dict: the state does not fit {}:{}\n", type(), wrong);
  NoGradGuard no_grad;
  for (const auto& [to, from] : copies) to.copy_(from);
}

void Module::apply(const std::function<void(Module&)>& f) {
  for (const auto& [name, child] : state_->children) child->apply(f);
  f(*this);
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
  visit("", [&](const std::string& prefix, const State& state) {
    for (const auto& [name, t] : handles(state.parameters, state.buffers, prefix))
      if (is_floating(t.dtype())) detail::set_data(t, t.detach().to(dtype));
  });
}

void Module::zero_grad() const {
  for (const Tensor& p : parameters()) p.zero_grad();
}

/// Refuses an empty name, one with a dot, and one that is taken.
static void check_name(const char* op, const std::string& name, const std::string& type, bool taken,
                       At at) {
  if (name.empty() || name.find('.') != std::string::npos)
    fail<ValueError>(at, "{}: \"{}\" in {}: a name is not empty and has no dot", op, name, type);
  if (taken) fail<ValueError>(at, "{}: {} has a \"{}\" already", op, type, name);
}

static bool has(const auto& list, const std::string& name) {
  return std::any_of(list.begin(), list.end(), [&](const auto& e) { return e.first == name; });
}

Tensor Module::register_parameter(const std::string& name, Tensor value, At at) {
  check_name("register_parameter", name, type(),
             has(state_->parameters, name) || has(state_->buffers, name), at);
  if (!value.is_leaf()) value = value.detach();
  value.requires_grad_(true, at);
  state_->parameters.emplace_back(name, value);
  return value;
}

Tensor Module::register_buffer(const std::string& name, Tensor value, At at) {
  check_name("register_buffer", name, type(),
             has(state_->parameters, name) || has(state_->buffers, name), at);
  value = value.detach();
  state_->buffers.emplace_back(name, value);
  return value;
}

void Module::add_child(const std::string& name, std::shared_ptr<Module> child, At at) {
  check_name("register_module", name, type(), has(state_->children, name), at);
  child->state_->name = name;
  state_->children.emplace_back(name, std::move(child));
}

}}  // namespace descent::nn
