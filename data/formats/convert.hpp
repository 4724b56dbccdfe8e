#pragma once
/// @file
/// What readers accept.

namespace [[gnu::visibility("default")]] descent { namespace data {

/// What readers do about element types that are no dtype.
struct ConvertOptions {
  /// Read int32, float16 and others into the smallest dtype that holds them: see `dtype_for`. If
  /// not, they are a DtypeError.
  bool convert = false;
};

}}  // namespace descent::data
