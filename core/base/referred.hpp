#pragma once
/// @file
/// References to objects that may go first.

#include <memory>
#include <string>

#include "descent/core/base/error.hpp"

namespace [[gnu::visibility("default")]] descent {

/// Base of what others refer to without owning it.
struct Referred : Pinned {
  /// Ends with this object, of which it owns nothing: keep weak copies of it only.
  const std::shared_ptr<const void> life{this, [](const void*) {}};
};

/// A pointer to a Referred that is null when that has gone.
template <class T> class Weak {
 public:
  Weak() = default;
  /// To `object`, null as well.
  explicit Weak(T* object) : object_(object) {
    if (object) life_ = object->life;
  }
  /// The object; null if it has gone.
  T* get() const { return life_.expired() ? nullptr : object_; }

 private:
  T* object_ = nullptr;
  std::weak_ptr<const void> life_;
};

/// A reference to a Referred. To use it when that has gone is a ValueError with the text `gone`.
template <class T> class Reference {
 public:
  /// To `object`; `gone` is what an error says when that has ended.
  Reference(T& object, std::string gone) : object_(&object), gone_(std::move(gone)) {}
  /// The object.
  T& get(At at = At::unknown()) const {
    if (T* object = object_.get()) return *object;
    fail<ValueError>(at, "{}", gone_);
  }

 private:
  Weak<T> object_;
  std::string gone_;
};

}  // namespace descent
