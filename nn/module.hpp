#pragma once
/// @file
/// Modules: how a model owns, names, saves and calls its layers.

#include <memory>
#include <tuple>

#include "descent/core/tensor/state.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// What `load_state_dict` accepts.
struct LoadOptions {
  /// Whether the names, shapes and dtypes of the state must all be those of the module.
  bool strict = true;
};

/// The base of all layers and models: a handle on shared state (parameters, buffers, children, the
/// training mode). A copy is another handle on the same state. A module cannot be assigned, because
/// its parent would keep the old one. To change a weight, change it in place. `Module` and
/// `ModuleOf` add the call.
class ModuleBase {
 public:
  /// A new module, in training mode.
  ModuleBase();
  virtual ~ModuleBase() = default;
  /// Another handle on the same module.
  ModuleBase(const ModuleBase&) = default;
  ModuleBase& operator=(const ModuleBase&) = delete;  // the parent would keep the old one

  /// The parameters with dotted names, such as "fc1.weight": this module's own first, then those of
  /// its children. A tensor that is registered twice (tied weights) appears once, under its first
  /// name. A `prefix` and a dot go in front of each name, so that one optimizer can train several
  /// modules: see `join`.
  [[nodiscard]] NamedTensors named_parameters(const std::string& prefix = "") const;
  /// The same tensors without names.
  [[nodiscard]] std::vector<Tensor> parameters() const;
  /// The tensors that are saved but not trained, with dotted names.
  [[nodiscard]] NamedTensors named_buffers() const;
  /// This module, called "", and all modules below it with dotted names. Each appears once, under
  /// its first name, in front of its children. The pointers are valid while this handle lives.
  std::vector<std::pair<std::string, ModuleBase*>> named_modules();
  /// The parameter called `name`, such as "fc1.weight". ValueError if there is none.
  [[nodiscard]] Tensor get_parameter(std::string_view name, At at = At::here()) const;
  /// The module called `name`, such as "fc1"; "" is this one. ValueError if there is none.
  ModuleBase& get_submodule(std::string_view name, At at = At::here());

  /// Copies of all parameters and buffers, under every name that they have, without their graph.
  [[nodiscard]] NamedTensors state_dict() const;
  /// Copies `state` into the parameters and buffers of the same names. One ValueError lists all
  /// differences: names that are missing or unexpected, other shapes and dtypes. Nothing is changed
  /// then. If not `strict`, what does not fit stays as it was, and its names are returned: a model
  /// with another head takes the weights of all else.
  IncompatibleKeys load_state_dict(const NamedTensors& state, const LoadOptions& options = {},
                                   At at = At::here());
  /// The half of `load_state_dict` that may fail: what it returns carries the load out. It is
  /// strict if `left_out` is null; otherwise that gets the names.
  [[nodiscard]] Commit prepare_load(const NamedTensors& state, IncompatibleKeys* left_out = nullptr,
                                    At at = At::here());

  /// Calls f once for every module below this one, children before their parent, and then for this
  /// one.
  void apply(const std::function<void(ModuleBase&)>& f);
  /// Puts this module and all below it into training mode, or with `on` = false into evaluation
  /// mode. `Dropout` acts in training mode only.
  void train(bool on = true);
  /// Puts this module and all below it into evaluation mode.
  void eval() { train(false); }
  /// Whether this module is in training mode.
  [[nodiscard]] bool training() const;
  /// Parameters whose names match `pattern` (see `matches`) no longer require a gradient, and
  /// forget the one that they have. ValueError if no name matches.
  void freeze(std::string_view pattern = "*", At at = At::here());
  /// Parameters whose names match `pattern` require a gradient again. ValueError if no name
  /// matches.
  void unfreeze(std::string_view pattern = "*", At at = At::here());
  /// Converts parameters and floating buffers to `dtype` in place; what is converted forgets its
  /// gradient. DtypeError unless `dtype` is floating.
  void to(DType dtype, At at = At::here());
  /// Forgets the gradients of all parameters.
  void zero_grad() const;
  /// The name of the class, without namespaces and template arguments.
  [[nodiscard]] std::string type() const;

 protected:
  /// Registers `module` as a child called `name` and returns a handle on it, for a member's
  /// initialiser. The child and the returned member are two handles on one module. ValueError if
  /// the name is empty, has a dot or is taken, or if this module is part of `module`.
  template <class M>
  M register_module(const std::string& name, const M& module, At at = At::here()) {
    auto child = std::make_shared<M>(module);
    add_child(name, child, at);
    return *child;
  }
  /// Registers `value` as a parameter called `name` and returns it: a leaf that shares the elements
  /// of `value` and requires a gradient. If `value` is such a leaf, it is itself the parameter, so
  /// that weights can be tied. ValueError if the name is empty, has a dot or is taken, or if
  /// `value` is undefined; DtypeError unless it is floating.
  Tensor register_parameter(const std::string& name, Tensor value, At at = At::here());
  /// Registers `value` as a buffer called `name`, which is saved but not trained, and returns the
  /// buffer: it shares the elements of `value`, but has no graph. ValueError as for
  /// register_parameter.
  Tensor register_buffer(const std::string& name, Tensor value, At at = At::here());
  /// Registers `child`, which this module owns from then on. Errors as for register_module.
  void add_child(const std::string& name, std::shared_ptr<ModuleBase> child, At at);
  /// Names the handle `module` by its index i in `list`, for errors.
  static void name_in(ModuleBase& module, const ModuleBase& list, std::size_t i);
  /// Makes this a handle on the state of `other`.
  void alias(const ModuleBase& other) { state_ = other.state_; }

