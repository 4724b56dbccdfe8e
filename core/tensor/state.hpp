#pragma once
#include <functional>

#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent {

/// The second half of a load: it puts a state, all of which has been checked, into place, and
/// never fails. What the state is loaded into must live until then.
using Commit = std::function<void()>;

/// Gives a class `load_state_dict`. The class itself has `prepare_load`, the first half.
template <class T> struct Loadable {
  /// Loads what `state_dict` has returned. ValueError, with nothing changed, if it does not fit:
  /// see `prepare_load`.
  void load_state_dict(NamedTensors state, At at = At::here()) {
    static_cast<T*>(this)->prepare_load(std::move(state), at)();
  }
};

/// How a class saves and loads its state: its `visit` names each part once, and both directions
/// follow from that.
///
///     class Plateau : public Loadable<Plateau> {
///       template <class V> void visit(V& v) { v("epoch", epoch_); v("best", best_); }
///       NamedTensors state_dict() const { return saved_state(*this); }
///       Commit prepare_load(NamedTensors state, At at = At::here()) {
///         return prepare_state(*this, std::move(state), "Plateau", at);
///       }
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
  /// A tensor, which keeps its dtype and shape. If it requires a gradient, a load changes its
  /// elements; otherwise it puts another tensor in its place. If it is int64 [], it is a count.
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
  /// Prepares to put what `state` has into all variables: tensors that nobody else has, and copies
  /// of others. ValueError that names `who` and lists all names that are missing or unexpected, and
  /// all other dtypes and shapes; ValueError also for a count out of range.
  [[nodiscard]] Commit prepare(NamedTensors state, const std::string& who, At at);

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
/// Prepares to load the state of an object with a `visit`, or tensors by their own names: see
/// StateVisitor::prepare.
template <class T>
[[nodiscard]] Commit prepare_state(T& object, NamedTensors state, const std::string& who, At at) {
  StateVisitor v;
  if constexpr (std::is_same_v<T, NamedTensors>) v(object);
  else object.visit(v);
  return v.prepare(std::move(state), who, at);
}

/// A copy of `object` with this state, so that the caller can check it before it changes `object`.
template <class T>
[[nodiscard]] T with_state(T object, NamedTensors state, const std::string& who, At at) {
  prepare_state(object, std::move(state), who, at)();
  return object;
}

}  // namespace descent
