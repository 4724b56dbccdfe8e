#pragma once
/// @file
/// Which build of descent this is.

#include <string>

namespace [[gnu::visibility("default")]] descent {

/// The version of the headers. The build reads it here, for the whole library.
inline constexpr int version_major = 0, version_minor = 1, version_patch = 0;

/// The version of the library that runs, such as "0.1.0". The constants are those of the headers.
[[nodiscard]] std::string version();

/// What decides results and speed, each on a line: version, compiler, vector instructions, BLAS
/// library, BLAS kernels and threads. It is for bug reports, and to compare two runs. It makes BLAS
/// ready, which otherwise the first product does: call it before other threads call BLAS directly.
[[nodiscard]] std::string build_info();

}  // namespace descent
