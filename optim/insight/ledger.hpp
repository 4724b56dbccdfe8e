#pragma once
/// @file
/// A record of what each step of an optimizer did.
#include "descent/optim/insight/lines.hpp"
#include "descent/optim/optimizer.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

/// What a ledger records.
struct LedgerOptions {
  std::string parameters = "*";        ///< a pattern of the names of parameters
  std::vector<int64_t> elements = {};  ///< positions in row-major order; an empty list means all
  int64_t every = 1;                   ///< record the steps 1, 1 + every, 1 + 2 every, ...
  /// How many bytes the entries may take; an element takes some 300. The first step that would need
  /// more is reported, and neither it nor any later step is recorded.
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
    int64_t index;                    ///< in row-major order
    double raw_gradient;              ///< before the optimizer's own clip_grad_* has clipped it
    detail::Moment before;            ///< what the rule's formula received
    double theta_after;               ///< the parameter after the step
    std::vector<double> state_after;  ///< the state after the step
  };
  /// A parameter in one step.
  struct Entry {
    int64_t step;           ///< the optimizer's, from 1
    std::string parameter;  ///< its name
    DType dtype;            ///< its dtype
    Shape shape;            ///< its shape
    double loss;            ///< what step() was told; NaN if nothing
    /// - theta_norm: the norm of the parameter before the step
    /// - gradient_norm: the norm of the gradient, after clipping
    /// - update_norm: the norm of the change
    /// - relative_update: update_norm / theta_norm
    /// - rate_min, rate_mean, rate_max: -change / gradient over all elements whose gradient is not
    /// 0
    double theta_norm, gradient_norm;
    double update_norm, relative_update;
    double rate_min, rate_mean, rate_max;
    double predicted_decrease;      ///< of the loss, to first order: -gradient·change
    std::vector<char> in_use;       ///< for each state tensor of the rule: 0 if it is not used
    std::vector<Element> elements;  ///< those that were recorded
  };

  /// ValueError unless every >= 1, max_bytes >= 0 and no index is negative.
  explicit Ledger(LedgerOptions options = {}, At at = At::here());

  /// All entries, in the order of the steps.
  const std::vector<Entry>& entries() const { return entries_; }
  /// loss(step) - loss(step + 1), as step() was told them; NaN if one is missing.
  [[nodiscard]] double real_decrease(int64_t step) const;

  /// The rule for one element, line by line, with names and then with numbers. An element is
  /// "fc1.bias[3]", "fc1.weight[2, 5]", or "b" if the parameter has only one. The code that ran in
  /// the step runs again; the last line says whether it gave the stored bits. ValueError if the
  /// element was not recorded, IndexError if there is none.
  [[nodiscard]] std::string explain(std::string_view element, int64_t step,
                                    At at = At::here()) const;
  /// The same as data: the assignments in their order, and whether they gave the stored bits.
  [[nodiscard]] std::pair<Lines, bool> replay(const Entry& entry, const Element& element) const;

  /// A table as text, with a line for each parameter in each step.
  [[nodiscard]] std::string text() const;
  /// A table as RFC 4180 defines CSV, with a header and a row for each element in each step.
  /// Numbers read back with the same bits; what the rule did not use, or is not known, is nan.
  [[nodiscard]] std::string csv() const;
  /// The same with a JSON object on each line; null stands for nan, and U+FFFD for bytes of a name
  /// that are not UTF-8.
  [[nodiscard]] std::string json_lines() const;

 private:
  void follow(const OptimizerBase& opt, At at) override;
  void leave() noexcept override { optimizer_.reset(); }
  void before_clip(const OptimizerBase& opt) override;
  void before_step(const OptimizerBase& opt) override;
  void after_prepare(const OptimizerBase& opt) override;
  void after_step(const OptimizerBase& opt) noexcept override;

  LedgerOptions options_;
  std::weak_ptr<const void> optimizer_;  // the one that it follows
  const detail::RuleInfo* rule_ = nullptr;
  detail::Replay replay_ = nullptr;
  std::vector<Entry> entries_;
  std::vector<std::pair<int64_t, double>> losses_;  // by step; NaN if step() was not told
  /// A gradient before it was clipped, and its age.
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
  // For the running step: the entries that it will add, and their parameters and gradients before
  // it. Nothing may fail after the step, so everything that is needed then is allocated before it.
  std::vector<Entry> open_;
  int64_t bytes_ = 0, open_bytes_ = 0;  // of the entries, and of those in open_
  int64_t full_at_ = 0;                 // the first step without room; 0: none
  std::vector<Tensor> theta_before_, gradients_;
};

}}  // namespace descent::optim