  struct State;
  /// One call of a module. While this object lives, errors on this thread name the module's path
  /// and `at`, the line of the caller.
  class Running : Pinned {
   public:
    /// Begins a call.
    Running(const ModuleBase& module, At at);
    ~Running();
    /// The line of the caller, which the first tensor among the arguments knows.
    template <class... T> static At place_of(const T&... arguments) {
      At place = At::unknown();
      [[maybe_unused]] auto look = [&place]<class A>(const A& argument) {
        if constexpr (std::is_same_v<const A, In>)
          if (!place.file()) place = argument.at;
      };
      (look(arguments), ...);
      return place;
    }
    /// Ends a call that returned `result`: reports a module that nobody registered, and tells the
    /// observers.
    template <class R> void finish(const R& result) const {
      check_owner();
      if (!observed()) return;
      std::vector<Tensor> outputs;
      collect(result, outputs);
      tell(outputs);
    }

   private:
    friend class ModuleBase;
    /// Appends the tensors in `result` to `all`: a tensor, or those of a pair, a tuple or a list.
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
    Running* const outer_;    // the call inside which this one runs
    bool asks_mode_ = false;  // whether `training()` was called in it
    static constinit thread_local Running* innermost_;
  };

 private:
  friend class EvalGuard;
  friend void copy_state(ModuleBase& from, ModuleBase& to, At at);
  using Visit = std::function<void(const std::string& prefix, const State& state)>;
  void visit_all(const std::string& prefix, const Visit& f) const;
  template <class M, class F> static void visit_each(M& module, F f);
  void check_tensor(const char* op, const std::string& name, const Tensor& value, At at) const;
  bool owns(const State* state) const;
  /// The tensors in `list` of this module and of all below it, each once, under its first name.
  NamedTensors distinct(NamedTensors State::*list) const;
  /// All parameters and buffers, not copies of them, under every name that they have.
  NamedTensors handles() const;
  void set_frozen(bool frozen, const char* op, std::string_view pattern, At at);
  std::shared_ptr<State> state_;
  std::string name_;  // the one under which the parent registered this handle
  // The caller for which check_owner last found this module registered, to search only once.
  mutable const State* owner_ = nullptr;
};

/// A module that is called with any signature: it overrides the `forward` of that signature. It
/// takes tensors as `const In&`, and returns several in a std::tuple or a std::vector:
///
///     struct Gate : nn::ModuleOf<Tensor(const In& a, const In& b)> {
///       nn::Linear left = register_module("left", nn::Linear(8, 4));
///       nn::Linear right = register_module("right", nn::Linear(8, 4));
///       Tensor forward(const In& a, const In& b) const override { return left(a) * right(b); }
///     };
template <class Signature> class ModuleOf;
/// ModuleOf for a signature, taken apart into the result R and the arguments A.
template <class R, class... A> class ModuleOf<R(A...)> : public ModuleBase {
 public:
  /// Calls `forward`. Errors inside it name this module's path and the caller's line.
  R operator()(A... arguments) const {
    const Running call(*this, Running::place_of(arguments...));
    R result = forward(std::forward<A>(arguments)...);
    call.finish(result);
    return result;
  }
  /// What the module computes. A model defines it, and calls its layers by operator().
  virtual R forward(A... arguments) const = 0;
};

/// The usual layer or model: it takes one tensor and returns one. It registers what it owns in its
/// members' initialisers and overrides `forward`. All other members belong to a single handle:
/// copies do not share them, so they should be const:
///
///     struct Net : nn::Module {
///       nn::Linear fc1 = register_module("fc1", nn::Linear(784, 128));
///       nn::Linear fc2 = register_module("fc2", nn::Linear(128, 10));
///       Tensor forward(const In& x) const override { return fc2(relu(fc1(x))); }
///     };
///
/// A layer that a `forward` calls but nobody registered is not trained, not saved, and does not
/// follow train() and eval(). Standard error reports it, once for each class of such layers in a
/// module.
using Module = ModuleOf<Tensor(const In&)>;
extern template class ModuleOf<Tensor(const In&)>;

/// Makes `to`, another instance of the same model, equal to `from`: copies all parameters and
/// buffers, bit for bit, and the modes. (A copy of a module is another handle on the same one, and
/// C++ cannot make a new instance of a class that it does not know.) ValueError, and nothing is
/// changed, if the two differ in the names of their modules, or in the names, shapes or dtypes of
/// their parameters and buffers.
void copy_state(ModuleBase& from, ModuleBase& to, At at = At::here());

/// While it lives, `module` and all below it are in evaluation mode. At its end each gets back the
/// mode that it had before.
class EvalGuard : Pinned {
 public:
  /// Puts `module` and all below it into evaluation mode.
  explicit EvalGuard(ModuleBase& module);
  ~EvalGuard();

 private:
  std::vector<std::pair<ModuleBase, bool>> modes_;
};

/// A module call that has returned; see `Observer`.
struct Call {
  const ModuleBase& module;            ///< the module that was called
  std::string path;                    ///< its name with those around it, "encoder.fc1"
  int depth;                           ///< how many modules `path` names
  const std::vector<Tensor>& outputs;  ///< what it returned, usually one tensor
};

/// While it lives, it calls `seen` for every module call on this thread that returns. Of several
/// observers, the newest is told first. They must be destroyed in the reverse order of their
/// construction.
class Observer : Pinned {
 public:
  /// Observes from now on.
  explicit Observer(std::function<void(const Call&)> seen);
  ~Observer();

 private:
  friend class ModuleBase;
  std::function<void(const Call&)> seen_;
  Observer* before_;
};

}}  // namespace descent::nn
