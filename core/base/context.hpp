#pragma once
/// @file
/// What an operation takes from the thread that calls it: the pool hands it to the threads that
/// work for this one.

namespace [[gnu::visibility("default")]] descent {
class Frame;
namespace detail {

/// Whether ops are recorded: see GradModeGuard.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local bool grad_mode;
/// What is being called: see Frame.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Frame* innermost;

/// The op whose derivative is being computed; null outside a backward.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local const char* deriving;

/// The first two of one thread at one moment.
struct Context {
  bool grad_mode;
  Frame* innermost;
  static Context current() { return {detail::grad_mode, detail::innermost}; }
  void enter() const { detail::grad_mode = grad_mode, detail::innermost = innermost; }
};

}
}  // namespace descent::detail
