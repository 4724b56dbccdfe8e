#pragma once
#include "descent/optim/insight/lines.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

struct LedgerOptions {
  std::string parameters = "*";        ///< a pattern of names
  std::vector<int64_t> elements = {};  ///< in row-major order; none: all
  int64_t every = 1;                   ///< steps 1, 1 + every, 1 + 2 every, ...
  /// What the entries may take. The step that would take more is reported, once, and from it on
  /// none is recorded: an element takes some 300 bytes.
  int64_t max_bytes = int64_t{1} << 28;
};

/// What every step did to the parameters, and why:
///
///     optim::Ledger ledger({.parameters = "fc1.*", .every = 10});
///     opt.trace(ledger);
///     ... opt.step(loss) ...
///     ledger.explain("fc1.bias[3]", 11);
class Ledger final : public StepObserver {
 public:
  /// One element of a parameter in one step.
  struct Element {
    int64_t index;        ///< in row-major order
    double raw_gradient;  ///< before it was clipped by the optimizer's own clip_grad_*
    detail::Moment before;
    double theta_after;
    std::vector<double> state_after;
  };
  /// A parameter in one step.
  struct Entry {
    int64_t step;  ///< the optimizer's, from 1
    std::string parameter;
    DType dtype;
    Shape shape;
    double loss;                           ///< NaN if step() was not told
    double theta_norm, gradient_norm;      ///< before the step; the gradient as clipped
    double update_norm, relative_update;   ///< of the change, and divided by theta_norm
    double rate_min, rate_mean, rate_max;  ///< -change / gradient, where the gradient is not 0
    double predicted_decrease;             ///< of the loss, to first order: -gradient·change
    std::vector<char> in_use;              ///< of the rule's state tensors, 0 for those left out
    std::vector<Element> elements;
  };

  /// ValueError unless every >= 1, max_bytes >= 0 and no index is negative.
  explicit Ledger(LedgerOptions options = {}, At at = At::here());
  ~Ledger() override;

  const std::vector<Entry>& entries() const { return entries_; }
  /// loss(step) - loss(step + 1), both as step() was told; NaN if it was not.
  [[nodiscard]] double real_decrease(int64_t step) const;

  /// The rule, line by line, with its names and then with its numbers, for one element:
  /// "fc1.bias[3]", "fc1.weight[2, 5]", or "b" where there is but one. It is the code that ran, run
  /// again; a last line says whether that gave the stored bits. ValueError if it was not recorded.
  [[nodiscard]] std::string explain(std::string_view element, int64_t step,
                                    At at = At::here()) const;
  /// The same as data: the assignments in their order, and whether the stored bits came out.
  [[nodiscard]] std::pair<Lines, bool> replay(const Entry& entry, const Element& element) const;

  /// A line for each parameter in each step.
  [[nodiscard]] std::string text() const;
  /// A row for each element in each step, with a header, as RFC 4180 says; numbers read back the
  /// same bits, and what a rule did not use or nobody knows is nan.
  [[nodiscard]] std::string csv() const;
  /// The same as an object a line, with null for nan, and U+FFFD for bytes of a name that are not
  /// UTF-8.
  [[nodiscard]] std::string json_lines() const;

 private:
  void follow(const OptimizerBase& opt, At at) override;
  void leave() noexcept override { optimizer_.reset(); }
  void before_clip(const OptimizerBase& opt) override;
  void before_step(const OptimizerBase& opt) override;
  void prepared(const OptimizerBase& opt) override;
  void after_step(const OptimizerBase& opt) noexcept override;

  LedgerOptions options_;
  std::weak_ptr<const void> optimizer_;  // that it follows
  const detail::RuleInfo* rule_ = nullptr;
  detail::Replay replay_ = nullptr;
  std::vector<Entry> entries_;
  std::vector<std::pair<int64_t, double>> losses_;  // by step; NaN where step() was not told
  /// A gradient before it was clipped, and of what age it is.
  struct Raw {
    std::string name;
    GradientAge age;
    Tensor gradient;
  };
  [[nodiscard]] bool is_full(const OptimizerBase& opt) const;
  const Raw* raw_of(const std::string& name, GradientAge age) const;
  [[nodiscard]] bool records(const OptimizerBase& opt, const detail::Slot& slot) const;
  [[nodiscard]] int64_t entry_bytes(std::size_t elements) const;
  void open_entry(const OptimizerBase& opt, const detail::Slot& slot);
  template <class F> void for_each_open(const OptimizerBase& opt, F f);

  std::vector<Raw> raw_;
  // Of the running step: what it adds to the entries, and what these parameters and their gradients
  // were before it. After it nothing may fail, so that all it needs is made before.
  std::vector<Entry> open_;
  int64_t bytes_ = 0, open_bytes_ = 0;  // what entries take, and what the step's will
  int64_t full_at_ = 0;                 // the step that found no room; 0: none
  std::vector<Tensor> theta_before_, gradients_;
};

}}  // namespace descent::optim
