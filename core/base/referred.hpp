#pragma once
/// @file
/// References to objects that may be destroyed before them.

#include <memory>
#include <string>

#include "descent/core/base/error.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Base of classes whose objects others refer to without owning them.
struct Referred : Pinned {
  /// Expires with this object. It owns nothing of the object, so keep only weak copies of it.
  const std::shared_ptr<const void> life{this, [](const void*) {}};
};

/// A pointer to a Referred object; null when the object has been destroyed.
template <class T> class Weak {
 public:
  Weak() = default;
  /// Points to `object`, which may be null.
  explicit Weak(T* object) : object_(object) {
    if (object) life_ = object->life;
  }
  /// The object; null if it has been destroyed.
  T* get() const { return life_.expired() ? nullptr : object_; }

 private:
  T* object_ = nullptr;
  std::weak_ptr<const void> life_;
};

/// A reference to a Referred object. To use it after the object has been destroyed is a ValueError
/// with the text `gone`.
template <class T> class Reference {
 public:
  /// Refers to `object`; `gone` is what the error says when the object has been destroyed.
  Reference(T& object, std::string gone) : object_(&object), gone_(std::move(gone)) {}
  /// The object. ValueError if it has been destroyed.
  T& get(At at = At::unknown()) const {
    if (T* object = object_.get()) return *object;
    fail<ValueError>(at, "{}", gone_);
  }

 private:
  Weak<T> object_;
  std::string gone_;
};

}  // namespace descent
