#pragma once
/// @file
/// What operations read from the thread that they run on.

namespace [[gnu::visibility("default")]] descent {
class Frame;
namespace detail {
class OpObserver;

/// Whether this thread records ops: see GradModeGuard.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local bool grad_mode;
/// The innermost frame of this thread, or null: see Frame.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Frame* innermost;

/// The op whose derivative this thread computes at the moment, or null.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local const char* deriving;

/// What watches the ops of this thread, or null: see graph.hpp.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local OpObserver* op_observer;

/// The first two variables of one thread at one moment. The thread pool copies them to the threads
/// that work for this one.
struct Context {
  bool grad_mode;
  Frame* innermost;
  static Context current() { return {detail::grad_mode, detail::innermost}; }
  void enter() const { detail::grad_mode = grad_mode, detail::innermost = innermost; }
};

}
}  // namespace descent::detail
