#pragma once
/// @file
/// Which build of descent this is.

#include <string>

namespace [[gnu::visibility("default")]] descent {

/// The version of the library; also the build's source for it.
inline constexpr int version_major = 0, version_minor = 1, version_patch = 0;

/// "0.1.0", of the library that runs: the constants are those of the headers.
[[nodiscard]] std::string version();

/// What decides results and speed, a line each: version, compiler, build, vector instructions, BLAS
/// library and kernels, threads. For bug reports, and to compare two runs. It makes BLAS ready,
/// which the first product does otherwise: call it before other threads use BLAS by themselves.
[[nodiscard]] std::string build_info();

}  // namespace descent
