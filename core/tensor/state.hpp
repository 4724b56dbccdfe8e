#pragma once
#include <functional>

#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent {

/// How a class saves and loads its state: its `visit` names each part once, and both directions
/// follow from that.
///
///     template <class V> void visit(V& v) { v("epoch", epoch_); v("best", best_); }
///     NamedTensors state_dict() const { return saved_state(*this); }
///     void load_state_dict(const NamedTensors& state, At at = At::here()) {
///       load_state(*this, state, "Plateau", at);
///     }
///
/// A StateVisitor is a list of names, each with a variable of the object. The variables must live
/// as long as the visitor is used.
class StateVisitor {
 public:
  /// A count, saved as int64 []. It is from 0 to 2^53, because formulas take it as a double, which
  /// holds no larger integers exactly.
  void operator()(std::string name, int64_t& count);
  /// 64 bits of any meaning, saved as int64 [].
  void operator()(std::string name, uint64_t& bits);
  /// A number, saved as float64 [].
  void operator()(std::string name, double& x);
  /// A flag, saved as bool [].
  void operator()(std::string name, bool& flag);
  /// A tensor, which keeps its dtype and shape. If it is int64 [], it is a count.
  void operator()(std::string name, Tensor& tensor) { (*this)(std::move(name), tensor, tensor); }
  /// A tensor with the dtype and shape of `like`. If it is undefined, `like` is saved in its place.
  void operator()(std::string name, Tensor& tensor, const Tensor& like);
  /// All these tensors, by their own names.
  void operator()(NamedTensors& tensors);
  /// A tensor that may be undefined: then the state does not have it. Otherwise it has the dtype
  /// and shape of `like`, or any if `like` is undefined.
  void optional(std::string name, Tensor& tensor, const Tensor& like);

  /// Numbers that must be the same when the state is loaded, such as a shape; otherwise a
  /// ValueError says that `what` differs. Saved as int64 [n].
  void same(std::string name, std::vector<int64_t> numbers, std::string what);

  /// Copies of all parts that are defined.
  [[nodiscard]] NamedTensors state_dict() const;
  /// Puts copies of what `state` has into all variables. ValueError that names `who` and lists all
  /// names that are missing or unexpected, and all other dtypes and shapes; ValueError also for a
  /// count out of range. After an error nothing has changed.
  void load(const NamedTensors& state, const std::string& who, At at) const;

 private:
  template <class T> void number(std::string name, T& place);

  struct Entry {
    std::string name;
    Tensor now, like;
    bool always;
    std::function<void(const Tensor&)> put;
    std::function<void(const Tensor&, At)> check = nullptr;  // before anything is put
  };
  std::vector<Entry> entries_;
};

/// The state_dict of an object with a `visit`.
template <class T> NamedTensors saved_state(const T& object) {
  StateVisitor v;
  const_cast<T&>(object).visit(v);  // it only names the parts: nothing changes
  return v.state_dict();
}
/// Loads the state of an object with a `visit`: see StateVisitor::load.
template <class T>
void load_state(T& object, const NamedTensors& state, const std::string& who, At at) {
  StateVisitor v;
  object.visit(v);
  v.load(state, who, at);
}

/// Loads tensors by their own names: see StateVisitor::load.
inline void load_state(NamedTensors& tensors, const NamedTensors& state, const std::string& who,
                       At at) {
  StateVisitor v;
  v(tensors);
  v.load(state, who, at);
}

/// A copy of `object` with this state, so that the caller can check it before it changes `object`.
template <class T>
[[nodiscard]] T with_state(T object, const NamedTensors& state, const std::string& who, At at) {
  load_state(object, state, who, at);
  return object;
}

}  // namespace descent
