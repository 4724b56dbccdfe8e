#pragma once
#include <memory>
#include <tuple>

#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

struct LoadOptions {
  bool strict = true;  ///< whether names missing on either side are an error
};

/// What all layers and models are: a handle on shared state (parameters, buffers, children, the
/// training flag). Copies alias; nothing is assigned: a weight is changed in place, a layer is
/// chosen when its module is made. How a module is called is `Module`'s, or `ModuleOf`'s.
class ModuleBase {
 public:
  ModuleBase();
  virtual ~ModuleBase() = default;
  ModuleBase(const ModuleBase&) = default;
  ModuleBase& operator=(const ModuleBase&) = delete;  // the parent would keep the old one

  /// Parameters with dotted names, this module's own first; a tensor registered twice (tied
  /// weights) appears once, under its first name.
  /// `prefix` and a dot come in front of each name, for several modules in one optimizer: see
  /// `join`.
  [[nodiscard]] NamedTensors named_parameters(const std::string& prefix = "") const;
  [[nodiscard]] std::vector<Tensor> parameters() const;
  /// State that is saved but not trained.
  [[nodiscard]] NamedTensors named_buffers() const;
  /// This module as "" and all below it by dotted name, each under its first.
  std::vector<std::pair<std::string, ModuleBase*>> named_modules();
  /// The parameter called "fc1.weight", and the module called "fc1": ValueError if there is none.
  [[nodiscard]] Tensor get_parameter(std::string_view name, At at = At::here()) const;
  ModuleBase& get_submodule(std::string_view name, At at = At::here());

  /// Copies of all parameters and buffers, under every name that they have.
  [[nodiscard]] NamedTensors state_dict() const;
  /// Copies `state` into the parameters and buffers of the same names. Missing and unexpected
  /// names, shapes and dtypes that differ: one ValueError lists them all, and nothing is changed.
  void load_state_dict(const NamedTensors& state, const LoadOptions& options = {},
                       At at = At::here());

  /// f(module) once for every module below, children first, and then this one.
  void apply(const std::function<void(ModuleBase&)>& f);
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
  void add_child(const std::string& name, std::shared_ptr<ModuleBase> child, At at);
  /// Names the handle `module` by its place i in `list`.
  static void name_in(ModuleBase& module, const ModuleBase& list, std::size_t i);
  /// Becomes another handle on what `other` is.
  void alias(const ModuleBase& other) { state_ = other.state_; }

  struct State;
  /// A call of a module on this thread while it lives: errors below it name the module's path and
  /// `at`, where the caller stands.
  class Running : Pinned {
   public:
    Running(const ModuleBase& module, At at);
    ~Running();
    /// Where the caller of these arguments stands: that of the first tensor.
    template <class... T> static At place_of(const T&... arguments) {
      At place = At::unknown();
      auto look = [&place]<class A>(const A& argument) {
        if constexpr (std::is_same_v<const A, In>)
          if (!place.file()) place = argument.at;
      };
      (look(arguments), ...);
      return place;
    }
    /// What a call ends with: a module that nobody registered is reported, observers are told.
    template <class R> void finish(const R& result) const {
      check_owner();
      if (!observed()) return;
      std::vector<Tensor> outputs;
      collect(result, outputs);
      tell(outputs);
    }

   private:
    friend class ModuleBase;
    /// Adds the tensors in what a module returned: itself, or those of a pair, a tuple, a list.
    template <class T> static void collect(const T& result, std::vector<Tensor>& all) {
      if constexpr (std::is_convertible_v<const T&, const Tensor&>) all.push_back(result);
      else if constexpr (requires { std::tuple_size<T>::value; })
        std::apply([&](const auto&... each) { (collect(each, all), ...); }, result);
      else if constexpr (requires { result.begin(); })
        for (const auto& each : result) collect(each, all);
    }
    static bool observed();
    void tell(const std::vector<Tensor>& outputs) const;
    void check_owner() const;
    void report_unowned(const std::string& type, bool has_tensors, At at) const;

    const ModuleBase& module_;
    const Frame frame_;
    Running* const outer_;  // what it is part of
    bool asks_mode_ = false;
    static constinit thread_local Running* innermost_;
  };

 private:
  friend class EvalGuard;
  friend void copy_state(ModuleBase& from, ModuleBase& to, At at);
  using Visit = std::function<void(const std::string& prefix, const State& state)>;
  void visit_all(const std::string& prefix, const Visit& f) const;
  void visit_each(const Visit& f) const;
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

/// A module that is called with what `Signature` says: it overrides `forward` of that signature.
/// Tensors are taken as `const In&`; the results may be several, in a std::tuple or a
/// std::vector:
///
///     struct Bilinear : nn::ModuleOf<Tensor(const In& a, const In& b)> {
///       nn::Linear left = register_module("left", nn::Linear(8, 4));
///       nn::Linear right = register_module("right", nn::Linear(8, 4));
///       Tensor forward(const In& a, const In& b) const override { return left(a) * right(b); }
///     };
template <class Signature> class ModuleOf;
template <class R, class... A> class ModuleOf<R(A...)> : public ModuleBase {
 public:
  /// Calls `forward`; errors inside name this module's path and the caller's line.
  R operator()(A... arguments) const {
    const Running call(*this, Running::place_of(arguments...));
    R result = forward(std::forward<A>(arguments)...);
    call.finish(result);
    return result;
  }
  virtual R forward(A... arguments) const = 0;
};

/// The usual layer or model: one tensor in, one out. It registers what it owns in its members'
/// initialisers and overrides `forward`; its other members belong to each handle, and are best
/// const. A layer that a `forward` calls though nobody registered it neither trains, nor is saved,
/// nor knows the mode: standard error says so, once:
///
///     struct Net : nn::Module {
///       nn::Linear fc1 = register_module("fc1", nn::Linear(784, 128));
///       nn::Linear fc2 = register_module("fc2", nn::Linear(128, 10));
///       Tensor forward(const In& x) const override { return fc2(relu(fc1(x))); }
///     };
using Module = ModuleOf<Tensor(const In&)>;
extern template class ModuleOf<Tensor(const In&)>;

/// Makes `to`, another instance of the same model, equal to `from`: all parameters and buffers, bit
/// for bit, and the modes. From then on they share nothing. (A copy of a module is another handle
/// on the same one, and C++ cannot make a new instance of a class that it does not know.)
/// ValueError, and nothing changed, if the two are not alike.
void copy_state(ModuleBase& from, ModuleBase& to, At at = At::here());

/// While it lives, `module` and all below it are in evaluation mode; then each has its own mode
/// back.
class EvalGuard : Pinned {
 public:
  explicit EvalGuard(ModuleBase& module);
  ~EvalGuard();

 private:
  std::vector<std::pair<ModuleBase, bool>> modes_;
};

/// What a module call returned; see `Observer`.
struct Call {
  const ModuleBase& module;
  std::string path;
  int depth;
  const std::vector<Tensor>& outputs;  ///< one, as a rule
};

/// While it lives, `seen` is told of every module call on this thread as it returns. Of several,
/// the youngest is told first; they end in the opposite order of their beginnings.
class Observer : Pinned {
 public:
  explicit Observer(std::function<void(const Call&)> seen);
  ~Observer();

 private:
  friend class ModuleBase;
  std::function<void(const Call&)> seen_;
  Observer* before_;
};

}}  // namespace descent::nn
