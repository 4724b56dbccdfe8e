#pragma once
#include "descent/core/ops/conv.hpp"
#include "descent/core/ops/pooling.hpp"
#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

struct LinearOptions {
  bool bias = true;
};
/// y = x weight^T + bias: x [.., in], y [.., out]; `weight` [out, in] and `bias` [out] start
/// uniform in +-1/sqrt(in), as in PyTorch. ShapeError naming this layer if x's last size is not in.
class Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, LinearOptions options = {}, At at = At::here());
  Tensor forward(const In& x) const override;
  const Tensor weight;
  const Tensor bias;  ///< undefined without one
};

using descent::Conv2dOptions;
/// Images [N, in, H, W] or [in, H, W] to [.., out, OH, OW]; see `conv2d`. `weight`
/// [out, in / groups, KH, KW] and `bias` [out] start uniform in +-1/sqrt(in / groups KH KW), as in
/// PyTorch. ValueError if the groups do not divide the channels, or anything is out of range.
class Conv2d : public Module {
 public:
  Conv2d(int64_t in, int64_t out, Size2d kernel, const Conv2dOptions& options = {},
         At at = At::here());
  Tensor forward(const In& x) const override;
  const Conv2dOptions options;
  const Tensor weight;
  const Tensor bias;  ///< undefined without one
};

/// In training, zeroes each element with probability p, NaN and infinities too, and scales the
/// others by 1 / (1 - p); otherwise does nothing. Draws from the default generator. Srivastava et
/// al. 2014, section 4.
class Dropout : public Module {
 public:
  /// p in [0, 1], or ValueError.
  explicit Dropout(double p = 0.5, At at = At::here());
  Tensor forward(const In& x) const override;
  const double p;
};

/// The same for whole channels of x, [N, C, H, W] or [C, H, W] (ShapeError). Tompson et al. 2015,
/// section 3.2.
class Dropout2d : public Module {
 public:
  explicit Dropout2d(double p = 0.5, At at = At::here());
  Tensor forward(const In& x) const override;
  const double p;
};

/// The largest pixel in each window; see `max_pool2d`.
class MaxPool2d : public Module {
 public:
  explicit MaxPool2d(Size2d kernel_, const MaxPool2dOptions& options_ = {})
      : kernel(kernel_), options(options_) {}
  Tensor forward(const In& x) const override;
  const Size2d kernel;
  const MaxPool2dOptions options;
};

/// The mean of the pixels in each window; see `avg_pool2d`.
class AvgPool2d : public Module {
 public:
  explicit AvgPool2d(Size2d kernel_, const AvgPool2dOptions& options_ = {})
      : kernel(kernel_), options(options_) {}
  Tensor forward(const In& x) const override;
  const Size2d kernel;
  const AvgPool2dOptions options;
};

/// Axes start..end become one: [N, C, H, W] -> [N, C H W] by default. See `flatten`.
class Flatten : public Module {
 public:
  explicit Flatten(int64_t start_ = 1, int64_t end_ = -1) : start(start_), end(end_) {}
  Tensor forward(const In& x) const override;
  const int64_t start, end;
};

/// Modules, functions and lambdas applied one after the other; children are named "0", "1", ...
///
///     nn::Sequential net{nn::Linear(784, 128), relu, nn::Linear(128, 10)};
class Sequential : public Module {
 public:
  /// One step: any module, or a function from a tensor to a tensor.
  class Step {
   public:
    template <class M>
    requires std::is_base_of_v<Module, M> Step(const M& module)
        : module_(std::make_shared<M>(module)) {}
    template <class M>
    requires(std::is_base_of_v<ModuleBase, M> && !std::is_base_of_v<Module, M>)
        Step(const M& module)
    __attribute__((unavailable("a step takes one tensor and returns one")));
    Step(const Module&) = delete;  // a copy of the base would lose the layer's own forward
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

  Sequential() = default;
  Sequential(std::initializer_list<Step> steps, At at = At::here());
  /// A class of its own in Sequential{s} is one step: where a compiler would copy its base, say so.
  template <class M>
  requires(std::is_base_of_v<Sequential, M> &&
           !std::is_same_v<Sequential, M>) explicit Sequential(const M& step, At at = At::here()) {
    push_back(step, at);
  }
  Sequential& push_back(Step step, At at = At::here());
  Tensor forward(const In& x) const override;
  std::size_t size() const { return steps_->size(); }

 private:
  using Steps = std::vector<std::shared_ptr<Module>>;
  static std::shared_ptr<Steps> no_steps();  // not here: costly to compile
  std::shared_ptr<Steps> steps_ = no_steps();
};

/// Modules of one class, to be called as the model likes; children are named "0", "1", ...
///
///     nn::ModuleList<Block> blocks = register_module("blocks", nn::ModuleList<Block>());
template <class M> class ModuleList : public ModuleBase {
 public:
  ModuleList() = default;
  explicit ModuleList(const std::vector<M>& modules, At at = At::here()) {
    for (const M& module : modules) push_back(module, at);
  }
  void push_back(const M& module, At at = At::here()) {
    modules_->push_back(register_module(std::to_string(size()), module, at));
  }
  std::size_t size() const { return modules_->size(); }
  /// A handle on module i, which errors call by its place in the list. IndexError if there is none.
  M operator[](std::size_t i) const {
    if (i >= size()) fail<IndexError>(At::here(), "ModuleList: module {} of {}", i, size());
    M module = (*modules_)[i];
    name_in(module, *this, i);
    return module;
  }
  class Iterator {
   public:
    Iterator(const ModuleList& list, std::size_t i) : list_(list), i_(i) {}
    M operator*() const { return list_[i_]; }
    Iterator& operator++() { return ++i_, *this; }
    bool operator!=(const Iterator& other) const { return i_ != other.i_; }

   private:
    const ModuleList& list_;
    std::size_t i_;
  };
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, size()}; }

 private:
  std::shared_ptr<std::vector<M>> modules_ = std::make_shared<std::vector<M>>();
};

}}  // namespace descent::nn
