#pragma once
/// @file
/// References to objects that may go first.

#include <memory>
#include <string>

#include "descent/core/base/error.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Base of what others refer to without owning it: weak copies of `self` end with it.
template <class T> struct Referred : Pinned {
  /// It owns nothing: keep weak copies of it only.
  const std::shared_ptr<T> self{static_cast<T*>(this), [](T*) {}};
};

/// A reference to a Referred. To use it when that has gone is a ValueError with the text `gone`.
template <class T> class Reference {
 public:
  /// To `object`; `gone` is what an error says when that has ended.
  Reference(T& object, std::string gone) : object_(object.self), gone_(std::move(gone)) {}
  /// The object.
  T& get(At at = At::unknown()) const {
    T* object = object_.lock().get();
    if (!object) fail<ValueError>(at, "{}", gone_);
    return *object;
  }

 private:
  std::weak_ptr<T> object_;
  std::string gone_;
};

}  // namespace descent
