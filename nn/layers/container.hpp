#pragma once
/// @file
/// Modules that hold others, or change only the shape.

#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// Joins the axes from `start` to `end` into one: by default [N, C, H, W] becomes [N, C H W].
class Flatten : public Module {
 public:
  /// Keeps the axes; `forward` checks them.
  explicit Flatten(int64_t start_ = 1, int64_t end_ = -1) : start(start_), end(end_) {}
  /// A view of x where its strides allow it, or a copy. IndexError unless x has both axes and
  /// start <= end.
  Tensor forward(const In& x) const override;
  /// The first and the last of the axes; negative ones count from the back.
  const int64_t start, end;
};

/// Divides axis `dim` into axes of these sizes, of which one may be -1.
class Unflatten : public Module {
 public:
  /// Keeps the arguments; `forward` checks them.
  Unflatten(int64_t dim_, const Shape& sizes_) : dim(dim_), sizes(sizes_) {}
  /// A view of x where its strides allow it, or a copy. IndexError unless x has the axis,
  /// ShapeError unless the sizes multiply to its size.
  Tensor forward(const In& x) const override;
  const int64_t dim;  ///< the axis; a negative one counts from the back
  const Shape sizes;  ///< what it becomes
};

/// Returns its input: it stands where another layer could.
class Identity : public Module {
 public:
  /// x itself.
  Tensor forward(const In& x) const override { return x; }
};

/// Applies modules, functions and lambdas one after the other. Its children are named "0", "1", ...
///
///     nn::Sequential net{nn::Linear(784, 128), relu, nn::Linear(128, 10)};
class Sequential : public Module {
 public:
  /// One step: any module, or a function from a tensor to a tensor.
  class Step {
   public:
    /// The module itself: the step is another handle on it.
    template <class M>
    requires std::is_base_of_v<Module, M> Step(const M& module)
        : module_(std::make_shared<M>(module)) {}
    template <class M>
    requires(std::is_base_of_v<ModuleBase, M> && !std::is_base_of_v<Module, M>)
        Step(const M& module)
    __attribute__((unavailable("a step takes one tensor and returns one")));
    Step(const Module&) = delete;  // a copy of the base would lose the layer's own forward
    /// A function, lambda or other object that is called with one tensor and returns one.
    Step(Tensor (*f)(const In&)) : Step(std::function<Tensor(const In&)>(f)) {}
    template <class F>
    requires(!std::is_base_of_v<Module, F> && std::is_invocable_r_v<Tensor, const F&, const In&>)
        Step(F f)
        : Step(std::function<Tensor(const In&)>(std::move(f))) {}
    Step(std::function<Tensor(const In&)> f);

   private:
    friend class Sequential;
    std::shared_ptr<Module> module_;
  };

  /// Without steps it returns its input.
  Sequential() = default;
  /// These steps, in this order. Sequential{s} is another handle on s if s is a Sequential.
  Sequential(std::initializer_list<Step> steps, At at = At::here());
  /// One step, of a class derived from Sequential. Without this constructor, some compilers would
  /// copy the base class of `step` instead.
  template <class M>
  requires(std::is_base_of_v<Sequential, M> &&
           !std::is_same_v<Sequential, M>) explicit Sequential(const M& step, At at = At::here()) {
    push_back(step, at);
  }
  /// Appends a step, and returns this module.
  Sequential& push_back(Step step, At at = At::here());
  /// What the last step returns; x itself if there are no steps.
  Tensor forward(const In& x) const override;
  /// The number of steps.
  std::size_t size() const { return steps_->size(); }

 private:
  using Steps = std::vector<std::shared_ptr<Module>>;
  static std::shared_ptr<Steps> no_steps();  // defined elsewhere: it is costly to compile
  std::shared_ptr<Steps> steps_ = no_steps();
};

/// Modules of one class, which the model calls as it likes. Its children are named "0", "1", ...
///
///     nn::ModuleList<Block> blocks = register_module("blocks", nn::ModuleList<Block>());
template <class M> class ModuleList : public ModuleBase {
 public:
  ModuleList() = default;
  /// A list of these modules, in this order.
  explicit ModuleList(const std::vector<M>& modules, At at = At::here()) {
    for (const M& module : modules) push_back(module, at);
  }
  /// Appends a module: the list holds another handle on it.
  void push_back(const M& module, At at = At::here()) {
    modules_->push_back(register_module(std::to_string(size()), module, at));
  }
  /// The number of modules.
  std::size_t size() const { return modules_->size(); }
  /// A handle on module i; errors name it by its place in the list. IndexError if there is none.
  M operator[](std::size_t i) const {
    if (i >= size())
      fail<IndexError>(At::here(), "ModuleList: module {}: need at least 0 and below {}", i,
                       size());
    M module = (*modules_)[i];
    name_in(module, *this, i);
    return module;
  }
  /// Goes through the modules in their order, for `for (const auto& block : blocks)`.
  class Iterator {
   public:
    /// What a range-based `for` needs.
    Iterator(const ModuleList& list, std::size_t i) : list_(list), i_(i) {}
    M operator*() const { return list_[i_]; }
    Iterator& operator++() { return ++i_, *this; }
    bool operator!=(const Iterator& other) const { return i_ != other.i_; }

   private:
    const ModuleList& list_;
    std::size_t i_;
  };
  /// Where such a loop begins and ends.
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, size()}; }

 private:
  std::shared_ptr<std::vector<M>> modules_ = std::make_shared<std::vector<M>>();
};

}}  // namespace descent::nn
