#pragma once
/// @file
/// Finds the operation that makes the first number that is not finite.

#include <unordered_map>

#include "descent/core/graph/graph.hpp"

namespace [[gnu::visibility("default")]] descent {

/// While it lives, an op of this thread whose inputs are all finite and whose value is not throws a
/// NumericError, and so does a derivative of such an op that makes a gradient that is not finite of
/// one that is. The error names the op, the first such number and the ranges of the inputs, and
/// the line and the module where the op was called.
///
/// Ops that only pass on what is not finite are not named, nor are -inf and inf that a program
/// writes itself, as in masks. Values of changes in place and of ops without a derivative are not
/// looked at. It reads every value once more; without a guard it costs nothing. Guards nest: the
/// innermost one works.
///
///     AnomalyGuard guard;
///     loss(net(x), y).backward();
class AnomalyGuard : detail::OpObserver {
 public:
  AnomalyGuard();
  ~AnomalyGuard() override;

 private:
  void after_op(const char* op, const Tensor& value, const std::vector<Tensor>& inputs,
                At at) override;
  void after_record(const detail::Node* node) override;
  void after_derivative(const detail::Node* node, std::size_t i, const Tensor& g,
                        const Tensor& result) override;

  detail::OpObserver* before_;
  bool finite_ = true;  // whether the last op had finite inputs and a finite value
  struct Record {
    bool finite;
    std::string path;  // of the modules that recorded
  };
  std::unordered_map<const detail::Node*, Record> records_;
};

}  // namespace descent
