#pragma once
#include <cstdio>
#include <doctest/doctest.h>
#include <string>
#include <unistd.h>

#include "values.hpp"

// What tests of every room need.

/// The message of the E that f throws, with its place.
template <class E, class F> std::string full_refusal(F f) {
  try {
    f();
  } catch (const E& e) { return e.what(); }
  return "nothing was thrown";
}
/// The same without its place, " (FILE:LINE)", which must be in the test's own file.
template <class E, class F> std::string refusal(F f, std::string file = __builtin_FILE()) {
  const std::string text = full_refusal<E>(f);
  const std::size_t place = text.rfind(" (" + file.substr(file.rfind('/') + 1) + ":");
  return place == std::string::npos ? text + " <- not a line of the test" : text.substr(0, place);
}

/// While it lives, operations use n threads.
struct NumThreads {
  int before = descent::num_threads();
  explicit NumThreads(int n) { descent::set_num_threads(n); }
  ~NumThreads() { descent::set_num_threads(before); }
};

/// What f writes to standard error.
template <class F> std::string standard_error(F f) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  std::fflush(stderr);
  const int before = ::dup(2);
  ::dup2(::fileno(file), 2);
  f();
  std::fflush(stderr);
  ::dup2(before, 2);
  ::close(before);
  std::string text(static_cast<std::size_t>(std::ftell(file)), 0);
  std::rewind(file);
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}
