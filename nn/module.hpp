#pragma once
#include <memory>

#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

struct LoadOptions {
  bool strict = true;  ///< whether names missing on either side are an error
};

/// Base of all layers and models: a handle on shared state (parameters, buffers, children, the
/// training flag). Copies alias; nothing is assigned: a weight is changed in place, a layer is
/// chosen when its module is made. A layer registers what it owns in its members' initialisers and
/// overrides `forward`; its other members belong to each handle, and are best const. A layer that a
/// `forward` calls though nobody registered it neither trains, nor is saved, nor knows the mode:
/// standard error says so, once:
///
///     struct Net : nn::Module {
///       nn::Linear fc1 = register_module("fc1", nn::Linear(784, 128));
///       nn::Linear fc2 = register_module("fc2", nn::Linear(128, 10));
///       Tensor forward(const In& x) const override { return fc2(relu(fc1(x))); }
///     };
class Module {
 public:
  Module();
  virtual ~Module() = default;
  Module(const Module&) = default;
  Module& operator=(const Module&) = delete;  // the parent would keep the old one

  /// Calls `forward`; errors inside name this module's path and the caller's line.
  Tensor operator()(const In& x) const;
  virtual Tensor forward(const In& x) const;

  /// Parameters with dotted names, this module's own first; a tensor registered twice (tied
  /// weights) appears once, under its first name.
  [[nodiscard]] NamedTensors named_parameters() const;
  [[nodiscard]] std::vector<Tensor> parameters() const;
  /// State that is saved but not trained.
  [[nodiscard]] NamedTensors named_buffers() const;
  /// This module as "" and all below it by dotted name, each under its first.
  std::vector<std::pair<std::string, Module*>> named_modules();

  /// Copies of all parameters and buffers, under every name that they have.
  [[nodiscard]] NamedTensors state_dict() const;
  /// Copies `state` into the parameters and buffers of the same names. Missing and unexpected
  /// names, shapes and dtypes that differ: one ValueError lists them all, and nothing is changed.
  void load_state_dict(const NamedTensors& state, LoadOptions options = {}, At at = At::here());

  /// f(module) once for every module below, children first, and then this one.
  void apply(const std::function<void(Module&)>& f);
  /// Training mode, on or off, here and below: Dropout acts in training only.
  void train(bool on = true);
  void eval() { train(false); }
  [[nodiscard]] bool training() const;
  /// Parameters whose names match `pattern` ('*' for any characters) do not (or do again) require
  /// gradients. ValueError if there are none.
  void freeze(std::string_view pattern = "*", At at = At::here());
  void unfreeze(std::string_view pattern = "*", At at = At::here());
  /// Converts parameters and floating buffers in place; gradients are dropped.
  void to(DType dtype, At at = At::here());
  void zero_grad() const;
  /// The class's name, without namespaces and template arguments.
  [[nodiscard]] std::string type() const;

 protected:
  /// Registers a child under `name` and returns it, for a member's initialiser.
  template <class M>
  M register_module(const std::string& name, const M& module, At at = At::here()) {
    auto child = std::make_shared<M>(module);
    add_child(name, child, at);
    return *child;
  }
  /// Makes a parameter of `value`: a leaf that shares its elements and requires a gradient. A leaf
  /// that already does stays itself, so that weights can be tied.
  Tensor register_parameter(const std::string& name, Tensor value, At at = At::here());
  Tensor register_buffer(const std::string& name, Tensor value, At at = At::here());
  /// Names `child` and owns it. ValueError if this module is part of it.
  void add_child(const std::string& name, std::shared_ptr<Module> child, At at);
  /// Becomes another handle on what `other` is.
  void alias(const Module& other) { state_ = other.state_; }

 private:
  friend class EvalGuard;
  struct State;
  class Running;
  void visit(const std::string& prefix,
             const std::function<void(const std::string& prefix, const State& state)>& f) const;
  void check_tensor(const char* op, const std::string& name, const Tensor& value, At at) const;
  bool owns(const State* state) const;
  /// The tensors of `list` in this module and below, each once, under its first name.
  NamedTensors distinct(NamedTensors State::*list) const;
  /// All parameters and buffers themselves, under every name.
  NamedTensors handles() const;
  void set_frozen(bool frozen, const char* op, std::string_view pattern, At at);
  std::shared_ptr<State> state_;
  std::string name_;                      // in the parent that this handle was registered with
  mutable const State* owner_ = nullptr;  // a caller that is known to own it
};

/// While it lives, `module` and all below it are in evaluation mode; then each has its own mode
/// back.
class EvalGuard : detail::Pinned {
 public:
  explicit EvalGuard(Module& module);
  ~EvalGuard();

 private:
  std::vector<std::pair<Module, bool>> modes_;
};

/// What a module call returned; see `Observer`.
struct Call {
  const Module& module;
  std::string path;
  int depth;
  const Tensor& output;
};

/// While it lives, `seen` is told of every module call on this thread as it returns. Of several,
/// the youngest is told first; they end in the opposite order of their beginnings.
class Observer : detail::Pinned {
 public:
  explicit Observer(std::function<void(const Call&)> seen);
  ~Observer();

 private:
  friend class Module;
  std::function<void(const Call&)> seen_;
  Observer* before_;
};

}}  // namespace descent::nn
