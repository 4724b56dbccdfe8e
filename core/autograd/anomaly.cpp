#include "descent/core/autograd/anomaly.hpp"

#include <algorithm>

#include "descent/core/ops/ops.hpp"

namespace [[gnu::visibility("default")]] descent {
namespace {

/// While it lives, nobody watches and nothing is recorded.
struct UnwatchedGuard : NoGradGuard {
  ~UnwatchedGuard() { detail::op_observer = before; }
  detail::OpObserver* const before = std::exchange(detail::op_observer, nullptr);
};

bool is_finite(const Tensor& x) {
  return !x.defined() || !is_floating(x.dtype()) || all(isfinite(x)).item<bool>();
}

/// "inf at [0, 2] of [3, 4]": the first number that is not finite.
std::string first_of(const Tensor& x) {
  const Tensor place = nonzero(logical_not(isfinite(x)));
  const auto index = place.select(0, 0).to_vector<int64_t>();
  Tensor number = x.detach();
  for (const int64_t i : index) number = number.select(0, i);
  return str(number.item()) + " at " + str(index) + " of " + str(x.shape());
}

/// "[3, 4] in [-1, 2.5]".
std::string range_of(const Tensor& x) {
  if (!x.defined()) return "none";
  if (x.numel() == 0 || x.dtype() == boolean) return str(x.shape());
  return str(x.shape()) + " in [" + str(min(x.detach()).item()) + ", " +
         str(max(x.detach()).item()) + "]";
}

}  // namespace

AnomalyGuard::AnomalyGuard() : before_(detail::op_observer) { detail::op_observer = this; }
AnomalyGuard::~AnomalyGuard() { detail::op_observer = before_; }

void AnomalyGuard::after_op(const char* op, const Tensor& value, const std::vector<Tensor>& inputs,
                            At at) {
  if (detail::deriving) return;  // the derivative as a whole is looked at
  const UnwatchedGuard guard;
  const bool given = std::ranges::all_of(inputs, is_finite);
  finite_ = given && is_finite(value);
  if (finite_ || !given) return;
  std::string ranges;
  for (const Tensor& x : inputs) ranges += (ranges.empty() ? "" : ", ") + range_of(x);
  fail<NumericError>(at, "{}: it made {} of finite inputs: {}", op, first_of(value), ranges);
}

void AnomalyGuard::after_record(const detail::Node* node) {
  records_[node] = {finite_, Frame::path().first};
}

void AnomalyGuard::after_derivative(const detail::Node* node, std::size_t i, const Tensor& g,
                                    const Tensor& result) {
  const UnwatchedGuard guard;
  const auto found = records_.find(node);
  const Record record = found == records_.end() ? Record{true, ""} : found->second;
  if (!record.finite || is_finite(result) || !is_finite(g)) return;
  fail<NumericError>(node->at, "{}: its derivative made {} for input {} of a finite gradient {}{}",
                     node->name, first_of(result), static_cast<int64_t>(i), range_of(g),
                     record.path.empty() ? "" : ", in " + record.path);
}

}  // namespace descent
