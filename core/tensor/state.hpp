#pragma once
#include <functional>

#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent {

/// How a class saves what it remembers: it names each part once, and both ways follow from that.
///
///     template <class V> void visit(V& v) { v("epoch", epoch_); v("best", best_); }
///     NamedTensors state_dict() const { return saved_state(*this); }
///     void load_state_dict(const NamedTensors& state, At at = At::here()) {
///       load_state(*this, state, "Plateau", at);
///     }
///
/// This is the visitor: a list of names, each with a place that lives as long as the list is used.
class StateVisitor {
 public:
  /// A count, from 0 to 2^53, which formulas take as a double: int64 [].
  void operator()(std::string name, int64_t& count);
  /// 64 bits, whatever they are: int64 [].
  void operator()(std::string name, uint64_t& bits);
  /// float64 [].
  void operator()(std::string name, double& x);
  /// bool [].
  void operator()(std::string name, bool& flag);
  /// Of the dtype and shape that it has; int64 [] is a count.
  void operator()(std::string name, Tensor& tensor) { (*this)(std::move(name), tensor, tensor); }
  /// Of those of `like`, which it counts as where it is undefined.
  void operator()(std::string name, Tensor& tensor, const Tensor& like);
  /// All of these, by their own names.
  void operator()(NamedTensors& tensors);
  /// One that is undefined where the state has none; else with the dtype and shape of `like`, or if
  /// that is undefined with any.
  void optional(std::string name, Tensor& tensor, const Tensor& like);

  /// What has to be the same where it is loaded, for it is `what`'s shape, say: int64 [n]; or else
  /// a ValueError.
  void same(std::string name, std::vector<int64_t> numbers, std::string what);

  /// Copies of all that is there.
  [[nodiscard]] NamedTensors state_dict() const;
  /// Puts copies of what `state` has in all places. ValueError, as `who`, that lists all names that
  /// are missing or unexpected, and other dtypes or shapes; or for a count out of range. Then
  /// nothing has changed.
  void load(const NamedTensors& state, const std::string& who, At at) const;

 private:
  template <class T> void number(std::string name, T& place);

  struct Entry {
    std::string name;
    Tensor now, like;
    bool always;
    std::function<void(const Tensor&)> put;
    std::function<void(const Tensor&, At)> check = nullptr;  // before any is put
  };
  std::vector<Entry> entries_;
};

/// The state_dict of an object with a `visit`.
template <class T> NamedTensors saved_state(const T& object) {
  StateVisitor v;
  const_cast<T&>(object).visit(v);  // which names what there is, and changes nothing
  return v.state_dict();
}
/// Loads the state of an object with a `visit`: see StateVisitor::load.
template <class T>
void load_state(T& object, const NamedTensors& state, const std::string& who, At at) {
  StateVisitor v;
  object.visit(v);
  v.load(state, who, at);
}

/// The same for tensors, by their own names.
inline void load_state(NamedTensors& tensors, const NamedTensors& state, const std::string& who,
                       At at) {
  StateVisitor v;
  v(tensors);
  v.load(state, who, at);
}

/// A copy of `object` with this state: where it has to be checked further before it counts.
template <class T>
[[nodiscard]] T with_state(T object, const NamedTensors& state, const std::string& who, At at) {
  load_state(object, state, who, at);
  return object;
}

}  // namespace descent
